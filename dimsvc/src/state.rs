//! What outlives the process beside the rows: cells of the store that say which
//! source it follows, from where, who writes it, and how far each dimension is.
//!
//! One *hot* cell moves many times a second and stays small; what is large has
//! a cell for each dimension. Cells move by compare-and-set alone. A new writer
//! raises the term in the hot cell and then writes it into every other one: so
//! a writer that lost its lease without noticing fails at its next write.

mod cell;
mod cells;
#[cfg(test)]
mod tests;

pub use cells::StateCells;

use crate::{
    registry::{Dimension, DimensionColumn},
    store::StoreError,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
};
use tidemark_binlog::BinlogPlace;
use tidemark_heart::Timeline;
use tidemark_proto::Position;

/// The content of the hot cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Made when the store was first used.
    pub store_id: String,
    pub server_uuid: String,
    /// The life of the source server that positions are of.
    pub epoch: u64,
    /// Counts the processes that became the writer.
    pub term: u64,
    /// Who became the last one, as it names itself.
    pub writer: String,
    /// Packed: every change of the followed dimensions before it is in the
    /// store.
    pub durable: u64,
    pub checkpoint: Checkpoint,
    pub shared: SharedState,
    pub dimensions: BTreeMap<String, DimensionMark>,
}

/// From where the binlog is followed after a restart: all before is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub file: String,
    pub offset: u64,
    /// GTIDs of all transactions up to the place.
    pub gtid_set: String,
}

/// What readers of the shared tier must see to use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedState {
    /// Part of every key: a raised one leaves all rows behind.
    pub generation: u64,
    /// The life of the server that has taken every update of this generation;
    /// empty: nobody may use the tier.
    pub run_id: String,
}

/// A dimension in the hot cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimensionMark {
    /// Raised when the dimension's own cell has something new for replicas.
    pub revision: u64,
    /// `durable` does not name it: its changes are not followed any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

/// The content of a dimension's own cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimensionState {
    /// The term of who wrote the cell.
    pub term: u64,
    pub definition: Definition,
    /// What is known of its past. A first load stands at its floor, S.
    pub timeline: Timeline,
    /// The binlog place of S.
    pub floor_place: (String, u64),
    pub complete: bool,
    /// Rows loaded, and the last key: the first load goes on after it.
    pub loaded_rows: u64,
    pub loaded_to: Option<Vec<String>>,
    /// Packed: a repair writes rows, and history since here will be unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairing: Option<u64>,
}

/// What the stored rows were made from: another definition would read them
/// wrongly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub source: String,
    pub sink_table: String,
    pub key: Vec<String>,
    /// Every column of the table, those to come too.
    pub all_columns: bool,
    /// Now: those that were added while it was followed are the last.
    pub columns: Vec<DimensionColumn>,
}

impl Definition {
    /// The definition of a dimension.
    pub fn of(dimension: &Dimension) -> Self {
        Self {
            source: format!("{}.{}", dimension.database, dimension.source),
            sink_table: dimension.sink_table.to_string(),
            key: dimension.key_names().map(str::to_owned).collect(),
            all_columns: dimension.all_columns,
            columns: dimension.columns.clone(),
        }
    }
}

impl State {
    /// The state of a store that is used for the first time, whose changes are
    /// durable up to the checkpoint because there are none.
    pub fn new(server_uuid: String, checkpoint: Checkpoint, durable: Position) -> Self {
        Self {
            store_id: format!("{:016x}{:016x}", random_bits(), random_bits()),
            server_uuid,
            epoch: durable.epoch(),
            term: 0,
            writer: String::new(),
            durable: durable.packed(),
            checkpoint,
            shared: SharedState::default(),
            dimensions: BTreeMap::new(),
        }
    }

    /// Names of the dimensions that `durable` speaks of.
    pub fn followed(&self) -> impl Iterator<Item = &str> {
        self.dimensions.iter().filter(|(_, mark)| !mark.retired).map(|(name, _)| name.as_str())
    }

    /// All before is durable.
    pub fn durable(&self) -> Position {
        Position::from_packed(self.durable)
    }
}

impl Checkpoint {
    /// The place to follow from.
    pub fn place(&self) -> BinlogPlace {
        BinlogPlace { file: self.file.clone(), offset: self.offset }
    }
}

impl DimensionState {
    /// What a repair wrote until `at` is told as a hole in history, whether it
    /// came to its end or not.
    pub fn end_repair(&mut self, at: Position) {
        if let Some(since) = self.repairing.take() {
            self.timeline.add_unknown(Position::from_packed(since), at);
        }
    }

    /// The history floor.
    pub fn floor(&self) -> Position {
        self.timeline.floor()
    }
}

/// 64 bits that no other process has.
pub(crate) fn random_bits() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Why the state could not be read or moved.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store's cell {cell} cannot be read: {source}")]
    Unreadable { cell: String, source: serde_json::Error },
    #[error("another process writes the store's state now")]
    Moved,
    #[error("the store's cell {0} is gone")]
    Gone(String),
}

impl StateError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}
