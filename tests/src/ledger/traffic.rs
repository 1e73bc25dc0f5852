//! Random transactions of one connection, and what each left behind.
//!
//! Half of them write rows at random: inserts, updates, deletes, key changes,
//! reinserts. The other half are transfers between accounts, over all tables:
//! whatever they do, the sum of all accounts stays. One in eight is rolled back.

use super::{Commit, Images, Shape, TABLES, row_text};
use crate::{
    mysql::{Session, is_lock_conflict},
    random::Random,
};
use anyhow::Result;

/// One connection that writes.
pub struct Writer {
    session: Session,
    random: Random,
    shape: Shape,
    /// Every value is written once, over all writers.
    next_value: u64,
}

/// A row, by the number of its table and its id.
type Place = (usize, u64);

impl Writer {
    /// `number` tells the writers of one run apart.
    pub fn new(session: Session, shape: Shape, seed: u64, number: u64) -> Self {
        let random = Random::new(seed.wrapping_mul(1000) + number);
        Self { session, random, shape, next_value: (number + 1) << 40 }
    }

    /// Runs one transaction. `None` when it wrote nothing, was rolled back or
    /// lost a race for locks.
    ///
    /// # Errors
    /// What MySQL says.
    pub fn step(&mut self) -> Result<Option<Commit>> {
        match self.transaction() {
            Err(error) if is_lock_conflict(&error) => {
                self.session.exec("ROLLBACK")?;
                Ok(None)
            }
            done => done,
        }
    }

    fn transaction(&mut self) -> Result<Option<Commit>> {
        self.session.exec("BEGIN")?;
        let touched = if self.random.below(2) == 0 { self.rows()? } else { self.transfers()? };
        if self.random.below(8) == 0 {
            self.session.exec("ROLLBACK")?;
            return Ok(None);
        }
        // Read inside the transaction, so that the log does not repeat the logic
        // of its statements.
        let mut images = Images::new();
        for place in touched {
            images.insert(place, self.row(place)?.map(|row| row.text).unwrap_or_default());
        }
        Ok(self.session.commit()?.map(|gtid| Commit { gtid, images }))
    }

    /// The places that have a new version after it: where a statement changed
    /// nothing there is none.
    fn rows(&mut self) -> Result<Vec<Place>> {
        let mut touched = Vec::new();
        for _ in 0..=self.random.below(3) {
            let (table, name) = self.table();
            let shape = self.shape;
            let (id, other) = (shape.random_id(&mut self.random), shape.random_id(&mut self.random));
            self.next_value += 1;
            let v = self.next_value;
            let mut places = vec![(table, id)];
            let statement = match self.random.below(6) {
                0 => format!("DELETE FROM {name} WHERE id = {id}"),
                // A key change, which replaces whatever the new key held.
                1 => {
                    let replaced = format!("DELETE FROM {name} WHERE id = {other} AND id <> {id}");
                    if self.session.change(&replaced)? > 0 {
                        touched.push((table, other));
                    }
                    places.push((table, other));
                    format!("UPDATE {name} SET id = {other}, v = {v} WHERE id = {id}")
                }
                2 => format!("UPDATE {name} SET v = {v} WHERE id = {id}"),
                _ => format!("REPLACE INTO {name} VALUES ({id}, {v}, 's{v}')"),
            };
            if self.session.change(&statement)? > 0 {
                touched.extend(places);
            }
        }
        Ok(touched)
    }

    fn transfers(&mut self) -> Result<Vec<Place>> {
        let mut touched = Vec::new();
        for _ in 0..=self.random.below(2) {
            let (source, target) = (self.account(), self.account());
            if source != target && self.transfer(source, target)? {
                touched.extend([source, target]);
            }
        }
        Ok(touched)
    }

    /// An amount from one account to another. An account that is not there gets
    /// all of the other, which goes: a delete and an insert, or a key change.
    fn transfer(&mut self, source: Place, target: Place) -> Result<bool> {
        let rows = (self.row(source)?, self.row(target)?);
        let ((from, source_id), (to, target_id)) = (named(source), named(target));
        let statements = match rows {
            (None, _) => return Ok(false),
            (Some(_), Some(_)) => {
                let amount = 1 + self.random.below(10);
                vec![
                    format!("UPDATE {from} SET v = v - {amount} WHERE id = {source_id}"),
                    format!("UPDATE {to} SET v = v + {amount} WHERE id = {target_id}"),
                ]
            }
            (Some(_), None) if from == to => {
                vec![format!("UPDATE {from} SET id = {target_id} WHERE id = {source_id}")]
            }
            (Some(row), None) => vec![
                format!("INSERT INTO {to} VALUES ({target_id}, {}, 'moved')", row.v),
                format!("DELETE FROM {from} WHERE id = {source_id}"),
            ],
        };
        statements.iter().try_for_each(|statement| self.session.exec(statement))?;
        Ok(true)
    }

    fn table(&mut self) -> (usize, &'static str) {
        let place = self.random.below(TABLES.len() as u64) as usize;
        (place, TABLES.get(place).copied().unwrap_or_default())
    }

    fn account(&mut self) -> Place {
        let ids = self.shape.account_ids();
        (self.table().0, ids.start + self.random.below(ids.end - ids.start))
    }

    fn row(&mut self, place: Place) -> Result<Option<Row>> {
        let (table, id) = named(place);
        let rows = self.session.rows(&format!("SELECT v, s FROM {table} WHERE id = {id} FOR UPDATE"))?;
        Ok(rows.into_iter().next().map(|mut row| {
            let s = row.pop().flatten().unwrap_or_default();
            let v = row.pop().flatten().unwrap_or_default();
            Row { text: row_text(table, &id.to_string(), &v, &s), v }
        }))
    }
}

struct Row {
    text: String,
    v: String,
}

fn named((table, id): Place) -> (&'static str, u64) {
    (TABLES.get(table).copied().unwrap_or_default(), id)
}
