//! The writer: makes applied changes durable, behind the feed, in one process
//! at a time.
//!
//! Its order is: rows durable in the store, then the shared tier updated, then
//! `durable` published in the store's hot cell, and only then do overlays
//! forget. The processes that do not hold the lease stand by: they keep what
//! the feed gave them until the cell says that it is durable, and write it if
//! they take over. Nobody forgets what was not published.

mod backlog;
mod behind;
mod standby;
#[cfg(test)]
mod tests;

use crate::{
    apply::Pending,
    dimension::TableRows,
    lease::{KeeperGone, Lease},
    live::Live,
    metrics::Metrics,
    state::{SharedState, StateCells, StateError},
    store::{StoreError, StorePool},
};
use backlog::Intake;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::{GtidError, GtidSet};
use tidemark_proto::Position;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What follows the store: the tier that replicas share.
pub trait AfterStore: Send + Sync + 'static {
    /// Brings rows that are durable now to the tier. Called without rows too,
    /// to ask whether it is what it was. Must end soon, whatever the tier does.
    fn update(&self, rows: &[TableRows]) -> impl Future<Output = SharedUpdate> + Send;

    /// What readers of the tier must hold it against from now on.
    fn publish(&self, shared: &SharedState);
}

/// What became of an update of the shared tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedUpdate {
    /// There is no such tier.
    Unused,
    /// All rows were taken, in this life of the server.
    Taken { generation: u64, run_id: String },
    /// Not all rows were taken.
    Failed,
}

/// Writes behind the feed, or stands by.
#[derive(Debug)]
pub struct Writer<A> {
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub store: StorePool,
    pub cells: Arc<Mutex<StateCells>>,
    pub lease: Lease,
    pub shared: A,
    /// This process, as other replicas will know it.
    pub name: Arc<str>,
    /// What the binlog files are called before their number.
    pub file_base: String,
    /// GTIDs up to where the feed begins.
    pub gtids: GtidSet,
    /// How many bytes overlays may hold.
    pub overlay_bytes_max: usize,
}

/// Why the writer stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    #[error("cannot write rows: {0}")]
    Store(#[from] StoreError),
    #[error("cannot read or write the store's state: {0}")]
    State(#[from] StateError),
    #[error("the feed named {0}")]
    Gtid(#[from] GtidError),
    #[error(transparent)]
    Lease(#[from] KeeperGone),
}

/// What a process does next.
enum Next {
    Write,
    StandBy,
    /// The feed has ended and all is done, or given up.
    End,
}

/// A running writer: what it was made of, and where it is.
struct Running<A> {
    parts: Writer<A>,
    intake: Intake,
    stop: CancellationToken,
    published: Instant,
    checkpointed: Instant,
    /// Rows of the next batch.
    batch_rows: usize,
    /// What became of the updates since the last publish.
    update: SharedUpdate,
    /// When the shared tier was last looked at without changes to bring.
    looked: Instant,
    /// It was found in another life than the published one.
    shared_moved: bool,
    /// Revisions of the dimensions' cells that were read.
    revisions: BTreeMap<String, u64>,
    /// The store's cells could not be read the last time.
    blind: bool,
    /// The writer follows other dimensions than this process.
    differs: bool,
    /// A first load is under way whose changes were not all noted here.
    untracked: bool,
}

impl<A: AfterStore> Writer<A> {
    /// Runs until the queue is closed and what it held is published, or the
    /// store refuses. After `stop` a store that is down is given up: a restart
    /// repeats the rest.
    ///
    /// # Errors
    /// When the store refuses what no retry will mend.
    pub async fn run(
        self,
        queue: mpsc::Receiver<Pending>,
        stop: CancellationToken,
    ) -> Result<(), WriterError> {
        let state = self.cells.lock().await.state().clone();
        self.shared.publish(&state.shared);
        let mut next = if self.live.role.is_writer() { Next::Write } else { Next::StandBy };
        let mut running = Running {
            parts: self,
            intake: Intake::new(queue),
            stop,
            published: Instant::now(),
            checkpointed: Instant::now(),
            batch_rows: behind::BATCH_ROWS_MAX,
            update: SharedUpdate::Unused,
            looked: Instant::now(),
            shared_moved: false,
            revisions: state.dimensions.into_iter().map(|(name, mark)| (name, mark.revision)).collect(),
            blind: false,
            differs: false,
            untracked: false,
        };
        loop {
            next = match next {
                Next::Write => running.write_behind().await?,
                Next::StandBy => running.stand_by().await?,
                Next::End => break,
            };
        }
        // Whoever stands by need not wait for the session to be missed.
        running.parts.lease.release().await;
        Ok(())
    }
}

impl<A: AfterStore> Running<A> {
    /// Lets go of what is durable up to a position, and published as such.
    fn release(&mut self, durable: Position) {
        let mut rooms = Vec::new();
        while let Some(entry) = self.intake.backlog.pop_until(durable) {
            self.parts.gtids.add_set(&entry.gtids);
            rooms.extend(entry.room);
        }
        // The last entry may end later than this: without rows it grows.
        let live = &self.parts.live;
        let durable = durable.min(live.applied.get());
        if durable > live.durable.get() {
            live.durable.advance(durable);
            live.dimensions().for_each(|live| live.cache.forget(durable));
        }
        // Only now is there room again.
        drop(rooms);
    }

    /// Waits before a retry while the feed goes on; false when told to stop or
    /// the lease is gone.
    async fn pause(&mut self, pause: &mut Duration) -> Result<bool, WriterError> {
        let lease = &mut self.parts.lease;
        tokio::select! {
            () = self.intake.meanwhile(tokio::time::sleep(*pause)) => *pause = (*pause * 2).min(RETRY_MAX),
            () = self.stop.cancelled() => return Ok(false),
            changed = lease.changed() => changed?,
        }
        Ok(self.parts.lease.is_held())
    }

    /// Writes no more: the lock is given back, the cells are left alone.
    async fn step_down(&mut self, why: &str) -> Next {
        let role = &self.parts.live.role;
        if role.is_writer() {
            warn!(why, term = role.standing().term, "stands by, no longer the writer");
            self.parts.metrics.role_changes.inc();
            role.step_down();
        } else {
            warn!(why, "does not take over");
        }
        let cells = Arc::clone(&self.parts.cells);
        self.intake.meanwhile(async { cells.lock().await.step_down() }).await;
        let lease = &mut self.parts.lease;
        self.intake.meanwhile(lease.release()).await;
        Next::StandBy
    }
}
