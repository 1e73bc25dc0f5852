//! Coherence on the real services, while they break one after the other.
//!
//! Two replicas on HBase with Redis between, a fault proxy before each service,
//! writers that never pause and readers with every read point. Nothing may be
//! stale, wrong or torn, whatever is broken; a lookup may fail, loudly. A short
//! run is part of all tests; `make coherence-live` makes it as long as CHECKS
//! says and its faults FAULT_SECONDS long. `dev/stack up mysql hbase kafka
//! clickhouse redis` first.

#[path = "coherence_live/faults.rs"]
mod faults;
#[path = "coherence_live/scene.rs"]
mod scene;

use anyhow::{Context as _, Result, ensure};
use faults::Fault;
use scene::Scene;
use std::{
    collections::BTreeMap,
    env,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tidemark_tests::{
    coherence::Tally,
    live::{Ask, Outcome, Reader},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const CHECKS: u64 = 20_000;
const FAULT_SECONDS: u64 = 1;
const READERS_OF_A_REPLICA: u64 = 2;
/// Below this share of checks that raced something, the run proves nothing.
const RACED_SHARE_MIN: f64 = 0.01;
const BACKOFF: Duration = Duration::from_millis(10);
const RECOVERY: Duration = Duration::from_secs(60);

type Failures = BTreeMap<String, (u64, String)>;

fn number(variable: &str, default: u64) -> Result<u64> {
    env::var(variable).map_or(Ok(default), |text| text.parse().with_context(|| format!("read {variable}")))
}

/// To see it fail: leave out where the heart's `apply` hands a change over to
/// the loads of its key at work; a slow read of the store then fills the past in.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_stale_wrong_or_torn_while_services_break() -> Result<()> {
    let wanted = number("CHECKS", CHECKS)?;
    let duration = Duration::from_secs(number("FAULT_SECONDS", FAULT_SECONDS)?);
    let mut scene = Scene::start().await?;
    let stop = CancellationToken::new();
    let mut readers = JoinSet::new();
    for (number, replica) in (0..READERS_OF_A_REPLICA).flat_map(|n| scene.replicas().map(move |r| (n, r))) {
        let reader = scene.reader(replica, number).await?;
        readers.spawn(read(reader, stop.clone()));
    }
    let begun = Instant::now();
    while scene.checks() < wanted || begun.elapsed() < duration {
        for fault in Fault::ALL {
            let before = scene.checks();
            scene.inject(fault).await.with_context(|| format!("begin {fault:?}"))?;
            tokio::time::sleep(duration.max(fault.at_least())).await;
            scene.heal(fault).await.with_context(|| format!("end {fault:?}"))?;
            scene.source.progress.must_run()?;
            if let Some(ended) = readers.try_join_next() {
                ended??;
            }
            scene.wait_answering(RECOVERY).await.with_context(|| format!("recover from {fault:?}"))?;
            println!("{fault:?}: {} checks, {:?} since the begin", scene.checks() - before, begun.elapsed());
        }
    }
    stop.cancel();
    let (mut tally, mut failures) = (Tally::default(), Failures::new());
    while let Some(done) = readers.join_next().await {
        let (of_reader, failed) = done??;
        tally.merge(of_reader);
        for (code, (count, example)) in failed {
            let entry = failures.entry(code).or_default();
            *entry = (entry.0 + count, example);
        }
    }
    let transactions = scene.source.progress.transactions.load(Ordering::Relaxed);
    println!("{tally}  transactions {transactions}  seconds {}", begun.elapsed().as_secs());
    println!("failed lookups: {failures:?}\nproxies: {}", scene.traffic());
    for line in scene.metrics_of("dimsvc_shared") {
        println!("{line}");
    }
    scene.stop().await?;
    ensure!(tally.is_clean(), "{tally}");
    ensure!(
        tally.checks >= wanted && tally.raced_share() >= RACED_SHARE_MIN,
        "it proves too little: {tally}"
    );
    Ok(())
}

async fn read(mut reader: Reader, stop: CancellationToken) -> Result<(Tally, Failures)> {
    for ask in Ask::ALL.iter().cycle() {
        if stop.is_cancelled() {
            break;
        }
        if reader.ask(*ask).await? == Outcome::Failed {
            // Callers that hammer what is broken would starve those that write.
            tokio::time::sleep(BACKOFF).await;
        }
    }
    Ok((reader.tally, reader.failures))
}
