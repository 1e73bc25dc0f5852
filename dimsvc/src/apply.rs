//! Transaction in → caches → `applied` → the writer's queue.
//!
//! The one place where changes enter memory. A transaction is collapsed by key,
//! given to every dimension that it touches, and only then does `applied` move
//! over it: no reader sees half of one. The queue to the writer is bounded by
//! the bytes that the overlays hold, so that a slow store slows the feed
//! instead of filling memory.

mod collapse;

use crate::{
    dimension::{TableRows, VersionedRow},
    live::{Live, LiveDimension},
    metrics::Metrics,
    registry::{RowShape, ShapeError},
};
use collapse::Collapsed;
use hashbrown::HashMap;
use std::sync::Arc;
use tidemark_binlog::{Event, GtidError, RowChange, Statement, Transaction};
use tidemark_proto::Position;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Overlay bytes are counted in units of this size.
const UNIT: usize = 1024;

/// What the writer gets: the rows of one event of the feed.
#[derive(Debug)]
pub struct Pending {
    /// All up to here is durable once the rows are.
    pub end: Position,
    pub gtid: Option<Arc<str>>,
    pub rows: Vec<TableRows>,
    /// Room in the overlays, free again when they have forgotten the rows.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Applies the feed's events, one after the other.
#[derive(Debug)]
pub struct Applier {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    sources: Sources,
    room: Arc<Semaphore>,
    room_max: usize,
    writer: mpsc::Sender<Pending>,
}

/// By database and table: a table may be the source of several dimensions.
type Sources = HashMap<String, HashMap<String, Vec<Source>>>;

#[derive(Debug)]
struct Source {
    live: Arc<LiveDimension>,
    shape: Option<RowShape>,
}

/// Why the feed cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{0}; load it anew under another section name with its own `sink_table`")]
    Shape(#[from] ShapeError),
    #[error(
        "`{sql}` at {at} changes dimension {dimension} without row events; \
         load it anew under another section name with its own `sink_table`"
    )]
    Statement { sql: String, at: Position, dimension: String },
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
    /// An applier that holds at most `overlay_bytes_max` in the overlays.
    pub fn new(
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        overlay_bytes_max: usize,
        writer: mpsc::Sender<Pending>,
    ) -> Self {
        let mut sources = Sources::new();
        for live in live.dimensions() {
            let tables = sources.entry(live.dimension.database.clone()).or_default();
            let source = Source { live: Arc::clone(live), shape: None };
            tables.entry(live.dimension.source.clone()).or_default().push(source);
        }
        let room_max = (overlay_bytes_max / UNIT).clamp(1, u32::MAX as usize);
        Self { live, metrics, sources, room: Arc::new(Semaphore::new(room_max)), room_max, writer }
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
                self.check_statement(&statement)?;
                let pending =
                    Pending { end: statement.end, gtid: statement.gtid, rows: Vec::new(), room: None };
                self.advance(pending).await
            }
            Event::Progress(end) => {
                self.live.applied.advance(end);
                // Progress is repeated: when the writer is busy, skip it.
                drop(self.writer.try_send(Pending { end, gtid: None, rows: Vec::new(), room: None }));
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
        let collapsed = self.collapse(&transaction)?;
        let bytes: usize = collapsed.iter().map(Collapsed::overlay_bytes).sum();
        let room = self.take_room(bytes).await?;
        let mut rows = Vec::with_capacity(collapsed.len());
        for part in collapsed {
            let first_images = part.live.cache.apply(transaction.begin, part.changes());
            self.check_noted(&part.live)?;
            rows.push(part.into_rows(transaction.begin, first_images));
        }
        self.metrics.transactions.inc();
        self.metrics.changes.inc_by(rows.iter().map(|table: &TableRows| table.rows.len() as u64).sum());
        self.advance(Pending { end: transaction.end, gtid: transaction.gtid, rows, room }).await
    }

    /// Bounds what a first load notes of changed keys.
    fn check_noted(&self, live: &LiveDimension) -> Result<(), ApplyError> {
        if !live.is_complete() && live.cache.noted_bytes() > self.room_max * UNIT {
            return Err(ApplyError::TooManyChanged { dimension: live.dimension.name.to_string() });
        }
        Ok(())
    }

    /// The transaction's rows by dimension, the last image of each key.
    fn collapse(&mut self, transaction: &Transaction) -> Result<Vec<Collapsed>, ShapeError> {
        let mut parts: Vec<Collapsed> = Vec::new();
        for change in &transaction.rows {
            let tables = self.sources.get_mut(&change.table.database);
            let sources = tables.and_then(|tables| tables.get_mut(&change.table.name));
            for source in sources.into_iter().flatten() {
                // Before the floor the first load has the rows.
                if transaction.begin >= source.live.cache.floor() {
                    collapse_row(&mut parts, source, change)?;
                }
            }
        }
        Ok(parts)
    }

    async fn take_room(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ApplyError> {
        if bytes == 0 {
            return Ok(None);
        }
        let units = bytes.div_ceil(UNIT).min(self.room_max);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        room.map(Some).map_err(|_| ApplyError::WriterGone)
    }

    /// Makes an applied event visible, then hands it to the writer.
    async fn advance(&self, pending: Pending) -> Result<(), ApplyError> {
        self.live.applied.advance(pending.end);
        self.writer.send(pending).await.map_err(|_| ApplyError::WriterGone)
    }

    /// Refuses statements that change a dimension without row events.
    fn check_statement(&self, statement: &Statement) -> Result<(), ApplyError> {
        for live in self.live.dimensions() {
            let dimension = &live.dimension;
            let followed = statement.begin >= live.cache.floor();
            if followed && statement.removes_rows_of(&dimension.database, &dimension.source) {
                return Err(ApplyError::Statement {
                    sql: statement.sql.chars().take(200).collect(),
                    at: statement.begin,
                    dimension: dimension.name.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn collapse_row(
    parts: &mut Vec<Collapsed>,
    source: &mut Source,
    change: &RowChange,
) -> Result<(), ShapeError> {
    let dimension = &source.live.dimension;
    if !source.shape.as_ref().is_some_and(|shape| shape.is_of(&change.table)) {
        source.shape = Some(RowShape::new(dimension, &change.table)?);
    }
    let Some(shape) = &source.shape else { return Ok(()) };
    let keyed = |row: &tidemark_binlog::Row| Ok((shape.key(dimension, row)?, shape.image(dimension, row)?));
    let before = change.before.as_ref().map(keyed).transpose()?;
    let after = change.after.as_ref().map(keyed).transpose()?;
    let place = parts.iter().position(|part| Arc::ptr_eq(&part.live, &source.live));
    let place = place.unwrap_or_else(|| {
        parts.push(Collapsed::new(Arc::clone(&source.live)));
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
