//! The one type that carries the truth: a row and where it is valid.

use crate::row::{Image, Row};
use tidemark_proto::Position;

/// A row (or a tombstone, or a proven absence) that is valid for positions P
/// with `from < P <= to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None` where nothing is known of the key but that it was not there.
    pub row: Option<Row>,
    pub from: Position,
    /// [`Position::MAX`] is open: still the newest, up to the `applied` that the
    /// reader loaded before it read this answer.
    pub to: Position,
}

impl Answer {
    /// The newest version of a key.
    pub fn newest(row: Row) -> Self {
        let from = row.from();
        Self { row: Some(row), from, to: Position::MAX }
    }

    /// A proof that the key has no row.
    pub fn absent(from: Position) -> Self {
        Self { row: None, from, to: Position::MAX }
    }

    /// The same answer, but not beyond `to`.
    #[must_use]
    pub fn until(self, to: Position) -> Self {
        Self { to: self.to.min(to), ..self }
    }

    /// Whether this is the answer at `at`. For an open interval the caller must
    /// have loaded an `applied` not below `at` before it read this answer.
    pub fn answers(&self, at: Position) -> bool {
        self.from < at && at <= self.to
    }

    /// Whether it is the newest version.
    pub fn is_open(&self) -> bool {
        self.to == Position::MAX
    }

    /// The row's bytes; `None` where the key has no row.
    pub fn image(&self) -> Option<&[u8]> {
        self.row.as_ref()?.image()
    }

    /// Of the row or its tombstone; [`Position::ZERO`] where it is not known.
    pub fn version(&self) -> Position {
        self.row.as_ref().map_or(Position::ZERO, Row::version)
    }
}

/// An answer, and which tier gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub answer: Answer,
    pub tier: Tier,
}

/// What a tier beneath memory said of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The greatest version it has; `None` where it proves that there is none.
    /// The source knows no versions: of [`Tier::Source`] the position is the one
    /// after which the image is valid.
    pub version: Option<(Position, Image)>,
    pub tier: Tier,
}

/// Where an answer came from. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tier {
    /// Every row resident.
    Full = 1,
    /// The most used rows.
    Lru = 2,
    /// Versions that are not yet durable.
    Overlay = 3,
    Store = 4,
    /// Shared by all replicas.
    Shared = 5,
    /// The source itself.
    Source = 6,
}

impl Tier {
    /// Every tier, by number.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Lru, Self::Overlay, Self::Store, Self::Shared, Self::Source];

    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lru => "lru",
            Self::Overlay => "overlay",
            Self::Store => "store",
            Self::Shared => "shared",
            Self::Source => "source",
        }
    }
}
