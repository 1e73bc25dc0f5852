//! Which keys changed since a load or a repair of the whole table began.

use crate::row::{Image, Key};
use hashbrown::HashSet;
use std::mem;
use tidemark_proto::Position;

/// Rows of a chunk whose key is in here are dropped: the stream has their
/// versions, and wrote the image before the first one.
#[derive(Debug)]
pub(crate) struct NotedKeys {
    /// Of the rows that the load or repair writes.
    version: Position,
    keys: HashSet<Key, foldhash::fast::RandomState>,
    bytes: usize,
    /// Of a repair: the images before each key's first change, which are what
    /// the source had when the repair began.
    before: Option<Vec<(Key, Image)>>,
}

/// What a key costs beside its text.
const KEY_OVERHEAD: usize = 80;

impl NotedKeys {
    /// Notes for a load or repair whose rows are of `version`.
    pub(crate) fn new(version: Position) -> Self {
        Self { version, keys: HashSet::default(), bytes: 0, before: None }
    }

    /// Notes that keep the images before each key's first change.
    pub(crate) fn of_repair(version: Position) -> Self {
        Self { before: Some(Vec::new()), ..Self::new(version) }
    }

    pub(crate) fn version(&self) -> Position {
        self.version
    }

    /// Takes the image before a key's first change; gives it back where only
    /// the keys are noted.
    pub(crate) fn keep(&mut self, key: &Key, before: Image) -> Option<(Key, Image)> {
        let size = before.as_ref().map_or(0, bytes::Bytes::len);
        let first = (key.clone(), before);
        let Some(kept) = &mut self.before else { return Some(first) };
        self.bytes += size;
        kept.push(first);
        None
    }

    /// The images kept since the last call.
    pub(crate) fn take_before(&mut self) -> Vec<(Key, Image)> {
        let taken = self.before.as_mut().map(mem::take).unwrap_or_default();
        self.bytes -=
            taken.iter().filter_map(|(_, image)| image.as_ref()).map(bytes::Bytes::len).sum::<usize>();
        taken
    }

    /// Notes a change; true when it is the key's first.
    pub(crate) fn changed(&mut self, key: &Key) -> bool {
        let first = self.keys.insert(key.clone());
        if first {
            self.bytes += key.as_bytes().len() + KEY_OVERHEAD;
        }
        first
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }
}
