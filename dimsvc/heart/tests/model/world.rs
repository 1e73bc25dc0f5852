//! A whole deployment in one schedule: a log, a store, a shared tier, replicas
//! that follow at their own pace, a writer that changes, readers that judge
//! every answer, and bad luck.

use crate::{
    log::{Event, Log, Place},
    outside::{Atomic, Cell, ModelTier, Server, Store, TierKind},
    replica::Replica,
    writer::write_behind,
};
use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tidemark_heart::shared::SharedDump;
use tidemark_proto::Position;

/// What all processes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) server: Server,
    pub(crate) cell: Atomic<Cell>,
    pub(crate) has_shared: bool,
    /// Loads and updates may fail.
    pub(crate) unlucky: bool,
    /// Reads of tiers beneath memory so far.
    pub(crate) loads: AtomicU64,
    tokens: AtomicU64,
}

/// What a schedule is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) tiers: &'static [TierKind],
    pub(crate) keys: usize,
    pub(crate) events: usize,
    pub(crate) replicas: usize,
    pub(crate) readers: usize,
    /// Another process starts from the store on the way.
    pub(crate) late: bool,
    pub(crate) has_shared: bool,
    /// Evictions, invalidations, restarts of the server: as many.
    pub(crate) mishaps: usize,
}

impl World {
    /// A store with the first rows of a log, all of them durable.
    pub(crate) fn new(log: Log, has_shared: bool, unlucky: bool) -> Self {
        let store = Store::default();
        log.first_rows().for_each(|(table, row)| store.write(table, &row));
        let durable = crate::log::at(crate::log::FLOOR);
        let server = Server::default();
        let run_id = Some(server.connect().run_id);
        Self {
            log,
            store,
            server,
            cell: Atomic::new(Cell { term: 0, durable, generation: 0, run_id }),
            has_shared,
            unlucky,
            loads: AtomicU64::new(0),
            tokens: AtomicU64::new(1),
        }
    }

    pub(crate) fn new_token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn gives_up(&self) -> bool {
        self.unlucky && thread_rng().gen_bool(0.1)
    }

    pub(crate) fn loses_update(&self) -> bool {
        self.unlucky && thread_rng().gen_bool(0.1)
    }

    /// Makes what an event wrote durable.
    pub(crate) fn store_rows(&self, event: &Event) {
        for (place, row) in event.rows() {
            self.store.write(place.table, &row);
        }
    }

    /// A process that has the whole store to begin with.
    pub(crate) fn replica(&self, tiers: &[TierKind]) -> Replica {
        let replica = Replica::starting(&self.log, 0, tiers, &self.cell.lock());
        replica.fill(self);
        replica.complete();
        replica
    }
}

impl Cast {
    /// Plays one schedule of a random log.
    pub(crate) fn play(self) {
        let log = Log::random(self.tiers.len(), self.keys, self.events);
        let world = Arc::new(World::new(log, self.has_shared, self.mishaps > 0));
        let replicas: Vec<_> = (0..self.replicas).map(|_| Arc::new(world.replica(self.tiers))).collect();
        let mut tasks = Vec::new();
        for replica in &replicas {
            tasks.push(spawn((&world, replica), |world, replica| replica.follow(&world.log)));
            for _ in 0..self.readers {
                tasks.push(spawn((&world, replica), |world, replica| read_batches(world, replica, 3)));
            }
        }
        let first = replicas.first().expect("there is a process");
        let until = thread_rng().gen_range(0..=self.events);
        tasks.push(spawn((&world, first), move |world, own| write_behind(world, own, until)));
        if let Some(second) = replicas.get(1) {
            // Takes over, whether or not the first knows.
            tasks.push(spawn((&world, second), |world, own| write_behind(world, own, usize::MAX)));
        }
        for replica in &replicas {
            tasks.push(spawn((&world, replica), |world, replica| {
                for _ in 0..2 {
                    let cell = *world.cell.lock();
                    replica.learn(&world.log, &cell);
                }
            }));
        }
        if self.mishaps > 0 {
            let (world, replicas) = (Arc::clone(&world), replicas.clone());
            tasks.push(thread::spawn(move || mishaps(&world, &replicas, self.mishaps)));
        }
        if self.late {
            let world = Arc::clone(&world);
            tasks.push(thread::spawn(move || join_late(&world, self.tiers)));
        }
        for task in tasks {
            task.join().expect("a panic ends the schedule");
        }
        for replica in &replicas {
            read_batches(&world, replica, 1);
        }
    }
}

fn spawn(
    (world, replica): (&Arc<World>, &Arc<Replica>),
    task: impl FnOnce(&World, &Replica) + Send + 'static,
) -> thread::JoinHandle<()> {
    let (world, replica) = (Arc::clone(world), Arc::clone(replica));
    thread::spawn(move || task(&world, &replica))
}

/// A process that starts from what is durable at some moment.
fn join_late(world: &Arc<World>, tiers: &'static [TierKind]) {
    let cell = *world.cell.lock();
    let durable = world.log.events.iter().take_while(|event| event.end <= cell.durable).count();
    // The checkpoint is not ahead of what is durable.
    let next = thread_rng().gen_range(0..=durable);
    let replica = Arc::new(Replica::starting(&world.log, next, tiers, &cell));
    let feed = spawn((world, &replica), |world, replica| replica.follow(&world.log));
    replica.fill(world);
    replica.complete();
    read_batches(world, &replica, 2);
    feed.join().expect("a panic ends the schedule");
    read_batches(world, &replica, 1);
}

/// Reads every key of every table at one position, and judges every answer. As
/// each is the truth at the same position, no transaction is seen in part.
pub(crate) fn read_batches(world: &World, replica: &Replica, batches: usize) {
    for _ in 0..batches {
        if !replica.is_complete() {
            return;
        }
        let wanted = match thread_rng().gen_range(0..3) {
            0 => None,
            1 => Some(reach(world, replica)),
            _ => {
                let past = thread_rng().gen_range(crate::log::FLOOR - 2..=replica.applied().offset());
                Some(crate::log::at(past))
            }
        };
        let applied = replica.applied();
        if let Some(wanted) = wanted {
            assert!(applied >= wanted, "stale: {applied} is before {wanted}");
        }
        let position = wanted.unwrap_or(applied);
        let (_, before_history) = replica.cache(0).resolve(position);
        assert_eq!(before_history, position <= crate::log::at(crate::log::FLOOR));
        for table in 0..world.log.tables {
            for key in 0..world.log.keys {
                let place = Place { table, key };
                if let Some(answer) = replica.read(world, place, position) {
                    world.log.judge(place, (position, applied), &answer);
                }
            }
        }
    }
}

/// Waits until a position is applied. A process that has applied less answers
/// nothing meanwhile.
fn reach(world: &World, replica: &Replica) -> Position {
    let event = thread_rng().gen_range(0..world.log.events.len());
    let wanted = world.log.events.get(event).expect("an event of the log").end;
    while replica.applied() < wanted {
        thread::yield_now();
    }
    wanted
}

/// What goes wrong in a deployment, in any order.
fn mishaps(world: &World, replicas: &[Arc<Replica>], count: usize) {
    let mut dumps: Vec<SharedDump> = vec![world.server.dump()];
    for _ in 0..count {
        let pick = thread_rng().gen_range(0..world.log.tables * world.log.keys);
        let place = Place { table: pick % world.log.tables, key: pick / world.log.tables };
        let replica = replicas.get(thread_rng().gen_range(0..replicas.len())).expect("a process");
        let cache = replica.cache(place.table);
        let generation = world.cell.lock().generation;
        match thread_rng().gen_range(0..9) {
            0 | 1 => ModelTier::evict(cache.tier(), place),
            2 => cache.invalidate(place.key().as_bytes()),
            3 => cache.invalidate_all(),
            4 => world.server.evict(generation, place),
            5 => world.server.evict_lease(generation, place),
            6 => world.server.flush(),
            7 => dumps.push(world.server.dump()),
            _ => {
                let dump = dumps.get(thread_rng().gen_range(0..dumps.len())).expect("there is one");
                world.server.restart_from(dump);
            }
        }
    }
}
