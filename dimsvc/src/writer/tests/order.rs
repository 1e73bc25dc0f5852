//! The order of the writer's steps: store, shared tier, `durable`, readers, and
//! only then the overlays.

use super::*;

/// A change that is in the store, while the shared tier holds the writer up.
async fn held_up(memory: &Arc<MemoryStore>, writer: &Replica) -> tokio::sync::OwnedSemaphorePermit {
    let closed = Arc::clone(&writer.tier.gate).acquire_owned().await.unwrap();
    writer.commit(20, 1).await;
    until("the tier is asked", async || writer.tier.asked.load(Ordering::SeqCst) == 1).await;
    assert!(row_in(memory, 1));
    closed
}

/// Let `write_batch` publish before it calls `update_shared` to see it fail:
/// others would forget what the tier has an older row of.
#[tokio::test]
async fn nothing_is_durable_before_the_shared_tier_has_it() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let writer = Replica::writer(shared(&memory), "a").await;
    let closed = held_up(&memory, &writer).await;
    assert_eq!((state(&memory).await.durable(), writer.held()), (at(10), 1));
    drop(closed);
    until("it is let go", async || writer.held() == 0).await;
    assert_eq!(state(&memory).await.durable(), at(21));
}

/// Let `publish` of the writer, or `observe` of the standby, release before the
/// tier is told to see it fail: a load would read the generation that lacks the
/// row after the overlay has forgotten it.
#[tokio::test]
async fn readers_learn_of_a_generation_before_their_overlay_forgets() {
    let memory = Arc::new(MemoryStore::default());
    loaded_store(&memory).await;
    let writer = Replica::writer(shared(&memory), "a").await;
    let standby = Replica::start(shared(&memory), "b", false).await;
    standby.commit(20, 1).await;
    let closed = held_up(&memory, &writer).await;
    // A run that nobody knows: its generation rises in one with durable.
    writer.tier.say(taken(0, "one"));
    drop(closed);
    for replica in [&writer, &standby] {
        until("the row is let go", async || replica.held() == 0).await;
        assert_eq!(replica.tier.held_at_rise.lock().get(&1), Some(&1));
    }
}
