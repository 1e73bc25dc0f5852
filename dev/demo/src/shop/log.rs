//! The generator's log: what every commit left in the dimension tables.
//!
//! Commits come from several connections and are ordered by GTID, which is the
//! order of the binlog. The log is the truth that the enriched facts are
//! compared with; it owes nothing to the programs under test.

use std::collections::HashMap;
use tidemark_tests::mysql::TextRow;

/// The row of one key after a commit; `None` when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) table: &'static str,
    pub(crate) id: String,
    pub(crate) row: Option<TextRow>,
}

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// The number of its GTID.
    pub(crate) number: u64,
    pub(crate) images: Vec<Image>,
    /// The orders that it placed.
    pub(crate) orders: Vec<u64>,
}

/// A row and the commits for which it was the valid one: `from <= n < to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) table: &'static str,
    pub(crate) row: TextRow,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The end of a version that is still valid.
pub(crate) const OPEN: u64 = i64::MAX as u64;

/// All commits, and the rows that were there before them.
#[derive(Debug, Default)]
pub(crate) struct Log {
    initial: Vec<Image>,
    commits: Vec<Commit>,
}

impl Log {
    /// A log that begins with the present rows.
    pub(crate) fn begin(initial: Vec<Image>) -> Self {
        Self { initial, commits: Vec::new() }
    }

    /// Adds commits, in any order.
    pub(crate) fn extend(&mut self, commits: Vec<Commit>) {
        self.commits.extend(commits);
        self.commits.sort_by_key(|commit| commit.number);
    }

    /// The rows before the first commit.
    #[cfg(test)]
    pub(crate) fn initial(&self) -> &[Image] {
        &self.initial
    }

    /// Every commit, in binlog order.
    pub(crate) fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// Every version of every key. A key that was deleted has a gap.
    pub(crate) fn versions(&self) -> Vec<Version> {
        let mut closed = Vec::new();
        let mut open: HashMap<(&'static str, &str), Version> = HashMap::new();
        let initial = self.initial.iter().map(|image| (0, image));
        let changes =
            self.commits.iter().flat_map(|commit| commit.images.iter().map(|image| (commit.number, image)));
        for (number, image) in initial.chain(changes) {
            let key = (image.table, image.id.as_str());
            if let Some(mut ended) = open.remove(&key) {
                ended.to = number;
                closed.push(ended);
            }
            if let Some(row) = &image.row {
                open.insert(key, Version { table: image.table, row: row.clone(), from: number, to: OPEN });
            }
        }
        closed.extend(open.into_values());
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, row: Option<&str>) -> Image {
        Image {
            table: "sku_info",
            id: id.to_owned(),
            row: row.map(|name| vec![Some(id.to_owned()), Some(name.to_owned())]),
        }
    }

    #[test]
    fn versions_follow_the_numbers_and_deletes_leave_gaps() {
        let mut log = Log::begin(vec![image("1", Some("a"))]);
        let commit = |number, row| Commit { number, images: vec![image("1", row)], orders: Vec::new() };
        log.extend(vec![commit(9, Some("d")), commit(5, None)]);
        log.extend(vec![commit(3, Some("b"))]);

        let mut intervals: Vec<_> =
            log.versions().into_iter().map(|v| (v.from, v.to, v.row[1].clone())).collect();
        intervals.sort();

        let name = |text: &str| Some(text.to_owned());
        assert_eq!(intervals, [(0, 3, name("a")), (3, 5, name("b")), (9, OPEN, name("d"))]);
    }
}
