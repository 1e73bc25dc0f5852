//! What an index of a dimension holds in the store, against real MySQL.

use anyhow::{Context as _, Result};
use dimsvc::store::{EmbeddedStore, ReadPrefix, Store};
use std::{fs, time::Duration};
use tidemark_proto::{Position, config::Embedded};
use tidemark_tests::{
    dim::{Dim, at_least_gtid},
    isolation::Isolation,
    mysql::Session,
    stack::Stack,
};

const STACK: &[&str] = &["mysql", "kafka", "clickhouse"];
const PATIENCE: Duration = Duration::from_secs(30);
/// The epoch of a store that has seen one server.
const EPOCH: u64 = 1;

const SCHEMA: &str = "CREATE TABLE item (id BIGINT PRIMARY KEY, team VARCHAR(20) COLLATE utf8mb4_bin, \
                      n INT NOT NULL)";
const DIMENSIONS: &str = "[item]\nindexes = { by_team = [\"team\"] }\n";
const TEAMS: [&str; 4] = ["red", "r", "", "red,\"x\"]"];

/// Every way in which a row comes into an index, moves in it, and leaves it.
const CHANGES: [&str; 9] = [
    "UPDATE item SET team = 'red' WHERE id = 4",
    "UPDATE item SET team = NULL WHERE id = 5",
    "UPDATE item SET team = 'r' WHERE id IN (2, 7, 12)",
    "UPDATE item SET n = n + 100 WHERE id < 20",
    "INSERT INTO item VALUES (1001, NULL, 1), (1002, 'red', 2), (1003, '', 3)",
    "DELETE FROM item WHERE id IN (4, 9, 1003)",
    "UPDATE item SET id = 2002 WHERE id = 1002",
    "UPDATE item SET n = n + 1000 WHERE team IS NULL",
    "INSERT INTO item VALUES (1003, 'red,\"x\"]', 4)",
];

/// The rows of a team as MySQL has them now, as images in key order of text.
fn in_mysql(session: &mut Session, team: &str) -> Result<Vec<String>> {
    let team = tidemark_tests::mysql::literal(team);
    let sql =
        format!("SELECT id, team, n FROM item WHERE team = {team} ORDER BY CAST(CONCAT(id, ']') AS BINARY)");
    let image = |row: Vec<Option<String>>| match &row[..] {
        [Some(id), Some(team), Some(n)] => {
            Ok(format!("{{\"id\":{id},\"team\":{},\"n\":{n}}}", serde_json::to_string(team)?))
        }
        other => anyhow::bail!("a row is {other:?}"),
    };
    session.rows(&sql)?.into_iter().map(image).collect()
}

fn all_teams(session: &mut Session) -> Result<Vec<Vec<String>>> {
    TEAMS.iter().map(|team| in_mysql(session, team)).collect()
}

fn in_index(store: &dyn Store, team: &str, before: Position) -> Result<Vec<String>> {
    let prefix = format!("[{},", serde_json::to_string(team)?).into();
    let pages = store.scan_prefixes("dim_item__by_team", &[ReadPrefix { prefix, before }], 1_000)?;
    let page = pages.into_iter().next().context("a page")?;
    anyhow::ensure!(!page.more, "a page of 1,000 holds all");
    let images = page.rows.into_iter().filter_map(|row| row.image);
    Ok(images.map(|image| String::from_utf8_lossy(&image).into_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_holds_the_rows_that_sql_equality_finds_at_every_position() -> Result<()> {
    let isolation = Isolation::new("indexes", &Stack::with(STACK)?)?;
    let mut programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
    // MySQL has no index on `team`: the first load pages by `id`.
    programs.settings.set("dimsvc.snapshot.chunk_rows", 7);
    let mut session = isolation.session(&isolation.name)?;
    session.exec(SCHEMA)?;
    for id in 1..=100 {
        let team = TEAMS.get(id % 5).map_or("NULL".into(), |team| tidemark_tests::mysql::literal(team));
        session.exec(&format!("INSERT INTO item VALUES ({id}, {team}, {id})"))?;
    }
    let mut dimsvc = programs.dimsvc().await?;
    let mut moments = vec![(session.binlog_end()?, all_teams(&mut session)?)];
    let mut gtid = None;
    for change in CHANGES {
        gtid = Some(session.transact(&[change])?);
        moments.push((session.binlog_end()?, all_teams(&mut session)?));
    }
    let gtid = gtid.context("there are changes")?.to_string();
    let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
    dim.lookup("item", &[], at_least_gtid(&gtid)).await?;
    dimsvc.stop(PATIENCE).await?;

    let path = programs.settings.get("dimsvc.embedded.path")?.to_owned();
    let store = EmbeddedStore::open(&Embedded { path, ..Embedded::default() })?;

    for (place, teams) in moments {
        let before = Position::parse(&place, EPOCH)?;
        for (team, expect) in TEAMS.iter().zip(teams) {
            assert_eq!(in_index(&store, team, before)?, expect, "team {team:?} below {place}");
        }
    }
    Ok(())
}
