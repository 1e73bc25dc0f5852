//! The depth of history: removes versions that nobody may ask for any more.
//!
//! Only the writer does it, slowly: first it raises the dimension's floor past
//! all that will go, in the store's state, so that every replica learns it;
//! then it waits until nobody reads by an older floor; then it walks the table
//! and removes, of each key, what lies below the version that answers at the
//! floor. With `deleted = "remove"` that version goes too where it is an old
//! delete: above the floor the key is absent either way.

mod marks;
mod progress;
#[cfg(test)]
mod tests;

use crate::{
    dimension::VersionedRow,
    live::{Live, LiveDimension},
    metrics::Metrics,
    state::{StateCells, StateError},
    store::{PruneKey, ReadKey, StoreError, StorePool},
};
use progress::{Pass, Progress};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tidemark_proto::Position;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const ROUND_EVERY: Duration = Duration::from_secs(300);
/// Longer than a replica takes to learn of a floor and a lookup that began
/// before may still read the store: removing earlier would answer "absent".
pub const GRACE: Duration = Duration::from_secs(60);
/// Keys of one page.
const PAGE_KEYS: usize = 1_024;
/// After each page, as many times its own time.
const REST_SHARE: u32 = 4;
const REST_MIN: Duration = Duration::from_millis(5);
/// How often a walk notes its place, in pages.
const SAVE_EVERY_PAGES: usize = 64;

/// Prunes while this process is the writer.
#[derive(Debug)]
pub struct Pruner {
    pub live: Arc<Live>,
    pub store: StorePool,
    pub cells: Arc<Mutex<StateCells>>,
    pub metrics: Arc<Metrics>,
    /// [`GRACE`], but for tests.
    pub grace: Duration,
}

/// Why a round ended early; the next one goes on where it ended.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("another process writes the store")]
    NotWriter,
}

impl Pruner {
    /// Prunes now and then until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let prune = async {
            loop {
                tokio::time::sleep(ROUND_EVERY).await;
                if !self.live.role.is_writer() {
                    continue;
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                if let Err(error) = self.round(now.as_secs()).await {
                    self.metrics.prune.failed.inc();
                    warn!(%error, "pruning was interrupted, goes on later");
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = prune => {}
        }
    }

    /// Notes where the source stands at `now`, in seconds since 1970, and prunes
    /// each dimension that is due.
    ///
    /// # Errors
    /// When the store fails or another process is the writer.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the next round goes on.
    pub async fn round(&self, now: u64) -> Result<(), PruneError> {
        let mut progress = Progress::load(&self.store).await?;
        progress.content.marks.note(now, self.live.durable.get());
        let stored = self.live.dimensions().filter(|live| live.is_complete() && !live.dimension.lazy);
        let mut due = Vec::new();
        for live in stored {
            if let Some(pass) = progress.due(&live.dimension, now) {
                self.raise_floor(live, pass.floor()).await?;
                progress.content.passes.insert(live.dimension.name.to_string(), pass.clone());
                due.push((live, pass));
            }
        }
        self.save(&mut progress).await?;
        if !due.is_empty() {
            tokio::time::sleep(self.grace).await;
        }
        for (live, pass) in due {
            self.walk(live, pass, &mut progress).await?;
        }
        Ok(())
    }

    /// Every replica takes the floor from the dimension's cell; this one has it
    /// at once.
    async fn raise_floor(&self, live: &LiveDimension, floor: Position) -> Result<(), PruneError> {
        let name = &live.dimension.name;
        let mut cells = self.cells.lock().await;
        if cells.dimension(name).is_none_or(|known| known.floor() < floor) {
            cells.change_dimension(name, |known| known.timeline.raise_floor(floor)).await?;
            cells.announce(name).await?;
            info!(dimension = %name, %floor, "history before the floor goes");
        }
        live.cache.raise_floor(floor);
        Ok(())
    }

    async fn walk(
        &self,
        live: &LiveDimension,
        mut pass: Pass,
        progress: &mut Progress,
    ) -> Result<(), PruneError> {
        let (name, table) = (&live.dimension.name, &live.dimension.sink_table);
        let mut pages = 0;
        while !pass.done {
            if !self.live.role.is_writer() {
                return Err(PruneError::NotWriter);
            }
            let began = Instant::now();
            let page = self.store.scan(Arc::clone(table), pass.cursor(), pass.floor(), PAGE_KEYS).await?;
            self.metrics.prune.scanned.inc_by(page.rows.len() as u64);
            let doomed = self.doomed(live, page.rows, &pass).await?;
            self.metrics.prune.pruned.inc_by(doomed.len() as u64);
            if !doomed.is_empty() {
                self.store.prune(Arc::clone(table), doomed).await?;
            }
            pass.done = page.next.is_none();
            pass.after = page.next.map(|cursor| cursor.0);
            pages += 1;
            if pass.done || pages % SAVE_EVERY_PAGES == 0 {
                progress.content.passes.insert(name.to_string(), pass.clone());
                self.save(progress).await?;
            }
            tokio::time::sleep((began.elapsed() * REST_SHARE).max(REST_MIN)).await;
        }
        Ok(())
    }

    /// What goes of keys whose greatest versions below the floor these rows
    /// are.
    async fn doomed(
        &self,
        live: &LiveDimension,
        rows: Vec<VersionedRow>,
        pass: &Pass,
    ) -> Result<Vec<PruneKey>, StoreError> {
        let emptied = live.cache.timeline().truncated().filter(|at| *at < pass.removed()).last();
        let is_removed = |row: &VersionedRow| {
            let deleted = row.image.is_none() && row.version < pass.removed();
            deleted || emptied.is_some_and(|at| row.version < at)
        };
        let (removed, kept): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_removed);
        let mut doomed: Vec<_> =
            removed.into_iter().map(|row| PruneKey { key: row.key, through: row.version }).collect();
        if live.dimension.history.is_some() && !kept.is_empty() {
            // A mark that removes nothing costs a store more than this read.
            let older =
                kept.iter().map(|row| ReadKey { key: row.key.clone(), before: row.version }).collect();
            let older = self.store.read(Arc::clone(&live.dimension.sink_table), older).await?;
            let replaced = kept.into_iter().zip(older).filter(|(_, older)| older.is_some());
            doomed.extend(replaced.map(|(row, _)| PruneKey { key: row.key, through: row.version.before() }));
        }
        Ok(doomed)
    }

    async fn save(&self, progress: &mut Progress) -> Result<(), PruneError> {
        if progress.save().await? { Ok(()) } else { Err(PruneError::NotWriter) }
    }
}
