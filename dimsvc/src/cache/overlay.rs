//! Versions that the store does not have yet, and the one before each.

use super::Answer;
use crate::dimension::Key;
use hashbrown::HashMap;
use std::collections::VecDeque;
use tidemark_proto::Position;

/// What a version costs beside its key and row.
pub(crate) const VERSION_OVERHEAD: usize = 192;

/// Per key, versions in rising order. The first may be one that is already
/// durable: the image that the next one replaced, kept so that a batch which
/// reads just below a change need not go to the store.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    keys: HashMap<Key, VecDeque<Answer>, foldhash::fast::RandomState>,
    /// Every version pushed, in the order of apply; its front is the oldest
    /// that is not durable.
    queue: VecDeque<(Position, Key, usize)>,
}

impl Overlay {
    /// Takes the version that a transaction wrote; `replaced` is the one that
    /// was resident before it.
    pub(super) fn push(&mut self, key: &Key, answer: Answer, replaced: Option<Answer>) {
        let versions = self.keys.entry(key.clone()).or_default();
        if versions.is_empty() {
            versions.extend(replaced.filter(|replaced| replaced.version < answer.version));
        }
        let bytes =
            answer.image.as_ref().map_or(0, |row| row.len()) + key.as_bytes().len() + VERSION_OVERHEAD;
        self.queue.push_back((answer.version, key.clone(), bytes));
        if let Some(last) = versions.back_mut() {
            debug_assert!(last.version < answer.version, "transactions are applied in order");
            last.to = Some(answer.version);
        }
        versions.push_back(answer);
    }

    /// The newest version of a key.
    pub(super) fn newest(&self, key: &Key) -> Option<Answer> {
        self.keys.get(key)?.back().cloned()
    }

    /// The greatest version of a key below `at`.
    pub(super) fn as_of(&self, key: &Key, at: Position) -> Option<Answer> {
        self.keys.get(key)?.iter().rev().find(|answer| answer.answers(at)).cloned()
    }

    /// The newest version of every key.
    pub(super) fn newest_of_all(&self) -> impl Iterator<Item = (&Key, Answer)> {
        self.keys.iter().filter_map(|(key, versions)| Some((key, versions.back()?.clone())))
    }

    /// Lets go of versions below `durable`, but for the last before one that is
    /// not durable. Returns the bytes freed.
    pub(super) fn forget(&mut self, durable: Position) -> usize {
        let mut freed = 0;
        while self.queue.front().is_some_and(|(version, ..)| *version < durable) {
            let Some((_, key, bytes)) = self.queue.pop_front() else { break };
            freed += bytes;
            let Some(versions) = self.keys.get_mut(&key) else { continue };
            let durable_versions = versions.iter().take_while(|answer| answer.version < durable).count();
            if durable_versions == versions.len() {
                self.keys.remove(&key);
            } else {
                versions.drain(..durable_versions.saturating_sub(1));
            }
        }
        freed
    }

    /// Versions that are not durable.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
