//! Loads at work: every change of a key that is being loaded reaches its load,
//! so that a store read that is older than the change cannot fill the tier.

use super::Answer;
use crate::dimension::Key;
use hashbrown::HashMap;

#[derive(Debug, Default)]
pub(super) struct Loads {
    keys: HashMap<Key, LoadState, foldhash::fast::RandomState>,
}

#[derive(Debug, Default)]
struct LoadState {
    readers: usize,
    /// The newest change since the first reader registered.
    newer: Option<Answer>,
}

impl Loads {
    pub(super) fn register(&mut self, key: &Key) {
        self.keys.entry(key.clone()).or_default().readers += 1;
    }

    /// A change of the key: its loads must not fill in anything older.
    pub(super) fn hand_over(&mut self, key: &Key, answer: &Answer) {
        if let Some(load) = self.keys.get_mut(key) {
            load.newer = Some(answer.clone());
        }
    }

    pub(super) fn handed_over(&self, key: &Key) -> Option<Answer> {
        self.keys.get(key)?.newer.clone()
    }

    /// A reader is done, or gave up.
    pub(super) fn release(&mut self, key: &Key) {
        if let Some(load) = self.keys.get_mut(key) {
            load.readers -= 1;
            if load.readers == 0 {
                self.keys.remove(key);
            }
        }
    }
}
