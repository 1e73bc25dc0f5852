//! What the cell says of the binlog never goes back.

use super::*;

/// A process that follows from the floor of a first load writes again what an
/// earlier one wrote. Fails without the comparison with `durable` in `note`:
/// the next restart would begin where the other standbys let go long ago.
#[tokio::test]
async fn neither_durable_nor_the_checkpoint_moves_back() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let mut cells = StateCells::read(&pool(shared(&memory))).await.unwrap().unwrap();
    cells.take_over("earlier").await.unwrap();
    let checkpoint = Checkpoint { file: "binlog.000001".into(), offset: 50, gtid_set: String::new() };
    let publish = |state: &mut State| {
        state.durable = at(50).packed();
        state.checkpoint.clone_from(&checkpoint);
    };
    cells.change(publish).await.unwrap();

    let replica = Replica::writer(shared(&memory), "a").await;
    replica.commit(20, 1).await;
    until("its row is let go", async || replica.held() == 0).await;
    replica.end().await.unwrap();
    let now = state(&memory).await;
    assert_eq!((now.durable(), &now.checkpoint), (at(50), &checkpoint));

    let replica = Replica::writer(shared(&memory), "b").await;
    replica.commit(60, 2).await;
    replica.end().await.unwrap();
    let now = state(&memory).await;
    assert_eq!((now.durable(), now.checkpoint.offset), (at(61), 61));
}
