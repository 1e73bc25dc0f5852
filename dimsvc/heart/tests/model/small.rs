//! Small cases: two threads and the few steps that a rule is about, in every
//! order that there is, or in many where those are too many.

use crate::{
    log::{Log, Place, What, at},
    outside::{Cell, TierKind},
    replica::Replica,
    schedules,
    world::World,
};
use bytes::Bytes;
use shuttle::thread;
use std::sync::{Arc, atomic::Ordering};
use tidemark_heart::{Image, Peek, VersionedRow};
use tidemark_proto::Position;

/// Far more than any of these takes.
const ORDERS_MAX: usize = 60_000;

const KEY: Place = Place { table: 0, key: 0 };

fn image(number: u64) -> Image {
    Some(Bytes::from(format!(r#"{{"v":{number}}}"#)))
}

fn changes(images: &[Image]) -> Vec<What> {
    images.iter().map(|image| What::Rows(vec![(KEY, image.clone())])).collect()
}

struct Case {
    world: Arc<World>,
    replica: Arc<Replica>,
}

impl Case {
    fn new(tier: TierKind, whats: Vec<What>) -> Self {
        let world = Arc::new(World::new(Log::of_one_table(1, whats), false, false));
        let replica = Arc::new(world.replica(&[tier]));
        Self { world, replica }
    }

    fn with_shared(whats: Vec<What>) -> Self {
        let world = Arc::new(World::new(Log::of_one_table(1, whats), true, false));
        let replica = Arc::new(world.replica(&[TierKind::Evicting]));
        Self { world, replica }
    }

    fn beside(&self, task: impl FnOnce(&World, &Replica) + Send + 'static) -> thread::JoinHandle<()> {
        let (world, replica) = (Arc::clone(&self.world), Arc::clone(&self.replica));
        thread::spawn(move || task(&world, &replica))
    }

    /// Reads the newest and judges it.
    fn read(&self) {
        read(&self.world, &self.replica);
    }
}

fn read(world: &World, replica: &Replica) {
    let applied = replica.applied();
    let answer = replica.read(world, KEY, applied).expect("no read fails here");
    world.log.judge(KEY, (applied, applied), &answer);
}

/// The writer's order, one event.
fn store(world: &World, replica: &Replica, event: usize) {
    let event = world.log.events.get(event).expect("an event of the case");
    world.store_rows(event);
    let cell = {
        let mut cell = world.cell.lock();
        cell.durable = event.end;
        *cell
    };
    replica.learn(&world.log, &cell);
}

/// Rule 1. Fails without `flights.hand_over` in `apply`.
#[test]
fn a_slow_load_fills_in_nothing_old() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Evicting, changes(&[image(1)]));
        let feed = case.beside(|world, replica| replica.follow(&world.log));
        case.read();
        feed.join().expect("judged");
        case.read();
    });
}

/// Rule 1. Fails when `begin_load` does not look into the overlay first.
#[test]
fn a_load_that_begins_between_apply_and_store_knows_the_change() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Evicting, changes(&[image(1)]));
        case.replica.follow(&case.world.log);
        let feed = case.beside(|world, replica| store(world, replica, 0));
        case.read();
        feed.join().expect("judged");
        case.read();
    });
}

/// Rule 5. Fails when `apply` does not replace what the tier holds.
#[test]
fn an_insert_ends_a_proof_of_absence() {
    schedules::all(ORDERS_MAX, || {
        let log = Log::of_one_table(0, changes(&[image(1)]));
        let world = Arc::new(World::new(log, false, false));
        let replica = Arc::new(world.replica(&[TierKind::Evicting]));
        let case = Case { world, replica };
        case.read();
        let feed = case.beside(|world, replica| replica.follow(&world.log));
        case.read();
        feed.join().expect("judged");
        case.read();
    });
}

/// Rule 5. Fails when a delete moves `absent_after` not before, but after its
/// row goes.
#[test]
fn a_full_table_proves_absence_after_the_last_delete_alone() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Full, changes(&[None]));
        let feed = case.beside(|world, replica| replica.follow(&world.log));
        case.read();
        feed.join().expect("judged");
        case.read();
    });
}

/// Rule 9. Fails when `truncate` leaves the tier as it is.
#[test]
fn a_truncation_hides_all_rows_at_once() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Full, vec![What::Truncate(0)]);
        let feed = case.beside(|world, replica| replica.follow(&world.log));
        case.read();
        feed.join().expect("judged");
        case.read();
    });
}

/// Rule 9. A process that is behind learns of a column to come. Fails when
/// `adopt` takes it: rows from before are then held for newer ones than the
/// changes that are still to be applied.
#[test]
fn what_is_still_to_come_is_not_adopted() {
    schedules::all(ORDERS_MAX, || {
        let mut whats = changes(&[image(1)]);
        whats.push(What::AddColumn(0));
        let case = Case::new(TierKind::Evicting, whats);
        let durable = case.world.log.end();
        let cell = Cell { durable, ..*case.world.cell.lock() };
        case.replica.learn(&case.world.log, &cell);
        case.read();
        case.replica.follow(&case.world.log);
        case.read();
    });
}

/// Rule 8. Fails when `begin_load` joins no one, or looks not once more at the
/// tier.
#[test]
fn two_callers_of_a_missing_key_cost_one_read() {
    schedules::many(|| {
        let case = Case::new(TierKind::Evicting, changes(&[image(1)]));
        let other = case.beside(read);
        case.read();
        other.join().expect("judged");
        assert_eq!(case.world.loads.load(Ordering::Relaxed), 1);
    });
}

/// Rule 8. Fails when a load that is dropped stays registered: who comes later
/// waits for ever.
#[test]
fn a_load_that_is_given_up_is_not_remembered() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Evicting, changes(&[image(1)]));
        let other = case.beside(|_, replica| replica.give_up(KEY));
        while case.replica.load(&case.world, KEY).is_none() {}
        other.join().expect("nothing to judge");
        case.read();
        assert_eq!(case.replica.cache(0).flights(), 0);
    });
}

/// A repair, below which nothing is known. Fails when `repaired` does not hand
/// its rows to loads at work, or not to the tier.
#[test]
fn a_repair_reaches_what_is_loaded_meanwhile() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Evicting, changes(&[image(1)]));
        case.replica.follow(&case.world.log);
        store(&case.world, &case.replica, 0);
        let applied = case.replica.applied();
        let version = applied.before();
        let repair = case.beside(move |world, replica| {
            let row = VersionedRow { key: KEY.key(), version, image: image(2) };
            world.store.write(KEY.table, &row);
            replica.cache(0).repaired(version, &[(row.key, row.image)]);
            replica.cache(0).add_unknown(at(crate::log::FLOOR), applied);
        });
        case.replica.load(&case.world, KEY);
        repair.join().expect("nothing to judge");
        let found = case.replica.read(&case.world, KEY, applied).expect("no read fails here");
        assert_eq!((found.image(), found.from), (image(2).as_deref(), version));
    });
}

/// Rule 4. Fails when `peek` takes a row that is newer than the position.
#[test]
fn a_batch_reads_below_a_change_that_overtakes_it() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Evicting, changes(&[image(1)]));
        case.read();
        let applied = case.replica.applied();
        let feed = case.beside(|world, replica| replica.follow(&world.log));
        let answer = case.replica.read(&case.world, KEY, applied).expect("no read fails here");
        case.world.log.judge(KEY, (applied, applied), &answer);
        feed.join().expect("nothing to judge");
    });
}

/// Rule 3. The image that a change replaced answers without a read of the
/// store. Fails when `apply` does not hand it to the overlay.
#[test]
fn the_image_before_a_change_is_kept_for_batches_at_work() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::Evicting, changes(&[image(1)]));
        case.read();
        let before = case.replica.applied();
        case.replica.follow(&case.world.log);
        let cache = case.replica.cache(0);
        assert!(matches!(cache.peek(KEY.key().as_bytes(), before), Peek::Older));
        let found = cache.older(KEY.key().as_bytes(), before).expect("the overlay has it");
        case.world.log.judge(KEY, (before, case.replica.applied()), &found.answer);
    });
}

/// Rule 3, for indexes, which are read from overlay and store alone. Fails when
/// the store is read before the overlay, or the overlay forgets what is not
/// durable.
#[test]
fn a_scan_of_overlay_and_then_store_has_every_row() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::new(TierKind::None, changes(&[image(1), image(2)]));
        case.replica.follow(&case.world.log);
        let writer = case.beside(|world, replica| store(world, replica, 0));
        let applied = case.replica.applied();
        for position in [at(crate::log::FLOOR + 1), applied] {
            let answer = case.replica.scan(&case.world, KEY, position);
            case.world.log.judge(KEY, (position, applied), &answer);
        }
        writer.join().expect("nothing to judge");
    });
}

/// Rule 2. Fails when the tier takes an older row.
#[test]
fn a_scan_that_fills_a_full_table_leaves_newer_rows() {
    schedules::many(|| fill_beside_the_feed(changes(&[image(1), image(2)])));
}

/// Rule 5. Fails when a truncation that comes while the tier is filled removes
/// what was there before it.
#[test]
fn a_scan_that_fills_a_full_table_brings_nothing_back() {
    schedules::many(|| {
        let mut whats = changes(&[image(1), image(2)]);
        whats.push(What::Truncate(0));
        fill_beside_the_feed(whats);
    });
}

/// A process that starts when the first change is durable.
fn fill_beside_the_feed(whats: Vec<What>) {
    let world = Arc::new(World::new(Log::of_one_table(1, whats), false, false));
    store(&world, &world.replica(&[TierKind::None]), 0);
    let cell = *world.cell.lock();
    let replica = Arc::new(Replica::starting(&world.log, 1, &[TierKind::Full], &cell));
    let case = Case { world, replica };
    let before = case.replica.applied();
    let feed = case.beside(|world, replica| replica.follow(&world.log));
    case.replica.fill(&case.world);
    feed.join().expect("nothing to judge");
    let applied = case.replica.applied();
    for position in [before, applied] {
        let answer = case.replica.read(&case.world, KEY, position).expect("no read fails here");
        case.world.log.judge(KEY, (position, applied), &answer);
    }
}

/// Shared tier, line 1. Fails when an update leaves the lease alone, or a fill
/// does not ask for its own.
#[test]
fn a_slow_fill_is_refused_once_the_row_has_changed() {
    schedules::many(|| {
        let case = Case::with_shared(changes(&[image(1)]));
        let slow = case.beside(|world, replica| {
            replica.load(world, KEY);
        });
        update_and_store(&case);
        slow.join().expect("nothing to judge");
        judge_another_replica(&case);
    });
}

/// Shared tier, line 1. Fails when an update makes a key.
#[test]
fn a_late_update_makes_no_key() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::with_shared(changes(&[image(1), image(2)]));
        update_and_store(&case);
        case.world.server.evict(0, KEY);
        late_update(&case);
        judge_another_replica(&case);
    });
}

/// Rule 2, and the shared tier's line 1. Fails when an update replaces a newer
/// row.
#[test]
fn a_late_update_replaces_no_newer_row() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::with_shared(changes(&[image(1), image(2)]));
        update_and_store(&case);
        judge_another_replica(&case);
        late_update(&case);
        judge_another_replica(&case);
    });
}

/// Shared tier, line 2. Fails when a reader does not compare its connection's
/// run with the published one.
#[test]
fn a_server_that_starts_from_an_old_dump_is_not_used() {
    schedules::all(ORDERS_MAX, || {
        let case = Case::with_shared(changes(&[image(1)]));
        case.read();
        let dump = case.world.server.dump();
        update_and_store(&case);
        case.world.server.restart_from(&dump);
        judge_another_replica(&case);
    });
}

/// Shared tier, line 2. Fails when a process forgets before it knows the new
/// generation, or a load takes the one that it knows before it is registered.
#[test]
fn a_generation_is_left_before_versions_are_forgotten() {
    schedules::all(ORDERS_MAX, || {
        let (case, _, raised) = after_a_lost_update();
        let learner = case.beside(move |world, replica| replica.learn(&world.log, &raised));
        case.read();
        learner.join().expect("nothing to judge");
    });
}

/// Shared tier, line 2. Fails when what was read of the cell earlier is learned
/// after what was read later.
#[test]
fn an_older_cell_brings_no_generation_back() {
    schedules::all(ORDERS_MAX, || {
        let (case, before, raised) = after_a_lost_update();
        case.replica.learn(&case.world.log, &raised);
        case.replica.learn(&case.world.log, &before);
        case.read();
    });
}

/// A change that is applied and stored, and that the shared tier does not have:
/// the cell before it, and the one that is published for it.
fn after_a_lost_update() -> (Case, Cell, Cell) {
    let world = World::new(Log::of_one_table(1, changes(&[image(1)])), true, false);
    let replica = Arc::new(world.replica(&[TierKind::None]));
    let case = Case { world: Arc::new(world), replica };
    case.read();
    let before = *case.world.cell.lock();
    for event in &case.world.log.events {
        case.replica.apply(event);
        case.world.store_rows(event);
    }
    let raised = Cell { durable: case.world.log.end(), generation: before.generation + 1, ..before };
    (case, before, raised)
}

/// Everything applied, stored, updated in the shared tier, published.
fn update_and_store(case: &Case) {
    let Case { world, replica } = case;
    let connection = world.server.connect();
    for (number, event) in world.log.events.iter().enumerate() {
        replica.apply(event);
        for (place, row) in event.rows() {
            world.store.write(place.table, &row);
            connection.update(0, place, row).expect("the server runs");
        }
        store(world, replica, number);
    }
}

/// A writer that lost its lease brings the first change once more.
fn late_update(case: &Case) {
    let connection = case.world.server.connect();
    let first = case.world.log.events.iter().flat_map(|event| event.rows()).next();
    let (place, row) = first.expect("the case has a change");
    connection.update(0, place, row).expect("the server runs");
}

/// Reads the newest in a process whose memory is empty.
fn judge_another_replica(case: &Case) {
    let cell = *case.world.cell.lock();
    let events = case.world.log.events.len();
    let replica = Replica::starting(&case.world.log, events, &[TierKind::Evicting], &cell);
    let applied: Position = replica.applied();
    assert_eq!(applied, case.world.log.end());
    read(&case.world, &replica);
}
