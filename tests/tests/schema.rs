//! A dimension whose table changes while it is followed: columns that come,
//! rows that go at once, and changes that cannot be followed.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::Duration,
};
use tidemark_proto::dim::v1::{Answer, DescribeRequest, DescribeResponse, Role};
use tidemark_tests::{
    dim::{Dim, as_of_offset, latest, now},
    eventually, free_port,
    isolation::Isolation,
    process::Process,
    programs::Programs,
    stack::Stack,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// One table in every form that a dimension has, and a second one.
const DIMENSIONS: &str = "
    [full]\nsource = \"t\"\ncache = \"full\"\nindexes = { by_v = [\"v\"] }\n
    [lru]\nsource = \"t\"\ncache = \"lru\"\n
    [some]\nsource = \"t\"\ncache = \"full\"\ncolumns = [\"id\", \"v\"]\n
    [other]\nsource = \"u\"\ncache = \"full\"\n";
const ALL: [&str; 3] = ["full", "lru", "some"];

fn make_tables(isolation: &Isolation) -> Result<()> {
    let mut session = isolation.session(&isolation.name)?;
    for table in ["t", "u"] {
        session.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v INT, s VARCHAR(20))"))?;
        let rows: Vec<_> = (1..=100).map(|id| format!("({id}, 0, 's{id}')")).collect();
        session.exec(&format!("INSERT INTO {table} VALUES {}", rows.join(", ")))?;
    }
    Ok(())
}

struct Scene {
    isolation: Isolation,
    programs: Programs,
    dimsvc: Process,
    dim: Dim,
}

impl Scene {
    async fn new(test: &str) -> Result<Self> {
        let isolation = Isolation::new(test, &Stack::with(&["mysql", "kafka", "clickhouse"])?)?;
        make_tables(&isolation)?;
        let programs = isolation.programs("examples/gmall")?;
        fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
        let dimsvc = programs.dimsvc().await?;
        let dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
        Ok(Self { isolation, programs, dimsvc, dim })
    }

    /// Makes a change, and tells where the binlog ends after it.
    fn change(&self, sql: &str) -> Result<String> {
        let mut session = self.isolation.session(&self.isolation.name)?;
        session.exec(sql)?;
        session.binlog_end()
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.isolation.session(&self.isolation.name)?.exec(sql)
    }

    async fn restart(&mut self) -> Result<()> {
        self.dimsvc.kill()?;
        self.dimsvc = self.programs.dimsvc().await?;
        self.dim = Dim::connect(self.programs.settings.get("dimsvc.listen")?).await?;
        Ok(())
    }

    async fn newest(&mut self, table: &str, id: u32) -> Result<Answer> {
        Ok(self.dim.lookup(table, &[format!("[{id}]")], now()).await?.remove(0))
    }

    async fn as_of(&mut self, table: &str, id: u32, place: &str) -> Result<Answer> {
        Ok(self.dim.lookup(table, &[format!("[{id}]")], as_of_offset(place)).await?.remove(0))
    }

    async fn describe(&mut self, table: &str) -> Result<DescribeResponse> {
        let request = DescribeRequest { table: table.to_owned() };
        Ok(self.dim.0.describe(request).await?.into_inner())
    }

    /// Every row of MySQL and of a dimension, by the columns of the dimension.
    async fn equals_mysql(&mut self, (dimension, table): (&str, &str), columns: &[&str]) -> Result<()> {
        let pairs: Vec<_> = columns.iter().map(|name| format!("'{name}', `{name}`")).collect();
        let sql = format!("SELECT id, JSON_OBJECT({}) FROM {table} ORDER BY id", pairs.join(", "));
        let rows = self.isolation.session(&self.isolation.name)?.rows(&sql)?;
        let keys: Vec<_> = (1..=300).map(|id| format!("[{id}]")).collect();
        let answers = self.dim.lookup(dimension, &keys, now()).await?;
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text);
        let mut expected = std::collections::BTreeMap::new();
        for row in rows {
            let [Some(id), Some(row)] = &row[..] else { anyhow::bail!("{row:?}") };
            expected.insert(format!("[{id}]"), parse(row)?);
        }
        for answer in answers {
            let held = if answer.found { Some(parse(&answer.row)?) } else { None };
            assert_eq!(held.as_ref(), expected.get(&answer.key), "{dimension} {}", answer.key);
        }
        Ok(())
    }
}

/// Changes rows of a table, one after the other, until it is dropped.
struct Traffic {
    stop: SyncSender<()>,
    thread: JoinHandle<Result<u32>>,
}

impl Traffic {
    /// What a feed on a busy machine can follow.
    const PACE: Duration = Duration::from_millis(10);

    fn start(isolation: &Isolation, table: &'static str) -> Result<Self> {
        let mut session = isolation.session(&isolation.name)?;
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut round = 0;
            while stopped.recv_timeout(Self::PACE) == Err(RecvTimeoutError::Timeout) {
                round += 1;
                let (a, b) = (10 + round % 40, 60 + round % 20);
                session.exec(&format!("UPDATE {table} SET v = v + 1 WHERE id = {a}"))?;
                session.exec(&format!("DELETE FROM {table} WHERE id = {b}"))?;
                session.exec(&format!("INSERT INTO {table} (id, v) VALUES ({b}, {round})"))?;
            }
            Ok(round)
        });
        Ok(Self { stop, thread })
    }

    /// How many rounds it wrote.
    fn end(self) -> Result<u32> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }
}

/// Fails without `complete` in the timeline's `clip` (row 1 lacks the column),
/// without `columns_at` in `collapse_row` (what came before the column cannot be
/// replayed), and without `definition.columns` in `try_write` (the restart).
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_come_are_seen_from_their_statement_on() -> Result<()> {
    let mut scene = Scene::new("add_column").await?;
    let traffic = Traffic::start(&scene.isolation, "t")?;
    let before = scene.change("UPDATE t SET v = 5 WHERE id = 2")?;
    scene.run("ALTER TABLE t ADD COLUMN grade DECIMAL(5,2) NOT NULL DEFAULT 1.5 AFTER id, ADD INDEX (v)")?;
    let after = scene.change("UPDATE t SET v = 6, grade = 7 WHERE id = 2")?;
    scene.run("ALTER TABLE t ADD COLUMN (a VARCHAR(9) DEFAULT 'x\"y', b DATETIME(3)), ALGORITHM=INSTANT")?;
    let last = scene.change("UPDATE t SET v = 7 WHERE id = 2")?;
    for round in ["running", "killed", "killed again"] {
        for table in ["full", "lru"] {
            let row = scene.as_of(table, 2, &before).await?.row;
            assert_eq!(row, r#"{"id":2,"v":5,"s":"s2"}"#, "{table} {round}");
            let row = scene.as_of(table, 2, &after).await?.row;
            assert_eq!(row, r#"{"id":2,"v":6,"s":"s2","grade":7.00}"#, "{table} {round}");
            let row = scene.as_of(table, 2, &last).await?.row;
            assert_eq!(row, r#"{"id":2,"v":7,"s":"s2","grade":7.00,"a":"x\"y","b":null}"#, "{table} {round}");
            let row = scene.as_of(table, 1, &after).await?.row;
            assert_eq!(row, r#"{"id":1,"v":0,"s":"s1","grade":1.50}"#, "{table} {round}");
            let row = scene.newest(table, 1).await?.row;
            assert_eq!(row, r#"{"id":1,"v":0,"s":"s1","grade":1.50,"a":"x\"y","b":null}"#, "{table} {round}");
            let columns = scene.describe(table).await?.columns;
            let types: Vec<_> = columns.iter().map(|column| column.mysql_type.as_str()).collect();
            assert_eq!(types, ["int", "int", "varchar(20)", "decimal(5,2)", "varchar(9)", "datetime(3)"]);
        }
        assert_eq!(scene.newest("some", 2).await?.row, r#"{"id":2,"v":7}"#, "{round}");
        scene.restart().await?;
    }
    ensure!(traffic.end()? > 0, "nothing was written");
    for table in ["full", "lru"] {
        scene.equals_mysql((table, "t"), &["id", "v", "s", "grade", "a", "b"]).await?;
    }
    scene.equals_mysql(("some", "t"), &["id", "v"]).await?;
    ensure!(scene.describe("full").await?.unknown.is_empty(), "nothing had to be mended");
    Ok(())
}

/// Fails without `truncate` in `apply_statement`.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_hides_what_was_before_it() -> Result<()> {
    let mut scene = Scene::new("truncate").await?;
    let traffic = Traffic::start(&scene.isolation, "t")?;
    let before = scene.change("UPDATE t SET v = 5 WHERE id = 2")?;
    let kept = scene.change("UPDATE t SET v = 6 WHERE id = 2")?;
    scene.run("TRUNCATE t")?;
    let emptied = scene.change("INSERT INTO u VALUES (200, 0, 'after the truncation')")?;
    let after = scene.change("INSERT INTO t VALUES (2, 9, 'again')")?;
    let last = scene.change("UPDATE t SET v = 10 WHERE id = 2")?;
    ensure!(traffic.end()? > 0, "nothing was written");
    for round in ["running", "killed"] {
        for table in ALL {
            ensure!(scene.as_of(table, 2, &before).await?.row.contains("\"v\":5"), "{table} {round}");
            ensure!(scene.as_of(table, 2, &kept).await?.row.contains("\"v\":6"), "{table} {round}");
            ensure!(scene.as_of(table, 1, &kept).await?.found, "{table} {round}");
            ensure!(!scene.as_of(table, 2, &emptied).await?.found, "{table} {round}");
            ensure!(scene.as_of(table, 2, &after).await?.row.contains("\"v\":9"), "{table} {round}");
            ensure!(scene.as_of(table, 2, &last).await?.row.contains("\"v\":10"), "{table} {round}");
            ensure!(!scene.newest(table, 1).await?.found, "{table} {round}");
        }
        scene.equals_mysql(("full", "t"), &["id", "v", "s"]).await?;
        scene.restart().await?;
    }
    Ok(())
}

/// Fails without `set_columns` in `Mender::mend`: the table is compared by
/// columns that it does not have any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_followed_is_mended_while_others_go_on() -> Result<()> {
    let mut scene = Scene::new("incompatible").await?;
    let (t, u) = (Traffic::start(&scene.isolation, "t")?, Traffic::start(&scene.isolation, "u")?);
    let before = scene.change("UPDATE t SET v = 5 WHERE id = 2")?;
    scene.run("ALTER TABLE t DROP COLUMN s, MODIFY v BIGINT, ADD COLUMN w INT DEFAULT 3")?;
    let after = scene.change("UPDATE t SET v = 6 WHERE id = 2")?;
    // A column that is not kept changes nothing.
    let row = scene.newest("some", 2).await?.row;
    assert_eq!(row, r#"{"id":2,"v":6}"#);
    let address = scene.programs.settings.get("dimsvc.listen")?.to_owned();
    for table in ["full", "lru"] {
        eventually("it is mended", PATIENCE, async || {
            let mut dim = Dim::connect(&address).await?;
            let row = dim.lookup(table, &["[2]".to_owned()], now()).await?.remove(0);
            ensure!(row.row == r#"{"id":2,"v":6,"w":3}"#, "{}", row.row);
            Ok(())
        })
        .await?;
    }
    for round in ["running", "killed"] {
        for table in ["full", "lru"] {
            assert_eq!(scene.as_of(table, 2, &before).await?.row, r#"{"id":2,"v":5,"s":"s2"}"#, "{round}");
            ensure!(scene.as_of(table, 2, &after).await?.before_history, "{table} {round}");
            ensure!(scene.describe(table).await?.unknown.len() == 1, "{table} {round}");
        }
        scene.restart().await?;
    }
    ensure!(t.end()? > 0 && u.end()? > 0, "nothing was written");
    for table in ["full", "lru"] {
        scene.equals_mysql((table, "t"), &["id", "v", "w"]).await?;
    }
    scene.equals_mysql(("other", "u"), &["id", "v", "s"]).await?;
    ensure!(scene.describe("other").await?.unknown.is_empty(), "it was never lost");
    Ok(())
}

/// Fails without `check_known` (a lookup past the statement is answered), without
/// `lost` in `Status`, and without the retries in `Mender::look`.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_answers_its_past_and_comes_back() -> Result<()> {
    let mut scene = Scene::new("swapped").await?;
    let traffic = Traffic::start(&scene.isolation, "u")?;
    let before = scene.change("UPDATE t SET v = 5 WHERE id = 2")?;
    scene.run("RENAME TABLE t TO t_old")?;
    let address = scene.programs.settings.get("dimsvc.listen")?.to_owned();
    eventually("Status says what keeps it", PATIENCE, async || {
        let status = Dim::connect(&address).await?.status().await?;
        let lost = |name: &str| status.dimensions.iter().find(|d| d.name == name).map(|d| d.lost.clone());
        ensure!(lost("full").is_some_and(|why| why.contains("there is no table")), "{:?}", lost("full"));
        ensure!(lost("other").is_some_and(|why| why.is_empty()) && status.following, "the others follow");
        Ok(())
    })
    .await?;
    let refused = scene.dim.lookup("full", &["[2]".to_owned()], latest()).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("RENAME TABLE t TO t_old"), "{refused:#}");
    ensure!(scene.as_of("full", 2, &before).await?.row.contains("\"v\":5"));
    scene.run("UPDATE u SET v = 77 WHERE id = 3")?;
    let row = scene.dim.lookup("other", &["[3]".to_owned()], now()).await?.remove(0);
    ensure!(row.row.contains("77"), "{}", row.row);

    // As the tools for changes online do it: a copy takes the table's place.
    scene.run("CREATE TABLE t_new LIKE t_old")?;
    scene.run("ALTER TABLE t_new ADD COLUMN first_one INT FIRST")?;
    scene.run("INSERT INTO t_new (id, v, s) SELECT id, v + 1, s FROM t_old WHERE id <> 3")?;
    scene.run("RENAME TABLE t_new TO t")?;
    for table in ["full", "lru", "some"] {
        eventually("it is back", PATIENCE, async || {
            let mut dim = Dim::connect(&address).await?;
            let rows = dim.lookup(table, &["[2]".to_owned(), "[3]".to_owned()], now()).await?;
            let [two, three] = &rows[..] else { anyhow::bail!("{rows:?}") };
            ensure!(two.row.contains("\"v\":6") && !three.found, "{rows:?}");
            Ok(())
        })
        .await?;
    }
    scene.run("INSERT INTO t (id, v, s, first_one) VALUES (3, 30, 'x', 1)")?;
    traffic.end()?;
    for round in ["running", "killed"] {
        scene.equals_mysql(("full", "t"), &["id", "v", "s", "first_one"]).await.context(round)?;
        scene.equals_mysql(("lru", "t"), &["id", "v", "s", "first_one"]).await.context(round)?;
        scene.equals_mysql(("some", "t"), &["id", "v"]).await.context(round)?;
        scene.restart().await?;
    }
    Ok(())
}

/// Fails without `rejoin` (the standby never answers again), and without `fill`
/// in it (its `full` tier lacks what it passed over).
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_again_and_takes_over() -> Result<()> {
    let isolation = Isolation::new("rejoin", &Stack::with(&["mysql", "kafka", "clickhouse", "hbase"])?)?;
    make_tables(&isolation)?;
    let mut replicas = Vec::new();
    for name in ["one", "other"] {
        let mut programs = isolation.programs("examples/gmall")?;
        fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
        programs.folder = programs.folder.join(name);
        let port = || free_port().map(|port| format!("127.0.0.1:{port}"));
        let settings = &mut programs.settings;
        settings.set("dimsvc.store", "hbase").set("dimsvc.server_id", 0);
        settings.set("dimsvc.listen", port()?).set("dimsvc.metrics_listen", port()?);
        replicas.push((programs.dimsvc().await?, programs));
    }
    let traffic = Traffic::start(&isolation, "t")?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("ALTER TABLE t DROP COLUMN s, ADD COLUMN w INT DEFAULT 3")?;
    session.exec("UPDATE t SET v = 6 WHERE id = 2")?;
    session.exec("DELETE FROM t WHERE id = 3")?;
    for (_, programs) in &replicas {
        let address = programs.settings.get("dimsvc.listen")?;
        eventually("each replica knows the table", PATIENCE, async || {
            let mut dim = Dim::connect(address).await?;
            for table in ["full", "lru"] {
                let rows = dim.lookup(table, &["[2]".to_owned(), "[3]".to_owned()], now()).await?;
                let [two, three] = &rows[..] else { anyhow::bail!("{rows:?}") };
                ensure!(two.row == r#"{"id":2,"v":6,"w":3}"# && !three.found, "{rows:?}");
            }
            Ok(())
        })
        .await?;
    }
    for (number, (_, programs)) in replicas.iter().enumerate() {
        let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
        if dim.status().await?.role() == Role::Writer {
            replicas.remove(number).0.kill()?;
            break;
        }
    }
    ensure!(traffic.end()? > 0 && replicas.len() == 1, "one of them was the writer");
    let (dimsvc, programs) = replicas.remove(0);
    let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
    eventually("the other takes over", PATIENCE, async || {
        ensure!(dim.status().await?.role() == Role::Writer, "still a standby");
        Ok(())
    })
    .await?;
    let mut scene = Scene { isolation, programs, dimsvc, dim };
    for round in ["taken over", "killed"] {
        for table in ["full", "lru"] {
            scene.equals_mysql((table, "t"), &["id", "v", "w"]).await.context(round)?;
        }
        scene.restart().await?;
    }
    Ok(())
}
