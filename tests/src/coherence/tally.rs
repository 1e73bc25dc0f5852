//! What many verdicts add up to.

use super::{Check, Fault, Verdict};
use std::fmt;

/// Faults that are told in full.
const EXAMPLES_MAX: usize = 10;

/// Counts of one reader; those of several are merged.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Judged answers, and sums of batches.
    pub checks: u64,
    pub stale: u64,
    pub wrong: u64,
    pub torn: u64,
    /// Checks whose key changed, was loaded or evicted while they ran.
    pub raced: u64,
    /// Right rows under a later version than their own.
    pub undated: u64,
    /// Answers for positions that the log had already forgotten.
    pub unjudged: u64,
    examples: Vec<String>,
}

impl Tally {
    /// Counts a verdict; of a fault, what was checked is kept.
    pub fn add(&mut self, verdict: Verdict, checked: impl FnOnce() -> String) {
        if !verdict.judged {
            self.unjudged += 1;
            return;
        }
        self.checks += 1;
        self.raced += u64::from(verdict.raced);
        self.undated += u64::from(verdict.undated);
        let Some(fault) = verdict.fault else { return };
        *self.count_of(fault) += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{fault:?}: {}", checked()));
        }
    }

    /// [`Tally::add`] for a check of one key.
    pub fn add_check(&mut self, verdict: Verdict, check: &Check) {
        self.add(verdict, || check.to_string());
    }

    /// Adds another reader's.
    pub fn merge(&mut self, other: Self) {
        let Self { checks, stale, wrong, torn, raced, undated, unjudged, examples } = other;
        self.checks += checks;
        self.stale += stale;
        self.wrong += wrong;
        self.torn += torn;
        self.raced += raced;
        self.undated += undated;
        self.unjudged += unjudged;
        let free = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(examples.into_iter().take(free));
    }

    /// No fault among them.
    pub fn is_clean(&self) -> bool {
        self.stale + self.wrong + self.torn == 0
    }

    /// The share of checks that raced something: those that could have failed.
    pub fn raced_share(&self) -> f64 {
        self.raced as f64 / self.checks.max(1) as f64
    }

    fn count_of(&mut self, fault: Fault) -> &mut u64 {
        match fault {
            fault if fault.is_stale() => &mut self.stale,
            fault if fault.is_torn() => &mut self.torn,
            _ => &mut self.wrong,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checks, stale, wrong, torn, raced, undated, unjudged, examples } = self;
        write!(f, "checks {checks}  stale {stale}  wrong {wrong}  torn {torn}  ")?;
        write!(f, "raced {raced} ({:.1} %)  ", 100.0 * self.raced_share())?;
        write!(f, "undated {undated}  not judged {unjudged}")?;
        examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}
