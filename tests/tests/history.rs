//! Exact history: lookups at random positions equal a replay of the log, and
//! whole transactions are read whole, while random transactions run on real
//! MySQL.
//!
//! A short run is part of all tests; `make history` makes it as long as CHECKS
//! says. Each line that it prints is one of the two stores.

use anyhow::{Result, ensure};
use std::{
    env, fs,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tidemark_tests::{
    coherence::Tally,
    dim::Dim,
    isolation::Isolation,
    ledger::Shape,
    live::{Ask, Outcome, Reader, Source},
    stack::Stack,
};
use tokio::task::JoinSet;

const SEED: u64 = 20_240_607;
const CHECKS: u64 = 20_000;
const READERS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(30);
const SHAPE: Shape = Shape { keys: 400, accounts: 16 };
const DIMENSIONS: &str = "
    [a]\ncache = \"full\"\n
    [b]\ncache = \"lru\"\ncache_mib = 1\nttl_seconds = 2\n
    [c]\ncache = \"lru\"\ncolumns = [\"id\", \"v\"]\n";
/// History first: the others are there because whoever reads it reads the newest
/// rows too.
const ASKS: [Ask; 8] = [
    Ask::AsOf,
    Ask::AsOfEach,
    Ask::AsOf,
    Ask::AsOfEach,
    Ask::AsOfSum,
    Ask::LatestSum,
    Ask::AtLeastSum,
    Ask::Now,
];

fn checks_wanted() -> Result<u64> {
    env::var("CHECKS").map_or(Ok(CHECKS), |text| Ok(text.parse()?))
}

async fn history_equals_the_log(store: &str) -> Result<String> {
    let isolation = Isolation::new("exact", &Stack::with(&["mysql", "kafka", "clickhouse"])?)?;
    let mut programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
    programs.settings.set("dimsvc.store", store);
    let mut source = Source::start(&isolation, SHAPE, SEED, 100)?;
    let _dimsvc = programs.dimsvc().await?;
    let address = programs.settings.get("dimsvc.listen")?.to_owned();
    let truth = source.truth(&mut Dim::connect(&address).await?).await?;
    let begun = Instant::now();
    let mut readers = JoinSet::new();
    let wanted = checks_wanted()? / READERS;
    for number in 0..READERS {
        let reader = Reader::new(Dim::connect(&address).await?, &truth, &source, SEED + number);
        readers.spawn(read(reader, wanted));
    }
    let mut tally = Tally::default();
    while let Some(done) = readers.join_next().await {
        tally.merge(done??);
    }
    let transactions = source.progress.transactions.load(Ordering::Relaxed);
    source.stop()?;
    ensure!(tally.is_clean() && tally.undated == 0, "seed {SEED}: {tally}");
    ensure!(tally.checks >= wanted * READERS && tally.unjudged == 0, "too few were judged: {tally}");
    Ok(format!("{store}: {tally}  transactions {transactions}  seconds {}", begun.elapsed().as_secs()))
}

/// Nothing is broken here, so no lookup may fail.
async fn read(mut reader: Reader, checks: u64) -> Result<Tally> {
    reader.deadline = PATIENCE;
    for ask in ASKS.iter().cycle() {
        let outcome = reader.ask(*ask).await?;
        ensure!(outcome != Outcome::Failed, "{ask:?} failed: {:?}", reader.failures);
        if reader.tally.checks >= checks {
            break;
        }
    }
    Ok(reader.tally)
}

#[tokio::test(flavor = "multi_thread")]
async fn history_of_the_embedded_store_equals_the_log() -> Result<()> {
    println!("{}", history_equals_the_log("embedded").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_of_hbase_equals_the_log() -> Result<()> {
    println!("{}", history_equals_the_log("hbase").await?);
    Ok(())
}
