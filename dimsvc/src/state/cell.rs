//! One cell, moved by compare-and-set from what this process last saw in it.

use super::StateError;
use crate::store::StorePool;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;

/// Different writes that are remembered while none succeeds. Whoever finds the
/// cell at an older one of its own takes it for another process's, and steps
/// down: needless, but safe.
const IN_DOUBT_MAX: usize = 64;

/// A cell as this process last saw it.
#[derive(Debug)]
pub(super) struct Cell<T> {
    name: String,
    /// `None`: the cell does not exist.
    seen: Option<Vec<u8>>,
    /// Writes that failed and may arrive all the same, newest first.
    in_doubt: VecDeque<Vec<u8>>,
    value: T,
}

impl<T: Serialize + DeserializeOwned> Cell<T> {
    /// A cell that is not in the store yet.
    pub(super) fn absent(name: String, value: T) -> Self {
        Self { name, seen: None, in_doubt: VecDeque::new(), value }
    }

    /// Reads a cell; `None` when it does not exist.
    pub(super) async fn read(store: &StorePool, name: &str) -> Result<Option<Self>, StateError> {
        let Some(bytes) = store.load_cell(name).await? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes)
            .map_err(|source| StateError::Unreadable { cell: name.to_owned(), source })?;
        Ok(Some(Self { name: name.to_owned(), seen: Some(bytes), in_doubt: VecDeque::new(), value }))
    }

    pub(super) fn value(&self) -> &T {
        &self.value
    }

    pub(super) fn into_value(self) -> T {
        self.value
    }

    /// Changes the value and writes it. After a failure the change stays in
    /// memory and goes out with the next success.
    ///
    /// # Cancel safety
    /// A write whose future was dropped is in doubt, as one that failed.
    pub(super) async fn change(
        &mut self,
        store: &StorePool,
        change: impl FnOnce(&mut T),
    ) -> Result<(), StateError> {
        change(&mut self.value);
        let bytes = serde_json::to_vec(&self.value)
            .map_err(|source| StateError::Unreadable { cell: self.name.clone(), source })?;
        if self.seen.as_ref() == Some(&bytes) {
            return Ok(());
        }
        if !self.in_doubt.contains(&bytes) {
            self.in_doubt.push_front(bytes.clone());
            self.in_doubt.truncate(IN_DOUBT_MAX);
        }
        let set = store.compare_and_set_cell(&self.name, self.seen.clone(), bytes.clone()).await?;
        if !set {
            self.settle(store, &bytes).await?;
        }
        self.in_doubt.clear();
        self.seen = Some(bytes);
        Ok(())
    }

    /// The cell does not hold what was last seen: a write of ours that was
    /// thought to have failed may have arrived late. Anything else is another
    /// process's.
    async fn settle(&self, store: &StorePool, bytes: &[u8]) -> Result<(), StateError> {
        let held = store.load_cell(&self.name).await?.ok_or(StateError::Moved)?;
        if held == bytes {
            return Ok(());
        }
        if !self.in_doubt.contains(&held) {
            return Err(StateError::Moved);
        }
        let set = store.compare_and_set_cell(&self.name, Some(held), bytes.to_vec()).await?;
        if set { Ok(()) } else { Err(StateError::Moved) }
    }
}
