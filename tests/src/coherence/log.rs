//! The versions of one key.

use super::Stamp;
use std::collections::VecDeque;
use tidemark_proto::Position;

/// A key's versions, oldest first. The first one stands for all up to the
/// floor, until it is pruned.
#[derive(Debug)]
pub(super) struct KeyLog {
    versions: VecDeque<(Position, Stamp)>,
}

/// The truth at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub version: Position,
    pub stamp: Stamp,
    /// The version that replaced it.
    pub next: Option<Position>,
}

impl KeyLog {
    /// A key that is not there at `floor`.
    pub(super) fn new(floor: Position) -> Self {
        Self { versions: VecDeque::from([(floor.before(), None)]) }
    }

    pub(super) fn set_first(&mut self, stamp: Stamp) {
        if let Some((_, first)) = self.versions.front_mut() {
            *first = stamp;
        }
    }

    pub(super) fn push(&mut self, version: Position, stamp: Stamp, versions_max: usize) {
        match self.versions.back_mut() {
            Some((newest, image)) if *newest == version => *image = stamp,
            Some((newest, _)) if *newest > version => {
                unreachable!("versions of a key are noted in their order")
            }
            _ => self.versions.push_back((version, stamp)),
        }
        if self.versions.len() > versions_max {
            self.versions.pop_front();
        }
    }

    /// The greatest version below `at`.
    #[inline]
    pub(super) fn as_of(&self, at: Position) -> Option<Known> {
        // Most checks ask for the newest.
        let after = match self.versions.back() {
            Some((newest, _)) if *newest < at => self.versions.len(),
            _ => self.versions.partition_point(|(version, _)| *version < at),
        };
        let (version, stamp) = *self.versions.get(after.checked_sub(1)?)?;
        let next = self.versions.get(after).map(|(next, _)| *next);
        Some(Known { version, stamp, next })
    }
}
