//! Hot rows are replaced before their time is over, and nobody misses them.

use super::*;
use crate::{
    cache::{Peek, Resident as _, TierKind},
    dimension::{Key, Row, TableRows, VersionedRow},
    fallback::Fallback,
    gtids::RecentGtids,
    live::Identity,
    registry::Dimension,
    shared::SharedTier,
    store::{Store, StorePool, memory::MemoryStore},
};
use std::time::Instant;
use tidemark_binlog::{GtidSet, Source, SourceOptions};
use tidemark_proto::{
    Position,
    config::{Config, Mysql, Shared},
};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

const TIME_TO_LIVE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn upkeep(live: Arc<LiveDimension>, store: Arc<MemoryStore>) -> Upkeep {
    let identity =
        Identity { start: at(100), epoch: 1, server_uuid: String::new(), store_id: "0".repeat(32) };
    let live = Arc::new(Live::new(vec![live], identity, RecentGtids::new(GtidSet::default())));
    let metrics = Arc::new(Metrics::try_new().unwrap());
    let mysql = Source::new(SourceOptions::from(&Mysql::default()));
    let loader = Loader {
        store: StorePool::new(store, 1, 64, PATIENCE),
        shared: SharedTier::try_new(&Shared::default(), &live.store_id, metrics.shared.clone()).unwrap(),
        fallback: Fallback::new(mysql, Arc::clone(&live), Arc::clone(&metrics), &Config::default()),
        metrics: Arc::clone(&metrics),
        timeout: PATIENCE,
        tasks: TaskTracker::new(),
    };
    Upkeep { live, loader, metrics }
}

/// Take `hot.note` out of the tier's expiry to see it fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_hot_row_is_replaced_before_its_time_is_over() {
    let tier = TierKind::Lru { bytes_max: 1 << 20, time_to_live: Some(TIME_TO_LIVE) };
    let dimension = Dimension { refresh_ahead: true, ..Dimension::new("sku", tier) };
    let (live, store) = (Arc::new(LiveDimension::new(dimension, at(10))), Arc::new(MemoryStore::default()));
    store.create_table("dim_sku").unwrap();
    let (key, image) = (Key::from_canonical("[1]"), Some("{\"n\":1}".into()));
    let rows = vec![VersionedRow { key: key.clone(), version: at(20), image }];
    store.write(&[TableRows { table: "dim_sku".into(), rows }]).unwrap();
    let first = Row::new(key.as_bytes(), at(20), Some(b"{\"n\":1}"));
    live.cache.tier().install(&first);
    let upkeep = upkeep(Arc::clone(&live), store);
    let refreshed = upkeep.metrics.refreshed.with_label_values(&["loaded"]);
    let mut tasks = JoinSet::new();
    tasks.spawn(upkeep.run(CancellationToken::new()));
    let deadline = Instant::now() + PATIENCE;
    while refreshed.get() == 0 {
        assert!(Instant::now() < deadline, "the hot row was not loaded anew");
        assert!(matches!(live.cache.peek(key.as_bytes(), at(100)), Peek::Hit(_)), "a caller missed it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(live.cache.peek(key.as_bytes(), at(100)), Peek::Hit(_)));
}

/// What nobody reads is let go. Take `clean` out of the sweep to see it fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_nobody_reads_expires_and_is_counted() {
    let tier = TierKind::Lru { bytes_max: 1 << 20, time_to_live: Some(Duration::from_millis(100)) };
    let dimension = Dimension { refresh_ahead: true, ..Dimension::new("sku", tier) };
    let live = Arc::new(LiveDimension::new(dimension, at(10)));
    live.cache.tier().install(&Row::new(b"[1]", at(20), Some(b"{}")));
    let upkeep = upkeep(Arc::clone(&live), Arc::new(MemoryStore::default()));
    let (all, metrics) = (Arc::clone(&upkeep.live), Arc::clone(&upkeep.metrics));
    let mut tasks = JoinSet::new();
    tasks.spawn(upkeep.run(CancellationToken::new()));
    let deadline = Instant::now() + PATIENCE;
    let expired = "dimsvc_evicted_total{cause=\"expired\",dimension=\"sku\"} 1";
    while !String::from_utf8(metrics.render(&all).unwrap()).unwrap().contains(expired) {
        assert!(Instant::now() < deadline, "the row did not expire");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(live.cache.tier().rows(), 0);
}
