//! What the audit has found since the start, for people and metrics.

use crate::{
    cache::Tier,
    dimension::{Image, Key},
    metrics::Metrics,
};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tidemark_proto::Position;

/// Mismatches that are kept to be shown.
const LAST_MAX: usize = 16;
/// Of a row that is shown.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// A tier that held something else than the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub dimension: Arc<str>,
    pub key: Key,
    /// Where all were compared.
    pub at: Position,
    pub tier: Tier,
    /// The row; empty where there is none.
    pub held: String,
    pub expected: String,
}

/// Sums since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub checks: u64,
    /// Checks in which a tier differed.
    pub mismatches: u64,
    /// Checks that a change overtook, which are not counted as checks.
    pub raced: u64,
    pub worst_staleness: Duration,
    /// The last mismatches, newest last.
    pub last: VecDeque<Mismatch>,
}

impl Tally {
    /// -log10 of the share of checks with a mismatch, at most what so many
    /// checks can show: a thousand without one show three.
    pub fn nines(&self) -> f64 {
        if self.checks == 0 {
            return 0.0;
        }
        (self.checks as f64 / self.mismatches.max(1) as f64).log10()
    }
}

/// The sums of a running audit.
#[derive(Debug)]
pub struct Findings {
    metrics: Arc<Metrics>,
    tally: Mutex<Tally>,
}

impl Findings {
    /// Nothing so far.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, tally: Mutex::default() }
    }

    /// The sums now.
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// A check that a change overtook.
    pub(super) fn count_raced(&self) {
        self.tally.lock().raced += 1;
        self.metrics.audit.raced.inc();
    }

    /// Keys could not be compared.
    pub(super) fn count_failed(&self) {
        self.metrics.audit.failed.inc();
    }

    /// A check, the tiers that differed in it, and how old the change is that
    /// one of them had missed.
    pub(super) fn count_check(&self, wrong: &[Mismatch], staleness: Duration) {
        let (mut tally, metrics) = (self.tally.lock(), &self.metrics.audit);
        tally.checks += 1;
        tally.mismatches += u64::from(!wrong.is_empty());
        tally.worst_staleness = tally.worst_staleness.max(staleness);
        for mismatch in wrong {
            metrics.mismatches.with_label_values(&[mismatch.tier.as_str()]).inc();
            if tally.last.len() == LAST_MAX {
                tally.last.pop_front();
            }
            tally.last.push_back(mismatch.clone());
        }
        metrics.checks.inc();
        metrics.nines.set(tally.nines());
        metrics.worst_staleness.set(tally.worst_staleness.as_secs_f64());
    }
}

/// A row as it is shown, cut where it is long.
pub(super) fn shown(image: Option<&[u8]>) -> String {
    let image = image.unwrap_or_default();
    let text = String::from_utf8_lossy(image.get(..SHOWN_BYTES_MAX).unwrap_or(image)).into_owned();
    if image.len() > SHOWN_BYTES_MAX { text + "…" } else { text }
}

/// What people compare: a row that is kept as deleted is no row.
pub(super) fn visible(image: Image) -> Image {
    image.filter(|image| crate::dimension::marked_deleted(image).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(checks: u64, mismatches: u64) -> Tally {
        Tally { checks, mismatches, ..Tally::default() }
    }

    /// Fails without `max(1)`: no mismatch in a thousand checks is not for ever.
    #[test]
    fn nines_are_at_most_what_the_checks_can_show() {
        let close = |nines: f64, expect: f64| assert!((nines - expect).abs() < 1e-9, "{nines}");
        close(tally(0, 0).nines(), 0.0);
        close(tally(1_000, 0).nines(), 3.0);
        close(tally(1_000, 1).nines(), 3.0);
        close(tally(1_000, 100).nines(), 1.0);
        close(tally(5, 5).nines(), 0.0);
    }

    #[test]
    fn the_last_mismatches_are_kept() {
        let findings = Findings::new(Arc::new(Metrics::try_new().unwrap()));
        for id in 0..20 {
            let mismatch = Mismatch {
                dimension: "d".into(),
                key: Key::from_canonical(format!("[{id}]")),
                at: Position::ZERO,
                tier: Tier::Lru,
                held: String::new(),
                expected: String::new(),
            };
            findings.count_check(&[mismatch], Duration::from_secs(id));
        }
        let tally = findings.tally();
        let keys: Vec<_> = tally.last.iter().map(|mismatch| format!("{:?}", mismatch.key)).collect();
        assert_eq!((keys.len(), keys[0].as_str(), keys[15].as_str()), (16, "[4]", "[19]"));
        assert_eq!((tally.checks, tally.mismatches, tally.worst_staleness.as_secs()), (20, 20, 19));
    }

    #[test]
    fn a_long_row_is_cut() {
        let row = vec![b'x'; SHOWN_BYTES_MAX + 1];
        assert_eq!(shown(Some(&row)).chars().count(), SHOWN_BYTES_MAX + 1);
        assert_eq!(shown(None), "");
    }
}
