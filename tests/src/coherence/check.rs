//! One answer, and how it is held against the log.

use super::{Known, Stamp};
use std::fmt;
use tidemark_proto::Position;

/// One answer of a lookup, as its caller saw it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    pub key: usize,
    /// The position it answers for: the one that was asked, or the response's
    /// `applied` when the newest row was.
    pub at: Position,
    /// What `applied` had to reach: the position of `at_least` and `as_of`, or
    /// an `applied` that the caller had seen before it asked.
    pub demanded: Position,
    /// What the response says was applied.
    pub applied: Position,
    pub answered: Answered,
    /// Whether the key changed, was loaded or evicted while the lookup ran.
    pub raced: bool,
}

/// The answer itself.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// [`Position::ZERO`] is a proof of absence that knows of no tombstone: from
    /// `from` on, the key was not there.
    pub version: Position,
    pub from: Position,
    /// [`Position::MAX`] is open: still the newest at `applied`.
    pub to: Position,
    pub stamp: Stamp,
}

/// What an answer got wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The response had not applied what the read point demands.
    AppliedTooLow,
    /// An older version than the one at the position.
    TooOld,
    /// A newer version than the one at the position.
    TooNew,
    /// A version that was never written.
    NoSuchVersion,
    /// The right version with another image.
    OtherImage,
    /// The interval does not hold the position.
    NotInInterval,
    /// The interval holds positions at which the row is another one.
    IntervalTooWide,
    /// Rows of one batch that no transaction ever left together.
    Torn,
}

impl Fault {
    /// An answer that time would mend.
    pub fn is_stale(self) -> bool {
        matches!(self, Self::AppliedTooLow | Self::TooOld)
    }

    /// Half a transaction.
    pub fn is_torn(self) -> bool {
        self == Self::Torn
    }
}

/// What the checker says of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `None`: the truth, if it was judged.
    pub fault: Option<Fault>,
    /// False when the log no longer reaches back to the position.
    pub judged: bool,
    /// The right row in a right interval, without its version: so are rows that
    /// were read from the source while the store was down.
    pub undated: bool,
    pub raced: bool,
}

impl Verdict {
    /// Judges the values of a batch by what every transaction leaves alone:
    /// their sum.
    pub fn of_sum(values: impl IntoIterator<Item = i64>, expect: i64) -> Self {
        let sum: i64 = values.into_iter().sum();
        let fault = (sum != expect).then_some(Fault::Torn);
        Self { fault, judged: true, undated: false, raced: false }
    }
}

impl Check {
    /// Whether this is what the log knows at the same position; `Ok(true)` when
    /// it is, without a version.
    #[inline]
    pub(super) fn compare(&self, known: &Known) -> Result<bool, Fault> {
        let Answered { version, from, to, stamp } = self.answered;
        let is_proven_absent = known.stamp.is_none() && version == Position::ZERO;
        let is_undated = version == Position::ZERO && stamp.is_some();
        if version != known.version && !is_proven_absent && !is_undated {
            return Err(self.wrong_version(known));
        }
        if stamp != known.stamp {
            return Err(Fault::OtherImage);
        }
        let to = if to == Position::MAX { self.applied } else { to };
        if self.at <= from || self.at > to {
            return Err(Fault::NotInInterval);
        }
        let begins_early = from < known.version;
        let ends_late = known.next.is_some_and(|next| next < to);
        if begins_early || ends_late { Err(Fault::IntervalTooWide) } else { Ok(is_undated) }
    }

    fn wrong_version(&self, known: &Known) -> Fault {
        let version = self.answered.version;
        // Only the neighbours are known here; older ones count as written.
        if version < known.version {
            Fault::TooOld
        } else if version >= self.at {
            Fault::TooNew
        } else {
            Fault::NoSuchVersion
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answered { version, from, to, stamp } = self.answered;
        write!(
            f,
            "key {} at {} ({} applied, {} demanded): ",
            self.key, self.at, self.applied, self.demanded
        )?;
        let open = if to == Position::MAX { "open".to_owned() } else { to.to_string() };
        write!(f, "version {version} valid from {from} to {open}, image {stamp:?}")
    }
}
