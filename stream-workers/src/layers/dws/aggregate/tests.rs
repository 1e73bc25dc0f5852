//! Merging against a model: a table that keeps the greatest version of a row,
//! and workers that crash, retry, replay and linger.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MERGES: [Merge; 4] = [Merge::Add, Merge::Add, Merge::Least, Merge::Greatest];

/// ClickHouse as far as a group is concerned: of rows with one key, the one
/// with the greatest version counts.
#[derive(Default)]
struct Table(BTreeMap<Vec<u8>, Group>);

impl Table {
    fn insert(&mut self, key: &[u8], group: &Group) {
        let newer = self.0.get(key).is_none_or(|row| group.version >= row.version);
        if newer {
            self.0.insert(key.to_vec(), group.clone());
        }
    }
}

/// A record of the log: its key and its number.
type Record = (u8, i64);

fn contributions(log: &[Record], range: Range<usize>) -> Contributions {
    let mut contributions = Contributions::default();
    for (offset, (key, number)) in log.iter().enumerate().skip(range.start).take(range.len()) {
        contributions
            .add::<()>(offset as u64, |draft| {
                draft.key.push(*key);
                let number = Scalar::Integer(i128::from(*number));
                draft
                    .arguments
                    .extend([number.clone(), Scalar::Integer(1), number.clone(), number].map(Some));
                Ok(true)
            })
            .unwrap();
    }
    contributions
}

/// What a batch job over the whole log says.
fn expected(log: &[Record]) -> BTreeMap<Vec<u8>, Vec<Option<Scalar>>> {
    let mut groups: BTreeMap<Vec<u8>, Vec<i128>> = BTreeMap::new();
    for (key, number) in log {
        groups.entry(vec![*key]).or_default().push(i128::from(*number));
    }
    let aggregate = |numbers: Vec<i128>| {
        let results = [
            numbers.iter().sum(),
            numbers.len() as i128,
            *numbers.iter().min().unwrap(),
            *numbers.iter().max().unwrap(),
        ];
        results.map(|number| Some(Scalar::Integer(number))).to_vec()
    };
    groups.into_iter().map(|(key, numbers)| (key, aggregate(numbers))).collect()
}

/// One process that works on the partition; several may believe they do.
#[derive(Default)]
struct Worker {
    next: usize,
    groups: Groups,
}

impl Worker {
    fn process(&mut self, log: &[Record], count: usize, table: &Table) {
        let end = (self.next + count).min(log.len());
        let batch = contributions(log, self.next..end);
        for key in self.groups.unseen(&batch) {
            if let Some(row) = table.0.get(key) {
                self.groups.install(key, row.clone());
            }
        }
        self.groups.merge(&MERGES, &batch).unwrap();
        self.next = end;
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A worker takes its next records.
    Process { worker: usize, count: usize },
    /// It writes its changed groups, of which only the first so many arrive;
    /// if all did, it commits its offset.
    Flush { worker: usize, arrive: usize },
    /// As before, but it dies between the write and the commit.
    WriteAndCrash { worker: usize },
    /// It starts again at the committed offset, moved back.
    Restart { worker: usize, back: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..2usize;
    prop_oneof![
        (worker.clone(), 1..12usize).prop_map(|(worker, count)| Step::Process { worker, count }),
        (worker.clone(), 0..8usize).prop_map(|(worker, arrive)| Step::Flush { worker, arrive }),
        worker.clone().prop_map(|worker| Step::WriteAndCrash { worker }),
        (worker, 0..20usize).prop_map(|(worker, back)| Step::Restart { worker, back }),
    ]
}

proptest! {
    /// Two workers, each of which may be a zombie, in any order of batches,
    /// partial writes, crashes and replays: the table ends with the plain sums.
    #[test]
    fn crashes_replays_and_zombies_leave_right_sums(
        log in prop::collection::vec((0..5u8, -1_000..1_000i64), 0..80),
        steps in prop::collection::vec(step(), 0..40),
        groups_max in 0..6usize,
    ) {
        let mut table = Table::default();
        let mut workers = [Worker::default(), Worker::default()];
        let mut committed = 0usize;
        for step in steps {
            match step {
                Step::Process { worker, count } => workers[worker].process(&log, count, &table),
                Step::Flush { worker, arrive } => {
                    let all = workers[worker].groups.changed_len();
                    for (key, group) in workers[worker].groups.changed().take(arrive) {
                        table.insert(key, group);
                    }
                    if arrive >= all {
                        workers[worker].groups.written(groups_max);
                        committed = workers[worker].next;
                    }
                }
                Step::WriteAndCrash { worker } => {
                    for (key, group) in workers[worker].groups.changed() {
                        table.insert(key, group);
                    }
                    workers[worker] = Worker { next: committed, groups: Groups::default() };
                }
                Step::Restart { worker, back } => {
                    workers[worker] = Worker { next: committed.saturating_sub(back), groups: Groups::default() };
                }
            }
        }

        let mut last = Worker { next: committed, groups: Groups::default() };
        last.process(&log, log.len(), &table);
        for (key, group) in last.groups.changed() {
            table.insert(key, group);
        }

        let rows: BTreeMap<_, _> = table.0.into_iter().map(|(key, row)| (key, row.values.into_vec())).collect();
        prop_assert_eq!(rows, expected(&log));
    }
}

#[test]
fn a_record_below_the_version_is_skipped() {
    let log = [(1, 10), (1, 20), (1, 30)];
    let mut groups = Groups::default();
    let row =
        Group { version: 2, row_count: 2, values: [30, 2, 10, 20].map(|n| Some(Scalar::Integer(n))).into() };
    groups.install(&[1], row);

    assert_eq!(groups.merge(&MERGES, &contributions(&log, 0..2)), Ok(0));
    assert_eq!(groups.changed_len(), 0);
    assert_eq!(groups.merge(&MERGES, &contributions(&log, 0..3)), Ok(1));

    let (_, group) = groups.changed().next().unwrap();
    assert_eq!((group.version, group.row_count), (3, 3));
    assert_eq!(group.values.as_ref(), [60, 3, 10, 30].map(|n| Some(Scalar::Integer(n))));
}

#[test]
fn null_arguments_leave_nulls_but_count_the_row() {
    let mut nulls = Contributions::default();
    nulls
        .add::<()>(4, |draft| {
            draft.arguments.extend([None, None, None, None]);
            Ok(true)
        })
        .unwrap();
    let mut groups = Groups::default();

    groups.merge(&MERGES, &nulls).unwrap();

    let (key, group) = groups.changed().next().unwrap();
    assert_eq!((key, group.row_count, group.version), (&[][..], 1, 5));
    assert_eq!(group.values.as_ref(), [None, None, None, None]);
}

#[test]
fn a_draft_that_fails_leaves_nothing() {
    let mut contributions = Contributions::default();
    let refused = contributions.add(0, |draft| {
        draft.key.extend(b"half a key");
        draft.arguments.push(None);
        Err("bad value")
    });
    assert_eq!(refused, Err("bad value"));
    assert!(
        contributions.keys.is_empty()
            && contributions.arguments.is_empty()
            && contributions.entries.is_empty()
    );
}

#[test]
fn a_sum_over_38_digits_is_an_error_with_its_place() {
    let half = 10i128.pow(38) / 2;
    let mut contributions = Contributions::default();
    for offset in 0..2 {
        let add = |draft: &mut Draft<'_>| {
            draft.key.push(9);
            draft.arguments.push(Some(Scalar::Integer(half)));
            Ok::<_, ()>(true)
        };
        contributions.add(offset, add).unwrap();
    }

    let overflow = Groups::default().merge(&[Merge::Add], &contributions).unwrap_err();

    assert_eq!(overflow, Overflow { column: 0, offset: 1, key: [9].into() });
}

#[test]
fn texts_compare_by_bytes() {
    let mut least = Scalar::Text("b".into());
    Merge::Least.apply(&mut least, &Scalar::Text("a".into())).unwrap();
    Merge::Least.apply(&mut least, &Scalar::Text("ä".into())).unwrap();
    assert_eq!(least, Scalar::Text("a".into()));
}

#[test]
fn over_the_bound_the_groups_that_changed_last_stay() {
    let log: Vec<Record> = (0..10).map(|key| (key, 1)).collect();
    let mut groups = Groups::default();
    groups.merge(&MERGES, &contributions(&log, 0..10)).unwrap();

    groups.written(6);

    let mut left: Vec<u8> = groups.groups.keys().map(|key| key[0]).collect();
    left.sort();
    assert_eq!(left, [7, 8, 9]);
    assert_eq!(groups.changed_len(), 0);
}

#[test]
fn unseen_keys_are_named_once() {
    let log = [(1, 1), (2, 1), (1, 1), (3, 1)];
    let mut groups = Groups::default();
    groups.merge(&MERGES, &contributions(&log, 1..2)).unwrap();
    let batch = contributions(&log, 0..4);
    assert_eq!(groups.unseen(&batch), [&[1][..], &[3][..]]);
}
