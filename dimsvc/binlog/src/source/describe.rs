//! A table as `information_schema` describes it: the same [`Table`] that the
//! binlog gives, and what only the server knows of it.

use super::{Source, SourceError};
use crate::change::{Charset, Column, ColumnKind, Table};
use crate::schema::{is_case_insensitive, supported_charset};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::sync::Arc;

/// A table of the source server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTable {
    pub table: Arc<Table>,
    /// One for each column of the table.
    pub columns: Vec<SourceColumn>,
    /// The storage engine: InnoDB where transactions hold.
    pub engine: String,
    /// Keys that name at most one row, as column indexes in key order: the
    /// primary key first, then unique keys of whole NOT NULL columns.
    pub unique_keys: Vec<Vec<usize>>,
    /// How many rows the server thinks that it has.
    pub rows_estimate: u64,
    /// What its rows take on the server's disk, about.
    pub data_bytes: u64,
    /// A foreign key changes its rows without a trace in the binlog.
    pub is_cascade_child: bool,
}

/// What only the server says of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    /// As in CREATE TABLE: `decimal(10,2) unsigned`.
    pub column_type: String,
    pub nullable: bool,
}

/// A row of `information_schema.COLUMNS`.
struct ColumnRow {
    name: String,
    data_type: String,
    column_type: String,
    nullable: bool,
    charset: Option<String>,
    collation: Option<String>,
    octets: Option<u64>,
    precision: Option<u64>,
    scale: Option<u64>,
    digits: Option<u64>,
}

type ColumnTuple = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
);

impl Source {
    /// Describes a table; `None` when there is none of that name.
    ///
    /// # Errors
    /// When the server cannot be asked or a column's type is not supported.
    pub async fn describe(&self, database: &str, table: &str) -> Result<Option<SourceTable>, SourceError> {
        let mut conn = self.connect().await?;
        let name = (database, table);
        let Some((database, table, engine, rows_estimate, data_bytes)) =
            self.read_table(&mut conn, name).await?
        else {
            return Ok(None);
        };
        // As the binlog spells them, which may differ in case from what was asked.
        let name = (database.as_str(), table.as_str());
        let rows = self.read_columns(&mut conn, name).await?;
        let (mut columns, mut source_columns) = (Vec::new(), Vec::new());
        for row in rows {
            let kind = column_kind(&row).map_err(|what| SourceError::Unsupported {
                table: format!("{database}.{table}"),
                column: row.name.clone(),
                what,
            })?;
            columns.push(Column { name: row.name, kind });
            source_columns.push(SourceColumn { column_type: row.column_type, nullable: row.nullable });
        }
        let (primary_key, unique_keys) = self.read_keys(&mut conn, name, &columns).await?;
        let is_cascade_child = self.read_cascade(&mut conn, name).await?;
        Ok(Some(SourceTable {
            table: Arc::new(Table { database, name: table, columns, primary_key }),
            columns: source_columns,
            engine,
            unique_keys,
            rows_estimate,
            data_bytes,
            is_cascade_child,
        }))
    }

    async fn read_table(
        &self,
        conn: &mut Conn,
        name: (&str, &str),
    ) -> Result<Option<(String, String, String, u64, u64)>, SourceError> {
        let query = "SELECT TABLE_SCHEMA, TABLE_NAME, IFNULL(ENGINE, ''), \
                     CAST(IFNULL(TABLE_ROWS, 0) AS UNSIGNED), CAST(IFNULL(DATA_LENGTH, 0) AS UNSIGNED) \
                     FROM information_schema.TABLES \
                     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND TABLE_TYPE = 'BASE TABLE'";
        self.within("read a table's description", conn.exec_first(query, name)).await
    }

    async fn read_columns(&self, conn: &mut Conn, name: (&str, &str)) -> Result<Vec<ColumnRow>, SourceError> {
        let query = "SELECT COLUMN_NAME, LOWER(DATA_TYPE), CONVERT(COLUMN_TYPE USING utf8mb4), IS_NULLABLE, \
                     CHARACTER_SET_NAME, COLLATION_NAME, CAST(CHARACTER_OCTET_LENGTH AS UNSIGNED), \
                     CAST(NUMERIC_PRECISION AS UNSIGNED), CAST(NUMERIC_SCALE AS UNSIGNED), \
                     CAST(DATETIME_PRECISION AS UNSIGNED) FROM information_schema.COLUMNS \
                     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";
        let rows: Vec<ColumnTuple> = self.within("read a table's columns", conn.exec(query, name)).await?;
        Ok(rows.into_iter().map(ColumnRow::from).collect())
    }

    /// The primary key, and all keys that name at most one row.
    async fn read_keys(
        &self,
        conn: &mut Conn,
        name: (&str, &str),
        columns: &[Column],
    ) -> Result<(Vec<usize>, Vec<Vec<usize>>), SourceError> {
        let query = "SELECT INDEX_NAME, COLUMN_NAME, \
                     CAST(COLUMN_NAME IS NOT NULL AND SUB_PART IS NULL AND NULLABLE <> 'YES' AS UNSIGNED) \
                     FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 \
                     ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX";
        let rows: Vec<(String, Option<String>, u64)> =
            self.within("read a table's keys", conn.exec(query, name)).await?;
        let mut keys: Vec<(String, Vec<usize>, bool)> = Vec::new();
        for (index, column, whole) in rows {
            let place = column.and_then(|name| columns.iter().position(|column| column.name == name));
            let usable = whole == 1 && place.is_some();
            match keys.last_mut().filter(|(last, ..)| *last == index) {
                Some((_, places, all_usable)) => {
                    places.extend(place);
                    *all_usable &= usable;
                }
                None => keys.push((index, Vec::from_iter(place), usable)),
            }
        }
        let primary = keys.iter().find(|(index, ..)| index == "PRIMARY").map(|(_, places, _)| places.clone());
        let unique = keys.into_iter().filter(|(.., usable)| *usable).map(|(_, places, _)| places).collect();
        Ok((primary.unwrap_or_default(), unique))
    }

    async fn read_cascade(&self, conn: &mut Conn, name: (&str, &str)) -> Result<bool, SourceError> {
        let query = "SELECT COUNT(*) FROM information_schema.REFERENTIAL_CONSTRAINTS \
                     WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ? \
                     AND (UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') \
                     OR DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))";
        let count: Option<u64> =
            self.within("read a table's foreign keys", conn.exec_first(query, name)).await?;
        Ok(count.is_some_and(|count| count > 0))
    }
}

impl From<ColumnTuple> for ColumnRow {
    fn from(row: ColumnTuple) -> Self {
        let (name, data_type, column_type, nullable, charset, collation, octets, precision, scale, digits) =
            row;
        let nullable = nullable == "YES";
        Self { name, data_type, column_type, nullable, charset, collation, octets, precision, scale, digits }
    }
}

/// The kind of a column; the error says what of it is not supported.
fn column_kind(row: &ColumnRow) -> Result<ColumnKind, String> {
    let unsigned = row.column_type.contains(" unsigned");
    let integer = |bits| Ok(ColumnKind::Integer { unsigned, bits });
    let byte = |value: Option<u64>| u8::try_from(value.unwrap_or(0)).unwrap_or(u8::MAX);
    let digits = byte(row.digits);
    let labels = || parse_labels(&row.column_type).ok_or_else(|| format!("type {}", row.column_type));
    match row.data_type.as_str() {
        "tinyint" => integer(8),
        "smallint" => integer(16),
        "mediumint" => integer(24),
        "int" => integer(32),
        "bigint" => integer(64),
        "float" => Ok(ColumnKind::Float),
        "double" => Ok(ColumnKind::Double),
        "decimal" => Ok(ColumnKind::Decimal { precision: byte(row.precision), scale: byte(row.scale) }),
        "date" => Ok(ColumnKind::Date),
        "datetime" => Ok(ColumnKind::DateTime { digits }),
        "timestamp" => Ok(ColumnKind::Timestamp { digits }),
        "time" => Ok(ColumnKind::Time { digits }),
        "year" => Ok(ColumnKind::Year),
        "bit" => Ok(ColumnKind::Bit { bits: byte(row.precision) }),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => text_kind(row),
        "binary" => {
            Ok(ColumnKind::Binary { fixed: row.octets.and_then(|length| u16::try_from(length).ok()) })
        }
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            Ok(ColumnKind::Binary { fixed: None })
        }
        "enum" => Ok(ColumnKind::Enum { labels: labels()? }),
        "set" => Ok(ColumnKind::Set { labels: labels()? }),
        "json" => Ok(ColumnKind::Json),
        other => Err(format!("type {other}")),
    }
}

fn text_kind(row: &ColumnRow) -> Result<ColumnKind, String> {
    let charset: Charset = supported_charset(row.charset.as_deref().unwrap_or("(none)"))?;
    let case_insensitive = is_case_insensitive(row.collation.as_deref().unwrap_or_default());
    Ok(ColumnKind::Text { charset, case_insensitive })
}

/// The labels of `enum('a','it''s')`: quotes are doubled, and control
/// characters and backslashes escaped, as the server writes them.
fn parse_labels(column_type: &str) -> Option<Arc<[String]>> {
    let list = column_type.split_once('(')?.1.strip_suffix(')')?;
    let mut labels = Vec::new();
    let mut symbols = list.chars().peekable();
    while symbols.next()? == '\'' {
        let mut label = String::new();
        loop {
            match symbols.next()? {
                '\'' if symbols.peek() == Some(&'\'') => label.extend(symbols.next()),
                '\'' => break,
                '\\' => label.push(match symbols.next()? {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                }),
                other => label.push(other),
            }
        }
        labels.push(label);
        if symbols.next().is_none() {
            return Some(labels.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_the_server_writes_them() {
        for (text, expect) in [
            ("enum('a')", &["a"][..]),
            ("set('a','b c','')", &["a", "b c", ""]),
            (r"enum('it''s','a,b','x\\y','l\nm')", &["it's", "a,b", "x\\y", "l\nm"]),
        ] {
            assert_eq!(&*parse_labels(text).unwrap(), expect, "{text}");
        }
        for text in ["enum", "enum()", "enum('a", "enum(a)"] {
            assert_eq!(parse_labels(text), None, "{text}");
        }
    }
}
