//! Why a stream ended.

use crate::change::Table;
use crate::rows::RowsFault;
use tidemark_proto::{Position, PositionError};

/// The server's code for a binlog that it cannot send.
const CANNOT_READ_BINLOG: u16 = 1236;
/// The server's code for a missing right.
const ACCESS_DENIED: u16 = 1227;

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection is gone; another stream may go on where this one ended.
    #[error("the binlog stream was lost: {0}")]
    Lost(String),
    /// The server has no longer, or not yet, what was asked for: a gap.
    #[error("the server does not have the binlog at that place: {0}")]
    Purged(String),
    /// Another reader has the same `server_id`. Opening a stream again would
    /// end the other one, which would do the same.
    #[error("another reader of the binlog uses the same server_id: give each its own")]
    DuplicateServerId,
    #[error("the rows of the transaction at {begin} take more than {bytes_max} bytes")]
    TransactionTooLarge { begin: Position, bytes_max: usize },
    /// A value or a type that is not supported, of a table that was asked for.
    #[error("table {table}, column {column}: {reason}")]
    Unreadable { table: String, column: String, reason: String },
    /// The binlog tells changes in a form that cannot be followed.
    #[error("{what}: {fix}")]
    Unfit { what: String, fix: String },
    /// The binlog is not what it seems, or positions do not fit.
    #[error("binlog at {place}: {reason}")]
    Malformed { place: String, reason: String },
}

impl StreamError {
    /// Whether another stream from the last event's end may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    pub(super) fn of_server(error: &mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(error) if error.code == CANNOT_READ_BINLOG => {
                if error.message.contains("same server_uuid/server_id") {
                    return Self::DuplicateServerId;
                }
                Self::Purged(error.message.clone())
            }
            mysql_async::Error::Server(error) if error.code == ACCESS_DENIED => Self::Unfit {
                what: error.message.clone(),
                fix: String::from("run GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the user"),
            },
            error => Self::Lost(error.to_string()),
        }
    }

    pub(super) fn of_rows(table: &Table, fault: RowsFault) -> Self {
        let table = format!("{}.{}", table.database, table.name);
        match fault {
            RowsFault::Partial => Self::Unfit {
                what: format!("the binlog has partial rows of table {table}"),
                fix: String::from("run SET PERSIST binlog_row_image = 'FULL' and let no session set another"),
            },
            RowsFault::Value { column, fault } => {
                Self::Unreadable { table, column, reason: fault.to_string() }
            }
            RowsFault::Columns => Self::Malformed {
                place: format!("a row of table {table}"),
                reason: String::from("it has another number of columns than the table"),
            },
            RowsFault::Event(fault) => {
                Self::Malformed { place: format!("rows of table {table}"), reason: fault.to_string() }
            }
        }
    }
}

impl From<PositionError> for StreamError {
    fn from(error: PositionError) -> Self {
        Self::Malformed { place: String::from("a position"), reason: error.to_string() }
    }
}
