//! One repair from its begin to its end: where it stands, and what it found.

use super::{Order, Repair, RepairError};
use crate::{
    cache::{DimensionCache, Peek},
    change::chunk::{ReadError, TableReader},
    dimension::{Image, Key, TableRows, VersionedRow},
    live::{LiveDimension, Loss},
    state::{DimensionState, StateError},
    store::ReadKey,
};
use hashbrown::{HashMap, HashSet};
use mysql_async::Conn;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::Row;
use tidemark_proto::{Position, dim::v1::RepairProgress};
use tracing::{debug, info};

/// How long a chunk waits for feed or store.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long a repair waits for the transaction at work and for another repair
/// of the dimension.
const BEGIN: Duration = Duration::from_secs(5);
/// How long the engine may take to show what was applied.
const VISIBLE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);
const CHANGED: &str = "the table was changed meanwhile";

pub(super) struct Run<'r> {
    repair: &'r Repair,
    live: &'r LiveDimension,
    order: &'r Order,
    /// S2.
    at: Position,
    noting: Noting<'r>,
    reader: TableReader,
    conn: Conn,
    /// The keys to compare; all when not set.
    only: Option<HashSet<Key>>,
    found: RepairProgress,
}

/// The feed notes changed keys until this is dropped.
struct Noting<'c>(&'c DimensionCache);

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.0.stop_tracking();
    }
}

/// What a key held at S2 as the source tells.
struct Observed {
    key: Key,
    image: Image,
    /// It changed since; this was its image before.
    changed: bool,
}

impl<'r> Run<'r> {
    pub(super) async fn begin(
        repair: &'r Repair,
        live: &'r LiveDimension,
        order: &'r Order,
    ) -> Result<Self, RepairError> {
        if live.dimension.lazy {
            return Err(RepairError::Refused("a lazy dimension keeps nothing; invalidate it"));
        }
        if !live.is_loaded() {
            return Err(RepairError::Refused("the first load is not finished"));
        }
        if !repair.live.role.is_writer() {
            return Err(RepairError::NotWriter);
        }
        if live.loss().is_some() && order.mends.is_none() {
            return Err(RepairError::Refused("the table was changed, and is compared by itself; see Status"));
        }
        let (at, noting) = stand(repair, live).await?;
        // All below S2 must be in the store that is compared, and visible to
        // the SELECTs that it is compared with.
        if !repair.live.durable.reached(at, Instant::now() + CATCH_UP).await {
            return Err(RepairError::Behind(at));
        }
        let seen = repair.live.gtids.seen();
        repair.source.wait_visible(&seen, VISIBLE).await.map_err(ReadError::from)?;
        let reader = TableReader::open(&repair.source, live, (at.before(), repair.query_timeout)).await?;
        let conn = repair.source.connect().await.map_err(ReadError::from)?;
        let estimate = live.dimension.rows_estimate;
        let found = RepairProgress { at: at.packed(), estimate, ..RepairProgress::default() };
        info!(dimension = %live.dimension.name, %at, "repair begins");
        Ok(Self { repair, live, order, at, noting, reader, conn, only: None, found })
    }

    /// The same, of some keys alone.
    pub(super) fn of(mut self, keys: &[Key]) -> Self {
        self.found.estimate = keys.len() as u64;
        self.only = Some(keys.iter().cloned().collect());
        self
    }

    /// Compares every row of the source.
    pub(super) async fn compare_source(&mut self) -> Result<(), RepairError> {
        let limit = self.repair.chunk_rows;
        let mut after = None;
        loop {
            let rows = self.reader.page(&mut self.conn, after.as_deref(), limit).await?;
            after = rows.last().map(|row| self.reader.place_of(row));
            let images = self.images(&rows)?;
            let observed = images.into_iter().map(|(key, image)| Observed { key, image, changed: false });
            self.settle(observed.collect()).await?;
            if rows.len() < limit {
                return Ok(());
            }
        }
    }

    /// Compares every key of the store that has a row: what the source does not
    /// have is gone.
    pub(super) async fn compare_store(&mut self) -> Result<(), RepairError> {
        let mut from = None;
        loop {
            let table = Arc::clone(&self.live.dimension.sink_table);
            let page = self.repair.store.scan(table, from, self.at, self.repair.chunk_rows).await?;
            let has_row = |row: VersionedRow| {
                let held = Some((row.version, row.image));
                self.held_by_store(&row.key, held).is_some().then_some(row.key)
            };
            let keys: Vec<Key> = page.rows.into_iter().filter_map(has_row).collect();
            self.compare_keys(&keys).await?;
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Compares keys, whether or not the source has them.
    pub(super) async fn compare_keys(&mut self, keys: &[Key]) -> Result<(), RepairError> {
        let rows = self.reader.rows_of(&mut self.conn, keys).await?;
        let mut images = self.images(&rows)?;
        let observed = keys.iter().map(|key| {
            let image = images.remove(key).flatten();
            Observed { key: key.clone(), image, changed: false }
        });
        self.settle(observed.collect()).await
    }

    /// Ends the repair: what changed meanwhile is compared too, and history is
    /// marked where it was wrong.
    pub(super) async fn end(mut self) -> Result<RepairProgress, RepairError> {
        self.settle(Vec::new()).await?;
        let differed = self.found.written + self.found.deleted > 0;
        match &self.order.mends {
            Some(loss) => self.regain(loss).await?,
            None if differed => self.mark_unknown().await?,
            None => {}
        }
        let Self { live, at, mut found, .. } = self;
        found.done = true;
        info!(
            dimension = %live.dimension.name, %at, compared = found.compared, written = found.written,
            deleted = found.deleted, "repair complete"
        );
        Ok(found)
    }

    async fn mark_unknown(&self) -> Result<(), RepairError> {
        let (repair, live, at) = (self.repair, self.live, self.at);
        let since = self.order.since.unwrap_or_else(|| live.cache.floor());
        let name = &live.dimension.name;
        let mut cells = repair.cells.lock().await;
        cells.change_dimension(name, |dimension| dimension.timeline.add_unknown(since, at)).await?;
        live.cache.add_unknown(since, at);
        // Whoever loaded what was wrong must not find it again.
        cells.change(|state| state.shared.generation += 1).await?;
        cells.announce(name).await?;
        repair.shared.publish(&cells.state().shared);
        drop(cells);
        live.cache.invalidate_all();
        // Watchers see transactions alone: they have to load anew.
        repair.live.ring.restart(repair.live.applied.get());
        Ok(())
    }

    /// A dimension that was lost answers again, from S2 on.
    async fn regain(&self, loss: &Loss) -> Result<(), RepairError> {
        let (repair, live, at) = (self.repair, self.live, self.at);
        let mut cells = repair.cells.lock().await;
        // Before the first answer: the shared tier has rows from before.
        cells.change(|state| state.shared.generation += 1).await?;
        repair.shared.publish(&cells.state().shared);
        live.cache.invalidate_all();
        let (timeline, _) = live.past();
        if !live.regain(loss, at, &timeline) {
            return Err(RepairError::Refused(CHANGED));
        }
        drop(cells);
        repair.live.ring.restart(repair.live.applied.get());
        // Standbys wait for it, and a restart would begin anew.
        while let Err(error) = self.note_regained().await {
            if !error.is_retryable() || !repair.live.role.is_writer() {
                return Err(error.into());
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    async fn note_regained(&self) -> Result<(), StateError> {
        let (timeline, columns) = self.live.past();
        let note = |dimension: &mut DimensionState| {
            dimension.timeline.merge(&timeline);
            dimension.definition.columns = columns.to_vec();
        };
        let mut cells = self.repair.cells.lock().await;
        cells.change_dimension(&self.live.dimension.name, note).await?;
        cells.announce(&self.live.dimension.name).await
    }

    /// The rows' images by key; where keys are folded into one, the last, as a
    /// first load does.
    fn images(&self, rows: &[Row]) -> Result<HashMap<Key, Image>, RepairError> {
        let keyed = rows.iter().map(|row| self.reader.keyed(&self.live.dimension, row));
        let keyed = keyed.filter_map(Result::transpose);
        Ok(keyed.map(|keyed| keyed.map(|(key, image)| (key, Some(image)))).collect::<Result<_, _>>()?)
    }

    /// Compares what was read with store and memory, and mends them.
    async fn settle(&mut self, mut observed: Vec<Observed>) -> Result<(), RepairError> {
        self.catch_up().await?;
        // First the images, then who changed: a key that changes in between is
        // dropped now and compared by its image the next time.
        let before = self.live.cache.take_before().into_iter();
        let wanted = |key: &Key| self.only.as_ref().is_none_or(|only| only.contains(key));
        let before = before.filter(|(key, _)| wanted(key));
        let changed: Vec<_> = before.map(|(key, image)| Observed { key, image, changed: true }).collect();
        // The line that keeps a newer row from being taken for one of S2.
        observed.retain(|observed| !self.live.cache.has_changed(&observed.key));
        observed.extend(changed);
        self.found.compared += observed.len() as u64;
        for chunk in observed.chunks(self.repair.chunk_rows.max(1)) {
            self.mend(chunk).await?;
        }
        if self.order.progress.try_send(self.found).is_err() {
            debug!(compared = self.found.compared, "a slow listener gets the next progress");
        }
        Ok(())
    }

    async fn mend(&mut self, observed: &[Observed]) -> Result<(), RepairError> {
        let (live, version) = (self.live, self.at.before());
        let table = Arc::clone(&live.dimension.sink_table);
        let reads = observed.iter().map(|observed| ReadKey { key: observed.key.clone(), before: self.at });
        let stored = self.repair.store.read(Arc::clone(&table), reads.collect()).await?;
        let (mut rows, mut spread) = (Vec::new(), Vec::new());
        for (observed, stored) in observed.iter().zip(stored) {
            let held = self.held_by_store(&observed.key, stored.map(|row| (row.version, row.image)));
            let store_differs = held != observed.image;
            if store_differs {
                let (key, image) = (observed.key.clone(), observed.image.clone());
                rows.push(VersionedRow { key, version, image });
            }
            if store_differs || self.memory_differs(observed) {
                spread.push((observed.key.clone(), observed.image.clone()));
            }
        }
        if spread.is_empty() {
            return Ok(());
        }
        self.repair.store.write(vec![TableRows { table: Arc::clone(&table), rows: rows.clone() }]).await?;
        live.cache.repaired(version, &spread);
        if let Some(session) = self.repair.shared.usable().filter(|_| live.dimension.shared) {
            // What it does not take, the raised generation leaves behind.
            drop(session.update(&table, &rows).await);
        }
        let deleted = spread.iter().filter(|(_, image)| image.is_none()).count() as u64;
        self.found.deleted += deleted;
        self.found.written += spread.len() as u64 - deleted;
        Ok(())
    }

    /// What the store's newest version below S2 means: truncations and added
    /// columns are not in its rows.
    fn held_by_store(&self, key: &Key, stored: Option<(Position, Image)>) -> Image {
        let answer = self.live.cache.stored(key.as_bytes(), stored, self.at);
        answer.image().map(bytes::Bytes::copy_from_slice)
    }

    /// Whether memory would answer otherwise at S2.
    fn memory_differs(&self, observed: &Observed) -> bool {
        let (cache, key) = (&self.live.cache, observed.key.as_bytes());
        let held = match cache.peek(key, self.at) {
            Peek::Hit(found) => Some(found),
            Peek::Older => cache.older(key, self.at),
            Peek::Miss => None,
        };
        let differs = held.is_some_and(|found| found.answer.image() != observed.image.as_deref());
        // It may have changed since it was found unchanged.
        differs && (observed.changed || !cache.has_changed(&observed.key))
    }

    /// Waits until all that a SELECT before this call may have seen is applied,
    /// and looks whether the repair may go on.
    async fn catch_up(&mut self) -> Result<(), RepairError> {
        let repair = self.repair;
        if self.order.progress.is_closed() {
            return Err(RepairError::Refused("nobody waits for it any more"));
        }
        if !repair.live.role.is_writer() {
            return Err(RepairError::NotWriter);
        }
        let end = repair.source.binlog_end_on(&mut self.conn).await.map_err(ReadError::from)?;
        let high = end.position(repair.live.epoch)?;
        if !repair.live.applied.reached(high, Instant::now() + CATCH_UP).await {
            return Err(RepairError::Behind(high));
        }
        let last = live_last(self.live);
        if self.order.mends.as_ref().is_some_and(|mended| last != Some(mended.last)) {
            return Err(RepairError::Refused(CHANGED));
        }
        let cache = self.noting.0;
        if cache.timeline().truncated().any(|truncated| truncated >= self.at) {
            return Err(RepairError::Refused("the table was emptied meanwhile; run it again"));
        }
        if cache.noted_bytes() > repair.noted_bytes_max {
            let what = "more keys changed meanwhile than dimsvc.limits.overlay_bytes_max can note";
            return Err(RepairError::Refused(what));
        }
        Ok(())
    }
}

/// Where the table was changed the last time since it is lost.
fn live_last(live: &LiveDimension) -> Option<Position> {
    live.loss().map(|loss| loss.last)
}

/// Chooses S2: no transaction past it may be in memory when noting begins.
async fn stand<'r>(repair: &Repair, live: &'r LiveDimension) -> Result<(Position, Noting<'r>), RepairError> {
    let deadline = Instant::now() + BEGIN;
    loop {
        let applied = repair.live.applied.get();
        if live.cache.track_repair(applied) {
            return Ok((applied, Noting(&live.cache)));
        }
        if Instant::now() >= deadline {
            return Err(RepairError::Refused("another repair of the dimension is at work"));
        }
        let soon = Instant::now() + Duration::from_millis(100);
        repair.live.applied.moved_past(applied, soon).await;
    }
}
