//! Leaves a source alone that fails: after some failures in a row nobody asks,
//! then one, and all again once that one succeeded.
//!
//! Pure: it takes the time from its callers.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

const FAILURES_MAX: u32 = 3;
const OPEN_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    /// Everyone may ask.
    Closed { failures: u32 },
    /// Nobody may until then; then one.
    Open { until: Instant },
    /// That one asks.
    Probing { until: Instant },
}

/// The right to ask. Dropped without an outcome it leaves things as they were.
#[derive(Debug)]
pub(super) struct Passage<'b> {
    breaker: &'b Breaker,
    probes: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self(Mutex::new(State::Closed { failures: 0 }))
    }
}

impl Breaker {
    /// `None` while the source is left alone.
    pub(super) fn enter(&self, now: Instant) -> Option<Passage<'_>> {
        let mut state = self.0.lock();
        let probes = match *state {
            State::Closed { .. } => false,
            State::Open { until } if until <= now => {
                *state = State::Probing { until };
                true
            }
            State::Open { .. } | State::Probing { .. } => return None,
        };
        Some(Passage { breaker: self, probes })
    }

    /// Whether a question would be refused.
    pub(super) fn refuses(&self, now: Instant) -> bool {
        match *self.0.lock() {
            State::Closed { .. } => false,
            State::Open { until } => now < until,
            State::Probing { .. } => true,
        }
    }

    /// Whether the source is left alone, or asked by one alone.
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.0.lock(), State::Closed { .. })
    }
}

impl Passage<'_> {
    /// The source answered.
    pub(super) fn succeeded(&self) {
        let mut state = self.breaker.0.lock();
        if self.probes || matches!(*state, State::Closed { .. }) {
            *state = State::Closed { failures: 0 };
        }
    }

    /// It did not. True when it is left alone from here on.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut state = self.breaker.0.lock();
        let failures = match *state {
            _ if self.probes => FAILURES_MAX,
            State::Closed { failures } => failures + 1,
            // Others failed before: their time counts.
            State::Open { .. } | State::Probing { .. } => return false,
        };
        let opens = failures >= FAILURES_MAX;
        *state = if opens { State::Open { until: now + OPEN_FOR } } else { State::Closed { failures } };
        opens
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let mut state = self.breaker.0.lock();
        if let (true, State::Probing { until }) = (self.probes, *state) {
            *state = State::Open { until };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            breaker.enter(now).unwrap().failed(now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            assert!(!breaker.enter(now).unwrap().failed(now));
            assert!(!breaker.enter(now).unwrap().failed(now));
            breaker.enter(now).unwrap().succeeded();
        }
        assert!(!breaker.is_open());
        assert!(opened(now).refuses(now));
    }

    #[test]
    fn one_alone_probes_and_its_success_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        let probe = breaker.enter(later).unwrap();
        assert!(breaker.enter(later).is_none(), "a second probe");
        probe.succeeded();
        drop(probe);
        assert!(breaker.enter(later).is_some() && !breaker.is_open());
    }

    #[test]
    fn a_failed_probe_opens_it_for_another_time() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        assert!(breaker.enter(later).unwrap().failed(later));
        assert!(breaker.enter(later).is_none());
        assert!(breaker.enter(later + OPEN_FOR).is_some());
    }

    /// Fails without `Drop`: a probe whose caller went away would close the way
    /// for ever.
    #[test]
    fn a_probe_that_was_given_up_is_followed_by_another() {
        let now = Instant::now();
        let breaker = opened(now);
        drop(breaker.enter(now + OPEN_FOR).unwrap());
        assert!(breaker.enter(now + OPEN_FOR).is_some());
    }
}
