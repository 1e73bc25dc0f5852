//! How keys and values are written in Redis.
//!
//! ```text
//! PREFIX:STORE:GENERATION:TABLE:["key"]  ->  kind (1) | version (8, big-endian) | row
//! ```
//!
//! The kind is `R` a row, `T` a tombstone, `A` a proof of absence (version 0),
//! or `L` a lease, whose 8 bytes are a token. Row and lease share a key, so that
//! a script sees both and an eviction takes both.

use super::SharedError;
use bytes::Bytes;
use redis::Value;
use std::hash::{DefaultHasher, Hasher as _};
use tidemark_heart::{
    Key,
    shared::{Newest, SharedRead},
};
use tidemark_proto::Position;

const ROW: u8 = b'R';
const TOMBSTONE: u8 = b'T';
const ABSENT: u8 = b'A';
const LEASE: u8 = b'L';
const HEAD_BYTES: usize = 9;
/// Stores on one server are told apart by so much of their random id.
const STORE_ID_CHARS: usize = 8;

/// `PREFIX:STORE`, of all keys of a store.
pub(super) fn space(prefix: &str, store_id: &str) -> String {
    let store: String = store_id.chars().take(STORE_ID_CHARS).collect();
    format!("{prefix}:{store}")
}

/// The name of a key; `table` is `PREFIX:STORE:GENERATION:TABLE:`.
pub(super) fn name(table: &str, key: &Key) -> Vec<u8> {
    [table.as_bytes(), key.as_bytes()].concat()
}

/// A lease as it is stored.
pub(super) fn lease(token: u64) -> [u8; HEAD_BYTES] {
    head(LEASE, token)
}

/// A version, or a proof of absence, as it is stored.
pub(super) fn value(newest: &Newest) -> Vec<u8> {
    match newest {
        None => head(ABSENT, 0).to_vec(),
        Some((version, None)) => head(TOMBSTONE, version.packed()).to_vec(),
        Some((version, Some(row))) => [&head(ROW, version.packed()), row.as_ref()].concat(),
    }
}

/// One answer of the script that reads or leases.
pub(super) fn read(answer: Value) -> Result<SharedRead, SharedError> {
    match answer {
        Value::Int(1) => Ok(SharedRead::Leased),
        Value::Int(0) => Ok(SharedRead::Busy),
        other => held(other)?.ok_or(SharedError::Foreign),
    }
}

/// What a plain GET says: `None` for nothing.
pub(super) fn held(answer: Value) -> Result<Option<SharedRead>, SharedError> {
    let bytes = match answer {
        Value::Nil => return Ok(None),
        Value::BulkString(bytes) => Bytes::from(bytes),
        _ => return Err(SharedError::Foreign),
    };
    let (kind, rest) = bytes.split_first().ok_or(SharedError::Foreign)?;
    let packed = rest.first_chunk::<8>().ok_or(SharedError::Foreign)?;
    let version = Position::from_packed(u64::from_be_bytes(*packed));
    match (*kind, bytes.len()) {
        (ROW, _) => Ok(Some(SharedRead::Hit { version, image: Some(bytes.slice(HEAD_BYTES..)) })),
        (TOMBSTONE, HEAD_BYTES) => Ok(Some(SharedRead::Hit { version, image: None })),
        (ABSENT, HEAD_BYTES) => Ok(Some(SharedRead::Absent)),
        (LEASE, HEAD_BYTES) => Ok(Some(SharedRead::Busy)),
        _ => Err(SharedError::Foreign),
    }
}

/// The life of a key, up to an eighth shorter than `ttl_ms`: keys that are
/// filled together do not go together.
pub(super) fn time_to_live(key: &Key, ttl_ms: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key.as_bytes());
    (ttl_ms - hasher.finish() % (ttl_ms / 8 + 1)).max(1)
}

fn head(kind: u8, number: u64) -> [u8; HEAD_BYTES] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [kind, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn newest() -> impl Strategy<Value = Newest> {
        let image = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from));
        proptest::option::of((any::<u64>().prop_map(Position::from_packed), image))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(newest in newest()) {
            let expect = match newest.clone() {
                None => SharedRead::Absent,
                Some((version, image)) => SharedRead::Hit { version, image },
            };
            prop_assert_eq!(read(Value::BulkString(value(&newest))).unwrap(), expect);
        }

        #[test]
        fn other_bytes_are_an_error_and_not_an_absence(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let ours = bytes.len() >= 9 && matches!(bytes[0], b'R' | b'T' | b'A' | b'L');
            let read = held(Value::BulkString(bytes));
            prop_assert!(ours || matches!(read, Err(SharedError::Foreign)), "{:?}", read);
        }

        #[test]
        fn lives_end_within_an_eighth(key in "[a-z]{1,8}", ttl in 1_u64..100_000_000) {
            let life = time_to_live(&Key::from_canonical(key), ttl);
            prop_assert!(life <= ttl && life >= ttl - ttl / 8);
        }
    }

    /// Let `time_to_live` give every key the same, or only few lives, to see it
    /// fail.
    #[test]
    fn keys_that_are_filled_together_do_not_go_together() {
        let ttl_ms = 8_000_000;
        let mut ends = [0; 10];
        for id in 0..1_000 {
            let early = ttl_ms - time_to_live(&Key::from_canonical(format!("[{id}]")), ttl_ms);
            ends[(early / 100_001) as usize] += 1;
        }
        // A hundred each, were they spread evenly.
        assert!(ends.iter().all(|ends| (50..=200).contains(ends)), "{ends:?}");
    }

    #[test]
    fn a_lease_is_of_no_reader_who_did_not_take_it() {
        let held = held(Value::BulkString(lease(u64::MAX).to_vec())).unwrap();
        assert_eq!(held, Some(SharedRead::Busy));
    }
}
