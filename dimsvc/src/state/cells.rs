//! All cells of a store: the hot one and one for each dimension, and the rule
//! who may move them.

use super::{DimensionMark, DimensionState, State, StateError, cell::Cell};
use crate::store::StorePool;
use futures_util::future::try_join_all;
use std::collections::BTreeMap;

const HOT: &str = "state";
/// Cells of dimensions read or written at a time.
const AT_ONCE: usize = 8;
/// How often a take-over meets a write of the writer before it. That one has
/// lost the lease and stops at its next failure, so once is the rule.
const TAKE_OVER_TRIES: usize = 8;

/// The cells, as this process last saw them.
#[derive(Debug)]
pub struct StateCells {
    store: StorePool,
    hot: Cell<State>,
    dimensions: BTreeMap<String, Cell<DimensionState>>,
    /// Whether this process took over and has met no other writer since.
    writes: bool,
}

impl StateCells {
    /// Reads all cells; `None` in a store that was never used.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn read(store: &StorePool) -> Result<Option<Self>, StateError> {
        let Some(hot) = Cell::<State>::read(store, HOT).await? else { return Ok(None) };
        // After the hot cell: what is read is not older than its revisions say.
        let names: Vec<_> = hot.value().dimensions.keys().cloned().collect();
        let mut dimensions = BTreeMap::new();
        for names in names.chunks(AT_ONCE) {
            let cells = try_join_all(names.iter().map(|name| read_dimension(store, name))).await?;
            dimensions.extend(names.iter().cloned().zip(cells));
        }
        Ok(Some(Self { store: store.clone(), hot, dimensions, writes: false }))
    }

    /// Creates the hot cell of a store that is used for the first time; false
    /// when another process was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create(store: &StorePool, state: State) -> Result<bool, StateError> {
        match Cell::absent(HOT.to_owned(), state).change(store, |_| {}).await {
            Ok(()) => Ok(true),
            Err(StateError::Moved) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The hot cell alone, as it is now.
    ///
    /// # Errors
    /// When the store fails or the cell is gone.
    pub async fn peek(store: &StorePool) -> Result<State, StateError> {
        let hot = Cell::<State>::read(store, HOT).await?;
        Ok(hot.ok_or_else(|| StateError::Gone(HOT.to_owned()))?.into_value())
    }

    /// A dimension's cell, as it is now.
    ///
    /// # Errors
    /// When the store fails or the cell is gone.
    pub async fn peek_dimension(store: &StorePool, name: &str) -> Result<DimensionState, StateError> {
        Ok(read_dimension(store, name).await?.into_value())
    }

    /// Whether this process may move the cells, as far as it knows.
    pub fn is_writer(&self) -> bool {
        self.writes
    }

    /// What the hot cell said when it was last read or written here.
    pub fn state(&self) -> &State {
        self.hot.value()
    }

    /// What a dimension's cell said.
    pub fn dimension(&self, name: &str) -> Option<&DimensionState> {
        self.dimensions.get(name).map(Cell::value)
    }

    /// Every dimension that the store knows, retired ones too.
    pub fn dimensions(&self) -> impl Iterator<Item = (&str, &DimensionState)> {
        self.dimensions.iter().map(|(name, cell)| (name.as_str(), cell.value()))
    }

    /// Becomes the writer, as `name`: from here on every other process that
    /// believes to be it fails to move a cell. Reads all cells anew.
    ///
    /// # Errors
    /// When the store fails; then take over again.
    pub async fn take_over(&mut self, name: &str) -> Result<(), StateError> {
        self.writes = false;
        let mut tries = 0;
        loop {
            let mut taken = Self::read(&self.store).await?.ok_or_else(|| StateError::Gone(HOT.to_owned()))?;
            tries += 1;
            match taken.raise_term(name).await {
                Ok(()) => {
                    taken.writes = true;
                    *self = taken;
                    return Ok(());
                }
                Err(StateError::Moved) if tries < TAKE_OVER_TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The hot cell first: whoever reads it then knows that the other cells
    /// may still be moved by the writer before, for the last time.
    async fn raise_term(&mut self, name: &str) -> Result<(), StateError> {
        let raise = |state: &mut State| {
            state.term += 1;
            name.clone_into(&mut state.writer);
            state.dimensions.values_mut().for_each(|mark| mark.revision += 1);
        };
        self.hot.change(&self.store, raise).await?;
        let (term, durable) = (self.hot.value().term, self.hot.value().durable());
        let repaired = |(name, cell): (&String, &Cell<DimensionState>)| {
            cell.value().repairing.is_some().then(|| name.clone())
        };
        let repaired: Vec<_> = self.dimensions.iter().filter_map(repaired).collect();
        let store = &self.store;
        let mut cells: Vec<_> = self.dimensions.values_mut().collect();
        for cells in cells.chunks_mut(AT_ONCE) {
            let raise = |dimension: &mut DimensionState| {
                dimension.term = term;
                // All that it wrote is below.
                dimension.end_repair(durable);
            };
            try_join_all(cells.iter_mut().map(|cell| cell.change(store, raise))).await?;
        }
        if repaired.is_empty() {
            return Ok(());
        }
        // Replicas that looked at once saw nothing of it, and the shared tier may
        // hold what was found wrong.
        let announce = |state: &mut State| {
            state.shared.generation += 1;
            let marks = state.dimensions.iter_mut().filter(|(name, _)| repaired.contains(name));
            marks.for_each(|(_, mark)| mark.revision += 1);
        };
        self.hot.change(&self.store, announce).await
    }

    /// Moves no cell any more, until it takes over again.
    pub fn step_down(&mut self) {
        self.writes = false;
    }

    /// Changes the hot cell and writes it.
    ///
    /// # Errors
    /// When the store fails: the change stays in memory and goes out with the
    /// next success. [`StateError::Moved`] when another process is the writer.
    pub async fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        if !self.writes {
            return Err(StateError::Moved);
        }
        let changed = self.hot.change(&self.store, change).await;
        self.fenced(changed)
    }

    /// Changes a dimension's cell and writes it. Replicas do not look at it
    /// until [`StateCells::announce`].
    ///
    /// # Errors
    /// As [`StateCells::change`].
    pub async fn change_dimension(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut DimensionState),
    ) -> Result<(), StateError> {
        if !self.writes {
            return Err(StateError::Moved);
        }
        let cell = self.dimensions.get_mut(name).ok_or_else(|| StateError::Gone(name.to_owned()))?;
        let changed = cell.change(&self.store, change).await;
        self.fenced(changed)
    }

    /// Tells replicas to read a dimension's cell.
    ///
    /// # Errors
    /// As [`StateCells::change`].
    pub async fn announce(&mut self, name: &str) -> Result<(), StateError> {
        self.change(|state| {
            if let Some(mark) = state.dimensions.get_mut(name) {
                mark.revision += 1;
            }
        })
        .await
    }

    /// Adds dimensions: first their cells, then the hot one, which names them.
    ///
    /// # Errors
    /// As [`StateCells::change`].
    pub async fn add(&mut self, added: Vec<(String, DimensionState)>) -> Result<(), StateError> {
        if !self.writes {
            return Err(StateError::Moved);
        }
        let term = self.state().term;
        let mut names = Vec::with_capacity(added.len());
        for (name, mut dimension) in added {
            dimension.term = term;
            // What a killed writer left behind, which the hot cell never named.
            let left = Cell::<DimensionState>::read(&self.store, &cell_name(&name)).await?;
            let mut cell = left.unwrap_or_else(|| Cell::absent(cell_name(&name), dimension.clone()));
            let changed = cell.change(&self.store, |held| *held = dimension).await;
            self.fenced(changed)?;
            self.dimensions.insert(name.clone(), cell);
            names.push(name);
        }
        let mark = |name| (name, DimensionMark::default());
        self.change(|state| state.dimensions.extend(names.into_iter().map(mark))).await
    }

    fn fenced(&mut self, changed: Result<(), StateError>) -> Result<(), StateError> {
        self.writes &= !matches!(changed, Err(StateError::Moved));
        changed
    }
}

async fn read_dimension(store: &StorePool, name: &str) -> Result<Cell<DimensionState>, StateError> {
    let cell_name = cell_name(name);
    Cell::read(store, &cell_name).await?.ok_or(StateError::Gone(cell_name))
}

/// `TABLE@INDEX` as a cell may be called: `_` doubled, other signs as `_xHH`,
/// so that no two names meet.
pub(super) fn cell_name(dimension: &str) -> String {
    let mut name = String::from("dimension_");
    for byte in dimension.bytes() {
        match byte {
            b'_' => name.push_str("__"),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            byte => name.push_str(&format!("_x{byte:02x}")),
        }
    }
    name
}
