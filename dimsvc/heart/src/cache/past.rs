//! What happens to a dimension as a whole: truncations, added columns, holes in
//! what is known, and the way back from them.

use super::DimensionCache;
use crate::{
    noted::NotedKeys,
    resident::Resident,
    row::{Image, Key},
    sync::Ordering,
    timeline::{AddedColumns, Timeline},
};
use tidemark_proto::Position;

impl<R: Resident, W: Clone> DimensionCache<R, W> {
    /// All rows were removed at `at`, in a time that does not depend on how many
    /// they were. `applied` must move past `at` only after this returns.
    pub fn truncate(&self, at: Position) {
        let mut heart = self.heart.lock();
        heart.timeline.truncate(at);
        self.cut_to(&heart.timeline);
        self.tier.clear(Some(at));
    }

    /// Rows written before lack columns.
    pub fn add_columns(&self, added: AddedColumns) {
        let mut heart = self.heart.lock();
        heart.timeline.add_columns(added);
        self.cut_to(&heart.timeline);
    }

    /// Nothing is known of `(from, to]`. What is resident keeps its newest
    /// version; call it after the store has what was found at `to`.
    pub fn add_unknown(&self, from: Position, to: Position) {
        let mut heart = self.heart.lock();
        heart.timeline.add_unknown(from, to);
        self.cut_to(&heart.timeline);
    }

    /// Versions replaced before `floor` may be gone from the store.
    pub fn raise_floor(&self, floor: Position) {
        let mut heart = self.heart.lock();
        heart.timeline.raise_floor(floor);
        self.cut_to(&heart.timeline);
    }

    /// Takes what the writer, or another replica, knows of the past. What a
    /// truncation removed is hidden from here on, as what is not resident is.
    /// While changes are passed over nothing is taken: what is known elsewhere
    /// does not make this memory whole.
    ///
    /// False, and nothing is taken, when it tells of what comes after `applied`,
    /// loaded before the call: rows that a truncation to come will have removed
    /// would be hidden too early, and changes before it taken for old ones. Tell
    /// it again later.
    pub fn adopt(&self, timeline: &Timeline, applied: Position) -> bool {
        if timeline.latest() > applied {
            return false;
        }
        let mut heart = self.heart.lock();
        if !heart.suspended {
            heart.timeline.merge(timeline);
            self.cut_to(&heart.timeline);
        }
        true
    }

    /// Changes from `at` on cannot be followed: nothing after it is answered,
    /// and they are passed over until [`Self::resume`] or
    /// [`Self::track_repair`]. `applied` must move past `at` only after this
    /// returns.
    pub fn lose(&self, at: Position) {
        let mut heart = self.heart.lock();
        heart.timeline.lose(at);
        heart.suspended = true;
        self.cut_to(&heart.timeline);
    }

    /// After which position nothing is known.
    pub fn lost(&self) -> Option<Position> {
        if self.cut.load(Ordering::Acquire) == Position::MAX.packed() {
            return self.heart.lock().timeline.lost();
        }
        None
    }

    /// Whether a transaction's rows are to be applied; if not, it is passed
    /// over.
    pub fn takes(&self, version: Position) -> bool {
        // Lost by another than the feed right now: then the transaction came before.
        if self.cut.load(Ordering::Acquire) != Position::MAX.packed() {
            return true;
        }
        let mut heart = self.heart.lock();
        let lost = heart.timeline.lost().unwrap_or(Position::MAX);
        let passed = heart.suspended && version >= lost;
        if passed {
            heart.last = heart.last.max(version);
        }
        !passed
    }

    /// Changes from `applied` on, loaded before the call, are taken again; what
    /// was lost stays so until [`Self::regain`]. False, and nothing changes, when
    /// a transaction past `applied` was passed over already.
    pub fn resume(&self, applied: Position) -> bool {
        let mut heart = self.heart.lock();
        let resumes = heart.last < applied;
        heart.suspended &= !resumes;
        resumes
    }

    /// The store, and whatever is resident, has all since `at`, from where on
    /// changes are taken again. `timeline` is what the store knows of the past.
    pub fn regain(&self, at: Position, timeline: &Timeline) {
        let mut heart = self.heart.lock();
        heart.timeline.regain(at);
        heart.timeline.merge(timeline);
        self.cut_to(&heart.timeline);
    }

    /// Begins to note which keys change, for a load or repair of the table.
    pub fn track_changes(&self) {
        let mut heart = self.heart.lock();
        let version = heart.timeline.floor().before();
        heart.noted = Some(NotedKeys::new(version));
    }

    /// The same for a repair that stands at `applied`, loaded before the call:
    /// every change from there on is noted, and the image before each key's
    /// first one is kept for [`Self::take_before`]. False, and nothing is noted,
    /// when a transaction past `applied` is in memory already, or when keys are
    /// noted for another. What is noted is bounded by `bytes_max`.
    pub fn track_repair(&self, applied: Position, bytes_max: usize) -> bool {
        let mut heart = self.heart.lock();
        let stands = heart.last < applied && heart.noted.is_none();
        if stands {
            heart.noted = Some(NotedKeys::of_repair(applied.before(), bytes_max));
            heart.suspended = false;
        }
        stands
    }

    /// Images before the first changes since [`Self::track_repair`] that were
    /// not taken before. `None` when more changed than was noted: then every key
    /// counts as changed, and the repair is no use.
    pub fn take_before(&self) -> Option<Vec<(Key, Image)>> {
        self.heart.lock().noted.as_mut().map_or(Some(Vec::new()), NotedKeys::take_before)
    }

    /// Ends the notes.
    pub fn stop_tracking(&self) {
        self.heart.lock().noted = None;
    }

    /// Whether the key has changed since [`Self::track_changes`].
    pub fn has_changed(&self, key: &Key) -> bool {
        self.heart.lock().noted.as_ref().is_some_and(|keys| keys.contains(key))
    }

    /// Bytes of the keys noted since [`Self::track_changes`].
    pub fn noted_bytes(&self) -> usize {
        self.heart.lock().noted.as_ref().map_or(0, NotedKeys::bytes)
    }

    /// Before rows are removed: a reader that misses one must see this.
    pub(super) fn cut_to(&self, timeline: &Timeline) {
        self.cut.store(timeline.cut().packed(), Ordering::Release);
        self.settled.store(timeline.settled().packed(), Ordering::Release);
        self.floor.store(timeline.floor().packed(), Ordering::Release);
    }
}
