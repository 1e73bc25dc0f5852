//! Merging of contributions into groups, without any I/O.
//!
//! A group is *the aggregate of one log prefix*: its `version` is the offset up
//! to which (exclusive) the records of its partition are in it. A contribution
//! below the version is therefore already counted, whoever counted it, and is
//! skipped. Whoever writes a group with a higher version writes what is right.

use crate::sink::clickhouse::rowbinary::Scalar;
use hashbrown::{HashMap, HashSet};
use std::{cmp::Ordering, ops::Range};

/// How a value is merged into what a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// SUM; COUNT adds ones.
    Add,
    Least,
    Greatest,
}

/// What one batch of one partition adds to the groups of one table, in offset
/// order. Keys lie in one buffer: a record costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Contributions {
    keys: Vec<u8>,
    arguments: Vec<Option<Scalar>>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    key: Range<usize>,
    arguments: Range<usize>,
}

/// Room of a contribution that is being written.
#[derive(Debug)]
pub(crate) struct Draft<'c> {
    /// The encoded key is appended here.
    pub(crate) key: &'c mut Vec<u8>,
    /// An argument for each aggregate is appended here.
    pub(crate) arguments: &'c mut Vec<Option<Scalar>>,
}

impl Contributions {
    /// Adds what `write` writes, or nothing when it fails or says no.
    pub(crate) fn add<E>(
        &mut self,
        offset: u64,
        write: impl FnOnce(&mut Draft<'_>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (key, argument) = (self.keys.len(), self.arguments.len());
        let written = write(&mut Draft { key: &mut self.keys, arguments: &mut self.arguments });
        if !matches!(written, Ok(true)) {
            self.keys.truncate(key);
            self.arguments.truncate(argument);
            return written;
        }
        let (key, arguments) = (key..self.keys.len(), argument..self.arguments.len());
        self.entries.push(Entry { offset, key, arguments });
        written
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        self.keys.get(entry.key.clone()).unwrap_or_default()
    }

    fn arguments(&self, entry: &Entry) -> &[Option<Scalar>] {
        self.arguments.get(entry.arguments.clone()).unwrap_or_default()
    }
}

/// The aggregate of the records below `version` that have one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) version: u64,
    /// COUNT(*), whatever the table selects: a view hides groups without rows.
    pub(crate) row_count: i64,
    /// One a column; `None` is NULL.
    pub(crate) values: Box<[Option<Scalar>]>,
}

/// A value left the range of its column's type.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum of column {column} overflows at offset {offset}")]
pub(crate) struct Overflow {
    /// Index of the aggregate.
    pub(crate) column: usize,
    pub(crate) offset: u64,
    /// The encoded key of the group.
    pub(crate) key: Box<[u8]>,
}

/// The groups of one table and one partition that are in memory.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: HashMap<Vec<u8>, Slot>,
    changed: usize,
}

#[derive(Debug)]
struct Slot {
    group: Group,
    changed: bool,
}

impl Groups {
    /// The keys whose groups must be loaded before the contributions can be
    /// merged, each once.
    pub(crate) fn unseen<'c>(&self, contributions: &'c Contributions) -> Vec<&'c [u8]> {
        let mut unseen = HashSet::new();
        let keys = contributions.entries.iter().map(|entry| contributions.key(entry));
        keys.filter(|key| !self.groups.contains_key(*key) && unseen.insert(*key)).collect()
    }

    /// Takes a group as the table holds it. One that is in memory already is
    /// newer or the same, and stays.
    pub(crate) fn install(&mut self, key: &[u8], group: Group) {
        self.groups.entry_ref(key).or_insert(Slot { group, changed: false });
    }

    /// Merges contributions; a key without a group begins one. Returns how many
    /// were new.
    pub(crate) fn merge(
        &mut self,
        merges: &[Merge],
        contributions: &Contributions,
    ) -> Result<usize, Overflow> {
        let mut merged = 0;
        for entry in &contributions.entries {
            let key = contributions.key(entry);
            let slot = self
                .groups
                .entry_ref(key)
                .or_insert_with(|| Slot { group: Group::empty(merges), changed: false });
            if entry.offset < slot.group.version {
                continue;
            }
            slot.group.merge(merges, contributions.arguments(entry)).map_err(|column| Overflow {
                column,
                offset: entry.offset,
                key: key.into(),
            })?;
            slot.group.version = entry.offset + 1;
            self.changed += usize::from(!std::mem::replace(&mut slot.changed, true));
            merged += 1;
        }
        Ok(merged)
    }

    /// How many groups have changed since they were last written.
    pub(crate) fn changed_len(&self) -> usize {
        self.changed
    }

    /// The groups to write.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        let changed = self.groups.iter().filter(|(_, slot)| slot.changed);
        changed.map(|(key, slot)| (key.as_slice(), &slot.group))
    }

    /// All changed groups are in the table now. Of more than `groups_max`, the
    /// half that changed last stays.
    pub(crate) fn written(&mut self, groups_max: usize) {
        for slot in self.groups.values_mut() {
            slot.changed = false;
        }
        self.changed = 0;
        if self.groups.len() <= groups_max {
            return;
        }
        let mut versions: Vec<u64> = self.groups.values().map(|slot| slot.group.version).collect();
        let dropped = versions.len() - groups_max / 2;
        let (_, newest_dropped, _) = versions.select_nth_unstable(dropped - 1);
        let newest_dropped = *newest_dropped;
        self.groups.retain(|_, slot| slot.group.version > newest_dropped);
    }
}

impl Group {
    /// The aggregate of no record.
    fn empty(merges: &[Merge]) -> Self {
        Self { version: 0, row_count: 0, values: vec![None; merges.len()].into() }
    }

    /// Merges one record; `Err` is the column that overflows.
    fn merge(&mut self, merges: &[Merge], arguments: &[Option<Scalar>]) -> Result<(), usize> {
        for (column, ((merge, value), argument)) in
            merges.iter().zip(&mut self.values).zip(arguments).enumerate()
        {
            let Some(argument) = argument else { continue };
            match value {
                None => *value = Some(argument.clone()),
                Some(value) => merge.apply(value, argument).ok_or(column)?,
            }
        }
        self.row_count += 1;
        Ok(())
    }
}

impl Merge {
    /// `None` when a sum leaves the range of 38 digits, the widest of a column.
    fn apply(self, value: &mut Scalar, argument: &Scalar) -> Option<()> {
        const SUM_MAX: u128 = 10u128.pow(38);
        let ordering = match (&mut *value, argument) {
            (Scalar::Integer(sum), Scalar::Integer(number)) if self == Self::Add => {
                *sum = sum.checked_add(*number).filter(|sum| sum.unsigned_abs() < SUM_MAX)?;
                return Some(());
            }
            (Scalar::Float(sum), Scalar::Float(number)) if self == Self::Add => {
                *sum += number;
                return Some(());
            }
            (Scalar::Integer(left), Scalar::Integer(right)) => right.cmp(left),
            (Scalar::Float(left), Scalar::Float(right)) => right.total_cmp(left),
            (Scalar::Text(left), Scalar::Text(right)) => right.as_bytes().cmp(left.as_bytes()),
            // A column's arguments are all of its type.
            _ => return None,
        };
        let wins = match self {
            Self::Add => return None,
            Self::Least => ordering == Ordering::Less,
            Self::Greatest => ordering == Ordering::Greater,
        };
        if wins {
            *value = argument.clone();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
