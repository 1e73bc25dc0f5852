//! What outlives the process beside the rows: one cell of the store that says
//! which source it follows, from where, and which dimensions are complete.
//!
//! The cell moves by compare-and-set alone, so that two processes that believe
//! to own one store cannot undo each other's progress.

use crate::{
    dimension::Key,
    registry::Dimension,
    store::{StoreError, StorePool},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
};
use tidemark_binlog::BinlogPlace;
use tidemark_proto::Position;

const CELL: &str = "state";

/// The content of the cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Made when the store was first used.
    pub store_id: String,
    pub server_uuid: String,
    /// The life of the source server that positions are of.
    pub epoch: u64,
    pub checkpoint: Checkpoint,
    pub dimensions: BTreeMap<String, DimensionState>,
}

/// From where the binlog is followed after a restart: all before is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub file: String,
    pub offset: u64,
    /// GTIDs of all transactions up to the place.
    pub gtid_set: String,
}

/// A dimension in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimensionState {
    pub definition: Definition,
    /// Where its first load stands: S, the history floor.
    pub floor: u64,
    /// The binlog file of the floor.
    pub floor_place: (String, u64),
    pub complete: bool,
    /// Rows loaded, and the last key: the first load goes on after it.
    pub loaded_rows: u64,
    pub loaded_to: Option<Vec<String>>,
    /// It was taken out of the settings: its changes were not followed since,
    /// so its rows must not be served again.
    #[serde(default)]
    pub retired: bool,
}

/// What the stored rows were made from: another definition would read them
/// wrongly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub source: String,
    pub sink_table: String,
    pub key: Vec<String>,
    /// (name, form of the values).
    pub columns: Vec<(String, String)>,
}

impl Definition {
    /// The definition of a dimension.
    pub fn of(dimension: &Dimension) -> Self {
        Self {
            source: format!("{}.{}", dimension.database, dimension.source),
            sink_table: dimension.sink_table.to_string(),
            key: dimension.key_names().map(str::to_owned).collect(),
            columns: dimension.columns.iter().map(|c| (c.name.clone(), c.mysql_type.clone())).collect(),
        }
    }
}

impl State {
    /// The state of a store that is used for the first time.
    pub fn new(server_uuid: String, checkpoint: Checkpoint) -> Self {
        Self { store_id: new_store_id(), server_uuid, epoch: 1, checkpoint, dimensions: BTreeMap::new() }
    }
}

impl Checkpoint {
    /// The place to follow from.
    pub fn place(&self) -> BinlogPlace {
        BinlogPlace { file: self.file.clone(), offset: self.offset }
    }
}

impl DimensionState {
    /// The history floor.
    pub fn floor(&self) -> Position {
        Position::from_packed(self.floor)
    }
}

/// 128 random bits as hexadecimal text.
fn new_store_id() -> String {
    let bits = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", bits(), bits())
}

/// The cell, as this process last saw it.
#[derive(Debug)]
pub struct StateCell {
    store: StorePool,
    seen: Option<Vec<u8>>,
    state: State,
}

/// Why the state could not be read or moved.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store's state cell cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("another process moved the store's state: only one dimsvc may write this store")]
    Moved,
}

impl StateCell {
    /// Reads the state; `None` in a store that was never used.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn read(store: &StorePool) -> Result<Option<Self>, StateError> {
        let Some(bytes) = store.load_cell(CELL).await? else { return Ok(None) };
        let state = serde_json::from_slice(&bytes)?;
        Ok(Some(Self { store: store.clone(), seen: Some(bytes), state }))
    }

    /// Creates the cell.
    ///
    /// # Errors
    /// When the store fails or another process was faster.
    pub async fn create(store: &StorePool, state: State) -> Result<Self, StateError> {
        let mut cell = Self { store: store.clone(), seen: None, state };
        cell.write().await?;
        Ok(cell)
    }

    /// What the cell says.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Changes the state and writes it.
    ///
    /// # Errors
    /// When the store fails, or another process moved the cell. The change then
    /// stays in memory and goes out with the next success.
    pub async fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        change(&mut self.state);
        self.write().await
    }

    async fn write(&mut self) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(&self.state)?;
        if self.seen.as_ref() == Some(&bytes) {
            return Ok(());
        }
        let moved = self.store.compare_and_set_cell(CELL, self.seen.clone(), bytes.clone()).await;
        // A write that timed out may have arrived: then the cell holds ours.
        let moved = match moved {
            Ok(moved) => moved || self.store.load_cell(CELL).await?.as_ref() == Some(&bytes),
            Err(error) if error.is_retryable() => {
                if self.store.load_cell(CELL).await?.as_ref() != Some(&bytes) {
                    return Err(error.into());
                }
                true
            }
            Err(error) => return Err(error.into()),
        };
        if !moved {
            return Err(StateError::Moved);
        }
        self.seen = Some(bytes);
        Ok(())
    }
}

/// The text of a key in messages.
pub fn key_text(key: &Key) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}
