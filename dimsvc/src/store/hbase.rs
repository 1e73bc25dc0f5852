//! The store of a fleet: HBase through its Thrift1 gateway.
//!
//! Table `NAMESPACE_TABLE` for each table, because Thrift1 knows no call to
//! make a namespace; `NAMESPACE_tidemark` holds the cells. A row's key is a
//! salt byte and the key, its versions are the versions of the one cell
//! `d:row`, the cell's timestamp is the version, and a tombstone is an empty
//! cell. All versions are kept until they are pruned. The salt is that of the
//! key's first column, so that rows with the same first columns lie together.
//! Thrift1 cannot split a table when it makes it: the salt lets HBase, or its
//! operator, split it later.

mod connection;
mod layout;
mod parallel;
mod prune;
mod read;
mod scan;
mod tables;
mod write;

use super::{
    PrefixPage, PruneKey, ReadKey, ReadPrefix, ScanCursor, ScanPage, Store, StoreError, StoredRow,
    limits::{check_batch, check_cell, check_name, check_prefixes},
};
use crate::dimension::{Key, TableRows};
use connection::Connections;
use hbase_thrift::hbase::THbaseSyncClient;
use layout::CELL_COLUMN;
use parallel::in_parallel;
use std::collections::BTreeMap;
use tidemark_proto::{Position, config::Hbase};

/// The table of the cells, behind the namespace.
const CELLS: &str = "tidemark";
/// The cell that says how many salt buckets the row keys were made with.
const SALT_BUCKETS: &str = "salt_buckets";

/// See the module.
pub struct HbaseStore {
    connections: Connections,
    namespace: String,
    salt_buckets: u8,
}

impl HbaseStore {
    /// Connects, and makes the table of the cells unless it is there.
    ///
    /// # Errors
    /// When the gateway is not reached, or the namespace's row keys were made
    /// with another number of salt buckets.
    pub fn open(config: &Hbase) -> Result<Self, StoreError> {
        check_name(&config.namespace)?;
        let store = Self {
            connections: Connections::new(config),
            namespace: config.namespace.clone(),
            salt_buckets: config.salt_buckets.max(1),
        };
        // A cell has one value; comparing would otherwise keep them all.
        tables::create(&store.connections, &store.table_name(CELLS), 1)?;
        store.check_salt_buckets()?;
        Ok(store)
    }

    fn check_salt_buckets(&self) -> Result<(), StoreError> {
        let own = self.salt_buckets.to_string();
        if self.compare_and_set_cell(SALT_BUCKETS, None, own.as_bytes())? {
            return Ok(());
        }
        let stored = self.load_cell(SALT_BUCKETS)?.unwrap_or_default();
        if stored == own.as_bytes() {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "salt_buckets is {own}, but the rows of namespace {} are stored with salt_buckets = {}: set that",
            self.namespace,
            stored.escape_ascii(),
        )))
    }

    fn table_name(&self, table: &str) -> String {
        format!("{}_{table}", self.namespace)
    }

    fn reader<'a>(&'a self, table: &'a str) -> read::Reader<'a> {
        read::Reader { connections: &self.connections, table, salt_buckets: self.salt_buckets }
    }
}

impl Store for HbaseStore {
    fn create_table(&self, table: &str) -> Result<(), StoreError> {
        check_name(table)?;
        tables::create(&self.connections, &self.table_name(table), layout::ALL_VERSIONS)
    }

    fn write(&self, batch: &[TableRows]) -> Result<(), StoreError> {
        check_batch(batch)?;
        write::write(&self.connections, self.salt_buckets, batch, |table| self.table_name(table))
    }

    fn read(&self, table: &str, keys: &[ReadKey]) -> Result<Vec<Option<StoredRow>>, StoreError> {
        self.reader(&self.table_name(table)).read(keys)
    }

    fn versions(&self, table: &str, key: &Key, limit: usize) -> Result<Vec<StoredRow>, StoreError> {
        self.reader(&self.table_name(table)).versions(key, limit.max(1))
    }

    fn scan_prefixes(
        &self,
        table: &str,
        prefixes: &[ReadPrefix],
        limit: usize,
    ) -> Result<Vec<PrefixPage>, StoreError> {
        check_prefixes(prefixes)?;
        let table = self.table_name(table);
        in_parallel(self.connections.max(), prefixes, |read| {
            scan::prefix_page(&self.reader(&table), read, limit.max(1))
        })
    }

    fn prune(&self, table: &str, keys: &[PruneKey]) -> Result<(), StoreError> {
        prune::prune(&self.reader(&self.table_name(table)), keys)
    }

    fn scan(
        &self,
        table: &str,
        from: Option<&ScanCursor>,
        before: Position,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        let page = scan::PageOf { after: from, before, limit: limit.max(1) };
        scan::scan_page(&self.reader(&self.table_name(table)), &page)
    }

    fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check_name(name)?;
        let table = self.table_name(CELLS);
        let cells = self.connections.call(|client| {
            let (table, row) = (table.as_bytes().to_vec(), name.as_bytes().to_vec());
            client.get(table, row, CELL_COLUMN.to_vec(), BTreeMap::new())
        });
        let cells = cells.map_err(|error| self.connections.store_error(error))?;
        Ok(cells.into_iter().next().and_then(|cell| cell.value))
    }

    fn compare_and_set_cell(
        &self,
        name: &str,
        expect: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        check_cell(name, value)?;
        // Nothing expected is an empty value on the wire, and no cell is empty.
        if expect.is_some_and(<[u8]>::is_empty) {
            return Ok(false);
        }
        let set = self.connections.call_once(|client| {
            client.check_and_put(
                self.table_name(CELLS).into_bytes(),
                name.as_bytes().to_vec(),
                CELL_COLUMN.to_vec(),
                expect.unwrap_or_default().to_vec(),
                layout::put(CELL_COLUMN, value),
                BTreeMap::new(),
            )
        });
        set.map_err(|error| self.connections.store_error(error))
    }
}
