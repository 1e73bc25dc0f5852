//! The audit with real MySQL as the truth.

use super::{followed::Followed, isolation};
use anyhow::{Result, ensure};
use dimsvc::{
    audit::{Auditor, Findings},
    cache::{Resident as _, Tier},
    dimension::{Row, TableRows, VersionedRow},
    store::ReadKey,
};
use std::{sync::Arc, time::Duration};
use tidemark_proto::Position;
use tidemark_tests::eventually;

const DIMENSIONS: &str = "[item]\ncache = \"full\"\nindexes.by_shop = [\"shop\"]\n\
                          [note]\ndeleted = \"mark\"\n";

/// Rows that MySQL and all tiers agree on, then ones planted in memory and
/// store.
#[tokio::test(flavor = "multi_thread")]
async fn tiers_that_follow_agree_with_mysql_and_planted_rows_do_not() -> Result<()> {
    let isolation = isolation("audit")?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE item (id INT PRIMARY KEY, shop INT, price DECIMAL(10,2), at DATETIME(3))")?;
    session.exec("CREATE TABLE note (name VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY, body JSON)")?;
    let followed = Followed::begin(&isolation, DIMENSIONS).await?;
    for name in ["item", "item@by_shop", "note"] {
        followed.load(name).await?;
    }
    for id in 1..=20 {
        session.exec(&format!("INSERT INTO item VALUES ({id}, {id}, {id}.5, '2026-01-02 03:04:05.6')"))?;
        session.exec(&format!("INSERT INTO note VALUES ('n{id}', '{{\"a\": [1, {id}]}}')"))?;
    }
    session.exec("UPDATE item SET shop = 7 WHERE id < 10")?;
    session.exec("DELETE FROM item WHERE id > 15")?;
    session.exec("DELETE FROM note WHERE name > 'n5'")?;
    followed.caught_up().await?;

    let findings = Arc::new(Findings::new(Arc::clone(&followed.metrics)));
    let auditor = Auditor {
        live: Arc::clone(&followed.live),
        loader: followed.loader()?,
        source: followed.fallback(),
        findings: Arc::clone(&findings),
        keys_per_second: 1_000,
    };
    auditor.audit().await;
    let tally = findings.tally();
    ensure!(tally.checks > 40 && tally.mismatches == 0 && tally.raced == 0, "{tally:?}");

    let item = followed.dimension("item");
    session.exec("UPDATE item SET price = 3 WHERE id IN (1, 2)")?;
    followed.caught_up().await?;
    let [first, second] = followed.keys("item", &["[1]", "[2]"])?.try_into().expect("two keys");
    let newest = ReadKey { key: second.clone(), before: Position::MAX };
    let stored = followed.store.read(Arc::clone(&item.dimension.sink_table), vec![newest]).await?;
    let version = stored.first().and_then(|row| row.as_ref()).expect("it was written").version;
    item.cache.tier().force(&Row::new(first.as_bytes(), version, Some(b"{\"price\":1}")));
    let rows = vec![VersionedRow { key: second, version, image: Some("{\"price\":2}".into()) }];
    let table = Arc::clone(&item.dimension.sink_table);
    followed.store.write(vec![TableRows { table, rows }]).await?;
    auditor.audit().await;
    let mut tiers: Vec<_> = findings.tally().last.iter().map(|found| found.tier).collect();
    tiers.sort_by_key(|tier| *tier as u8);
    ensure!(tiers == [Tier::Full, Tier::Store], "{:?}", findings.tally());
    eventually("the row in memory is mended", Duration::from_secs(20), async || {
        let row = item.cache.tier().get(first.as_bytes());
        let text = row.as_ref().and_then(|row| row.image()).unwrap_or_default();
        ensure!(String::from_utf8_lossy(text).contains("3.00"), "{row:?}");
        Ok(())
    })
    .await
}
