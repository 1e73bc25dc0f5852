//! Lookups judged while real transactions run.
//!
//! [`Source`] is the writing side: connections to MySQL that never pause, and
//! the [`Truth`] of what they wrote. [`Reader`] asks one dimsvc with every read
//! point and holds each answer against that truth. What breaks meanwhile is the
//! test's business.

mod question;
mod reader;

pub use question::Ask;
pub use reader::{Outcome, Reader};

use crate::{
    dim::Dim,
    isolation::Isolation,
    ledger::{Binlog, Commit, Ledger, Shape, TABLES, Truth, Writer},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Transactions that may wait to be told of: beyond it writers wait.
const COMMITS_MAX: usize = 1 << 16;
const TRANSACTIONS_AHEAD_MAX: u64 = 2_000;
const CHECKS_OF_A_TRANSACTION: u64 = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// What readers and writers share.
#[derive(Debug, Default)]
pub struct Progress {
    /// The number in the newest GTID that a writer has seen committed.
    pub committed: AtomicU64,
    /// Transactions.
    pub transactions: AtomicU64,
    /// Judged answers of all readers.
    pub checks: AtomicU64,
    stop: AtomicBool,
    /// What ended a writer, or whoever reads the binlog.
    failure: Mutex<Option<String>>,
}

impl Progress {
    /// # Errors
    /// When the writing side has failed: there is no truth any more.
    pub fn must_run(&self) -> Result<()> {
        self.failure.lock().as_ref().map_or(Ok(()), |failure| bail!("the writing side failed: {failure}"))
    }
}

/// Writers at work. Dropping it stops them.
pub struct Source {
    pub progress: Arc<Progress>,
    ledger: Ledger,
    /// Taken when the truth begins.
    binlog: Option<(Binlog, Receiver<Commit>)>,
    threads: Vec<JoinHandle<Result<()>>>,
    server_uuid: String,
}

impl Source {
    /// Makes the tables, writes `transactions` and then goes on with `writers`
    /// connections until [`Source::stop`].
    ///
    /// # Errors
    /// What MySQL says.
    pub fn start(isolation: &Isolation, shape: Shape, seed: u64, transactions: u64) -> Result<Self> {
        const WRITERS: u64 = 3;
        let mut ledger = Ledger::create(isolation, shape, seed)?;
        ledger.run(isolation, transactions)?;
        let binlog = Binlog::from_end(isolation.session("")?, &isolation.name)?;
        let (told, commits) = sync_channel(COMMITS_MAX);
        let progress = Arc::new(Progress::default());
        let last = ledger.last()?;
        progress.committed.store(last.number, Ordering::Release);
        let binlog = Some((binlog, commits));
        let mut source =
            Self { progress, ledger, binlog, threads: Vec::new(), server_uuid: last.server_uuid };
        for number in 0..WRITERS {
            let writer = Writer::new(isolation.session(&isolation.name)?, shape, seed, 1_000 + number);
            let (told, progress) = (told.clone(), Arc::clone(&source.progress));
            source.spawn(move || write(writer, &told, &progress));
        }
        Ok(source)
    }

    /// Begins to collect the truth, from where `dim` says that history begins:
    /// after [`Source::start`].
    ///
    /// # Errors
    /// When its dimensions do not begin together, or the truth was begun already.
    pub async fn truth(&mut self, dim: &mut Dim) -> Result<Arc<Truth>> {
        let mut floors = Vec::new();
        for table in TABLES {
            floors.push(dim.floor(table).await?);
        }
        let floor = *floors.first().context("there are tables")?;
        ensure!(floors.iter().all(|other| *other == floor), "other floors at one start: {floors:?}");
        let (binlog, commits) = self.binlog.take().context("the truth begins once")?;
        let truth = Arc::new(Truth::new(&self.ledger, floor));
        let follower = Arc::clone(&truth);
        self.spawn(move || follower.follow(binlog, &commits));
        Ok(truth)
    }

    fn spawn(&mut self, work: impl FnOnce() -> Result<()> + Send + 'static) {
        let progress = Arc::clone(&self.progress);
        self.threads.push(std::thread::spawn(move || {
            work().inspect_err(|error| *progress.failure.lock() = Some(format!("{error:#}")))
        }));
    }

    /// The server in GTIDs.
    pub fn server_uuid(&self) -> &str {
        &self.server_uuid
    }

    /// Stops the writers and waits until the truth has all they wrote.
    ///
    /// # Errors
    /// What a writer met, or whoever read the binlog.
    pub fn stop(mut self) -> Result<()> {
        self.progress.stop.store(true, Ordering::Release);
        self.binlog = None;
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a writer panicked"))?)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Release);
    }
}

/// Keeps the history that is read in proportion to the reading, whatever the
/// machine: writers that are far ahead wait.
fn may_write(progress: &Progress) -> bool {
    let transactions = progress.transactions.load(Ordering::Relaxed);
    transactions < TRANSACTIONS_AHEAD_MAX + progress.checks.load(Ordering::Relaxed) / CHECKS_OF_A_TRANSACTION
}

fn write(mut writer: Writer, told: &SyncSender<Commit>, progress: &Progress) -> Result<()> {
    while !progress.stop.load(Ordering::Acquire) {
        if !may_write(progress) {
            std::thread::sleep(PAUSE);
            continue;
        }
        let Some(commit) = writer.step()? else { continue };
        progress.committed.fetch_max(commit.gtid.number, Ordering::AcqRel);
        progress.transactions.fetch_add(1, Ordering::Relaxed);
        // Nobody listens any more: the run is over.
        if told.send(commit).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
