//! One transaction of the shop: planned without the database, then run.

use super::log::{Commit, Image};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use tidemark_tests::mysql::{Session, is_lock_conflict, literal};

/// Lost races for row locks before the generator gives up.
const ATTEMPTS_MAX: usize = 50;

/// Statements that commit together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transaction {
    statements: Vec<String>,
    touched: BTreeSet<(&'static str, String)>,
    orders: Vec<u64>,
}

impl Transaction {
    pub(crate) fn push(&mut self, statement: String) {
        self.statements.push(statement);
    }

    /// A statement that changes rows of a dimension.
    pub(crate) fn change(&mut self, table: &'static str, id: u64, statement: String) {
        self.touched.insert((table, id.to_string()));
        self.push(statement);
    }

    pub(crate) fn places(&mut self, order: u64) {
        self.orders.push(order);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    pub(crate) fn orders(&self) -> &[u64] {
        &self.orders
    }

    /// Runs and commits it; a lost race for locks is run again from the start.
    /// `None` when it changed nothing: such a transaction is not in the binlog.
    pub(crate) fn run(&self, session: &mut Session) -> Result<Option<Commit>> {
        for _ in 1..ATTEMPTS_MAX {
            match self.attempt(session) {
                Err(error) if is_lock_conflict(&error) => session.exec("ROLLBACK")?,
                outcome => return outcome,
            }
        }
        self.attempt(session).context("every attempt lost a race for row locks")
    }

    fn attempt(&self, session: &mut Session) -> Result<Option<Commit>> {
        session.exec("BEGIN")?;
        for statement in &self.statements {
            session.exec(statement)?;
        }
        let images = self.images(session)?;
        let gtid = session.commit()?;
        Ok(gtid.map(|gtid| Commit { number: gtid.number, images, orders: self.orders.clone() }))
    }

    /// What it leaves in the dimensions. It holds the locks of these rows, so
    /// nobody can change them before its commit.
    fn images(&self, session: &mut Session) -> Result<Vec<Image>> {
        let mut by_table: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
        for (table, id) in &self.touched {
            by_table.entry(table).or_default().push(id);
        }
        let mut images = Vec::new();
        for (table, ids) in by_table {
            images.extend(read_images(session, table, &ids)?);
        }
        Ok(images)
    }
}

fn read_images(session: &mut Session, table: &'static str, ids: &[&str]) -> Result<Vec<Image>> {
    let list = ids.iter().map(|id| literal(id)).collect::<Vec<_>>().join(", ");
    let rows = session.rows(&format!("SELECT * FROM {table} WHERE id IN ({list}) FOR UPDATE"))?;
    let found =
        |id: &str| rows.iter().find(|row| row.first().and_then(Option::as_deref) == Some(id)).cloned();
    Ok(ids.iter().map(|id| Image { table, id: (*id).to_owned(), row: found(id) }).collect())
}
