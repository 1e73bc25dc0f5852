//! How many queries the source may be asked for: one budget for the process.
//!
//! Pure: it takes the time and gives times. A query takes the next free place
//! of an even row of places, so that no second holds more than its number and
//! a short burst; what would wait too long is refused at once.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// The longest that a query waits for its place: the queue is as long as what
/// passes in this time.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// After a quiet time, the queries of a tenth of a second pass together.
const BURST: u32 = 10;

/// A number of queries a second.
#[derive(Debug)]
pub(super) struct Budget {
    /// Between places.
    interval: Duration,
    /// What a quiet time leaves to a burst.
    credit: Duration,
    /// The next free place.
    next: Mutex<Instant>,
}

impl Budget {
    /// `None` where no query is allowed.
    pub(super) fn new(queries_per_second: u32, now: Instant) -> Option<Self> {
        let interval = Duration::from_secs(1).checked_div(queries_per_second)?;
        let burst = (queries_per_second / BURST).max(1);
        Some(Self { interval, credit: interval * (burst - 1), next: Mutex::new(now) })
    }

    /// Takes places for `queries` and says when all of them have come; `None`,
    /// and no place is taken, when that is past `deadline` or too far away.
    pub(super) fn reserve(&self, queries: u32, now: Instant, deadline: Instant) -> Option<Instant> {
        let mut next = self.next.lock();
        let first = (*next).max(now.checked_sub(self.credit).unwrap_or(now));
        let last = first + self.interval * queries.saturating_sub(1);
        let go = last.max(now);
        // However many queries one read has, it may wait for its own places.
        let waits = first.saturating_duration_since(now);
        if go > deadline || waits > WAIT_MAX {
            return None;
        }
        *next = last + self.interval;
        Some(go)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAR: Duration = Duration::from_secs(3_600);

    #[test]
    fn none_are_allowed_at_nought() {
        assert!(Budget::new(0, Instant::now()).is_none());
    }

    #[test]
    fn a_query_beyond_the_budget_is_refused_before_its_deadline_passes() {
        let now = Instant::now();
        let budget = Budget::new(50, now).unwrap();
        let deadline = now + Duration::from_millis(10);
        let later = now + Duration::from_secs(60);
        for _ in 0..5 {
            assert_eq!(budget.reserve(1, later, later + Duration::from_millis(10)), Some(later));
        }
        assert_eq!(
            budget.reserve(1, later, later + Duration::from_millis(10)),
            None,
            "the sixth waits 20 ms"
        );
        assert_eq!(budget.reserve(1, now, deadline), None);
    }

    #[test]
    fn a_refused_query_takes_no_place() {
        let now = Instant::now();
        let budget = Budget::new(1, now).unwrap();
        assert_eq!(budget.reserve(1, now, now), Some(now));
        for _ in 0..100 {
            assert_eq!(budget.reserve(1, now, now), None);
        }
        let next = now + Duration::from_secs(1);
        assert_eq!(budget.reserve(1, now, next), Some(next));
    }

    #[test]
    fn the_queue_is_bounded() {
        let now = Instant::now();
        let budget = Budget::new(100, now).unwrap();
        let waiting = (0..1_000).filter(|_| budget.reserve(1, now, now + FAR).is_some()).count();
        assert!((100..=111).contains(&waiting), "{waiting}");
    }

    proptest! {
        /// Fails without the `max` that forgets unused places: then a quiet
        /// hour could be spent at once.
        #[test]
        fn no_second_holds_more_than_the_budget_and_its_burst(
            rate in 1u32..500,
            steps in proptest::collection::vec((0u64..300, 1u32..4), 1..200),
        ) {
            let mut now = Instant::now();
            let budget = Budget::new(rate, now).unwrap();
            let mut passed: Vec<(Instant, u32)> = Vec::new();
            for (millis, queries) in steps {
                now += Duration::from_millis(millis);
                passed.extend(budget.reserve(queries, now, now + FAR).map(|go| (go, queries)));
            }
            for (begin, _) in &passed {
                let end = *begin + Duration::from_secs(1);
                let within = passed.iter().filter(|(go, _)| go >= begin && *go < end);
                let count: u32 = within.map(|(_, queries)| queries).sum();
                // The queries of one read go together, at their last place.
                prop_assert!(count <= rate + (rate / BURST).max(1) + 3, "{} of {}", count, rate);
            }
        }
    }
}
