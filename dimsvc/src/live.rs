//! The dimensions of a running service, and what all parts share of them.

mod schema;

pub use schema::Loss;

use crate::{
    audit::RecentKeys,
    cache::{DimensionCache, Keeps, ResidentTier, Timeline},
    clock::{Freshness, Watermark},
    gtids::RecentGtids,
    prune,
    registry::Dimension,
    ring::Ring,
    role::Role,
    state::DimensionState,
};
use parking_lot::Mutex;
use schema::Schema;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tidemark_proto::Position;
use tokio::sync::watch;

/// Why a replica reads a dimension anew.
pub(crate) const REPAIRED: &str = "the writer has repaired it";

/// A dimension that is served: its definition, its memory, how far it is.
#[derive(Debug)]
pub struct LiveDimension {
    pub dimension: Dimension,
    pub cache: Arc<DimensionCache>,
    /// Rows that the first load has written so far.
    pub snapshot_rows: AtomicU64,
    /// Whether the store has all rows of the first load.
    loaded: watch::Sender<bool>,
    complete: AtomicBool,
    withdrawn: AtomicBool,
    schema: Schema,
}

impl LiveDimension {
    /// A dimension whose history begins at `floor`. It answers nothing yet.
    pub fn new(dimension: Dimension, floor: Position) -> Self {
        Self::with_timeline(dimension, Timeline::new(floor))
    }

    /// A dimension whose past is known. It answers nothing yet.
    pub fn with_timeline(dimension: Dimension, timeline: Timeline) -> Self {
        let new = if dimension.refresh_ahead { ResidentTier::refreshing } else { ResidentTier::new };
        let tier = new(dimension.tier, timeline.floor());
        let keeps = if dimension.lazy { Keeps::Nothing } else { Keeps::Versions };
        let schema = Schema::new(&dimension.columns, &timeline);
        let cache = Arc::new(DimensionCache::new(tier, timeline, keeps));
        Self {
            schema,
            dimension,
            cache,
            snapshot_rows: AtomicU64::new(0),
            loaded: watch::Sender::new(false),
            complete: AtomicBool::new(false),
            withdrawn: AtomicBool::new(false),
        }
    }

    /// Takes up what the writer has put into the dimension's cell. False when it
    /// tells of what comes after `applied`: then it has to be told again later.
    pub fn learn(&self, stored: &DimensionState, applied: Position) -> bool {
        self.snapshot_rows.store(stored.loaded_rows, Ordering::Relaxed);
        let adopts = stored.timeline.latest() <= applied;
        let repaired = new_hole(&self.cache.timeline(), &stored.timeline).filter(|_| adopts);
        let answers = || self.is_complete() || self.loss().is_some();
        let lost = repaired.filter(|_| answers()).is_some_and(|(from, _)| {
            // What is resident may be what was found wrong: before its intervals
            // reach past the repair. What is being mended begins anew.
            self.lose(from, REPAIRED);
            true
        });
        let adopted = self.cache.adopt(&stored.timeline, applied);
        // It was made resident just now; see `fill`.
        if let Some((from, _)) = repaired.filter(|_| !lost && answers()) {
            self.lose(from, REPAIRED);
        }
        if let Some(lost) = stored.timeline.lost().filter(|_| adopted && self.loss().is_none()) {
            self.lose(lost, "the writer does not know its table any more");
        }
        if stored.complete {
            self.set_loaded();
        }
        adopted
    }

    /// A hole in what is known that was not there at `known`.
    pub fn holes_since(&self, known: &Timeline) -> Option<(Position, Position)> {
        new_hole(known, &self.cache.timeline())
    }

    /// The store has all rows of the first load.
    pub fn set_loaded(&self) {
        self.loaded.send_if_modified(|loaded| !std::mem::replace(loaded, true));
    }

    /// Whether the store has all rows of the first load.
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Waits until the store has all rows of the first load.
    ///
    /// # Cancel safety
    /// Holds no state: may be dropped at any time.
    pub async fn loaded(&self) {
        let mut loaded = self.loaded.subscribe();
        // The sender is in `self`: it cannot be gone.
        drop(loaded.wait_for(|loaded| *loaded).await);
    }

    /// The writer follows its changes no more: nothing is answered from here
    /// on. A lookup that reads the store must look at [`Self::has_history`]
    /// again after the read: what memory held may have been let go meanwhile.
    pub fn withdraw(&self) -> bool {
        !self.withdrawn.swap(true, Ordering::AcqRel)
    }

    /// Whether every row is known: only then is a missing row an absent one.
    pub fn is_complete(&self) -> bool {
        self.has_history() && self.cache.lost().is_none()
    }

    /// Whether every row is known up to where it is lost, if it is.
    pub fn has_history(&self) -> bool {
        self.complete.load(Ordering::Acquire) && !self.withdrawn.load(Ordering::Acquire)
    }

    /// From here on lookups are answered.
    pub fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }
}

/// What this process has mended by itself reaches further.
fn new_hole(known: &Timeline, told: &Timeline) -> Option<(Position, Position)> {
    let covers = |(from, to), (begin, end)| from <= begin && end <= to;
    told.unknown().find(|range| !known.unknown().any(|own| covers(own, *range)))
}

/// What the two flows of the program share: lookups read it, the feed moves it.
#[derive(Debug)]
pub struct Live {
    dimensions: BTreeMap<Arc<str>, Arc<LiveDimension>>,
    pub applied: Watermark,
    pub durable: Watermark,
    /// What was applied lately, for watchers.
    pub ring: Ring,
    /// What was changed lately, for the audit.
    pub recent: RecentKeys,
    /// When this replica had all that the source had.
    pub freshness: Freshness,
    /// When a standby last read the cells of the store: what they say of history
    /// may have changed since.
    pub observed: Freshness,
    pub gtids: RecentGtids,
    pub feed: FeedHealth,
    pub role: Role,
    pub epoch: u64,
    pub server_uuid: String,
    pub store_id: String,
}

/// Whether the binlog is followed, and why not.
#[derive(Debug, Default)]
pub struct FeedHealth {
    following: AtomicBool,
    error: Mutex<Option<String>>,
}

impl FeedHealth {
    /// The stream delivers.
    pub fn follow(&self) {
        if !self.following.swap(true, Ordering::AcqRel) {
            *self.error.lock() = None;
        }
    }

    /// The stream is lost.
    pub fn lose(&self, why: &str) {
        *self.error.lock() = Some(why.to_owned());
        self.following.store(false, Ordering::Release);
    }

    /// Whether the binlog is followed at this moment.
    pub fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// Why it is not.
    pub fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }
}

/// Who the service is and where it begins.
#[derive(Clone, Debug)]
pub struct Identity {
    pub start: Position,
    pub epoch: u64,
    pub server_uuid: String,
    pub store_id: String,
}

impl Live {
    /// Dimensions that follow the binlog from `identity.start` on.
    pub fn new(dimensions: Vec<Arc<LiveDimension>>, identity: Identity, gtids: RecentGtids) -> Self {
        Self {
            dimensions: dimensions.into_iter().map(|live| (Arc::clone(&live.dimension.name), live)).collect(),
            applied: Watermark::new(identity.start),
            durable: Watermark::new(identity.start),
            ring: Ring::new(identity.start, 0),
            recent: RecentKeys::default(),
            freshness: Freshness::default(),
            observed: Freshness::default(),
            gtids,
            feed: FeedHealth::default(),
            role: Role::default(),
            epoch: identity.epoch,
            server_uuid: identity.server_uuid,
            store_id: identity.store_id,
        }
    }

    /// The same, keeping `bytes_max` of applied transactions for watchers.
    pub fn keeping(mut self, bytes_max: usize) -> Self {
        self.ring = Ring::new(self.applied.get(), bytes_max);
        self
    }

    /// The same, keeping a sample of at most `keys_max` changed keys.
    pub fn sampling(mut self, keys_max: usize) -> Self {
        self.recent = RecentKeys::new(keys_max);
        self
    }

    /// Whether it is known how far back a dimension's versions are kept: the
    /// writer decides it, a standby must have heard of it lately.
    pub fn knows_floor(&self, live: &LiveDimension) -> bool {
        let prunes = live.dimension.history.is_some() || live.dimension.deleted_after.is_some();
        !prunes || self.role.is_writer() || self.observed.age() < prune::GRACE / 2
    }

    /// A dimension by name.
    pub fn dimension(&self, name: &str) -> Option<&Arc<LiveDimension>> {
        self.dimensions.get(name)
    }

    /// Every dimension, in the order of names.
    pub fn dimensions(&self) -> impl Iterator<Item = &Arc<LiveDimension>> {
        self.dimensions.values()
    }

    /// Whether lookups of every dimension are answered from a followed binlog. One
    /// that is lost does not hold up the others.
    pub fn is_serving(&self) -> bool {
        self.feed.is_following() && self.dimensions().all(|live| live.has_history())
    }
}
