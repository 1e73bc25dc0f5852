//! MySQL binlog to whole transactions of row changes.
//!
//! ```text
//! MySQL ── dump ──► stream ── events ──► group ──► Event: whole transactions,
//!   │                 │  TABLE_MAP ─► schema          statements, progress
//!   │                 └─ ROWS ─► rows ─► value
//!   └── SELECT ──► source ──────────────► value ──► the same tokens
//! ```
//!
//! [`Source`] asks the server: is it fit, where does its binlog end, what is a
//! table like. [`BinlogStream`] follows the binlog from a place. Rows of both
//! are [`Row`]s: JSON tokens that are equal to the byte for equal values.

mod change;
mod filter;
mod group;
mod gtid;
mod reader;
mod rows;
mod schema;
mod source;
mod statement;
mod stream;
mod value;

pub use change::{Charset, Column, ColumnKind, Event, Row, RowChange, Statement, Table, Transaction};
pub use filter::TableFilter;
pub use gtid::{GtidError, GtidSet};
pub use rows::Images;
pub use source::{BinlogPlace, Server, Source, SourceColumn, SourceError, SourceOptions, SourceTable};
pub use statement::{Alteration, ColumnDefinition, Effect};
pub use stream::{BinlogStream, CapturedRows, StreamError, StreamOptions};
pub use value::{Fault, ValueError, select_row, write_token};
