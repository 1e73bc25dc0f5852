//! Rows of a table as MySQL has them now, by key range or by key.
//!
//! What first loads, repairs and single reads of the source share: the SELECT,
//! its values as exact as the binlog's, its deadline. A [`TableReader`] knows
//! the table as it was when it was opened and says [`ReadError::Changed`] when
//! the table is another one now; it knows nothing of positions, caches or
//! stores.

mod sql;

use crate::{
    dimension::Key,
    live::LiveDimension,
    registry::{Dimension, DimensionColumn, RowShape, ShapeError},
};
use bytes::Bytes;
use mysql_async::{Column, Conn, prelude::Queryable as _};
use sql::{Collation, Compared, after_key, any_of, quoted};
use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};
use tidemark_binlog::{ColumnKind, Row, Source, SourceError, Table, ValueError, select_row};
use tidemark_proto::{Position, config::Fold, text::array_items};

/// Server errors that a retry does not mend: rights (1044, 1045, 1142, 1143), a
/// column or table that is not there (1054, 1146).
const FATAL: [u16; 6] = [1044, 1045, 1054, 1142, 1143, 1146];

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot read rows: {0}")]
    Query(#[from] mysql_async::Error),
    #[error("reading rows took longer than {0:?}")]
    Slow(Duration),
    #[error("a value cannot be read: {0}")]
    Value(#[from] ValueError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error("table {0} is gone")]
    Gone(String),
    /// Open the reader again.
    #[error("table {0} was altered meanwhile")]
    Changed(String),
}

impl ReadError {
    /// Whether the same read, on a reader opened anew, may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Query(mysql_async::Error::Server(error)) => !FATAL.contains(&error.code),
            Self::Query(_) | Self::Slow(_) | Self::Changed(_) => true,
            Self::Value(_) | Self::Shape(_) | Self::Gone(_) => false,
        }
    }
}

/// Reads rows of one table for one dimension.
#[derive(Debug)]
pub struct TableReader {
    table: Arc<Table>,
    shape: RowShape,
    /// The dimension's columns that its rows have.
    kept: Arc<[DimensionColumn]>,
    /// `SELECT … FROM …`, all columns by name.
    select: String,
    /// What the server says of the SELECT's columns.
    columns: Arc<[Column]>,
    /// The columns that pages are in the order of.
    order: Vec<Compared>,
    key: Vec<Compared>,
    timeout: Duration,
}

impl TableReader {
    /// Describes the table; its rows are given the columns that rows of
    /// `version` have. A read takes at most `timeout`.
    ///
    /// # Errors
    /// When the table is gone, is no longer the dimension's, or cannot be asked
    /// for.
    pub async fn open(
        source: &Source,
        live: &LiveDimension,
        (version, timeout): (Position, Duration),
    ) -> Result<Self, ReadError> {
        let (dimension, kept) = (&live.dimension, live.columns_at(version));
        let table = describe(source, dimension).await?;
        let names: Vec<_> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let place = format!("{}.{}", quoted(&dimension.database), quoted(&dimension.source));
        let select = format!("SELECT {} FROM {place}", names.join(", "));
        let mut conn = source.connect().await?;
        let collations = within(timeout, collations(&mut conn, dimension)).await?;
        let statement = within(timeout, conn.prep(select.as_str())).await?;
        let columns = statement.columns();
        within(timeout, conn.close(statement)).await?;
        // What was described is what was prepared only if it is still the same.
        if *describe(source, dimension).await? != *table {
            return Err(ReadError::Changed(table.name.clone()));
        }
        let compared = |name: &str, kind: &ColumnKind, fold| Compared {
            name: name.to_owned(),
            kind: kind.clone(),
            fold,
            collation: collations.get(&name.to_lowercase()).cloned(),
        };
        let order = dimension.order_columns().map(|column| compared(&column.name, &column.kind, Fold::Exact));
        let key =
            dimension.key_columns.iter().map(|column| compared(&column.name, &column.kind, column.fold));
        let (order, key) = (order.collect(), key.collect());
        let shape = RowShape::of(dimension, &kept, &table)?;
        Ok(Self { shape, kept, table, select, columns, order, key, timeout })
    }

    /// Whether rows of `version` have the columns that it reads.
    pub fn fits(&self, live: &LiveDimension, version: Position) -> bool {
        *self.kept == *live.columns_at(version)
    }

    /// The next `limit` rows, after the place that [`TableReader::place_of`]
    /// gave of a row.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn page(
        &self,
        conn: &mut Conn,
        after: Option<&[String]>,
        limit: usize,
    ) -> Result<Vec<Row>, ReadError> {
        let order: Vec<_> = self.order.iter().map(|column| quoted(&column.name)).collect();
        let condition = after.map(|after| format!(" WHERE {}", after_key(&self.order, after)));
        let (condition, order) = (condition.unwrap_or_default(), order.join(", "));
        self.rows(conn, format!("{}{condition} ORDER BY {order} LIMIT {limit}", self.select)).await
    }

    /// The rows of the keys, in any order, and perhaps others beside them: a
    /// collation may take more for equal than keys do. Match them by
    /// [`TableReader::keyed`].
    ///
    /// Where keys are folded, a row is found if the column's collation takes its
    /// letters and their lower case for equal: all of them do for those of
    /// common scripts, but for `I` in the Turkish ones.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn rows_of(&self, conn: &mut Conn, keys: &[Key]) -> Result<Vec<Row>, ReadError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        // Whole keys alone: a condition on fewer columns would find other rows.
        let whole = keys.iter().map(tokens_of).filter(|tokens| tokens.len() == self.key.len());
        self.rows(conn, format!("{} WHERE {}", self.select, any_of(&self.key, whole))).await
    }

    /// The row's key and image; `None` where it is not in the dimension
    /// ([`RowShape::key`]).
    ///
    /// # Errors
    /// When the row does not have the form of the dimension.
    pub fn keyed(&self, dimension: &Dimension, row: &Row) -> Result<Option<(Key, Bytes)>, ReadError> {
        Ok(self.shape.keyed(dimension, row)?)
    }

    /// Where the row stands in the order of pages: tokens as the source has
    /// them, not folded.
    pub fn place_of(&self, row: &Row) -> Vec<String> {
        let columns = self.order.iter().filter_map(|column| self.table.column(&column.name));
        columns.filter_map(|place| row.token(place)).map(str::to_owned).collect()
    }

    async fn rows(&self, conn: &mut Conn, sql: String) -> Result<Vec<Row>, ReadError> {
        // Prepared, so that values come in binary form, as exact as the
        // binlog's; the cache of statements is bounded by the connection.
        let query = async {
            let statement = conn.prep(sql).await?;
            let unchanged = statement.columns() == self.columns;
            let rows: Vec<mysql_async::Row> =
                if unchanged { conn.exec(&statement, ()).await? } else { Vec::new() };
            conn.close(statement).await?;
            Ok(unchanged.then_some(rows))
        };
        let rows = within(self.timeout, query).await?;
        let rows = rows.ok_or_else(|| ReadError::Changed(self.table.name.clone()))?;
        rows.into_iter().map(|row| Ok(select_row(row, &self.table)?)).collect()
    }
}

fn tokens_of(key: &Key) -> Vec<&str> {
    array_items(std::str::from_utf8(key.as_bytes()).unwrap_or_default()).collect()
}

async fn within<T>(
    limit: Duration,
    query: impl Future<Output = Result<T, mysql_async::Error>>,
) -> Result<T, ReadError> {
    Ok(tokio::time::timeout(limit, query).await.map_err(|_| ReadError::Slow(limit))??)
}

async fn describe(source: &Source, dimension: &Dimension) -> Result<Arc<Table>, ReadError> {
    let described = source.describe(&dimension.database, &dimension.source).await?;
    let gone = || ReadError::Gone(format!("{}.{}", dimension.database, dimension.source));
    Ok(described.ok_or_else(gone)?.table)
}

/// Of the table's text columns, by their names in lower case.
async fn collations(
    conn: &mut Conn,
    dimension: &Dimension,
) -> Result<HashMap<String, Collation>, mysql_async::Error> {
    let query = "SELECT LOWER(COLUMN_NAME), CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND COLLATION_NAME IS NOT NULL";
    let place = (dimension.database.as_str(), dimension.source.as_str());
    let rows: Vec<(String, String, String)> = conn.exec(query, place).await?;
    Ok(rows.into_iter().map(|(column, charset, name)| (column, Collation { charset, name })).collect())
}
