//! The audit of what a real Redis holds.

use super::fixture::{Fixture, TABLE, key, newest, version};
use anyhow::{Result, ensure};
use bytes::Bytes;
use dimsvc::{
    audit::{Auditor, Findings, SourceRows},
    cache::{Change, Tier, TierKind},
    dimension::{Image, Key, TableRows, VersionedRow},
    fallback::{Fallback, FallbackError, SourceRead},
    gtids::RecentGtids,
    live::{Identity, Live, LiveDimension},
    load::Loader,
    metrics::Metrics,
    registry::Dimension,
    store::{Store as _, StorePool, memory::MemoryStore},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::{GtidSet, Source, SourceOptions};
use tidemark_heart::shared::SharedRead;
use tidemark_proto::{Position, config::Config};
use tokio_util::task::TaskTracker;

/// A source in which every key has the row of this version.
struct OneRow(u64);

impl SourceRows for OneRow {
    async fn read(&self, _: &LiveDimension, keys: &[Key], _: Instant) -> Result<SourceRead, FallbackError> {
        let (_, newest) = newest(1, self.0);
        let image: Image = newest.and_then(|(_, image)| image);
        Ok(SourceRead { low: version(1_000), rows: vec![image; keys.len()] })
    }
}

/// A dimension with memory for some rows, that uses the shared tier.
pub(crate) fn sku_alone() -> (Arc<LiveDimension>, Arc<Live>) {
    let lru = TierKind::Lru { bytes_max: 1 << 20, time_to_live: None };
    let dimension = Dimension { shared: true, ..Dimension::new("sku", lru) };
    let sku = Arc::new(LiveDimension::new(dimension, version(1)));
    sku.set_complete();
    let start: Position = version(1_000);
    let identity = Identity { start, epoch: 1_000, server_uuid: String::new(), store_id: String::new() };
    let live = Live::new(vec![Arc::clone(&sku)], identity, RecentGtids::new(GtidSet::default()));
    (sku, Arc::new(live.sampling(8)))
}

pub(crate) fn loader(fixture: &Fixture, live: &Arc<Live>, memory: Arc<MemoryStore>) -> Result<Loader> {
    let (config, metrics) = (Config::default(), Arc::new(Metrics::try_new()?));
    let source = Source::new(SourceOptions::from(&config.mysql));
    Ok(Loader {
        store: StorePool::new(memory, 1, 64, Duration::from_secs(5)),
        shared: fixture.tier.clone(),
        fallback: Fallback::new(source, Arc::clone(live), Arc::clone(&metrics), &config),
        metrics,
        timeout: Duration::from_secs(5),
        tasks: TaskTracker::new(),
    })
}

/// Take the drop of keys out of the quarantine to see it fail.
#[tokio::test]
async fn a_wrong_row_in_redis_is_found_and_replaced() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (sku, live) = sku_alone();
    let memory = Arc::new(MemoryStore::default());
    memory.create_table(TABLE)?;
    let right =
        VersionedRow { key: key(1), version: version(20), image: newest(1, 20).1.and_then(|row| row.1) };
    memory.write(&[TableRows { table: TABLE.into(), rows: vec![right] }])?;
    let session = fixture.session().await?;
    session.read_or_lease(TABLE, &[key(1)], 1).await?;
    let wrong = Bytes::from_static(b"{\"v\":\"wrong\"}");
    session.fill(TABLE, &[(key(1), Some((version(20), Some(wrong))))], 1).await?;

    let findings = Arc::new(Findings::new(Arc::new(Metrics::try_new()?)));
    let auditor = Auditor {
        live: Arc::clone(&live),
        loader: loader(&fixture, &live, memory)?,
        source: OneRow(20),
        findings: Arc::clone(&findings),
        keys_per_second: 8,
    };
    let change = Change { key: key(1), before: None, after: None };
    live.recent.note(&sku.dimension.name, version(20), std::slice::from_ref(&change));
    auditor.audit().await;
    let tally = findings.tally();
    let tiers: Vec<_> = tally.last.iter().map(|mismatch| mismatch.tier).collect();
    ensure!((tally.checks, tally.mismatches, tiers) == (1, 1, vec![Tier::Shared]), "{tally:?}");

    // The load filled what the store has.
    auditor.loader.tasks.close();
    auditor.loader.tasks.wait().await;
    let held = session.peek(TABLE, &[key(1)]).await?;
    let right = SharedRead::Hit { version: version(20), image: newest(1, 20).1.and_then(|row| row.1) };
    ensure!(held == [Some(right)], "{held:?}");
    live.recent.note(&sku.dimension.name, version(20), &[change]);
    auditor.audit().await;
    let tally = findings.tally();
    ensure!((tally.checks, tally.mismatches) == (2, 1), "{tally:?}");
    Ok(())
}
