//! The permanent truth: every version of every row, behind one trait.
//!
//! Both stores block their caller (files, Thrift), so they are called on the
//! threads of [`StorePool`] alone, which is what the rest of the program sees.
//! A store knows keys, versions and bytes; it knows nothing of caches, binlogs
//! or dimensions.

mod embedded;
mod hbase;
mod limits;
pub mod memory;
mod pool;

pub use embedded::EmbeddedStore;
pub use hbase::HbaseStore;
pub use pool::StorePool;

use crate::dimension::{Image, Key, TableRows, VersionedRow};
use bytes::Bytes;
use std::sync::Arc;
use tidemark_proto::{
    Position,
    config::{Dimsvc, StoreKind},
};

/// One key to read: its greatest version below `before`.
#[derive(Clone, Debug)]
pub struct ReadKey {
    pub key: Key,
    pub before: Position,
}

/// Keys to read by their first columns: the greatest version below `before` of
/// each key whose text begins with `prefix`.
#[derive(Clone, Debug)]
pub struct ReadPrefix {
    /// Canonical text of whole columns, as [`crate::registry::write_prefix`]
    /// makes it.
    pub prefix: Bytes,
    pub before: Position,
}

/// A key whose old versions go: `through` and all below it.
#[derive(Clone, Debug)]
pub struct PruneKey {
    pub key: Key,
    pub through: Position,
}

/// A version found in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub version: Position,
    /// `None` is a tombstone.
    pub image: Image,
}

/// A page of a scan: the greatest version below the asked position of each
/// key, tombstones too, in key order of the store.
#[derive(Clone, Debug, Default)]
pub struct ScanPage {
    pub rows: Vec<VersionedRow>,
    /// Where the next page begins; `None` at the end of the table. The page
    /// there may turn out empty.
    pub next: Option<ScanCursor>,
}

/// The rows of a prefix, in order of their keys' bytes; keys that are deleted
/// are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixPage {
    pub rows: Vec<VersionedRow>,
    /// Whether rows may have been left out: there are more than the limit, than
    /// about 8 MiB hold, or far more deleted keys between them.
    pub more: bool,
}

/// Opaque place of a scan; of the store that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor(pub Vec<u8>);

/// Why a store did not do as asked. A read that fails is never "absent".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reached, or no answer in time; the same call may succeed later.
    #[error("store not reached: {0}")]
    Unavailable(String),
    /// The queue of the pool is full, or the call waited past its deadline.
    #[error("store overloaded: {0}")]
    Overloaded(&'static str),
    /// It answered with an error that a retry will not mend.
    #[error("store refused: {0}")]
    Refused(String),
    /// What it holds cannot be read.
    #[error("store holds what cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overloaded(_))
    }
}

/// A place that keeps versions for ever. All calls block.
///
/// The contract, held by every implementation and tested by one suite:
/// - a write is durable when it returns; writing a version again is harmless,
///   and an older version may come after a newer one;
/// - a read sees every write that returned before it began;
/// - where one batch writes a version of a key twice, the last one stands;
/// - a version that was pruned, or lies below one that was, may stay away for
///   ever, also if it is written again: prune only below the history floor;
/// - table and cell names are `[A-Za-z0-9_]+`, keys not empty and of at most
///   16 KiB, versions below [`Position::MAX`], images and cells not empty; all
///   else is [`StoreError::Refused`], and so is a table never created.
pub trait Store: Send + Sync + 'static {
    /// Makes the table unless it exists. Several instances may do so at once:
    /// all succeed.
    fn create_table(&self, table: &str) -> Result<(), StoreError>;

    /// Writes rows of any tables and versions. After an error any part of it
    /// may be there: write it again.
    fn write(&self, batch: &[TableRows]) -> Result<(), StoreError>;

    /// Reads keys of one table; answer i is of key i, `None` where no version
    /// lies below.
    fn read(&self, table: &str, keys: &[ReadKey]) -> Result<Vec<Option<StoredRow>>, StoreError>;

    /// The versions of a key, newest first, at most `limit`.
    fn versions(&self, table: &str, key: &Key, limit: usize) -> Result<Vec<StoredRow>, StoreError>;

    /// Reads rows by the first columns of their keys, at most `limit` of each
    /// prefix; page i is of prefix i. The caller bounds how many prefixes.
    fn scan_prefixes(
        &self,
        table: &str,
        prefixes: &[ReadPrefix],
        limit: usize,
    ) -> Result<Vec<PrefixPage>, StoreError>;

    /// Reads a table page by page, at most `limit` keys and about 8 MiB each.
    fn scan(
        &self,
        table: &str,
        from: Option<&ScanCursor>,
        before: Position,
        limit: usize,
    ) -> Result<ScanPage, StoreError>;

    /// Removes old versions, tombstones too; versions above stay. To keep what
    /// history needs, a pruner scans below the floor and prunes each row that
    /// it finds through the position before that row's version. Keys with one
    /// `through` are cheapest together.
    fn prune(&self, table: &str, keys: &[PruneKey]) -> Result<(), StoreError>;

    /// Reads a named cell of state.
    fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets a cell if it still holds `expect` (`None`: does not exist). False
    /// when it does not. An error leaves open whether it was set: load it.
    fn compare_and_set_cell(
        &self,
        name: &str,
        expect: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, StoreError>;
}

/// Opens the store that the configuration names.
///
/// # Errors
/// When it is not reached, or is another's: in use by another process, or made
/// with another number of salt buckets.
pub fn open(config: &Dimsvc) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match config.store {
        StoreKind::Embedded => Arc::new(EmbeddedStore::open(&config.embedded)?),
        StoreKind::Hbase => Arc::new(HbaseStore::open(&config.hbase)?),
    })
}
