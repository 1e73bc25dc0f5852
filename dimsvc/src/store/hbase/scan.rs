//! Reading a table page by page, and the rows of a prefix, in order of row key.
//!
//! A page opens its own scanner and closes it: a scanner that is left open
//! holds memory in the gateway, and would not outlive a broken connection.

use super::{
    connection::Client,
    layout::{self, ROW_COLUMN},
    read::Reader,
};
use crate::{
    dimension::VersionedRow,
    store::{
        PrefixPage, ReadPrefix, ScanCursor, ScanPage, StoreError,
        limits::{PAGE_BYTES_MAX, PrefixRows},
    },
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
pub(super) fn scan_page(table: &Reader<'_>, of: &PageOf<'_>) -> Result<ScanPage, StoreError> {
    let Rows { rows, at_end } =
        with_scanner(table, &page_scan(of), |client, scanner| take_rows(client, scanner, of.limit))?;
    let last = rows.last().and_then(|row| row.row.clone());
    let next = if at_end { None } else { last.map(ScanCursor) };
    let rows = rows.into_iter().map(versioned_row).collect::<Result<_, _>>()?;
    Ok(ScanPage { rows, next })
}

/// Reads the rows of a prefix: all of them lie in one bucket.
pub(super) fn prefix_page(
    table: &Reader<'_>,
    read: &ReadPrefix,
    limit: usize,
) -> Result<PrefixPage, StoreError> {
    // Nothing lies below the first position.
    if read.before == Position::ZERO {
        return Ok(PrefixPage::default());
    }
    let start = layout::row_key(&read.prefix, table.salt_buckets);
    let scan = TScan {
        stop_row: Some(layout::after_prefix(start.clone())),
        start_row: Some(start),
        cache_blocks: Some(true),
        ..scan_of(read.before, limit)
    };
    let mut page = PrefixRows::new(limit);
    // What it holds when a call fails is read again from the beginning.
    with_scanner(table, &scan, |client, scanner| {
        page = PrefixRows::new(limit);
        loop {
            // One more than fits tells whether there are more.
            let Rows { rows, at_end } = take_rows(client, scanner, limit + 1)?;
            let rows = rows.into_iter().map(versioned_row).collect::<Result<Vec<_>, _>>();
            let fits = rows.map(|rows| rows.into_iter().all(|row| page.take(row)));
            match fits {
                Ok(true) if !at_end => {}
                fits => return Ok(fits.map(|_| ())),
            }
        }
    })??;
    Ok(page.page)
}

/// Opens a scanner, and closes it also when reading it failed.
fn with_scanner<T>(
    table: &Reader<'_>,
    scan: &TScan,
    mut read: impl FnMut(&mut Client, i32) -> thrift::Result<T>,
) -> Result<T, StoreError> {
    let result = table.connections.call(|client| {
        let name = table.table.as_bytes().to_vec();
        let scanner = client.scanner_open_with_scan(name, scan.clone(), BTreeMap::new())?;
        let result = read(client, scanner);
        let closed = client.scanner_close(scanner);
        result.and_then(|result| closed.map(|()| result))
    });
    result.map_err(|error| table.connections.store_error(error))
}

fn page_scan(of: &PageOf<'_>) -> TScan {
    let start_row = of.after.map(|ScanCursor(row_key)| {
        let mut start = row_key.clone();
        start.push(0);
        start
    });
    TScan { start_row, ..scan_of(of.before, of.limit) }
}

fn scan_of(before: Position, limit: usize) -> TScan {
    TScan {
        start_row: None,
        stop_row: None,
        timestamp: Some(layout::timestamp(before)),
        columns: Some(vec![ROW_COLUMN.to_vec()]),
        caching: i32::try_from(limit.min(CALL_ROWS_MAX)).ok(),
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
        // The gateway gives fewer rows than asked at the end alone.
        if more.len() < ask {
            rows.extend(more);
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
