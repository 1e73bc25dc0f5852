//! The first load of a dimension, lock-free, while the binlog is followed.
//!
//! The load stands at S, the history floor: its rows are of version S - 1. A
//! chunk is read, then the binlog's end after the read is waited for; a row
//! whose key changed since S is dropped, because the stream has its versions
//! and wrote the image before the first of them at S - 1. So every key is exact
//! from S on, whenever its chunk was read (DBLog's watermarks, Netflix 2019,
//! without its locks and marker rows).

use crate::{
    dimension::{TableRows, VersionedRow},
    live::{Live, LiveDimension},
    metrics::Metrics,
    registry::{RowShape, ShapeError},
    state::{StateCell, StateError},
    store::{StoreError, StorePool},
};
use mysql_async::{Conn, prelude::Queryable as _};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tidemark_binlog::{ColumnKind, Row, Source, SourceError, Table, ValueError, select_row};
use tidemark_proto::{Position, PositionError, text::string_value};
use tokio::sync::Mutex;
use tracing::{info, warn};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often a load says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How long a chunk waits for the feed before it is read again.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Server errors that a retry does not mend: rights (1044, 1045, 1142, 1143), a
/// column or table that is not there (1054, 1146).
const FATAL: [u16; 6] = [1044, 1045, 1054, 1142, 1143, 1146];

/// Loads dimensions.
#[derive(Debug)]
pub struct Snapshot {
    pub source: Source,
    pub live: Arc<Live>,
    pub store: StorePool,
    pub state: Arc<Mutex<StateCell>>,
    pub metrics: Arc<Metrics>,
    pub chunk_rows: usize,
    pub query_timeout: Duration,
}

/// Why a first load cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot read rows: {0}")]
    Query(#[from] mysql_async::Error),
    #[error("reading a chunk took longer than mysql.query_timeout_ms")]
    Slow,
    #[error("a value cannot be read: {0}")]
    Value(#[from] ValueError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the feed does not reach the chunk's watermark {0}")]
    Behind(Position),
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error("table {0} is gone")]
    Gone(String),
}

impl SnapshotError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Store(error) | Self::State(StateError::Store(error)) => error.is_retryable(),
            Self::Query(mysql_async::Error::Server(error)) => !FATAL.contains(&error.code),
            Self::Query(_) => true,
            Self::Slow | Self::Behind(_) => true,
            Self::Value(_) | Self::Shape(_) | Self::State(_) | Self::Position(_) | Self::Gone(_) => false,
        }
    }
}

/// What a chunk needs of its table.
struct Reader {
    conn: Conn,
    table: Arc<Table>,
    shape: RowShape,
    select: String,
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
        live.cache.stop_tracking();
        let rows = live.snapshot_rows.load(Ordering::Relaxed);
        self.state
            .lock()
            .await
            .change(|state| {
                if let Some(dimension) = state.dimensions.get_mut(name.as_ref()) {
                    dimension.complete = true;
                    dimension.loaded_to = None;
                    dimension.loaded_rows = rows;
                }
            })
            .await?;
        info!(dimension = %name, rows, seconds = started.elapsed().as_secs_f64(), "first load complete");
        Ok(())
    }

    async fn progress(&self, name: &str) -> (u64, Option<Vec<String>>) {
        let cell = self.state.lock().await;
        let dimension = cell.state().dimensions.get(name);
        dimension.map_or((0, None), |d| (d.loaded_rows, d.loaded_to.clone()))
    }

    async fn load_chunks(
        &self,
        live: &LiveDimension,
        after: &mut Option<Vec<String>>,
    ) -> Result<(), SnapshotError> {
        let mut reader = self.open(live).await?;
        let mut told = Instant::now();
        loop {
            let rows = self.read_chunk(&mut reader, live, after.as_deref()).await?;
            // Also after a read that found nothing: what was deleted since S was
            // there at S.
            self.catch_up().await?;
            let Some(last) = rows.last() else { return Ok(()) };
            let next = key_tokens(live, &reader.table, last);
            let count = rows.len();
            self.keep_chunk(&reader, live, &rows).await?;
            let loaded = live.snapshot_rows.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
            self.metrics.snapshot_rows.inc_by(count as u64);
            after.clone_from(&Some(next));
            let name = &live.dimension.name;
            let mut cell = self.state.lock().await;
            cell.change(|state| {
                if let Some(dimension) = state.dimensions.get_mut(name.as_ref()) {
                    dimension.loaded_to.clone_from(after);
                    dimension.loaded_rows = loaded;
                }
            })
            .await?;
            drop(cell);
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

    async fn open(&self, live: &LiveDimension) -> Result<Reader, SnapshotError> {
        let dimension = &live.dimension;
        let described = self.source.describe(&dimension.database, &dimension.source).await?;
        let gone = || SnapshotError::Gone(format!("{}.{}", dimension.database, dimension.source));
        let table = described.ok_or_else(gone)?.table;
        let shape = RowShape::new(dimension, &table)?;
        let columns: Vec<_> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let select = format!(
            "SELECT {} FROM {}.{}",
            columns.join(", "),
            quoted(&dimension.database),
            quoted(&dimension.source)
        );
        Ok(Reader { conn: self.source.connect().await?, table, shape, select })
    }

    async fn read_chunk(
        &self,
        reader: &mut Reader,
        live: &LiveDimension,
        after: Option<&[String]>,
    ) -> Result<Vec<Row>, SnapshotError> {
        let keys: Vec<_> = live.dimension.key_columns.iter().collect();
        let order: Vec<_> = keys.iter().map(|column| quoted(&column.name)).collect();
        let mut sql = reader.select.clone();
        if let Some(after) = after {
            let literals: Vec<_> =
                keys.iter().zip(after).map(|(column, token)| literal(&column.kind, token)).collect();
            sql.push_str(" WHERE ");
            sql.push_str(&after_key(&order, &literals));
        }
        sql.push_str(&format!(" ORDER BY {} LIMIT {}", order.join(", "), self.chunk_rows));
        // Prepared, so that values come in binary form, as exact as the
        // binlog's; the cache of statements is bounded by the connection.
        let query = async {
            let statement = reader.conn.prep(sql.as_str()).await?;
            let rows: Vec<mysql_async::Row> = reader.conn.exec(&statement, ()).await?;
            reader.conn.close(statement).await?;
            Ok::<_, mysql_async::Error>(rows)
        };
        let rows =
            tokio::time::timeout(self.query_timeout, query).await.map_err(|_| SnapshotError::Slow)??;
        rows.into_iter().map(|row| Ok(select_row(row, &reader.table)?)).collect()
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
        reader: &Reader,
        live: &LiveDimension,
        rows: &[Row],
    ) -> Result<(), SnapshotError> {
        let version = live.cache.floor().before();
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            let key = reader.shape.key(&live.dimension, row)?;
            if !live.cache.has_changed(&key) {
                let image = Some(reader.shape.image(&live.dimension, row)?);
                kept.push(VersionedRow { key, version, image });
            }
        }
        let table = Arc::clone(&live.dimension.sink_table);
        Ok(self.store.write(vec![TableRows { table, rows: kept }]).await?)
    }
}

/// The key's tokens of a row as the source orders them: not folded.
fn key_tokens(live: &LiveDimension, table: &Table, row: &Row) -> Vec<String> {
    let names = live.dimension.key_columns.iter().map(|column| column.name.as_str());
    names.filter_map(|name| row.token(table.column(name)?)).map(str::to_owned).collect()
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `(a > 1) OR (a = 1 AND b > 2)`: MySQL uses the index for this, not for the
/// row comparison `(a, b) > (1, 2)`.
fn after_key(columns: &[String], literals: &[String]) -> String {
    let mut terms = Vec::with_capacity(columns.len());
    for (place, (column, literal)) in columns.iter().zip(literals).enumerate() {
        let equal = columns.iter().zip(literals).take(place).map(|(c, l)| format!("{c} = {l}"));
        let term: Vec<_> = equal.chain([format!("{column} > {literal}")]).collect();
        terms.push(format!("({})", term.join(" AND ")));
    }
    terms.join(" OR ")
}

/// A token as an SQL literal of its column's type: numbers bare, so that MySQL
/// does not compare them as floats; all else as bytes in hexadecimal, so that
/// nothing needs escaping.
fn literal(kind: &ColumnKind, token: &str) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match kind {
        ColumnKind::Integer { .. }
        | ColumnKind::Decimal { .. }
        | ColumnKind::Year
        | ColumnKind::Bit { .. } => token.to_owned(),
        ColumnKind::Binary { .. } => {
            let text = string_value(token).unwrap_or_default();
            format!("FROM_BASE64(X'{}')", hex(text.as_bytes()))
        }
        _ => {
            let text = string_value(token).unwrap_or_default();
            format!("_utf8mb4 X'{}'", hex(text.as_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_binlog::Charset;

    #[test]
    fn a_composite_key_is_compared_column_by_column() {
        let columns = ["`a`".to_owned(), "`b`".to_owned()];
        let text = ColumnKind::Text { charset: Charset::Utf8, case_insensitive: false };
        let literals =
            [literal(&ColumnKind::Integer { unsigned: false, bits: 32 }, "1"), literal(&text, "\"x'\"")];
        assert_eq!(after_key(&columns, &literals), "(`a` > 1) OR (`a` = 1 AND `b` > _utf8mb4 X'7827')");
    }

    #[test]
    fn names_cannot_end_their_quotes() {
        assert_eq!(quoted("a`b"), "`a``b`");
    }
}
