//! The state machine: what a dimension holds in memory, and what it may answer.
//!
//! The change feed calls [`DimensionCache::apply`], the writer
//! [`DimensionCache::forget`], lookups [`DimensionCache::peek`], and those that
//! miss read the tiers beneath between [`DimensionCache::begin_load`] and
//! [`Load::finish`]. One lock a dimension is taken by all that change it; a hit
//! takes none of it.
//!
//! Every answer is an interval of positions ([`Answer`]); all of the care here
//! is about never making one too wide.

mod past;
#[cfg(test)]
mod tests;

use crate::{
    answer::{Answer, Found, Loaded, Tier},
    flights::{Ended, Flights},
    noted::NotedKeys,
    overlay::Overlay,
    resident::Resident,
    row::{Image, Key, Row},
    sync::{AtomicU64, Mutex, Ordering},
    timeline::Timeline,
};
use std::{mem, sync::Arc};
use tidemark_proto::Position;

/// Rows of one dimension in memory: the tier, the versions that are not yet
/// durable, and the loads at work. `W` is what waits for a load of another.
#[derive(Debug)]
pub struct DimensionCache<R, W> {
    tier: R,
    keeps: Keeps,
    /// [`Timeline::cut`]: answers that begin before it need a closer look.
    cut: AtomicU64,
    /// [`Timeline::settled`]: positions up to it may resolve to another.
    settled: AtomicU64,
    floor: AtomicU64,
    heart: Mutex<Heart<W>>,
}

/// Whether a dimension has a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Every version goes to a store.
    Versions,
    /// Only what is resident is known: a lazy dimension.
    Nothing,
}

#[derive(Debug)]
struct Heart<W> {
    overlay: Overlay,
    flights: Flights<W>,
    timeline: Timeline,
    /// Set while a load or a repair of the whole table runs.
    noted: Option<NotedKeys>,
    /// Of the last transaction that was applied, or passed over.
    last: Position,
    /// Changes are passed over: what the table is now is not known.
    suspended: bool,
}

/// What memory says of a key at a position.
#[derive(Debug)]
pub enum Peek {
    Hit(Found),
    /// Nothing resident: load the newest version.
    Miss,
    /// What is resident does not answer as it is: ask
    /// [`DimensionCache::older`], then the store at that position.
    Older,
}

/// A change of one row, as apply hands it over.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: Key,
    /// Before the transaction; read while a first load runs only.
    pub before: Image,
    /// After the transaction.
    pub after: Image,
}

impl<R: Resident, W: Clone> DimensionCache<R, W> {
    /// An empty cache of a dimension.
    pub fn new(tier: R, timeline: Timeline, keeps: Keeps) -> Self {
        Self {
            tier,
            keeps,
            cut: AtomicU64::new(timeline.cut().packed()),
            settled: AtomicU64::new(timeline.settled().packed()),
            floor: AtomicU64::new(timeline.floor().packed()),
            heart: Mutex::new(Heart {
                overlay: Overlay::default(),
                flights: Flights::default(),
                suspended: timeline.lost().is_some(),
                timeline,
                noted: None,
                last: Position::ZERO,
            }),
        }
    }

    /// The resident tier.
    pub fn tier(&self) -> &R {
        &self.tier
    }

    /// What is known of the past as a whole.
    pub fn timeline(&self) -> Timeline {
        self.heart.lock().timeline.clone()
    }

    /// From here on every version of every key is known.
    pub fn floor(&self) -> Position {
        Position::from_packed(self.floor.load(Ordering::Acquire))
    }

    /// Where to read for a caller who asks for `at`; true when history does not
    /// reach it.
    pub fn resolve(&self, at: Position) -> (Position, bool) {
        if at.packed() > self.settled.load(Ordering::Acquire) {
            return (at, false);
        }
        self.heart.lock().timeline.resolve(at)
    }

    /// What memory says of `key` at `at`, which must be resolved and must not
    /// exceed an `applied` that the caller loaded before the call. Takes no
    /// lock of the heart.
    #[inline]
    pub fn peek(&self, key: &[u8], at: Position) -> Peek {
        let resident = self.tier.get(key);
        // After the row: who moves the cut does so before it removes rows.
        let cut = Position::from_packed(self.cut.load(Ordering::Acquire));
        match resident {
            Some(row) if cut <= row.from() && row.from() < at => {
                Peek::Hit(Found { answer: Answer::newest(row), tier: self.tier.tier() })
            }
            Some(_) => Peek::Older,
            None => match self.tier.absent_after().map(|after| after.max(cut)) {
                Some(after) if after < at => {
                    Peek::Hit(Found { answer: Answer::absent(after), tier: self.tier.tier() })
                }
                Some(_) => Peek::Older,
                None => Peek::Miss,
            },
        }
    }

    /// What memory says of `key` at `at` on a closer look: the versions that
    /// are not yet durable and those they replaced, and a resident row that was
    /// cut. `None` when only the store can tell.
    pub fn older(&self, key: &[u8], at: Position) -> Option<Found> {
        let heart = self.heart.lock();
        if let Some(answer) = heart.overlay.as_of(key, at) {
            return Some(Found { answer: heart.timeline.clip(answer, at), tier: Tier::Overlay });
        }
        let row = self.tier.get(key).filter(|row| row.from() < at)?;
        let answer = heart.timeline.clip(Answer::newest(row), at);
        if let Some(row) = answer.row.as_ref().filter(|_| answer.is_open()) {
            self.tier.install(row);
        }
        Some(Found { answer, tier: self.tier.tier() })
    }

    /// What the versions that are not yet durable say of the keys that begin
    /// with `prefix`, in key order. A read of the store that begins after this
    /// call has all else.
    pub fn older_by_prefix(&self, prefix: &[u8], at: Position) -> Vec<(Key, Answer)> {
        let heart = self.heart.lock();
        let clip = |(key, answer)| (key, heart.timeline.clip(answer, at));
        heart.overlay.as_of_prefix(prefix, at).into_iter().map(clip).collect()
    }

    /// What the store said of `at`: the greatest version below it, or that
    /// there is none. What came after it is not known here.
    pub fn stored(&self, key: &[u8], version: Option<(Position, Image)>, at: Position) -> Answer {
        let heart = self.heart.lock();
        let answer = Answer::newest(heart.row(key, version)).until(at);
        heart.timeline.clip(answer, at)
    }

    /// Begins to load the newest version of a key that missed, or joins who
    /// does. Every change of the key from here on reaches the load.
    pub fn begin_load(self: &Arc<Self>, key: &Key, waiter: impl FnOnce() -> W) -> LoadStart<R, W> {
        self.begin(key, waiter, false)
    }

    /// The same for a key that is read anew though it may be resident: end it
    /// with [`Load::finish_by_force`].
    pub fn begin_reload(self: &Arc<Self>, key: &Key, waiter: impl FnOnce() -> W) -> LoadStart<R, W> {
        self.begin(key, waiter, true)
    }

    fn begin(self: &Arc<Self>, key: &Key, waiter: impl FnOnce() -> W, anew: bool) -> LoadStart<R, W> {
        let mut heart = self.heart.lock();
        // All that the overlay lacks is durable at this moment, so a read that
        // begins after it sees it. This is why the registration comes before
        // the read.
        if let Some(answer) = heart.overlay.newest(key.as_bytes()).cloned() {
            let answer = heart.timeline.clip(answer, Position::MAX);
            self.install(&answer);
            return LoadStart::Known(Found { answer, tier: Tier::Overlay });
        }
        if let Some(waiter) = heart.flights.join(key.as_bytes()) {
            return LoadStart::Joined(waiter);
        }
        if let Some(row) = self.loaded_meanwhile(key.as_bytes()).filter(|_| !anew) {
            let answer = heart.timeline.clip(Answer::newest(row), Position::MAX);
            return LoadStart::Known(Found { answer, tier: self.tier.tier() });
        }
        let id = heart.flights.begin(key.clone(), waiter());
        LoadStart::Lead(Load { cache: Arc::clone(self), key: key.clone(), id })
    }

    /// Applies a transaction's rows: to the overlay, to loads at work, to the
    /// tier. `applied` must move past the version only after this returns.
    ///
    /// Returns, while a first load of the table runs, the images before the first
    /// change of each key: they belong into the store just below the floor.
    pub fn apply(&self, version: Position, changes: &[Change]) -> Vec<(Key, Image)> {
        let mut heart = self.heart.lock();
        heart.last = version;
        let mut first_images = Vec::new();
        for change in changes {
            let row = Row::new(change.key.as_bytes(), version, change.after.as_deref());
            if self.keeps == Keeps::Versions {
                let replaced = self.tier.get(row.key());
                heart.overlay.push(&change.key, row.clone(), replaced);
            }
            heart.flights.hand_over(&row);
            self.tier.replace(&row);
            let Heart { noted, timeline, .. } = &mut *heart;
            if let Some(noted) = noted
                && noted.changed(&change.key)
            {
                let before = timeline.as_of_version(&change.before, noted.version());
                first_images.extend(noted.keep(&change.key, before));
            }
        }
        first_images
    }

    /// Rows of `version` were found to be the newest below it and to differ
    /// from what was known; the store has them. Newer ones stay.
    pub fn repaired(&self, version: Position, rows: &[(Key, Image)]) {
        let mut heart = self.heart.lock();
        for (key, image) in rows {
            let row = Row::new(key.as_bytes(), version, image.as_deref());
            heart.overlay.repair(&row);
            heart.flights.hand_over(&row);
            self.tier.replace(&row);
        }
    }

    /// Lets go of what the store has up to `durable`.
    pub fn forget(&self, durable: Position) {
        self.heart.lock().overlay.forget(durable);
    }

    /// Lets a tier that loads again go of a key. A tier that holds every row
    /// keeps it: load it, and [`Load::finish_by_force`].
    pub fn invalidate(&self, key: &[u8]) {
        let mut heart = self.heart.lock();
        heart.flights.invalidate(key);
        self.tier.remove(key);
    }

    /// Lets a tier that loads again go of every key.
    pub fn invalidate_all(&self) {
        let mut heart = self.heart.lock();
        heart.flights.invalidate_all();
        self.tier.clear(None);
    }

    /// Runs `fill` while nothing changes the tier, with every version that is
    /// not durable.
    pub fn with_tier<T>(&self, fill: impl FnOnce(&R, &mut dyn Iterator<Item = &Row>) -> T) -> T {
        let heart = self.heart.lock();
        fill(&self.tier, &mut heart.overlay.newest_of_all())
    }

    /// Every version of a key that is not durable, newest first.
    pub fn overlay_of(&self, key: &[u8]) -> Vec<Answer> {
        self.heart.lock().overlay.versions(key)
    }

    /// Versions held until they are durable.
    pub fn overlay_versions(&self) -> usize {
        self.heart.lock().overlay.len()
    }

    /// Loads at work.
    pub fn flights(&self) -> usize {
        self.heart.lock().flights.len()
    }

    /// What another load has brought since the caller missed it. A tier that
    /// holds every row is loaded to set a row right, which is then resident.
    fn loaded_meanwhile(&self, key: &[u8]) -> Option<Row> {
        if self.tier.absent_after().is_some() { None } else { self.tier.get(key) }
    }

    fn install(&self, answer: &Answer) {
        if let Some(row) = &answer.row {
            self.tier.install(row);
        }
    }
}

impl<W: Clone> Heart<W> {
    /// What a load has read, or the change that overtook it; and whether it may stay.
    fn land(&mut self, key: &Key, id: u64, loaded: Loaded) -> (Found, bool) {
        let read = match (loaded.tier, loaded.version) {
            (Tier::Source, Some((after, image))) => Row::seen(key.as_bytes(), after, image.as_deref()),
            (_, version) => self.row(key.as_bytes(), version),
        };
        let Ended { newer, is_void } = self.flights.end(key.as_bytes(), id);
        let (row, tier) = match newer {
            // What the source gave has no version of its own, but a place after
            // which it is valid: a repair's row from before that is older.
            Some(newer) if newer.version() >= read.from() => (newer, Tier::Overlay),
            _ => (read, loaded.tier),
        };
        let answer = self.timeline.clip(Answer::newest(row), Position::MAX);
        (Found { answer, tier }, !is_void)
    }

    fn row(&self, key: &[u8], version: Option<(Position, Image)>) -> Row {
        match version {
            Some((version, image)) => Row::new(key, version, image.as_deref()),
            None => Row::absent(key, self.timeline.floor().before()),
        }
    }
}

/// How a load begins.
#[derive(Debug)]
pub enum LoadStart<R: Resident, W: Clone> {
    /// Memory holds the newest version after all.
    Known(Found),
    /// Read the key's newest version, then [`Load::finish`].
    Lead(Load<R, W>),
    /// Another reads it: its outcome is the newest version for all who joined
    /// before it finished.
    Joined(W),
}

/// A registered load. Dropping it unfinished is harmless: nothing is
/// remembered.
#[derive(Debug)]
pub struct Load<R: Resident, W: Clone> {
    cache: Arc<DimensionCache<R, W>>,
    key: Key,
    /// 0 once it is finished.
    id: u64,
}

impl<R: Resident, W: Clone> Load<R, W> {
    /// The key to read.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Takes what was read after the load began and returns the key's newest
    /// version: resident from here on, unless it was invalidated meanwhile.
    pub fn finish(mut self, loaded: Loaded) -> Found {
        let mut heart = self.cache.heart.lock();
        let (found, may_stay) = heart.land(&self.key, mem::take(&mut self.id), loaded);
        if may_stay {
            self.cache.install(&found.answer);
        }
        found
    }

    /// The same, and whatever the tier holds of the key makes way: for a key
    /// that was found to be wrong.
    pub fn finish_by_force(mut self, loaded: Loaded) -> Found {
        let mut heart = self.cache.heart.lock();
        let (found, may_stay) = heart.land(&self.key, mem::take(&mut self.id), loaded);
        if let Some(row) = found.answer.row.as_ref().filter(|_| may_stay) {
            self.cache.tier.force(row);
        }
        found
    }
}

impl<R: Resident, W: Clone> Drop for Load<R, W> {
    fn drop(&mut self) {
        if self.id != 0 {
            self.cache.heart.lock().flights.end(self.key.as_bytes(), self.id);
        }
    }
}
