//! The `lru` tier: the most used rows, bounded by bytes, in moka.
//!
//! Absent keys are entries too ("missing"), counted in the bound; the insert
//! that ends an absence replaces its entry. A tier that refreshes ahead notes
//! which rows are still read when their time is almost over.

mod hot;

pub use hot::HotKeys;

use crate::dimension::Key;
use moka::{Expiry, notification::RemovalCause, ops::compute::Op, sync::Cache};
use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tidemark_heart::{Resident, Row, Tier, supersedes};
use tidemark_proto::Position;

/// What an entry costs beside its key and row: moka's node and policies.
const ENTRY_OVERHEAD: usize = 200;
/// A row that is read in the last tenth of its time is in use.
const REFRESHED_IN_LAST: u32 = 10;

/// See the module.
#[derive(Debug)]
pub struct LruTier {
    rows: Cache<Key, Row, foldhash::fast::RandomState>,
    evictions: Arc<Evictions>,
    hot: Option<Arc<HotKeys>>,
}

/// Rows that left by themselves, since the start.
#[derive(Debug, Default)]
pub struct Evictions {
    /// Their time was over.
    pub expired: AtomicU64,
    /// The bound was reached.
    pub size: AtomicU64,
}

impl LruTier {
    /// An empty tier of at most about `bytes_max` bytes.
    pub fn new(bytes_max: u64, time_to_live: Option<Duration>) -> Self {
        Self::with(bytes_max, time_to_live.map(|ttl| AfterWrite { ttl, hot: None }))
    }

    /// The same, which notes the rows to be loaded anew before their time is
    /// over.
    pub fn refreshing(bytes_max: u64, time_to_live: Duration) -> Self {
        let hot = Some(Arc::new(HotKeys::default()));
        Self::with(bytes_max, Some(AfterWrite { ttl: time_to_live, hot }))
    }

    fn with(bytes_max: u64, expiry: Option<AfterWrite>) -> Self {
        let hot = expiry.as_ref().and_then(|expiry| expiry.hot.clone());
        let evictions = Arc::new(Evictions::default());
        let counted = Arc::clone(&evictions);
        let builder =
            Cache::builder().max_capacity(bytes_max).weigher(weigh).eviction_listener(move |_, _, cause| {
                match cause {
                    RemovalCause::Expired => count(&counted.expired),
                    RemovalCause::Size => count(&counted.size),
                    RemovalCause::Explicit | RemovalCause::Replaced => {}
                }
            });
        let builder = match expiry {
            Some(expiry) => builder.expire_after(expiry),
            None => builder,
        };
        Self { rows: builder.build_with_hasher(foldhash::fast::RandomState::default()), evictions, hot }
    }

    /// Does what moka has put off: removes what expired, settles its queues.
    pub fn clean(&self) {
        self.rows.run_pending_tasks();
    }

    /// Rows that left by themselves.
    pub fn evictions(&self) -> &Evictions {
        &self.evictions
    }

    /// Rows to be loaded anew, for a tier that refreshes ahead.
    pub fn hot(&self) -> Option<&HotKeys> {
        self.hot.as_deref()
    }

    fn put(&self, row: &Row, takes_the_place: impl Fn(&Row, &Row) -> bool) {
        let key = Key::from_canonical(row.key().to_vec());
        // Callers hold the dimension's lock; compute closes the gap to moka's
        // own eviction.
        self.rows.entry(key).and_compute_with(|resident| match resident {
            Some(entry) if !takes_the_place(row, entry.value()) => Op::Nop,
            _ => Op::Put(row.clone()),
        });
    }
}

impl Resident for LruTier {
    fn tier(&self) -> Tier {
        Tier::Lru
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Option<Row> {
        self.rows.get(key)
    }

    fn absent_after(&self) -> Option<Position> {
        None
    }

    fn install(&self, row: &Row) {
        self.put(row, supersedes);
    }

    /// A change adds nothing: a row that nobody asked for must not push out one
    /// that is asked for.
    fn replace(&self, row: &Row) {
        if self.rows.contains_key(row.key()) {
            self.put(row, supersedes);
        }
    }

    fn force(&self, row: &Row) {
        self.put(row, |_, _| true);
    }

    fn remove(&self, key: &[u8]) {
        self.rows.invalidate(key);
    }

    fn clear(&self, _: Option<Position>) {
        self.rows.invalidate_all();
    }

    fn rows(&self) -> u64 {
        self.rows.entry_count()
    }

    fn bytes(&self) -> u64 {
        self.rows.weighted_size()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn weigh(key: &Key, row: &Row) -> u32 {
    u32::try_from(key.as_bytes().len() + row.bytes() + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
}

/// Time to live after write, never after access: a lost invalidation must not
/// live for ever on the hottest keys. A tenth more or less, so that what came
/// together does not leave together.
struct AfterWrite {
    ttl: Duration,
    hot: Option<Arc<HotKeys>>,
}

impl AfterWrite {
    fn jittered(&self, key: &Key, row: &Row) -> Duration {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let share = hasher.hash_one((key, row.version().packed())) as f64 / u64::MAX as f64;
        self.ttl.mul_f64(0.9 + 0.2 * share)
    }
}

impl Expiry<Key, Row> for AfterWrite {
    fn expire_after_create(&self, key: &Key, row: &Row, _: Instant) -> Option<Duration> {
        Some(self.jittered(key, row))
    }

    fn expire_after_update(&self, key: &Key, row: &Row, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(self.jittered(key, row))
    }

    /// Changes nothing: a read only shows that the row is in use.
    fn expire_after_read(
        &self,
        key: &Key,
        _: &Row,
        _: Instant,
        left: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        if let Some(hot) = &self.hot
            && left.is_some_and(|left| left < self.ttl / REFRESHED_IN_LAST)
        {
            hot.note(key);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Take the jitter out, or make it depend on less than the key, to see it
    /// fail.
    #[test]
    fn rows_that_come_together_do_not_leave_together() {
        let expiry = AfterWrite { ttl: Duration::from_secs(1_000), hot: None };
        let mut ends = [0; 10];
        for id in 0..1_000 {
            let key = Key::from_canonical(format!("[{id}]"));
            let row = Row::new(key.as_bytes(), Position::ZERO, Some(b"{}"));
            let life = expiry.expire_after_create(&key, &row, Instant::now()).unwrap();
            assert_eq!(expiry.expire_after_update(&key, &row, Instant::now(), None), Some(life));
            ends[((life.as_secs_f64() - 900.0) / 20.001) as usize] += 1;
        }
        // A hundred each, were they spread evenly.
        assert!(ends.iter().all(|ends| (50..=200).contains(ends)), "{ends:?}");
    }

    /// Take the comparison with the time that is left out to see it fail.
    #[test]
    fn a_row_whose_time_is_not_almost_over_is_not_noted() {
        let tier = LruTier::refreshing(1 << 20, Duration::from_secs(3_600));
        tier.install(&Row::new(b"[1]", Position::ZERO, Some(b"{}")));
        assert!(tier.get(b"[1]").is_some());
        assert!(tier.hot().unwrap().take(1).is_empty());
    }
}
