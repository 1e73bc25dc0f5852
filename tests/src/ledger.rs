//! Random transactions on real MySQL, and the log of every row image they
//! wrote, in commit order: the truth that history is held against.

mod binlog;
mod traffic;
mod truth;

pub use binlog::{Binlog, Group};
pub use traffic::Writer;
pub use truth::{Truth, stamp};

use crate::{
    isolation::Isolation,
    mysql::{Gtid, Session},
    random::Random,
};
use anyhow::{Context as _, Result};
use std::{collections::BTreeMap, ops::Range, thread};

/// All have the columns (id, v, s); dimension `c` keeps id and v alone.
pub const TABLES: [&str; 3] = ["a", "b", "c"];
/// What an account holds at the begin.
const AMOUNT: u64 = 1_000;
const CONNECTIONS: u64 = 3;
const ROWS_OF_AN_INSERT: u64 = 5_000;

/// Which ids of each table transactions touch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Ids `0..keys` are written at random: few, so that transactions meet.
    pub keys: u64,
    /// So many rows hold amounts whose sum over all tables never changes. They
    /// move among twice as many ids.
    pub accounts: u64,
}

impl Shape {
    /// The ids at which accounts may be.
    pub fn account_ids(&self) -> Range<u64> {
        self.keys..self.keys + 2 * self.accounts
    }

    /// All ids.
    pub fn ids(&self) -> Range<u64> {
        0..self.account_ids().end
    }

    /// One of the ids that are written at random; low ones come more often.
    pub fn random_id(&self, random: &mut Random) -> u64 {
        let limit = 1 + random.below(self.keys);
        random.below(limit)
    }

    /// The sum of all accounts of all tables.
    pub fn sum(&self) -> i64 {
        (self.accounts * AMOUNT * TABLES.len() as u64).cast_signed()
    }
}

/// Row text by (number of the table, id); empty where the transaction left
/// none.
pub type Images = BTreeMap<(usize, u64), String>;

/// A transaction that was committed.
#[derive(Clone, Debug)]
pub struct Commit {
    pub gtid: Gtid,
    pub images: Images,
}

/// What was committed, by GTID number.
pub struct Ledger {
    pub shape: Shape,
    seed: u64,
    runs: u64,
    log: BTreeMap<u64, Commit>,
}

impl Ledger {
    /// Makes the tables, with nothing but the accounts.
    ///
    /// # Errors
    /// What MySQL says.
    pub fn create(isolation: &Isolation, shape: Shape, seed: u64) -> Result<Self> {
        let mut session = isolation.session(&isolation.name)?;
        let mut ledger = Self { shape, seed, runs: 0, log: BTreeMap::new() };
        let mut images = Images::new();
        for (number, table) in TABLES.iter().enumerate() {
            session
                .exec(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, v BIGINT, s VARCHAR(200))"))?;
            for id in shape.account_ids().take(shape.accounts as usize) {
                images.insert((number, id), row_text(table, &id.to_string(), &AMOUNT.to_string(), "opened"));
            }
        }
        session.exec("BEGIN")?;
        for (table, id) in images.keys() {
            let table = TABLES.get(*table).context("a table of these")?;
            session.exec(&format!("INSERT INTO {table} VALUES ({id}, {AMOUNT}, 'opened')"))?;
        }
        if let Some(gtid) = session.commit()? {
            ledger.add([Commit { gtid, images }]);
        }
        Ok(ledger)
    }

    /// Rows that no transaction touches.
    ///
    /// # Errors
    /// What MySQL says.
    pub fn fill(&self, isolation: &Isolation, rows: u64) -> Result<()> {
        let mut session = isolation.session(&isolation.name)?;
        for table in TABLES {
            for first in (0..rows).step_by(ROWS_OF_AN_INSERT as usize) {
                let values: Vec<_> = (first..(first + ROWS_OF_AN_INSERT).min(rows))
                    .map(|id| format!("({}, {id}, 'filled')", 1_000 + id))
                    .collect();
                session.exec(&format!("INSERT INTO {table} VALUES {}", values.join(",")))?;
            }
        }
        Ok(())
    }

    /// Commits about `count` transactions on several connections at once.
    ///
    /// # Errors
    /// What MySQL says.
    pub fn run(&mut self, isolation: &Isolation, count: u64) -> Result<()> {
        let (seed, shape, first) = (self.seed, self.shape, self.runs * CONNECTIONS);
        self.runs += 1;
        let committed = thread::scope(|scope| {
            let writers: Vec<_> = (0..CONNECTIONS)
                .map(|number| {
                    scope.spawn(move || {
                        let session = isolation.session(&isolation.name)?;
                        let mut writer = Writer::new(session, shape, seed, first + number);
                        (0..count / CONNECTIONS).map(|_| writer.step()).collect::<Result<Vec<_>>>()
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        self.add(committed.into_iter().flatten().flatten());
        Ok(())
    }

    /// Notes transactions, in any order.
    pub fn add(&mut self, commits: impl IntoIterator<Item = Commit>) {
        self.log.extend(commits.into_iter().map(|commit| (commit.gtid.number, commit)));
    }

    /// All transactions, oldest first.
    pub fn commits(&self) -> impl DoubleEndedIterator<Item = &Commit> {
        self.log.values()
    }

    /// Those after another one.
    pub fn commits_after(&self, gtid: &Gtid) -> impl Iterator<Item = &Commit> {
        self.log.range(gtid.number + 1..).map(|(_, commit)| commit)
    }

    /// The newest transaction's GTID.
    ///
    /// # Errors
    /// When there is none.
    pub fn last(&self) -> Result<Gtid> {
        Ok(self.commits().next_back().context("something was committed")?.gtid.clone())
    }

    /// The keys of all ids that transactions touch.
    pub fn keys(&self) -> Vec<String> {
        self.shape.ids().map(|id| format!("[{id}]")).collect()
    }

    /// The row after a transaction; empty where there is none.
    pub fn row_as_of(&self, place: (usize, u64), gtid: &Gtid) -> &str {
        self.row_up_to(place, gtid.number)
    }

    /// The row now.
    pub fn newest(&self, place: (usize, u64)) -> &str {
        self.row_up_to(place, u64::MAX)
    }

    fn row_up_to(&self, place: (usize, u64), number: u64) -> &str {
        let newest = self.log.range(..=number).rev().find_map(|(_, commit)| commit.images.get(&place));
        newest.map(String::as_str).unwrap_or_default()
    }
}

/// The rows of a table as dimsvc writes them, by key.
///
/// # Errors
/// What MySQL says.
pub fn rows_of(session: &mut Session, table: &str) -> Result<BTreeMap<String, String>> {
    let rows = session.rows(&format!("SELECT id, v, s FROM {table}"))?;
    let row = |mut row: Vec<Option<String>>| {
        let mut last = || row.pop().flatten().unwrap_or_default();
        let (s, v, id) = (last(), last(), last());
        (format!("[{id}]"), row_text(table, &id, &v, &s))
    };
    Ok(rows.into_iter().map(row).collect())
}

fn row_text(table: &str, id: &str, v: &str, s: &str) -> String {
    if table == "c" {
        format!("{{\"id\":{id},\"v\":{v}}}")
    } else {
        format!("{{\"id\":{id},\"v\":{v},\"s\":\"{s}\"}}")
    }
}
