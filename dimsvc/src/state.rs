//! What outlives the process beside the rows: one cell of the store that says
//! which source it follows, from where, and which dimensions are complete.
//!
//! The cell moves by compare-and-set alone, so that two processes that believe
//! to own one store cannot undo each other's progress.

use crate::{
    registry::Dimension,
    store::{StoreError, StorePool},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
};
use tidemark_binlog::BinlogPlace;
use tidemark_proto::Position;

const CELL: &str = "state";
/// More writes than these never fail before one succeeds within a call's bound:
/// an older one can no longer arrive.
const IN_DOUBT_MAX: usize = 16;

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
    /// Writes that failed and may arrive all the same, newest first.
    in_doubt: VecDeque<Vec<u8>>,
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
        Ok(Some(Self { store: store.clone(), seen: Some(bytes), in_doubt: VecDeque::new(), state }))
    }

    /// Creates the cell.
    ///
    /// # Errors
    /// When the store fails or another process was faster.
    pub async fn create(store: &StorePool, state: State) -> Result<Self, StateError> {
        let mut cell = Self { store: store.clone(), seen: None, in_doubt: VecDeque::new(), state };
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
        let set = self.store.compare_and_set_cell(CELL, self.seen.clone(), bytes.clone()).await;
        match set {
            Ok(true) => {}
            Ok(false) => return self.settle(bytes).await,
            Err(error) => {
                self.in_doubt.push_front(bytes);
                self.in_doubt.truncate(IN_DOUBT_MAX);
                return Err(error.into());
            }
        }
        self.saw(bytes);
        Ok(())
    }

    /// The cell does not hold what was last seen: a write of ours that was
    /// thought to have failed may have arrived late. Anything else is another
    /// process's.
    async fn settle(&mut self, bytes: Vec<u8>) -> Result<(), StateError> {
        let held = self.store.load_cell(CELL).await?.ok_or(StateError::Moved)?;
        if held != bytes {
            if !self.in_doubt.contains(&held) {
                return Err(StateError::Moved);
            }
            if !self.store.compare_and_set_cell(CELL, Some(held), bytes.clone()).await? {
                return Err(StateError::Moved);
            }
        }
        self.saw(bytes);
        Ok(())
    }

    fn saw(&mut self, bytes: Vec<u8>) {
        self.in_doubt.clear();
        self.seen = Some(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Store,
        memory::{Failing, MemoryStore},
    };
    use std::{sync::Arc, time::Duration};

    fn state() -> State {
        State::new(
            "uuid".into(),
            Checkpoint { file: "binlog.000001".into(), offset: 4, gtid_set: String::new() },
        )
    }

    fn pool(store: Arc<dyn Store>) -> StorePool {
        StorePool::new(store, 1, 8, Duration::from_secs(5))
    }

    /// Fails without `in_doubt`: our own late write would pass for another
    /// process's.
    #[tokio::test]
    async fn a_write_that_arrives_late_is_known_as_our_own() {
        let memory = Arc::new(MemoryStore::default());
        let failing = Arc::new(Failing::new(Arc::clone(&memory) as Arc<dyn Store>));
        failing.set_failing(false);
        let mut cell =
            StateCell::create(&pool(Arc::clone(&failing) as Arc<dyn Store>), state()).await.unwrap();
        let before = memory.load_cell(CELL).unwrap();
        failing.set_failing(true);
        cell.change(|state| state.checkpoint.offset = 5).await.unwrap_err();
        let late = serde_json::to_vec(cell.state()).unwrap();
        failing.set_failing(false);
        assert!(memory.compare_and_set_cell(CELL, before.as_deref(), &late).unwrap());
        cell.change(|state| state.checkpoint.offset = 6).await.unwrap();
        let held = StateCell::read(&pool(memory)).await.unwrap().unwrap();
        assert_eq!(held.state().checkpoint.offset, 6);
    }

    #[tokio::test]
    async fn another_process_is_noticed() {
        let memory = pool(Arc::new(MemoryStore::default()));
        let mut first = StateCell::create(&memory, state()).await.unwrap();
        let mut second = StateCell::read(&memory).await.unwrap().unwrap();
        second.change(|state| state.checkpoint.offset = 5).await.unwrap();
        let moved = first.change(|state| state.checkpoint.offset = 6).await;
        assert!(matches!(moved, Err(StateError::Moved)));
    }
}
