//! What one connection committed, in its order, and which states of a table an
//! answer fits.

use std::{collections::BTreeMap, ops::RangeInclusive};

/// Keys of each table.
pub(crate) const KEYS: u64 = 40;
pub(crate) const TABLES: [&str; 2] = ["a", "b"];

/// One committed transaction: a row of each changed table.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// The end of the binlog after it, before the next one.
    pub(crate) place: String,
    /// (table, id, value; `None` for a delete).
    pub(crate) changes: Vec<(usize, u64, Option<u64>)>,
}

/// All commits. State `n` is the one after the first `n` of them.
#[derive(Debug, Default)]
pub(crate) struct Log {
    commits: Vec<Commit>,
}

/// The row of a key as dimsvc gives it; empty where there is none.
pub(crate) fn row(id: u64, value: Option<u64>) -> String {
    value.map(|v| format!("{{\"id\":{id},\"v\":{v},\"s\":\"s{v}\"}}")).unwrap_or_default()
}

impl Log {
    pub(crate) fn push(&mut self, commit: Commit) {
        self.commits.push(commit);
    }

    /// The number of the newest state.
    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }

    /// A place in the binlog at which state `number` is the one to read.
    pub(crate) fn place(&self, number: usize) -> &str {
        &self.commits[number - 1].place
    }

    /// The rows of all keys in a state.
    pub(crate) fn state(&self, table: usize, number: usize) -> Vec<String> {
        let mut values = BTreeMap::new();
        for commit in &self.commits[..number] {
            values.extend(of_table(commit, table));
        }
        (0..KEYS).map(|id| row(id, values.get(&id).copied().flatten())).collect()
    }

    /// The states that equal the rows of all keys, whole: the newest range of
    /// them. `None` when there never was one, within all that is logged.
    pub(crate) fn states_of(&self, table: usize, rows: &[String]) -> Option<RangeInclusive<usize>> {
        let mut now = vec![String::new(); rows.len()];
        let mut wrong = rows.iter().filter(|row| !row.is_empty()).count();
        let mut fits = (wrong == 0).then_some((0, 0));
        for (number, commit) in self.commits.iter().enumerate() {
            for (id, value) in of_table(commit, table) {
                let (id, is) = (id as usize, row(id, value));
                wrong = wrong + usize::from(is != rows[id]) - usize::from(now[id] != rows[id]);
                now[id] = is;
            }
            if wrong == 0 {
                let first = fits.filter(|(_, last)| *last == number).map_or(number + 1, |(first, _)| first);
                fits = Some((first, number + 1));
            }
        }
        fits.map(|(first, last)| first..=last)
    }
}

fn of_table(commit: &Commit, table: usize) -> impl Iterator<Item = (u64, Option<u64>)> {
    commit.changes.iter().filter(move |change| change.0 == table).map(|change| (change.1, change.2))
}

#[test]
fn a_read_of_two_states_at_once_is_seen() {
    let mut log = Log::default();
    let commit = |changes| Commit { place: String::new(), changes };
    log.push(commit(vec![(0, 1, Some(1)), (0, 2, Some(1))]));
    log.push(commit(vec![(1, 1, Some(2))]));
    log.push(commit(vec![(0, 1, Some(3)), (0, 2, Some(3))]));
    let read = |first, second| {
        let mut rows = vec![String::new(); KEYS as usize];
        rows[1] = row(1, first);
        rows[2] = row(2, second);
        log.states_of(0, &rows)
    };
    assert_eq!(read(None, None), Some(0..=0));
    assert_eq!(read(Some(1), Some(1)), Some(1..=2));
    assert_eq!(read(Some(3), Some(3)), Some(3..=3));
    assert_eq!(read(Some(3), Some(1)), None);
}
