//! Stores for tests: one in memory, the model that the others are compared
//! with, and two that behave badly on demand.

use super::{
    PrefixPage, PruneKey, ReadKey, ReadPrefix, ScanCursor, ScanPage, Store, StoreError, StoredRow,
    limits::{PAGE_BYTES_MAX, PrefixRows, check_batch, check_cell, check_name, check_prefixes},
};
use crate::dimension::{Image, Key, TableRows, VersionedRow};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tidemark_proto::Position;

/// Keeps everything in memory and nothing after.
#[derive(Default)]
pub struct MemoryStore(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    tables: HashMap<String, Table>,
    cells: HashMap<String, Vec<u8>>,
}

type Table = BTreeMap<Key, BTreeMap<Position, Image>>;

impl Contents {
    fn table(&self, name: &str) -> Result<&Table, StoreError> {
        self.tables.get(name).ok_or_else(|| no_table(name))
    }
}

fn no_table(name: &str) -> StoreError {
    StoreError::Refused(format!("table {name} does not exist"))
}

fn below(versions: &BTreeMap<Position, Image>, before: Position) -> Option<StoredRow> {
    let (&version, image) = versions.range(..before).next_back()?;
    Some(StoredRow { version, image: image.clone() })
}

fn row_bytes(row: &VersionedRow) -> usize {
    row.key.as_bytes().len() + row.image.as_ref().map_or(0, |image| image.len())
}

fn prefix_page(table: &Table, read: &ReadPrefix, limit: usize) -> PrefixPage {
    let mut rows = PrefixRows::new(limit);
    let from = (Bound::Included(&*read.prefix), Bound::Unbounded);
    for (key, versions) in table.range::<[u8], _>(from) {
        if !key.as_bytes().starts_with(&read.prefix) {
            break;
        }
        let Some(StoredRow { version, image }) = below(versions, read.before) else { continue };
        if !rows.take(VersionedRow { key: key.clone(), version, image }) {
            break;
        }
    }
    rows.page
}

impl Store for MemoryStore {
    fn create_table(&self, table: &str) -> Result<(), StoreError> {
        check_name(table)?;
        self.0.lock().tables.entry(table.to_owned()).or_default();
        Ok(())
    }

    fn write(&self, batch: &[TableRows]) -> Result<(), StoreError> {
        check_batch(batch)?;
        let mut contents = self.0.lock();
        for TableRows { table, rows } in batch {
            let table = contents.tables.get_mut(&**table).ok_or_else(|| no_table(table))?;
            for row in rows {
                table.entry(row.key.clone()).or_default().insert(row.version, row.image.clone());
            }
        }
        Ok(())
    }

    fn read(&self, table: &str, keys: &[ReadKey]) -> Result<Vec<Option<StoredRow>>, StoreError> {
        let contents = self.0.lock();
        let table = contents.table(table)?;
        Ok(keys.iter().map(|read| below(table.get(&read.key)?, read.before)).collect())
    }

    fn versions(&self, table: &str, key: &Key, limit: usize) -> Result<Vec<StoredRow>, StoreError> {
        let contents = self.0.lock();
        let versions = contents.table(table)?.get(key).into_iter().flatten().rev();
        let stored =
            |(version, image): (&Position, &Image)| StoredRow { version: *version, image: image.clone() };
        Ok(versions.take(limit.max(1)).map(stored).collect())
    }

    fn scan_prefixes(
        &self,
        table: &str,
        prefixes: &[ReadPrefix],
        limit: usize,
    ) -> Result<Vec<PrefixPage>, StoreError> {
        check_prefixes(prefixes)?;
        let contents = self.0.lock();
        let table = contents.table(table)?;
        Ok(prefixes.iter().map(|read| prefix_page(table, read, limit.max(1))).collect())
    }

    fn prune(&self, table: &str, keys: &[PruneKey]) -> Result<(), StoreError> {
        let mut contents = self.0.lock();
        let table = contents.tables.get_mut(table).ok_or_else(|| no_table(table))?;
        for PruneKey { key, through } in keys {
            if let Some(versions) = table.get_mut(key) {
                versions.retain(|version, _| version > through);
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        table: &str,
        from: Option<&ScanCursor>,
        before: Position,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        let contents = self.0.lock();
        let after = from.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.0.as_slice()));
        let mut page = ScanPage::default();
        let mut page_bytes = 0;
        for (key, versions) in contents.table(table)?.range::<[u8], _>((after, Bound::Unbounded)) {
            let Some(StoredRow { version, image }) = below(versions, before) else { continue };
            let row = VersionedRow { key: key.clone(), version, image };
            page_bytes += row_bytes(&row);
            page.rows.push(row);
            if page.rows.len() >= limit || page_bytes >= PAGE_BYTES_MAX {
                page.next = Some(ScanCursor(key.as_bytes().to_vec()));
                break;
            }
        }
        Ok(page)
    }

    fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check_name(name)?;
        Ok(self.0.lock().cells.get(name).cloned())
    }

    fn compare_and_set_cell(
        &self,
        name: &str,
        expect: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        check_cell(name, value)?;
        let cells = &mut self.0.lock().cells;
        let as_expected = cells.get(name).map(Vec::as_slice) == expect;
        if as_expected {
            cells.insert(name.to_owned(), value.to_vec());
        }
        Ok(as_expected)
    }
}

/// Passes each call on, after `admit` let it.
macro_rules! store_behind {
    ($gate:ident) => {
        impl Store for $gate {
            fn create_table(&self, table: &str) -> Result<(), StoreError> {
                self.admit()?;
                self.inner.create_table(table)
            }

            fn write(&self, batch: &[TableRows]) -> Result<(), StoreError> {
                self.admit()?;
                self.inner.write(batch)
            }

            fn read(&self, table: &str, keys: &[ReadKey]) -> Result<Vec<Option<StoredRow>>, StoreError> {
                self.admit()?;
                self.inner.read(table, keys)
            }

            fn versions(&self, table: &str, key: &Key, limit: usize) -> Result<Vec<StoredRow>, StoreError> {
                self.admit()?;
                self.inner.versions(table, key, limit)
            }

            fn scan_prefixes(
                &self,
                table: &str,
                prefixes: &[ReadPrefix],
                limit: usize,
            ) -> Result<Vec<PrefixPage>, StoreError> {
                self.admit()?;
                self.inner.scan_prefixes(table, prefixes, limit)
            }

            fn prune(&self, table: &str, keys: &[PruneKey]) -> Result<(), StoreError> {
                self.admit()?;
                self.inner.prune(table, keys)
            }

            fn scan(
                &self,
                table: &str,
                from: Option<&ScanCursor>,
                before: Position,
                limit: usize,
            ) -> Result<ScanPage, StoreError> {
                self.admit()?;
                self.inner.scan(table, from, before, limit)
            }

            fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
                self.admit()?;
                self.inner.load_cell(name)
            }

            fn compare_and_set_cell(
                &self,
                name: &str,
                expect: Option<&[u8]>,
                value: &[u8],
            ) -> Result<bool, StoreError> {
                self.admit()?;
                self.inner.compare_and_set_cell(name, expect, value)
            }
        }
    };
}

/// Fails every call with [`StoreError::Unavailable`] while told to.
pub struct Failing {
    inner: Arc<dyn Store>,
    fails: AtomicBool,
}

impl Failing {
    /// Fails from the start.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, fails: AtomicBool::new(true) }
    }

    /// Whether calls fail from now on.
    pub fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    fn admit(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(String::from("failing on demand")));
        }
        Ok(())
    }
}

store_behind!(Failing);

/// Holds every call back until it is released.
pub struct Slow {
    inner: Arc<dyn Store>,
    held: Mutex<bool>,
    changed: Condvar,
    calls: AtomicUsize,
}

impl Slow {
    /// Holds calls back from the start.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, held: Mutex::new(true), changed: Condvar::new(), calls: AtomicUsize::new(0) }
    }

    /// Holds back the calls that begin from now on.
    pub fn hold(&self) {
        *self.held.lock() = true;
    }

    /// Lets go all that wait, and those to come.
    pub fn release(&self) {
        *self.held.lock() = false;
        self.changed.notify_all();
    }

    /// Calls that have begun, waiting or done.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Blocks until so many calls have begun; false if they have not in time.
    pub fn wait_for_calls(&self, calls: usize, timeout: Duration) -> bool {
        let mut held = self.held.lock();
        !self.changed.wait_while_for(&mut held, |_| self.calls() < calls, timeout).timed_out()
    }

    fn admit(&self) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_all();
        self.changed.wait_while(&mut held, |held| *held);
        Ok(())
    }
}

store_behind!(Slow);
