//! Loads: what memory misses is read from the tiers beneath, once for all who
//! ask.
//!
//! ```text
//!  misses of a call ─► begin_load ─┬─ lead ─► one batch: shared tier → store → source
//!                                  │                │ finish: memory has it
//!                                  └─ join ◄────────┘ Outcome: everyone waiting has it
//! ```
//!
//! A batch runs as a task of its own: it survives the caller who began it. A
//! batch that fails tells all who wait, and is not remembered.

mod outcome;

pub use outcome::Waiter;

use outcome::Outcome;

use crate::{
    cache::{Load, LoadStart, Loaded, Tier},
    dimension::{Image, Key},
    fallback::{Fallback, FallbackError},
    live::LiveDimension,
    metrics::Metrics,
    shared::{Session, SharedTier},
    store::{ReadKey, StoreError, StorePool},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_heart::shared::SharedRead;
use tidemark_proto::{Position, config::Deleted};
use tokio_util::task::TaskTracker;

/// Reads what memory misses. Clones share everything.
#[derive(Clone, Debug)]
pub struct Loader {
    pub store: StorePool,
    pub shared: SharedTier,
    pub fallback: Fallback,
    pub metrics: Arc<Metrics>,
    /// The most that one batch may take; half of it is the store's where the
    /// source may be asked after it.
    pub timeout: Duration,
    pub tasks: TaskTracker,
}

/// Why a batch failed, for all who waited.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(Arc<StoreError>),
    #[error(transparent)]
    Source(Arc<FallbackError>),
    /// The store failed, and so did the source that was asked instead.
    #[error("{store}; nor from the source: {source}")]
    Both { store: Arc<StoreError>, source: Arc<FallbackError> },
    /// Its task ended without an outcome.
    #[error("the load was given up")]
    GivenUp,
}

/// A key of a call that begins to be loaded.
#[derive(Debug)]
pub enum Begun {
    /// Memory holds the newest version after all.
    Known(crate::cache::Found),
    /// Somebody reads it.
    Awaited(Waiter),
}

/// The keys of one call that it is the first to ask for.
#[derive(Debug, Default)]
pub struct Batch {
    // Dropped before the outcome: who is told of a failure and asks again reads
    // again.
    loads: Vec<Load>,
    outcome: Outcome,
    /// What is read takes the place of what is resident.
    anew: bool,
}

impl Batch {
    /// Begins to load a key, or joins who does.
    pub fn begin(&mut self, live: &LiveDimension, key: &Key) -> Begun {
        let slot = self.loads.len();
        let waiter = || self.outcome.waiter(slot);
        let start =
            if self.anew { live.cache.begin_reload(key, waiter) } else { live.cache.begin_load(key, waiter) };
        match start {
            LoadStart::Known(found) => Begun::Known(found),
            LoadStart::Joined(waiter) => Begun::Awaited(waiter),
            LoadStart::Lead(load) => {
                self.loads.push(load);
                Begun::Awaited(self.outcome.waiter(slot))
            }
        }
    }
}

impl Loader {
    /// Starts the reads of a batch.
    pub fn start(&self, live: &Arc<LiveDimension>, batch: Batch) {
        if !batch.loads.is_empty() {
            let (loader, live) = (self.clone(), Arc::clone(live));
            self.tasks.spawn(async move { loader.run(&live, batch).await });
        }
    }

    /// Reads keys anew, resident or not, and waits for it: what is read takes
    /// the place of what memory holds.
    ///
    /// # Errors
    /// When the batch failed; then memory is as it was.
    pub async fn reload(&self, live: &Arc<LiveDimension>, keys: &[Key]) -> Result<(), LoadError> {
        let mut batch = Batch { anew: true, ..Batch::default() };
        let begun: Vec<_> = keys.iter().map(|key| batch.begin(live, key)).collect();
        self.start(live, batch);
        for begun in begun {
            if let Begun::Awaited(waiter) = begun {
                waiter.wait().await?;
            }
        }
        Ok(())
    }

    async fn run(&self, live: &LiveDimension, batch: Batch) {
        let Batch { loads, outcome, anew } = batch;
        let deadline = Instant::now() + self.timeout;
        let keys: Vec<Key> = loads.iter().map(|load| load.key().clone()).collect();
        match self.read(live, &keys, deadline).await {
            Ok(read) => {
                let found = loads.into_iter().zip(read.loaded.iter().cloned());
                let finish = if anew { Load::finish_by_force } else { Load::finish };
                outcome.set(Ok(found.map(|(load, loaded)| finish(load, loaded)).collect()));
                if let Some(lease) = read.lease {
                    self.fill(live, &keys, &read.loaded, lease).await;
                }
            }
            Err(error) => {
                drop(loads);
                outcome.set(Err(error));
            }
        }
    }

    async fn read(&self, live: &LiveDimension, keys: &[Key], deadline: Instant) -> Result<Read, LoadError> {
        if live.dimension.lazy {
            let loaded = self.read_source(live, keys, deadline).await;
            return Ok(Read { loaded: loaded.map_err(LoadError::Source)?, lease: None });
        }
        let (mut loaded, lease) = self.read_shared(live, keys).await;
        let missing: Vec<usize> =
            loaded.iter().enumerate().filter(|(_, loaded)| loaded.is_none()).map(|(at, _)| at).collect();
        let wanted: Vec<Key> = missing.iter().filter_map(|at| keys.get(*at).cloned()).collect();
        if !wanted.is_empty() {
            let read = self.read_truth(live, &wanted, deadline).await?;
            for (at, read) in missing.into_iter().zip(read) {
                if let Some(place) = loaded.get_mut(at) {
                    *place = Some(read);
                }
            }
        }
        let complete: Option<Vec<Loaded>> = loaded.into_iter().collect();
        let loaded = complete.ok_or(LoadError::GivenUp)?;
        Ok(Read { loaded, lease })
    }

    /// What the shared tier has, and the right to fill what it has not. It is
    /// asked after the loads were registered: its generation is then one that
    /// has all that the overlay has forgotten.
    async fn read_shared(&self, live: &LiveDimension, keys: &[Key]) -> (Vec<Option<Loaded>>, Option<Lease>) {
        let nothing = vec![None; keys.len()];
        if !live.dimension.shared {
            return (nothing, None);
        }
        let Some(session) = self.shared.usable() else { return (nothing, None) };
        let token = session.new_token();
        let Ok(reads) = session.read_or_lease(&live.dimension.sink_table, keys, token).await else {
            return (nothing, None);
        };
        let leased = reads.iter().map(|read| matches!(read, SharedRead::Leased)).collect();
        let loaded = reads.into_iter().map(|read| {
            let version = match read {
                SharedRead::Hit { version, image } => Some((version, image)),
                SharedRead::Absent => None,
                SharedRead::Leased | SharedRead::Busy => return None,
            };
            Some(Loaded { version, tier: Tier::Shared })
        });
        (loaded.collect(), Some(Lease { session, token, leased }))
    }

    /// The store; while it is not reached, the source.
    async fn read_truth(
        &self,
        live: &LiveDimension,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<Vec<Loaded>, LoadError> {
        let reads = keys.iter().map(|key| ReadKey { key: key.clone(), before: Position::MAX });
        let started = Instant::now();
        let table = Arc::clone(&live.dimension.sink_table);
        let store_timeout = if self.fallback.is_allowed() { self.timeout / 2 } else { self.timeout };
        match self.store.within(store_timeout).read(table, reads.collect()).await {
            Ok(stored) => {
                self.metrics.store_read_seconds.observe(started.elapsed().as_secs_f64());
                let loaded = |stored: Option<crate::store::StoredRow>| Loaded {
                    version: stored.map(|row| (row.version, row.image)),
                    tier: Tier::Store,
                };
                Ok(stored.into_iter().map(loaded).collect())
            }
            Err(error) => {
                self.metrics.store_errors.inc();
                let store = Arc::new(error);
                if !store.is_retryable() || !self.fallback.is_allowed() {
                    return Err(LoadError::Store(store));
                }
                match self.read_source(live, keys, deadline).await {
                    Err(source) => Err(LoadError::Both { store, source }),
                    // Nor does it tell what a deleted row was.
                    Ok(read) if live.dimension.deleted == Deleted::Mark && read.iter().any(is_gone) => {
                        Err(LoadError::Store(store))
                    }
                    Ok(read) => Ok(read),
                }
            }
        }
    }

    /// Rows as the source has them: valid from `low` on, whenever they were
    /// written. Changes since reached the loads, and win.
    async fn read_source(
        &self,
        live: &LiveDimension,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<Vec<Loaded>, Arc<FallbackError>> {
        let read = self.fallback.read(live, keys, deadline).await.map_err(Arc::new)?;
        let below = read.low.before();
        let loaded = |image: Image| Loaded { version: Some((below, image)), tier: Tier::Source };
        Ok(read.rows.into_iter().map(loaded).collect())
    }

    /// Fills what the store gave into the shared tier, where the lease stands.
    async fn fill(&self, live: &LiveDimension, keys: &[Key], loaded: &[Loaded], lease: Lease) {
        let leased = keys.iter().zip(loaded).zip(&lease.leased);
        // What the source gave has no version of its own.
        let from_store = leased.filter(|((_, loaded), leased)| **leased && loaded.tier == Tier::Store);
        let rows: Vec<_> =
            from_store.map(|((key, loaded), _)| (key.clone(), loaded.version.clone())).collect();
        if !rows.is_empty() {
            // A failure is counted by the tier; the row stays out of it.
            drop(lease.session.fill(&live.dimension.sink_table, &rows, lease.token).await);
        }
    }
}

fn is_gone(loaded: &Loaded) -> bool {
    loaded.version.as_ref().is_none_or(|(_, image)| image.is_none())
}

/// What a batch read.
struct Read {
    loaded: Vec<Loaded>,
    lease: Option<Lease>,
}

/// The right to fill some keys of a batch into the shared tier.
struct Lease {
    session: Session,
    token: u64,
    /// For each key of the batch.
    leased: Vec<bool>,
}
