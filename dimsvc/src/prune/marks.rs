//! Where the source stood when: a list that is the sparser the older it gets,
//! so that a few hundred entries reach back a century.

use serde::{Deserialize, Serialize};
use tidemark_proto::Position;

/// Marks are at least so far apart.
const APART_MIN_SECONDS: u64 = 3_600;
/// And so much of their age.
const APART_OF_AGE: u64 = 32;

/// Everything before the position happened before the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Seconds since 1970.
    pub(super) time: u64,
    /// Packed.
    position: u64,
}

impl Mark {
    pub(super) fn position(self) -> Position {
        Position::from_packed(self.position)
    }
}

/// Marks in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks(Vec<Mark>);

impl Marks {
    /// Notes that all before `position` has happened `now`. True when a mark was
    /// added; never while the clock stands before the last one.
    pub(super) fn note(&mut self, now: u64, position: Position) -> bool {
        let (due, position) = (self.0.last().map(|last| last.time + APART_MIN_SECONDS), position.packed());
        if due.is_some_and(|due| now < due) || self.0.last().is_some_and(|last| position < last.position) {
            return false;
        }
        self.0.push(Mark { time: now, position });
        self.thin(now);
        true
    }

    /// The last mark that is not after `time`.
    pub(super) fn before(&self, time: u64) -> Option<Mark> {
        self.0.iter().rev().find(|mark| mark.time <= time).copied()
    }

    /// Drops each mark whose neighbours are close enough for their age.
    fn thin(&mut self, now: u64) {
        let mut kept: Vec<Mark> = Vec::with_capacity(self.0.len());
        for (place, mark) in self.0.iter().enumerate() {
            let close = |(before, after): (&Mark, &Mark)| {
                let apart = (now.saturating_sub(after.time) / APART_OF_AGE).max(APART_MIN_SECONDS);
                after.time - before.time <= apart
            };
            if !kept.last().zip(self.0.get(place + 1)).is_some_and(close) {
                kept.push(*mark);
            }
        }
        self.0 = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    /// Ten years of a mark every hour.
    fn decade() -> (Marks, u64) {
        let mut marks = Marks::default();
        let mut now = 1_000_000_000;
        for hour in 0..3_650 * 24 {
            now += APART_MIN_SECONDS;
            assert!(marks.note(now, at(hour)));
        }
        (marks, now)
    }

    /// Fails without `thin`.
    #[test]
    fn ten_years_are_a_few_hundred_marks() {
        assert!(decade().0.0.len() < 500, "{}", decade().0.0.len());
    }

    /// What is asked for is found, at most a tenth of its age older.
    #[test]
    fn every_age_has_a_mark_that_is_near() {
        let (marks, now) = decade();
        for age in [DAY, 7 * DAY, 30 * DAY, 365 * DAY, 3_000 * DAY] {
            let mark = marks.before(now - age).unwrap();
            let older = now - age - mark.time;
            assert!(older <= APART_MIN_SECONDS.max(age / 10), "{older} s before an age of {age}");
        }
    }

    /// A position is not of a time before it was reached. Take the comparison
    /// of times out of `before` to see it fail.
    #[test]
    fn no_mark_is_after_the_time_asked_for() {
        let mut marks = Marks::default();
        marks.note(1_000_000, at(10));
        marks.note(2_000_000, at(20));
        assert_eq!(marks.before(999_999), None);
        assert_eq!(marks.before(1_999_999).unwrap().position(), at(10));
        assert_eq!(marks.before(2_000_000).unwrap().position(), at(20));
    }

    #[test]
    fn a_clock_or_a_position_that_goes_back_adds_nothing() {
        let mut marks = Marks::default();
        assert!(marks.note(2_000_000, at(20)));
        assert!(!marks.note(1_000_000, at(30)));
        assert!(!marks.note(3_000_000, at(10)));
    }
}
