//! Replicas on real MySQL and HBase: the writer is killed again and again under
//! updates; the lease moves, no lookup is wrong, nothing is lost.
//!
//! CYCLES= sets how often it is killed.

#![expect(clippy::indexing_slicing, reason = "a place that is not there fails the test")]

#[path = "replicas/log.rs"]
mod log;

use anyhow::{Context as _, Result, bail, ensure};
use log::{Commit, KEYS, Log, TABLES};
use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tidemark_proto::dim::v1::{Role, StatusResponse};
use tidemark_tests::{
    dim::{Dim, as_of_offset, latest, now},
    eventually, free_port,
    isolation::Isolation,
    process::Process,
    programs::Programs,
    random::Random,
    stack::Stack,
};
use tokio::task::JoinSet;

const STACK: &[&str] = &["mysql", "kafka", "clickhouse", "hbase"];
const PATIENCE: Duration = Duration::from_secs(60);
const REPLICAS: usize = 3;
const DIMENSIONS: &str = "[a]\ncache = \"full\"\n\n[b]\ncache = \"lru\"\n";
/// Commits and checks between two kills.
const COMMITS: usize = 300;
const CHECKS: u64 = 300;
/// Commits that the log may be ahead of the checks: replicas that are left
/// behind for good would only be seen to refuse.
const COMMITS_AHEAD_MAX: u64 = 500;
/// States that are read again at the end.
const STATES: usize = 200;

/// A replica's programs, with a folder and ports of its own.
fn replica(isolation: &Isolation, name: &str) -> Result<Programs> {
    let mut programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
    programs.folder = programs.folder.join(name);
    let port = || free_port().map(|port| format!("127.0.0.1:{port}"));
    let settings = &mut programs.settings;
    settings.set("dimsvc.store", "hbase").set("dimsvc.server_id", 0);
    settings.set("dimsvc.listen", port()?).set("dimsvc.metrics_listen", port()?);
    Ok(programs)
}

fn address(programs: &Programs) -> Result<String> {
    Ok(programs.settings.get("dimsvc.listen")?.to_owned())
}

async fn status(programs: &Programs) -> Result<StatusResponse> {
    Dim::connect(&address(programs)?).await?.status().await
}

/// What writes, what was written, and how much of it was read.
#[derive(Default)]
struct Traffic {
    log: Mutex<Log>,
    /// Transactions begun: at most one more than there are commits.
    begun: AtomicU64,
    checks: Mutex<u64>,
    checked: Condvar,
    stop: AtomicBool,
}

impl Traffic {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checks(&self) -> u64 {
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_check(&self) {
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.checked.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        let _checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop.store(true, Ordering::SeqCst);
        self.checked.notify_one();
    }

    /// Until a commit of that number is not too far ahead, or nobody checks any
    /// more.
    fn wait_for_checks(&self, number: u64) {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ahead = |checks: &mut u64| !self.is_stopped() && number > COMMITS_AHEAD_MAX + *checks;
        let waited = self.checked.wait_timeout_while(checks, PATIENCE, is_ahead);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Commits until told to stop.
    fn run(&self, isolation: &Isolation) -> Result<()> {
        let mut session = isolation.session(&isolation.name)?;
        let mut random = Random::new(5);
        let mut value = 0;
        while !self.is_stopped() {
            value += 1;
            self.wait_for_checks(value);
            let tables = if random.below(3) == 0 { vec![0, 1] } else { vec![random.below(2) as usize] };
            let changes: Vec<_> = tables
                .into_iter()
                .map(|table| (table, random.below(KEYS), (random.below(6) > 0).then_some(value)))
                .collect();
            let statements: Vec<_> = changes.iter().map(|change| statement(*change)).collect();
            self.begun.fetch_add(1, Ordering::SeqCst);
            session.exec("BEGIN")?;
            for statement in &statements {
                session.exec(statement)?;
            }
            session.exec("COMMIT")?;
            let place = session.binlog_end()?;
            self.log().push(Commit { place, changes });
        }
        Ok(())
    }

    /// Waits until all that had begun is logged.
    async fn logged(&self) -> Result<()> {
        let begun = self.begun.load(Ordering::SeqCst) as usize;
        let deadline = Instant::now() + PATIENCE;
        while self.log().len() < begun {
            ensure!(Instant::now() < deadline, "the log is late");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn commits(&self, more: usize) -> Result<()> {
        let target = self.log().len() + more;
        let reached = async || {
            ensure!(self.log().len() >= target, "{} of {target} commits", self.log().len());
            Ok(())
        };
        eventually("commits", PATIENCE, reached).await
    }
}

fn statement((table, id, value): (usize, u64, Option<u64>)) -> String {
    let table = TABLES[table];
    match value {
        Some(v) => format!("REPLACE INTO {table} VALUES ({id}, {v}, 's{v}')"),
        None => format!("DELETE FROM {table} WHERE id = {id}"),
    }
}

/// Lookups without an answer, by the reason.
type Failed = Mutex<BTreeMap<String, u64>>;

fn counts(failed: &Failed) -> BTreeMap<String, u64> {
    failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Reads one replica until told to stop. Lookups may fail, because it is killed;
/// what it answers must be right.
async fn read(traffic: Arc<Traffic>, failed: Arc<Failed>, address: String, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let mut reader = Reader { traffic, dim: None, newest: [0; TABLES.len()], failed: String::new() };
    while !reader.traffic.is_stopped() {
        if reader.dim.is_none() {
            // Another process: what it knows begins anew.
            reader.newest = [0; TABLES.len()];
            reader.dim = Dim::connect(&address).await.ok();
            reader.failed = String::from("not reached");
        }
        let checked = match random.below(3) {
            0 => reader.check_latest(random.below(2) as usize).await,
            1 => reader.check_now(random.below(2) as usize).await,
            _ => reader.check_as_of(&mut random).await,
        };
        if checked? {
            reader.traffic.add_check();
        } else {
            reader.dim = None;
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            *failed.entry(reader.failed.clone()).or_default() += 1;
        }
    }
    Ok(())
}

struct Reader {
    traffic: Arc<Traffic>,
    dim: Option<Dim>,
    /// The oldest state that the connection may show, by table.
    newest: [usize; TABLES.len()],
    /// Why the last lookup failed.
    failed: String,
}

impl Reader {
    /// All keys of a table; `None` when the lookup failed.
    async fn rows(
        &mut self,
        table: usize,
        point: tidemark_proto::dim::v1::read_point::Point,
    ) -> Option<Vec<String>> {
        let keys: Vec<_> = (0..KEYS).map(|id| format!("[{id}]")).collect();
        let lookup = self.dim.as_mut()?.lookup(TABLES[table], &keys, point);
        match tokio::time::timeout(PATIENCE, lookup).await {
            Ok(Ok(answers)) => Some(answers.into_iter().map(|answer| answer.row).collect()),
            Ok(Err(error)) => {
                self.failed = format!("{:.60}", error.root_cause().to_string());
                None
            }
            Err(_) => {
                self.failed = String::from("no answer in time");
                None
            }
        }
    }

    /// One whole state, never an older one than before.
    async fn check_latest(&mut self, table: usize) -> Result<bool> {
        let Some(rows) = self.rows(table, latest()).await else { return Ok(false) };
        self.traffic.logged().await?;
        let states = self.traffic.log().states_of(table, &rows);
        let states = states.with_context(|| format!("torn or wrong: {} {rows:?}", TABLES[table]))?;
        ensure!(*states.end() >= self.newest[table], "stale: {states:?} after {}", self.newest[table]);
        self.newest[table] = *states.start();
        Ok(true)
    }

    /// One whole state, not older than what was committed before the call.
    async fn check_now(&mut self, table: usize) -> Result<bool> {
        let committed = self.traffic.log().len();
        let Some(rows) = self.rows(table, now()).await else { return Ok(false) };
        self.traffic.logged().await?;
        let states = self.traffic.log().states_of(table, &rows);
        let states = states.with_context(|| format!("torn or wrong: {} {rows:?}", TABLES[table]))?;
        ensure!(*states.end() >= committed, "stale: {states:?}, {committed} were committed");
        Ok(true)
    }

    /// The state as of one of the last commits.
    async fn check_as_of(&mut self, random: &mut Random) -> Result<bool> {
        let table = random.below(2) as usize;
        let (number, place, expect) = {
            let log = self.traffic.log();
            let number = log.len().saturating_sub(random.below(500) as usize).max(1);
            (number, log.place(number).to_owned(), log.state(table, number))
        };
        let Some(rows) = self.rows(table, as_of_offset(&place)).await else { return Ok(false) };
        ensure!(rows == expect, "wrong: {} as of state {number} at {place}", TABLES[table]);
        Ok(true)
    }
}

/// The replica that says that it is the writer, and its term.
async fn writer_of(replicas: &[Programs]) -> Result<(usize, u64)> {
    for (place, programs) in replicas.iter().enumerate() {
        if let Ok(status) = status(programs).await
            && status.role() == Role::Writer
        {
            return Ok((place, status.term));
        }
    }
    bail!("nobody is the writer")
}

/// Kills the writer, and waits for another; how long it took.
async fn kill_writer(replicas: &[Programs], processes: &mut [Process]) -> Result<(usize, Duration)> {
    let (killed, term) = eventually("a writer", PATIENCE, async || writer_of(replicas).await).await?;
    processes[killed].kill()?;
    let begun = Instant::now();
    let moved = async || {
        let (_, now) = writer_of(replicas).await?;
        ensure!(now > term, "term {now}");
        Ok(())
    };
    eventually("another writer", PATIENCE, moved).await?;
    Ok((killed, begun.elapsed()))
}

fn cycles() -> usize {
    std::env::var("CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_survive_the_death_of_every_writer() -> Result<()> {
    let isolation = Isolation::new("replicas", &Stack::with(STACK)?)?;
    let mut session = isolation.session(&isolation.name)?;
    for table in TABLES {
        session.exec(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, v BIGINT, s VARCHAR(50))"))?;
    }
    let replicas =
        (0..REPLICAS).map(|n| replica(&isolation, &format!("replica{n}"))).collect::<Result<Vec<_>>>()?;
    let mut processes = replicas.iter().map(Programs::start_dimsvc).collect::<Result<Vec<_>>>()?;
    for (programs, process) in replicas.iter().zip(&mut processes) {
        programs.wait_serving(process).await?;
    }
    let traffic = Arc::new(Traffic::default());
    let isolation = Arc::new(isolation);
    let (writing, on) = (Arc::clone(&traffic), Arc::clone(&isolation));
    let writer = thread::spawn(move || writing.run(&on));
    traffic.commits(20).await?;
    let failed = Arc::new(Failed::default());
    let mut readers = JoinSet::new();
    for (seed, programs) in replicas.iter().enumerate() {
        let (traffic, failed) = (Arc::clone(&traffic), Arc::clone(&failed));
        readers.spawn(read(traffic, failed, address(programs)?, seed as u64));
    }
    let mut moves = Vec::new();
    for _ in 0..cycles() {
        let checks = traffic.checks() + CHECKS;
        traffic.commits(COMMITS).await?;
        eventually("checks", PATIENCE, async || {
            ensure!(readers.try_join_next().is_none(), "a reader has ended");
            let done = traffic.checks();
            ensure!(done >= checks, "{done} of {checks}, without an answer: {:?}", counts(&failed));
            Ok(())
        })
        .await?;
        let (killed, took) = kill_writer(&replicas, &mut processes).await?;
        moves.push(took);
        processes[killed] = replicas[killed].start_dimsvc()?;
        replicas[killed].wait_serving(&mut processes[killed]).await?;
    }
    traffic.stop();
    writer.join().expect("the writer does not panic")?;
    while let Some(ended) = readers.join_next().await {
        ended.context("a reader panicked")??;
    }
    let longest = moves.iter().max().copied().unwrap_or_default();
    println!(
        "{} kills, lease moved within {longest:?} at most ({moves:?}); {} commits, {} checks of {KEYS} keys, \
         without an answer: {:?}",
        moves.len(),
        traffic.log().len(),
        traffic.checks(),
        counts(&failed),
    );
    nothing_is_lost(&isolation, &traffic).await
}

/// A replica that was not there, and loads nothing from MySQL, knows every state
/// that there was.
async fn nothing_is_lost(isolation: &Isolation, traffic: &Traffic) -> Result<()> {
    let fresh = replica(isolation, "fresh")?;
    let process = fresh.dimsvc().await?;
    let mut dim = Dim::connect(&address(&fresh)?).await?;
    let keys: Vec<_> = (0..KEYS).map(|id| format!("[{id}]")).collect();
    let mut random = Random::new(11);
    let commits = traffic.log().len();
    for check in 0..STATES {
        let number = if check == 0 { commits } else { 1 + random.below(commits as u64) as usize };
        let place = traffic.log().place(number).to_owned();
        for (table, name) in TABLES.into_iter().enumerate() {
            let answers = dim.lookup(name, &keys, as_of_offset(&place)).await?;
            let expect = traffic.log().state(table, number);
            for (answer, expect) in answers.iter().zip(expect) {
                ensure!(!answer.before_history, "{name} has no history at {place}");
                ensure!(answer.row == expect, "{name} as of state {number}: {} is not {expect}", answer.row);
            }
        }
    }
    let mut session = isolation.session(&isolation.name)?;
    for (table, name) in TABLES.into_iter().enumerate() {
        let count = session.value(&format!("SELECT COUNT(*) FROM {name}"))?.unwrap_or_default();
        let logged = traffic.log().state(table, commits).iter().filter(|row| !row.is_empty()).count();
        ensure!(count == logged.to_string(), "{name} has {count} rows, the log {logged}");
    }
    let log = process.log()?;
    ensure!(!log.contains("first load begins"), "it read the tables from MySQL:\n{log}");
    Ok(())
}
