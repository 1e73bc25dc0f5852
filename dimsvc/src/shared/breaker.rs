//! Counts failures in a row and says when to leave the server alone.
//!
//! Pure: it knows neither time nor connections. Open, it lets nothing through;
//! half open, the next failure opens it again.

/// Failures in a row that open it. Each costs one caller its time limit.
const FAILURES_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
}

impl Breaker {
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failed(&mut self) {
        self.failures = (self.failures + 1).min(FAILURES_MAX);
    }

    pub(super) fn is_open(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// The time to leave it alone is over: one failure more, and it is open again.
    pub(super) fn half_open(&mut self) {
        self.failures = self.failures.min(FAILURES_MAX - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_failures(failures: u32) -> Breaker {
        let mut breaker = Breaker::default();
        (0..failures).for_each(|_| breaker.failed());
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        assert!(!after_failures(2).is_open());
        assert!(after_failures(3).is_open());
    }

    #[test]
    fn a_success_starts_the_count_again() {
        let mut breaker = after_failures(2);
        breaker.succeeded();
        breaker.failed();
        assert!(!breaker.is_open());
    }

    #[test]
    fn half_open_one_failure_is_enough() {
        let mut breaker = after_failures(9);
        breaker.half_open();
        assert!(!breaker.is_open());
        breaker.failed();
        assert!(breaker.is_open());
    }
}
