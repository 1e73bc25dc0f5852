//! The role of a standby: keeps what the feed gave until the writer has
//! published it as durable, and takes over when it gets the lease.

use super::{AfterStore, Next, RETRY_FIRST, Running, WriterError};
use crate::state::{State, StateCells, StateError};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// How often the hot cell is read: what overlays hold longer than the writer's.
const OBSERVE_EVERY: Duration = Duration::from_millis(200);
/// A read of a cell that takes longer has failed.
const OBSERVE_DEADLINE: Duration = Duration::from_secs(1);

impl<A: AfterStore> Running<A> {
    /// Stands by until it is the writer or the feed has ended.
    pub(super) async fn stand_by(&mut self) -> Result<Next, WriterError> {
        let mut observe = interval(OBSERVE_EVERY);
        observe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.intake.ended {
            tokio::select! {
                changed = self.parts.lease.changed() => changed?,
                received = self.intake.receive() => {
                    received?;
                    continue;
                }
                _ = observe.tick() => {}
            }
            let fits = self.observe().await?;
            if fits && self.parts.lease.is_held() && self.take_over().await? {
                return Ok(Next::Write);
            }
        }
        Ok(Next::End)
    }

    /// Reads who writes and up to where all is durable. True when this process
    /// may take over from what it read.
    ///
    /// While the cell cannot be read nothing is let go: the overlays fill, and
    /// applying then waits.
    async fn observe(&mut self) -> Result<bool, WriterError> {
        let (asked, store) = (Instant::now(), self.parts.store.within(OBSERVE_DEADLINE));
        let read = async {
            let state = StateCells::peek(&store).await?;
            let mut news = Vec::new();
            for (name, mark) in &state.dimensions {
                let known = self.parts.live.dimension(name).is_some() && !mark.retired;
                if known && self.revisions.get(name) != Some(&mark.revision) {
                    news.push((name.clone(), StateCells::peek_dimension(&store, name).await?));
                }
            }
            Ok::<_, StateError>((state, news))
        };
        let (state, news) = match self.intake.meanwhile(read).await {
            Ok(read) => read,
            Err(error) if error.is_retryable() => {
                self.parts.metrics.store_errors.inc();
                if !std::mem::replace(&mut self.blind, true) {
                    warn!(%error, "cannot read what is durable: nothing is let go meanwhile");
                }
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        if std::mem::take(&mut self.blind) {
            info!("what is durable can be read again");
        }
        self.parts.live.observed.heard(asked);
        let mut ahead = BTreeSet::new();
        for (name, stored) in &news {
            if let Some(live) = self.parts.live.dimension(name) {
                // Versions that this process still reads by may be pruned, also
                // while it cannot take up what else the cell tells.
                let applied = self.parts.live.applied.get();
                if stored.floor() <= applied {
                    live.cache.raise_floor(stored.floor());
                } else if live.is_complete() && live.withdraw() {
                    warn!(dimension = %name, "far behind history's floor: it is not answered here any more");
                }
                if !live.learn(stored, self.parts.live.applied.get()) {
                    ahead.insert(name.as_str());
                }
            }
        }
        // Another process may have finished the first load since.
        let all_loaded = self.stored_dimensions().all(|live| live.is_loaded());
        self.untracked &= !all_loaded;
        let learned = state.dimensions.iter().filter(|(name, _)| !ahead.contains(name.as_str()));
        self.revisions = learned.map(|(name, mark)| (name.clone(), mark.revision)).collect();
        self.parts.live.role.learn(&state.writer, state.term);
        self.withdraw_unfollowed(&state);
        // Readers must know of a new generation before the versions that the
        // shared tier may lack are let go.
        self.parts.shared.publish(&state.shared);
        self.release(state.durable());
        // A writer learns no more from the cells.
        let fits = self.may_lead(&state) && ahead.is_empty();
        self.parts.lease.want(fits);
        Ok(fits)
    }

    /// `durable` does not speak of a dimension that the writer does not follow.
    fn withdraw_unfollowed(&self, state: &State) {
        for live in self.stored_dimensions() {
            let name = live.dimension.name.as_ref();
            let followed = state.dimensions.get(name).is_some_and(|mark| !mark.retired);
            if !followed && live.withdraw() {
                warn!(dimension = name, "no longer followed by the writer: it is not answered here any more");
            }
        }
    }

    /// Whether what this process follows is what the store needs a writer for.
    /// Another set of dimensions is for a process that starts with it: were a
    /// running one to take over, changes of a dimension that it does not know
    /// would be lost.
    fn may_lead(&mut self, state: &State) -> bool {
        let own: BTreeSet<_> = self.stored_dimensions().map(|live| live.dimension.name.to_string()).collect();
        let followed: BTreeSet<_> = state.followed().map(str::to_owned).collect();
        let differs = own != followed;
        if differs && !std::mem::replace(&mut self.differs, true) {
            warn!(
                not_here = ?followed.difference(&own).collect::<Vec<_>>(),
                here_alone = ?own.difference(&followed).collect::<Vec<_>>(),
                "the writer follows other dimensions: this process does not take over; restart it with the \
                 same dimensions.toml"
            );
        }
        self.differs = differs;
        let live = &self.parts.live;
        let same_source = state.epoch == live.epoch && state.server_uuid == live.server_uuid;
        !differs && !self.untracked && same_source && live.feed.error().is_none()
    }

    fn stored_dimensions(&self) -> impl Iterator<Item = &Arc<crate::live::LiveDimension>> {
        self.parts.live.dimensions().filter(|live| !live.dimension.lazy)
    }

    /// Becomes the writer; false when the lease went first or what the store
    /// holds cannot be carried on from here.
    async fn take_over(&mut self) -> Result<bool, WriterError> {
        let mut pause = RETRY_FIRST;
        loop {
            let (cells, name) = (&self.parts.cells, &self.parts.name);
            let take = async { cells.lock().await.take_over(name).await };
            match self.intake.meanwhile(take).await {
                Ok(()) => break,
                Err(error) if error.is_retryable() || matches!(error, StateError::Moved) => {
                    self.parts.metrics.store_errors.inc();
                    warn!(%error, "cannot take over yet, will try again");
                }
                Err(error) => return Err(error.into()),
            }
            if !self.pause(&mut pause).await? {
                return Ok(false);
            }
        }
        if let Some(name) = self.untracked().await {
            warn!(dimension = name, "its first load began before this process did: does not take over");
            self.untracked = true;
            self.step_down("a first load cannot be carried on here").await;
            return Ok(false);
        }
        let (cells, live) = (&self.parts.cells, &self.parts.live);
        let learn = async {
            let cells = cells.lock().await;
            let (applied, mut learned) = (live.applied.get(), true);
            for live in live.dimensions().filter(|live| !live.dimension.lazy) {
                if let Some(stored) = cells.dimension(&live.dimension.name) {
                    learned &= live.learn(stored, applied);
                }
            }
            (cells.state().term, cells.state().shared.clone(), learned)
        };
        let (term, shared, learned) = self.intake.meanwhile(learn).await;
        if !learned {
            self.step_down("what the last writer knew is not applied here yet").await;
            return Ok(false);
        }
        // The last writer may have raised the generation, or finished a load,
        // since the cells were observed: rows must go to the generation that
        // readers use, and no load is done twice.
        self.parts.shared.publish(&shared);
        self.parts.live.role.take_over(&self.parts.name, term);
        self.parts.metrics.role_changes.inc();
        info!(term, held = self.intake.backlog.len(), "became the writer");
        Ok(true)
    }

    /// A dimension whose first load is not finished, and whose changes were not
    /// all noted here since it began.
    async fn untracked(&mut self) -> Option<String> {
        let (cells, live) = (&self.parts.cells, &self.parts.live);
        let cells = self.intake.meanwhile(cells.lock()).await;
        let tracked = |name: &str| {
            let live = live.dimension(name);
            live.zip(cells.dimension(name)).is_some_and(|(live, stored)| {
                stored.complete || (!live.is_loaded() && live.cache.floor() == stored.floor())
            })
        };
        cells.state().followed().find(|name| !tracked(name)).map(str::to_owned)
    }
}
