//! The change envelope: Maxwell's JSON, which every topic carries.
//!
//! [`Envelope`] reads a message without copying it: columns are (name, token)
//! pairs that borrow the message's text. [`EnvelopeWriter`] writes one. Field
//! names and forms are Maxwell's (`database, table, type, ts, xid, commit,
//! position, data, old`); `epoch`, `tx`, `tx_end` and `again` are what exact
//! joins need and Maxwell lacks.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Envelope, EnvelopeError, Object};
pub use write::{EnvelopeWriter, Meta};

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowKind {
    Insert,
    Update,
    Delete,
    /// A row of a first full load.
    BootstrapInsert,
}

impl RowKind {
    /// The `type` field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::BootstrapInsert => "bootstrap-insert",
        }
    }

    /// Reads the `type` field; `None` for types that are not rows (DDL,
    /// bootstrap-start, bootstrap-complete) or not known.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "insert" => Self::Insert,
            "update" => Self::Update,
            "delete" => Self::Delete,
            "bootstrap-insert" => Self::BootstrapInsert,
            _ => return None,
        })
    }
}
