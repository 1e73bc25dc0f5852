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
    /// More than this is not noted: then any key may have changed.
    bytes_max: usize,
    /// Of a repair: the images before each key's first change, which are what
    /// the source had when the repair began.
    before: Option<Vec<(Key, Image)>>,
}

/// What a key costs beside its text.
const KEY_OVERHEAD: usize = 80;

impl NotedKeys {
    /// Notes for a load or repair whose rows are of `version`.
    pub(crate) fn new(version: Position) -> Self {
        Self { version, keys: HashSet::default(), bytes: 0, bytes_max: usize::MAX, before: None }
    }

    /// Notes that keep the images before each key's first change, within a bound.
    pub(crate) fn of_repair(version: Position, bytes_max: usize) -> Self {
        Self { bytes_max, before: Some(Vec::new()), ..Self::new(version) }
    }

    /// The bound was reached: what was noted is let go.
    fn overflowed(&self) -> bool {
        self.bytes > self.bytes_max
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.overflowed() {
            self.bytes = usize::MAX;
            self.keys = HashSet::default();
            self.before = self.before.as_ref().map(|_| Vec::new());
        }
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
        kept.push(first);
        self.grow(size);
        None
    }

    /// The images kept since the last call; `None` when some were let go.
    pub(crate) fn take_before(&mut self) -> Option<Vec<(Key, Image)>> {
        if self.overflowed() {
            return None;
        }
        let taken = self.before.as_mut().map(mem::take).unwrap_or_default();
        self.bytes -=
            taken.iter().filter_map(|(_, image)| image.as_ref()).map(bytes::Bytes::len).sum::<usize>();
        Some(taken)
    }

    /// Notes a change; true when it is the key's first.
    pub(crate) fn changed(&mut self, key: &Key) -> bool {
        if self.overflowed() {
            return false;
        }
        let first = self.keys.insert(key.clone());
        if first {
            self.grow(key.as_bytes().len() + KEY_OVERHEAD);
        }
        first
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.overflowed() || self.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when `contains` does not know that notes were let go: a row that
    /// changed would be taken for one that did not.
    #[test]
    fn when_more_changed_than_can_be_noted_everything_has_changed() {
        let key = |id: u32| Key::from_canonical(format!("[{id}]"));
        let image = || Some(bytes::Bytes::from(vec![b'x'; 300]));
        let mut notes = NotedKeys::of_repair(Position::ZERO, 1_000);
        assert!(notes.changed(&key(1)) && notes.keep(&key(1), image()).is_none());
        assert_eq!(notes.take_before().map(|kept| kept.len()), Some(1));
        for id in 2..5 {
            if notes.changed(&key(id)) {
                notes.keep(&key(id), image());
            }
        }
        assert!(notes.take_before().is_none());
        assert!(notes.contains(&key(1)) && notes.contains(&key(99)));
        assert!(!notes.changed(&key(99)), "nothing is kept any more");
    }
}
