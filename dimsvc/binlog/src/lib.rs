//! MySQL binlog to whole transactions of row changes.

mod change;

pub use change::{Charset, Column, ColumnKind, Event, Row, RowChange, Statement, Table, Transaction};
