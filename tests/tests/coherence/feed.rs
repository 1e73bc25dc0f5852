//! The business database: transactions over both tables, noted in the checker
//! before any replica can apply them.
//!
//! Each moves an amount between an account of either table, and changes, deletes,
//! inserts or moves to another key a few rows, most of them hot ones.

use crate::site::{ACCOUNTS, FLOOR, KEYS, Site, TABLES, at, first_value, number_of};
use anyhow::Result;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tidemark_binlog::{Row, RowChange, Transaction};
use tidemark_proto::{Position, envelope::RowKind};
use tidemark_tests::random::Random;
use tokio::time::{MissedTickBehavior, interval};

/// Keys of each table that most changes are of.
pub(crate) const HOT: usize = 64;
const CHANGES: usize = 12;
const TICK: Duration = Duration::from_millis(4);
const TRANSACTIONS_A_TICK: usize = 8;
/// A transaction's bytes of log.
pub(crate) const LENGTH: u64 = 60;
/// How far the source may be ahead of the slowest replica.
const LEAD: u64 = 200 * LENGTH;
const TRIM_EVERY: u64 = 5_000;

/// The amount that a row has, and the number of the change that wrote it.
type Held = Option<(i64, u64)>;
type Touched = BTreeMap<(usize, usize), Held>;

struct Database {
    site: Arc<Site>,
    random: Random,
    rows: [Vec<Held>; 2],
    end: u64,
    stamp: u64,
}

/// Commits until the site stops.
pub(crate) async fn run(site: Arc<Site>, seed: u64) -> Result<()> {
    let row = |table: usize, id: usize| {
        let known = site.checker.as_of(number_of(table, id), at(FLOOR))?;
        Some((first_value(id), known.stamp?))
    };
    let rows = [0, 1].map(|table| (0..KEYS).map(|id| row(table, id)).collect());
    let random = Random::new(seed);
    let mut database = Database { site: Arc::clone(&site), random, rows, end: FLOOR, stamp: KEYS as u64 };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !site.stop.is_cancelled() {
        tick.tick().await;
        for _ in 0..TRANSACTIONS_A_TICK {
            let moved = site.moved.notified();
            if database.end > site.applied().offset() + LEAD {
                tokio::select! {
                    () = moved => {}
                    () = site.stop.cancelled() => {}
                }
                break;
            }
            database.commit();
        }
        if database.end % (TRIM_EVERY * LENGTH) < LENGTH * TRANSACTIONS_A_TICK as u64 {
            site.trim().await?;
        }
    }
    Ok(())
}

impl Database {
    fn commit(&mut self) {
        let mut touched = Touched::new();
        self.transfer(&mut touched);
        for _ in 0..CHANGES {
            self.change(&mut touched);
        }
        let (begin, end) = (at(self.end), at(self.end + LENGTH));
        let rows = touched.iter().filter_map(|(place, held)| self.row_change(*place, *held, end));
        let transaction = Transaction {
            begin,
            end,
            gtid: None,
            xid: None,
            ts: 0,
            file: "binlog.000001".into(),
            rows: rows.collect(),
        };
        for ((table, id), held) in touched {
            self.site.checker.wrote(number_of(table, id), begin, held.map(|(_, stamp)| stamp));
            if let Some(row) = self.rows.get_mut(table).and_then(|rows| rows.get_mut(id)) {
                *row = held;
            }
        }
        self.end += LENGTH;
        self.site.commit(transaction);
    }

    fn transfer(&mut self, touched: &mut Touched) {
        let amount = self.random.below(100) as i64;
        for (table, amount) in [(0, amount), (1, -amount)] {
            let id = self.random.below(ACCOUNTS as u64) as usize;
            let (n, _) = self.held(table, id).unwrap_or_default();
            let held = Some((n + amount, self.next_stamp()));
            touched.insert((table, id), held);
        }
    }

    fn change(&mut self, touched: &mut Touched) {
        let table = self.random.below(TABLES.len() as u64) as usize;
        let (id, other) = (self.pick(), self.pick());
        let held = (self.held(table, id), self.random.below(8));
        let (n, stamp) = (self.random.below(1_000) as i64, self.next_stamp());
        let after = match held {
            (Some(_), 0) => None,
            // The row moves to another key.
            (Some((n, _)), 1) if self.held(table, other).is_none() => {
                touched.insert((table, other), Some((n, stamp)));
                None
            }
            _ => Some((n, stamp)),
        };
        if id != other {
            touched.insert((table, id), after);
        }
    }

    /// A key that is no account.
    fn pick(&mut self) -> usize {
        let keys = if self.random.below(4) == 0 { KEYS } else { HOT };
        ACCOUNTS + self.random.below((keys - ACCOUNTS) as u64) as usize
    }

    fn held(&self, table: usize, id: usize) -> Held {
        self.rows.get(table).and_then(|rows| rows.get(id).copied()).flatten()
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    fn row_change(&self, (table, id): (usize, usize), after: Held, end: Position) -> Option<RowChange> {
        let row = |held: Held| {
            let (n, stamp) = held?;
            let tokens = [id.to_string(), n.to_string(), stamp.to_string()];
            Some(tokens.iter().map(String::as_str).collect::<Row>())
        };
        let (before, after) = (row(self.held(table, id)), row(after));
        let kind = match (&before, &after) {
            (None, None) => return None,
            (None, Some(_)) => RowKind::Insert,
            (Some(_), Some(_)) => RowKind::Update,
            (Some(_), None) => RowKind::Delete,
        };
        let table = Arc::clone(self.site.tables.get(table)?);
        Some(RowChange { table, kind, position: end, ts: 0, before, after })
    }
}
