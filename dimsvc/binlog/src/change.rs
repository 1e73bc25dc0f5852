//! What a binlog says, decoded: transactions of row changes.

use crate::statement::Effect;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tidemark_proto::{Position, envelope::RowKind};

/// One item of the stream, in binlog order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A whole transaction; rows of it were held back until its commit.
    Transaction(Transaction),
    /// A statement outside of a transaction: DDL and its like.
    Statement(Statement),
    /// Nothing but progress: an event between groups or a heartbeat of an idle
    /// server. All up to here was delivered.
    Progress(Position),
}

impl Event {
    /// Everything up to here is complete once this item is processed.
    pub fn end(&self) -> Position {
        match self {
            Self::Transaction(transaction) => transaction.end,
            Self::Statement(statement) => statement.end,
            Self::Progress(position) => *position,
        }
    }
}

/// A binlog event group with the rows that it changed, of the tables asked for.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Start offset of the group's first event: the version of its rows.
    pub begin: Position,
    /// End offset of its last event.
    pub end: Position,
    /// `uuid:number`, where the server writes GTIDs.
    pub gtid: Option<Arc<str>>,
    /// The storage engine's transaction number, from the XID event.
    pub xid: Option<u64>,
    /// Seconds since 1970, of its last event.
    pub ts: i64,
    /// The binlog file that holds it, as the server names it.
    pub file: Arc<str>,
    /// In binlog order; empty when it touched none of the tables asked for.
    pub rows: Vec<RowChange>,
}

/// One changed row. An insert has `after`, a delete `before`, an update both.
#[derive(Debug, Clone)]
pub struct RowChange {
    pub table: Arc<Table>,
    /// Insert, Update or Delete.
    pub kind: RowKind,
    /// End offset of the rows event: Maxwell's `position`. Several rows share
    /// it.
    pub position: Position,
    /// Seconds since 1970, of the rows event.
    pub ts: i64,
    pub before: Option<Row>,
    pub after: Option<Row>,
}

/// A statement in the binlog that is not part of a transaction of rows.
#[derive(Debug, Clone)]
pub struct Statement {
    pub begin: Position,
    pub end: Position,
    pub gtid: Option<Arc<str>>,
    /// The default database when it ran.
    pub database: String,
    pub sql: String,
}

impl Statement {
    /// What it does to a table.
    pub fn effect_on(&self, database: &str, table: &str) -> Effect {
        crate::statement::effect(&self.sql, &self.database, (database, table))
    }
}

/// A table as the binlog or `information_schema` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub database: String,
    pub name: String,
    pub columns: Vec<Column>,
    /// Indexes into `columns`, in key order; empty without a primary key.
    pub primary_key: Vec<usize>,
}

impl Table {
    /// Place of a column, by name without regard to case (as MySQL compares).
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// A column: its name and what its values mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// What a column's values mean and how they are written as JSON: what
/// [`crate::write_token`] needs to turn a MySQL value into a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnKind {
    Integer {
        unsigned: bool,
        bits: u8,
    },
    Float,
    Double,
    /// Written as a bare number with exactly `scale` digits.
    Decimal {
        precision: u8,
        scale: u8,
    },
    Date,
    DateTime {
        digits: u8,
    },
    /// UTC, in the stream and in SELECT alike.
    Timestamp {
        digits: u8,
    },
    Time {
        digits: u8,
    },
    Year,
    Bit {
        bits: u8,
    },
    /// Text in a character set; `case_insensitive` by its collation.
    Text {
        charset: Charset,
        case_insensitive: bool,
    },
    /// Bytes, written in base64; BINARY(n) is padded with zeros to `fixed`.
    Binary {
        fixed: Option<u16>,
    },
    Enum {
        labels: Arc<[String]>,
    },
    Set {
        labels: Arc<[String]>,
    },
    Json,
}

/// Character sets that text columns may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Charset {
    /// utf8mb4, utf8mb3, ascii.
    Utf8,
    /// MySQL's latin1, which is Windows-1252.
    Latin1,
    Gbk,
    Utf16,
}

/// A row: one JSON token a column, laid end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    text: Bytes,
    ends: Box<[u32]>,
}

impl<'t> FromIterator<&'t str> for Row {
    /// A row of tokens, in column order.
    fn from_iter<I: IntoIterator<Item = &'t str>>(tokens: I) -> Self {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        for token in tokens {
            text.extend_from_slice(token.as_bytes());
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        Self::new(Bytes::from(text), ends.into())
    }
}

impl Row {
    /// Builds a row from its text and the end of each column's token in it.
    /// Both come from one encoder: the ends rise and lie on token bounds.
    pub(crate) fn new(text: Bytes, ends: Box<[u32]>) -> Self {
        Self { text, ends }
    }

    /// How many columns it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The JSON token of a column: `12.50`, `"abc"`, `null`.
    pub fn token(&self, column: usize) -> Option<&str> {
        let end = *self.ends.get(column)? as usize;
        let start =
            column.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        std::str::from_utf8(self.text.get(start..end)?).ok()
    }

    /// All tokens in column order.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|column| self.token(column))
    }

    /// Bytes that the row holds in memory.
    pub fn size(&self) -> usize {
        self.text.len() + self.ends.len() * 4 + 48
    }
}
