//! Deadlines, bounds and panics of the pool.

use super::*;
use crate::{
    dimension::{Key, VersionedRow},
    store::memory::{MemoryStore, Slow},
};
use bytes::Bytes;

const WAIT: Duration = Duration::from_secs(30);

fn table() -> Arc<str> {
    Arc::from("sku")
}

fn row(version: u64) -> Vec<TableRows> {
    let image = Some(Bytes::from_static(b"{}"));
    let row =
        VersionedRow { key: Key::from_canonical("[1]"), version: Position::from_packed(version), image };
    vec![TableRows { table: table(), rows: vec![row] }]
}

fn slow_store() -> (Arc<Slow>, Arc<MemoryStore>) {
    let memory = Arc::new(MemoryStore::default());
    memory.create_table("sku").unwrap();
    (Arc::new(Slow::new(Arc::clone(&memory) as Arc<dyn Store>)), memory)
}

async fn calls_begun(slow: &Arc<Slow>, calls: usize) {
    let slow = Arc::clone(slow);
    assert!(tokio::task::spawn_blocking(move || slow.wait_for_calls(calls, WAIT)).await.unwrap());
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_drains() {
    let (slow, memory) = slow_store();
    let pool = StorePool::new(Arc::clone(&slow) as Arc<dyn Store>, 1, 1, WAIT);

    let (first, (second, third)) = tokio::join!(pool.write(row(1)), async {
        calls_begun(&slow, 1).await;
        tokio::join!(biased; pool.write(row(2)), async {
            let third = pool.write(row(3)).await;
            slow.release();
            third
        })
    });

    assert!(matches!(third, Err(StoreError::Overloaded(_))), "{third:?}");
    first.unwrap();
    second.unwrap();
    assert_eq!(memory.scan("sku", None, Position::MAX, 9).unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_call_outlives_the_caller_that_went_away() {
    let (slow, memory) = slow_store();
    let pool = StorePool::new(Arc::clone(&slow) as Arc<dyn Store>, 1, 1, WAIT);
    {
        let write = pool.write(row(7));
        tokio::pin!(write);
        tokio::select! {
            biased;
            _ = &mut write => panic!("the store holds it back"),
            () = calls_begun(&slow, 1) => {}
        }
    }

    slow.release();
    pool.shutdown().await;

    let found = memory.scan("sku", None, Position::MAX, 9).unwrap();
    assert_eq!(found.rows[0].version, Position::from_packed(7));
}

#[tokio::test]
async fn a_call_past_its_deadline_may_be_retried_and_one_behind_it_never_runs() {
    let (slow, memory) = slow_store();
    let pool = StorePool::new(Arc::clone(&slow) as Arc<dyn Store>, 1, 1, WAIT);
    let short = pool.within(Duration::from_millis(20));

    let (at_work, queued) = tokio::join!(biased; short.load_cell("a"), short.write(row(1)));
    slow.release();
    pool.shutdown().await;

    assert!(at_work.is_err_and(|error| error.is_retryable()));
    assert!(queued.is_err_and(|error| error.is_retryable()));
    assert!(memory.scan("sku", None, Position::MAX, 9).unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_thread_lives_on() {
    let (slow, _memory) = slow_store();
    slow.release();
    let pool = StorePool::new(slow, 1, 1, WAIT);

    let error = pool.call(|_| -> Result<(), StoreError> { panic!("no such luck") }).await.unwrap_err();
    assert!(error.to_string().ends_with("the call panicked: no such luck"), "{error}");
    assert!(!error.is_retryable());

    assert_eq!(pool.load_cell("a").await.unwrap(), None);
}

#[tokio::test]
async fn after_shutdown_every_call_is_an_error() {
    let (slow, _memory) = slow_store();
    slow.release();
    let pool = StorePool::new(slow, 1, 1, WAIT);
    pool.write(row(1)).await.unwrap();

    pool.shutdown().await;

    let read = pool.read(table(), Vec::new()).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
}
