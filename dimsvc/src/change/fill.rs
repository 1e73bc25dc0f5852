//! Making a `full` dimension resident: a scan of the store, with the changes
//! that come meanwhile laid over it.

use crate::{
    cache::{Filling, Resident as _, Row},
    clock::Watermark,
    dimension::VersionedRow,
    live::{LiveDimension, REPAIRED},
    store::{StoreError, StorePool},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_proto::Position;
use tracing::{info, warn};

/// Keys of one page; the store bounds its bytes.
const PAGE_KEYS: usize = 4_096;
const RETRY: Duration = Duration::from_millis(500);
/// How often a wait for the feed is reported.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fills the tier, then lets the dimension answer. An `lru` dimension answers
/// at once.
///
/// # Errors
/// When the store refuses; what passes by itself is retried.
pub async fn fill(
    live: &Arc<LiveDimension>,
    store: &StorePool,
    applied: &Watermark,
) -> Result<(), StoreError> {
    loop {
        let known = live.cache.timeline();
        scan(live, store).await?;
        wait_for_feed(live, applied).await;
        // A repair that was told of meanwhile wrote rows that the scan had passed.
        if live.holes_since(&known).is_none() {
            live.set_complete();
            // Who told of one just now saw a dimension that does not answer yet.
            if let Some((from, _)) = live.holes_since(&known) {
                live.lose(from, REPAIRED);
            }
            return Ok(());
        }
    }
}

async fn wait_for_feed(live: &LiveDimension, applied: &Watermark) {
    // After a restart the feed may still be below the floor or the end of a
    // hole, where nothing is known, or below a truncation that the timeline
    // tells of already: a row from before it would be taken for a newer one.
    let latest = live.cache.timeline().latest();
    while !applied.reached(latest, Instant::now() + PATIENCE).await {
        warn!(dimension = %live.dimension.name, %latest, applied = %applied.get(), "waiting for the feed");
    }
}

/// Makes every row of the store resident; nothing for a tier that fills by itself.
async fn scan(live: &Arc<LiveDimension>, store: &StorePool) -> Result<(), StoreError> {
    let Some(filling) = Filling::begin(&live.cache) else { return Ok(()) };
    let started = Instant::now();
    let mut from = None;
    loop {
        let table = Arc::clone(&live.dimension.sink_table);
        let page = match store.scan(table, from.clone(), Position::MAX, PAGE_KEYS).await {
            Ok(page) => page,
            Err(error) if error.is_retryable() => {
                warn!(dimension = %live.dimension.name, %error, "scan failed, will be retried");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let row = |row: &VersionedRow| Row::new(row.key.as_bytes(), row.version, row.image.as_deref());
        filling.add(page.rows.iter().map(row));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    filling.end();
    let (rows, seconds) = (live.cache.tier().rows(), started.elapsed().as_secs_f64());
    info!(dimension = %live.dimension.name, rows, seconds, "every row is resident");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{TierKind, Timeline},
        dimension::{Key, TableRows},
        registry::Dimension,
        store::{Store as _, memory::MemoryStore},
    };
    use tokio::task::JoinSet;

    fn at(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    /// Fails without the wait for `latest`, and when it is one for `settled`: of
    /// a process that has not come to the truncation, nobody knows the rows. A
    /// page and what follows it are one step of this runtime.
    #[tokio::test]
    async fn a_filled_dimension_answers_when_all_that_its_timeline_tells_is_applied() {
        let mut timeline = Timeline::new(at(10));
        timeline.truncate(at(100));
        let live = Arc::new(LiveDimension::with_timeline(Dimension::new("sku", TierKind::Full), timeline));
        let memory = Arc::new(MemoryStore::default());
        memory.create_table("dim_sku").unwrap();
        let image = Some("{\"id\":1}".into());
        let rows = vec![VersionedRow { key: Key::from_canonical("[1]"), version: at(120), image }];
        memory.write(&[TableRows { table: "dim_sku".into(), rows }]).unwrap();
        let (store, applied) = (StorePool::new(memory, 1, 8, PATIENCE), Arc::new(Watermark::new(at(50))));

        let mut fills = JoinSet::new();
        let (filled, feed) = (Arc::clone(&live), Arc::clone(&applied));
        fills.spawn(async move { fill(&filled, &store, &feed).await });
        let deadline = Instant::now() + PATIENCE;
        while live.cache.tier().rows() == 0 {
            assert!(Instant::now() < deadline, "the row is not resident in time");
            tokio::task::yield_now().await;
        }
        assert!(!live.is_complete());
        applied.advance(at(99));
        tokio::task::yield_now().await;
        assert!(!live.is_complete());
        applied.advance(at(100));
        let ended = tokio::time::timeout(PATIENCE, fills.join_next()).await;
        ended.expect("it ends in time").unwrap().unwrap().unwrap();
        assert!(live.is_complete());
    }
}
