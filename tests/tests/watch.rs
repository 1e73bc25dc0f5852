//! Watch over real MySQL: a client's cache that is kept by changes alone.

use anyhow::{Context as _, Result, bail, ensure};
use std::{collections::BTreeMap, fs, time::Duration};
use tidemark_proto::dim::v1::{
    LookupRequest, Position, TableLookup, WatchRequest, WatchResponse, position::Place,
};
use tidemark_tests::{
    dim::{Dim, now},
    eventually,
    isolation::Isolation,
    mysql::Session,
    programs::Programs,
    stack::Stack,
};
use tokio::{
    sync::watch::{Receiver, Sender, channel},
    task::JoinSet,
};
use tonic::{Code, Status, Streaming};

const STACK: &[&str] = &["mysql", "kafka", "clickhouse"];
const PATIENCE: Duration = Duration::from_secs(60);
const DIMENSIONS: &str = "[a]\ncache = \"full\"\n\n[b]\ncache = \"lru\"\n";
const TABLES: [&str; 2] = ["a", "b"];
/// Keys that exist at some time.
const KEYS: u64 = 400;

/// Rows as JSON by (table, key).
type Rows = BTreeMap<(String, String), String>;

fn setup(test: &str) -> Result<(Isolation, Programs)> {
    let isolation = Isolation::new(test, &Stack::with(STACK)?)?;
    let programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
    let mut session = isolation.session(&isolation.name)?;
    for table in TABLES {
        session.exec(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, v BIGINT, s TEXT)"))?;
    }
    Ok((isolation, programs))
}

/// Transaction number `n`: which keys it touches depends on `n` alone. Every
/// 16th one rewrites all keys of a table, which takes more than one message.
fn transact(session: &mut Session, n: u64) -> Result<()> {
    let (first, second) = (n * 7 % KEYS, n * 31 % KEYS);
    let table = if n.is_multiple_of(2) { "a" } else { "b" };
    let statements = match n % 16 {
        0 => {
            let rows: Vec<_> = (0..KEYS).map(|id| format!("({id}, {n}, REPEAT('x', 100))")).collect();
            vec![format!("REPLACE INTO {table} VALUES {}", rows.join(","))]
        }
        5 => vec![format!("DELETE FROM {table} WHERE id % 7 = {}", n / 16 % 7)],
        // A key change, which replaces whatever the new key held.
        9 => vec![
            format!("DELETE FROM {table} WHERE id = {second} AND id <> {first}"),
            format!("UPDATE {table} SET id = {second}, v = {n} WHERE id = {first}"),
        ],
        _ => vec![
            format!("REPLACE INTO a VALUES ({first}, {n}, '')"),
            format!("REPLACE INTO b VALUES ({second}, {n}, '')"),
        ],
    };
    session.exec("BEGIN")?;
    for statement in statements {
        session.exec(&statement)?;
    }
    session.exec("COMMIT")
}

fn mysql_rows(isolation: &Isolation) -> Result<Rows> {
    let mut session = isolation.session(&isolation.name)?;
    let mut rows = Rows::new();
    for table in TABLES {
        for row in session.rows(&format!("SELECT id, v, s FROM {table}"))? {
            let [Some(id), Some(v), Some(s)] = &row[..] else { bail!("three columns were selected") };
            let key = (table.to_owned(), format!("[{id}]"));
            rows.insert(key, format!("{{\"id\":{id},\"v\":{v},\"s\":\"{s}\"}}"));
        }
    }
    Ok(rows)
}

/// What a client keeps: rows as of a position, and where to resume.
#[derive(Clone, Debug)]
struct Cache {
    rows: Rows,
    after: u64,
    messages: u64,
    cut: u64,
    resumed: u64,
}

impl Cache {
    /// All keys of all tables, as of one position.
    async fn load(dim: &mut Dim) -> Result<Self> {
        let keys: Vec<_> = (0..KEYS).map(|id| format!("[{id}]")).collect();
        let table =
            |table: &str| TableLookup { table: table.into(), plain_keys: keys.clone(), ..Default::default() };
        let request =
            LookupRequest { tables: TABLES.iter().map(|name| table(name)).collect(), ..Default::default() };
        let response = dim.0.lookup(request).await.context("load")?.into_inner();
        let mut rows = Rows::new();
        for (table, answers) in TABLES.iter().zip(response.tables) {
            let found = answers.answers.into_iter().filter(|answer| answer.found);
            rows.extend(found.map(|answer| (((*table).to_owned(), answer.key), answer.row)));
        }
        Ok(Self { rows, after: response.applied, messages: 0, cut: 0, resumed: 0 })
    }

    fn take(&mut self, message: WatchResponse) {
        self.messages += 1;
        self.cut += u64::from(!message.changes.is_empty() && message.applied == self.after);
        self.after = message.applied;
        for change in message.changes {
            let key = (change.table, change.key);
            if change.deleted {
                self.rows.remove(&key)
            } else {
                self.rows.insert(key, change.row)
            };
        }
    }

    /// Follows until everything up to `goal` has come, over lost connections;
    /// `connected` counts those on which something came.
    async fn follow(
        &mut self,
        address: &str,
        mut goal: Receiver<u64>,
        connected: &Sender<u64>,
    ) -> Result<()> {
        let goal_is_reached = |after: u64, goal: u64| goal > 0 && after >= goal;
        while !goal_is_reached(self.after, *goal.borrow_and_update()) {
            let Ok(mut dim) = Dim::connect(address).await else {
                tokio::task::yield_now().await;
                continue;
            };
            match watch(&mut dim, &[], Some(self.after)).await {
                Ok(mut messages) => {
                    let this = *connected.borrow() + 1;
                    while let Ok(Some(message)) = messages.message().await {
                        self.take(message);
                        connected.send_replace(this);
                        if goal_is_reached(self.after, *goal.borrow_and_update()) {
                            return Ok(());
                        }
                    }
                    self.resumed += 1;
                }
                Err(status) if status.code() == Code::OutOfRange => bail!("not resumed: {status}"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        Ok(())
    }
}

async fn watch(
    dim: &mut Dim,
    tables: &[&str],
    after: Option<u64>,
) -> Result<Streaming<WatchResponse>, Status> {
    let after = after.map(|packed| Position { place: Some(Place::Packed(packed)) });
    let tables = tables.iter().map(|table| (*table).to_owned()).collect();
    Ok(dim.0.watch(WatchRequest { tables, after }).await?.into_inner())
}

async fn applied_now(dim: &mut Dim) -> Result<u64> {
    dim.lookup("a", &[], now()).await?;
    Ok(dim.status().await?.applied)
}

/// Fails when `apply_transaction` pushes into the ring after `applied` has moved:
/// a watch then passes over changes that it has not seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_lookups_and_watch_equals_mysql_over_kills() -> Result<()> {
    let (isolation, mut programs) = setup("watch")?;
    // A message of changes has half of it: a rewrite of all keys needs several.
    programs.settings.set("dimsvc.limits.message_bytes_max", 65_536);
    let mut session = isolation.session(&isolation.name)?;
    for n in 1..16 {
        transact(&mut session, n)?;
    }
    let mut dimsvc = programs.dimsvc().await?;
    let address = programs.settings.get("dimsvc.listen")?.to_owned();
    let mut cache = Cache::load(&mut Dim::connect(&address).await?).await?;
    let (goal, seen) = channel(0);
    let (connected, mut connections) = channel(0);
    let mut follower = JoinSet::new();
    follower.spawn(async move {
        cache.follow(&address, seen, &connected).await?;
        anyhow::Ok(cache)
    });
    for round in 1..=3 {
        for n in 0..150 {
            transact(&mut session, round * 1_000 + n)?;
        }
        // Only a connection that is there can be lost.
        let is_there = connections.wait_for(|connected| *connected >= round);
        tokio::time::timeout(PATIENCE, is_there).await.context("the follower is not connected")??;
        dimsvc.kill()?;
        for n in 150..200 {
            transact(&mut session, round * 1_000 + n)?;
        }
        dimsvc = programs.dimsvc().await?;
    }
    let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
    goal.send_replace(applied_now(&mut dim).await?);
    let ended =
        tokio::time::timeout(PATIENCE, follower.join_next()).await.context("the goal is not reached")?;
    let cache = ended.context("one follower")???;
    assert_eq!(cache.rows, mysql_rows(&isolation)?, "{} messages", cache.messages);
    ensure!(cache.resumed >= 3, "{} of 3 kills were met", cache.resumed);
    ensure!(cache.cut > 0, "no transaction was cut in {} messages", cache.messages);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_the_ring_is_told_where_it_begins() -> Result<()> {
    let (isolation, mut programs) = setup("watch_old")?;
    programs.settings.set("dimsvc.limits.watch_bytes_max", 2_000);
    let _dimsvc = programs.dimsvc().await?;
    let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
    let before = applied_now(&mut dim).await?;
    let mut slow = watch(&mut dim, &[], Some(before)).await?;
    let mut session = isolation.session(&isolation.name)?;
    for n in 1..100 {
        transact(&mut session, n)?;
    }
    let after = applied_now(&mut dim).await?;
    let refused = watch(&mut dim, &[], Some(before)).await.err().context("the ring is too small")?;
    ensure!(refused.code() == Code::OutOfRange, "{refused}");
    let oldest = oldest(refused.message())?;
    // From there on it is complete.
    let mut messages = watch(&mut dim, &["a", "b"], Some(oldest)).await?;
    while messages.message().await?.context("it goes on")?.applied < after {}
    // A watcher that fell behind is told as well, not skipped ahead: it has
    // what was sent before, then the error.
    let end = loop {
        match slow.message().await {
            Ok(Some(message)) if message.applied >= after => break None,
            Ok(Some(_)) => {}
            Ok(None) => bail!("ended without a reason"),
            Err(status) => break Some(status),
        }
    };
    ensure!(end.is_none_or(|status| status.code() == Code::OutOfRange), "another error");
    Ok(())
}

/// The position in "changes are kept from 1/000001:157 on".
fn oldest(message: &str) -> Result<u64> {
    let text = message.split_whitespace().find(|word| word.contains('/')).context("a position is named")?;
    let (epoch, place) = text.split_once('/').context("epoch first")?;
    Ok(tidemark_proto::Position::parse(place, epoch.parse()?)?.packed())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_watch_reports_progress_and_ends_with_the_service() -> Result<()> {
    let (isolation, mut programs) = setup("watch_idle")?;
    programs.settings.set("dimsvc.limits.watchers_max", 1);
    let mut dimsvc = programs.dimsvc().await?;
    let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
    let mut messages = watch(&mut dim, &["b"], None).await?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("INSERT INTO a VALUES (1, 1, '')")?;
    let changed = applied_now(&mut dim).await?;
    // The other table's change comes as progress alone.
    let mark = loop {
        let message = messages.message().await?.context("it goes on")?;
        ensure!(message.changes.is_empty(), "a change of another table");
        if message.applied >= changed {
            break message;
        }
    };
    let next = messages.message().await?.context("it goes on")?;
    ensure!(next.changes.is_empty() && next.applied >= mark.applied, "silence is broken by marks");
    let second = watch(&mut dim, &[], None).await.err().context("one watcher is allowed")?;
    ensure!(second.code() == Code::ResourceExhausted, "{second}");
    let stopped = dimsvc.stop(Duration::from_secs(10)).await?;
    ensure!(stopped.success(), "a watch must not hold up the stop: {stopped}");
    while let Some(message) = messages.message().await.context("a clean end")? {
        ensure!(message.changes.is_empty(), "nothing has changed");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_refused_and_gives_its_place_back() -> Result<()> {
    let (_isolation, mut programs) = setup("watch_refused")?;
    programs.settings.set("dimsvc.limits.watchers_max", 1);
    let _dimsvc = programs.dimsvc().await?;
    let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
    let unknown = watch(&mut dim, &["a", "nope"], None).await.err().context("no such table")?;
    ensure!(unknown.code() == Code::NotFound, "{unknown}");
    drop(watch(&mut dim, &[], None).await?);
    // The place of a watcher that has gone is free as soon as the service knows.
    eventually("another may watch", PATIENCE, async || {
        watch(&mut dim.clone(), &[], None).await.map(drop).context("watch")
    })
    .await
}
