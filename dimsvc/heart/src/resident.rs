//! What the heart asks of a tier of resident rows, whatever keeps them.

use crate::{answer::Tier, row::Row};
use tidemark_proto::Position;

/// Rows kept in memory, the newest of each key. A tier may lose rows at any
/// time unless it proves absence; it must never bring back one that it gave up.
///
/// All that changes it is called under the dimension's lock; [`Self::get`] and
/// [`Self::absent_after`] under none.
pub trait Resident {
    /// Its name in answers.
    fn tier(&self) -> Tier;

    /// The resident row of a key.
    fn get(&self, key: &[u8]) -> Option<Row>;

    /// For a tier that holds every row: a missing key is absent after this
    /// position. Loaded after [`Self::get`] missed.
    fn absent_after(&self) -> Option<Position>;

    /// A loaded row: takes it, unless [`supersedes`] says that it has a newer
    /// one.
    fn install(&self, row: &Row);

    /// A change: replaces what is resident. A tier that holds every row takes
    /// it in any case.
    fn replace(&self, row: &Row);

    /// Puts the row in the place of whatever is resident.
    fn force(&self, row: &Row);

    /// Lets go of a key, for a tier that loads it again; nothing for one that
    /// holds every row.
    fn remove(&self, key: &[u8]);

    /// Every row was removed at `at`, or (none) has to be loaded again.
    fn clear(&self, at: Option<Position>);

    /// Rows resident, approximate where the tier cannot tell.
    fn rows(&self) -> u64;

    /// Their bytes with overhead, approximate.
    fn bytes(&self) -> u64;
}

/// Whether `row` may take the place of `resident`.
pub fn supersedes(row: &Row, resident: &Row) -> bool {
    (row.from(), row.version()) >= (resident.from(), resident.version())
}

/// No resident rows: for indexes, which are read from overlay and store.
#[derive(Clone, Copy, Debug)]
pub struct NoTier;

impl Resident for NoTier {
    fn tier(&self) -> Tier {
        Tier::Overlay
    }

    fn get(&self, _: &[u8]) -> Option<Row> {
        None
    }

    fn absent_after(&self) -> Option<Position> {
        None
    }

    fn install(&self, _: &Row) {}

    fn replace(&self, _: &Row) {}

    fn force(&self, _: &Row) {}

    fn remove(&self, _: &[u8]) {}

    fn clear(&self, _: Option<Position>) {}

    fn rows(&self) -> u64 {
        0
    }

    fn bytes(&self) -> u64 {
        0
    }
}
