//! Which table a rows event is of: table maps by their number.
//!
//! Every statement repeats the map of its table. A map is parsed when the first
//! rows come, and again only if its bytes change.

use super::StreamError;
use crate::filter::TableFilter;
use crate::rows::table_id;
use crate::schema::{Collations, MappedTable, SchemaFault};
use mysql_async::binlog::events::{Event as Packet, TableMapEvent};
use std::collections::HashMap;
use std::sync::Arc;

/// Maps to keep: numbers grow with every ALTER and every reopened table.
const TABLES_MAX: usize = 4_096;
/// Not a table: closes a statement whose last rows event was left out.
const DUMMY_TABLE_ID: u64 = 0xff_ffff;

pub(super) struct Tables {
    filter: TableFilter,
    collations: Collations,
    by_id: HashMap<u64, Known>,
}

struct Known {
    /// The map event's body.
    map: Box<[u8]>,
    /// Once rows came: the table, unless nobody asked for it.
    table: Option<Option<Arc<MappedTable>>>,
}

impl Tables {
    pub(super) fn new(filter: TableFilter, collations: Collations) -> Self {
        Self { filter, collations, by_id: HashMap::new() }
    }

    pub(super) fn watches(&self, database: &str, table: &str) -> bool {
        self.filter.accepts(database, table)
    }

    /// Takes note of a TABLE_MAP event.
    pub(super) fn map(&mut self, event: &[u8]) {
        let Some(id) = table_id(event) else { return };
        if self.by_id.get(&id).is_some_and(|known| *known.map == *event) {
            return;
        }
        if self.by_id.len() >= TABLES_MAX {
            // Maps come before the rows of each statement, so those still
            // needed come again; the driver keeps the one at hand.
            self.by_id.clear();
        }
        self.by_id.insert(id, Known { map: event.into(), table: None });
    }

    /// The table of a rows event; `None` when nobody asked for it.
    pub(super) fn of_rows(
        &mut self,
        packet: &Packet,
        packets: &mysql_async::BinlogStream,
    ) -> Result<Option<Arc<MappedTable>>, StreamError> {
        let malformed = |reason: &str| StreamError::Malformed {
            place: format!("offset {}", packet.header().log_pos()),
            reason: reason.to_owned(),
        };
        let id = table_id(packet.data()).ok_or_else(|| malformed("a rows event is cut short"))?;
        if let Some(Known { table: Some(table), .. }) = self.by_id.get(&id) {
            return Ok(table.clone());
        }
        let event = match packets.get_tme(id) {
            Some(event) => event,
            None if id == DUMMY_TABLE_ID => return Ok(None),
            None => return Err(malformed("rows of a table without its map")),
        };
        let table = self.parse(event)?;
        if let Some(known) = self.by_id.get_mut(&id) {
            known.table = Some(table.clone());
        }
        Ok(table)
    }

    pub(super) fn parse(&self, event: &TableMapEvent<'_>) -> Result<Option<Arc<MappedTable>>, StreamError> {
        let (database, name) = (event.database_name(), event.table_name());
        if !self.filter.accepts(&database, &name) {
            return Ok(None);
        }
        let table = format!("{database}.{name}");
        match MappedTable::new(event, &self.collations) {
            Ok(mapped) => Ok(Some(Arc::new(mapped))),
            Err(SchemaFault::NoMetadata) => Err(StreamError::Unfit {
                what: format!("the binlog has no column names of table {table}"),
                fix: String::from("run SET PERSIST binlog_row_metadata = 'FULL'"),
            }),
            Err(SchemaFault::Unsupported { column, what }) => {
                Err(StreamError::Unreadable { table, column, reason: format!("{what} is not supported") })
            }
            Err(SchemaFault::Malformed(reason)) => {
                Err(StreamError::Malformed { place: format!("the map of table {table}"), reason })
            }
        }
    }
}
