//! What a reader collects is the log, or it is told that it cannot be.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn rows(table: &str, count: usize) -> TableChanges {
    let row = |id| (Key::from_canonical(format!("[{id}]")), Some(Bytes::from_static(b"{}")));
    TableChanges { dimension: table.into(), whole: None, rows: (0..count).map(row).collect() }
}

/// The transaction that begins at `begin` and ends 5 later.
fn transaction(begin: u64, tables: Vec<TableChanges>) -> Transaction {
    Transaction { begin: at(begin), end: at(begin + 5), tables }
}

fn any(_: &Transaction) -> bool {
    true
}

fn begin(next: Result<Next, TooOld>) -> u64 {
    match next {
        Ok(Next::Wanted(transaction)) => transaction.begin.offset(),
        other => panic!("no transaction: {other:?}"),
    }
}

#[test]
fn a_reader_gets_whole_transactions_in_order_after_its_position() {
    let ring = Ring::new(at(0), 1 << 20);
    ring.push(transaction(10, vec![rows("a", 2)]));
    ring.push(transaction(20, vec![rows("a", 1), rows("b", 1)]));
    assert_eq!(begin(ring.next(at(0), at(25), any)), 10);
    // A position within a transaction asks for all of it.
    assert_eq!(begin(ring.next(at(12), at(25), any)), 10);
    assert_eq!(begin(ring.next(at(15), at(25), any)), 20);
    assert_eq!(ring.next(at(25), at(25), any), Ok(Next::Nothing));
}

/// Fails without `take_while`: a watcher would be ahead of lookups.
#[test]
fn a_transaction_that_is_not_applied_yet_is_not_read() {
    let ring = Ring::new(at(0), 1 << 20);
    ring.push(transaction(10, vec![rows("a", 1)]));
    assert_eq!(ring.next(at(0), at(14), any), Ok(Next::Nothing));
    assert_eq!(begin(ring.next(at(0), at(15), any)), 10);
}

/// Fails without `kept.oldest = gone.end`: the reader would miss a change and
/// not know.
#[test]
fn a_reader_from_before_the_ring_is_told_so() {
    let ring = Ring::new(at(0), 400);
    for begin in [10, 20, 30] {
        ring.push(transaction(begin, vec![rows("a", 1)]));
    }
    let oldest = ring.oldest();
    assert_eq!(oldest, at(25), "one transaction has room");
    assert_eq!(ring.next(at(24), at(35), any), Err(TooOld { oldest }));
    assert_eq!(begin(ring.next(oldest, at(35), any)), 30);
}

#[test]
fn a_transaction_greater_than_the_ring_is_not_kept() {
    let ring = Ring::new(at(0), 1_000);
    ring.push(transaction(10, vec![rows("a", 1_000)]));
    assert_eq!((ring.oldest(), ring.kept.lock().bytes), (at(15), 0));
}

/// Fails without `after()`: a watcher at the end would keep what was repaired.
#[test]
fn a_restart_is_told_to_whoever_watches_and_loses_nothing_after_it() {
    let ring = Ring::new(at(0), 1 << 20);
    ring.push(transaction(10, vec![rows("a", 1)]));
    ring.restart(at(15));
    let Err(TooOld { oldest }) = ring.next(at(15), at(15), any) else { panic!("it is not told") };
    ring.push(transaction(15, vec![rows("a", 1)]));
    assert_eq!(begin(ring.next(oldest, at(20), any)), 15);
}

#[test]
fn indexes_and_transactions_of_other_tables_are_not_kept() {
    let ring = Ring::new(at(0), 1 << 20);
    ring.push(transaction(10, Vec::new()));
    ring.push(transaction(20, vec![rows("a@by_name", 1)]));
    assert_eq!(ring.kept.lock().transactions.len(), 0);
    ring.push(transaction(30, vec![rows("a", 1), rows("a@by_name", 1)]));
    let Ok(Next::Wanted(kept)) = ring.next(at(0), at(40), any) else { panic!("a transaction") };
    assert_eq!(kept.tables, [rows("a", 1)]);
}

#[test]
fn a_long_run_of_unwanted_transactions_is_passed_in_pieces() {
    let ring = Ring::new(at(0), 1 << 30);
    let count = LOOKED_AT_MAX as u64 + 1;
    for number in 0..count {
        ring.push(transaction(number * 10, vec![rows("a", 1)]));
    }
    let end = at(count * 10);
    let Ok(Next::Passed(passed)) = ring.next(at(0), end, |_| false) else { panic!("not all at once") };
    assert_eq!(passed, at((count - 2) * 10 + 5));
    assert_eq!(ring.next(passed, end, |_| false), Ok(Next::Passed(at((count - 1) * 10 + 5))));
}

#[derive(Clone, Debug)]
enum Step {
    Push { gap: u64, tables: Vec<(u8, usize)> },
    Read { reader: usize, times: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let tables = prop::collection::vec((0..3u8, 0..4usize), 0..4);
    prop_oneof![
        (1..20u64, tables).prop_map(|(gap, tables)| Step::Push { gap, tables }),
        (0..4usize, 1..5usize).prop_map(|(reader, times)| Step::Read { reader, times }),
    ]
}

/// A reader of some tables, and what it should have and has collected.
struct Reader {
    tables: Vec<&'static str>,
    from: Position,
    after: Position,
    collected: Vec<Position>,
    lost: bool,
}

const TABLES: [&str; 3] = ["a", "b", "c"];

proptest! {
    #[test]
    fn what_a_reader_collects_is_the_log_or_it_is_told(
        steps in prop::collection::vec(step(), 0..80),
        bytes_max in 1..4_000usize,
        starts in prop::array::uniform4((0..100u64, 0..3usize)),
    ) {
        let ring = Ring::new(at(0), bytes_max);
        let reader = |(from, tables): (u64, usize)| Reader {
            tables: TABLES[..=tables].to_vec(),
            from: at(from),
            after: at(from),
            collected: Vec::new(),
            lost: false,
        };
        let mut readers = starts.map(reader);
        let (mut log, mut applied) = (Vec::<(Position, Position, Vec<&str>)>::new(), at(0));
        for step in steps {
            match step {
                Step::Push { gap, tables } => {
                    let begin = applied.offset() + gap;
                    let named: Vec<_> = tables.iter().map(|(table, _)| TABLES[usize::from(*table)]).collect();
                    let changes = tables.iter().map(|(table, count)| rows(TABLES[usize::from(*table)], *count));
                    let transaction = transaction(begin, changes.collect());
                    applied = transaction.end;
                    log.push((transaction.begin, transaction.end, named));
                    ring.push(transaction);
                }
                Step::Read { reader, times } => {
                    let reader = &mut readers[reader];
                    for _ in 0..times {
                        let wanted = |transaction: &Transaction| {
                            transaction.tables.iter().any(|table| reader.tables.contains(&&*table.dimension))
                        };
                        match ring.next(reader.after, applied, wanted) {
                            Ok(Next::Wanted(transaction)) => {
                                reader.collected.push(transaction.begin);
                                reader.after = transaction.end;
                            }
                            Ok(Next::Passed(end)) => reader.after = end,
                            Ok(Next::Nothing) => reader.after = reader.after.max(applied),
                            Err(_) => reader.lost = true,
                        }
                    }
                }
            }
        }
        for reader in &readers {
            let expect: Vec<_> = log
                .iter()
                .filter(|(_, end, tables)| {
                    *end > reader.from && *end <= reader.after && tables.iter().any(|t| reader.tables.contains(t))
                })
                .map(|(begin, ..)| *begin)
                .collect();
            prop_assert_eq!(&reader.collected, &expect);
            // Nobody is told without cause: something after its place is gone.
            let newest_gone = ring.oldest();
            prop_assert!(!reader.lost || reader.after < newest_gone);
        }
    }
}
