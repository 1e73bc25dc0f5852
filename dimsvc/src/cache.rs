//! The heart: what a dimension holds in memory, and what it may answer.
//!
//! A [`DimensionCache`] is a state machine without I/O and without a clock. The
//! change feed calls [`DimensionCache::apply`], the writer
//! [`DimensionCache::forget`], lookups [`DimensionCache::peek`], and those that
//! miss read the store between [`DimensionCache::begin_load`] and
//! [`Load::finish`]. One lock a dimension is taken by all that change it; a hit
//! takes none of it.
//!
//! Every answer is an interval of positions ([`Answer`]); all of the care here
//! is about never making one too wide.

mod answer;
mod full;
mod loads;
mod lru;
mod overlay;
mod snapshot_keys;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Found, Tier};
pub(crate) use overlay::VERSION_OVERHEAD;

use crate::dimension::{Image, Key};
use full::FullTier;
use loads::Loads;
use lru::LruTier;
use overlay::Overlay;
use parking_lot::Mutex;
use snapshot_keys::SnapshotKeys;
use std::time::Duration;
use tidemark_proto::Position;

/// Rows of one dimension in memory: the tier, the versions that are not yet
/// durable, and the loads at work.
#[derive(Debug)]
pub struct DimensionCache {
    tier: ResidentTier,
    /// From here on every version of every key is known.
    floor: Position,
    heart: Mutex<Heart>,
}

#[derive(Debug, Default)]
struct Heart {
    overlay: Overlay,
    loads: Loads,
    /// Set while the first load runs.
    snapshot: Option<SnapshotKeys>,
}

#[derive(Debug)]
enum ResidentTier {
    Full(FullTier),
    Lru(LruTier),
}

/// The resident tier of a dimension and its bounds.
#[derive(Clone, Copy, Debug)]
pub enum TierKind {
    /// Every row resident.
    Full,
    /// The most used rows.
    Lru { bytes_max: u64, time_to_live: Option<Duration> },
}

/// What memory says of a key at a position.
#[derive(Debug)]
pub enum Peek {
    Hit(Found),
    /// Nothing resident: load the newest version.
    Miss,
    /// Only an older version than the resident one can answer.
    Older,
}

/// A change of one row, as apply hands it over.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: Key,
    /// Before the transaction; read while the first load runs only.
    pub before: Image,
    /// After the transaction.
    pub after: Image,
}

impl DimensionCache {
    /// A cache of a dimension whose history begins at `floor`.
    pub fn new(kind: TierKind, floor: Position) -> Self {
        let tier = match kind {
            TierKind::Full => ResidentTier::Full(FullTier::new(floor)),
            TierKind::Lru { bytes_max, time_to_live } => {
                ResidentTier::Lru(LruTier::new(bytes_max, time_to_live))
            }
        };
        Self { tier, floor, heart: Mutex::default() }
    }

    /// From here on every version of every key is known.
    pub fn floor(&self) -> Position {
        self.floor
    }

    /// What memory says of `key` at `at`, which must not exceed an `applied`
    /// that the caller loaded before the call. Takes no lock of the heart.
    pub fn peek(&self, key: &[u8], at: Position) -> Peek {
        let (resident, tier) = match &self.tier {
            ResidentTier::Full(full) => (full.get(key), Tier::Full),
            ResidentTier::Lru(lru) => (lru.get(key), Tier::Lru),
        };
        match resident {
            Some(answer) if answer.answers(at) => Peek::Hit(Found { answer, tier }),
            Some(_) => Peek::Older,
            None => Peek::Miss,
        }
    }

    /// What the versions that are not yet durable (and those they replaced)
    /// say of `key` at `at`; `None` when only the store can tell.
    pub fn older(&self, key: &Key, at: Position) -> Option<Found> {
        let answer = self.heart.lock().overlay.as_of(key, at)?;
        Some(Found { answer, tier: Tier::Overlay })
    }

    /// Begins to load the newest version of a key that missed. Every change of
    /// the key from here on reaches the load.
    pub fn begin_load<'c>(&'c self, key: &Key) -> LoadStart<'c> {
        let mut heart = self.heart.lock();
        // All that the overlay lacks is durable at this moment, so a store read
        // that begins after it sees it. This is why the registration comes
        // before the read.
        if let Some(answer) = heart.overlay.newest(key) {
            self.install(key, answer.clone());
            return LoadStart::Known(Found { answer, tier: Tier::Overlay });
        }
        heart.loads.register(key);
        LoadStart::Read(Load { cache: self, key: key.clone() })
    }

    /// Applies a transaction's rows: to the overlay, to loads at work, to the
    /// tier. `applied` must move past the version only after this returns.
    ///
    /// Returns, while the first load runs, the images before the first change
    /// of each key: they belong into the store just below the floor.
    pub fn apply(&self, version: Position, changes: &[Change]) -> Vec<(Key, Image)> {
        let mut heart = self.heart.lock();
        let mut first_images = Vec::new();
        for change in changes {
            let answer = Answer::newest(version, change.after.clone());
            let replaced = self.resident(&change.key);
            heart.overlay.push(&change.key, answer.clone(), replaced);
            heart.loads.hand_over(&change.key, &answer);
            self.update(&change.key, answer);
            if heart.snapshot.as_mut().is_some_and(|keys| keys.changed(&change.key)) {
                first_images.push((change.key.clone(), change.before.clone()));
            }
        }
        first_images
    }

    /// Lets go of what the store has up to `durable`. Returns the bytes freed.
    pub fn forget(&self, durable: Position) -> usize {
        self.heart.lock().overlay.forget(durable)
    }

    /// Begins to note which keys change, for the first load.
    pub fn track_changes(&self) {
        self.heart.lock().snapshot = Some(SnapshotKeys::default());
    }

    /// Whether the key has changed since [`Self::track_changes`].
    pub fn has_changed(&self, key: &Key) -> bool {
        self.heart.lock().snapshot.as_ref().is_some_and(|keys| keys.contains(key))
    }

    /// Bytes of the keys noted since [`Self::track_changes`].
    pub fn noted_bytes(&self) -> usize {
        self.heart.lock().snapshot.as_ref().map_or(0, SnapshotKeys::bytes)
    }

    /// Ends the first load's notes.
    pub fn stop_tracking(&self) {
        self.heart.lock().snapshot = None;
    }

    /// Begins to fill a `full` tier from a scan: changes from here on are laid
    /// over it. False for a tier that fills by itself.
    pub fn begin_fill(&self) -> bool {
        let ResidentTier::Full(full) = &self.tier else { return false };
        let heart = self.heart.lock();
        full.begin_fill();
        for (key, answer) in heart.overlay.newest_of_all() {
            full.install(key, answer);
        }
        true
    }

    /// Installs scanned versions, unless a newer one is there.
    pub fn fill(&self, rows: impl Iterator<Item = (Key, Position, Image)>) {
        let ResidentTier::Full(full) = &self.tier else { return };
        let _heart = self.heart.lock();
        for (key, version, image) in rows {
            full.install(&key, Answer::newest(version, image));
        }
    }

    /// Ends the fill: from here on a missing key is an absent key.
    pub fn end_fill(&self) {
        if let ResidentTier::Full(full) = &self.tier {
            let _heart = self.heart.lock();
            full.end_fill();
        }
    }

    /// Rows resident, approximate for `lru`.
    pub fn resident_rows(&self) -> u64 {
        match &self.tier {
            ResidentTier::Full(full) => full.rows(),
            ResidentTier::Lru(lru) => lru.rows(),
        }
    }

    /// Bytes of the resident rows with our overhead, approximate.
    pub fn resident_bytes(&self) -> u64 {
        match &self.tier {
            ResidentTier::Full(full) => full.bytes(),
            ResidentTier::Lru(lru) => lru.bytes(),
        }
    }

    /// Versions held until they are durable.
    pub fn overlay_versions(&self) -> usize {
        self.heart.lock().overlay.len()
    }

    fn resident(&self, key: &Key) -> Option<Answer> {
        match &self.tier {
            ResidentTier::Full(full) => full.resident(key.as_bytes()),
            ResidentTier::Lru(lru) => lru.get(key.as_bytes()),
        }
    }

    /// A change: the full tier takes every row, the lru tier only replaces what
    /// is resident.
    fn update(&self, key: &Key, answer: Answer) {
        match &self.tier {
            ResidentTier::Full(full) => full.update(key, answer),
            ResidentTier::Lru(lru) => lru.replace(key, answer),
        }
    }

    /// A loaded row: the lru tier takes it, unless it holds a newer one.
    fn install(&self, key: &Key, answer: Answer) {
        if let ResidentTier::Lru(lru) = &self.tier {
            lru.install(key, answer);
        }
    }
}

/// How a load begins.
#[derive(Debug)]
pub enum LoadStart<'c> {
    /// Memory holds the newest version after all.
    Known(Found),
    /// Read the key's newest version from the store, then [`Load::finish`].
    Read(Load<'c>),
}

/// A registered load. Dropping it unfinished is harmless: nothing is
/// remembered.
#[derive(Debug)]
pub struct Load<'c> {
    cache: &'c DimensionCache,
    key: Key,
}

impl Load<'_> {
    /// The key to read.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Takes what the store read after the load began, `None` where it has no
    /// version, and returns the newest version of the key. It is resident from
    /// here on.
    pub fn finish(self, stored: Option<(Position, Image)>) -> Found {
        let cache = self.cache;
        let heart = cache.heart.lock();
        let read = match stored {
            Some((version, image)) => Answer::newest(version, image),
            None => Answer::never_existed(cache.floor),
        };
        let (answer, tier) = match heart.loads.handed_over(&self.key) {
            Some(newer) if newer.version >= read.version => (newer, Tier::Overlay),
            _ => (read, Tier::Store),
        };
        cache.install(&self.key, answer.clone());
        Found { answer, tier }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.cache.heart.lock().loads.release(&self.key);
    }
}
