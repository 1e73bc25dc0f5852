//! One process: a heart for each table, what it has applied, and what it knows
//! of the writer's cell. It applies, forgets and reads as the service does.

use crate::{
    log::{Event, Log, Place, What, at},
    outside::{Atomic, Cell, Connection, ModelTier, TierKind},
    world::World,
};
use shuttle::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::sync::Arc;
use tidemark_heart::{
    Answer, DimensionCache, Found, Keeps, Load, LoadStart, Loaded, Peek, Row, Tier,
    shared::{Newest, SharedRead},
};
use tidemark_proto::Position;

pub(crate) type Cache = DimensionCache<ModelTier, Arc<Outcome>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Replica {
    caches: Vec<Arc<Cache>>,
    /// The next event of the log.
    next: usize,
    applied: AtomicU64,
    /// Generation and run of the shared tier, as last published.
    shared: Atomic<(u64, Option<u64>)>,
    complete: AtomicBool,
}

/// What those who joined a load wait for: what it found, or that it was given
/// up.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    found: Mutex<Option<Option<Found>>>,
    ready: Condvar,
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, Option<Option<Found>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, found: Option<Found>) {
        self.lock().get_or_insert(found);
        self.ready.notify_all();
    }

    fn wait(&self) -> Option<Found> {
        let found = self.lock();
        let found = self.ready.wait_while(found, |found| found.is_none());
        found.expect("no panics elsewhere").clone().flatten()
    }
}

/// The right to fill one key into the shared tier.
struct Lease<'s> {
    connection: Connection<'s>,
    generation: u64,
    token: u64,
}

impl Replica {
    /// A process that follows from the event `next` on, has all before it from
    /// the store, and knows what the cell says.
    pub(crate) fn starting(log: &Log, next: usize, tiers: &[TierKind], cell: &Cell) -> Self {
        let cache = |(table, kind): (usize, &TierKind)| {
            let timeline = log.timeline(table, cell.durable);
            let tier = ModelTier::new(*kind, timeline.floor());
            Arc::new(Cache::new(tier, timeline, Keeps::Versions))
        };
        // As the cell tells it: it may know more than is applied here.
        let applied = next.checked_sub(1).and_then(|last| log.events.get(last)).map(|event| event.end);
        Self {
            caches: tiers.iter().enumerate().map(cache).collect(),
            next,
            applied: AtomicU64::new(applied.unwrap_or(at(crate::log::FLOOR)).packed()),
            shared: Atomic::new((cell.generation, cell.run_id)),
            complete: AtomicBool::new(false),
        }
    }

    pub(crate) fn cache(&self, table: usize) -> &Arc<Cache> {
        self.caches.get(table).expect("a table of the model")
    }

    pub(crate) fn applied(&self) -> Position {
        Position::from_packed(self.applied.load(Ordering::SeqCst))
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst)
    }

    /// Applies the rest of the log.
    pub(crate) fn follow(&self, log: &Log) {
        for event in log.events.iter().skip(self.next) {
            self.apply(event);
        }
    }

    /// Everything of the event is in memory before `applied` moves over it.
    pub(crate) fn apply(&self, event: &Event) {
        for (table, cache) in self.caches.iter().enumerate() {
            let changes = event.changes(table);
            if !changes.is_empty() {
                cache.apply(event.begin, &changes);
            }
            match event.what {
                What::Truncate(of) if of == table => cache.truncate(event.begin),
                What::AddColumn(of) if of == table => cache.add_columns(event.added_columns()),
                _ => {}
            }
        }
        self.applied.store(event.end.packed(), Ordering::SeqCst);
    }

    /// Learns what was published. Readers must know of a new generation before
    /// the versions that the shared tier may lack are let go.
    pub(crate) fn learn(&self, log: &Log, cell: &Cell) {
        for (table, cache) in self.caches.iter().enumerate() {
            cache.adopt(&log.timeline(table, cell.durable), self.applied());
        }
        {
            // Who polls the cell may come late with what he has read.
            let mut shared = self.shared.lock();
            if shared.0 <= cell.generation {
                *shared = (cell.generation, cell.run_id);
            }
        }
        for cache in &self.caches {
            cache.forget(cell.durable);
        }
    }

    /// Makes every row resident in the tables that want it, while changes go
    /// on.
    pub(crate) fn fill(&self, world: &World) {
        for (table, cache) in self.caches.iter().enumerate() {
            let ModelTier::Full(tier) = cache.tier() else { continue };
            cache.with_tier(|_, undurable| {
                tier.begin_fill();
                undurable.for_each(|row| tidemark_heart::Resident::install(tier, row));
            });
            for key in 0..world.log.keys {
                let place = Place { table, key };
                if let Some((version, image)) = world.store.read(place, Position::MAX) {
                    let row = Row::new(place.key().as_bytes(), version, image.as_deref());
                    cache.with_tier(|_, _| tidemark_heart::Resident::install(tier, &row));
                }
            }
            cache.with_tier(|_, _| tier.end_fill());
        }
    }

    /// Answers from here on: once all that its timelines tell of is applied.
    pub(crate) fn complete(&self) {
        let latest = self.caches.iter().map(|cache| cache.timeline().latest()).max();
        while latest.is_some_and(|latest| self.applied() < latest) {
            shuttle::thread::yield_now();
        }
        self.complete.store(true, Ordering::SeqCst);
    }

    /// Reads a key at a position that is not beyond an `applied` loaded before.
    /// None: the read failed.
    pub(crate) fn read(&self, world: &World, place: Place, wanted: Position) -> Option<Answer> {
        let cache = self.cache(place.table);
        let (resolved, _) = cache.resolve(wanted);
        match cache.peek(place.key().as_bytes(), resolved) {
            Peek::Hit(found) => Some(found.answer),
            Peek::Older => self.older(world, place, resolved),
            Peek::Miss => {
                let loaded = self.load(world, place)?.answer;
                if loaded.answers(resolved) { Some(loaded) } else { self.older(world, place, resolved) }
            }
        }
    }

    fn older(&self, world: &World, place: Place, resolved: Position) -> Option<Answer> {
        let cache = self.cache(place.table);
        if let Some(found) = cache.older(place.key().as_bytes(), resolved) {
            return Some(found.answer);
        }
        let stored = world.store.read(place, resolved);
        Some(cache.stored(place.key().as_bytes(), stored, resolved))
    }

    /// The newest version of a key, by one load for all who ask.
    pub(crate) fn load(&self, world: &World, place: Place) -> Option<Found> {
        let outcome = Arc::new(Outcome::default());
        match self.cache(place.table).begin_load(&place.key(), || Arc::clone(&outcome)) {
            LoadStart::Known(found) => Some(found),
            LoadStart::Joined(outcome) => outcome.wait(),
            LoadStart::Lead(load) => self.lead(world, place, (load, &outcome)),
        }
    }

    /// A load whose task ends before it has read anything.
    pub(crate) fn give_up(&self, place: Place) {
        let outcome = Arc::new(Outcome::default());
        let started = self.cache(place.table).begin_load(&place.key(), || Arc::clone(&outcome));
        if let LoadStart::Lead(load) = started {
            drop(load);
            outcome.set(None);
        }
    }

    /// Reads a key as an index is read: what is not durable, then the store.
    pub(crate) fn scan(&self, world: &World, place: Place, resolved: Position) -> Answer {
        let cache = self.cache(place.table);
        let text = place.key();
        let undurable = cache.older_by_prefix(text.as_bytes(), resolved);
        let stored = world.store.read(place, resolved);
        let newer = undurable.into_iter().find(|(key, _)| *key == text);
        newer.map_or_else(|| cache.stored(text.as_bytes(), stored, resolved), |(_, answer)| answer)
    }

    /// Reads what missed: the shared tier, asked after the load was registered,
    /// then the store. May be given up at any point.
    fn lead(
        &self,
        world: &World,
        place: Place,
        (load, outcome): (Load<ModelTier, Arc<Outcome>>, &Outcome),
    ) -> Option<Found> {
        world.loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (mut loaded, lease) = self.read_shared(world, place);
        if loaded.is_none() && !world.gives_up() {
            let version = world.store.read(place, Position::MAX);
            loaded = Some(Loaded { version, tier: Tier::Store });
        }
        let Some(loaded) = loaded else {
            // Before the outcome: who is told and asks again reads again.
            drop(load);
            outcome.set(None);
            return None;
        };
        let found = load.finish(loaded.clone());
        outcome.set(Some(found.clone()));
        if let Some(lease) = lease {
            lease.connection.fill(lease.generation, place, loaded.version, lease.token);
        }
        Some(found)
    }

    fn read_shared<'w>(&self, world: &'w World, place: Place) -> (Option<Loaded>, Option<Lease<'w>>) {
        if !world.has_shared {
            return (None, None);
        }
        let connection = world.server.connect();
        let (generation, run_id) = *self.shared.lock();
        if run_id != Some(connection.run_id) {
            return (None, None);
        }
        let token = world.new_token();
        let hit = |version: Newest| Some(Loaded { version, tier: Tier::Shared });
        match connection.read_or_lease(generation, place, token) {
            Some(SharedRead::Hit { version, image }) => (hit(Some((version, image))), None),
            Some(SharedRead::Absent) => (hit(None), None),
            Some(SharedRead::Leased) => (None, Some(Lease { connection, generation, token })),
            Some(SharedRead::Busy) | None => (None, None),
        }
    }
}
