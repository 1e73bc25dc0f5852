//! Each kind of fault is planted and found; what is right passes.

use super::*;
use std::{
    sync::atomic::{AtomicBool, AtomicU64},
    thread,
};

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

/// Key 0 is there from the floor (100) on, changes at 200 and 300, goes at 400;
/// key 1 appears at 300; key 2 never was.
fn checker() -> Checker {
    let checker = Checker::new(3, 100, at(100));
    checker.begins_with(0, Some(1));
    checker.wrote(0, at(200), Some(2));
    checker.wrote(0, at(300), Some(3));
    checker.wrote(0, at(400), None);
    checker.wrote(1, at(300), Some(7));
    checker
}

fn check(key: usize, position: u64, answered: Answered) -> Check {
    let applied = at(1000);
    Check { key, at: at(position), demanded: at(0), applied, answered, raced: false }
}

fn answered(version: u64, to: Position, stamp: Stamp) -> Answered {
    Answered { version: at(version), from: at(version), to, stamp }
}

/// What key 0 is at 250.
fn right() -> Check {
    check(0, 250, answered(200, at(300), Some(2)))
}

fn fault(check: &Check) -> Option<Fault> {
    checker().judge(check).fault
}

fn fault_of(answered: Answered) -> Option<Fault> {
    fault(&Check { answered, ..right() })
}

const OPEN: Position = Position::MAX;

#[test]
fn the_truth_passes() {
    let narrow = |from, to| Answered { from: at(from), to: at(to), ..right().answered };
    assert_eq!(fault(&right()), None);
    assert_eq!(fault_of(narrow(249, 250)), None, "an interval may be too narrow");
    assert_eq!(fault(&check(0, 150, answered(99, at(200), Some(1)))), None, "as of the floor");
    assert_eq!(
        fault(&check(0, 200, answered(99, at(200), Some(1)))),
        None,
        "a transaction sees the row before it"
    );
    assert_eq!(fault(&check(0, 1000, answered(400, OPEN, None))), None, "a tombstone");
    assert_eq!(fault(&check(1, 1000, answered(300, OPEN, Some(7)))), None);
}

#[test]
fn absence_is_proven_with_or_without_a_tombstone() {
    let never = Answered { version: Position::ZERO, from: at(99), to: at(300), stamp: None };
    assert_eq!(fault(&check(1, 300, never)), None);
    assert_eq!(fault(&check(1, 300, answered(99, at(300), None))), None, "a tombstone at the floor");
    assert_eq!(fault(&check(2, 1000, Answered { to: OPEN, ..never })), None);
    let deleted = Answered { version: Position::ZERO, from: at(400), to: OPEN, stamp: None };
    assert_eq!(fault(&check(0, 1000, deleted)), None, "a proof needs no tombstone");
    let early = Answered { from: at(399), ..deleted };
    assert_eq!(fault(&check(0, 1000, early)), Some(Fault::IntervalTooWide), "the row was there");
    assert_eq!(fault(&check(1, 301, Answered { to: at(301), ..never })), Some(Fault::TooOld));
    assert_eq!(fault(&check(1, 300, Answered { to: at(301), ..never })), Some(Fault::IntervalTooWide));
    assert_eq!(
        fault(&check(0, 150, Answered { to: at(200), ..never })),
        Some(Fault::TooOld),
        "a row was there"
    );
}

#[test]
fn an_older_row_is_stale() {
    let old = check(0, 350, answered(200, OPEN, Some(2)));
    assert_eq!(fault(&old), Some(Fault::TooOld));
    assert!(Fault::TooOld.is_stale());
    assert_eq!(
        fault(&check(0, 1000, answered(300, OPEN, Some(3)))),
        Some(Fault::TooOld),
        "the row is deleted"
    );
}

#[test]
fn an_applied_below_the_read_point_is_stale() {
    assert_eq!(fault(&Check { demanded: at(1001), ..right() }), Some(Fault::AppliedTooLow));
    assert_eq!(fault(&Check { demanded: at(1000), ..right() }), None);
}

#[test]
fn a_row_of_the_future_is_wrong() {
    assert_eq!(fault_of(answered(300, at(400), Some(3))), Some(Fault::TooNew));
    assert_eq!(fault_of(answered(250, at(400), Some(3))), Some(Fault::TooNew), "its own version is not seen");
}

#[test]
fn a_row_that_never_was_is_wrong() {
    assert_eq!(fault_of(answered(220, at(300), Some(2))), Some(Fault::NoSuchVersion));
    assert_eq!(fault_of(answered(200, at(300), Some(3))), Some(Fault::OtherImage));
    assert_eq!(fault_of(answered(200, at(300), None)), Some(Fault::OtherImage));
    assert_eq!(
        fault(&check(0, 1000, answered(400, OPEN, Some(3)))),
        Some(Fault::OtherImage),
        "it is deleted"
    );
}

#[test]
fn the_right_row_without_its_version_is_told_apart() {
    let judged = |answered| checker().judge(&Check { answered, ..right() });
    let unknown = |from: u64, to, stamp| Answered { version: Position::ZERO, ..answered(from, to, stamp) };
    let undated = judged(unknown(220, at(300), Some(2)));
    assert_eq!((undated.fault, undated.undated), (None, true));
    assert!(!judged(right().answered).undated);
    assert_eq!(judged(unknown(220, at(300), Some(1))).fault, Some(Fault::OtherImage));
    assert_eq!(judged(unknown(199, at(300), Some(2))).fault, Some(Fault::IntervalTooWide));
    assert_eq!(judged(unknown(220, at(301), Some(2))).fault, Some(Fault::IntervalTooWide));
}

#[test]
fn an_interval_without_the_position_is_wrong() {
    let of = |from, to| fault_of(Answered { from: at(from), to: at(to), ..right().answered });
    assert_eq!(of(250, 300), Some(Fault::NotInInterval));
    assert_eq!(of(200, 249), Some(Fault::NotInInterval));
    let beyond = Check { applied: at(249), answered: answered(200, OPEN, Some(2)), ..right() };
    assert_eq!(fault(&beyond), Some(Fault::NotInInterval), "open ends at applied");
}

#[test]
fn an_interval_over_another_version_is_wrong() {
    let of = |from, to| fault_of(Answered { from: at(from), to, ..right().answered });
    assert_eq!(of(200, at(301)), Some(Fault::IntervalTooWide));
    assert_eq!(of(199, at(300)), Some(Fault::IntervalTooWide));
    assert_eq!(of(200, OPEN), Some(Fault::IntervalTooWide), "open ends at applied");
    let before = Check { applied: at(300), answered: answered(200, OPEN, Some(2)), ..right() };
    assert_eq!(fault(&before), None, "applied ends before the next version is visible");
}

#[test]
fn a_broken_sum_is_torn() {
    assert_eq!(Verdict::of_sum([40, 60], 100).fault, None);
    assert!(Verdict::of_sum([40, 50], 100).fault.unwrap().is_torn());
}

#[test]
fn what_is_forgotten_is_not_judged() {
    let checker = Checker::new(1, 2, at(100));
    for version in [200, 300, 400] {
        checker.wrote(0, at(version), Some(version));
    }
    assert!(!checker.judge(&check(0, 300, answered(200, at(300), Some(9)))).judged);
    let oldest = checker.judge(&check(0, 301, answered(300, at(400), Some(9))));
    assert_eq!((oldest.judged, oldest.fault), (true, Some(Fault::OtherImage)));
    let absent = Answered { version: Position::ZERO, from: at(99), to: at(400), stamp: None };
    assert_eq!(
        checker.judge(&check(0, 301, absent)).fault,
        Some(Fault::TooOld),
        "not the key's first version"
    );
}

#[test]
fn the_last_image_of_a_transaction_counts() {
    let checker = checker();
    checker.wrote(1, at(500), None);
    checker.wrote(1, at(500), Some(8));
    assert_eq!(checker.judge(&check(1, 1000, answered(500, OPEN, Some(8)))).fault, None);
}

#[test]
fn a_tally_adds_up_and_tells_examples() {
    let checker = checker();
    let mut tally = Tally::default();
    let old = check(0, 350, answered(200, OPEN, Some(2)));
    let raced = Check { raced: true, ..right() };
    for check in [old, raced, Check { demanded: at(1001), ..right() }] {
        tally.add_check(checker.judge(&check), &check);
    }
    tally.add(Verdict::of_sum([1], 2), || "accounts".to_owned());
    let mut all = Tally::default();
    assert!(all.is_clean());
    all.merge(tally);
    assert!(!all.is_clean());
    let text = all.to_string();
    assert!(
        text.starts_with("checks 4  stale 2  wrong 0  torn 1  raced 1 (25.0 %)  undated 0  not judged 0\n"),
        "{text}"
    );
    assert!(text.contains("TooOld: key 0 at 1/000001:350") && text.contains("Torn: accounts"), "{text}");
}

#[test]
fn events_of_a_key_are_seen_by_whoever_looks_around_them() {
    let checker = checker();
    let before = [checker.events(0), checker.events(1)];
    checker.touched(1);
    checker.wrote(1, at(500), None);
    assert_eq!([checker.events(0), checker.events(1)], [before[0], before[1] + 2]);
}

/// A reader that asks the log itself is always right, while a writer writes.
#[test]
fn checks_beside_a_writer_are_judged_by_what_was_applied() {
    let checker = Checker::new(16, 64, at(1));
    let (applied, done) = (AtomicU64::new(10), AtomicBool::new(false));
    let tally = thread::scope(|scope| {
        let reader = scope.spawn(|| read(&checker, &applied, &done));
        for version in (10..u64::from(u32::MAX)).step_by(10) {
            checker.wrote(version as usize / 10 % 16, at(version), Some(version));
            applied.store(version + 10, Ordering::Release);
            if done.load(Ordering::Acquire) {
                break;
            }
        }
        reader.join().unwrap()
    });
    assert!(tally.checks == 100_000 && tally.is_clean(), "{tally}");
}

fn read(checker: &Checker, applied: &AtomicU64, done: &AtomicBool) -> Tally {
    let (mut tally, mut key) = (Tally::default(), 0);
    while tally.checks < 100_000 {
        key = (key + 7) % 16;
        let applied = at(applied.load(Ordering::Acquire));
        let Some(known) = checker.as_of(key, applied) else { continue };
        let to = known.next.unwrap_or(OPEN);
        let answered = Answered { version: known.version, from: known.version, to, stamp: known.stamp };
        let check = Check { key, at: applied, demanded: applied, applied, answered, raced: false };
        tally.add_check(checker.judge(&check), &check);
    }
    done.store(true, Ordering::Release);
    tally
}
