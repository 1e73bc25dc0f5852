//! Brings back dimensions whose table was changed in a way that the binlog does
//! not tell row by row: columns that went, DROP and CREATE, RENAME, partitions.
//!
//! Until then they answer up to the statement, and their changes are passed
//! over. The writer asks the source what the table is now and compares it with
//! the store while it is followed again ([`Repair`]). A standby waits until the
//! writer knows the table, then follows again from where it is, and reads from
//! the store what it passed over. A lazy dimension only forgets.

use super::{
    fill::fill,
    repair::{Order, Repair, RepairError},
};
use crate::{
    cache::Timeline,
    live::{LiveDimension, Loss},
    registry::{Dimension, DimensionColumn, ResolveError, resolve},
    state::{StateCells, StateError},
    store::StoreError,
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_proto::config::{Config, Dimensions};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it looks whether there is something to mend.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long changes may take to get applied and durable.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Mends dimensions, one after the other.
#[derive(Debug)]
pub struct Mender {
    pub repair: Arc<Repair>,
    pub config: Config,
    pub dimensions: Dimensions,
}

/// Why a dimension is not mended yet. It is tried again in any case.
#[derive(Debug, thiserror::Error)]
enum MendError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{0}; load it anew under another section name with its own `sink_table`")]
    OtherKey(String),
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Waits(&'static str),
}

/// When a dimension is tried again, and how long it waits after that.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Mender {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.look() => {}
        }
    }

    async fn look(&self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retries = HashMap::<Arc<str>, Retry>::new();
        loop {
            tick.tick().await;
            for live in self.repair.live.dimensions().filter(|live| live.has_history()) {
                let name = &live.dimension.name;
                let Some(loss) = live.loss() else {
                    retries.remove(name);
                    continue;
                };
                if retries.get(name).is_some_and(|retry| Instant::now() < retry.at) {
                    continue;
                }
                if let Err(error) = self.mend(live, &loss).await {
                    let pause = retries.get(name).map_or(RETRY_FIRST, |retry| retry.pause);
                    warn!(dimension = %name, %error, ?pause, "not mended yet, will be tried again");
                    live.note_obstacle(&error.to_string());
                    let (at, pause) = (Instant::now() + pause, (pause * 2).min(RETRY_MAX));
                    retries.insert(Arc::clone(name), Retry { at, pause });
                }
            }
        }
    }

    async fn mend(&self, live: &Arc<LiveDimension>, loss: &Loss) -> Result<(), MendError> {
        // What an earlier try has followed was read by the columns of its time.
        live.cache.lose(loss.at);
        if live.dimension.lazy {
            live.set_columns(self.columns_now(live).await?);
            self.follow_again(live).await?;
            live.cache.invalidate_all();
            return self.regain(live, loss, &live.cache.timeline());
        }
        if !self.repair.live.role.is_writer() {
            return self.rejoin(live, loss).await;
        }
        live.set_columns(self.columns_now(live).await?);
        // Nobody looks at its progress.
        let (progress, _told) = mpsc::channel(1);
        let order = Order { since: Some(loss.at), mends: Some(loss.clone()), progress };
        self.repair.table(live, &order).await?;
        info!(dimension = %live.dimension.name, since = %loss.at, "its table is known again");
        Ok(())
    }

    /// On a standby: once the writer knows the table again.
    async fn rejoin(&self, live: &Arc<LiveDimension>, loss: &Loss) -> Result<(), MendError> {
        const WAITS: MendError = MendError::Waits("the writer does not know the table again yet");
        let shared = &self.repair.live;
        // Durable past the statement: then the cell tells of it.
        if shared.durable.get() <= loss.last {
            return Err(WAITS);
        }
        let stored = StateCells::peek_dimension(&self.repair.store, &live.dimension.name).await?;
        let is_ahead = stored.timeline.latest() > shared.applied.get();
        if stored.timeline.lost().is_some() || !stored.complete || is_ahead {
            return Err(WAITS);
        }
        live.set_columns(stored.definition.columns.as_slice().into());
        self.follow_again(live).await?;
        // What was passed over is below.
        let from = shared.applied.get();
        if !shared.durable.reached(from, Instant::now() + CATCH_UP).await {
            return Err(MendError::Waits("the writer is behind"));
        }
        live.cache.invalidate_all();
        fill(live, &self.repair.store, &shared.applied).await?;
        self.regain(live, loss, &stored.timeline)
    }

    /// Takes changes again, from `applied` on.
    async fn follow_again(&self, live: &LiveDimension) -> Result<(), MendError> {
        let shared = &self.repair.live;
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let applied = shared.applied.get();
            if live.cache.resume(applied) {
                return Ok(());
            }
            if !shared.applied.moved_past(applied, deadline).await {
                return Err(MendError::Waits("the binlog is not followed"));
            }
        }
    }

    /// `past` is what is known of it elsewhere.
    fn regain(&self, live: &LiveDimension, loss: &Loss, past: &Timeline) -> Result<(), MendError> {
        let shared = &self.repair.live;
        let at = shared.applied.get();
        if !live.regain(loss, at, past) {
            return Err(MendError::Waits("the table was changed meanwhile"));
        }
        shared.ring.restart(shared.applied.get());
        info!(dimension = %live.dimension.name, %at, "its table is followed again");
        Ok(())
    }

    /// The dimension's columns as its table has them now: those that it had keep
    /// their order, so that rows that are the same stay the same.
    async fn columns_now(&self, live: &LiveDimension) -> Result<Arc<[DimensionColumn]>, MendError> {
        let now = self.resolve(live).await?;
        let key = |dimension: &Dimension| dimension.key_names().map(str::to_lowercase).collect::<Vec<_>>();
        if key(&now) != key(&live.dimension) {
            return Err(MendError::OtherKey(String::from("its key is another one")));
        }
        let mut columns = now.columns;
        live.dimension.clone().with_columns(&columns).map_err(MendError::OtherKey)?;
        let known = live.columns();
        let place = |column: &DimensionColumn| known.iter().position(|known| known.name == column.name);
        columns.sort_by_key(|column| place(column).unwrap_or(usize::MAX));
        Ok(columns.into())
    }

    async fn resolve(&self, live: &LiveDimension) -> Result<Dimension, MendError> {
        let name = live.dimension.name.as_ref();
        let section = live.dimension.index_of.as_ref().map_or(name, |index| index.table.as_ref());
        let wanted = self.dimensions.get_key_value(section);
        let wanted = wanted.map(|(name, config)| (name.clone(), config.clone())).into_iter().collect();
        let resolved = resolve(&self.repair.source, &self.config, &wanted).await?;
        let found = resolved.into_iter().find(|dimension| dimension.name == live.dimension.name);
        found.ok_or(MendError::Waits("it is not configured any more"))
    }
}
