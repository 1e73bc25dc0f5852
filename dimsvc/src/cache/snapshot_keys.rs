//! Which keys changed since the first load began.

use crate::dimension::Key;
use hashbrown::HashSet;

/// Rows of a chunk whose key is in here are dropped: the stream has their
/// versions, and wrote the image before the first one.
#[derive(Debug, Default)]
pub(super) struct SnapshotKeys {
    keys: HashSet<Key, foldhash::fast::RandomState>,
    bytes: usize,
}

/// What a key costs beside its text.
const KEY_OVERHEAD: usize = 80;

impl SnapshotKeys {
    /// Notes a change; true when it is the key's first.
    pub(super) fn changed(&mut self, key: &Key) -> bool {
        let first = self.keys.insert(key.clone());
        if first {
            self.bytes += key.as_bytes().len() + KEY_OVERHEAD;
        }
        first
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }
}
