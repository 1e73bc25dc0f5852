//! A judge of lookups that knows every version ever written.
//!
//! Writers tell it each version of each key before a reader may see it, readers
//! hand it what they were answered, and [`Checker::judge`] says whether that was
//! the truth: the row at that position, and an interval no wider than the row's
//! life. It shares no code with the caches it judges. Keys are numbers from 0,
//! whatever tables they are of; images are stamps of 64 bits, such as the number
//! that a row carries or a digest of its bytes.

mod check;
mod log;
mod tally;
#[cfg(test)]
mod tests;

pub use check::{Answered, Check, Fault, Verdict};
pub use log::Known;
pub use tally::Tally;

use log::KeyLog;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tidemark_proto::Position;

/// The log of all keys. Shared by writers and readers; a check takes the lock
/// of its own key alone.
#[derive(Debug)]
pub struct Checker {
    keys: Box<[Slot]>,
    versions_max: usize,
}

#[derive(Debug)]
struct Slot {
    log: RwLock<KeyLog>,
    /// Changes, loads and evictions of the key so far.
    events: AtomicU64,
}

/// What is in no image's stamp is for the caller to choose; `None` is a row
/// that is not there.
pub type Stamp = Option<u64>;

impl Checker {
    /// For keys `0..keys`, none of which exists at `floor`, where history
    /// begins. The newest `versions_max` versions of a key are kept; checks
    /// that reach back further are not judged.
    pub fn new(keys: usize, versions_max: usize, floor: Position) -> Self {
        let slot = || Slot { log: RwLock::new(KeyLog::new(floor)), events: AtomicU64::new(0) };
        Self { keys: (0..keys).map(|_| slot()).collect(), versions_max: versions_max.max(2) }
    }

    /// A key's image at the floor: before any [`Checker::wrote`] of it.
    ///
    /// # Panics
    /// When the key is not one of this checker's, here and below.
    pub fn begins_with(&self, key: usize, stamp: Stamp) {
        self.slot(key).log.write().set_first(stamp);
    }

    /// Notes a version; to be called before `applied` passes it, and for each
    /// key in the order of versions. The last image of a version counts.
    pub fn wrote(&self, key: usize, version: Position, stamp: Stamp) {
        let slot = self.slot(key);
        slot.log.write().push(version, stamp, self.versions_max);
        slot.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that something else happened to a key that a lookup of this moment
    /// could trip over: a load, an eviction, the begin of a change.
    pub fn touched(&self, key: usize) {
        self.slot(key).events.fetch_add(1, Ordering::Relaxed);
    }

    /// What happened to a key so far. Whether it grew during a lookup is
    /// [`Check::raced`].
    pub fn events(&self, key: usize) -> u64 {
        self.slot(key).events.load(Ordering::Relaxed)
    }

    /// What the log says of a key at a position; `None` when it reaches back
    /// further than is known.
    pub fn as_of(&self, key: usize, at: Position) -> Option<Known> {
        self.slot(key).log.read().as_of(at)
    }

    /// Judges one answer. All versions below `check.applied` must have been
    /// noted.
    pub fn judge(&self, check: &Check) -> Verdict {
        let right = Verdict { fault: None, judged: true, undated: false, raced: check.raced };
        if check.applied < check.demanded {
            return Verdict { fault: Some(Fault::AppliedTooLow), ..right };
        }
        let Some(known) = self.as_of(check.key, check.at) else {
            return Verdict { judged: false, ..right };
        };
        match check.compare(&known) {
            Ok(undated) => Verdict { undated, ..right },
            Err(fault) => Verdict { fault: Some(fault), ..right },
        }
    }

    #[expect(clippy::expect_used, reason = "a harness that asks for a key it did not declare is wrong")]
    fn slot(&self, key: usize) -> &Slot {
        self.keys.get(key).expect("the key is one of those the checker was made for")
    }
}
