//! What the pruner remembers over restarts, in a cell of its own: marks of time
//! and how far each dimension is pruned. Losing it costs a scan.

use super::marks::{Mark, Marks};
use crate::{
    registry::Dimension,
    store::{ScanCursor, StoreError, StorePool},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use tidemark_proto::Position;

const CELL: &str = "prune";
/// A dimension is pruned again once this share of its time has passed.
const AGAIN_AFTER_SHARE: u64 = 16;

/// The cell, as this process last saw it.
#[derive(Debug)]
pub(super) struct Progress {
    store: StorePool,
    seen: Option<Vec<u8>>,
    pub(super) content: Content,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) marks: Marks,
    pub(super) passes: BTreeMap<String, Pass>,
}

/// One walk over a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pass {
    /// Packed: what a later version replaced before it goes.
    floor: u64,
    /// Packed: what was deleted before it goes.
    removed: u64,
    /// The time that the floor stands for.
    time: u64,
    /// Where it goes on.
    pub(super) after: Option<Vec<u8>>,
    pub(super) done: bool,
}

impl Pass {
    pub(super) fn floor(&self) -> Position {
        Position::from_packed(self.floor)
    }

    /// What was deleted below it is removed; [`Position::ZERO`] for nothing.
    pub(super) fn removed(&self) -> Position {
        Position::from_packed(self.removed)
    }

    pub(super) fn cursor(&self) -> Option<ScanCursor> {
        self.after.clone().map(ScanCursor)
    }
}

impl Progress {
    /// Reads the cell. One that cannot be understood is begun anew.
    pub(super) async fn load(store: &StorePool) -> Result<Self, StoreError> {
        let seen = store.load_cell(CELL).await?;
        let content = seen.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
        Ok(Self { store: store.clone(), seen, content: content.unwrap_or_default() })
    }

    /// Writes the cell; false when another process did, who prunes now.
    pub(super) async fn save(&mut self) -> Result<bool, StoreError> {
        let bytes =
            serde_json::to_vec(&self.content).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        if self.seen.as_ref() == Some(&bytes) {
            return Ok(true);
        }
        let set = self.store.compare_and_set_cell(CELL, self.seen.clone(), bytes.clone()).await?;
        if set {
            self.seen = Some(bytes);
        }
        Ok(set)
    }

    /// The pass of a dimension that is due `now`: one that was begun, or a new
    /// one.
    pub(super) fn due(&self, dimension: &Dimension, now: u64) -> Option<Pass> {
        let last = self.content.passes.get(dimension.name.as_ref());
        if let Some(begun) = last.filter(|pass| !pass.done) {
            return Some(begun.clone());
        }
        let (history, deleted) = (dimension.history, dimension.deleted_after);
        let keep = history.or(deleted)?.as_secs();
        let mark = self.mark(keep, now)?;
        if last.is_some_and(|last| mark.time < last.time + keep / AGAIN_AFTER_SHARE) {
            return None;
        }
        let removed = deleted.map(|keep: Duration| self.mark(keep.as_secs(), now));
        let removed = removed.flatten().map_or(Position::ZERO, Mark::position);
        Some(Pass {
            floor: mark.position().packed(),
            removed: removed.packed(),
            time: mark.time,
            after: None,
            done: false,
        })
    }

    fn mark(&self, age: u64, now: u64) -> Option<Mark> {
        self.content.marks.before(now.checked_sub(age)?)
    }
}
