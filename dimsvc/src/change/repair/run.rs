//! One repair from its begin to its end: where it stands, and what it found.

mod tell;

use super::{Order, Repair, RepairError};
use crate::{
    cache::{DimensionCache, Found, FullTier, Peek, ResidentTier},
    change::chunk::{ReadError, TableReader},
    dimension::{Image, Key, TableRows, VersionedRow, mark_deleted, marked_deleted},
    live::LiveDimension,
    store::ReadKey,
};
use hashbrown::{HashMap, HashSet};
use mysql_async::Conn;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::Row;
use tidemark_proto::{Position, config::Deleted, dim::v1::RepairProgress};
use tracing::{debug, info};

/// How long a chunk waits for feed or store.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long a repair waits for the transaction at work and for another repair
/// of the dimension.
const BEGIN: Duration = Duration::from_secs(5);
/// How long the engine may take to show what was applied.
const VISIBLE: Duration = Duration::from_secs(30);
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
    /// It is noted that something is written.
    begun: bool,
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
        if !live.is_complete() && order.mends.is_none() {
            return Err(RepairError::Refused("its rows are still being read into memory; try again later"));
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
        Ok(Self { repair, live, order, at, noting, reader, conn, only: None, begun: false, found })
    }

    /// The same, of some keys alone.
    pub(super) fn of(mut self, keys: &[Key]) -> Self {
        self.found.estimate = keys.len() as u64;
        self.only = Some(keys.iter().cloned().collect());
        self
    }

    /// Compares every row of source, store and memory.
    pub(super) async fn compare_table(&mut self) -> Result<(), RepairError> {
        self.compare_source().await?;
        self.compare_store().await?;
        self.compare_memory().await?;
        // What changed meanwhile is compared too.
        self.settle(Vec::new()).await
    }

    /// Compares some keys.
    pub(super) async fn compare_some(&mut self, keys: &[Key]) -> Result<(), RepairError> {
        for keys in keys.chunks(self.repair.chunk_rows.max(1)) {
            self.compare_keys(keys).await?;
        }
        self.settle(Vec::new()).await
    }

    /// Compares every row of the source.
    async fn compare_source(&mut self) -> Result<(), RepairError> {
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
    async fn compare_store(&mut self) -> Result<(), RepairError> {
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

    /// Compares the keys that memory alone has a row of: a tier that holds every
    /// row loads none again.
    async fn compare_memory(&mut self) -> Result<(), RepairError> {
        let ResidentTier::Full(tier) = self.live.cache.tier() else { return Ok(()) };
        for shard in 0..FullTier::SHARDS {
            for keys in tier.keys(shard).chunks(self.repair.chunk_rows.max(1)) {
                let stored = self.stored(keys).await?;
                let alone = keys.iter().zip(stored).filter(|(_, stored)| stored.is_none());
                let alone: Vec<Key> = alone.map(|(key, _)| key.clone()).collect();
                self.compare_keys(&alone).await?;
            }
        }
        Ok(())
    }

    /// Compares keys, whether or not the source has them.
    async fn compare_keys(&mut self, keys: &[Key]) -> Result<(), RepairError> {
        let rows = self.reader.rows_of(&mut self.conn, keys).await?;
        let mut images = self.images(&rows)?;
        let observed = keys.iter().map(|key| {
            let image = images.remove(key).flatten();
            Observed { key: key.clone(), image, changed: false }
        });
        self.settle(observed.collect()).await
    }

    /// Ends the repair: history is marked where something was written, also by
    /// one that came to no end.
    pub(super) async fn end(self, compared: Result<(), RepairError>) -> Result<RepairProgress, RepairError> {
        match &self.order.mends {
            Some(loss) => {
                compared?;
                self.regain(loss).await?;
            }
            None => {
                let marked = self.mark_unknown().await;
                compared?;
                marked?;
            }
        }
        let Self { live, at, mut found, .. } = self;
        found.done = true;
        info!(
            dimension = %live.dimension.name, %at, compared = found.compared, written = found.written,
            deleted = found.deleted, "repair complete"
        );
        Ok(found)
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
        let what = "more keys changed meanwhile than dimsvc.limits.overlay_bytes_max can note";
        let before = self.live.cache.take_before().ok_or(RepairError::Refused(what))?.into_iter();
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
        let keys: Vec<_> = observed.iter().map(|observed| observed.key.clone()).collect();
        let (mut rows, mut spread) = (Vec::new(), Vec::new());
        for (observed, held) in observed.iter().zip(self.stored(&keys).await?) {
            let store_differs = !is_what_source_has(&held, &observed.image);
            let image = if store_differs { self.right(observed, held) } else { held };
            if store_differs {
                rows.push(VersionedRow { key: observed.key.clone(), version, image: image.clone() });
            }
            if store_differs || self.memory_differs(observed) {
                spread.push((observed.key.clone(), image));
            }
        }
        if spread.is_empty() {
            return Ok(());
        }
        self.note_begun().await?;
        let table = Arc::clone(&live.dimension.sink_table);
        self.repair.store.write(vec![TableRows { table: Arc::clone(&table), rows: rows.clone() }]).await?;
        live.cache.repaired(version, &spread);
        if let Some(session) = self.repair.shared.usable().filter(|_| live.dimension.shared) {
            // What it does not take, the raised generation leaves behind.
            drop(session.update(&table, &rows).await);
        }
        let deleted = spread.iter().filter(|(_, image)| is_what_source_has(image, &None)).count() as u64;
        self.found.deleted += deleted;
        self.found.written += spread.len() as u64 - deleted;
        Ok(())
    }

    /// What the store should hold of a key: of a deleted row what it was, where
    /// the dimension asks for that.
    fn right(&self, observed: &Observed, held: Image) -> Image {
        let marks = self.live.dimension.deleted == Deleted::Mark;
        let was = held.filter(|_| marks && observed.image.is_none());
        observed.image.clone().or_else(|| was.map(|was| mark_deleted(&was)))
    }

    /// What the store's newest versions below S2 mean.
    async fn stored(&self, keys: &[Key]) -> Result<Vec<Image>, RepairError> {
        let reads = keys.iter().map(|key| ReadKey { key: key.clone(), before: self.at });
        let table = Arc::clone(&self.live.dimension.sink_table);
        let stored = self.repair.store.read(table, reads.collect()).await?;
        let held = |(key, row): (&Key, Option<crate::store::StoredRow>)| {
            self.held_by_store(key, row.map(|row| (row.version, row.image)))
        };
        Ok(keys.iter().zip(stored).map(held).collect())
    }

    /// Truncations and added columns are not in the store's rows.
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
        let image = |found: &Found| found.answer.image().map(bytes::Bytes::copy_from_slice);
        let differs = held.is_some_and(|found| !is_what_source_has(&image(&found), &observed.image));
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
        if self.noting.0.timeline().truncated().any(|truncated| truncated >= self.at) {
            return Err(RepairError::Refused("the table was emptied meanwhile; run it again"));
        }
        Ok(())
    }
}

/// A row that is marked as deleted is none of the source's.
fn is_what_source_has(held: &Image, source: &Image) -> bool {
    let is_marked = |image: &bytes::Bytes| marked_deleted(image).is_some();
    held == source || (source.is_none() && held.as_ref().is_some_and(is_marked))
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
        if live.cache.track_repair(applied, repair.noted_bytes_max) {
            return Ok((applied, Noting(&live.cache)));
        }
        if Instant::now() >= deadline {
            return Err(RepairError::Refused("another repair of the dimension is at work"));
        }
        let soon = Instant::now() + Duration::from_millis(100);
        repair.live.applied.moved_past(applied, soon).await;
    }
}
