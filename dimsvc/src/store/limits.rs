//! What every store refuses, so that all of them take the same rows.
//!
//! The bounds are the narrowest of any store: HBase row keys end at 32 KiB, it
//! replaces the greatest timestamp by its clock, and its tombstones are empty
//! cells.

use super::{PrefixPage, ReadPrefix, StoreError};
use crate::dimension::{TableRows, VersionedRow};
use tidemark_proto::Position;

/// The longest key. Raising it needs a store that takes longer row keys.
const KEY_BYTES_MAX: usize = 16 << 10;

/// A page of a scan ends with the row that reaches this many bytes.
pub(super) const PAGE_BYTES_MAX: usize = 8 << 20;

/// Deleted keys that a prefix may be read past, of each row that its page may
/// have: what lies between rows costs time.
const PASSED_OF_A_ROW: usize = 64;

/// Fills the page of a prefix.
#[derive(Debug)]
pub(super) struct PrefixRows {
    pub(super) page: PrefixPage,
    limit: usize,
    bytes: usize,
    passed: usize,
}

impl PrefixRows {
    pub(super) fn new(limit: usize) -> Self {
        Self { page: PrefixPage::default(), limit: limit.max(1), bytes: 0, passed: 0 }
    }

    /// Takes the next key of the prefix; false when the page is full before it.
    pub(super) fn take(&mut self, row: VersionedRow) -> bool {
        let is_row = row.image.is_some();
        let is_full = self.page.rows.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX;
        self.passed += usize::from(!is_row);
        self.page.more = (is_row && is_full) || self.passed > self.limit.saturating_mul(PASSED_OF_A_ROW);
        if is_row && !self.page.more {
            self.bytes += row.key.as_bytes().len() + row.image.as_ref().map_or(0, bytes::Bytes::len);
            self.page.rows.push(row);
        }
        !self.page.more
    }
}

/// Refuses a name that some store cannot give to a table or cell.
pub(super) fn check_name(name: &str) -> Result<(), StoreError> {
    let fits = !name.is_empty()
        && name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits { Ok(()) } else { Err(StoreError::Refused(format!("`{name}` cannot name a table or cell"))) }
}

/// Refuses rows that some store cannot keep.
pub(super) fn check_batch(batch: &[TableRows]) -> Result<(), StoreError> {
    for TableRows { table, rows } in batch {
        for row in rows {
            if let Some(reason) = unstorable(row) {
                return Err(StoreError::Refused(format!("a row of {table}: {reason}")));
            }
        }
    }
    Ok(())
}

fn unstorable(row: &VersionedRow) -> Option<&'static str> {
    let key_bytes = row.key.as_bytes().len();
    if key_bytes == 0 {
        return Some("its key is empty");
    }
    if key_bytes > KEY_BYTES_MAX {
        return Some("its key is longer than 16 KiB");
    }
    if row.version == Position::MAX {
        return Some("its version is past every position");
    }
    row.image.as_ref().filter(|image| image.is_empty()).map(|_| "its image is empty")
}

/// Refuses what is no text of a key's first columns: a store may look for them
/// in one place alone.
pub(super) fn check_prefixes(prefixes: &[ReadPrefix]) -> Result<(), StoreError> {
    let whole = |prefix: &[u8]| prefix.starts_with(b"[") && prefix.ends_with(b",");
    match prefixes.iter().find(|read| !whole(&read.prefix)) {
        Some(read) => {
            Err(StoreError::Refused(format!("`{}` is no prefix of a key", read.prefix.escape_ascii())))
        }
        None => Ok(()),
    }
}

/// Refuses a cell that some store cannot tell from an absent one.
pub(super) fn check_cell(name: &str, value: &[u8]) -> Result<(), StoreError> {
    check_name(name)?;
    if value.is_empty() {
        return Err(StoreError::Refused(format!("an empty value for cell {name}")));
    }
    Ok(())
}
