//! Reading many keys, each as of its own position.
//!
//! The gateway takes one timestamp a call. So a group of keys is read below its
//! greatest `before`; a version below a key's own `before` is its answer, and
//! the keys that have changed since are split by position and read again. Keys
//! are grouped by position, because few rows change between near ones.

use super::{
    connection::Connections,
    layout::{self, ROW_COLUMN},
    parallel::in_parallel,
};
use crate::{
    dimension::Key,
    store::{ReadKey, StoreError, StoredRow},
};
use hbase_thrift::hbase::THbaseSyncClient;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tidemark_proto::Position;

/// Keys of one call: bounds the reply, and lets connections share a big read.
const KEYS_PER_CALL: usize = 256;

/// A table, and how to reach it.
pub(super) struct Reader<'a> {
    pub(super) connections: &'a Connections,
    pub(super) table: &'a str,
    pub(super) salt_buckets: u8,
}

/// A key that has no answer yet, and whose answer it will be.
struct Pending {
    index: usize,
    row_key: Vec<u8>,
    before: Position,
}

type Answer = (usize, Option<StoredRow>);

impl Reader<'_> {
    /// Answer i is of key i.
    pub(super) fn read(&self, keys: &[ReadKey]) -> Result<Vec<Option<StoredRow>>, StoreError> {
        let mut pending: Vec<_> = keys
            .iter()
            .enumerate()
            // Nothing lies below the first position.
            .filter(|(_, read)| read.before > Position::ZERO)
            .map(|(index, read)| Pending {
                index,
                row_key: layout::row_key(read.key.as_bytes(), self.salt_buckets),
                before: read.before,
            })
            .collect();
        pending.sort_unstable_by_key(|pending| pending.before);
        let groups: Vec<&[Pending]> = pending.chunks(KEYS_PER_CALL).collect();
        let answered = in_parallel(self.connections.max(), &groups, |group| self.answer(group))?;
        let mut answers = vec![None; keys.len()];
        for (index, answer) in answered.into_iter().flatten() {
            if let Some(place) = answers.get_mut(index) {
                *place = answer;
            }
        }
        Ok(answers)
    }

    /// The newest versions of a key.
    pub(super) fn versions(&self, key: &Key, limit: usize) -> Result<Vec<StoredRow>, StoreError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let cells = self.connections.call(|client| {
            let table = self.table.as_bytes().to_vec();
            let row_key = layout::row_key(key.as_bytes(), self.salt_buckets);
            client.get_ver(table, row_key, ROW_COLUMN.to_vec(), limit, BTreeMap::new())
        });
        let cells = cells.map_err(|error| self.connections.store_error(error))?;
        cells.into_iter().map(layout::decode_cell).collect()
    }

    /// Answers keys that are in order of position. It ends, because all keys at
    /// the group's greatest position are answered each time.
    fn answer(&self, keys: &[Pending]) -> Result<Vec<Answer>, StoreError> {
        let mut answers = Vec::with_capacity(keys.len());
        let mut groups = vec![keys.iter().collect::<Vec<_>>()];
        while let Some(group) = groups.pop() {
            let Some(greatest) = group.last() else { continue };
            let newest = self.newest_below(&group, greatest.before)?;
            let mut changed_since = Vec::new();
            for pending in group {
                match newest.get(&pending.row_key) {
                    Some(row) if row.version >= pending.before => changed_since.push(pending),
                    row => answers.push((pending.index, row.cloned())),
                }
            }
            let later = changed_since.split_off(changed_since.len() / 2);
            groups.extend([changed_since, later]);
        }
        Ok(answers)
    }

    fn newest_below(
        &self,
        group: &[&Pending],
        before: Position,
    ) -> Result<HashMap<Vec<u8>, StoredRow>, StoreError> {
        let row_keys: BTreeSet<&Vec<u8>> = group.iter().map(|pending| &pending.row_key).collect();
        let rows = self.connections.call(|client| {
            client.get_rows_with_columns_ts(
                self.table.as_bytes().to_vec(),
                row_keys.iter().copied().cloned().collect(),
                vec![ROW_COLUMN.to_vec()],
                layout::timestamp(before),
                BTreeMap::new(),
            )
        });
        let rows = rows.map_err(|error| self.connections.store_error(error))?;
        rows.into_iter().map(layout::decode).collect()
    }
}
