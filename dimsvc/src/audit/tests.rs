//! Wrong rows planted in each tier are found, counted and mended.

use super::*;
use crate::{
    cache::{Change, Filling, Resident as _, TierKind},
    dimension::{Row, TableRows, VersionedRow, mark_deleted},
    gtids::RecentGtids,
    live::Identity,
    metrics::Metrics,
    registry::Dimension,
    shared::SharedTier,
    store::{
        Store, StorePool,
        memory::{Failing, MemoryStore},
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use tidemark_binlog::{GtidSet, Source, SourceOptions};
use tidemark_proto::config::{Config, Deleted, Mysql, Shared};
use tokio_util::task::TaskTracker;

const TABLE: &str = "dim_sku";
const LRU: TierKind = TierKind::Lru { bytes_max: 1 << 20, time_to_live: None };

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn key(id: u32) -> Key {
    Key::from_canonical(format!("[{id}]"))
}

fn image(text: &str) -> Image {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

/// What happens while the source is read.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// A source that has what it was told.
#[derive(Default)]
struct ToldSource {
    rows: Mutex<BTreeMap<Key, Bytes>>,
    applied: Mutex<Position>,
    meanwhile: Mutex<Option<Meanwhile>>,
    fails: Mutex<bool>,
}

impl SourceRows for Arc<ToldSource> {
    async fn read(&self, _: &LiveDimension, keys: &[Key], _: Instant) -> Result<SourceRead, FallbackError> {
        if *self.fails.lock() {
            return Err(FallbackError::Late("MySQL was asked"));
        }
        let rows = keys.iter().map(|key| self.rows.lock().get(key).cloned()).collect();
        let low = *self.applied.lock();
        if let Some(meanwhile) = self.meanwhile.lock().take() {
            meanwhile();
        }
        Ok(SourceRead { low, rows })
    }
}

/// A dimension in all tiers, and its source.
struct Audited {
    live: Arc<Live>,
    sku: Arc<LiveDimension>,
    store: Arc<MemoryStore>,
    failing: Arc<Failing>,
    source: Arc<ToldSource>,
    auditor: Auditor<Arc<ToldSource>>,
}

impl Audited {
    fn new(tier: TierKind) -> Arc<Self> {
        Self::of(Dimension::new("sku", tier))
    }

    fn of(dimension: Dimension) -> Arc<Self> {
        let store = Arc::new(MemoryStore::default());
        store.create_table(TABLE).unwrap();
        let failing = Arc::new(Failing::new(Arc::clone(&store) as Arc<dyn Store>));
        failing.set_failing(false);
        let sku = Arc::new(LiveDimension::new(dimension, at(10)));
        if let Some(filling) = Filling::begin(&sku.cache) {
            filling.end();
        }
        sku.set_complete();
        let identity =
            Identity { start: at(10), epoch: 1, server_uuid: String::new(), store_id: "0".repeat(32) };
        let live = Live::new(vec![Arc::clone(&sku)], identity, RecentGtids::new(GtidSet::default()));
        let live = Arc::new(live.sampling(64));
        let metrics = Arc::new(Metrics::try_new().unwrap());
        let mysql = Source::new(SourceOptions::from(&Mysql::default()));
        let loader = Loader {
            store: StorePool::new(Arc::clone(&failing) as Arc<dyn Store>, 1, 64, Duration::from_secs(5)),
            shared: SharedTier::try_new(&Shared::default(), &live.store_id, metrics.shared.clone()).unwrap(),
            fallback: Fallback::new(mysql, Arc::clone(&live), Arc::clone(&metrics), &Config::default()),
            metrics: Arc::clone(&metrics),
            timeout: Duration::from_secs(5),
            tasks: TaskTracker::new(),
        };
        let source = Arc::new(ToldSource::default());
        let auditor = Auditor {
            live: Arc::clone(&live),
            loader,
            source: Arc::clone(&source),
            findings: Arc::new(Findings::new(metrics)),
            keys_per_second: 10,
        };
        Arc::new(Self { live, sku, store, failing, source, auditor })
    }

    /// A transaction of one row, applied and committed in the source.
    fn apply(&self, begin: u64, id: u32, after: &Image) {
        let change = Change { key: key(id), before: None, after: after.clone() };
        self.live.recent.note(&self.sku.dimension.name, at(begin), std::slice::from_ref(&change));
        self.sku.cache.apply(at(begin), &[change]);
        self.live.applied.advance(at(begin + 1));
        *self.source.applied.lock() = at(begin + 1);
        match after {
            Some(row) => self.source.rows.lock().insert(key(id), row.clone()),
            None => self.source.rows.lock().remove(&key(id)),
        };
    }

    /// The same, durable and resident.
    fn commit(&self, begin: u64, id: u32, after: &Image) {
        self.apply(begin, id, after);
        self.store_row(begin, id, after);
        self.live.durable.advance(at(begin + 1));
        self.sku.cache.forget(at(begin + 1));
        self.sku.cache.tier().install(&row(begin, id, after));
    }

    fn store_row(&self, begin: u64, id: u32, image: &Image) {
        let rows = vec![VersionedRow { key: key(id), version: at(begin), image: image.clone() }];
        self.store.write(&[TableRows { table: TABLE.into(), rows }]).unwrap();
    }

    /// Puts another row into memory.
    fn plant(&self, begin: u64, id: u32, image: &Image) {
        self.sku.cache.tier().force(&row(begin, id, image));
    }

    fn resident(&self, id: u32) -> Image {
        let row = self.sku.cache.tier().get(key(id).as_bytes())?;
        row.image().map(Bytes::copy_from_slice)
    }

    /// Checks, mismatches, raced.
    fn counted(&self) -> (u64, u64, u64) {
        let tally = self.auditor.findings.tally();
        (tally.checks, tally.mismatches, tally.raced)
    }

    fn wrong_tiers(&self) -> Vec<Tier> {
        self.auditor.findings.tally().last.iter().map(|mismatch| mismatch.tier).collect()
    }
}

fn row(begin: u64, id: u32, image: &Image) -> Row {
    Row::new(key(id).as_bytes(), at(begin), image.as_deref())
}

#[tokio::test]
async fn tiers_that_agree_are_checked_and_nothing_is_found() {
    for tier in [LRU, TierKind::Full] {
        let audited = Audited::new(tier);
        audited.commit(20, 1, &image("{\"n\":1}"));
        audited.commit(30, 2, &image("{\"n\":2}"));
        audited.commit(40, 2, &None);
        audited.auditor.audit().await;
        assert_eq!(audited.counted(), (3, 0, 0), "{:?}", audited.auditor.findings.tally());
    }
}

/// Take the comparison of images out of `judge` to see it fail; or
/// `finish_by_force` out of the loader, for `full`.
#[tokio::test]
async fn a_wrong_row_in_memory_is_found_and_mended() {
    for tier in [LRU, TierKind::Full] {
        let audited = Audited::new(tier);
        audited.commit(20, 1, &image("{\"n\":1}"));
        // Of a version that nothing of the key's own takes the place of.
        audited.plant(25, 1, &image("{\"n\":7}"));
        audited.commit(30, 2, &None);
        audited.auditor.audit().await;
        let tally = audited.auditor.findings.tally();
        let found = tally.last.front().unwrap();
        assert_eq!((found.held.as_str(), found.expected.as_str()), ("{\"n\":7}", "{\"n\":1}"));
        assert_eq!(found.tier, audited.sku.cache.tier().tier());
        assert_eq!((audited.counted(), audited.resident(1)), ((2, 1, 0), image("{\"n\":1}")));
    }
}

/// Fails when absence is not compared.
#[tokio::test]
async fn a_row_that_a_full_tier_lost_is_found_and_mended() {
    let audited = Audited::new(TierKind::Full);
    audited.commit(20, 1, &image("{\"n\":1}"));
    audited.plant(20, 1, &None);
    assert_eq!(audited.resident(1), None);
    audited.auditor.audit().await;
    assert_eq!((audited.counted(), audited.resident(1)), ((1, 1, 0), image("{\"n\":1}")));
}

/// Fails when a missed change has no age.
#[tokio::test]
async fn an_older_row_in_memory_is_stale_since_its_change() {
    let audited = Audited::new(LRU);
    audited.commit(20, 1, &image("{\"n\":1}"));
    audited.commit(30, 1, &image("{\"n\":2}"));
    audited.plant(20, 1, &image("{\"n\":1}"));
    audited.auditor.audit().await;
    let tally = audited.auditor.findings.tally();
    assert!(tally.mismatches > 0 && tally.worst_staleness > Duration::ZERO, "{tally:?}");
}

/// What is loaded from a wrong store is wrong: memory is left alone. Take the
/// question for `Tier::Store` out of `judge` to see it fail.
#[tokio::test]
async fn a_wrong_row_in_the_store_is_found_and_not_spread() {
    for tier in [LRU, TierKind::Full] {
        let audited = Audited::new(tier);
        audited.commit(20, 1, &image("{\"n\":1}"));
        audited.store_row(20, 1, &image("{\"n\":7}"));
        audited.auditor.audit().await;
        assert_eq!((audited.counted(), audited.wrong_tiers()), ((1, 1, 0), vec![Tier::Store]));
        assert_eq!(audited.resident(1), image("{\"n\":1}"));
    }
}

/// The source was read before the change, memory after it. Take the mark out of
/// `RecentKeys::note` to see it fail.
#[tokio::test]
async fn a_change_that_overtakes_the_check_is_no_mismatch() {
    let audited = Audited::new(LRU);
    audited.commit(20, 1, &image("{\"n\":1}"));
    let racing = Arc::clone(&audited);
    let change = move || racing.commit(30, 1, &image("{\"n\":2}"));
    *audited.source.meanwhile.lock() = Some(Box::new(change));
    audited.auditor.audit().await;
    assert_eq!(audited.counted(), (0, 0, 1));
}

/// The same for a truncation. Take the comparison of timelines out of `check`
/// to see it fail.
#[tokio::test]
async fn a_truncation_that_overtakes_the_check_is_no_mismatch() {
    let audited = Audited::new(TierKind::Full);
    audited.commit(20, 1, &image("{\"n\":1}"));
    let racing = Arc::clone(&audited);
    let truncate = move || racing.sku.cache.truncate(at(30));
    *audited.source.meanwhile.lock() = Some(Box::new(truncate));
    audited.auditor.audit().await;
    assert_eq!(audited.counted(), (0, 0, 1));
}

/// Changes that apply has begun with before the check, and that the source shows
/// already: memory answers as of before them. Take the questions for `after` out
/// of `RecentKeys::changed`, or for `latest` out of `check`, to see it fail.
#[tokio::test]
async fn a_change_that_is_being_applied_is_no_mismatch() {
    let change = |audited: &Audited| {
        let change = Change { key: key(1), before: None, after: image("{\"n\":2}") };
        audited.live.recent.note(&audited.sku.dimension.name, at(30), &[change]);
        audited.source.rows.lock().insert(key(1), Bytes::from_static(b"{\"n\":2}"));
    };
    let truncate = |audited: &Audited| {
        audited.sku.cache.truncate(at(30));
        audited.source.rows.lock().clear();
    };
    for begin in [&change as &dyn Fn(&Audited), &truncate] {
        let audited = Audited::new(LRU);
        audited.commit(20, 1, &image("{\"n\":1}"));
        begin(&audited);
        audited.auditor.audit().await;
        assert_eq!(audited.counted(), (0, 0, 1));
    }
}

/// The store lacks a newer version that is not durable yet. Take
/// `overlay_lacks` out of `Tiers::read` to see it fail.
#[tokio::test]
async fn what_is_not_durable_is_not_asked_of_the_store() {
    let audited = Audited::new(LRU);
    audited.commit(20, 1, &image("{\"n\":1}"));
    audited.apply(30, 1, &image("{\"n\":2}"));
    audited.auditor.audit().await;
    assert_eq!(audited.counted(), (1, 0, 0), "{:?}", audited.auditor.findings.tally());
}

/// Fails when a read that failed is taken for an absent row.
#[tokio::test]
async fn a_failed_read_is_no_verdict() {
    let audited = Audited::new(LRU);
    audited.commit(20, 1, &image("{\"n\":1}"));
    *audited.source.fails.lock() = true;
    audited.auditor.audit().await;
    *audited.source.fails.lock() = false;
    audited.commit(30, 1, &image("{\"n\":2}"));
    audited.failing.set_failing(true);
    audited.auditor.audit().await;
    assert_eq!(audited.counted(), (0, 0, 0));
}

/// Take `marked_deleted` out of `visible` to see it fail.
#[tokio::test]
async fn a_row_that_is_kept_as_deleted_is_no_row() {
    let dimension = Dimension { deleted: Deleted::Mark, ..Dimension::new("sku", LRU) };
    let audited = Audited::of(dimension);
    audited.commit(20, 1, &Some(mark_deleted(b"{\"n\":1}")));
    audited.source.rows.lock().remove(&key(1));
    audited.auditor.audit().await;
    assert_eq!(audited.counted(), (1, 0, 0));
}
