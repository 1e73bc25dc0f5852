//! The role of the writer: rows to the store, then `durable` to its hot cell.

use super::{AfterStore, Next, RETRY_FIRST, Running, SharedUpdate, WriterError, backlog::Batch};
use crate::{
    apply::UNIT,
    dimension::TableRows,
    state::{Checkpoint, DimensionState, SharedState, State, StateError},
};
use std::time::{Duration, Instant};
use tidemark_binlog::{BinlogPlace, GtidSet};
use tidemark_proto::Position;
use tracing::{info, warn};

/// Rows written in one batch, beyond the last event's; fewer after a failure,
/// so that a slow store is not asked for more than it gives in time.
pub(super) const BATCH_ROWS_MAX: usize = 4_096;
/// `durable` is published at most this often: it is a write of the store beside
/// those of rows.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// A checkpoint is written at most this often: a restart repeats what came
/// after the last one.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
/// How often the writer looks whether it should be.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A writer without a feed makes nothing durable, so that all replicas fill
/// their overlays: after so long another one may do better.
const FEED_LOST_MAX: Duration = Duration::from_secs(10);
const REPLACED: &str = "another process has become the writer";

/// What one try left to do.
enum Step {
    Done,
    Idle,
    Lost(&'static str),
    Stopped,
}

impl<A: AfterStore> Running<A> {
    /// Writes until the feed has ended or the role is lost.
    pub(super) async fn write_behind(&mut self) -> Result<Next, WriterError> {
        let mut feed_lost = None;
        loop {
            if !self.parts.lease.is_held() {
                return Ok(self.step_down("the lease is gone").await);
            }
            if self.feed_is_lost(&mut feed_lost) {
                return Ok(self.step_down("its feed is lost").await);
            }
            let mut step = self.write_batch().await?;
            if matches!(step, Step::Done | Step::Idle) && self.publish_is_due(Instant::now()) {
                let published = self.publish().await?;
                step = if matches!(published, Step::Done) { step } else { published };
            }
            match step {
                Step::Done => {}
                Step::Lost(why) => return Ok(self.step_down(why).await),
                Step::Stopped => return Ok(Next::End),
                Step::Idle if self.intake.ended => return self.finish().await,
                Step::Idle => {
                    self.wait().await?;
                    self.look_at_shared().await;
                }
            }
        }
    }

    /// Waits for events, the time to publish, or a change of the lease.
    async fn wait(&mut self) -> Result<(), WriterError> {
        let publish = self.intake.backlog.written_end().is_some();
        let due = if publish { self.published + PUBLISH_EVERY } else { Instant::now() + LOOK_EVERY };
        tokio::select! {
            biased; // a writer without the lease must not write
            changed = self.parts.lease.changed() => changed?,
            () = tokio::time::sleep_until(due.into()) => {}
            received = self.intake.receive() => received?,
        }
        Ok(())
    }

    /// Writes the next rows, then what changed of the past of dimensions;
    /// retries for as long as it has the lease.
    async fn write_batch(&mut self) -> Result<Step, WriterError> {
        let Some(mut batch) = self.intake.backlog.next_batch(self.batch_rows) else { return Ok(Step::Idle) };
        let mut pause = RETRY_FIRST;
        while let Err(error) = self.try_write(&batch).await {
            match error {
                WriterError::State(StateError::Moved) => return Ok(Step::Lost(REPLACED)),
                WriterError::Store(error) | WriterError::State(StateError::Store(error))
                    if error.is_retryable() =>
                {
                    self.parts.metrics.store_errors.inc();
                    warn!(%error, rows = self.batch_rows, "store write failed, will be retried");
                }
                error => return Err(error),
            }
            if !self.pause(&mut pause).await? {
                return Ok(self.given_up());
            }
            self.batch_rows = (self.batch_rows / 2).max(1);
            batch = self.intake.backlog.next_batch(self.batch_rows).unwrap_or(batch);
        }
        self.batch_rows = (self.batch_rows * 2).min(BATCH_ROWS_MAX);
        self.update_shared(&batch.rows).await;
        self.intake.backlog.note_written(batch.entries);
        Ok(Step::Done)
    }

    async fn try_write(&mut self, batch: &Batch) -> Result<(), WriterError> {
        if !batch.rows.is_empty() {
            let started = Instant::now();
            let write = self.parts.store.write(batch.rows.clone());
            self.intake.meanwhile(write).await?;
            self.parts.metrics.store_write_seconds.observe(started.elapsed().as_secs_f64());
        }
        let cells = &self.parts.cells;
        for live in batch.timelines.iter().filter(|live| !live.dimension.lazy) {
            let write = async {
                let (name, (known, columns)) = (&live.dimension.name, live.past());
                let mut cells = cells.lock().await;
                let note = |stored: &mut DimensionState| {
                    stored.timeline.merge(&known);
                    stored.definition.columns = columns.to_vec();
                };
                cells.change_dimension(name, note).await?;
                cells.announce(name).await
            };
            self.intake.meanwhile(write).await?;
        }
        Ok(())
    }

    fn given_up(&self) -> Step {
        if self.stop.is_cancelled() { Step::Stopped } else { Step::Lost("the lease is gone") }
    }

    async fn update_shared(&mut self, rows: &[TableRows]) {
        let update = self.parts.shared.update(rows);
        let update = self.intake.meanwhile(update).await;
        self.update = both(&self.update, update);
    }

    /// Without changes nobody would learn that the shared tier is in another
    /// life, and it would stay unused until the next one.
    async fn look_at_shared(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let update = self.parts.shared.update(&[]);
        let update = self.intake.meanwhile(update).await;
        let cells = &self.parts.cells;
        let published =
            self.intake.meanwhile(async { cells.lock().await.state().shared.run_id.clone() }).await;
        if matches!(&update, SharedUpdate::Taken { run_id, .. } if *run_id != published) {
            self.update = both(&self.update, update);
            self.shared_moved = true;
        }
    }

    fn publish_is_due(&self, now: Instant) -> bool {
        let backlog = &self.intake.backlog;
        let crowded = backlog.units() * UNIT * 2 >= self.parts.overlay_bytes_max;
        let news = backlog.written_end().is_some() || self.shared_moved;
        news && (crowded || now >= self.published + PUBLISH_EVERY)
    }

    /// Publishes all that is written as durable, then lets it go. After the
    /// last event the checkpoint follows in any case.
    async fn publish(&mut self) -> Result<Step, WriterError> {
        let written = self.intake.backlog.written_end();
        let end = written.unwrap_or_else(|| self.parts.live.durable.get());
        let due = self.intake.ended || self.checkpointed.elapsed() >= CHECKPOINT_EVERY;
        let checkpoint = due.then(|| {
            let mut gtids = self.parts.gtids.clone();
            self.intake.backlog.written_gtids().for_each(|set| gtids.add_set(set));
            checkpoint_at(&self.parts.file_base, end, &gtids)
        });
        let mut pause = RETRY_FIRST;
        loop {
            let (cells, update) = (&self.parts.cells, &mut self.update);
            let write = async {
                let mut cells = cells.lock().await;
                let written = cells.change(|state| note(state, end, checkpoint.as_ref(), update)).await;
                written.map(|()| cells.state().shared.clone())
            };
            match self.intake.meanwhile(write).await {
                Ok(shared) => {
                    self.parts.shared.publish(&shared);
                    break;
                }
                Err(StateError::Moved) => return Ok(Step::Lost(REPLACED)),
                Err(error) if error.is_retryable() => {
                    self.parts.metrics.store_errors.inc();
                    warn!(%error, "durable not published, will be retried");
                }
                Err(error) => return Err(error.into()),
            }
            if !self.pause(&mut pause).await? {
                return Ok(self.given_up());
            }
        }
        let now = Instant::now();
        self.published = now;
        if due {
            self.checkpointed = now;
        }
        self.update = SharedUpdate::Unused;
        self.shared_moved = false;
        self.release(end);
        Ok(Step::Done)
    }

    /// The feed has ended: publishes the rest.
    async fn finish(&mut self) -> Result<Next, WriterError> {
        match self.publish().await? {
            Step::Lost(why) => Ok(self.step_down(why).await),
            Step::Stopped => Ok(Next::End),
            Step::Done | Step::Idle => {
                info!(position = %self.parts.live.durable.get(), "writer drained, checkpoint written");
                Ok(Next::End)
            }
        }
    }

    fn feed_is_lost(&self, since: &mut Option<Instant>) -> bool {
        if self.parts.live.feed.error().is_none() {
            *since = None;
            return false;
        }
        since.get_or_insert_with(Instant::now).elapsed() >= FEED_LOST_MAX
    }
}

fn checkpoint_at(file_base: &str, end: Position, gtids: &GtidSet) -> Checkpoint {
    let place = BinlogPlace::new(file_base, end);
    Checkpoint { file: place.file, offset: place.offset, gtid_set: gtids.to_string() }
}

/// Neither durable nor the checkpoint moves back: a process that follows from
/// the floor of a first load writes again what an earlier one wrote. Doing this
/// twice does no more than once.
fn note(state: &mut State, end: Position, checkpoint: Option<&Checkpoint>, update: &mut SharedUpdate) {
    if end.packed() >= state.durable {
        state.durable = end.packed();
        if let Some(checkpoint) = checkpoint {
            state.checkpoint.clone_from(checkpoint);
        }
    }
    note_shared(&mut state.shared, update);
}

/// A reader may use the tier only in the generation, and in the life of the
/// server, that has taken every update. After a failure nobody uses it until it
/// takes updates again, and then none of its rows.
///
/// The generation may have been raised elsewhere since: what an older one has
/// taken, the raised one lacks.
fn note_shared(shared: &mut SharedState, update: &mut SharedUpdate) {
    match update {
        SharedUpdate::Unused => {}
        SharedUpdate::Taken { generation, run_id } => {
            if (*generation, &*run_id) != (shared.generation, &shared.run_id) {
                shared.generation += 1;
                run_id.clone_into(&mut shared.run_id);
                // Told again, for a write that failed, it changes nothing.
                *generation = shared.generation;
            }
        }
        SharedUpdate::Failed if shared.run_id.is_empty() => {}
        SharedUpdate::Failed => {
            shared.generation += 1;
            shared.run_id.clear();
        }
    }
}

/// Two updates as one: in two lives of the server, or two generations, the rows
/// of the first may be lost. An update without rows that nobody took misses
/// nothing.
pub(super) fn both(first: &SharedUpdate, second: SharedUpdate) -> SharedUpdate {
    match (first, second) {
        (SharedUpdate::Unused, second) => second,
        (first, SharedUpdate::Unused) => first.clone(),
        (first, second) if *first == second => second,
        _ => SharedUpdate::Failed,
    }
}
