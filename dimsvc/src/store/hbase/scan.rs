//! Reading a table page by page, in order of row key.
//!
//! A page opens its own scanner and closes it: a scanner that is left open
//! holds memory in the gateway, and would not outlive a broken connection.

use super::{
    connection::{Client, Connections},
    layout::{self, ROW_COLUMN},
};
use crate::{
    dimension::VersionedRow,
    store::{ScanCursor, ScanPage, StoreError, limits::PAGE_BYTES_MAX},
};
use hbase_thrift::hbase::{THbaseSyncClient, TRowResult, TScan};
use std::collections::BTreeMap;
use tidemark_proto::Position;

/// Rows of the first call of a page, before the size of a row is known.
const FIRST_ROWS: usize = 8;
const CALL_ROWS_MAX: usize = 1_000;

/// What a page holds.
pub(super) struct PageOf<'a> {
    /// The row key of the last page's last row.
    pub(super) after: Option<&'a ScanCursor>,
    pub(super) before: Position,
    pub(super) limit: usize,
}

/// Reads a page.
pub(super) fn scan_page(
    connections: &Connections,
    table: &str,
    of: &PageOf<'_>,
) -> Result<ScanPage, StoreError> {
    let rows = connections.call(|client| {
        let scan = open_scan(of);
        let scanner = client.scanner_open_with_scan(table.as_bytes().to_vec(), scan, BTreeMap::new())?;
        let rows = take_rows(client, scanner, of.limit);
        let closed = client.scanner_close(scanner);
        rows.and_then(|rows| closed.map(|()| rows))
    });
    let Rows { rows, at_end } = rows.map_err(|error| connections.store_error(error))?;
    let last = rows.last().and_then(|row| row.row.clone());
    let next = if at_end { None } else { last.map(ScanCursor) };
    let rows = rows.into_iter().map(versioned_row).collect::<Result<_, _>>()?;
    Ok(ScanPage { rows, next })
}

fn open_scan(of: &PageOf<'_>) -> TScan {
    let after = of.after.map(|ScanCursor(row_key)| {
        let mut start = row_key.clone();
        start.push(0);
        start
    });
    TScan {
        start_row: after,
        stop_row: None,
        timestamp: Some(layout::timestamp(of.before)),
        columns: Some(vec![ROW_COLUMN.to_vec()]),
        caching: i32::try_from(of.limit.min(CALL_ROWS_MAX)).ok(),
        filter_string: None,
        batch_size: None,
        sort_columns: None,
        reversed: None,
        // A scan of a whole table would push out what reads ask for.
        cache_blocks: Some(false),
    }
}

struct Rows {
    rows: Vec<TRowResult>,
    at_end: bool,
}

/// Takes rows in calls that the greatest row so far would fit into the page.
fn take_rows(client: &mut Client, scanner: i32, limit: usize) -> thrift::Result<Rows> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut greatest_row = PAGE_BYTES_MAX / FIRST_ROWS;
    let mut call_rows = FIRST_ROWS;
    while rows.len() < limit && bytes < PAGE_BYTES_MAX {
        let ask = call_rows.min(limit - rows.len());
        let more = client.scanner_get_list(scanner, i32::try_from(ask).unwrap_or(i32::MAX))?;
        if more.is_empty() {
            return Ok(Rows { rows, at_end: true });
        }
        let sizes = more.iter().map(row_bytes);
        bytes += sizes.clone().sum::<usize>();
        let greatest = sizes.max().unwrap_or_default().max(1);
        greatest_row = if rows.is_empty() { greatest } else { greatest_row.max(greatest) };
        call_rows = (PAGE_BYTES_MAX.saturating_sub(bytes) / greatest_row).clamp(1, CALL_ROWS_MAX);
        rows.extend(more);
    }
    Ok(Rows { rows, at_end: false })
}

fn row_bytes(row: &TRowResult) -> usize {
    let columns = row.columns.iter().flatten();
    let values = columns.map(|(_, cell)| cell.value.as_ref().map_or(0, Vec::len)).sum::<usize>();
    row.row.as_ref().map_or(0, Vec::len) + values
}

fn versioned_row(row: TRowResult) -> Result<VersionedRow, StoreError> {
    let (row_key, row) = layout::decode(row)?;
    Ok(VersionedRow { key: layout::key_of(&row_key)?, version: row.version, image: row.image })
}
