//! The store of a single machine: an LSM tree in a local folder.
//!
//! One keyspace a table, and one for the cells. A write is one atomic batch,
//! synced to disk before it returns. The folder belongs to one process.

mod entry;

use super::{
    PrefixPage, PruneKey, ReadKey, ReadPrefix, ScanCursor, ScanPage, Store, StoreError, StoredRow,
    limits::{PAGE_BYTES_MAX, PrefixRows, check_batch, check_cell, check_name, check_prefixes},
};
use crate::dimension::{Key, TableRows, VersionedRow};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvPair, OwnedWriteBatch, PersistMode};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use tidemark_proto::{Position, config::Embedded};

/// Keyspace names are part of the format on disk. A table's name has no dot,
/// so the cells are no table.
const CELLS: &str = "tidemark.cells";

/// What a table keeps in memory before it writes a sorted file.
const MEMTABLE_BYTES_MAX: u64 = 16 << 20;

/// A scan steps over this many versions of a key, then seeks past the rest.
const STEPS_BEFORE_SEEK: usize = 16;

/// See the module.
pub struct EmbeddedStore {
    database: Database,
    tables: RwLock<HashMap<String, Keyspace>>,
    cells: Keyspace,
    /// Held from the comparison to the write.
    cell_writer: Mutex<()>,
}

impl EmbeddedStore {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read or made.
    pub fn open(config: &Embedded) -> Result<Self, StoreError> {
        let open = || {
            let database = Database::builder(&config.path).cache_size(config.cache_bytes_max).open()?;
            let cells = database.keyspace(CELLS, options)?;
            let mut tables = HashMap::new();
            for name in database.list_keyspace_names() {
                if &*name != CELLS {
                    tables.insert(String::from(&*name), database.keyspace(&name, options)?);
                }
            }
            Ok(Self { database, tables: RwLock::new(tables), cells, cell_writer: Mutex::new(()) })
        };
        open().map_err(|error| open_error(&config.path, error))
    }

    fn table(&self, name: &str) -> Result<Keyspace, StoreError> {
        let found = self.tables.read().get(name).cloned();
        found.ok_or_else(|| StoreError::Refused(format!("table {name} does not exist")))
    }

    fn durable_batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncData))
    }
}

impl Store for EmbeddedStore {
    fn create_table(&self, table: &str) -> Result<(), StoreError> {
        check_name(table)?;
        let mut tables = self.tables.write();
        if !tables.contains_key(table) {
            tables.insert(table.to_owned(), self.database.keyspace(table, options)?);
        }
        Ok(())
    }

    fn write(&self, batch: &[TableRows]) -> Result<(), StoreError> {
        check_batch(batch)?;
        let mut writes = self.durable_batch();
        for TableRows { table, rows } in batch {
            let table = self.table(table)?;
            for row in rows {
                writes.insert(&table, entry::at(row.key.as_bytes(), row.version), entry::value(&row.image));
            }
        }
        Ok(writes.commit()?)
    }

    fn read(&self, table: &str, keys: &[ReadKey]) -> Result<Vec<Option<StoredRow>>, StoreError> {
        let table = self.table(table)?;
        keys.iter().map(|read| newest_below(&table, read)).collect()
    }

    fn versions(&self, table: &str, key: &Key, limit: usize) -> Result<Vec<StoredRow>, StoreError> {
        let table = self.table(table)?;
        let key = key.as_bytes();
        let newest_first = table.range(entry::at(key, Position::MAX)..entry::after_versions(key));
        newest_first.take(limit.max(1)).map(|found| stored(found.into_inner()?)).collect()
    }

    fn scan_prefixes(
        &self,
        table: &str,
        prefixes: &[ReadPrefix],
        limit: usize,
    ) -> Result<Vec<PrefixPage>, StoreError> {
        check_prefixes(prefixes)?;
        let table = self.table(table)?;
        prefixes.iter().map(|read| prefix_page(&table, read, limit.max(1))).collect()
    }

    fn scan(
        &self,
        table: &str,
        from: Option<&ScanCursor>,
        before: Position,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        let table = self.table(table)?;
        let wanted = from.map_or(Vec::new(), |cursor| cursor.0.clone());
        scan_page(&table, wanted, &Walk { before, limit: limit.max(1), prefix: b"" })
    }

    fn prune(&self, table: &str, keys: &[PruneKey]) -> Result<(), StoreError> {
        let table = self.table(table)?;
        let mut removals = self.durable_batch();
        for PruneKey { key, through } in keys {
            let key = key.as_bytes();
            for found in table.range(entry::at(key, *through)..entry::after_versions(key)) {
                removals.remove(&table, found.key()?);
            }
        }
        Ok(removals.commit()?)
    }

    fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check_name(name)?;
        Ok(self.cells.get(name)?.map(|value| value.to_vec()))
    }

    fn compare_and_set_cell(
        &self,
        name: &str,
        expect: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        check_cell(name, value)?;
        let _writer = self.cell_writer.lock();
        if self.cells.get(name)?.as_deref() != expect {
            return Ok(false);
        }
        let mut write = self.durable_batch();
        write.insert(&self.cells, name, value);
        write.commit()?;
        Ok(true)
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX)
}

fn newest_below(table: &Keyspace, read: &ReadKey) -> Result<Option<StoredRow>, StoreError> {
    if read.before == Position::ZERO {
        return Ok(None);
    }
    let key = read.key.as_bytes();
    let below = entry::at(key, read.before.before())..entry::after_versions(key);
    let Some(found) = table.range(below).next() else { return Ok(None) };
    stored(found.into_inner()?).map(Some)
}

fn prefix_page(table: &Keyspace, read: &ReadPrefix, limit: usize) -> Result<PrefixPage, StoreError> {
    // One more than fits tells whether there are more.
    let walk = Walk { before: read.before, limit: limit + 1, prefix: &read.prefix };
    let (mut rows, mut from) = (PrefixRows::new(limit), read.prefix.to_vec());
    loop {
        let scanned = scan_page(table, from, &walk)?;
        let fits = scanned.rows.into_iter().all(|row| rows.take(row));
        match scanned.next {
            Some(ScanCursor(next)) if fits => from = next,
            _ => return Ok(rows.page),
        }
    }
}

/// What a page takes: keys that begin with `prefix`, each as of `before`.
struct Walk<'a> {
    before: Position,
    limit: usize,
    prefix: &'a [u8],
}

/// Walks the entries. `wanted` is the least entry that matters next: what is
/// below it are versions too new, or older than the one already taken.
fn scan_page(table: &Keyspace, mut wanted: Vec<u8>, of: &Walk<'_>) -> Result<ScanPage, StoreError> {
    let mut page = ScanPage::default();
    if of.before == Position::ZERO {
        return Ok(page);
    }
    let mut page_bytes = 0;
    let mut steps = 0;
    let mut entries = table.range(wanted.clone()..);
    while let Some(found) = entries.next() {
        let (entry, value) = found.into_inner()?;
        if !entry.starts_with(of.prefix) {
            break;
        }
        if *entry < *wanted {
            steps += 1;
            if steps == STEPS_BEFORE_SEEK {
                entries = table.range(wanted.clone()..);
            }
            continue;
        }
        steps = 0;
        let (key, version) = entry::split(&entry).ok_or_else(|| corrupt(&entry))?;
        if version >= of.before {
            wanted = entry::at(key, of.before.before());
            continue;
        }
        wanted = entry::after_versions(key);
        page_bytes += entry.len() + value.len();
        page.rows.push(decode(&entry, &value)?);
        if page.rows.len() == of.limit || page_bytes >= PAGE_BYTES_MAX {
            page.next = Some(ScanCursor(wanted));
            break;
        }
    }
    Ok(page)
}

fn stored((entry, value): KvPair) -> Result<StoredRow, StoreError> {
    let VersionedRow { version, image, .. } = decode(&entry, &value)?;
    Ok(StoredRow { version, image })
}

fn decode(entry: &[u8], value: &[u8]) -> Result<VersionedRow, StoreError> {
    let (key, version) = entry::split(entry).ok_or_else(|| corrupt(entry))?;
    let image = entry::image(value).ok_or_else(|| corrupt(entry))?;
    Ok(VersionedRow { key: Key::from_canonical(Bytes::copy_from_slice(key)), version, image })
}

fn corrupt(entry: &[u8]) -> StoreError {
    StoreError::Corrupt(format!("entry {}", entry.escape_ascii()))
}

fn open_error(path: &str, error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::Refused(format!("folder {path} is in use by another process")),
        fjall::Error::Io(error) => StoreError::Refused(format!("open folder {path}: {error}")),
        other => StoreError::Corrupt(format!("folder {path}: {other}")),
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        use fjall::{Error, LsmError};
        match error {
            Error::Io(error) | Error::Storage(LsmError::Io(error)) => Self::Unavailable(error.to_string()),
            Error::Poisoned => {
                Self::Refused(String::from("a sync to disk failed before: restart to recover"))
            }
            Error::KeyspaceDeleted => Self::Refused(String::from("the table was deleted")),
            other => Self::Corrupt(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            Embedded { path: folder.path().join("store").display().to_string(), ..Embedded::default() };
        let first = EmbeddedStore::open(&config).unwrap();

        let second = EmbeddedStore::open(&config).err().unwrap();
        assert_eq!(
            second.to_string(),
            format!("store refused: folder {} is in use by another process", config.path)
        );

        drop(first);
        EmbeddedStore::open(&config).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("store").display().to_string();
        let error =
            EmbeddedStore::open(&Embedded { path: path.clone(), ..Embedded::default() }).err().unwrap();
        assert!(error.to_string().contains(&path), "{error}");
    }
}
