//! How a version of a row lies in the embedded store.
//!
//! Entry key: key, a zero byte, the version inverted in big endian, so that the
//! versions of a key follow each other, the newest first. Keys hold no byte
//! below 0x20, so no key's entries mix with those of a longer one. Entry value:
//! a tag, then the image. Both are the format on disk.

use crate::dimension::Image;
use bytes::Bytes;
use tidemark_proto::Position;

const TOMBSTONE: u8 = 0;
const ROW: u8 = 1;

/// Ends the key; below every byte of one.
const KEY_END: u8 = 0;
/// Above [`KEY_END`] and below every byte of a key: after all versions.
const VERSIONS_END: u8 = 1;
const VERSION_BYTES: usize = size_of::<u64>();

/// The entry key of a version.
pub(super) fn at(key: &[u8], version: Position) -> Vec<u8> {
    let mut entry = Vec::with_capacity(key.len() + 1 + VERSION_BYTES);
    entry.extend_from_slice(key);
    entry.push(KEY_END);
    entry.extend_from_slice(&(!version.packed()).to_be_bytes());
    entry
}

/// Above every version of the key, below the next key.
pub(super) fn after_versions(key: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(key.len() + 1);
    entry.extend_from_slice(key);
    entry.push(VERSIONS_END);
    entry
}

/// The key and version of an entry key; `None` if it is not one.
pub(super) fn split(entry: &[u8]) -> Option<(&[u8], Position)> {
    let (rest, version) = entry.split_last_chunk::<VERSION_BYTES>()?;
    let (&end, key) = rest.split_last()?;
    (end == KEY_END).then(|| (key, Position::from_packed(!u64::from_be_bytes(*version))))
}

/// The entry value of an image.
pub(super) fn value(image: &Image) -> Vec<u8> {
    match image {
        None => vec![TOMBSTONE],
        Some(image) => {
            let mut value = Vec::with_capacity(1 + image.len());
            value.push(ROW);
            value.extend_from_slice(image);
            value
        }
    }
}

/// The image of an entry value; `None` if it is not one. Copied, because a
/// slice of the store keeps the whole block that it lies in.
pub(super) fn image(value: &[u8]) -> Option<Image> {
    match value.split_first()? {
        (&TOMBSTONE, []) => Some(None),
        (&ROW, image) => Some(Some(Bytes::copy_from_slice(image))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(packed: u64) -> Position {
        Position::from_packed(packed)
    }

    proptest! {
        #[test]
        fn entries_sort_by_key_then_newest_first(
            a in ("[ -~é中]{1,8}", any::<u64>()), b in ("[ -~é中]{1,8}", any::<u64>()),
        ) {
            let (a, b) = ((a.0.as_bytes(), version(a.1)), (b.0.as_bytes(), version(b.1)));
            let expect = a.0.cmp(b.0).then(b.1.cmp(&a.1));
            let entry = at(a.0, a.1);
            prop_assert_eq!(entry.cmp(&at(b.0, b.1)), expect);
            prop_assert_eq!(split(&entry), Some(a));
        }

        #[test]
        fn versions_of_a_key_end_before_the_next_key(key in "[ -~]{1,8}", longer in "[ -~]{1,4}") {
            let next = format!("{key}{longer}");
            let end = after_versions(key.as_bytes());
            prop_assert!(at(key.as_bytes(), Position::ZERO) < end);
            prop_assert!(end < at(next.as_bytes(), Position::MAX));
        }
    }

    #[test]
    fn values_keep_images_and_tombstones() {
        for expect in [None, Some(Bytes::from_static(b"{}"))] {
            assert_eq!(image(&value(&expect)), Some(expect));
        }
        for broken in [&b""[..], b"\x00x", b"\x07{}"] {
            assert_eq!(image(broken), None, "{broken:?}");
        }
    }
}
