//! What a first load promises while its table is written: rows as of where it
//! stands, S, or none at all.

use super::{
    followed::{Followed, PATIENCE},
    isolation,
};
use anyhow::{Result, bail, ensure};
use dimsvc::store::{ReadKey, StoredRow};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};
use tidemark_proto::{
    Position,
    dim::v1::{self, LookupRequest, TableLookup, position::Place, read_point::Point},
};
use tidemark_tests::{eventually, isolation::Isolation, mysql::Session};

/// Followed from S on, where its table has the rows 1 and 2.
async fn begun(isolation: &Isolation) -> Result<(Followed, Session)> {
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT, w INT DEFAULT 7)")?;
    session.exec("INSERT INTO t (id, v) VALUES (1, 10), (2, 20)")?;
    Ok((Followed::begin(isolation, "[t]\n").await?, session))
}

/// The images of keys in the store, just before a position.
async fn stored(followed: &Followed, before: Position, keys: &[&str]) -> Result<Vec<Option<String>>> {
    let table = Arc::clone(&followed.dimension("t").dimension.sink_table);
    let reads = followed.keys("t", keys)?.into_iter().map(|key| ReadKey { key, before }).collect();
    let image = |row: Option<StoredRow>| Some(String::from_utf8_lossy(&row?.image?).into_owned());
    Ok(followed.store.read(table, reads).await?.into_iter().map(image).collect())
}

fn row(id: u32, v: u32) -> Option<String> {
    Some(format!("{{\"id\":{id},\"v\":{v},\"w\":7}}"))
}

/// Fails without `has_changed` in `Snapshot::keep_chunk`: the row that was
/// updated would be written as it is now over its image of S, and the row that
/// was inserted as if it had been there.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_has_the_rows_as_they_were_where_it_stands() -> Result<()> {
    let isolation = isolation("first_load")?;
    let (followed, mut session) = begun(&isolation).await?;
    session.exec("UPDATE t SET v = 11 WHERE id = 1")?;
    session.exec("DELETE FROM t WHERE id = 2")?;
    session.exec("INSERT INTO t (id, v) VALUES (3, 30)")?;
    followed.caught_up().await?;
    followed.load("t").await?;
    let keys = ["[1]", "[2]", "[3]"];
    let floor = followed.dimension("t").cache.floor();
    assert_eq!(stored(&followed, floor, &keys).await?, [row(1, 10), row(2, 20), None]);
    assert_eq!(stored(&followed, Position::MAX, &keys).await?, [row(1, 11), None, row(3, 30)]);
    Ok(())
}

/// Fails without `catch_up` after the read of a page: the load would keep what
/// it read as of S, and be over before the change that it saw is applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_keeps_no_row_before_the_feed_has_reached_its_read() -> Result<()> {
    let isolation = isolation("first_load_behind")?;
    let (followed, mut session) = begun(&isolation).await?;
    let live = followed.dimension("t");
    followed.hold(true);
    session.exec("UPDATE t SET v = 11 WHERE id = 1")?;
    let mut load = pin!(followed.load("t"));
    let waits = eventually("the load waits for the feed", PATIENCE, async || {
        ensure!(followed.live.applied.waiters() > 0);
        Ok(())
    });
    tokio::select! {
        ended = &mut load => bail!("the load did not wait: {ended:?}"),
        waits = waits => waits?,
    }
    assert_eq!(live.snapshot_rows.load(Ordering::Relaxed), 0);
    assert_eq!(stored(&followed, Position::MAX, &["[1]", "[2]"]).await?, [None, None]);
    followed.hold(false);
    load.await?;
    followed.caught_up().await?;
    assert_eq!(stored(&followed, live.cache.floor(), &["[1]", "[2]"]).await?, [row(1, 10), row(2, 20)]);
    assert_eq!(stored(&followed, Position::MAX, &["[1]"]).await?, [row(1, 11)]);
    Ok(())
}

/// Follows, runs a statement before the first load, loads, and asks for a row
/// of S at every kind of place. None may be answered: the rows of S are gone.
async fn is_lost_by(test: &str, statement: &str, why: &str) -> Result<()> {
    let isolation = isolation(test)?;
    let (followed, mut session) = begun(&isolation).await?;
    let (live, start) = (followed.dimension("t"), followed.live.applied.get());
    session.exec("UPDATE t SET v = 11 WHERE id = 1")?;
    let between = followed.source.binlog_end().await?.position(1)?;
    session.exec(statement)?;
    followed.caught_up().await?;
    followed.load("t").await?;
    let loss = live.loss().expect("the dimension is lost");
    ensure!(loss.reason.contains(why), "{loss:?}");
    assert_eq!((loss.at, live.is_complete()), (live.cache.floor().before(), false));
    assert_eq!(live.snapshot_rows.load(Ordering::Relaxed), 0);
    let lookups = followed.lookups()?;
    let as_of =
        |position: Position| Point::AsOf(v1::Position { place: Some(Place::Packed(position.packed())) });
    for point in [as_of(start), as_of(between), Point::Latest(v1::Latest {})] {
        let table = TableLookup { table: "t".into(), plain_keys: vec!["[2]".into()], ..Default::default() };
        let read_point = Some(v1::ReadPoint { point: Some(point) });
        let answer =
            lookups.call(LookupRequest { tables: vec![table], read_point, ..Default::default() }).await;
        let status = answer.expect_err("nothing is known of the table");
        assert_eq!(status.code(), tonic::Code::Unavailable);
        ensure!(status.message().contains(why), "{status:?}");
    }
    Ok(())
}

/// Fails without `is_loaded` in `judge`: the truncation would be noted, and the
/// rows of S, which nobody has read, be absent before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_emptied_before_its_first_load_is_lost() -> Result<()> {
    is_lost_by("first_load_emptied", "TRUNCATE t", "the table was emptied before its rows were known").await
}

/// Fails without `is_loaded` in `LiveDimension::lose`: the dimension would
/// answer up to the statement, with no rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_altered_before_its_first_load_is_lost_from_where_that_stands() -> Result<()> {
    is_lost_by("first_load_altered", "ALTER TABLE t DROP COLUMN w", "column `w` went").await
}
