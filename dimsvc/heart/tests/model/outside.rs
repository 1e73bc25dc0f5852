//! Stand-ins for what is plugged in around the heart: a store, the server of
//! the shared tier, the cell that the writer publishes in, a tier that loses
//! rows.
//!
//! Each call is a step of its own, so that the scheduler may run anything
//! between two rows of a batch. The server's rules are the heart's own
//! `SharedModel`; that the real one obeys them too is tested where it is used.

use crate::log::Place;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tidemark_heart::{
    FullTier, Image, NoTier, Resident, Row, Tier, VersionedRow,
    shared::{Newest, SharedDump, SharedModel, SharedRead},
    supersedes,
};
use tidemark_proto::Position;

/// What is read or written in one step, before which any other thread may run.
#[derive(Debug, Default)]
pub(crate) struct Atomic<T> {
    step: AtomicBool,
    content: Mutex<T>,
}

impl<T> Atomic<T> {
    pub(crate) fn new(content: T) -> Self {
        Self { step: AtomicBool::new(false), content: Mutex::new(content) }
    }

    /// To be dropped before anything else of the world is touched.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        // The scheduler switches threads here; the lock itself is always free.
        self.step.load(Ordering::SeqCst);
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Versions = BTreeMap<Position, Image>;

/// Every version of every row.
#[derive(Debug, Default)]
pub(crate) struct Store(Atomic<BTreeMap<(usize, Vec<u8>), Versions>>);

impl Store {
    pub(crate) fn write(&self, table: usize, row: &VersionedRow) {
        let place = (table, row.key.as_bytes().to_vec());
        self.0.lock().entry(place).or_default().insert(row.version, row.image.clone());
    }

    /// The greatest version below `before`.
    pub(crate) fn read(&self, place: Place, before: Position) -> Newest {
        let rows = self.0.lock();
        let versions = rows.get(&(place.table, place.key().as_bytes().to_vec()))?;
        versions.range(..before).next_back().map(|(version, image)| (*version, image.clone()))
    }
}

/// The server of the shared tier. A connection is of one run of it.
#[derive(Debug, Default)]
pub(crate) struct Server(Atomic<SharedModel>);

/// All calls of one connection fail once the server has another run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection<'s> {
    server: &'s Server,
    pub(crate) run_id: u64,
}

fn name(place: Place) -> tidemark_heart::Key {
    tidemark_heart::Key::from_canonical(format!("{}:{}", place.table, place.key))
}

impl Server {
    pub(crate) fn connect(&self) -> Connection<'_> {
        Connection { server: self, run_id: self.0.lock().run_id() }
    }

    pub(crate) fn dump(&self) -> SharedDump {
        self.0.lock().dump()
    }

    pub(crate) fn restart_from(&self, dump: &SharedDump) {
        self.0.lock().restart_from(dump);
    }

    pub(crate) fn flush(&self) {
        self.0.lock().flush();
    }

    pub(crate) fn evict(&self, generation: u64, place: Place) {
        self.0.lock().evict(generation, &name(place));
    }

    pub(crate) fn evict_lease(&self, generation: u64, place: Place) {
        self.0.lock().evict_lease(generation, &name(place));
    }
}

impl Connection<'_> {
    fn call<T>(&self, command: impl FnOnce(&mut SharedModel) -> T) -> Option<T> {
        let mut server = self.server.0.lock();
        (server.run_id() == self.run_id).then(|| command(&mut server))
    }

    pub(crate) fn read_or_lease(&self, generation: u64, place: Place, token: u64) -> Option<SharedRead> {
        self.call(|server| server.read_or_lease(generation, &name(place), token))
    }

    pub(crate) fn fill(&self, generation: u64, place: Place, newest: Newest, token: u64) -> Option<bool> {
        self.call(|server| server.fill(generation, &name(place), newest, token))
    }

    pub(crate) fn update(&self, generation: u64, place: Place, row: VersionedRow) -> Option<()> {
        self.call(|server| server.update(generation, &VersionedRow { key: name(place), ..row }))
    }
}

/// What the writer publishes, in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) term: u64,
    pub(crate) durable: Position,
    pub(crate) generation: u64,
    /// None: nobody may use the shared tier.
    pub(crate) run_id: Option<u64>,
}

/// A tier that loses rows at any moment, as an eviction or an expiry does. It
/// stands for the `lru` tier.
#[derive(Debug, Default)]
pub(crate) struct EvictingTier(Atomic<BTreeMap<Vec<u8>, Row>>);

impl EvictingTier {
    /// Under no lock of the heart.
    pub(crate) fn evict(&self, place: Place) {
        self.0.lock().remove(place.key().as_bytes());
    }

    fn put(&self, row: &Row, takes_the_place: impl Fn(&Row, &Row) -> bool) {
        match self.0.lock().entry(row.key().to_vec()) {
            Entry::Occupied(entry) if !takes_the_place(row, entry.get()) => {}
            Entry::Occupied(mut entry) => *entry.get_mut() = row.clone(),
            Entry::Vacant(entry) => {
                entry.insert(row.clone());
            }
        }
    }
}

impl Resident for EvictingTier {
    fn tier(&self) -> Tier {
        Tier::Lru
    }

    fn get(&self, key: &[u8]) -> Option<Row> {
        self.0.lock().get(key).cloned()
    }

    fn absent_after(&self) -> Option<Position> {
        None
    }

    fn install(&self, row: &Row) {
        self.put(row, supersedes);
    }

    fn replace(&self, row: &Row) {
        // Two steps, as with a cache that evicts in between.
        if self.get(row.key()).is_some() {
            self.put(row, supersedes);
        }
    }

    fn force(&self, row: &Row) {
        self.put(row, |_, _| true);
    }

    fn remove(&self, key: &[u8]) {
        self.0.lock().remove(key);
    }

    fn clear(&self, _: Option<Position>) {
        self.0.lock().clear();
    }

    fn rows(&self) -> u64 {
        self.0.lock().len() as u64
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// The tier of a modelled table.
#[derive(Debug)]
pub(crate) enum ModelTier {
    Evicting(EvictingTier),
    Full(FullTier),
    None(NoTier),
}

/// Which tier a modelled table gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TierKind {
    Evicting,
    Full,
    None,
}

impl ModelTier {
    pub(crate) fn new(kind: TierKind, floor: Position) -> Self {
        match kind {
            TierKind::Evicting => Self::Evicting(EvictingTier::default()),
            TierKind::Full => Self::Full(FullTier::new(floor)),
            TierKind::None => Self::None(NoTier),
        }
    }

    pub(crate) fn evict(&self, place: Place) {
        if let Self::Evicting(tier) = self {
            tier.evict(place);
        }
    }

    fn inner(&self) -> &dyn Resident {
        match self {
            Self::Evicting(tier) => tier,
            Self::Full(tier) => tier,
            Self::None(tier) => tier,
        }
    }
}

impl Resident for ModelTier {
    fn tier(&self) -> Tier {
        self.inner().tier()
    }

    fn get(&self, key: &[u8]) -> Option<Row> {
        self.inner().get(key)
    }

    fn absent_after(&self) -> Option<Position> {
        self.inner().absent_after()
    }

    fn install(&self, row: &Row) {
        self.inner().install(row);
    }

    fn replace(&self, row: &Row) {
        self.inner().replace(row);
    }

    fn force(&self, row: &Row) {
        self.inner().force(row);
    }

    fn remove(&self, key: &[u8]) {
        self.inner().remove(key);
    }

    fn clear(&self, at: Option<Position>) {
        self.inner().clear(at);
    }

    fn rows(&self) -> u64 {
        self.inner().rows()
    }

    fn bytes(&self) -> u64 {
        self.inner().bytes()
    }
}
