//! The `full` tier: every row of a dimension resident, so that a missing key is
//! an absent key.
//!
//! Deletes are not kept as entries: a position after the table's last delete
//! proves absence, an older one is left to overlay and store.

use super::Answer;
use crate::dimension::Key;
use hashbrown::{HashMap, hash_map::Entry};
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tidemark_proto::Position;

/// A power of two, so that readers of different keys rarely share a lock.
const SHARDS: usize = 16;
/// What an entry costs beside its key and row.
const ENTRY_OVERHEAD: usize = 112;

#[derive(Debug)]
pub(super) struct FullTier {
    hasher: foldhash::fast::RandomState,
    shards: Vec<RwLock<Shard>>,
    floor: Position,
    last_delete: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    rows: HashMap<Key, Answer, foldhash::fast::RandomState>,
    /// While a scan fills the tier, deleted keys stay as tombstones, or the
    /// scan would bring them back.
    filling: bool,
}

impl FullTier {
    pub(super) fn new(floor: Position) -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            floor,
            last_delete: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn shard(&self, key: &[u8]) -> &RwLock<Shard> {
        use std::hash::BuildHasher as _;
        let place = (self.hasher.hash_one(key) >> 57) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "the place is below SHARDS, the length of the vector")]
        &self.shards[place]
    }

    /// The resident row, or the proof that there is none.
    pub(super) fn get(&self, key: &[u8]) -> Option<Answer> {
        if let Some(answer) = self.resident(key) {
            return Some(answer);
        }
        // Loaded after the map was read: a delete moves it before it removes
        // its row, so a reader that missed the row sees the delete.
        let last_delete = Position::from_packed(self.last_delete.load(Ordering::Acquire));
        let absent = Answer::never_existed(self.floor);
        Some(Answer { from: absent.from.max(last_delete), ..absent })
    }

    pub(super) fn resident(&self, key: &[u8]) -> Option<Answer> {
        self.shard(key).read().rows.get(key).cloned()
    }

    /// A change. Re-applied older versions leave a newer row alone.
    pub(super) fn update(&self, key: &Key, answer: Answer) {
        if answer.image.is_none() {
            self.last_delete.fetch_max(answer.version.packed(), Ordering::AcqRel);
        }
        self.put(key, answer);
    }

    /// A scanned row, or one that a change laid over the scan.
    pub(super) fn install(&self, key: &Key, answer: Answer) {
        self.update(key, answer);
    }

    fn put(&self, key: &Key, answer: Answer) {
        let mut shard = self.shard(key.as_bytes()).write();
        let keep_tombstone = shard.filling;
        let grown = size(key, &answer);
        match shard.rows.entry(key.clone()) {
            Entry::Occupied(entry) if entry.get().version > answer.version => {}
            Entry::Occupied(mut entry) => {
                self.shrink(size(key, entry.get()));
                if answer.image.is_some() || keep_tombstone {
                    self.grow(grown);
                    entry.insert(answer);
                } else {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) => {
                if answer.image.is_some() || keep_tombstone {
                    self.grow(grown);
                    entry.insert(answer);
                }
            }
        }
    }

    pub(super) fn begin_fill(&self) {
        for shard in &self.shards {
            shard.write().filling = true;
        }
    }

    pub(super) fn end_fill(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.filling = false;
            shard.rows.retain(|key, answer| {
                let keep = answer.image.is_some();
                if !keep {
                    self.shrink(size(key, answer));
                }
                keep
            });
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().rows.len() as u64).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn shrink(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn size(key: &Key, answer: &Answer) -> u64 {
    (key.as_bytes().len() + answer.image.as_ref().map_or(0, |row| row.len()) + ENTRY_OVERHEAD) as u64
}
