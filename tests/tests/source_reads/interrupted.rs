//! Repairs that come to no end, and what they leave as it is.

use super::{followed::Followed, isolation};
use anyhow::{Context as _, Result, ensure};
use dimsvc::{
    cache::{Resident as _, Row},
    change::{
        fill::fill,
        repair::{Order, RepairError},
    },
    dimension::{Image, Key, TableRows, VersionedRow, mark_deleted},
    state::StateCells,
    store::StoredRow,
};
use std::sync::Arc;
use tidemark_proto::{Position, dim::v1::RepairProgress};
use tidemark_tests::isolation::Isolation;
use tokio::sync::mpsc;

const ROWS: u32 = 100;

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

async fn loaded(isolation: &Isolation, options: &str) -> Result<Followed> {
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT)")?;
    let rows: Vec<_> = (1..=ROWS).map(|id| format!("({id}, 0)")).collect();
    session.exec(&format!("INSERT INTO t VALUES {}", rows.join(", ")))?;
    let followed = Followed::begin(isolation, &format!("[t]\n{options}")).await?;
    followed.load("t").await?;
    Ok(followed)
}

/// Puts an image into the store where the first load put its own.
async fn plant(followed: &Followed, id: u32, image: Image) -> Result<()> {
    let live = followed.dimension("t");
    let rows = vec![VersionedRow { key: key(id), version: live.cache.floor().before(), image }];
    let table = Arc::clone(&live.dimension.sink_table);
    Ok(followed.store.write(vec![TableRows { table, rows }]).await?)
}

async fn newest(followed: &Followed, id: u32) -> Result<Option<StoredRow>> {
    let table = Arc::clone(&followed.dimension("t").dimension.sink_table);
    Ok(followed.store.versions(table, key(id), 1).await?.pop())
}

async fn unknown(followed: &Followed) -> Result<usize> {
    let cells = followed.cells.lock().await;
    Ok(cells.dimension("t").context("its cell")?.timeline.unknown().count())
}

/// Fails when `end` marks history only of repairs that came to their end: the
/// next one finds nothing wrong, and nobody is told of what this one wrote.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_repair_wrote_before_it_was_refused_is_told() -> Result<()> {
    let isolation = isolation("repair_refused")?;
    let followed = loaded(&isolation, "").await?;
    plant(&followed, 1, image(1, -1)).await?;
    let generation = followed.cells.lock().await.state().shared.generation;
    let (order, mut progress) = order();
    let repair = followed.repair(8)?;
    let (refused, ()) = tokio::join!(repair.table(followed.dimension("t"), &order), async {
        progress.recv().await;
        drop(progress);
    });
    ensure!(matches!(refused, Err(RepairError::Refused(_))), "{refused:?}");
    assert_eq!(newest(&followed, 1).await?.and_then(|row| row.image), image(1, 0), "it was mended");
    assert_eq!(unknown(&followed).await?, 1);
    assert_eq!(followed.dimension("t").cache.timeline().unknown().count(), 1);
    assert_eq!(followed.cells.lock().await.state().shared.generation, generation + 1);
    Ok(())
}

/// Fails without `note_begun`, and without `end_repair` in `raise_term`.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_writer_tells_of_a_repair_that_died_with_the_last() -> Result<()> {
    let isolation = isolation("repair_died")?;
    let followed = loaded(&isolation, "").await?;
    plant(&followed, 1, image(1, -1)).await?;
    let (order, mut progress) = order();
    let repair = followed.repair(8)?;
    tokio::select! {
        ended = repair.table(followed.dimension("t"), &order) => ended.map(drop)?,
        _ = progress.recv() => {}
    }
    assert_eq!(unknown(&followed).await?, 0, "nobody could say so");
    let mut cells = followed.cells.lock().await;
    let generation = cells.state().shared.generation;
    let revision = |cells: &StateCells| cells.state().dimensions["t"].revision;
    let before = revision(&cells);
    cells.take_over("the next").await?;
    // With the term, and once the cell says so.
    assert_eq!(revision(&cells), before + 2);
    let stored = cells.dimension("t").context("its cell")?;
    assert_eq!((stored.timeline.unknown().count(), stored.repairing), (1, None));
    assert_eq!(cells.state().shared.generation, generation + 1);
    Ok(())
}

/// Fails without `compare_memory`: neither source nor store have the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_memory_alone_has_is_found() -> Result<()> {
    let isolation = isolation("repair_memory")?;
    let followed = loaded(&isolation, "cache = \"full\"\n").await?;
    let live = followed.dimension("t");
    fill(live, &followed.store, &followed.live.applied).await?;
    let ghost = Row::new(b"[9000]", live.cache.floor().before(), image(9_000, 1).as_deref());
    live.cache.with_tier(|tier, _| tier.install(&ghost));
    let (order, _progress) = order();
    let repaired = followed.repair(16)?.table(live, &order).await?;
    assert_eq!((repaired.written, repaired.deleted), (0, 1));
    assert_eq!(live.cache.tier().get(b"[9000]"), None);
    assert_eq!(unknown(&followed).await?, 1);
    Ok(())
}

/// Fails when `mend` compares images as they are: every deleted row would be
/// repaired, and lost.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_marked_as_deleted_are_right() -> Result<()> {
    let isolation = isolation("repair_marks")?;
    let followed = loaded(&isolation, "deleted = \"mark\"\n").await?;
    isolation.session(&isolation.name)?.exec("DELETE FROM t WHERE id = 7")?;
    followed.caught_up().await?;
    let (order, _progress) = order();
    let repaired = followed.repair(16)?.table(followed.dimension("t"), &order).await?;
    assert_eq!((repaired.written, repaired.deleted), (0, 0));
    let marked = |id| image(id, 0).map(|image| mark_deleted(&image));
    assert_eq!(newest(&followed, 7).await?.and_then(|row| row.image), marked(7));
    // One that should be gone is marked too.
    plant(&followed, ROWS + 1, image(ROWS + 1, 0)).await?;
    let repaired = followed.repair(16)?.table(followed.dimension("t"), &order).await?;
    assert_eq!((repaired.written, repaired.deleted), (0, 1));
    let found = newest(&followed, ROWS + 1).await?.context("its version")?;
    assert_eq!((found.version, found.image), (Position::from_packed(repaired.at).before(), marked(ROWS + 1)));
    Ok(())
}
