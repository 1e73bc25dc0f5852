//! Loads of what memory misses: shared, surviving, not remembered.

use super::*;
use crate::store::memory::{Failing, Slow};
use futures_util::future::join_all;

const CALLERS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);

fn patient(mut service: Service) -> Service {
    service.lookups.limits.wait_max_ms = 30_000;
    service
}

/// Fails without `flights.join` in the heart's `begin_load`.
#[tokio::test]
async fn ten_thousand_callers_of_one_cold_key_read_the_store_once() {
    let service = Service::lru();
    service.commit(100, 1, image(r#"{"id":1,"n":1}"#));
    let slow = Arc::new(Slow::new(Arc::clone(&service.store) as Arc<dyn Store>));
    let service = patient(service.over(Arc::clone(&slow) as Arc<dyn Store>));
    let callers = join_all((0..CALLERS).map(|_| service.plain(&["[1]"], latest())));
    let release = async {
        // All callers are polled once before this is.
        slow.release();
    };
    let (answers, ()) = tokio::join!(callers, release);
    assert!(answers.into_iter().all(|answers| answers.unwrap()[0].found));
    assert_eq!(slow.calls(), 1);
}

/// Fails when the caller reads the store itself instead of starting a task.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_survives_the_caller_who_began_it() {
    let service = Service::lru();
    service.commit(100, 1, image(r#"{"id":1,"n":1}"#));
    let slow = Arc::new(Slow::new(Arc::clone(&service.store) as Arc<dyn Store>));
    let service = service.over(Arc::clone(&slow) as Arc<dyn Store>);
    // Gives up after 50 ms, while the store holds back the read.
    let late = service.plain(&["[1]"], latest()).await.unwrap_err();
    assert!(matches!(late, ServeError::Late), "{late}");
    slow.release();
    service.lookups.loader.tasks.close();
    tokio::time::timeout(PATIENCE, service.lookups.loader.tasks.wait()).await.unwrap();
    let answer = service.plain(&["[1]"], latest()).await.unwrap().remove(0);
    assert_eq!((answer.found, answer.tier, slow.calls()), (true, v1::Tier::Lru as i32, 1));
}

/// Fails when a batch keeps its flights after it failed.
#[tokio::test]
async fn a_failed_load_is_not_remembered() {
    let service = Service::lru();
    service.commit(100, 1, image(r#"{"id":1,"n":1}"#));
    let failing = Arc::new(Failing::new(Arc::clone(&service.store) as Arc<dyn Store>));
    let service = patient(service.over(Arc::clone(&failing) as Arc<dyn Store>));
    assert!(service.plain(&["[1]"], latest()).await.is_err());
    failing.set_failing(false);
    assert!(service.plain(&["[1]"], latest()).await.unwrap()[0].found);
}

#[tokio::test]
async fn misses_of_a_batch_are_one_read() {
    let service = Service::lru();
    for id in [1, 2] {
        service.commit(100 + u64::from(id), id, image(r#"{"id":0,"n":0}"#));
    }
    let slow = Arc::new(Slow::new(Arc::clone(&service.store) as Arc<dyn Store>));
    slow.release();
    let service = patient(service.over(Arc::clone(&slow) as Arc<dyn Store>));
    let answers = service.plain(&["[1]", "[2]", "[3]"], latest()).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.found).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(slow.calls(), 1);
}
