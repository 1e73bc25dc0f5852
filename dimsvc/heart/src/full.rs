//! The `full` tier: every row of a dimension resident, so that a missing key is
//! an absent key.
//!
//! Deletes are not kept as entries: a position after the table's last delete
//! proves absence, an older one is left to overlay and store.

use crate::{
    answer::Tier,
    resident::{Resident, supersedes},
    row::{Key, Row},
    sync::{AtomicU64, Ordering, RowHasher, RwLock},
};
use hashbrown::{HashTable, hash_table::Entry};
use std::hash::BuildHasher as _;
use tidemark_proto::Position;

/// See the module.
#[derive(Debug)]
pub struct FullTier {
    hasher: RowHasher,
    shards: Vec<RwLock<Shard>>,
    /// A missing key is absent after this position.
    absent_after: AtomicU64,
    bytes: AtomicU64,
}

/// Eight bytes a row beside the row itself, whose allocation holds its key.
#[derive(Debug, Default)]
struct Shard {
    rows: HashTable<Row>,
    /// While a scan fills the tier, deleted keys stay as tombstones, and rows
    /// that were removed at once stay too, or the scan would bring back what
    /// was there before them.
    filling: bool,
    /// Where all rows were removed the last time.
    cleared: Position,
}

/// What a table's slot costs at its usual load.
const SLOT: usize = 14;

impl FullTier {
    /// A power of two, so that readers of different keys rarely share a lock, and
    /// growing one shard holds up few of them.
    pub const SHARDS: usize = if cfg!(feature = "model") { 2 } else { 64 };

    /// An empty tier of a dimension whose history begins at `floor`.
    pub fn new(floor: Position) -> Self {
        Self {
            hasher: RowHasher::default(),
            shards: (0..Self::SHARDS).map(|_| RwLock::default()).collect(),
            absent_after: AtomicU64::new(floor.before().packed()),
            bytes: AtomicU64::new(0),
        }
    }

    /// Table slots take the top and the low bits of a hash, shards those between.
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        #[expect(clippy::indexing_slicing, reason = "the place is below SHARDS, the length of the vector")]
        &self.shards[(hash >> 48) as usize % Self::SHARDS]
    }

    fn put(&self, row: &Row, takes_the_place: impl Fn(&Row, &Row) -> bool) {
        if row.image().is_none() {
            // Before the row goes: a reader that misses it sees this.
            self.absent_after.fetch_max(row.from().packed(), Ordering::AcqRel);
        }
        let hash = self.hasher.hash_one(row.key());
        let mut shard = self.shard(hash).write();
        let keep = row.image().is_some() || shard.filling;
        let same_key = |resident: &Row| resident.key() == row.key();
        match shard.rows.entry(hash, same_key, |resident| self.hasher.hash_one(resident.key())) {
            Entry::Occupied(entry) if !takes_the_place(row, entry.get()) => {}
            Entry::Occupied(mut entry) => {
                self.shrink(entry.get());
                if keep {
                    self.grow(row);
                    *entry.get_mut() = row.clone();
                } else {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) if keep => {
                self.grow(row);
                entry.insert(row.clone());
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Empties the tier, and keeps tombstones from here on, while a scan fills
    /// it: until [`Self::end_fill`] it proves nothing.
    pub fn begin_fill(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.rows.iter().for_each(|row| self.shrink(row));
            shard.rows.clear();
            shard.filling = true;
        }
    }

    /// The keys of a shard, which is below [`Self::SHARDS`].
    pub fn keys(&self, shard: usize) -> Vec<Key> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let key = |row: &Row| Key::from_canonical(row.key().to_vec());
        shard.read().rows.iter().map(key).collect()
    }

    /// The scan is complete.
    pub fn end_fill(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.filling = false;
            self.sweep(&mut shard);
        }
    }

    /// Removes what is not there any more.
    fn sweep(&self, shard: &mut Shard) {
        let cleared = shard.cleared;
        shard.rows.retain(|row| {
            let keep = row.image().is_some() && row.from() >= cleared;
            if !keep {
                self.shrink(row);
            }
            keep
        });
    }

    fn grow(&self, row: &Row) {
        self.bytes.fetch_add((row.bytes() + SLOT) as u64, Ordering::Relaxed);
    }

    fn shrink(&self, row: &Row) {
        self.bytes.fetch_sub((row.bytes() + SLOT) as u64, Ordering::Relaxed);
    }
}

impl Resident for FullTier {
    fn tier(&self) -> Tier {
        Tier::Full
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Option<Row> {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).read().rows.find(hash, |row| row.key() == key).cloned()
    }

    fn absent_after(&self) -> Option<Position> {
        Some(Position::from_packed(self.absent_after.load(Ordering::Acquire)))
    }

    fn install(&self, row: &Row) {
        self.put(row, supersedes);
    }

    fn replace(&self, row: &Row) {
        self.put(row, supersedes);
    }

    fn force(&self, row: &Row) {
        self.put(row, |_, _| true);
    }

    /// Nothing: a missing key would be an absent one. What has to be read again
    /// is replaced when it has been read.
    fn remove(&self, _: &[u8]) {}

    fn clear(&self, at: Option<Position>) {
        let Some(at) = at else { return };
        self.absent_after.fetch_max(at.packed(), Ordering::AcqRel);
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.cleared = shard.cleared.max(at);
            if !shard.filling {
                self.sweep(&mut shard);
            }
        }
    }

    fn rows(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().rows.len() as u64).sum()
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
