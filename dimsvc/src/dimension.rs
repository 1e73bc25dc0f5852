//! The vocabulary of dimensions: keys, images, versions, and rows on their way
//! to a store.
//!
//! Everything in dimsvc speaks these words; this module knows nothing else of
//! the program.

pub use tidemark_heart::{Image, Key, Row, VersionedRow};

use bytes::Bytes;
use std::sync::Arc;

/// Rows of one table in the store.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// The dimension's table in the store.
    pub table: Arc<str>,
    pub rows: Vec<VersionedRow>,
}

/// How the image of a row begins that was deleted from a dimension which keeps
/// what it was: it is absent to every position, and `latest` may still give it.
const DELETED: &[u8] = br#"{"__deleted":true,"#;

/// The last image of a deleted row, marked as such.
pub fn mark_deleted(image: &[u8]) -> Bytes {
    let columns = image.strip_prefix(b"{").unwrap_or(image);
    [DELETED, columns].concat().into()
}

/// The last image of a row that is marked as deleted.
pub fn marked_deleted(image: &[u8]) -> Option<Vec<u8>> {
    image.strip_prefix(DELETED).map(|columns| [b"{", columns].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_off_as_it_went_on() {
        let image = br#"{"id":1,"name":"a"}"#;
        assert_eq!(marked_deleted(&mark_deleted(image)).as_deref(), Some(&image[..]));
        assert_eq!(marked_deleted(image), None);
    }
}
