//! Coherence in one process: the real caches, loads, feed, writer and lookups,
//! on a store in memory that fails and hangs, with a Redis of its own that is
//! killed, frozen and set back in time, two replicas that restart and take the
//! lease from each other, and readers whose every answer is judged.
//!
//! A short run is part of all tests; `make coherence` makes it as long as CHECKS
//! says. SEED says what is changed, asked and broken, not when.

#[path = "coherence/feed.rs"]
mod feed;
#[path = "coherence/late.rs"]
mod late;
#[path = "coherence/mishaps.rs"]
mod mishaps;
#[path = "coherence/reader.rs"]
mod reader;
#[path = "coherence/replica.rs"]
mod replica;
#[path = "coherence/site.rs"]
mod site;

use anyhow::{Context as _, Result, ensure};
use mishaps::Mishaps;
use reader::Reader;
use site::Site;
use std::{
    env,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use tidemark_tests::coherence::Tally;
use tokio::task::JoinSet;

const CHECKS: u64 = 300_000;
const READERS: u64 = 24;
/// Below this share of checks that raced something, the run proves nothing:
/// what nobody touches is right in any cache.
const RACED_SHARE_MIN: f64 = 0.01;

fn number(variable: &str, default: u64) -> Result<u64> {
    env::var(variable).map_or(Ok(default), |text| text.parse().with_context(|| format!("read {variable}")))
}

/// To see it fail: leave out where the heart's `apply` hands a change over to
/// the loads of its key at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stale_wrong_or_torn_whatever_fails() -> Result<()> {
    let (wanted, seed) = (number("CHECKS", CHECKS)?, number("SEED", 1)?);
    println!("SEED={seed} CHECKS={wanted}");
    let site = Arc::new(Site::start().await?);
    let mut background = JoinSet::new();
    background.spawn(feed::run(Arc::clone(&site), seed));
    let mut mishaps = Mishaps::new(Arc::clone(&site), seed);
    let begun = Instant::now();
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        readers.spawn(Reader::new(Arc::clone(&site), seed + number).run());
    }
    while site.checks.load(Ordering::Relaxed) < wanted || mishaps.rounds() == 0 {
        mishaps.next().await?;
        if let Some(ended) = background.try_join_next() {
            ended.context("the feed panicked")??;
        }
        print_progress(&site, begun);
    }
    site.stop.cancel();
    let (mut tally, mut failed) = (Tally::default(), 0);
    while let Some(read) = readers.join_next().await {
        let read = read.context("a reader panicked")?;
        tally.merge(read.tally);
        failed += read.failed;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{tally}\nlookups that failed {failed}  mishaps {}  in {seconds:.0} s", mishaps.told());
    ensure!(tally.is_clean(), "an answer was not the truth");
    ensure!(tally.raced_share() >= RACED_SHARE_MIN, "too few checks raced anything");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a long run tells how far it is")]
fn print_progress(site: &Site, begun: Instant) {
    let checks = site.checks.load(Ordering::Relaxed);
    let rate = checks as f64 / begun.elapsed().as_secs_f64();
    println!("{checks} checks, {rate:.0} a second, applied {}", site.applied());
}
