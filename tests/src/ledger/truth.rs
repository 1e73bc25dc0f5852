//! What the source holds at every position, while writers go on writing.
//!
//! Writers say what each transaction left, the server's binlog where it lies;
//! here the two meet and become the [`Checker`]'s log. Positions of this server
//! are known up to a place that moves on as the binlog is read.

use super::{Binlog, Commit, Group, Images, Ledger, Shape, TABLES};
use crate::{coherence::Checker, random::Random};
use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};
use tidemark_proto::Position;
use tokio::{sync::watch, time::timeout};

/// Versions of a key that stay known.
const VERSIONS_MAX: usize = 1 << 20;
const POLL: Duration = Duration::from_millis(5);
/// How long a transaction may be in the binlog before its writer has said so.
const COMMIT_DEADLINE: Duration = Duration::from_secs(30);

/// The log of every row, by position.
#[derive(Debug)]
pub struct Truth {
    pub checker: Checker,
    pub shape: Shape,
    floor: Position,
    /// All up to here is in the checker.
    known: watch::Sender<Position>,
    /// The newest transaction that lies below the floor, by its GTID number.
    first_gtids: AtomicU64,
    /// Begin and end of our transactions by GTID number.
    places: Mutex<BTreeMap<u64, (Position, Position)>>,
}

/// A row's digest: what the checker compares.
pub fn stamp(row: &[u8]) -> Option<u64> {
    if row.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    Some(hasher.finish())
}

impl Truth {
    /// What the ledger's transactions left, for a history that begins at
    /// `floor`, after all of them.
    pub fn new(ledger: &Ledger, floor: Position) -> Self {
        let shape = ledger.shape;
        let keys = TABLES.len() * shape.ids().end as usize;
        let checker = Checker::new(keys, VERSIONS_MAX, floor);
        let known = watch::Sender::new(Position::ZERO);
        let first_gtids = AtomicU64::new(ledger.commits().next_back().map_or(0, |last| last.gtid.number));
        let truth = Self { checker, shape, floor, known, first_gtids, places: Mutex::default() };
        for commit in ledger.commits() {
            truth.note_first(&commit.images);
        }
        truth
    }

    /// Adds what writers commit, in the binlog's order, until they are gone.
    /// Blocks.
    ///
    /// # Errors
    /// When the binlog cannot be read, or holds a transaction that no writer
    /// tells of.
    pub fn follow(&self, mut binlog: Binlog, commits: &Receiver<Commit>) -> Result<()> {
        let mut waiting = HashMap::new();
        loop {
            let groups = binlog.read()?;
            let is_idle = groups.is_empty();
            for group in groups {
                if group.is_ours {
                    let images = images_of(&group, &mut waiting, commits)?;
                    self.note(&group, &images);
                }
                self.known.send_replace(group.end);
            }
            if is_idle {
                match commits.recv_timeout(POLL) {
                    Ok(commit) => drop(waiting.insert(commit.gtid.number, commit.images)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) if waiting.is_empty() => return Ok(()),
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL),
                }
            }
        }
    }

    /// All up to here is known.
    pub fn known(&self) -> Position {
        *self.known.borrow()
    }

    /// Waits until all up to `position` is known.
    ///
    /// # Errors
    /// When it is not by the deadline.
    pub async fn wait_known(&self, position: Position) -> Result<()> {
        self.wait(|| (self.known() >= position).then_some(())).await
    }

    /// Where a transaction ends; the floor for those that history begins with.
    ///
    /// # Errors
    /// When that is not known by the deadline.
    pub async fn wait_end_of(&self, gtid: u64) -> Result<Position> {
        self.wait(|| self.end_of(gtid)).await
    }

    async fn wait<T>(&self, ready: impl Fn() -> Option<T>) -> Result<T> {
        let mut known = self.known.subscribe();
        let waiting = async {
            loop {
                if let Some(value) = ready() {
                    return Ok(value);
                }
                known.changed().await.context("the truth is there")?;
            }
        };
        let waited = timeout(COMMIT_DEADLINE, waiting).await;
        waited.with_context(|| format!("the binlog is known up to {} only", self.known()))?
    }

    fn end_of(&self, gtid: u64) -> Option<Position> {
        if gtid <= self.first_gtids.load(Ordering::Acquire) {
            return Some(self.floor);
        }
        Some(self.places.lock().get(&gtid)?.1)
    }

    /// The checker's number of a row.
    pub fn key(&self, table: usize, id: u64) -> usize {
        table * self.shape.ids().end as usize + id as usize
    }

    /// Whether a transaction after the floor is known.
    pub fn has_history(&self) -> bool {
        !self.places.lock().is_empty()
    }

    /// A position in history, at or beside a transaction's begin or end; just
    /// above the floor while nothing was committed.
    pub fn random_position(&self, random: &mut Random) -> Position {
        let (begin, end) = self.random_place(random).unwrap_or((self.floor, self.floor));
        let place = *random.pick(&[begin, begin.after(), end, end.after()]);
        place.min(self.known()).max(self.floor.after())
    }

    fn random_place(&self, random: &mut Random) -> Option<(Position, Position)> {
        let places = self.places.lock();
        let (first, last) = (*places.first_key_value()?.0, *places.last_key_value()?.0);
        let from = first + random.below(last - first + 1);
        places.range(from..).next().map(|(_, place)| *place)
    }

    fn note(&self, group: &Group, images: &Images) {
        if group.begin < self.floor {
            self.note_first(images);
            self.first_gtids.store(group.gtid, Ordering::Release);
            return;
        }
        for ((table, id), row) in images {
            self.checker.wrote(self.key(*table, *id), group.begin, stamp(row.as_bytes()));
        }
        self.places.lock().insert(group.gtid, (group.begin, group.end));
    }

    fn note_first(&self, images: &Images) {
        for ((table, id), row) in images {
            self.checker.begins_with(self.key(*table, *id), stamp(row.as_bytes()));
        }
    }
}

fn images_of(
    group: &Group,
    waiting: &mut HashMap<u64, Images>,
    commits: &Receiver<Commit>,
) -> Result<Images> {
    let deadline = Instant::now() + COMMIT_DEADLINE;
    loop {
        if let Some(images) = waiting.remove(&group.gtid) {
            return Ok(images);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match commits.recv_timeout(left) {
            Ok(commit) => drop(waiting.insert(commit.gtid.number, commit.images)),
            Err(error) => bail!("no writer tells of {group:?}: {error}"),
        }
    }
}
