//! A lazy dimension of a running dimsvc on real MySQL: rows are read when they
//! are asked for, and are kept fresh from then on.

#[path = "lazy/raced.rs"]
mod raced;

use anyhow::{Context as _, Result, bail, ensure};
use std::{fs, time::Duration};
use tidemark_proto::{
    Position,
    dim::v1::{
        Answer, AsOfEach, DescribeRequest, DimensionStatus, LookupError, LookupRequest, ReadPoint,
        TableLookup, Tier, read_point::Point,
    },
};
use tidemark_tests::{
    dim::{Dim, as_of_gtid, as_of_offset, now},
    eventually, http,
    isolation::Isolation,
    mysql::Session,
    process::Process,
    programs::Programs,
    stack::Stack,
};

const STACK: &[&str] = &["mysql", "kafka", "clickhouse"];
const PATIENCE: Duration = Duration::from_secs(30);
/// The epoch of a store that has seen one server.
const EPOCH: u64 = 1;

/// Where a dimension is asked, and the MySQL that it follows. The first fields
/// end first.
struct Scene {
    dimsvc: Process,
    programs: Programs,
    session: Session,
    isolation: Isolation,
}

impl Scene {
    /// A dimsvc that has one lazy dimension, `item`, with these options.
    async fn begin(test: &str, options: &str) -> Result<Self> {
        let isolation = Isolation::new(test, &Stack::with(STACK)?)?;
        let mut programs = isolation.programs("examples/gmall")?;
        let dimensions = format!("[item]\nload = \"lazy\"\n{options}");
        fs::write(programs.warehouse.join("dimensions.toml"), dimensions)?;
        programs.settings.set("dimsvc.fallback.reads_per_second", 10_000);
        let mut session = isolation.session(&isolation.name)?;
        session.exec("CREATE TABLE item (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, w BIGINT NOT NULL)")?;
        session.exec("INSERT INTO item VALUES (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)")?;
        let dimsvc = programs.dimsvc().await?;
        Ok(Self { dimsvc, programs, session, isolation })
    }

    fn address(&self) -> Result<&str> {
        self.programs.settings.get("dimsvc.listen")
    }

    async fn connect(&self) -> Result<Dim> {
        Dim::connect(self.address()?).await
    }

    fn another_session(&self) -> Result<Session> {
        self.isolation.session(&self.isolation.name)
    }

    /// How many times MySQL was asked for rows by key.
    fn queries(&self) -> Result<u64> {
        let url = format!("http://{}/metrics", self.programs.settings.get("dimsvc.metrics_listen")?);
        let text = http::get(&url)?.success()?;
        let count = text.lines().find_map(|line| line.strip_prefix("dimsvc_fallback_queries_total "));
        count.context("queries are counted")?.parse().context("a whole number")
    }

    /// A row as MySQL has it now; empty when there is none.
    fn in_mysql(&mut self, id: &str) -> Result<String> {
        let rows = self.session.rows(&format!("SELECT id, v, w FROM item WHERE id = {id}"))?;
        match rows.first().map(Vec::as_slice) {
            None => Ok(String::new()),
            Some([Some(id), Some(v), Some(w)]) => Ok(format!("{{\"id\":{id},\"v\":{v},\"w\":{w}}}")),
            Some(other) => bail!("a row is {other:?}"),
        }
    }
}

fn keys(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| format!("[{id}]")).collect()
}

/// Asks on a stream, where a refusal tells its reason.
async fn ask(dim: &mut Dim, lookup: TableLookup, point: Point) -> Result<Result<Vec<Answer>, LookupError>> {
    let read_point = Some(ReadPoint { point: Some(point) });
    let request = LookupRequest { tables: vec![lookup], read_point, ..Default::default() };
    let mut answered = dim.0.lookup_stream(futures_util::stream::iter([request])).await?.into_inner();
    let response = answered.message().await?.context("a lookup is answered")?;
    if let Some(error) = response.error {
        return Ok(Err(error));
    }
    Ok(Ok(response.tables.into_iter().next().context("one table was asked")?.answers))
}

fn plain(ids: &[&str]) -> TableLookup {
    TableLookup { table: "item".into(), plain_keys: keys(ids), ..Default::default() }
}

async fn status(dim: &mut Dim) -> Result<DimensionStatus> {
    dim.status().await?.dimensions.into_iter().next().context("there is one dimension")
}

async fn only(dim: &mut Dim, id: &str) -> Result<Answer> {
    Ok(dim.lookup("item", &keys(&[id]), now()).await?.remove(0))
}

/// Every way in which a row that is resident, or known to be absent, changes.
const CHANGES: [&str; 9] = [
    "UPDATE item SET v = 1 WHERE id = 1",
    "INSERT INTO item VALUES (9, 1, 1)",
    "DELETE FROM item WHERE id = 1",
    "UPDATE item SET v = v + 1, w = 7",
    "INSERT INTO item VALUES (1, 5, 5)",
    "UPDATE item SET id = 8 WHERE id = 9",
    "REPLACE INTO item VALUES (2, 6, 6)",
    "UPDATE item SET id = 9 WHERE id = 1",
    "DELETE FROM item",
];

/// Fails without `tier.replace` in `DimensionCache::apply` (a resident row stays
/// as it was), and without `lazy` in `read`, `dimsvc/src/load.rs` (the store is
/// asked).
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_read_when_it_is_first_asked_for_and_then_kept_fresh() -> Result<()> {
    let ids = ["1", "2", "8", "9"];
    let mut scene = Scene::begin("lazy_fresh", "").await?;
    let mut dim = scene.connect().await?;

    for (id, expect) in ids.iter().zip([true, true, false, false]) {
        let before = scene.queries()?;
        // Where other transactions came meanwhile, its second reading of memory.
        let first = only(&mut dim, id).await?;
        assert_eq!((first.found, scene.queries()?), (expect, before + 1), "{id}");
        assert_eq!(only(&mut dim, id).await?, Answer { tier: Tier::Lru.into(), ..first }, "{id}");
    }
    for change in CHANGES {
        scene.session.exec(change)?;
        let answers = dim.lookup("item", &keys(&ids), now()).await?;
        for (id, answer) in ids.iter().zip(answers) {
            assert_eq!(answer.row, scene.in_mysql(id)?, "{id} after {change}");
            assert_eq!(answer.tier(), Tier::Lru, "{id} is read again after {change}");
        }
    }
    Ok(())
}

/// Fails without `set_loaded` in `live_dimension` (a first load begins), and
/// without `lazy` in `dimsvc/src/serve/describe.rs` (a table is told of).
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_loaded_before_it_is_asked_for_and_nothing_stored() -> Result<()> {
    let scene = Scene::begin("lazy_empty", "").await?;
    let mut dim = scene.connect().await?;
    let described = dim.0.describe(DescribeRequest { table: "item".into() }).await?.into_inner();
    ensure!(described.lazy && described.sink_table.is_empty() && described.cache == "lru", "{described:?}");
    let before = status(&mut dim).await?;
    ensure!(before.complete && before.snapshot_rows == 0 && before.resident_rows == 0, "{before:?}");
    only(&mut dim, "1").await?;
    eventually("the row that was asked for is resident", PATIENCE, async || {
        let after = status(&mut dim).await?;
        ensure!(after.resident_rows == 1 && after.snapshot_rows == 0, "{after:?}");
        Ok(())
    })
    .await?;
    let log = scene.dimsvc.log()?;
    ensure!(!log.contains("first load begins"), "a lazy dimension was loaded:\n{log}");
    Ok(())
}

/// Fails without `check_history` in `dimsvc/src/serve/read.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_before_a_row_was_read_is_refused() -> Result<()> {
    let mut scene = Scene::begin("lazy_past", "").await?;
    let mut dim = scene.connect().await?;
    let before = scene.session.binlog_end()?;
    scene.session.exec("UPDATE item SET v = 1, w = 1 WHERE id < 3")?;
    let after = scene.session.binlog_end()?;
    for id in ["1", "9"] {
        only(&mut dim, id).await?;
    }
    // Resident, known to be absent, never read: together and one by one.
    let cases: [&[&str]; 4] = [&["1"], &["9"], &["2"], &["9", "2", "1"]];
    for ids in cases {
        let refused = ask(&mut dim, plain(ids), as_of_offset(&before)).await?;
        ensure!(refused.as_ref().is_err_and(|error| error.reason == "NO_HISTORY"), "{ids:?}: {refused:?}");
        let packed = Position::parse(&before, EPOCH)?.packed();
        let each = TableLookup { positions: vec![packed; ids.len()], ..plain(ids) };
        let refused = ask(&mut dim, each, Point::AsOfEach(AsOfEach {})).await?;
        ensure!(refused.as_ref().is_err_and(|error| error.reason == "NO_HISTORY"), "{ids:?}: {refused:?}");
    }
    // From its read on a row is known, until a change takes its place.
    scene.session.exec("INSERT INTO item VALUES (5, 1, 1)")?;
    let read = scene.session.binlog_end()?;
    let known = dim.lookup("item", &keys(&["1"]), as_of_offset(&read)).await?;
    ensure!(known[0].row == "{\"id\":1,\"v\":1,\"w\":1}", "{known:?}");
    let gtid = scene.session.transact(&["UPDATE item SET v = 2, w = 2 WHERE id = 1"])?.to_string();
    let changed = dim.lookup("item", &keys(&["1"]), as_of_gtid(&gtid)).await?;
    ensure!(changed[0].row == "{\"id\":1,\"v\":2,\"w\":2}", "{changed:?}");
    for past in [&read, &after] {
        let refused = ask(&mut dim, plain(&["1"]), as_of_offset(past)).await?;
        ensure!(refused.as_ref().is_err_and(|error| error.reason == "NO_HISTORY"), "{past}: {refused:?}");
    }
    Ok(())
}

/// Fails when `AfterWrite` in `dimsvc/src/cache/lru.rs` gives a row no end, or a
/// new one with each read; and without the sweep in `dimsvc/src/upkeep.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_leaves_when_its_time_is_over_and_is_read_again() -> Result<()> {
    let mut scene = Scene::begin("lazy_ttl", "ttl_seconds = 1\n").await?;
    let mut dim = scene.connect().await?;
    let is_resident = async |dim: &mut Dim| {
        eventually("it is resident", PATIENCE, async || {
            let tier = only(dim, "1").await?.tier();
            ensure!(tier == Tier::Lru && status(dim).await?.resident_rows == 1, "{tier:?}");
            Ok(())
        })
        .await
    };
    is_resident(&mut dim).await?;
    eventually("it leaves while nobody asks", PATIENCE, async || {
        let rows = status(&mut dim).await?.resident_rows;
        ensure!(rows == 0, "{rows} rows");
        Ok(())
    })
    .await?;
    scene.session.exec("UPDATE item SET v = 3, w = 3 WHERE id = 1")?;
    assert_eq!(only(&mut dim, "1").await?.row, "{\"id\":1,\"v\":3,\"w\":3}");
    is_resident(&mut dim).await?;
    eventually("it is read again though it is asked for all the time", PATIENCE, async || {
        let tier = only(&mut dim, "1").await?.tier();
        ensure!(tier == Tier::Source, "{tier:?}");
        Ok(())
    })
    .await
}
