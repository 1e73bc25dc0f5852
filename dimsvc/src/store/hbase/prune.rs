//! Removing old versions.
//!
//! Thrift1 deletes no single version: its marker hides every version up to its
//! timestamp, those written later too, until a major compaction removes both.
//! That is what pruning asks for. One timestamp a call, so keys go by position.

use super::{
    layout::{self, timestamp},
    parallel::in_parallel,
    read::Reader,
    tables,
};
use crate::store::{PruneKey, StoreError};
use hbase_thrift::hbase::THbaseSyncClient;
use std::collections::BTreeMap;
use tidemark_proto::Position;

/// Rows of one call: bounds what the gateway holds in memory for it.
const CALL_ROWS_MAX: usize = 1_000;

/// Removes versions; done again it is harmless.
pub(super) fn prune(table: &Reader<'_>, keys: &[PruneKey]) -> Result<(), StoreError> {
    let mut by_position: BTreeMap<Position, Vec<&PruneKey>> = BTreeMap::new();
    for key in keys {
        by_position.entry(key.through).or_default().push(key);
    }
    let calls: Vec<_> = by_position.values().flat_map(|keys| keys.chunks(CALL_ROWS_MAX)).collect();
    in_parallel(table.connections.max(), &calls, |keys| {
        let Some(first) = keys.first() else { return Ok(()) };
        let row_key = |key: &&PruneKey| layout::row_key(key.key.as_bytes(), table.salt_buckets);
        let pruned = table.connections.call(|client| {
            let name = table.table.as_bytes().to_vec();
            let rows = keys.iter().map(row_key).map(layout::row_prune).collect();
            client.mutate_rows_ts(name, rows, timestamp(first.through), BTreeMap::new())
        });
        pruned.map_err(|error| tables::write_error(table.connections, table.table, error))
    })
    .map(drop)
}
