//! Random transactions on real MySQL, and the log of every row image they
//! wrote, in commit order: the truth that history is held against.

use anyhow::{Context as _, Result};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};
use tidemark_tests::{
    isolation::Isolation,
    mysql::{Gtid, Session, is_lock_conflict},
};

/// All have the columns (id, v, s); dimension `c` keeps id and v alone.
pub(crate) const TABLES: [&str; 3] = ["a", "b", "c"];
/// Keys that transactions touch: few, so that they meet.
const KEYS: u64 = 12;
const CONNECTIONS: u64 = 3;

/// Row text by (table, key); empty where the transaction left none.
type Images = BTreeMap<(&'static str, String), String>;

/// What was committed, by GTID number.
pub(crate) struct Ledger {
    seed: u64,
    server: String,
    log: BTreeMap<u64, (String, Images)>,
}

impl Ledger {
    /// Makes the tables, empty.
    pub(crate) fn create(isolation: &Isolation, seed: u64) -> Result<Self> {
        let mut session = isolation.session(&isolation.name)?;
        for table in TABLES {
            session
                .exec(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, v BIGINT, s VARCHAR(200))"))?;
        }
        Ok(Self { seed, server: String::new(), log: BTreeMap::new() })
    }

    /// Rows that no transaction touches.
    pub(crate) fn fill(&self, isolation: &Isolation, rows: u64) -> Result<()> {
        let mut session = isolation.session(&isolation.name)?;
        for table in TABLES {
            for first in (0..rows).step_by(5_000) {
                let values: Vec<_> = (first..(first + 5_000).min(rows))
                    .map(|id| format!("({}, {id}, 'filled')", 1_000 + id))
                    .collect();
                session.exec(&format!("INSERT INTO {table} VALUES {}", values.join(",")))?;
            }
        }
        Ok(())
    }

    /// Commits about `count` transactions on several connections at once.
    pub(crate) fn run(&mut self, isolation: &Isolation, count: u64) -> Result<()> {
        self.seed += 1;
        let seed = self.seed;
        let committed = thread::scope(|scope| {
            let workers: Vec<_> = (0..CONNECTIONS)
                .map(|worker| scope.spawn(move || work(isolation, seed * 100 + worker, count / CONNECTIONS)))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("a writer does not panic"))
                .collect::<Result<Vec<_>>>()
        })?;
        for (gtid, images) in committed.into_iter().flatten() {
            self.server.clone_from(&gtid.server_uuid);
            self.log.insert(gtid.number, (gtid.to_string(), images));
        }
        Ok(())
    }

    /// Every GTID, oldest first.
    pub(crate) fn gtids(&self) -> impl Iterator<Item = &str> {
        self.log.values().map(|(gtid, _)| gtid.as_str())
    }

    /// The newest transaction.
    pub(crate) fn last(&self) -> Result<String> {
        self.gtids().last().map(String::from).context("something was committed")
    }

    /// Whether one transaction was committed after another.
    pub(crate) fn is_after(&self, gtid: &str, other: &str) -> bool {
        number(gtid) > number(other)
    }

    /// Every key that transactions may have touched.
    pub(crate) fn keys(&self) -> Vec<String> {
        (0..KEYS).map(|id| format!("[{id}]")).collect()
    }

    /// The row after a transaction; empty where there is none.
    pub(crate) fn row_as_of(&self, table: &'static str, key: &str, gtid: &str) -> String {
        self.row_up_to(table, key, number(gtid))
    }

    /// The row now.
    pub(crate) fn newest(&self, table: &'static str, key: &str) -> String {
        self.row_up_to(table, key, u64::MAX)
    }

    fn row_up_to(&self, table: &'static str, key: &str, number: u64) -> String {
        let place = (table, key.to_owned());
        let newest = self.log.range(..=number).rev().find_map(|(_, (_, images))| images.get(&place));
        newest.cloned().unwrap_or_default()
    }
}

fn number(gtid: &str) -> u64 {
    gtid.rsplit_once(':').and_then(|(_, number)| number.parse().ok()).expect("a GTID ends in its number")
}

/// The rows of a table as dimsvc writes them.
pub(crate) fn rows_of(session: &mut Session, table: &'static str) -> Result<BTreeMap<String, String>> {
    let rows = session.rows(&format!("SELECT id, v, s FROM {table}"))?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let row = |row: Vec<Option<String>>| match &row[..] {
        [id, v, s] => (format!("[{}]", text(id)), row_text(table, &text(id), &text(v), &text(s))),
        _ => unreachable!("three columns were selected"),
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

/// One connection's transactions. What a transaction left is read inside it, so
/// that the log does not repeat the logic of its statements.
fn work(isolation: &Isolation, seed: u64, count: u64) -> Result<Vec<(Gtid, Images)>> {
    static VALUE: AtomicU64 = AtomicU64::new(1);
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut session = isolation.session(&isolation.name)?;
    let mut committed = Vec::new();
    for _ in 0..count {
        let attempt = transaction(&mut session, &mut random, &VALUE);
        match attempt {
            Ok(Some(done)) => committed.push(done),
            Ok(None) => {}
            Err(error) if is_lock_conflict(&error) => session.exec("ROLLBACK")?,
            Err(error) => return Err(error),
        }
    }
    Ok(committed)
}

fn transaction(
    session: &mut Session,
    random: &mut Random,
    value: &AtomicU64,
) -> Result<Option<(Gtid, Images)>> {
    session.exec("BEGIN")?;
    let mut touched = Vec::new();
    for _ in 0..=random.below(3) {
        let table = *random.pick(&TABLES);
        let (id, other) = (random.below(KEYS), random.below(KEYS));
        let v = value.fetch_add(1, Ordering::Relaxed);
        let statement = match random.below(6) {
            0 => format!("DELETE FROM {table} WHERE id = {id}"),
            // A key change, which replaces whatever the new key held.
            1 => {
                session.exec(&format!("DELETE FROM {table} WHERE id = {other} AND id <> {id}"))?;
                format!("UPDATE {table} SET id = {other}, v = {v} WHERE id = {id}")
            }
            2 => format!("UPDATE {table} SET v = {v} WHERE id = {id}"),
            _ => format!("REPLACE INTO {table} VALUES ({id}, {v}, 's{v}')"),
        };
        session.exec(&statement)?;
        touched.extend([(table, id), (table, other)]);
    }
    if random.below(8) == 0 {
        session.exec("ROLLBACK")?;
        return Ok(None);
    }
    let mut images = Images::new();
    for (table, id) in touched {
        let rows = session.rows(&format!("SELECT id, v, s FROM {table} WHERE id = {id} FOR UPDATE"))?;
        let row = rows.first().map(|row| {
            let text = |place: usize| row.get(place).cloned().flatten().unwrap_or_default();
            row_text(table, &text(0), &text(1), &text(2))
        });
        images.insert((table, format!("[{id}]")), row.unwrap_or_default());
    }
    Ok(session.commit()?.map(|gtid| (gtid, images)))
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        list.get(self.below(list.len() as u64) as usize).expect("the place is below the length")
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
