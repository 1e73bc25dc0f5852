//! The first load of a dimension, lock-free, while the binlog is followed.
//!
//! The load stands at S, the history floor: its rows are of version S - 1. A
//! chunk is read, then the binlog's end after the read is waited for; a row
//! whose key changed since S is dropped, because the stream has its versions
//! and wrote the image before the first of them at S - 1. So every key is exact
//! from S on, whenever its chunk was read (DBLog's watermarks, Netflix 2019,
//! without its locks and marker rows).

use super::chunk::{ReadError, TableReader};
use crate::{
    dimension::{TableRows, VersionedRow},
    live::{Live, LiveDimension},
    metrics::Metrics,
    state::{DimensionState, StateCells, StateError},
    store::{StoreError, StorePool},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tidemark_binlog::{Row, Source, SourceError};
use tidemark_proto::{Position, PositionError};
use tokio::sync::Mutex;
use tracing::{info, warn};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often a load says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How long a chunk waits for the feed before it is read again.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Loads dimensions.
#[derive(Debug)]
pub struct Snapshot {
    pub source: Source,
    pub live: Arc<Live>,
    pub store: StorePool,
    pub cells: Arc<Mutex<StateCells>>,
    pub metrics: Arc<Metrics>,
    pub chunk_rows: usize,
    pub query_timeout: Duration,
}

/// Why a first load cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the feed does not reach the chunk's watermark {0}")]
    Behind(Position),
    #[error(transparent)]
    Position(#[from] PositionError),
}

impl SnapshotError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Read(error) => error.is_retryable(),
            Self::Source(error) => error.is_retryable(),
            Self::Store(error) | Self::State(StateError::Store(error)) => error.is_retryable(),
            Self::Behind(_) => true,
            Self::State(_) | Self::Position(_) => false,
        }
    }
}

impl Snapshot {
    /// Loads one dimension to its end, from where an earlier run left it. What
    /// passes by itself is retried with backoff.
    ///
    /// # Errors
    /// When the rows cannot be kept exactly, or the store refuses.
    pub async fn load(&self, live: &Arc<LiveDimension>) -> Result<(), SnapshotError> {
        let name = &live.dimension.name;
        let started = Instant::now();
        let (loaded, mut after) = self.progress(name).await;
        live.snapshot_rows.store(loaded, Ordering::Relaxed);
        info!(dimension = %name, floor = %live.cache.floor(), rows = loaded, "first load begins");
        let mut pause = RETRY_FIRST;
        while let Err(error) = self.load_chunks(live, &mut after).await {
            if self.is_lost(live, &error).await {
                warn!(dimension = %name, %error, "the table was changed during its first load, it will be mended");
                break;
            }
            if !error.is_retryable() {
                return Err(error);
            }
            warn!(dimension = %name, %error, "first load interrupted, will go on");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        // The images that the stream wrote below the floor must be in the
        // store before anyone may call a missing row absent.
        let applied = self.live.applied.get();
        while !self.live.durable.reached(applied, Instant::now() + CATCH_UP).await {
            warn!(dimension = %name, durable = %self.live.durable.get(), "first load waits for the store");
        }
        let rows = live.snapshot_rows.load(Ordering::Relaxed);
        let mut cells = self.cells.lock().await;
        cells
            .change_dimension(name, |dimension| {
                dimension.complete = true;
                dimension.loaded_to = None;
                dimension.loaded_rows = rows;
            })
            .await?;
        cells.announce(name).await?;
        drop(cells);
        // Not before: a process that is no longer the writer goes on noting.
        live.cache.stop_tracking();
        info!(dimension = %name, rows, seconds = started.elapsed().as_secs_f64(), "first load complete");
        Ok(())
    }

    async fn progress(&self, name: &str) -> (u64, Option<Vec<String>>) {
        let cells = self.cells.lock().await;
        let dimension = cells.dimension(name);
        dimension.map_or((0, None), |d| (d.loaded_rows, d.loaded_to.clone()))
    }

    /// Whether the table is another one than the load began with: the binlog
    /// says so, perhaps a little later.
    async fn is_lost(&self, live: &LiveDimension, error: &SnapshotError) -> bool {
        if !error.is_retryable()
            && let Err(error) = self.catch_up().await
        {
            warn!(dimension = %live.dimension.name, %error, "cannot tell whether the table was changed");
        }
        live.loss().is_some()
    }

    async fn load_chunks(
        &self,
        live: &LiveDimension,
        after: &mut Option<Vec<String>>,
    ) -> Result<(), SnapshotError> {
        let version = live.cache.floor().before();
        let reader = TableReader::open(&self.source, live, (version, self.query_timeout)).await?;
        let mut conn = self.source.connect().await?;
        let mut told = Instant::now();
        loop {
            if live.loss().is_some() {
                // Whatever was loaded is compared when it is mended.
                return Ok(());
            }
            let rows = reader.page(&mut conn, after.as_deref(), self.chunk_rows).await?;
            // Also after a read that found nothing: what was deleted since S was
            // there at S.
            self.catch_up().await?;
            let Some(last) = rows.last() else { return Ok(()) };
            let next = reader.place_of(last);
            let count = rows.len();
            self.keep_chunk(&reader, live, &rows).await?;
            let loaded = live.snapshot_rows.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
            self.metrics.snapshot_rows.inc_by(count as u64);
            after.clone_from(&Some(next));
            let name = &live.dimension.name;
            let progress = |dimension: &mut DimensionState| {
                dimension.loaded_to.clone_from(after);
                dimension.loaded_rows = loaded;
            };
            self.cells.lock().await.change_dimension(name, progress).await?;
            if told.elapsed() >= PROGRESS_EVERY {
                let about = live.dimension.rows_estimate;
                info!(dimension = %name, rows = loaded, about, "first load goes on");
                told = Instant::now();
            }
            if count < self.chunk_rows {
                return Ok(());
            }
        }
    }

    /// Waits until all that a SELECT before this call may have seen is applied.
    async fn catch_up(&self) -> Result<(), SnapshotError> {
        let high = self.source.binlog_end().await?.position(self.live.epoch)?;
        if self.live.applied.reached(high, Instant::now() + CATCH_UP).await {
            return Ok(());
        }
        Err(SnapshotError::Behind(high))
    }

    /// Drops what changed since S, writes the rest.
    async fn keep_chunk(
        &self,
        reader: &TableReader,
        live: &LiveDimension,
        rows: &[Row],
    ) -> Result<(), SnapshotError> {
        let version = live.cache.floor().before();
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            let Some((key, image)) = reader.keyed(&live.dimension, row)? else { continue };
            if !live.cache.has_changed(&key) {
                kept.push(VersionedRow { key, version, image: Some(image) });
            }
        }
        let table = Arc::clone(&live.dimension.sink_table);
        Ok(self.store.write(vec![TableRows { table, rows: kept }]).await?)
    }
}
