//! A store whose answers are late: read now, told some time after, when they may
//! not be the newest any more. A load that takes them for the newest fails here.

use dimsvc::{
    dimension::{Key, TableRows},
    store::{PrefixPage, PruneKey, ReadKey, ReadPrefix, ScanCursor, ScanPage, Store, StoreError, StoredRow},
};
use parking_lot::{Condvar, Mutex};
use std::{sync::Arc, time::Duration};
use tidemark_proto::Position;

/// Some transactions long, so that a hot key changes meanwhile.
const DELAY: Duration = Duration::from_millis(4);

/// See the module.
pub(crate) struct Late {
    inner: Arc<dyn Store>,
    late: Mutex<bool>,
    changed: Condvar,
}

impl Late {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, late: Mutex::new(false), changed: Condvar::new() }
    }

    pub(crate) fn set_late(&self, late: bool) {
        *self.late.lock() = late;
        self.changed.notify_all();
    }

    /// Runs on a thread of the pool, which is there to block.
    fn told<T>(&self, answer: T) -> T {
        let mut late = self.late.lock();
        // Told when the delay is over, or at once when there is none any more.
        self.changed.wait_while_for(&mut late, |late| *late, DELAY);
        answer
    }
}

impl Store for Late {
    fn create_table(&self, table: &str) -> Result<(), StoreError> {
        self.inner.create_table(table)
    }

    fn write(&self, batch: &[TableRows]) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn read(&self, table: &str, keys: &[ReadKey]) -> Result<Vec<Option<StoredRow>>, StoreError> {
        self.told(self.inner.read(table, keys))
    }

    fn versions(&self, table: &str, key: &Key, limit: usize) -> Result<Vec<StoredRow>, StoreError> {
        self.told(self.inner.versions(table, key, limit))
    }

    fn scan_prefixes(
        &self,
        table: &str,
        prefixes: &[ReadPrefix],
        limit: usize,
    ) -> Result<Vec<PrefixPage>, StoreError> {
        self.told(self.inner.scan_prefixes(table, prefixes, limit))
    }

    fn scan(
        &self,
        table: &str,
        from: Option<&ScanCursor>,
        before: Position,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        self.told(self.inner.scan(table, from, before, limit))
    }

    fn prune(&self, table: &str, keys: &[PruneKey]) -> Result<(), StoreError> {
        self.inner.prune(table, keys)
    }

    fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.told(self.inner.load_cell(name))
    }

    fn compare_and_set_cell(
        &self,
        name: &str,
        expect: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        self.inner.compare_and_set_cell(name, expect, value)
    }
}
