//! The vocabulary of dimensions: keys, images, versions, read points.
//!
//! Everything in dimsvc speaks these words; this module knows nothing else of
//! the program.

use bytes::Bytes;
use std::{fmt, sync::Arc};
use tidemark_proto::Position;

/// A key in canonical form: the JSON array of its columns' values as bytes.
/// Equal keys are equal bytes. It never holds a byte below 0x20.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Takes canonical text; only [`crate::registry`] makes it from outside input.
    pub fn from_canonical(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The canonical text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The canonical text, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// What a key held from a version on: a row as JSON object bytes, or `None`
/// after a delete (a tombstone).
pub type Image = Option<Bytes>;

/// One version of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedRow {
    pub key: Key,
    /// Begin of the transaction that wrote it.
    pub version: Position,
    pub image: Image,
}

/// Rows of one table in the store.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// The dimension's table in the store.
    pub table: Arc<str>,
    pub rows: Vec<VersionedRow>,
}
