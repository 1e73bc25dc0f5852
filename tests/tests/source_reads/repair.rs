//! What a repair promises.

use super::{
    followed::{Followed, PATIENCE},
    isolation,
};
use anyhow::{Context as _, Result, ensure};
use dimsvc::{
    cache::{Resident as _, Row},
    change::repair::{Order, RepairError},
    dimension::{Image, Key, TableRows, VersionedRow},
    store::{ReadKey, StoredRow},
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tidemark_proto::{Position, dim::v1::RepairProgress};
use tidemark_tests::isolation::Isolation;
use tokio::{sync::mpsc, task::JoinSet};

const ROWS: u32 = 600;

fn image(id: u32, v: i64) -> Image {
    Some(format!("{{\"id\":{id},\"v\":{v}}}").into_bytes().into())
}

fn key(id: u32) -> Key {
    Key::from_canonical(format!("[{id}]"))
}

fn order() -> (Order, mpsc::Receiver<RepairProgress>) {
    let (progress, received) = mpsc::channel(1);
    (Order { since: None, mends: None, progress }, received)
}

async fn loaded(isolation: &Isolation) -> Result<Followed> {
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT)")?;
    let rows: Vec<_> = (1..=ROWS).map(|id| format!("({id}, 0)")).collect();
    session.exec(&format!("INSERT INTO t VALUES {}", rows.join(", ")))?;
    let followed = Followed::begin(isolation, "[t]\n").await?;
    followed.load("t").await?;
    Ok(followed)
}

/// Puts images into the store where the first load put its own.
async fn plant(followed: &Followed, images: Vec<(u32, Image)>) -> Result<()> {
    let live = followed.dimension("t");
    let version = live.cache.floor().before();
    let rows = images.into_iter().map(|(id, image)| VersionedRow { key: key(id), version, image });
    let table = Arc::clone(&live.dimension.sink_table);
    Ok(followed.store.write(vec![TableRows { table, rows: rows.collect() }]).await?)
}

async fn versions(followed: &Followed, id: u32) -> Result<Vec<StoredRow>> {
    let table = Arc::clone(&followed.dimension("t").dimension.sink_table);
    Ok(followed.store.versions(table, key(id), 10_000).await?)
}

/// Every row of the store as of a position.
async fn stored(followed: &Followed, at: Position) -> Result<BTreeMap<u32, Image>> {
    let table = Arc::clone(&followed.dimension("t").dimension.sink_table);
    let ids: Vec<u32> = (1..=2 * ROWS).collect();
    let reads = ids.iter().map(|id| ReadKey { key: key(*id), before: at }).collect();
    let rows = followed.store.read(table, reads).await?;
    Ok(ids.into_iter().zip(rows).filter_map(|(id, row)| Some((id, Some(row?.image?)))).collect())
}

/// Changes rows one after the other until told to stop: 20 to 39 and 200 to
/// 299 are updated, 300 to 309 deleted and inserted again.
fn write(
    isolation: &Isolation,
    mut stop: mpsc::Receiver<()>,
) -> Result<impl FnOnce() -> Result<u32> + use<>> {
    let mut session = isolation.session(&isolation.name)?;
    Ok(move || {
        let mut round = 0;
        while matches!(stop.try_recv(), Err(mpsc::error::TryRecvError::Empty)) {
            round += 1;
            let (a, b, c) = (20 + round % 20, 200 + round % 100, 300 + round % 10);
            session.exec(&format!("UPDATE t SET v = v + 1 WHERE id IN ({a}, {b})"))?;
            session.exec(&format!("DELETE FROM t WHERE id = {c}"))?;
            session.exec(&format!("INSERT INTO t VALUES ({c}, {round})"))?;
        }
        Ok(round)
    })
}

/// Fails without `retain` in `Run::settle` (a row that changed since S2 is
/// written as if it had been so at S2), without `take_before` there (20 to 39
/// stay wrong at S2), and without `compare_store` (the surplus row stays).
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_mends_what_differs_while_the_table_is_written() -> Result<()> {
    let isolation = isolation("repair")?;
    let followed = loaded(&isolation).await?;
    let (stop, stopped) = mpsc::channel(1);
    let mut writers = JoinSet::new();
    let wrong = (20..40).map(|id| (id, image(id, -1)));
    let planted = [(10, image(10, -1)), (11, None), (ROWS + 5, image(ROWS + 5, 0)), (150, image(150, -1))];
    plant(&followed, wrong.chain(planted).collect()).await?;
    // A row of the tier is wrong too.
    let live = followed.dimension("t");
    let wrong = Row::new(b"[12]", live.cache.floor().before(), image(12, -1).as_deref());
    live.cache.with_tier(|tier, _| tier.install(&wrong));

    writers.spawn_blocking(write(&isolation, stopped)?);
    // Where the load stands, what a repair writes is not told from what is right.
    let deadline = Instant::now() + PATIENCE;
    ensure!(followed.live.applied.moved_past(live.cache.floor(), deadline).await, "nothing was applied");
    let (order, mut progress) = order();
    let repair = followed.repair(16)?;
    let (repaired, told) = tokio::join!(async move { repair.table(live, &order).await }, async {
        let mut told = Vec::new();
        while let Some(said) = progress.recv().await {
            told.push(said.compared);
        }
        told
    });
    let repaired = repaired?;
    drop(stop);
    let rounds = writers.join_next().await.context("the writer ran")???;
    followed.caught_up().await?;

    ensure!(repaired.done && told.is_sorted() && told.len() > 1, "{told:?}");
    ensure!(rounds > 40, "{rounds} rounds are no race");
    assert_eq!((repaired.written, repaired.deleted), (4 + 20, 1), "{repaired:?}");
    let at = Position::from_packed(repaired.at);
    let then = stored(&followed, at).await?;
    for id in (1..=ROWS).filter(|id| !(300..310).contains(id)) {
        let row = then.get(&id).with_context(|| format!("{id} is missing at S2"))?;
        let text = String::from_utf8_lossy(row.as_ref().context("a row")?);
        ensure!(!text.contains("-1"), "{id} was {text} at S2");
    }
    ensure!(!then.contains_key(&(ROWS + 5)), "the surplus row stayed");
    for id in [1, 13, 99, 200, 250, 299, 305, ROWS] {
        let versions = versions(&followed, id).await?;
        let untouched = versions.iter().all(|row| row.version != at.before());
        ensure!(untouched, "{id} was written though it was right: {versions:?}");
    }
    assert_eq!(versions(&followed, 99).await?.len(), 1, "the history of a row that was right");
    let mut session = isolation.session(&isolation.name)?;
    let rows = session.rows("SELECT id, v FROM t ORDER BY id")?;
    let now: BTreeMap<u32, Image> = rows
        .into_iter()
        .filter_map(|row| Some((row[0].as_ref()?.parse().ok()?, row[1].as_ref()?.parse().ok()?)))
        .map(|(id, v)| (id, image(id, v)))
        .collect();
    assert_eq!(stored(&followed, Position::MAX).await?, now);
    let unknown: Vec<_> = live.cache.timeline().unknown().collect();
    assert_eq!(unknown, [(live.cache.floor(), at)]);
    let kept = followed.cells.lock().await.dimension("t").context("its cell")?.timeline.clone();
    assert_eq!(kept, live.cache.timeline());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_of_keys_leaves_the_others_alone() -> Result<()> {
    let isolation = isolation("repair_keys")?;
    let followed = loaded(&isolation).await?;
    plant(&followed, vec![(1, image(1, -1)), (2, image(2, -1)), (3, None), (900, image(900, 1))]).await?;
    let (order, _progress) = order();
    let repaired = followed
        .repair(2)?
        .keys(followed.dimension("t"), &[key(1), key(3), key(900), key(4)], &order)
        .await?;
    assert_eq!((repaired.compared, repaired.written, repaired.deleted), (4, 2, 1));
    let now = stored(&followed, Position::MAX).await?;
    assert_eq!((now.get(&1), now.get(&3)), (Some(&image(1, 0)), Some(&image(3, 0))));
    ensure!(now.get(&2) == Some(&image(2, -1)) && !now.contains_key(&900));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_of_what_is_right_changes_nothing() -> Result<()> {
    let isolation = isolation("repair_right")?;
    let followed = loaded(&isolation).await?;
    let before = stored(&followed, Position::MAX).await?;
    let (order, _progress) = order();
    let repaired = followed.repair(1_000)?.table(followed.dimension("t"), &order).await?;
    assert_eq!((repaired.written, repaired.deleted), (0, 0));
    assert_eq!(stored(&followed, Position::MAX).await?, before);
    assert_eq!(followed.dimension("t").cache.timeline().unknown().count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_writer_repairs_and_one_at_a_time() -> Result<()> {
    let isolation = isolation("repair_writer")?;
    let followed = loaded(&isolation).await?;
    let (live, repair) = (followed.dimension("t"), followed.repair(16)?);
    let ((first, _a), (second, _b)) = (order(), order());
    ensure!(live.cache.track_repair(Position::MAX, usize::MAX), "nobody repairs yet");
    let refused = repair.table(live, &first).await;
    ensure!(matches!(refused, Err(RepairError::Refused(_))), "{refused:?}");
    live.cache.stop_tracking();
    repair.table(live, &first).await?;
    followed.live.role.step_down();
    let refused = repair.table(live, &second).await;
    ensure!(matches!(refused, Err(RepairError::NotWriter)), "{refused:?}");
    Ok(())
}
