//! Memory of a dimension: the heart, with this service's tiers plugged in.
//!
//! What may be answered is decided in `tidemark_heart` alone. Here are the
//! tiers that it asks ([`ResidentTier`]) and what fills the one that holds
//! every row.

mod lru;
#[cfg(test)]
mod tests;

pub use lru::{Evictions, HotKeys, LruTier};
pub use tidemark_heart::{
    AddedColumns, Answer, Change, Found, FullTier, Keeps, Loaded, NoTier, Peek, Resident, Row, Tier,
    Timeline, VERSION_OVERHEAD,
};

use crate::load::Waiter;
use std::{sync::Arc, time::Duration};
use tidemark_proto::Position;

/// Rows of one dimension in memory.
pub type DimensionCache = tidemark_heart::DimensionCache<ResidentTier, Waiter>;
/// How a load begins.
pub type LoadStart = tidemark_heart::LoadStart<ResidentTier, Waiter>;
/// A load at work.
pub type Load = tidemark_heart::Load<ResidentTier, Waiter>;

/// The resident tier of a dimension and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierKind {
    /// Every row resident.
    Full,
    /// The most used rows.
    Lru { bytes_max: u64, time_to_live: Option<Duration> },
    /// No row: an index, which is read by prefix.
    None,
}

/// The tier of a dimension.
#[derive(Debug)]
pub enum ResidentTier {
    Full(FullTier),
    Lru(LruTier),
    None(NoTier),
}

impl ResidentTier {
    /// An empty tier of a dimension whose history begins at `floor`.
    pub fn new(kind: TierKind, floor: Position) -> Self {
        match kind {
            TierKind::Full => Self::Full(FullTier::new(floor)),
            TierKind::Lru { bytes_max, time_to_live } => Self::Lru(LruTier::new(bytes_max, time_to_live)),
            TierKind::None => Self::None(NoTier),
        }
    }

    /// The same; rows with a time to live are noted before it is over.
    pub fn refreshing(kind: TierKind, floor: Position) -> Self {
        match kind {
            TierKind::Lru { bytes_max, time_to_live: Some(ttl) } => {
                Self::Lru(LruTier::refreshing(bytes_max, ttl))
            }
            kind => Self::new(kind, floor),
        }
    }

    /// The tier, when rows come and go in it.
    pub fn lru(&self) -> Option<&LruTier> {
        match self {
            Self::Lru(lru) => Some(lru),
            Self::Full(_) | Self::None(_) => None,
        }
    }
}

/// The same call of whichever tier it is.
macro_rules! each {
    ($tier:ident, $inner:ident => $call:expr) => {
        match $tier {
            ResidentTier::Full($inner) => $call,
            ResidentTier::Lru($inner) => $call,
            ResidentTier::None($inner) => $call,
        }
    };
}

impl Resident for ResidentTier {
    #[inline]
    fn tier(&self) -> Tier {
        each!(self, tier => tier.tier())
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Option<Row> {
        each!(self, tier => tier.get(key))
    }

    #[inline]
    fn absent_after(&self) -> Option<Position> {
        each!(self, tier => tier.absent_after())
    }

    fn install(&self, row: &Row) {
        each!(self, tier => tier.install(row));
    }

    fn replace(&self, row: &Row) {
        each!(self, tier => tier.replace(row));
    }

    fn force(&self, row: &Row) {
        each!(self, tier => tier.force(row));
    }

    fn remove(&self, key: &[u8]) {
        each!(self, tier => tier.remove(key));
    }

    fn clear(&self, at: Option<Position>) {
        each!(self, tier => tier.clear(at));
    }

    fn rows(&self) -> u64 {
        each!(self, tier => tier.rows())
    }

    fn bytes(&self) -> u64 {
        each!(self, tier => tier.bytes())
    }
}

/// Makes every row of a dimension resident, while changes go on: rows that a
/// scan of the store gives, with the changes since laid over them.
#[derive(Debug)]
pub struct Filling<'c> {
    cache: &'c DimensionCache,
    tier: &'c FullTier,
}

impl<'c> Filling<'c> {
    /// Begins with what is not durable: the scan that follows has all else.
    /// `None` for a tier that fills by itself.
    pub fn begin(cache: &'c Arc<DimensionCache>) -> Option<Self> {
        let ResidentTier::Full(tier) = cache.tier() else { return None };
        cache.with_tier(|_, undurable| {
            tier.begin_fill();
            undurable.for_each(|row| tier.install(row));
        });
        Some(Self { cache, tier })
    }

    /// Takes scanned versions, unless newer ones are there.
    pub fn add(&self, rows: impl Iterator<Item = Row>) {
        self.cache.with_tier(|_, _| rows.for_each(|row| self.tier.install(&row)));
    }

    /// From here on a missing key is an absent key.
    pub fn end(self) {
        self.cache.with_tier(|_, _| self.tier.end_fill());
    }
}
