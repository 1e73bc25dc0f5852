//! Cells: who may move them, and what is known of writes that failed.

use super::{cells::cell_name, *};
use crate::{
    cache::Timeline,
    store::{
        Store, StorePool,
        memory::{Failing, MemoryStore},
    },
};
use std::{collections::HashSet, sync::Arc, time::Duration};

const HOT: &str = "state";

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn pool(store: Arc<dyn Store>) -> StorePool {
    StorePool::new(store, 1, 8, Duration::from_secs(5))
}

async fn create(store: &StorePool) {
    let checkpoint = Checkpoint { file: "binlog.000001".into(), offset: 4, gtid_set: String::new() };
    assert!(StateCells::create(store, State::new("uuid".into(), checkpoint, at(4))).await.unwrap());
}

async fn writer(store: &StorePool, name: &str) -> StateCells {
    let mut cells = StateCells::read(store).await.unwrap().unwrap();
    cells.take_over(name).await.unwrap();
    cells
}

fn dimension() -> DimensionState {
    DimensionState {
        term: 0,
        definition: Definition {
            source: "db.sku".into(),
            sink_table: "dim_sku".into(),
            all_columns: false,
            key: Vec::new(),
            columns: Vec::new(),
        },
        timeline: Timeline::new(at(4)),
        floor_place: ("binlog.000001".into(), 4),
        complete: false,
        loaded_rows: 0,
        loaded_to: None,
        repairing: None,
    }
}

/// Fails without `in_doubt`: our own late write would pass for another
/// process's.
#[tokio::test]
async fn a_write_that_arrives_late_is_known_as_our_own() {
    let memory = Arc::new(MemoryStore::default());
    let failing = Arc::new(Failing::new(Arc::clone(&memory) as Arc<dyn Store>));
    failing.set_failing(false);
    let store = pool(Arc::clone(&failing) as Arc<dyn Store>);
    create(&store).await;
    let mut cells = writer(&store, "first").await;
    let before = memory.load_cell(HOT).unwrap();
    failing.set_failing(true);
    cells.change(|state| state.durable = at(5).packed()).await.unwrap_err();
    let late = serde_json::to_vec(cells.state()).unwrap();
    failing.set_failing(false);
    assert!(memory.compare_and_set_cell(HOT, before.as_deref(), &late).unwrap());
    cells.change(|state| state.durable = at(6).packed()).await.unwrap();
    assert_eq!(StateCells::peek(&store).await.unwrap().durable(), at(6));
}

#[tokio::test]
async fn only_one_process_creates_the_state() {
    let store = pool(Arc::new(MemoryStore::default()));
    create(&store).await;
    let checkpoint = Checkpoint { file: "binlog.000009".into(), offset: 4, gtid_set: String::new() };
    assert!(!StateCells::create(&store, State::new("other".into(), checkpoint, at(4))).await.unwrap());
    assert_eq!(StateCells::peek(&store).await.unwrap().server_uuid, "uuid");
}

/// Fails if `raise_term` does not change the hot cell: what the old writer
/// expects there would still be there.
#[tokio::test]
async fn a_writer_that_was_replaced_can_move_no_cell() {
    let store = pool(Arc::new(MemoryStore::default()));
    create(&store).await;
    let mut zombie = writer(&store, "same").await;
    zombie.add(vec![("sku".into(), dimension())]).await.unwrap();
    let second = writer(&store, "same").await;
    let moved = zombie.change(|state| state.durable = at(9).packed()).await;
    assert!(matches!(moved, Err(StateError::Moved)), "{moved:?}");
    assert!(!zombie.is_writer());
    assert_eq!(StateCells::peek(&store).await.unwrap().durable(), at(4));
    assert_eq!(second.state().term, 2);
}

/// Fails without the second half of `raise_term`: a zombie that never touches
/// the hot cell would go on with a first load that another process has taken
/// over.
#[tokio::test]
async fn a_writer_that_was_replaced_can_move_no_dimension() {
    let store = pool(Arc::new(MemoryStore::default()));
    create(&store).await;
    let mut zombie = writer(&store, "first").await;
    zombie.add(vec![("sku".into(), dimension())]).await.unwrap();
    zombie.change_dimension("sku", |sku| sku.loaded_rows = 1).await.unwrap();
    let second = writer(&store, "second").await;
    let moved = zombie.change_dimension("sku", |sku| sku.complete = true).await;
    assert!(matches!(moved, Err(StateError::Moved)), "{moved:?}");
    assert!(!StateCells::peek_dimension(&store, "sku").await.unwrap().complete);
    assert_eq!(second.dimension("sku").map(|sku| (sku.term, sku.loaded_rows)), Some((2, 1)));
}

#[tokio::test]
async fn a_standby_moves_no_cell() {
    let store = pool(Arc::new(MemoryStore::default()));
    create(&store).await;
    let mut cells = StateCells::read(&store).await.unwrap().unwrap();
    let moved = cells.change(|state| state.durable = at(9).packed()).await;
    assert!(matches!(moved, Err(StateError::Moved)), "{moved:?}");
}

#[tokio::test]
async fn an_announced_dimension_has_another_revision() {
    let store = pool(Arc::new(MemoryStore::default()));
    create(&store).await;
    let mut cells = writer(&store, "first").await;
    cells.add(vec![("sku".into(), dimension())]).await.unwrap();
    let revision = |state: &State| state.dimensions.get("sku").map(|mark| mark.revision);
    let before = revision(cells.state());
    cells.change_dimension("sku", |sku| sku.complete = true).await.unwrap();
    assert_eq!(revision(&StateCells::peek(&store).await.unwrap()), before);
    cells.announce("sku").await.unwrap();
    assert_ne!(revision(&StateCells::peek(&store).await.unwrap()), before);
}

/// A writer that was killed between the two cells of `add` leaves one that the
/// hot cell does not name.
#[tokio::test]
async fn a_dimension_that_was_half_added_is_added_again() {
    let store = pool(Arc::new(MemoryStore::default()));
    create(&store).await;
    let left = serde_json::to_vec(&dimension()).unwrap();
    assert!(store.compare_and_set_cell(&cell_name("sku"), None, left).await.unwrap());
    let mut cells = writer(&store, "second").await;
    assert!(cells.dimension("sku").is_none());
    cells.add(vec![("sku".into(), dimension())]).await.unwrap();
    assert_eq!(StateCells::peek_dimension(&store, "sku").await.unwrap().term, 1);
}

#[test]
fn cells_of_different_dimensions_have_different_names() {
    let names = ["sku", "sku@by_name", "sku_x40by__name", "sku__x40by_name", "sku_by", "sku__by", "sku.by"];
    let cells: HashSet<_> = names.iter().map(|name| cell_name(name)).collect();
    assert_eq!(cells.len(), names.len());
    let storable = |cell: &String| cell.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(cells.iter().all(storable), "{cells:?}");
}
