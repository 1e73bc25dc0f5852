//! Keys that are still read when the time of their rows is almost over.

use crate::dimension::Key;
use hashbrown::HashSet;
use parking_lot::Mutex;

/// Keys noted or at work; what comes beyond is loaded when it is missed.
const KEYS_MAX: usize = 4_096;

/// A bounded queue in which each key is once.
#[derive(Debug, Default)]
pub struct HotKeys(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Those waiting, and those taken and not done.
    known: HashSet<Key, foldhash::fast::RandomState>,
    waiting: Vec<Key>,
}

impl HotKeys {
    /// Notes a key, unless there are too many. Called by a read, which waits for
    /// nothing: the next read of the key notes it as well.
    pub(super) fn note(&self, key: &Key) {
        let Some(mut noted) = self.0.try_lock() else { return };
        if noted.known.len() < KEYS_MAX && noted.known.insert(key.clone()) {
            noted.waiting.push(key.clone());
        }
    }

    /// Takes at most `limit` keys. They are not noted again before
    /// [`HotKeys::done`].
    pub fn take(&self, limit: usize) -> Vec<Key> {
        let waiting = &mut self.0.lock().waiting;
        let rest = waiting.len().saturating_sub(limit);
        waiting.split_off(rest)
    }

    /// Keys that were taken are loaded anew, or not to be.
    pub fn done(&self, keys: &[Key]) {
        let known = &mut self.0.lock().known;
        for key in keys {
            known.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: usize) -> Key {
        Key::from_canonical(format!("[{id}]"))
    }

    /// Fails without the set of known keys.
    #[test]
    fn a_key_is_noted_once_until_it_is_done() {
        let hot = HotKeys::default();
        hot.note(&key(1));
        hot.note(&key(1));
        assert_eq!(hot.take(10), [key(1)]);
        hot.note(&key(1));
        assert!(hot.take(10).is_empty());
        hot.done(&[key(1)]);
        hot.note(&key(1));
        assert_eq!(hot.take(10), [key(1)]);
    }

    /// Fails without the comparison with `KEYS_MAX`.
    #[test]
    fn too_many_keys_are_dropped() {
        let hot = HotKeys::default();
        (0..=KEYS_MAX).for_each(|id| hot.note(&key(id)));
        assert_eq!(hot.take(usize::MAX).len(), KEYS_MAX);
    }
}
