//! Loads at work: one a key, whoever waits for it; and every change of the key
//! reaches it, so that a read that is older than the change fills nothing.

use crate::row::{Key, Row};
use hashbrown::HashMap;

/// `W` is what those who come later wait on.
#[derive(Debug)]
pub(crate) struct Flights<W> {
    keys: HashMap<Key, Flight<W>, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Flight<W> {
    waiter: W,
    /// The newest change since the load began.
    newer: Option<Row>,
}

impl<W> Default for Flights<W> {
    fn default() -> Self {
        Self { keys: HashMap::default() }
    }
}

impl<W: Clone> Flights<W> {
    /// What to wait on, when the key is being loaded.
    pub(crate) fn join(&self, key: &[u8]) -> Option<W> {
        self.keys.get(key).map(|flight| flight.waiter.clone())
    }

    pub(crate) fn begin(&mut self, key: Key, waiter: W) {
        self.keys.insert(key, Flight { waiter, newer: None });
    }

    /// A change of the key: its load must not fill in anything older.
    pub(crate) fn hand_over(&mut self, row: &Row) {
        if self.keys.is_empty() {
            return;
        }
        if let Some(flight) = self.keys.get_mut(row.key())
            && flight.newer.as_ref().is_none_or(|newer| newer.version() < row.version())
        {
            flight.newer = Some(row.clone());
        }
    }

    /// The load is over. Returns the newest change since it began.
    pub(crate) fn end(&mut self, key: &[u8]) -> Option<Row> {
        self.keys.remove(key)?.newer
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}
