//! Keys, images, and a row as memory holds it: one allocation behind a thin
//! pointer, so that a resident row costs eight bytes beside its content.

use bytes::Bytes;
use std::{borrow::Borrow, fmt};
use tidemark_proto::Position;
use triomphe::ThinArc;

/// A key in canonical form: the JSON array of its columns' values as bytes.
/// Equal keys are equal bytes. It never holds a byte below 0x20.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Takes canonical text; only the registry makes it from outside input.
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

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// What a key held from a version on: a row as JSON object bytes, or `None`
/// after a delete (a tombstone).
pub type Image = Option<Bytes>;

/// One version of one row, on its way to or from a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedRow {
    pub key: Key,
    /// Begin of the transaction that wrote it.
    pub version: Position,
    pub image: Image,
}

/// One version of one row in memory, or the proof that a key has none. Clones
/// share it.
#[derive(Clone)]
pub struct Row(ThinArc<Header, u8>);

#[derive(Clone, Copy)]
struct Header {
    version: Position,
    from: Position,
    key_bytes: u32,
    is_row: bool,
}

impl Row {
    /// What a row costs beside its key and image: header, counters, and the
    /// allocator's own.
    pub const OVERHEAD: usize = 56;

    /// A version of a row; without an image a tombstone.
    pub fn new(key: &[u8], version: Position, image: Option<&[u8]>) -> Self {
        Self::make(key, image, version, version)
    }

    /// The proof that the key has no version, valid after `from`.
    pub fn absent(key: &[u8], from: Position) -> Self {
        Self::make(key, None, Position::ZERO, from)
    }

    /// What the source held, of a version that it does not tell, valid after
    /// `from`.
    pub fn seen(key: &[u8], from: Position, image: Option<&[u8]>) -> Self {
        Self::make(key, image, Position::ZERO, from)
    }

    /// The same version, valid only after `from`, with another image.
    #[must_use]
    pub(crate) fn rewritten(&self, from: Position, image: Option<&[u8]>) -> Self {
        Self::make(self.key(), image, self.version(), from)
    }

    fn make(key: &[u8], image: Option<&[u8]>, version: Position, from: Position) -> Self {
        let key_bytes = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let header = Header { version, from, key_bytes, is_row: image.is_some() };
        match image {
            None => Self(ThinArc::from_header_and_slice(header, key)),
            Some(image) => Self(ThinArc::from_header_and_slice(header, &[key, image].concat())),
        }
    }

    /// The key's canonical text.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.parts().0
    }

    /// Begin of the transaction that wrote it; [`Position::ZERO`] where that is
    /// not known, and for a proof of absence.
    #[inline]
    pub fn version(&self) -> Position {
        self.0.header.header.version
    }

    /// It is valid for positions after this one.
    #[inline]
    pub fn from(&self) -> Position {
        self.0.header.header.from
    }

    /// The row's bytes; `None` for a tombstone or a proof of absence.
    #[inline]
    pub fn image(&self) -> Option<&[u8]> {
        self.0.header.header.is_row.then_some(self.parts().1)
    }

    /// What it costs in memory.
    pub fn bytes(&self) -> usize {
        self.0.slice.len() + Self::OVERHEAD
    }

    #[inline]
    fn parts(&self) -> (&[u8], &[u8]) {
        let at = self.0.header.header.key_bytes as usize;
        self.0.slice.split_at_checked(at).unwrap_or((&self.0.slice, &[]))
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        (self.version(), self.from(), self.parts(), self.image().is_some())
            == (other.version(), other.from(), other.parts(), other.image().is_some())
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image().map(String::from_utf8_lossy);
        let key = String::from_utf8_lossy(self.key());
        f.debug_struct("Row")
            .field("key", &key)
            .field("version", &self.version())
            .field("image", &image)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    #[test]
    fn a_row_gives_back_what_it_was_made_of() {
        let row = Row::new(b"[1]", at(7), Some(b"{}"));
        assert_eq!((row.key(), row.version(), row.from()), (&b"[1]"[..], at(7), at(7)));
        assert_eq!(row.image(), Some(&b"{}"[..]));
    }

    #[test]
    fn tombstones_and_absences_have_no_image() {
        assert_eq!(Row::new(b"[1]", at(7), None).image(), None);
        let absent = Row::absent(b"[1]", at(9));
        assert_eq!((absent.image(), absent.version(), absent.from()), (None, Position::ZERO, at(9)));
    }

    #[test]
    fn a_row_is_one_pointer_wide() {
        assert_eq!(size_of::<Option<Row>>(), 8);
    }
}
