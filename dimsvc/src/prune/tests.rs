//! What pruning may change, and what not.

use super::*;
use crate::{
    cache::{TierKind, Timeline},
    dimension::{Image, Key, TableRows},
    gtids::RecentGtids,
    live::Identity,
    registry::Dimension,
    state::{Checkpoint, Definition, DimensionState, State},
    store::{Store, memory::MemoryStore},
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tidemark_binlog::GtidSet;

const TABLE: &str = "dim_sku";
const DAY: u64 = 86_400;
const BEGIN: u64 = 1_700_000_000;
/// Where the histories of these tests begin.
const S: u64 = 10;

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn key(id: u8) -> Key {
    Key::from_canonical(format!("[{id}]"))
}

fn days(days: u64) -> Option<Duration> {
    Some(Duration::from_secs(days * DAY))
}

/// A dimension in a store, and its pruner.
struct Pruned {
    pruner: Pruner,
    sku: Arc<LiveDimension>,
    memory: Arc<MemoryStore>,
}

impl Pruned {
    async fn new(history: Option<Duration>, deleted_after: Option<Duration>) -> Self {
        let dimension = Dimension { history, deleted_after, ..Dimension::new("sku", TierKind::Full) };
        let memory = Arc::new(MemoryStore::default());
        let shared = Arc::clone(&memory) as Arc<dyn Store>;
        let store = StorePool::new(shared, 1, 64, Duration::from_secs(5));
        store.create_table(TABLE.into()).await.unwrap();
        let checkpoint = Checkpoint { file: "binlog.000001".into(), offset: S, gtid_set: String::new() };
        assert!(StateCells::create(&store, State::new(String::new(), checkpoint, at(S))).await.unwrap());
        let mut cells = StateCells::read(&store).await.unwrap().unwrap();
        cells.take_over("writer").await.unwrap();
        let state = DimensionState {
            term: 0,
            definition: Definition::of(&dimension),
            timeline: Timeline::new(at(S)),
            floor_place: ("binlog.000001".into(), S),
            complete: true,
            loaded_rows: 0,
            loaded_to: None,
            repairing: None,
        };
        cells.add(vec![(String::from("sku"), state)]).await.unwrap();
        let sku = Arc::new(LiveDimension::new(dimension, at(S)));
        sku.set_complete();
        let identity =
            Identity { start: at(S), epoch: 1, server_uuid: String::new(), store_id: String::new() };
        let live = Live::new(vec![Arc::clone(&sku)], identity, RecentGtids::new(GtidSet::default()));
        live.role.take_over("writer", 1);
        let pruner = Pruner {
            live: Arc::new(live),
            store,
            cells: Arc::new(Mutex::new(cells)),
            metrics: Arc::new(Metrics::try_new().unwrap()),
            grace: Duration::ZERO,
        };
        Self { pruner, sku, memory }
    }

    fn write(&self, history: &[(u8, u64, bool)]) {
        let row = |(id, version, is_row): &(u8, u64, bool)| VersionedRow {
            key: key(*id),
            version: at(*version),
            image: is_row.then(|| format!("{{\"v\":{version}}}").into()),
        };
        let rows = history.iter().map(row).collect();
        self.memory.write(&[TableRows { table: TABLE.into(), rows }]).unwrap();
    }

    /// All before `durable` happened before the day.
    async fn day(&self, day: u64, durable: u64) {
        self.pruner.live.applied.advance(at(durable));
        self.pruner.live.durable.advance(at(durable));
        self.pruner.round(BEGIN + day * DAY).await.unwrap();
    }

    /// What a lookup finds, and whether it says that history does not reach it.
    fn as_of(&self, id: u8, asked: u64) -> (Image, bool) {
        let (resolved, before_history) = self.sku.cache.resolve(at(asked));
        let read = ReadKey { key: key(id), before: resolved };
        let row = self.memory.read(TABLE, &[read]).unwrap().pop().flatten();
        let version = row.map(|row| (row.version, row.image));
        let answer = self.sku.cache.stored(key(id).as_bytes(), version, resolved);
        assert!(answer.answers(resolved), "{answer:?}");
        (answer.image().map(bytes::Bytes::copy_from_slice), before_history)
    }

    fn versions(&self, id: u8) -> Vec<u64> {
        let versions = self.memory.versions(TABLE, &key(id), 100).unwrap();
        versions.iter().map(|row| row.version.offset()).collect()
    }

    /// As another process would find it.
    async fn stored_floor(&self) -> Position {
        StateCells::peek_dimension(&self.pruner.store, "sku").await.unwrap().floor()
    }
}

/// (key, version, is it a row): versions of a key rise from the first load on.
fn histories() -> impl Strategy<Value = Vec<(u8, u64, bool)>> {
    let change = (0_u8..6, 0_u64..90, prop::bool::weighted(0.7));
    prop::collection::vec(change, 0..60).prop_map(|changes| {
        let places: BTreeSet<_> = changes.iter().map(|(id, place, _)| (*id, *place)).collect();
        let is_row = |place: &(u8, u64)| changes.iter().any(|(id, at, row)| (*id, *at) == *place && *row);
        places.iter().map(|place| (place.0, S - 1 + place.1, is_row(place))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Prune through `row.version` instead of the position before it, or do not
    /// raise the floor in memory, to see it fail.
    #[test]
    fn above_the_floor_nothing_changes(
        history in histories(),
        floor in S..100,
        removes in any::<bool>(),
        keeps in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let history_days = if keeps || !removes { days(2) } else { None };
            let pruned = Pruned::new(history_days, if removes { days(2) } else { None }).await;
            pruned.write(&history);
            pruned.day(0, floor).await;
            let lookups: Vec<_> = (0..6).flat_map(|id| (S + 1..101).map(move |place| (id, place))).collect();
            let before: Vec<_> = lookups.iter().map(|(id, place)| pruned.as_of(*id, *place)).collect();
            pruned.day(2, 100).await;
            for ((id, place), (image, _)) in lookups.into_iter().zip(before) {
                let (found, before_history) = pruned.as_of(id, place);
                assert_eq!(before_history, place <= floor, "key {id} at {place}");
                if place > floor {
                    assert_eq!(found, image, "key {id} at {place}");
                } else {
                    assert_eq!(found, pruned.as_of(id, floor).0, "key {id} at {place}");
                }
            }
        });
    }
}

#[tokio::test]
async fn replaced_versions_go_once_they_are_old() {
    let pruned = Pruned::new(days(2), None).await;
    pruned.write(&[(1, 20, true), (1, 30, true), (1, 40, true), (2, 25, true), (2, 60, false)]);
    pruned.day(0, 50).await;
    pruned.day(1, 100).await;
    assert_eq!((pruned.versions(1), pruned.stored_floor().await), (vec![40, 30, 20], at(S)), "too early");
    pruned.day(2, 100).await;
    assert_eq!((pruned.versions(1), pruned.versions(2)), (vec![40], vec![60, 25]));
    assert_eq!((pruned.stored_floor().await, pruned.sku.cache.floor()), (at(50), at(50)));
}

/// Take the question for `removed` out of `doomed` to see it fail.
#[tokio::test]
async fn deleted_rows_go_with_all_they_were() {
    let pruned = Pruned::new(None, days(2)).await;
    pruned.write(&[
        (1, 20, true),
        (1, 30, false),
        (2, 20, true),
        (2, 30, true),
        (3, 20, true),
        (3, 60, false),
    ]);
    pruned.day(0, 50).await;
    pruned.day(2, 100).await;
    assert_eq!(
        (pruned.versions(1), pruned.versions(2), pruned.versions(3)),
        (vec![], vec![30, 20], vec![60, 20])
    );
    assert_eq!(pruned.as_of(1, 70), (None, false));
}

#[tokio::test]
async fn what_a_truncation_removed_goes_as_deleted_rows_do() {
    let pruned = Pruned::new(None, days(2)).await;
    pruned.write(&[(1, 20, true), (2, 45, true)]);
    pruned.sku.cache.truncate(at(40));
    pruned.day(0, 50).await;
    pruned.day(2, 100).await;
    assert_eq!((pruned.versions(1), pruned.versions(2)), (vec![], vec![45]));
}

/// Take the question for the role out of `walk` to see it fail; or, at its
/// end, the one for a pass that was begun out of `due`.
#[tokio::test]
async fn who_is_not_the_writer_removes_nothing_and_who_is_goes_on() {
    let pruned = Pruned::new(days(2), None).await;
    pruned.write(&[(1, 20, true), (1, 30, true)]);
    pruned.day(0, 50).await;
    pruned.pruner.live.role.step_down();
    assert!(matches!(pruned.pruner.round(BEGIN + 2 * DAY).await, Err(PruneError::NotWriter)));
    assert_eq!((pruned.versions(1), pruned.stored_floor().await), (vec![30, 20], at(50)));
    pruned.pruner.live.role.take_over("writer", 1);
    pruned.day(2, 60).await;
    assert_eq!(pruned.versions(1), [30]);
}
