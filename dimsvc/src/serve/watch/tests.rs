//! What a watcher accumulates is the log, however messages are cut.

use super::*;
use crate::ring::TableChanges;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn cursor(tables: &[&str], after: u64, message_bytes: usize) -> Cursor {
    let tables = Tables(tables.iter().map(|name| String::from(*name)).collect());
    Cursor { tables, message_bytes, after: at(after), sent: 0 }
}

/// A transaction of rows `[id]` of `table`, all with the same image.
fn transaction(begin: u64, table: &str, ids: std::ops::Range<u64>, image: Option<&str>) -> Transaction {
    let image = image.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let rows = ids.map(|id| (Key::from_canonical(format!("[{id}]")), image.clone())).collect();
    let tables = vec![TableChanges { dimension: table.into(), whole: None, rows }];
    Transaction { begin: at(begin), end: at(begin + 5), tables }
}

/// Fails when `cut` moves `after` with every part.
#[test]
fn only_the_last_part_of_a_transaction_moves_the_progress() {
    let ring = Ring::new(at(0), 1 << 20);
    ring.push(transaction(10, "a", 0..5, Some("{}")));
    let mut cursor = cursor(&[], 3, 2 * (CHANGE_OVERHEAD + 6));
    let mut parts = Vec::new();
    while let Some(message) = cursor.step(&ring, at(20)).unwrap() {
        parts.push((message.changes.len(), Position::from_packed(message.applied)));
    }
    assert_eq!(parts, [(2, at(3)), (2, at(3)), (1, at(15))]);
    assert_eq!(cursor.after, at(20), "nothing else has happened up to applied");
}

#[test]
fn progress_stops_before_what_is_not_sent() {
    let ring = Ring::new(at(0), 1 << 20);
    ring.push(transaction(10, "a", 0..1, Some("{}")));
    ring.push(transaction(20, "a", 0..1, None));
    let mut cursor = cursor(&["b"], 0, 100);
    assert!(cursor.step(&ring, at(25)).unwrap().is_none());
    assert_eq!(cursor.after, at(25));
    ring.push(transaction(30, "b", 0..1, None));
    // Pushed, but applied has not moved over it.
    assert!(cursor.step(&ring, at(29)).unwrap().is_none());
    assert_eq!(cursor.after, at(29));
    let message = cursor.step(&ring, at(40)).unwrap().unwrap();
    assert_eq!((message.applied, message.changes[0].deleted), (at(35).packed(), true));
}

#[test]
fn progress_never_goes_back() {
    let ring = Ring::new(at(0), 1 << 20);
    let mut cursor = cursor(&[], 100, 100);
    assert!(cursor.step(&ring, at(40)).unwrap().is_none());
    assert_eq!(cursor.after, at(100));
}

#[test]
fn a_truncation_comes_before_the_rows_of_its_transaction() {
    let ring = Ring::new(at(0), 1 << 20);
    let mut truncating = transaction(10, "a", 0..1, Some("{}"));
    truncating.tables[0].whole = Some(Whole::Truncated);
    ring.push(truncating);
    let message = cursor(&[], 0, 1 << 10).step(&ring, at(15)).unwrap().unwrap();
    let [truncated, row] = &message.changes[..] else { panic!("two changes") };
    assert_eq!((truncated.truncated, truncated.key.as_str()), (true, ""));
    assert_eq!((row.truncated, row.key.as_str(), row.row.as_str()), (false, "[0]", "{}"));
}

#[test]
fn columns_that_came_are_told_without_a_key() {
    let ring = Ring::new(at(0), 1 << 20);
    let mut growing = transaction(10, "a", 0..0, None);
    growing.tables[0].whole = Some(Whole::ColumnsAdded);
    ring.push(growing);
    let message = cursor(&[], 0, 1 << 10).step(&ring, at(15)).unwrap().unwrap();
    let [grown] = &message.changes[..] else { panic!("one change") };
    assert_eq!((grown.columns_added, grown.truncated, grown.key.as_str()), (true, false, ""));
}

type Rows = BTreeMap<(String, String), String>;

/// What a client does with messages: rows by table and key.
fn accumulate(rows: &mut Rows, message: WatchResponse) {
    for change in message.changes {
        if change.truncated {
            rows.retain(|(table, _), _| *table != change.table);
        } else if change.deleted {
            rows.remove(&(change.table, change.key));
        } else {
            rows.insert((change.table, change.key), change.row);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Table, ids, deleted, truncated.
    Commit(Vec<(u8, Vec<u8>, bool, bool)>),
    Read(usize),
    /// The connection is lost: resume after the last progress.
    Resume,
}

fn step() -> impl Strategy<Value = Step> {
    let ids = prop::collection::vec(0..6u8, 0..5);
    let change = (0..3u8, ids, any::<bool>(), prop::bool::weighted(0.1));
    prop_oneof![
        4 => prop::collection::vec(change, 0..3).prop_map(Step::Commit),
        4 => (1..6usize).prop_map(Step::Read),
        1 => Just(Step::Resume),
    ]
}

const TABLES: [&str; 3] = ["a", "b", "c"];

/// Commits at `end`, in the ring and in what the tables hold.
fn commit(changes: Vec<(u8, Vec<u8>, bool, bool)>, end: u64, truth: &mut Rows) -> Transaction {
    let mut tables: BTreeMap<u8, (bool, BTreeMap<u8, Image>)> = BTreeMap::new();
    for (table, ids, deleted, truncated) in changes {
        let (removed, rows) = tables.entry(table).or_default();
        if truncated && rows.is_empty() {
            *removed = true;
        }
        let image = (!deleted).then(|| Bytes::from(format!("{{\"v\":{end}}}")));
        rows.extend(ids.into_iter().map(|id| (id, image.clone())));
    }
    let key = |id: u8| Key::from_canonical(format!("[{id}]"));
    let tables = tables.into_iter().map(|(table, (truncated, rows))| TableChanges {
        dimension: TABLES[usize::from(table)].into(),
        whole: truncated.then_some(Whole::Truncated),
        rows: rows.into_iter().map(|(id, image)| (key(id), image)).collect(),
    });
    let transaction = Transaction { begin: at(end - 5), end: at(end), tables: tables.collect() };
    let all =
        WatchResponse { changes: Tables::default().changes(&transaction, 0).collect(), ..Default::default() };
    accumulate(truth, all);
    transaction
}

proptest! {
    /// Fails when a cut moves `after` early, when a resume skips the rest of a
    /// transaction, or when the ring forgets without saying so.
    #[test]
    fn what_a_watcher_accumulates_is_the_log(
        steps in prop::collection::vec(step(), 0..80),
        ring_bytes in 500..20_000usize,
        message_bytes in 1..300usize,
        tables in 0..4usize,
    ) {
        let ring = Ring::new(at(0), ring_bytes);
        let watched = &TABLES[..tables];
        let (mut truth, mut rows) = (Rows::new(), Rows::new());
        let (mut applied, mut progress) = (0, at(0));
        let mut cursor = cursor(watched, 0, message_bytes);
        let wanted = |truth: &Rows| -> Rows {
            let has = |table: &str| watched.is_empty() || watched.contains(&table);
            truth.iter().filter(|((table, _), _)| has(table)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let mut at_progress = BTreeMap::from([(at(0), Rows::new())]);
        for step in steps.into_iter().chain([Step::Read(usize::MAX)]) {
            match step {
                Step::Commit(changes) => {
                    applied += 10;
                    ring.push(commit(changes, applied, &mut truth));
                    at_progress.insert(at(applied), wanted(&truth));
                }
                Step::Read(times) => {
                    for _ in 0..times {
                        match cursor.step(&ring, at(applied)) {
                            Ok(None) => {
                                progress = cursor.after;
                                break;
                            }
                            Ok(Some(message)) => {
                                let before = progress;
                                progress = Position::from_packed(message.applied);
                                prop_assert!(progress >= before);
                                accumulate(&mut rows, message);
                                if progress > before {
                                    prop_assert_eq!(&rows, &at_progress[&progress]);
                                }
                            }
                            // It is told, and loads anew as of applied.
                            Err(TooOld { oldest }) => {
                                prop_assert!(cursor.after < oldest);
                                (cursor.after, cursor.sent) = (at(applied), 0);
                                (progress, rows) = (at(applied), wanted(&truth));
                            }
                        }
                    }
                }
                Step::Resume => (cursor.after, cursor.sent) = (progress, 0),
            }
        }
        prop_assert_eq!(&rows, &wanted(&truth));
        prop_assert_eq!(cursor.after, at(applied));
    }
}
