//! Versions that the store does not have yet, and the one before each.

use crate::{
    answer::Answer,
    row::{Key, Row},
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};
use tidemark_proto::Position;

/// What a version costs beside its key and row.
pub const VERSION_OVERHEAD: usize = 192;

/// Per key, versions in rising order. The first may be one that is already
/// durable: the image that the next one replaced, kept so that a batch which
/// reads just below a change need not go to the store.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    keys: BTreeMap<Key, VecDeque<Answer>>,
    /// Every version pushed, in the order of apply; its front is the oldest
    /// that is not durable.
    queue: VecDeque<(Position, Key)>,
}

impl Overlay {
    /// Takes the version that a transaction wrote; `replaced` is the one that
    /// was resident before it.
    pub(crate) fn push(&mut self, key: &Key, row: Row, replaced: Option<Row>) {
        let version = row.version();
        let versions = self.keys.entry(key.clone()).or_default();
        if versions.is_empty() {
            versions.extend(replaced.filter(|row| row.version() < version).map(Answer::newest));
        }
        self.queue.push_back((version, key.clone()));
        if let Some(last) = versions.back_mut() {
            debug_assert!(last.version() < version, "transactions are applied in order");
            last.to = version;
        }
        versions.push_back(Answer::newest(row));
    }

    /// A repair found what the key held below its undurable versions: what was
    /// kept of before is wrong.
    pub(crate) fn repair(&mut self, row: &Row) {
        let Some(versions) = self.keys.get_mut(row.key()) else { return };
        let wrong = versions.iter().take_while(|answer| answer.version() <= row.version()).count();
        versions.drain(..wrong);
        if let Some(next) = versions.front().map(Answer::version) {
            versions.push_front(Answer::newest(row.clone()).until(next));
        } else {
            self.keys.remove(row.key());
        }
    }

    /// The newest version of a key.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<&Answer> {
        self.keys.get(key)?.back()
    }

    /// The greatest version of a key below `at`.
    pub(crate) fn as_of(&self, key: &[u8], at: Position) -> Option<Answer> {
        as_of(self.keys.get(key)?, at)
    }

    /// Every version held of a key, newest first.
    pub(crate) fn versions(&self, key: &[u8]) -> Vec<Answer> {
        self.keys.get(key).into_iter().flatten().rev().cloned().collect()
    }

    /// The greatest version below `at` of every key that begins with `prefix`,
    /// in key order.
    pub(crate) fn as_of_prefix(&self, prefix: &[u8], at: Position) -> Vec<(Key, Answer)> {
        let begin = (Bound::Included(prefix), Bound::Unbounded);
        let keys = self.keys.range::<[u8], _>(begin);
        let within = keys.take_while(|(key, _)| key.as_bytes().starts_with(prefix));
        within.filter_map(|(key, versions)| Some((key.clone(), as_of(versions, at)?))).collect()
    }

    /// The newest version of every key.
    pub(crate) fn newest_of_all(&self) -> impl Iterator<Item = &Row> {
        self.keys.values().filter_map(|versions| versions.back()?.row.as_ref())
    }

    /// Lets go of versions below `durable`, but for the last before one that is
    /// not durable.
    pub(crate) fn forget(&mut self, durable: Position) {
        while self.queue.front().is_some_and(|(version, _)| *version < durable) {
            let Some((_, key)) = self.queue.pop_front() else { break };
            let Some(versions) = self.keys.get_mut(&key) else { continue };
            let durable_versions = versions.iter().take_while(|answer| answer.version() < durable).count();
            if durable_versions == versions.len() {
                self.keys.remove(&key);
            } else {
                versions.drain(..durable_versions.saturating_sub(1));
            }
        }
    }

    /// Versions that are not durable.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

fn as_of(versions: &VecDeque<Answer>, at: Position) -> Option<Answer> {
    versions.iter().rev().find(|answer| answer.answers(at)).cloned()
}
