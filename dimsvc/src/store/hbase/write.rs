//! Writing many versions.
//!
//! The gateway takes one timestamp a call, so rows go by version, in parallel.
//! An error leaves some of them written, which is harmless: they are written
//! again.

use super::{
    connection::Connections,
    layout::{self, timestamp},
    parallel::in_parallel,
    tables,
};
use crate::{
    dimension::{Image, Key, TableRows},
    store::StoreError,
};
use hbase_thrift::hbase::THbaseSyncClient;
use std::collections::BTreeMap;
use tidemark_proto::Position;

/// Bounds of one call: what the gateway holds in memory for it.
const CALL_ROWS_MAX: usize = 1_000;
const CALL_BYTES_MAX: usize = 4 << 20;

/// Rows of one table and version.
struct Call<'a> {
    table: &'a str,
    version: Position,
    rows: Vec<(&'a Key, &'a Image)>,
}

/// Writes rows; `name` gives the table's name in HBase.
pub(super) fn write(
    connections: &Connections,
    salt_buckets: u8,
    batch: &[TableRows],
    name: impl Fn(&str) -> String + Sync,
) -> Result<(), StoreError> {
    in_parallel(connections.max(), &calls(batch), |call| {
        let table = name(call.table);
        let written = connections.call(|client| {
            let put = |(key, image): &(&Key, &Image)| {
                layout::row_put(layout::row_key(key.as_bytes(), salt_buckets), image)
            };
            let rows = call.rows.iter().map(put).collect();
            client.mutate_rows_ts(table.clone().into_bytes(), rows, timestamp(call.version), BTreeMap::new())
        });
        written.map_err(|error| tables::write_error(connections, &table, error))
    })
    .map(drop)
}

/// Parts a batch into calls. Of a version that is there twice the last stands:
/// HBase would take either.
fn calls(batch: &[TableRows]) -> Vec<Call<'_>> {
    let mut versions: BTreeMap<(&str, Position), BTreeMap<&Key, &Image>> = BTreeMap::new();
    for TableRows { table, rows } in batch {
        for row in rows {
            versions.entry((table, row.version)).or_default().insert(&row.key, &row.image);
        }
    }
    let mut calls = Vec::new();
    for ((table, version), rows) in versions {
        let new_call = || Call { table, version, rows: Vec::new() };
        let mut call = new_call();
        let mut bytes = 0;
        for (key, image) in rows {
            let row_bytes = key.as_bytes().len() + image.as_ref().map_or(0, |image| image.len());
            if call.rows.len() == CALL_ROWS_MAX || (bytes + row_bytes > CALL_BYTES_MAX && bytes > 0) {
                calls.push(std::mem::replace(&mut call, new_call()));
                bytes = 0;
            }
            bytes += row_bytes;
            call.rows.push((key, image));
        }
        calls.push(call);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimension::VersionedRow;
    use bytes::Bytes;

    fn row(key: usize, version: u64, bytes: usize) -> VersionedRow {
        VersionedRow {
            key: Key::from_canonical(format!("[{key}]")),
            version: Position::from_packed(version),
            image: (bytes > 0).then(|| Bytes::from(vec![b'x'; bytes])),
        }
    }

    fn sizes(rows: Vec<VersionedRow>) -> Vec<(u64, usize)> {
        let batch = [TableRows { table: "t".into(), rows }];
        calls(&batch).iter().map(|call| (call.version.packed(), call.rows.len())).collect()
    }

    #[test]
    fn a_call_has_one_version_and_bounded_rows_and_bytes() {
        assert_eq!(sizes(vec![row(1, 7, 0), row(1, 9, 2), row(2, 7, 2)]), [(7, 2), (9, 1)]);
        assert_eq!(sizes((0..2_500).map(|key| row(key, 7, 2)).collect()), [(7, 1_000), (7, 1_000), (7, 500)]);
        assert_eq!(sizes((0..5).map(|key| row(key, 7, 2 << 20)).collect()), [(7, 1); 5]);
        assert_eq!(sizes((0..5).map(|key| row(key, 7, 5 << 20)).collect()), [(7, 1); 5]);
    }

    #[test]
    fn the_last_of_a_version_stands() {
        let batch = [TableRows { table: "t".into(), rows: vec![row(1, 7, 4), row(1, 7, 2)] }];
        let calls = calls(&batch);
        assert_eq!(calls[0].rows, [(&batch[0].rows[1].key, &batch[0].rows[1].image)]);
    }
}
