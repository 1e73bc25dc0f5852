//! What the shared tier's server does, as a state machine.
//!
//! Redis runs this protocol in scripts; [`SharedModel`] is the same rules without
//! I/O, for model checking. A property test drives both with the same commands
//! and compares every answer, so what holds here holds there. A key holds one
//! thing: a lease, or what was filled. It may lose it at any moment.

use crate::row::{Image, Key, VersionedRow};
use std::collections::BTreeMap;
use tidemark_proto::Position;

/// The newest version of a key, or the proof (`None`) that it never had one.
pub type Newest = Option<(Position, Image)>;

/// What the shared tier says of a key that a load asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedRead {
    /// The newest version that the tier knows; without an image a tombstone.
    Hit { version: Position, image: Image },
    /// The proof that the key never had a version.
    Absent,
    /// Nothing: whoever asked may fill it with what it reads of the store from
    /// now on.
    Leased,
    /// Nothing, and another load may fill it.
    Busy,
}

/// All keys of one server. `generation` is a part of every key's name.
#[derive(Clone, Debug, Default)]
pub struct SharedModel {
    run_id: u64,
    slots: BTreeMap<(u64, Key), Slot>,
}

#[derive(Clone, Debug)]
enum Slot {
    /// Of the load with this token.
    Lease(u64),
    Filled(Newest),
}

/// What a server had saved at some time: it may start from that again.
#[derive(Clone, Debug, Default)]
pub struct SharedDump(BTreeMap<(u64, Key), Slot>);

impl SharedModel {
    /// Another one after each restart.
    pub fn run_id(&self) -> u64 {
        self.run_id
    }

    /// Reads a key. Where nothing is held, leaves a lease for `token`; asking
    /// again with the same token gives the same lease.
    pub fn read_or_lease(&mut self, generation: u64, key: &Key, token: u64) -> SharedRead {
        let slot = self.slots.entry((generation, key.clone())).or_insert(Slot::Lease(token));
        match slot {
            Slot::Lease(held) if *held == token => SharedRead::Leased,
            Slot::Lease(_) => SharedRead::Busy,
            Slot::Filled(None) => SharedRead::Absent,
            Slot::Filled(Some((version, image))) => {
                SharedRead::Hit { version: *version, image: image.clone() }
            }
        }
    }

    /// Puts what a load has read in the place of its own lease, and nowhere
    /// else: a lease that is gone was voided by a change, or lost. Returns
    /// whether it did.
    pub fn fill(&mut self, generation: u64, key: &Key, newest: Newest, token: u64) -> bool {
        let slot = self.slots.get_mut(&(generation, key.clone()));
        let own = slot.filter(|slot| matches!(&**slot, Slot::Lease(held) if *held == token));
        own.map(|slot| *slot = Slot::Filled(newest)).is_some()
    }

    /// A version that is in the store now: voids a lease, replaces an older
    /// version, never makes a key. Where nothing is held, a load that began
    /// before may still be at work, and this is not known to be the newest.
    pub fn update(&mut self, generation: u64, row: &VersionedRow) {
        let place = (generation, row.key.clone());
        match self.slots.get_mut(&place) {
            Some(Slot::Lease(_)) => {
                self.slots.remove(&place);
            }
            Some(Slot::Filled(newest))
                if newest.as_ref().is_none_or(|(version, _)| *version < row.version) =>
            {
                *newest = Some((row.version, row.image.clone()));
            }
            _ => {}
        }
    }

    /// Loses a key, as an operator, an eviction or an expiry does.
    pub fn evict(&mut self, generation: u64, key: &Key) {
        self.slots.remove(&(generation, key.clone()));
    }

    /// Loses the lease of a key, if it holds one, as its expiry does.
    pub fn evict_lease(&mut self, generation: u64, key: &Key) {
        let place = (generation, key.clone());
        if matches!(self.slots.get(&place), Some(Slot::Lease(_))) {
            self.slots.remove(&place);
        }
    }

    /// Loses everything, as FLUSHALL does.
    pub fn flush(&mut self) {
        self.slots.clear();
    }

    /// What it would have now after a restart.
    pub fn dump(&self) -> SharedDump {
        SharedDump(self.slots.clone())
    }

    /// Another run, with what was dumped at some time: older rows look alive.
    pub fn restart_from(&mut self, dump: &SharedDump) {
        self.run_id += 1;
        self.slots.clone_from(&dump.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATION: u64 = 3;

    fn key() -> Key {
        Key::from_canonical("[1]")
    }

    fn version(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    fn row(offset: u64) -> VersionedRow {
        VersionedRow { key: key(), version: version(offset), image: Some("{}".into()) }
    }

    fn read(model: &mut SharedModel, token: u64) -> SharedRead {
        model.read_or_lease(GENERATION, &key(), token)
    }

    fn filled(offset: u64) -> SharedModel {
        let mut model = SharedModel::default();
        assert_eq!(read(&mut model, 1), SharedRead::Leased);
        let row = row(offset);
        assert!(model.fill(GENERATION, &key(), Some((row.version, row.image)), 1));
        model
    }

    #[test]
    fn one_load_at_a_time_may_fill() {
        let mut model = SharedModel::default();
        assert_eq!(read(&mut model, 1), SharedRead::Leased);
        assert_eq!(read(&mut model, 2), SharedRead::Busy);
        assert!(!model.fill(GENERATION, &key(), None, 2));
        assert!(model.fill(GENERATION, &key(), None, 1));
        assert_eq!(read(&mut model, 2), SharedRead::Absent);
    }

    /// Take the `Slot::Lease` arm out of `update` to see it fail.
    #[test]
    fn a_change_voids_the_lease() {
        let mut model = SharedModel::default();
        assert_eq!(read(&mut model, 1), SharedRead::Leased);
        model.update(GENERATION, &row(20));
        assert!(!model.fill(GENERATION, &key(), None, 1));
        assert_eq!(read(&mut model, 2), SharedRead::Leased);
    }

    /// Take the comparison of versions out of `update` to see it fail.
    #[test]
    fn an_older_version_replaces_nothing() {
        let mut model = filled(20);
        model.update(GENERATION, &VersionedRow { image: None, ..row(10) });
        assert!(matches!(read(&mut model, 2), SharedRead::Hit { image: Some(_), .. }));
        model.update(GENERATION, &VersionedRow { image: None, ..row(30) });
        assert_eq!(read(&mut model, 2), SharedRead::Hit { version: version(30), image: None });
    }

    #[test]
    fn a_change_makes_no_key() {
        let mut model = SharedModel::default();
        model.update(GENERATION, &row(20));
        assert_eq!(read(&mut model, 1), SharedRead::Leased);
    }

    #[test]
    fn another_generation_knows_nothing_of_it() {
        let mut model = filled(20);
        assert_eq!(model.read_or_lease(GENERATION + 1, &key(), 1), SharedRead::Leased);
    }

    #[test]
    fn a_restart_brings_back_what_was_dumped_under_another_run_id() {
        let mut model = filled(10);
        let (dump, run_id) = (model.dump(), model.run_id());
        model.update(GENERATION, &row(20));
        model.restart_from(&dump);
        assert_eq!(read(&mut model, 2), SharedRead::Hit { version: version(10), image: Some("{}".into()) });
        assert_ne!(model.run_id(), run_id);
    }
}
