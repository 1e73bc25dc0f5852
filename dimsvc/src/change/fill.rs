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
        dimension::{Image, Key, TableRows},
        registry::Dimension,
        state::{Definition, DimensionState},
        store::{Store, memory::MemoryStore},
    };

    const DEADLINE: Duration = Duration::from_secs(20);

    fn at(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    fn write(store: &MemoryStore, rows: [(&str, u64, Image); 2]) {
        let row = |(key, version, image): (&str, u64, Image)| VersionedRow {
            key: Key::from_canonical(key.to_owned()),
            version: at(version),
            image,
        };
        store.write(&[TableRows { table: "dim_sku".into(), rows: rows.map(row).into() }]).unwrap();
    }

    fn held(live: &LiveDimension, key: &str) -> Option<String> {
        let row = live.cache.tier().get(key.as_bytes());
        row?.image().map(|image| String::from_utf8_lossy(image).into_owned())
    }

    /// A dimension whose timeline tells of a truncation at 100, and a store of it.
    fn truncated(memory: &Arc<MemoryStore>) -> (Arc<LiveDimension>, StorePool) {
        let mut timeline = Timeline::new(at(10));
        timeline.truncate(at(100));
        let live = Arc::new(LiveDimension::with_timeline(Dimension::new("sku", TierKind::Full), timeline));
        memory.create_table("dim_sku").unwrap();
        (live, StorePool::new(Arc::clone(memory) as Arc<dyn Store>, 1, 8, DEADLINE))
    }

    /// Fails without the wait for `latest`, and when it is one for `settled`: of
    /// a process that has not come to the truncation, nobody knows the rows. A
    /// page and what follows it are one step of this runtime.
    #[tokio::test]
    async fn a_filled_dimension_answers_when_all_that_its_timeline_tells_is_applied() {
        let memory = Arc::new(MemoryStore::default());
        let (live, store) = truncated(&memory);
        write(&memory, [("[1]", 120, Some("{}".into())), ("[2]", 120, Some("{}".into()))]);
        let applied = Watermark::new(at(50));

        let filled = tokio::time::timeout(DEADLINE, fill(&live, &store, &applied));
        let (filled, ()) = tokio::join!(filled, async {
            while held(&live, "[2]").is_none() {
                tokio::task::yield_now().await;
            }
            assert!(!live.is_complete());
            applied.advance(at(99));
            tokio::task::yield_now().await;
            assert!(!live.is_complete());
            applied.advance(at(100));
        });

        filled.expect("it ends in time").unwrap();
        assert!(live.is_complete());
    }

    /// What a writer tells that has repaired at 40 what was right at 20.
    fn repaired(dimension: &Dimension) -> DimensionState {
        let mut timeline = Timeline::new(at(10));
        timeline.add_unknown(at(20), at(40));
        DimensionState {
            term: 0,
            definition: Definition::of(dimension),
            timeline,
            floor_place: ("binlog.000001".into(), 10),
            complete: true,
            loaded_rows: 0,
            loaded_to: None,
            repairing: None,
        }
    }

    /// Fails without the loop over `holes_since` in `fill`: what the scan had
    /// read before the repair stays.
    #[tokio::test]
    async fn a_repair_that_is_told_of_while_a_tier_fills_makes_it_fill_again() {
        let memory = Arc::new(MemoryStore::default());
        let (live, store) = truncated(&memory);
        write(&memory, [("[1]", 12, Some("wrong".into())), ("[2]", 12, Some("ghost".into()))]);
        // The feed has not reached the truncation that is known.
        let applied = Watermark::new(at(50));

        let filled = tokio::time::timeout(DEADLINE, fill(&live, &store, &applied));
        let (filled, ()) = tokio::join!(filled, async {
            while held(&live, "[2]").is_none() {
                tokio::task::yield_now().await;
            }
            write(&memory, [("[1]", 39, Some("right".into())), ("[2]", 39, None)]);
            assert!(live.learn(&repaired(&live.dimension), at(50)));
            applied.advance(at(100));
        });

        filled.expect("it fills in time").unwrap();
        assert_eq!((held(&live, "[1]").as_deref(), held(&live, "[2]")), (Some("right"), None));
        assert!(live.is_complete() && live.loss().is_none(), "{:?}", live.loss());
    }
}
