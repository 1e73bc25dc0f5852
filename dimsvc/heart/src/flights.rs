//! Loads at work: one a key, whoever waits for it; and every change of the key
//! reaches it, so that a read that is older than the change fills nothing.

use crate::row::{Key, Row};
use hashbrown::HashMap;

/// `W` is what those who come later wait on.
#[derive(Debug)]
pub(crate) struct Flights<W> {
    keys: HashMap<Key, Flight<W>, foldhash::fast::RandomState>,
    /// Loads whose key was invalidated since they began: nobody joins them, and
    /// what they read does not become resident.
    void: Vec<(Key, Flight<W>)>,
    begun: u64,
}

#[derive(Debug)]
struct Flight<W> {
    id: u64,
    waiter: W,
    /// The newest change since the load began.
    newer: Option<Row>,
}

/// A load that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The newest change since it began.
    pub(crate) newer: Option<Row>,
    /// Its key was invalidated meanwhile.
    pub(crate) is_void: bool,
}

impl<W> Default for Flights<W> {
    fn default() -> Self {
        Self { keys: HashMap::default(), void: Vec::new(), begun: 0 }
    }
}

impl<W> Flight<W> {
    fn hand_over(&mut self, row: &Row) {
        if self.newer.as_ref().is_none_or(|newer| newer.version() < row.version()) {
            self.newer = Some(row.clone());
        }
    }
}

impl<W: Clone> Flights<W> {
    /// What to wait on, when the key is being loaded.
    pub(crate) fn join(&self, key: &[u8]) -> Option<W> {
        self.keys.get(key).map(|flight| flight.waiter.clone())
    }

    /// Begins a load; returns by what it is told from others of its key.
    pub(crate) fn begin(&mut self, key: Key, waiter: W) -> u64 {
        self.begun += 1;
        self.keys.insert(key, Flight { id: self.begun, waiter, newer: None });
        self.begun
    }

    /// What the load at work on a key reads may be what made it invalid.
    pub(crate) fn invalidate(&mut self, key: &[u8]) {
        self.void.extend(self.keys.remove_entry(key));
    }

    /// The same of every key.
    pub(crate) fn invalidate_all(&mut self) {
        self.void.extend(self.keys.drain());
    }

    /// A change of the key: its load must not fill in anything older.
    pub(crate) fn hand_over(&mut self, row: &Row) {
        // Most changes meet no load.
        if !self.keys.is_empty()
            && let Some(flight) = self.keys.get_mut(row.key())
        {
            flight.hand_over(row);
        }
        for (_, flight) in self.void.iter_mut().filter(|(key, _)| key.as_bytes() == row.key()) {
            flight.hand_over(row);
        }
    }

    /// The load is over.
    pub(crate) fn end(&mut self, key: &[u8], id: u64) -> Ended {
        if self.keys.get(key).is_some_and(|flight| flight.id == id) {
            let newer = self.keys.remove(key).and_then(|flight| flight.newer);
            return Ended { newer, is_void: false };
        }
        let void = self.void.iter().position(|(_, flight)| flight.id == id);
        let newer = void.and_then(|place| self.void.swap_remove(place).1.newer);
        Ended { newer, is_void: true }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.void.len()
    }
}
