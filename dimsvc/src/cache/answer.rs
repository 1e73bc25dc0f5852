//! The one type that carries the truth: an image and where it is valid.

use crate::dimension::Image;
use tidemark_proto::Position;

/// A row (or a tombstone, or a proven absence) that is valid for positions P
/// with `from < P <= to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub image: Image,
    /// Of the row or its tombstone; [`Position::ZERO`] where none is known.
    pub version: Position,
    pub from: Position,
    /// `None` is open: still the newest, up to the `applied` that the reader
    /// loaded before it read this answer.
    pub to: Option<Position>,
}

impl Answer {
    /// The newest version of a key.
    pub fn newest(version: Position, image: Image) -> Self {
        Self { image, version, from: version, to: None }
    }

    /// The proof that a key of a complete dimension has no version: valid from
    /// the history floor on, where the first load saw that it was not there.
    pub fn never_existed(floor: Position) -> Self {
        Self { image: None, version: Position::ZERO, from: floor.before(), to: None }
    }

    /// The same answer, but not beyond `to`.
    pub fn until(self, to: Position) -> Self {
        Self { to: Some(to), ..self }
    }

    /// Whether this is the answer at `at`. For an open interval the caller must
    /// have loaded an `applied` not below `at` before it read this answer.
    pub fn answers(&self, at: Position) -> bool {
        self.from < at && self.to.is_none_or(|to| at <= to)
    }
}

/// An answer, and which tier gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub answer: Answer,
    pub tier: Tier,
}

/// Where an answer came from. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tier {
    Full = 1,
    Lru = 2,
    Overlay = 3,
    Store = 4,
}

impl Tier {
    /// Every tier, fastest first.
    pub const ALL: [Self; 4] = [Self::Full, Self::Lru, Self::Overlay, Self::Store];

    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lru => "lru",
            Self::Overlay => "overlay",
            Self::Store => "store",
        }
    }
}
