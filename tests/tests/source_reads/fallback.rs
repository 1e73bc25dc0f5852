//! What a read by key promises.

use super::{
    followed::{Followed, PATIENCE, config},
    isolation,
};
use anyhow::{Context as _, Result, bail, ensure};
use dimsvc::{
    cache::{Found, Peek, Tier},
    change::chunk::TableReader,
    dimension::Key,
    fallback::{Fallback, FallbackError},
    load::{Batch, Begun, LoadError, Loader},
    store::{
        StorePool,
        memory::{Failing, MemoryStore},
    },
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::{Source, SourceOptions};
use tidemark_tests::{eventually, isolation::Isolation, mysql::Session};
use tokio_util::task::TaskTracker;

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Tables with every kind of key: definition, keys that are there as people
/// spell them, keys that are not.
const KINDS: &[(&str, &str, &[&str], &[&str])] = &[
    (
        "composite",
        "(a INT, b VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin, v INT, PRIMARY KEY (a, b)); \
         INSERT INTO composite VALUES (1, 'x', 1), (1, 'y', 2), (2, 'é', 3), (2, '?', 4), (-7, '', 5)",
        &["[1,\"x\"]", "[1,\"y\"]", "[2,\"é\"]", "[2,\"?\"]", "[-7,\"\"]"],
        // A character that the column's set lacks must not fail the others.
        &["[2,\"x\"]", "[3,\"x\"]", "[2,\"日\"]", "[1,\"X\"]"],
    ),
    (
        "decimals",
        "(k DECIMAL(30,4) PRIMARY KEY, v INT); \
         INSERT INTO decimals VALUES (1.5, 1), (-0.0001, 2), (12345678901234567890123456.7891, 3), (0, 4)",
        &["[1.50]", "[-0.0001]", "[12345678901234567890123456.7891]", "[0]"],
        &["[12345678901234567890123456.7892]", "[1.5001]"],
    ),
    (
        "bytes",
        "(k VARBINARY(20) PRIMARY KEY, v INT); \
         INSERT INTO bytes VALUES (X'', 1), (X'00ff27', 2), (X'00ff2720', 3), (X'00', 4)",
        &["[\"\"]", "[\"AP8n\"]", "[\"AP8nIA==\"]", "[\"AA==\"]"],
        &["[\"AAA=\"]", "[\"no base64\"]"],
    ),
    (
        "fixed",
        "(k BINARY(4) PRIMARY KEY, b BIT(10) NOT NULL, v INT); INSERT INTO fixed VALUES (X'01', 5, 1), (X'00', 6, 2)",
        &["[\"AQAAAA==\"]", "[\"AAAAAA==\"]"],
        &["[\"AgAAAA==\"]"],
    ),
    (
        "bits",
        "(b BIT(10), y YEAR, v INT, PRIMARY KEY (b, y)); INSERT INTO bits VALUES (5, 2026, 1), (1023, 1999, 2)",
        &["[5,2026]", "[1023,1999]"],
        &["[5,1999]"],
    ),
    (
        "times",
        "(d DATE, t DATETIME(3), s TIMESTAMP(2), c TIME, v INT, PRIMARY KEY (d, t, s, c)); INSERT INTO times VALUES \
         ('2026-01-02', '2026-01-02 03:04:05.6', '2026-01-02 03:04:05.67', '-25:00:01', 1), \
         ('0000-00-00', '9999-12-31 23:59:59.999', '1970-01-02 00:00:00', '00:00:00', 2)",
        &[
            "[\"2026-01-02\",\"2026-01-02 03:04:05.600\",\"2026-01-02 03:04:05.67\",\"-25:00:01\"]",
            "[\"0000-00-00\",\"9999-12-31 23:59:59.999\",\"1970-01-02 00:00:00.00\",\"00:00:00\"]",
        ],
        &["[\"2026-01-02\",\"2026-01-02 03:04:05.601\",\"2026-01-02 03:04:05.67\",\"-25:00:01\"]"],
    ),
    (
        "unicode",
        "(k VARCHAR(50) COLLATE utf8mb4_bin PRIMARY KEY, v INT); \
         INSERT INTO unicode VALUES ('ключ', 1), ('Ключ', 2), ('鍵', 3), ('🔑', 4), ('a''b\"c\\\\d\\ne', 5)",
        &["[\"ключ\"]", "[\"Ключ\"]", "[\"鍵\"]", "[\"🔑\"]", "[\"a'b\\\"c\\\\d\\ne\"]"],
        &["[\"КЛЮЧ\"]", "[\"键\"]", "[\"\"]"],
    ),
    (
        "narrow",
        "(k VARCHAR(50) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin PRIMARY KEY, v INT); \
         INSERT INTO narrow VALUES ('?', 1), ('é', 2)",
        &["[\"?\"]", "[\"é\"]"],
        &["[\"🔑\"]"],
    ),
    (
        "folded_nopad",
        "(k VARCHAR(50) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, v INT); \
         INSERT INTO folded_nopad VALUES ('ABC  ', 1), ('Straße', 2), ('ÉTÉ', 3), ('Ключ', 4), ('a\\tb', 5)",
        &["[\"abc\"]", "[\"STRAßE\"]", "[\"été  \"]", "[\"КЛЮЧ\"]", "[\"A\\tB\"]"],
        // Equal by the collation, other keys all the same.
        &["[\"ete\"]", "[\"strasse\"]", "[\"abcd\"]", "[\"a b\"]"],
    ),
    (
        "folded_pad",
        "(n INT, k VARCHAR(50) CHARACTER SET latin1 COLLATE latin1_swedish_ci, v INT, PRIMARY KEY (n, k)); \
         INSERT INTO folded_pad VALUES (1, 'ABC ', 1), (1, 'Ö', 2), (2, 'abc', 3)",
        &["[1,\"Abc\"]", "[1,\"ö\"]", "[2,\"ABC\"]"],
        &["[2,\"ö\"]", "[1,\"日\"]", "[3,\"abc\"]"],
    ),
];

fn create(session: &mut Session) -> Result<String> {
    session.exec("SET sql_mode = ''")?;
    let mut dimensions = String::new();
    for (name, definition, ..) in KINDS {
        for (at, statement) in definition.split("; ").enumerate() {
            session.exec(&if at == 0 {
                format!("CREATE TABLE {name} {statement}")
            } else {
                statement.into()
            })?;
        }
        let fold = if name.starts_with("folded") { "fold = \"lower\"\n" } else { "" };
        dimensions.push_str(&format!("[{name}]\nload = \"lazy\"\n{fold}"));
    }
    Ok(dimensions)
}

/// Every row of the table, by the reader that first loads use.
async fn all_rows(followed: &Followed, name: &str) -> Result<HashMap<Key, String>> {
    let live = followed.dimension(name);
    let dimension = &live.dimension;
    let reader = TableReader::open(&followed.source, live, (live.cache.floor(), PATIENCE)).await?;
    let mut conn = followed.source.connect().await?;
    let mut rows = HashMap::new();
    let mut after = None;
    loop {
        // One row a page: each place of each kind is passed.
        let page = reader.page(&mut conn, after.as_deref(), 1).await?;
        let Some(row) = page.first() else { return Ok(rows) };
        after = Some(reader.place_of(row));
        let (key, image) = reader.keyed(dimension, row)?.context("a table has all its rows")?;
        rows.insert(key, String::from_utf8(image.to_vec())?);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_reads_what_mysql_has() -> Result<()> {
    let isolation = isolation("kinds")?;
    let dimensions = create(&mut isolation.session(&isolation.name)?)?;
    let mut followed = Followed::begin(&isolation, &dimensions).await?;
    followed.config.dimsvc.fallback.reads_per_second = 1_000;
    followed.config.dimsvc.fallback.keys_per_read_max = 3;
    let fallback = followed.fallback();
    for (name, _, there, not_there) in KINDS {
        let expect = all_rows(&followed, name).await?;
        ensure!(expect.len() == there.len(), "{name}: {expect:?}");
        let spelled: Vec<_> = not_there.iter().chain(*there).chain(*not_there).copied().collect();
        let keys = followed.keys(name, &spelled)?;
        let read = fallback.read(followed.dimension(name), &keys, soon()).await.context(*name)?;
        for ((key, spelled), image) in keys.iter().zip(spelled).zip(&read.rows) {
            let image = image.as_ref().map(|image| String::from_utf8_lossy(image).into_owned());
            assert_eq!(image.as_ref(), expect.get(key), "{name} {spelled}");
            assert_eq!(image.is_some(), there.contains(&spelled), "{name} {spelled}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_fold_into_one_are_refused() -> Result<()> {
    let isolation = isolation("ambiguous")?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE t (k VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY)")?;
    session.exec("INSERT INTO t VALUES ('a'), ('A '), ('b')")?;
    let followed = Followed::begin(&isolation, "[t]\nload = \"lazy\"\nfold = \"lower\"\n").await?;
    let fallback = followed.fallback();
    let read = async |keys: &[&str]| {
        let keys = followed.keys("t", keys)?;
        anyhow::Ok(fallback.read(followed.dimension("t"), &keys, soon()).await)
    };
    ensure!(read(&["[\"b\"]"]).await??.rows[0].is_some());
    let refused = read(&["[\"a\"]"]).await?;
    ensure!(matches!(refused, Err(FallbackError::Ambiguous { .. })), "{refused:?}");
    Ok(())
}

async fn numbers(isolation: &Isolation) -> Result<(Session, Followed)> {
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT)")?;
    session.exec("INSERT INTO t VALUES (1, 0), (2, 0)")?;
    let mut followed = Followed::begin(isolation, "[t]\nload = \"lazy\"\n").await?;
    followed.config.dimsvc.fallback.reads_per_second = 10_000;
    Ok((session, followed))
}

/// The SELECT waits for a lock until the change is committed, so it sees a
/// change that was not applied at low. Fails without the wait for `high` in
/// `Shared::admit_and_read`: the row would be given out before its change.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_only_when_what_it_saw_is_applied() -> Result<()> {
    let isolation = isolation("high")?;
    let (mut session, followed) = numbers(&isolation).await?;
    let (live, fallback) = (Arc::clone(followed.dimension("t")), followed.fallback());
    let keys = followed.keys("t", &["[1]"])?;
    // Before the feed is held: the reader is then known.
    fallback.read(&live, &keys, soon()).await?;
    followed.caught_up().await?;
    followed.hold(true);
    session.exec("LOCK TABLES t WRITE")?;
    let deadline = Instant::now() + Duration::from_secs(2);
    let low = followed.live.applied.get();
    let (read, changed) = tokio::join!(fallback.read(&live, &keys, deadline), async {
        eventually("the SELECT waits", PATIENCE, async || {
            let waiting = isolation.session("")?.value(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for table metadata%'",
            )?;
            ensure!(waiting.as_deref() != Some("0"), "nobody waits");
            Ok(())
        })
        .await?;
        session.exec("UPDATE t SET v = 1 WHERE id = 1")?;
        session.exec("UNLOCK TABLES")
    });
    changed?;
    ensure!(matches!(read, Err(FallbackError::Behind(high)) if high > low), "{read:?}");
    followed.hold(false);
    let read = fallback.read(&live, &keys, soon()).await?;
    ensure!(read.rows[0].as_deref() == Some(b"{\"id\":1,\"v\":1}"), "{read:?}");
    Ok(())
}

fn loader(followed: &Followed, store: StorePool) -> Result<Loader> {
    Ok(Loader {
        store,
        shared: followed.repair(1)?.shared,
        fallback: followed.fallback(),
        metrics: Arc::clone(&followed.metrics),
        timeout: PATIENCE,
        tasks: TaskTracker::new(),
    })
}

/// A transaction is open while the key is read, and commits at any moment of
/// it: the newest row is there in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_races_a_read_is_never_lost() -> Result<()> {
    let isolation = isolation("raced")?;
    let (mut session, followed) = numbers(&isolation).await?;
    let live = Arc::clone(followed.dimension("t"));
    let loader = loader(&followed, followed.store.clone())?;
    let key = followed.keys("t", &["[1]"])?.remove(0);
    for round in 1..=60_u32 {
        live.cache.invalidate_all();
        session.exec("BEGIN")?;
        session.exec(&format!("UPDATE t SET v = {round} WHERE id = 1"))?;
        let mut batch = Batch::default();
        let Begun::Awaited(row) = batch.begin(&live, &key) else { bail!("it is resident") };
        loader.start(&live, batch);
        for _ in 0..round * 20 {
            tokio::task::yield_now().await;
        }
        session.exec("COMMIT")?;
        row.wait().await?;
        followed.caught_up().await?;
        let found = live.cache.peek(key.as_bytes(), followed.live.applied.get());
        let Peek::Hit(found) = found else { bail!("{found:?}") };
        let expect = format!("{{\"id\":1,\"v\":{round}}}");
        assert_eq!(found.answer.image(), Some(expect.as_bytes()), "round {round}");
    }
    Ok(())
}

/// The store alone knows the last image of a deleted row. Fails without
/// `is_gone` in `Loader::read_truth`: the key would be told to be absent.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_does_not_tell_what_a_deleted_row_was() -> Result<()> {
    let isolation = isolation("marked")?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT)")?;
    session.exec("INSERT INTO t VALUES (1, 7)")?;
    let dimensions = "[t]\ncache = \"lru\"\ndeleted = \"mark\"\n\
                      [kept]\nsource = \"t\"\ncache = \"lru\"\n";
    let followed = Followed::begin(&isolation, dimensions).await?;
    let failing = Arc::new(Failing::new(Arc::new(MemoryStore::default())));
    let loader = loader(&followed, StorePool::new(failing, 2, 64, PATIENCE))?;
    let load = async |name: &str, key: &str| -> Result<Result<Found, LoadError>> {
        let (live, key) = (followed.dimension(name), followed.keys(name, &[key])?.remove(0));
        let mut batch = Batch::default();
        let Begun::Awaited(row) = batch.begin(live, &key) else { bail!("{name} {key:?} is resident") };
        loader.start(live, batch);
        Ok(row.wait().await)
    };

    for name in ["t", "kept"] {
        let there = load(name, "[1]").await??;
        ensure!(
            there.tier == Tier::Source && there.answer.image() == Some(b"{\"id\":1,\"v\":7}"),
            "{there:?}"
        );
    }
    let absent = load("kept", "[9]").await??;
    ensure!(absent.tier == Tier::Source && absent.answer.image().is_none(), "{absent:?}");
    let unknown = load("t", "[9]").await?;
    ensure!(matches!(&unknown, Err(LoadError::Store(error)) if error.is_retryable()), "{unknown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_beyond_the_budget_is_refused_at_once() -> Result<()> {
    let isolation = isolation("budget")?;
    let (_session, mut followed) = numbers(&isolation).await?;
    let live = Arc::clone(followed.dimension("t"));
    let keys = followed.keys("t", &["[1]", "[2]", "[3]"])?;
    followed.config.dimsvc.fallback.reads_per_second = 1;
    let fallback = followed.fallback();
    fallback.read(&live, &keys, soon()).await?;
    let refused = fallback.read(&live, &keys, Instant::now()).await;
    ensure!(matches!(refused, Err(FallbackError::Overloaded(_))), "{refused:?}");
    // Three queries of one key each do not fit before this deadline either.
    followed.config.dimsvc.fallback.keys_per_read_max = 1;
    let deadline = Instant::now() + Duration::from_secs(1);
    let refused = followed.fallback().read(&live, &keys, deadline).await;
    ensure!(matches!(refused, Err(FallbackError::Overloaded(_))), "{refused:?}");
    ensure!(followed.metrics.fallback.refused.get() == 2 && followed.metrics.fallback.queries.get() == 1);
    followed.config.dimsvc.fallback.reads_per_second = 0;
    let forbidden = followed.fallback();
    ensure!(!forbidden.is_allowed());
    let refused = forbidden.read(&live, &keys, soon()).await;
    ensure!(matches!(refused, Err(FallbackError::Forbidden)), "{refused:?}");
    Ok(())
}

/// Fails without `passage.failed` in `Shared::admit_and_read`: each read would go
/// to a dead server.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_down_is_an_error_and_then_left_alone() -> Result<()> {
    let isolation = isolation("down")?;
    let (_session, followed) = numbers(&isolation).await?;
    let live = Arc::clone(followed.dimension("t"));
    let keys = followed.keys("t", &["[1]"])?;
    let mut config = config(&isolation);
    config.mysql.port = 1;
    let source = Source::new(SourceOptions::from(&config.mysql));
    let fallback = Fallback::new(source, Arc::clone(&followed.live), Arc::clone(&followed.metrics), &config);
    for _ in 0..3 {
        let failed = fallback.read(&live, &keys, soon()).await;
        ensure!(matches!(&failed, Err(FallbackError::Read(error)) if error.is_retryable()), "{failed:?}");
    }
    let refused = fallback.read(&live, &keys, soon()).await;
    ensure!(matches!(refused, Err(FallbackError::Overloaded(_))), "{refused:?}");
    ensure!(followed.metrics.fallback.breaker_open.get() == 1);
    Ok(())
}

/// Fails without the comparison of columns in `TableReader::rows`: values would
/// be read as the columns were.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_altered_is_described_again() -> Result<()> {
    let isolation = isolation("altered")?;
    let (mut session, followed) = numbers(&isolation).await?;
    let live = Arc::clone(followed.dimension("t"));
    let fallback = followed.fallback();
    let keys = followed.keys("t", &["[1]"])?;
    fallback.read(&live, &keys, soon()).await?;
    session.exec("ALTER TABLE t MODIFY v VARCHAR(10)")?;
    let refused = fallback.read(&live, &keys, soon()).await;
    ensure!(
        refused.as_ref().is_err_and(|error| error.to_string().contains("changed its type")),
        "{refused:?}"
    );
    session.exec("ALTER TABLE t MODIFY v BIGINT, ADD COLUMN w INT FIRST")?;
    let read = fallback.read(&live, &keys, soon()).await?;
    ensure!(read.rows[0].as_deref() == Some(b"{\"id\":1,\"v\":0}"), "{read:?}");
    Ok(())
}
