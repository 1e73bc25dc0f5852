//! Making tables, by any number of instances at once.

use super::{
    connection::{CallError, Client, Connections},
    layout,
};
use crate::store::StoreError;
use hbase_thrift::hbase::{AlreadyExists, IOError, THbaseSyncClient};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Between two looks at a table that another instance is making.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Makes the table unless it is there, and returns once it can be read.
pub(super) fn create(connections: &Connections, table: &str, versions: i32) -> Result<(), StoreError> {
    let table_name = || table.as_bytes().to_vec();
    let created =
        connections.call(|client| client.create_table(table_name(), vec![layout::family(versions)]));
    match created {
        Err(error) if !lost_race(&error) => return Err(connections.store_error(error)),
        _ => {}
    }
    let families = once_usable(connections, |client| client.get_column_descriptors(table_name()))?;
    let kept = families.get(layout::FAMILY).and_then(|family| family.max_versions).unwrap_or_default();
    if kept != versions {
        return Err(StoreError::Refused(format!(
            "hbase table {table} keeps {kept} versions in family d where {versions} are needed: it is not ours"
        )));
    }
    once_usable(connections, |client| get_any(client, table))
}

/// Why a write failed. HBase only says that it gave up; a read says when there
/// is no table.
pub(super) fn write_error(connections: &Connections, table: &str, error: CallError) -> StoreError {
    if error.user::<IOError>().is_some()
        && let Err(error) = connections.call(|client| get_any(client, table))
    {
        return connections.store_error(error);
    }
    connections.store_error(error)
}

fn get_any(client: &mut Client, table: &str) -> thrift::Result<()> {
    client.get_row(table.as_bytes().to_vec(), vec![0], BTreeMap::new()).map(drop)
}

/// The gateway looks before it asks the master, which may be told twice still.
fn lost_race(error: &CallError) -> bool {
    let at_master =
        |error: &IOError| error.message.as_deref().is_some_and(|m| m.contains("TableExistsException"));
    error.user::<AlreadyExists>().is_some() || error.user::<IOError>().is_some_and(at_master)
}

/// Waits while HBase itself says no: the table may be in the making.
fn once_usable<T>(
    connections: &Connections,
    mut call: impl FnMut(&mut Client) -> thrift::Result<T>,
) -> Result<T, StoreError> {
    let deadline = Instant::now() + connections.timeout();
    loop {
        match connections.call(&mut call) {
            Err(error) if error.user::<IOError>().is_some() && Instant::now() < deadline => {
                std::thread::sleep(LOOK_AGAIN);
            }
            result => return result.map_err(|error| connections.store_error(error)),
        }
    }
}
