//! The `lru` tier: the most used rows, bounded by bytes, in moka.
//!
//! Absent keys are entries too ("missing"), counted in the bound; the insert
//! that ends an absence replaces its entry.

use super::Answer;
use crate::dimension::Key;
use moka::{ops::compute::Op, sync::Cache};
use std::time::Duration;

/// What an entry costs beside its key and row: moka's node, policies and our
/// [`Answer`].
const ENTRY_OVERHEAD: usize = 240;

#[derive(Debug)]
pub(super) struct LruTier {
    rows: Cache<Key, Answer, foldhash::fast::RandomState>,
}

impl LruTier {
    pub(super) fn new(bytes_max: u64, time_to_live: Option<Duration>) -> Self {
        let builder = Cache::builder().max_capacity(bytes_max).weigher(weigh);
        // After write, never after access: a lost invalidation must not live
        // for ever on the hottest keys.
        let builder = match time_to_live {
            Some(ttl) => builder.time_to_live(ttl),
            None => builder,
        };
        Self { rows: builder.build_with_hasher(foldhash::fast::RandomState::default()) }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Answer> {
        self.rows.get(key)
    }

    /// A change: replaces what is resident, adds nothing.
    pub(super) fn replace(&self, key: &Key, answer: Answer) {
        if self.rows.contains_key(key) {
            self.install(key, answer);
        }
    }

    /// Accepts a version unless a newer one is resident. Callers hold the
    /// dimension's lock; compute closes the gap to moka's own eviction.
    pub(super) fn install(&self, key: &Key, answer: Answer) {
        self.rows.entry(key.clone()).and_compute_with(|resident| match resident {
            Some(entry) if entry.value().version > answer.version => Op::Nop,
            _ => Op::Put(answer),
        });
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.entry_count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.rows.weighted_size()
    }
}

fn weigh(key: &Key, answer: &Answer) -> u32 {
    let row = answer.image.as_ref().map_or(0, |row| row.len());
    u32::try_from(key.as_bytes().len() + row + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
}
