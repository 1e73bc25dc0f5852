//! Transaction in → caches → `applied` → the writer's queue.
//!
//! The one place where changes enter memory. A transaction is collapsed by key,
//! given to every dimension that it touches, and only then does `applied` move
//! over it: no reader sees half of one. The queue to the writer is bounded by
//! the bytes that the overlays hold, so that a slow store slows the feed
//! instead of filling memory.

mod collapse;
mod form;
mod room;
#[cfg(test)]
mod tests;

pub use room::{Room, UNIT};

use crate::{
    cache::AddedColumns,
    dimension::{TableRows, VersionedRow},
    live::{Live, LiveDimension},
    metrics::Metrics,
    registry::{RowShape, ShapeError},
    ring::{self, TableChanges, Whole},
};
use collapse::Collapsed;
use form::{Form, Growth, Verdict, verdict};
use hashbrown::HashMap;
use std::sync::Arc;
use tidemark_binlog::{Effect, Event, GtidError, RowChange, Statement, Transaction};
use tidemark_proto::Position;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{info, warn};

/// What the writer gets: the rows of one event of the feed.
#[derive(Debug)]
pub struct Pending {
    /// All up to here is durable once the rows are.
    pub end: Position,
    pub gtid: Option<Arc<str>>,
    pub rows: Vec<TableRows>,
    /// Dimensions whose timeline must be in the store before `end` is durable.
    pub timelines: Vec<Arc<LiveDimension>>,
    /// Room in the overlays, free again when they have forgotten the rows.
    pub room: Option<OwnedSemaphorePermit>,
}

impl Pending {
    /// An event without rows.
    fn without_rows(end: Position, gtid: Option<Arc<str>>) -> Self {
        Self { end, gtid, rows: Vec::new(), timelines: Vec::new(), room: None }
    }
}

/// Applies the feed's events, one after the other.
#[derive(Debug)]
pub struct Applier {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    sources: Sources,
    room: Room,
    writer: mpsc::Sender<Pending>,
}

/// By database and table: a table may be the source of several dimensions.
type Sources = HashMap<String, HashMap<String, Vec<Source>>>;

#[derive(Debug)]
struct Source {
    live: Arc<LiveDimension>,
    /// The store has all before, from before this process began.
    from: Position,
    /// With the revision of the dimension's columns that it is of.
    shape: Option<(u64, RowShape)>,
}

/// Why the feed cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(
        "transaction {gtid} comes again at {at}: the binlog is not the one that was followed (RESET, or \
         restored from a backup); use another store"
    )]
    SeenBefore { gtid: String, at: Position },
    #[error("the binlog names {0}")]
    Gtid(#[from] GtidError),
    #[error(
        "more keys of dimension {dimension} changed during its first load than dimsvc.limits.overlay_bytes_max \
         can note; raise it, or load when less changes"
    )]
    TooManyChanged { dimension: String },
    #[error("the writer has stopped")]
    WriterGone,
}

impl Applier {
    /// An applier that holds in the overlays what `room` allows.
    pub fn new(live: Arc<Live>, metrics: Arc<Metrics>, room: Room, writer: mpsc::Sender<Pending>) -> Self {
        let mut sources = Sources::new();
        for live in live.dimensions() {
            let tables = sources.entry(live.dimension.database.clone()).or_default();
            let from = live.cache.timeline().settled();
            let source = Source { live: Arc::clone(live), from, shape: None };
            tables.entry(live.dimension.source.clone()).or_default().push(source);
        }
        Self { live, metrics, sources, room, writer }
    }

    /// Applies one event. After it returns, `applied` has reached the event's
    /// end.
    ///
    /// # Errors
    /// When the event cannot be applied exactly; the feed must stop.
    ///
    /// # Cancel safety
    /// Not cancel-safe: a transaction may be in memory and not in the queue.
    /// Only the end of the process may drop it.
    pub async fn apply(&mut self, event: Event) -> Result<(), ApplyError> {
        self.note_gtid(&event)?;
        match event {
            Event::Transaction(transaction) => self.apply_transaction(transaction).await,
            Event::Statement(statement) => {
                let timelines = self.apply_statement(&statement);
                let pending = Pending::without_rows(statement.end, statement.gtid);
                self.advance(Pending { timelines, ..pending }).await
            }
            Event::Progress(end) => {
                self.live.applied.advance(end);
                // Progress is repeated: when the writer is busy, skip it.
                drop(self.writer.try_send(Pending::without_rows(end, None)));
                Ok(())
            }
        }
    }

    /// A GTID that comes twice means that the binlog is not the one that was
    /// followed: its positions have other transactions now.
    fn note_gtid(&self, event: &Event) -> Result<(), ApplyError> {
        let gtid = match event {
            Event::Transaction(transaction) => transaction.gtid.as_ref(),
            Event::Statement(statement) => statement.gtid.as_ref(),
            Event::Progress(_) => None,
        };
        let Some(gtid) = gtid else { return Ok(()) };
        if self.live.gtids.add(gtid, event.end())? {
            return Ok(());
        }
        Err(ApplyError::SeenBefore { gtid: gtid.to_string(), at: event.end() })
    }

    async fn apply_transaction(&mut self, transaction: Transaction) -> Result<(), ApplyError> {
        let (collapsed, timelines) = self.collapse(&transaction);
        let bytes: usize = collapsed.iter().map(Collapsed::overlay_bytes).sum();
        let room = self.room.take(bytes).await;
        let mut rows = Vec::with_capacity(collapsed.len());
        let mut watched = Vec::new();
        for part in collapsed {
            self.live.recent.note(&part.live.dimension.name, transaction.begin, part.changes());
            let first_images = part.live.cache.apply(transaction.begin, part.changes());
            self.check_noted(&part.live)?;
            if self.live.ring.wants(&part.live.dimension.name) {
                watched.push(part.watched());
            }
            if !part.live.dimension.lazy {
                rows.push(part.into_rows(transaction.begin, first_images));
            }
        }
        let (begin, end) = (transaction.begin, transaction.end);
        self.live.ring.push(ring::Transaction { begin, end, tables: watched });
        self.metrics.transactions.inc();
        self.metrics.changes.inc_by(rows.iter().map(|table: &TableRows| table.rows.len() as u64).sum());
        let pending = Pending::without_rows(transaction.end, transaction.gtid);
        self.advance(Pending { rows, timelines, room, ..pending }).await
    }

    /// Bounds what a first load notes of changed keys.
    fn check_noted(&self, live: &LiveDimension) -> Result<(), ApplyError> {
        if !live.is_loaded() && live.cache.noted_bytes() > self.room.bytes_max() {
            return Err(ApplyError::TooManyChanged { dimension: live.dimension.name.to_string() });
        }
        Ok(())
    }

    /// The transaction's rows by dimension, the last image of each key; and the
    /// dimensions that do not know their rows any more.
    fn collapse(&mut self, transaction: &Transaction) -> (Vec<Collapsed>, Vec<Arc<LiveDimension>>) {
        let (mut parts, mut lost) = (Vec::new(), Vec::new());
        for change in &transaction.rows {
            let tables = self.sources.get_mut(&change.table.database);
            let sources = tables.and_then(|tables| tables.get_mut(&change.table.name));
            for source in sources.into_iter().flatten() {
                let live = &source.live;
                if transaction.begin < source.from || !live.cache.takes(transaction.begin) {
                    continue;
                }
                if let Err(error) = collapse_row(&mut parts, source, (transaction.begin, change)) {
                    let live = Arc::clone(&source.live);
                    // Of a transaction all rows are known, or none.
                    parts.retain(|part| !Arc::ptr_eq(&part.live, &live));
                    lose(&self.live.ring, &live, (transaction.begin, error.to_string()));
                    lost.push(live);
                }
            }
        }
        (parts, lost)
    }

    /// Makes an applied event visible, then hands it to the writer.
    async fn advance(&self, pending: Pending) -> Result<(), ApplyError> {
        self.live.applied.advance(pending.end);
        self.writer.send(pending).await.map_err(|_| ApplyError::WriterGone)
    }

    /// Applies a statement that changes dimensions without row events, at its
    /// exact position. Returns the dimensions whose past it changed.
    fn apply_statement(&self, statement: &Statement) -> Vec<Arc<LiveDimension>> {
        let (mut changed, mut watched) = (Vec::new(), Vec::new());
        for source in self.sources.values().flat_map(HashMap::values).flatten() {
            let live = &source.live;
            let verdict =
                if statement.begin < source.from { Verdict::Untouched } else { judge(live, statement) };
            match verdict {
                Verdict::Untouched => continue,
                Verdict::Truncated => {
                    live.cache.truncate(statement.begin);
                    watched.push(whole(live, Whole::Truncated));
                }
                Verdict::Grown(growth) => {
                    if !growth.added.is_empty() {
                        watched.push(whole(live, Whole::ColumnsAdded));
                    }
                    grow(live, statement.begin, growth);
                }
                Verdict::Lost(why) => {
                    let sql: String = statement.sql.chars().take(200).collect();
                    lose(&self.live.ring, live, (statement.begin, format!("{why}: `{sql}`")));
                }
            }
            changed.push(Arc::clone(live));
        }
        let (begin, end) = (statement.begin, statement.end);
        self.live.ring.push(ring::Transaction { begin, end, tables: watched });
        changed
    }
}

/// What watchers are told of a statement.
fn whole(live: &LiveDimension, whole: Whole) -> TableChanges {
    TableChanges { dimension: Arc::clone(&live.dimension.name), whole: Some(whole), rows: Vec::new() }
}

/// What the statement means to a dimension.
fn judge(live: &LiveDimension, statement: &Statement) -> Verdict {
    let dimension = &live.dimension;
    let effect = statement.effect_on(&dimension.database, &dimension.source);
    let (columns, key) = (live.columns(), dimension.key_names().collect::<Vec<_>>());
    let form = Form { columns: &columns, key: &key, all_columns: dimension.all_columns };
    // Columns that come again after a restart are there already.
    if effect == Effect::None || live.cache.timeline().adds_columns_at(statement.begin) {
        return Verdict::Untouched;
    }
    let lost = live.loss().is_some();
    match verdict(form, &effect) {
        Verdict::Truncated if lost || !live.is_loaded() => {
            Verdict::Lost(String::from("the table was emptied before its rows were known"))
        }
        Verdict::Grown(_) if lost => {
            Verdict::Lost(String::from("its columns changed before its rows were known"))
        }
        verdict => verdict,
    }
}

fn grow(live: &LiveDimension, at: Position, growth: Growth) {
    let names: Vec<_> = growth.added.iter().map(|column| column.name.clone()).collect();
    info!(dimension = %live.dimension.name, %at, added = ?names, "the table's columns changed");
    live.widen_columns(&growth.widened);
    if !growth.added.is_empty() {
        live.add_columns(AddedColumns { at: at.packed(), suffix: growth.suffix }, growth.added);
    }
}

/// Nothing is known of the dimension from a place on; the others go on.
fn lose(ring: &ring::Ring, live: &LiveDimension, (at, why): (Position, String)) {
    if live.lose(at, &why) {
        warn!(dimension = %live.dimension.name, %at, why, "its changes cannot be followed, it has to be mended");
    }
    // Nobody may take silence for proof that nothing changed.
    ring.restart(at);
}

fn collapse_row(
    parts: &mut Vec<Collapsed>,
    source: &mut Source,
    (begin, change): (Position, &RowChange),
) -> Result<(), ShapeError> {
    let live = &source.live;
    let dimension = &live.dimension;
    let revision = live.columns_revision();
    let fits = |(known, shape): &(u64, RowShape)| *known == revision && shape.is_of(&change.table);
    if !source.shape.as_ref().is_some_and(fits) {
        let shape = RowShape::of(dimension, &live.columns_at(begin), &change.table)?;
        source.shape = Some((revision, shape));
    }
    let Some((_, shape)) = &source.shape else { return Ok(()) };
    // A row without a key is not there: neither before nor after.
    let keyed = |row: &Option<tidemark_binlog::Row>| match row {
        Some(row) => shape.keyed(dimension, row),
        None => Ok(None),
    };
    let (before, after) = (keyed(&change.before)?, keyed(&change.after)?);
    if before.is_none() && after.is_none() {
        return Ok(());
    }
    let place = parts.iter().position(|part| Arc::ptr_eq(&part.live, live));
    let place = place.unwrap_or_else(|| {
        parts.push(Collapsed::new(Arc::clone(live)));
        parts.len() - 1
    });
    if let Some(part) = parts.get_mut(place) {
        part.add(before, after);
    }
    Ok(())
}

/// Rows of a table for the store.
fn table_rows(live: &LiveDimension, rows: Vec<VersionedRow>) -> TableRows {
    TableRows { table: Arc::clone(&live.dimension.sink_table), rows }
}
