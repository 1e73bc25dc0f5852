//! The writer: makes applied changes durable, behind the feed.
//!
//! Takes what apply queued, writes it to the store in batches, and only then
//! moves `durable` and lets the overlays forget. The checkpoint follows: what
//! it covers is durable before it is written. A store that is down is retried
//! for as long as the process lives; the feed then waits for room.

use crate::{
    apply::Pending,
    dimension::TableRows,
    live::Live,
    metrics::Metrics,
    state::{Checkpoint, StateCell, StateError},
    store::{StoreError, StorePool},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::{BinlogPlace, GtidError, GtidSet};
use tidemark_proto::Position;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Events written in one batch.
const BATCH_EVENTS_MAX: usize = 512;
/// Rows written in one batch, beyond the last event's.
const BATCH_ROWS_MAX: usize = 4_096;
/// A checkpoint is written at most this often: a restart repeats what came
/// after the last one.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Writes behind the feed.
#[derive(Debug)]
pub struct Writer {
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub store: StorePool,
    pub state: Arc<Mutex<StateCell>>,
    /// What the binlog files are called before their number.
    pub file_base: String,
    /// GTIDs up to the last batch written.
    pub gtids: GtidSet,
}

/// Why the writer stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    #[error("cannot write rows: {0}")]
    Store(#[from] StoreError),
    #[error("cannot write the checkpoint: {0}")]
    State(#[from] StateError),
    #[error("the feed named {0}")]
    Gtid(#[from] GtidError),
}

impl Writer {
    /// Runs until the queue is closed and empty, or the store refuses. After
    /// `stop` a store that is down is given up: a restart repeats the rest.
    ///
    /// # Errors
    /// When the store refuses a write that no retry will mend.
    pub async fn run(
        mut self,
        mut queue: mpsc::Receiver<Pending>,
        stop: CancellationToken,
    ) -> Result<(), WriterError> {
        let mut batch = Vec::with_capacity(BATCH_EVENTS_MAX);
        let mut checkpointed = Instant::now();
        loop {
            batch.clear();
            if take_batch(&mut queue, &mut batch).await == 0 {
                break;
            }
            let Some(end) = batch.last().map(|pending: &Pending| pending.end) else { break };
            let rows: Vec<TableRows> = batch.iter_mut().flat_map(|pending| pending.rows.drain(..)).collect();
            if !self.write(rows, &stop).await? {
                return Ok(());
            }
            self.live.durable.advance(end);
            for live in self.live.dimensions() {
                live.cache.forget(end);
            }
            for gtid in batch.iter().filter_map(|pending| pending.gtid.as_ref()) {
                self.gtids.add(gtid)?;
            }
            if checkpointed.elapsed() >= CHECKPOINT_EVERY {
                self.checkpoint(end).await?;
                checkpointed = Instant::now();
            }
        }
        let end = self.live.durable.get();
        self.checkpoint(end).await?;
        info!(position = %end, "writer drained, checkpoint written");
        Ok(())
    }

    /// False when it was told to stop before the store took the rows.
    async fn write(&self, rows: Vec<TableRows>, stop: &CancellationToken) -> Result<bool, WriterError> {
        if rows.iter().all(|table| table.rows.is_empty()) {
            return Ok(true);
        }
        let mut pause = RETRY_FIRST;
        loop {
            let started = Instant::now();
            match self.store.write(rows.clone()).await {
                Ok(()) => {
                    self.metrics.store_write_seconds.observe(started.elapsed().as_secs_f64());
                    return Ok(true);
                }
                Err(error) if error.is_retryable() => {
                    self.metrics.store_errors.inc();
                    warn!(%error, "store write failed, will be retried");
                }
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
                () = stop.cancelled() => return Ok(false),
            }
        }
    }

    async fn checkpoint(&self, end: Position) -> Result<(), WriterError> {
        let place = BinlogPlace::new(&self.file_base, end);
        let gtid_set = self.gtids.to_string();
        let mut cell = self.state.lock().await;
        let written = cell
            .change(|state| {
                state.checkpoint = Checkpoint { file: place.file, offset: place.offset, gtid_set }
            })
            .await;
        match written {
            Err(StateError::Store(error)) if error.is_retryable() => {
                warn!(%error, "checkpoint not written, the next one will carry it");
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

/// Waits for one event, then takes what else is there, up to the bounds.
async fn take_batch(queue: &mut mpsc::Receiver<Pending>, batch: &mut Vec<Pending>) -> usize {
    let Some(first) = queue.recv().await else { return 0 };
    let mut rows = count_rows(&first);
    batch.push(first);
    while batch.len() < BATCH_EVENTS_MAX && rows < BATCH_ROWS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        rows += count_rows(&next);
        batch.push(next);
    }
    batch.len()
}

fn count_rows(pending: &Pending) -> usize {
    pending.rows.iter().map(|table| table.rows.len()).sum()
}
