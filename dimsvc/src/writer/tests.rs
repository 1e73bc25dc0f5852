//! The writer and the standby: nothing is forgotten before it is published,
//! nothing is lost when the role moves.

mod order;
mod published;

use super::*;
use crate::{
    cache::{Change, TierKind, Timeline},
    dimension::{Key, VersionedRow},
    gtids::RecentGtids,
    live::{Identity, LiveDimension},
    registry::Dimension,
    state::{Checkpoint, Definition, DimensionState, State},
    store::{
        ReadKey, Store,
        memory::{Failing, MemoryStore, Slow},
    },
};
use bytes::Bytes;
use parking_lot::Mutex as Locked;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

const PATIENCE: Duration = Duration::from_secs(20);
const TABLE: &str = "dim_sku";

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn key(id: u64) -> Key {
    Key::from_canonical(format!("[{id}]"))
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A shared tier that says what it is told to, can be held up, and notes what
/// its process holds when it learns of a generation.
#[derive(Clone)]
struct FakeTier {
    says: Arc<Locked<SharedUpdate>>,
    published: Arc<Locked<SharedState>>,
    gate: Arc<Semaphore>,
    /// Updates with rows that have come to the gate.
    asked: Arc<AtomicU64>,
    sku: Arc<LiveDimension>,
    held_at_rise: Arc<Locked<BTreeMap<u64, usize>>>,
}

impl FakeTier {
    fn new(sku: Arc<LiveDimension>) -> Self {
        Self {
            says: Arc::new(Locked::new(SharedUpdate::Unused)),
            published: Arc::default(),
            gate: Arc::new(Semaphore::new(1)),
            asked: Arc::default(),
            sku,
            held_at_rise: Arc::default(),
        }
    }

    fn say(&self, update: SharedUpdate) {
        *self.says.lock() = update;
    }
}

impl AfterStore for FakeTier {
    async fn update(&self, rows: &[TableRows]) -> SharedUpdate {
        if !rows.is_empty() {
            self.asked.fetch_add(1, Ordering::SeqCst);
            drop(self.gate.acquire().await.expect("the gate is never closed"));
        }
        self.says.lock().clone()
    }

    fn publish(&self, shared: &SharedState) {
        let held = self.sku.cache.overlay_versions();
        self.held_at_rise.lock().entry(shared.generation).or_insert(held);
        self.published.lock().clone_from(shared);
    }
}

/// One process over a store that it may share with others.
struct Replica {
    live: Arc<Live>,
    sku: Arc<LiveDimension>,
    queue: mpsc::Sender<Pending>,
    allowed: watch::Sender<bool>,
    tier: FakeTier,
    metrics: Arc<Metrics>,
    room: Arc<Semaphore>,
    tasks: JoinSet<Result<(), WriterError>>,
}

/// A store that was loaded, and knows one dimension.
async fn loaded_store(memory: &Arc<MemoryStore>) {
    let store = pool(Arc::clone(memory) as Arc<dyn Store>);
    store.create_table(TABLE.into()).await.unwrap();
    let checkpoint = Checkpoint { file: "binlog.000001".into(), offset: 10, gtid_set: String::new() };
    assert!(StateCells::create(&store, State::new(String::new(), checkpoint, at(10))).await.unwrap());
    let mut cells = StateCells::read(&store).await.unwrap().unwrap();
    cells.take_over("maker").await.unwrap();
    cells.add(vec![("sku".into(), stored("sku"))]).await.unwrap();
}

fn stored(name: &str) -> DimensionState {
    DimensionState {
        term: 0,
        definition: Definition::of(&Dimension::new(name, TierKind::Full)),
        timeline: Timeline::new(at(10)),
        floor_place: ("binlog.000001".into(), 10),
        complete: true,
        loaded_rows: 0,
        loaded_to: None,
        repairing: None,
    }
}

fn pool(store: Arc<dyn Store>) -> StorePool {
    // Longer than any test waits: no call ends by this.
    StorePool::new(store, 2, 64, 3 * PATIENCE)
}

impl Replica {
    async fn start(store: Arc<dyn Store>, name: &str, lease: bool) -> Self {
        Self::start_with(store, name, lease, Vec::new()).await
    }

    /// One that has more dimensions.
    async fn start_with(
        store: Arc<dyn Store>,
        name: &str,
        lease: bool,
        mut dimensions: Vec<Arc<LiveDimension>>,
    ) -> Self {
        let store = pool(store);
        let cells = StateCells::read(&store).await.unwrap().unwrap();
        let sku = Arc::new(LiveDimension::new(Dimension::new("sku", TierKind::Full), at(10)));
        sku.set_loaded();
        sku.set_complete();
        let identity =
            Identity { start: at(10), epoch: 1, server_uuid: String::new(), store_id: String::new() };
        dimensions.push(Arc::clone(&sku));
        let live = Arc::new(Live::new(dimensions, identity, RecentGtids::new(GtidSet::default())));
        let metrics = Arc::new(Metrics::try_new().unwrap());
        let (queue, pending) = mpsc::channel(4);
        let (allowed, allowing) = watch::channel(lease);
        let tier = FakeTier::new(Arc::clone(&sku));
        let writer = Writer {
            live: Arc::clone(&live),
            metrics: Arc::clone(&metrics),
            store,
            cells: Arc::new(Mutex::new(cells)),
            lease: Lease::while_allowed(allowing),
            shared: tier.clone(),
            name: name.into(),
            file_base: "binlog".into(),
            gtids: GtidSet::default(),
            overlay_bytes_max: 1 << 20,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(pending, CancellationToken::new()));
        let room = Arc::new(Semaphore::new(1 << 10));
        Self { live, sku, queue, allowed, tier, metrics, room, tasks }
    }

    /// One that is the writer already.
    async fn writer(store: Arc<dyn Store>, name: &str) -> Self {
        let replica = Self::start(store, name, true).await;
        replica.becomes(true).await;
        replica
    }

    async fn becomes(&self, writer: bool) {
        let role = self.live.role.becomes(writer);
        tokio::time::timeout(PATIENCE, role).await.expect("the role changes in time");
    }

    /// A transaction of one row, applied and given to the writer.
    async fn commit(&self, begin: u64, id: u64) {
        let image = Some(Bytes::from(format!("{{\"id\":{id}}}")));
        let change = Change { key: key(id), before: None, after: image.clone() };
        self.sku.cache.apply(at(begin), &[change]);
        self.live.applied.advance(at(begin + 1));
        let row = VersionedRow { key: key(id), version: at(begin), image };
        let rows = vec![TableRows { table: TABLE.into(), rows: vec![row] }];
        let room = Some(Arc::clone(&self.room).acquire_owned().await.unwrap());
        let pending = Pending { end: at(begin + 1), gtid: None, rows, timelines: Vec::new(), room };
        let sent = tokio::time::timeout(PATIENCE, self.queue.send(pending)).await;
        sent.expect("the queue is taken from").expect("the writer runs");
    }

    /// Versions in memory that are not durable as far as this process knows.
    fn held(&self) -> usize {
        self.sku.cache.overlay_versions()
    }

    async fn end(mut self) -> Result<(), WriterError> {
        drop(self.queue);
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
        ended.expect("it ends in time").expect("there is a task").expect("it does not panic")
    }
}

fn row_in(store: &MemoryStore, id: u64) -> bool {
    let read = store.read(TABLE, &[ReadKey { key: key(id), before: Position::MAX }]).unwrap();
    read.first().is_some_and(Option::is_some)
}

async fn state(memory: &Arc<MemoryStore>) -> State {
    StateCells::peek(&pool(Arc::clone(memory) as Arc<dyn Store>)).await.unwrap()
}

fn taken(generation: u64, run_id: &str) -> SharedUpdate {
    SharedUpdate::Taken { generation, run_id: run_id.into() }
}

fn shared(memory: &Arc<MemoryStore>) -> Arc<dyn Store> {
    Arc::clone(memory) as Arc<dyn Store>
}

#[tokio::test]
async fn what_was_applied_becomes_durable_and_is_let_go() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let replica = Replica::writer(shared(&memory), "a").await;
    for id in 0..100 {
        replica.commit(20 + id, id).await;
    }
    until("all is let go", async || replica.held() == 0).await;
    assert_eq!(replica.live.durable.get(), at(120));
    assert!(row_in(&memory, 0) && row_in(&memory, 99));
    let room = Arc::clone(&replica.room);
    replica.end().await.unwrap();
    assert_eq!(room.available_permits(), 1 << 10);
    let state = state(&memory).await;
    assert_eq!((state.durable(), state.checkpoint.offset), (at(120), 120));
}

/// Fails if `publish` calls `release` before its write of the cell: the
/// versions would be gone from memory while other replicas, and a restart, do
/// not know that they are durable.
#[tokio::test]
async fn nothing_is_let_go_before_durable_is_published() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let failing = Arc::new(Failing::new(shared(&memory)));
    failing.set_failing(false);
    let replica = Replica::writer(Arc::clone(&failing) as Arc<dyn Store>, "a").await;
    let closed = Arc::clone(&replica.tier.gate).acquire_owned().await.unwrap();
    replica.commit(20, 1).await;
    until("the row is in the store", async || row_in(&memory, 1)).await;
    // The row is durable; its publishing will fail.
    failing.set_failing(true);
    drop(closed);
    until("publishing was tried twice", async || replica.metrics.store_errors.get() >= 2).await;
    replica.commit(30, 2).await;
    assert_eq!((replica.held(), replica.live.durable.get()), (2, at(10)));
    assert_eq!(state(&memory).await.durable(), at(10));
    failing.set_failing(false);
    until("both are let go", async || replica.held() == 0).await;
    assert!(state(&memory).await.durable() >= at(31));
}

/// Fails if `stand_by` lets go of what it takes from the queue, or `observe`
/// of what lies past the cell's durable.
#[tokio::test]
async fn a_standby_keeps_what_the_writer_has_not_published() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let writer = Replica::writer(shared(&memory), "a").await;
    let standby = Replica::start(shared(&memory), "b", false).await;
    for replica in [&writer, &standby] {
        replica.commit(20, 1).await;
    }
    standby.commit(30, 2).await;
    until("the first is let go", async || standby.held() == 1).await;
    assert_eq!(standby.live.durable.get(), at(21));
    assert_eq!(
        standby.live.role.standing(),
        crate::role::Standing { is_writer: false, writer: "a".into(), term: 2 }
    );
    assert!(!row_in(&memory, 2));
    writer.commit(30, 2).await;
    until("the second is let go", async || standby.held() == 0).await;
}

/// Fails without the call of `write_batch` for entries that were taken in as a
/// standby: only what comes after the take-over would be written.
#[tokio::test]
async fn a_standby_that_takes_over_writes_what_was_not_durable() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let standby = Replica::start(shared(&memory), "b", false).await;
    for id in 0..10 {
        standby.commit(20 + id, id).await;
    }
    until("the queue is taken", async || standby.queue.capacity() == standby.queue.max_capacity()).await;
    assert!(!row_in(&memory, 0));
    standby.allowed.send_replace(true);
    standby.becomes(true).await;
    until("all is let go", async || standby.held() == 0).await;
    assert!((0..10).all(|id| row_in(&memory, id)));
    let state = state(&memory).await;
    assert_eq!((state.durable(), state.term, state.writer.as_str()), (at(30), 2, "b"));
}

/// Fails without the term in the hot cell (`raise_term`): the first writer
/// would publish what it believes over what the second one published.
#[tokio::test]
async fn a_writer_that_does_not_know_that_it_was_replaced_stands_by() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let zombie = Replica::writer(shared(&memory), "a").await;
    let second = Replica::writer(shared(&memory), "b").await;
    assert!(zombie.live.role.is_writer(), "it does not know yet");
    zombie.commit(20, 1).await;
    zombie.becomes(false).await;
    zombie.allowed.send_replace(false);
    second.commit(20, 1).await;
    until("the second one writes on", async || second.held() == 0).await;
    until("the first one learns it", async || zombie.held() == 0).await;
    assert!(!zombie.live.role.is_writer());
    assert!(state(&memory).await.durable() >= at(21));
    second.end().await.unwrap();
    zombie.end().await.unwrap();
}

#[tokio::test]
async fn a_lost_lease_ends_the_role_without_a_write() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let replica = Replica::writer(shared(&memory), "a").await;
    replica.allowed.send_replace(false);
    replica.becomes(false).await;
    replica.commit(20, 1).await;
    until("the queue is taken", async || replica.queue.capacity() == replica.queue.max_capacity()).await;
    assert_eq!(replica.held(), 1);
    assert!(!row_in(&memory, 1));
}

/// Fails if `observe` lets go although the cell could not be read, or ends the
/// process for it.
#[tokio::test]
async fn a_standby_that_cannot_read_the_cell_keeps_everything() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let failing = Arc::new(Failing::new(shared(&memory)));
    failing.set_failing(false);
    let writer = Replica::writer(shared(&memory), "a").await;
    let standby = Replica::start(Arc::clone(&failing) as Arc<dyn Store>, "b", false).await;
    until("it has read the cell", async || standby.live.role.standing().term == 2).await;
    failing.set_failing(true);
    for replica in [&writer, &standby] {
        replica.commit(20, 1).await;
    }
    until("the writer lets go", async || writer.held() == 0).await;
    let taken = async || standby.queue.capacity() == standby.queue.max_capacity();
    until("the queue is taken", taken).await;
    let tried = standby.metrics.store_errors.get() + 2;
    until("it has tried to read", async || standby.metrics.store_errors.get() >= tried).await;
    assert_eq!((standby.held(), standby.live.durable.get()), (1, at(10)));
    failing.set_failing(false);
    until("the standby lets go", async || standby.held() == 0).await;
}

/// Fails if `try_write` waits for the store without `meanwhile`: the queue of
/// 4 would stop the feed long before the overlays are full.
#[tokio::test]
async fn a_store_that_hangs_stops_the_feed_by_room_alone() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let slow = Arc::new(Slow::new(shared(&memory)));
    slow.release();
    let replica = Replica::writer(Arc::clone(&slow) as Arc<dyn Store>, "a").await;
    slow.hold();
    for id in 0..200 {
        replica.commit(20 + id, id).await;
    }
    assert_eq!(replica.held(), 200);
    slow.release();
    until("all is let go", async || replica.held() == 0).await;
    assert!((0..200).all(|id| row_in(&memory, id)));
}

/// The same with a store that fails, and after it answers again.
#[tokio::test]
async fn all_rows_are_durable_after_the_store_was_down() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let failing = Arc::new(Failing::new(shared(&memory)));
    failing.set_failing(false);
    let replica = Replica::writer(Arc::clone(&failing) as Arc<dyn Store>, "a").await;
    failing.set_failing(true);
    for id in 0..200 {
        replica.commit(20 + id, id).await;
    }
    assert_eq!(replica.held(), 200);
    failing.set_failing(false);
    until("all is let go", async || replica.held() == 0).await;
    assert!((0..200).all(|id| row_in(&memory, id)));
    assert_eq!(state(&memory).await.durable(), at(220));
}

/// Fails without `note_shared` in the write that publishes: readers of the
/// shared tier would go on with rows that missed an update.
#[tokio::test]
async fn a_failed_update_of_the_shared_tier_raises_its_generation_with_durable() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let replica = Replica::writer(shared(&memory), "a").await;
    replica.tier.say(taken(0, "one"));
    replica.commit(20, 1).await;
    until("durable", async || replica.live.durable.get() == at(21)).await;
    let taken = SharedState { generation: 1, run_id: "one".into() };
    assert_eq!(state(&memory).await.shared, taken);
    assert_eq!(*replica.tier.published.lock(), taken);
    replica.tier.say(SharedUpdate::Failed);
    replica.commit(30, 2).await;
    until("durable", async || replica.live.durable.get() == at(31)).await;
    let unused = SharedState { generation: 2, run_id: String::new() };
    assert_eq!(state(&memory).await.shared, unused);
    assert_eq!(*replica.tier.published.lock(), unused);
}

/// Fails without the comparison of run ids: a server that was restarted from
/// an old dump would be read in the generation of its rows.
#[tokio::test]
async fn another_life_of_the_shared_tier_is_another_generation() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let replica = Replica::writer(shared(&memory), "a").await;
    for (begin, run_id, generation) in [(20, "one", 1), (30, "one", 1), (40, "two", 2)] {
        replica.tier.say(taken(state(&memory).await.shared.generation, run_id));
        replica.commit(begin, begin).await;
        until("durable", async || replica.live.durable.get() == at(begin + 1)).await;
        assert_eq!(state(&memory).await.shared, SharedState { generation, run_id: run_id.into() });
    }
}

/// Fails without the comparison of generations: what a raised one lacks would
/// be filled in from before.
#[tokio::test]
async fn an_update_of_a_generation_that_was_left_is_an_update_that_failed() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let replica = Replica::writer(shared(&memory), "a").await;
    for (begin, told, generation) in [(20, 0, 1), (30, 1, 1), (40, 0, 2), (50, 2, 2)] {
        replica.tier.say(taken(told, "one"));
        replica.commit(begin, begin).await;
        until("durable", async || replica.live.durable.get() == at(begin + 1)).await;
        assert_eq!(state(&memory).await.shared.generation, generation, "at {begin}");
    }
}

#[test]
fn an_update_without_rows_that_nobody_took_misses_nothing() {
    let one = taken(1, "one");
    assert_eq!(behind::both(&one, SharedUpdate::Unused), one);
    assert_eq!(behind::both(&SharedUpdate::Unused, one.clone()), one);
    assert_eq!(behind::both(&one, taken(1, "two")), SharedUpdate::Failed);
    assert_eq!(behind::both(&SharedUpdate::Failed, one), SharedUpdate::Failed);
}

/// Fails without `may_lead`: as the writer it would publish as durable what it
/// never followed.
#[tokio::test]
async fn a_standby_that_lacks_a_dimension_does_not_take_over() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let standby = Replica::start(shared(&memory), "b", false).await;
    let store = pool(shared(&memory));
    let mut cells = StateCells::read(&store).await.unwrap().unwrap();
    cells.take_over("other").await.unwrap();
    cells.add(vec![("spu".into(), stored("spu"))]).await.unwrap();
    until("it has read the cell", async || standby.live.role.standing().writer == "other").await;
    standby.allowed.send_replace(true);
    standby.commit(20, 1).await;
    until("the queue is taken", async || standby.queue.capacity() == standby.queue.max_capacity()).await;
    cells.change(|state| state.durable = at(21).packed()).await.unwrap();
    until("it goes on as a standby", async || standby.held() == 0).await;
    assert!(!standby.live.role.is_writer());
    assert!(standby.sku.is_complete());
}

/// Fails without `withdraw_unfollowed`: what memory let go of would be read
/// from a store that nobody writes.
#[tokio::test]
async fn a_dimension_that_the_writer_follows_no_more_is_not_answered() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let standby = Replica::start(shared(&memory), "b", false).await;
    assert!(standby.sku.is_complete());
    let mut cells = StateCells::read(&pool(shared(&memory))).await.unwrap().unwrap();
    cells.take_over("other").await.unwrap();
    let retire = |state: &mut State| state.dimensions.values_mut().for_each(|mark| mark.retired = true);
    cells.change(retire).await.unwrap();
    until("it is withdrawn", async || !standby.sku.is_complete()).await;
}

/// Fails without `untracked`: keys that changed before this process noted them
/// would be loaded with a later image.
#[tokio::test]
async fn a_standby_does_not_carry_on_a_first_load_that_it_did_not_note() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let mut cells = StateCells::read(&pool(shared(&memory))).await.unwrap().unwrap();
    cells.take_over("other").await.unwrap();
    let begun = DimensionState { complete: false, timeline: Timeline::new(at(15)), ..stored("spu") };
    cells.add(vec![("spu".into(), begun)]).await.unwrap();
    let spu = Arc::new(LiveDimension::new(Dimension::new("spu", TierKind::Full), at(10)));
    let replica = Replica::start_with(shared(&memory), "b", true, vec![spu]).await;
    until("it has tried", async || state(&memory).await.writer == "b").await;
    cells.take_over("other").await.unwrap();
    cells.change(|state| state.durable = at(21).packed()).await.unwrap();
    replica.commit(20, 1).await;
    until("it goes on as a standby", async || replica.held() == 0).await;
    assert!(!replica.live.role.is_writer());
    assert_eq!(state(&memory).await.writer, "other");
}

/// The same with a first load that was noted from its beginning.
#[tokio::test]
async fn a_standby_carries_on_a_first_load_that_it_noted() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let mut cells = StateCells::read(&pool(shared(&memory))).await.unwrap().unwrap();
    cells.take_over("other").await.unwrap();
    cells.add(vec![("spu".into(), DimensionState { complete: false, ..stored("spu") })]).await.unwrap();
    let spu = Arc::new(LiveDimension::new(Dimension::new("spu", TierKind::Full), at(10)));
    let replica = Replica::start_with(shared(&memory), "b", true, vec![spu]).await;
    replica.becomes(true).await;
}

fn empty(end: u64) -> Pending {
    Pending { end: at(end), gtid: None, rows: Vec::new(), timelines: Vec::new(), room: None }
}

#[test]
fn events_without_rows_take_no_room() {
    let mut backlog = backlog::Backlog::default();
    for event in 0..10_000 {
        let gtid = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{}", event + 1);
        backlog.push(Pending { gtid: Some(gtid.into()), ..empty(event) }).unwrap();
    }
    assert_eq!(backlog.len(), 1);
    assert!(backlog.pop_until(at(9_998)).is_none());
    let entry = backlog.pop_until(at(9_999)).unwrap();
    assert_eq!(entry.gtids.to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-10000");
}

/// An event that comes after a written one must not make it end later.
#[test]
fn what_is_written_ends_where_it_was_written() {
    let mut backlog = backlog::Backlog::default();
    backlog.push(empty(1)).unwrap();
    let batch = backlog.next_batch(10).unwrap();
    backlog.note_written(batch.entries);
    backlog.push(empty(2)).unwrap();
    assert_eq!(backlog.written_end(), Some(at(1)));
    assert_eq!(backlog.len(), 2);
}
