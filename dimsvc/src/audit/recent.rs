//! Recently changed keys: a sample of them, and which of a few changed.
//!
//! Apply notes every change here before it enters memory. So whoever finds a
//! change in memory, or waits until it is applied, finds it noted.

use crate::{cache::Change, dimension::Key};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Instant,
};
use tidemark_proto::Position;

/// A changed key.
#[derive(Clone, Debug)]
pub struct ChangedKey {
    pub dimension: Arc<str>,
    pub key: Key,
    /// Of the change.
    pub version: Position,
    /// When it was about to be applied.
    pub noted: Instant,
}

/// A bounded sample of changed keys: each change since the last
/// [`RecentKeys::take`] is in it with the same chance.
#[derive(Debug, Default)]
pub struct RecentKeys {
    keys_max: usize,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// The greatest version.
    last: Position,
    sample: Vec<ChangedKey>,
    /// Changes that the sample stands for.
    seen: u64,
    random: u64,
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    dimension: Arc<str>,
    /// The last version that was noted before.
    after: Position,
    /// Whether it changed.
    keys: HashMap<Key, bool, foldhash::fast::RandomState>,
}

impl RecentKeys {
    /// A sample of at most `keys_max`; none for 0.
    pub fn new(keys_max: usize) -> Self {
        let random = RandomState::new().hash_one(keys_max) | 1;
        Self { keys_max, noted: Mutex::new(Noted { random, ..Noted::default() }) }
    }

    /// Whether anything is sampled.
    pub fn is_on(&self) -> bool {
        self.keys_max > 0
    }

    /// Notes changes that are about to be applied.
    pub fn note(&self, dimension: &Arc<str>, version: Position, changes: &[Change]) {
        if !self.is_on() {
            return;
        }
        let noted_at = Instant::now();
        let mut noted = self.noted.lock();
        let Noted { last, sample, seen, random, watched } = &mut *noted;
        *last = version.max(*last);
        let mut watched = watched.as_mut().filter(|watched| watched.dimension == *dimension);
        for Change { key, .. } in changes {
            if let Some(changed) = watched.as_mut().and_then(|watched| watched.keys.get_mut(key)) {
                *changed = true;
            }
            *seen += 1;
            let place = if sample.len() < self.keys_max { sample.len() as u64 } else { next(random) % *seen };
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            if place < self.keys_max {
                let (dimension, key) = (Arc::clone(dimension), key.clone());
                let changed = ChangedKey { dimension, key, version, noted: noted_at };
                match sample.get_mut(place) {
                    Some(slot) => *slot = changed,
                    None => sample.push(changed),
                }
            }
        }
    }

    /// Takes at most `limit` keys whose change lies before `durable`, oldest
    /// first.
    pub fn take(&self, limit: usize, durable: Position) -> Vec<ChangedKey> {
        let mut noted = self.noted.lock();
        let (mut ready, mut rest): (Vec<_>, Vec<_>) =
            noted.sample.drain(..).partition(|changed| changed.version < durable);
        ready.sort_by_key(|changed| changed.noted);
        rest.extend(ready.split_off(limit.min(ready.len())));
        noted.seen = rest.len() as u64;
        noted.sample = rest;
        ready
    }

    /// Puts a key back that was taken, to be taken again.
    pub fn put_back(&self, changed: ChangedKey) {
        let mut noted = self.noted.lock();
        if noted.sample.len() < self.keys_max {
            noted.seen += 1;
            noted.sample.push(changed);
        }
    }

    /// From here on it is noted whether these keys change, and no others.
    pub fn watch<'k>(&self, dimension: &Arc<str>, keys: impl Iterator<Item = &'k Key>) {
        let keys = keys.map(|key| (key.clone(), false)).collect();
        let mut noted = self.noted.lock();
        let after = noted.last;
        noted.watched = Some(Watched { dimension: Arc::clone(dimension), after, keys });
    }

    /// Ends the watch; whether each of the keys may have changed at `low`, which
    /// was applied since it began, or later. A transaction that was noted before
    /// and not yet applied may have changed any of them.
    pub fn changed<'k>(&self, low: Position, keys: impl Iterator<Item = &'k Key>) -> Vec<bool> {
        let watched = self.noted.lock().watched.take().filter(|watched| watched.after < low);
        let changed = |key| watched.as_ref().and_then(|watched| watched.keys.get(key)).copied();
        // A key that was not watched may have changed.
        keys.map(|key| changed(key).unwrap_or(true)).collect()
    }
}

/// The xorshift of 13, 7, 17.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    fn key(id: u64) -> Key {
        Key::from_canonical(format!("[{id}]"))
    }

    fn change(id: u64) -> Change {
        Change { key: key(id), before: None, after: None }
    }

    #[test]
    fn only_what_is_durable_is_taken() {
        let recent = RecentKeys::new(8);
        recent.note(&"d".into(), at(10), &[change(1)]);
        recent.note(&"d".into(), at(20), &[change(2)]);
        let taken =
            |durable| recent.take(8, at(durable)).into_iter().map(|taken| taken.key).collect::<Vec<_>>();
        assert_eq!(taken(10), []);
        assert_eq!(taken(11), [key(1)]);
        assert_eq!(taken(30), [key(2)]);
    }

    /// Of a thousand changes the late ones are in the sample as well as the
    /// early ones. Replace `next(random) % *seen` by `*seen` to see it fail.
    #[test]
    fn a_full_sample_goes_on_sampling() {
        let recent = RecentKeys::new(100);
        let changes: Vec<_> = (0..1_000).map(change).collect();
        recent.note(&"d".into(), at(10), &changes);
        let taken = recent.take(1_000, at(11));
        let late = taken.iter().filter(|taken| taken.key.as_bytes().len() == b"[500]".len()).count();
        assert_eq!(taken.len(), 100);
        assert!(late > 50, "{late} of 100 are of the last 900");
    }

    /// Fails without the mark in `note`.
    #[test]
    fn a_watched_key_is_known_to_have_changed() {
        let recent = RecentKeys::new(8);
        let (dimension, keys) = (Arc::from("d"), [key(1), key(2)]);
        recent.watch(&dimension, keys.iter());
        recent.note(&"other".into(), at(10), &[change(1)]);
        recent.note(&dimension, at(10), &[change(2)]);
        assert_eq!(recent.changed(at(10), keys.iter()), [false, true]);
        assert_eq!(recent.changed(at(10), keys.iter()), [true, true], "nothing is known without a watch");
    }

    /// Fails without the question for `after` in `changed`.
    #[test]
    fn what_was_noted_and_not_applied_when_the_watch_began_may_have_changed() {
        let recent = RecentKeys::new(8);
        let (dimension, keys) = (Arc::from("d"), [key(1)]);
        recent.note(&dimension, at(10), &[change(1)]);
        for (low, expect) in [(10, true), (11, false)] {
            recent.watch(&dimension, keys.iter());
            assert_eq!(recent.changed(at(low), keys.iter()), [expect]);
        }
    }
}
