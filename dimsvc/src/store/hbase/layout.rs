//! How rows lie in HBase: table names, row keys, columns. Part of what is
//! stored: a change here is another store.

use crate::{
    dimension::{Image, Key},
    store::{StoreError, StoredRow},
};
use bytes::Bytes;
use hbase_thrift::hbase::{BatchMutation, ColumnDescriptor, Mutation, TCell, TRowResult};
use tidemark_proto::Position;

pub(super) const FAMILY: &[u8] = b"d:";
pub(super) const ROW_COLUMN: &[u8] = b"d:row";
pub(super) const CELL_COLUMN: &[u8] = b"d:cell";

/// Every version is kept: it is history that reads ask for.
pub(super) const ALL_VERSIONS: i32 = i32::MAX;

/// The only family. Every field is named, because the generated default asks
/// for no version at all.
pub(super) fn family(versions: i32) -> ColumnDescriptor {
    ColumnDescriptor {
        name: Some(FAMILY.to_vec()),
        max_versions: Some(versions),
        compression: Some(String::from("NONE")),
        in_memory: Some(false),
        bloom_filter_type: Some(String::from("ROW")),
        bloom_filter_vector_size: None,
        bloom_filter_nb_hashes: None,
        block_cache_enabled: Some(true),
        // Not above 0: for ever.
        time_to_live: Some(0),
    }
}

/// A write to one column, through the log: the generated default skips it.
pub(super) fn put(column: &[u8], value: &[u8]) -> Mutation {
    Mutation {
        is_delete: Some(false),
        column: Some(column.to_vec()),
        value: Some(value.to_vec()),
        write_to_w_a_l: Some(true),
    }
}

/// A marker that hides all versions up to the timestamp that it is written
/// with: Thrift1 has none for a single version.
pub(super) fn row_prune(row_key: Vec<u8>) -> BatchMutation {
    let marker = Mutation { is_delete: Some(true), value: None, ..put(ROW_COLUMN, b"") };
    BatchMutation { row: Some(row_key), mutations: Some(vec![marker]) }
}

/// A version as a cell; a tombstone is an empty one.
pub(super) fn row_put(row_key: Vec<u8>, image: &Image) -> BatchMutation {
    let value = image.as_deref().unwrap_or_default();
    BatchMutation { row: Some(row_key), mutations: Some(vec![put(ROW_COLUMN, value)]) }
}

/// The cell timestamp of a version, and the bound of a read below it.
pub(super) fn timestamp(position: Position) -> i64 {
    position.packed().cast_signed()
}

/// The row key: one byte that spreads keys over the regions, then the key, or
/// the text that keys begin with.
pub(super) fn row_key(key: &[u8], salt_buckets: u8) -> Vec<u8> {
    let mut row_key = Vec::with_capacity(1 + key.len());
    row_key.push(salt(first_column(key), salt_buckets));
    row_key.extend_from_slice(key);
    row_key
}

/// The row key after all that begin with this one, which ends in a comma.
pub(super) fn after_prefix(mut row_key: Vec<u8>) -> Vec<u8> {
    if let Some(last) = row_key.last_mut() {
        *last += 1;
    }
    row_key
}

/// The text of a key to the end of its first column: all that a prefix of
/// whole columns shares with the keys that begin with it.
fn first_column(key: &[u8]) -> &[u8] {
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in key.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b']' if !in_string => return key.get(..at).unwrap_or(key),
            _ => {}
        }
    }
    key
}

/// FNV-1a of 32 bits, modulo the buckets.
fn salt(key: &[u8], salt_buckets: u8) -> u8 {
    let hash =
        key.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let bucket = hash % u32::from(salt_buckets.max(1));
    u8::try_from(bucket).unwrap_or_default()
}

/// A row as the gateway sends it: its row key and the newest version asked for.
pub(super) fn decode(result: TRowResult) -> Result<(Vec<u8>, StoredRow), StoreError> {
    let row_key = result.row.ok_or_else(|| corrupt("without key"))?;
    let cell = result.columns.and_then(|mut columns| columns.remove(ROW_COLUMN));
    Ok((row_key, decode_cell(cell.ok_or_else(|| corrupt("without d:row"))?)?))
}

/// A version as the gateway sends it.
pub(super) fn decode_cell(TCell { value, timestamp }: TCell) -> Result<StoredRow, StoreError> {
    let version = timestamp.and_then(|timestamp| u64::try_from(timestamp).ok());
    let version = Position::from_packed(version.ok_or_else(|| corrupt("without timestamp"))?);
    let value = Bytes::from(value.unwrap_or_default());
    Ok(StoredRow { version, image: (!value.is_empty()).then_some(value) })
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("hbase sent a row {what}"))
}

/// The key in a row key.
pub(super) fn key_of(row_key: &[u8]) -> Result<Key, StoreError> {
    match row_key.split_first() {
        Some((_salt, key)) => Ok(Key::from_canonical(Bytes::copy_from_slice(key))),
        None => Err(StoreError::Corrupt(String::from("an empty row key"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_never_change() {
        // FNV-1a's published test values: "" 811c9dc5, "a" e40c292c, "foobar" bf9cf968.
        for (key, hash) in [("a", 0xe40c_292c_u32), ("foobar", 0xbf9c_f968), ("foobar,1]", 0xbf9c_f968)] {
            for buckets in [1, 16, 255] {
                let row_key = row_key(key.as_bytes(), buckets);
                assert_eq!(u32::from(row_key[0]), hash % u32::from(buckets));
                assert_eq!(key_of(&row_key).unwrap(), Key::from_canonical(key));
            }
        }
    }

    #[test]
    fn the_first_column_ends_where_its_value_does() {
        for (key, expect) in [
            ("[15]", "[15"),
            ("[15,3]", "[15"),
            ("[15,", "[15"),
            (r#"["a,]\"b",3]"#, r#"["a,]\"b""#),
            (r#"["\\",3]"#, r#"["\\""#),
        ] {
            assert_eq!(first_column(key.as_bytes()), expect.as_bytes(), "{key}");
        }
    }

    /// Fails when `row_key` salts with the whole key.
    #[test]
    fn keys_that_begin_with_a_prefix_lie_in_its_range() {
        let begin = row_key(b"[\"a\",", 16);
        let end = after_prefix(begin.clone());
        let within = |key: &str| (&begin..&end).contains(&&row_key(key.as_bytes(), 16));
        for key in ["[\"a\",1]", "[\"a\",-1]", "[\"a\",\"\u{10ffff}\"]"] {
            assert!(within(key), "{key}");
        }
        for key in ["[\"a\"]", "[\"a \",1]", "[\"b\",1]", "[\"\",1]"] {
            assert!(!within(key), "{key}");
        }
    }

    #[test]
    fn a_row_without_its_cell_is_corrupt_never_absent() {
        let row = TRowResult { row: Some(b"\0[1]".to_vec()), columns: None, sorted_columns: None };
        assert!(matches!(decode(row), Err(StoreError::Corrupt(_))));
    }
}
