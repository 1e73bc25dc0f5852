//! What a dimension knows of the form of its table: its columns, which grow,
//! and whether changes can be followed at all.
//!
//! Columns are only ever added at the end, and the timeline knows where: so the
//! columns of any version are a prefix. A dimension whose changes cannot be
//! followed is *lost* from a statement on; [`crate::change::mend`] brings it
//! back.

use super::LiveDimension;
use crate::{
    cache::{AddedColumns, Timeline},
    registry::DimensionColumn,
};
use parking_lot::{Mutex, RwLock};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tidemark_proto::Position;

/// See the module.
#[derive(Debug)]
pub(super) struct Schema {
    columns: RwLock<Arc<[DimensionColumn]>>,
    revision: AtomicU64,
    loss: Mutex<Option<Loss>>,
}

/// From where on a dimension's changes cannot be followed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Begin of the statement: up to here all is known.
    pub at: Position,
    /// Begin of the last statement since that may have changed the table.
    pub last: Position,
    pub reason: Arc<str>,
    /// What keeps it from being mended.
    pub obstacle: Option<Arc<str>>,
}

impl Loss {
    /// In words, for people.
    pub fn describe(&self) -> String {
        match &self.obstacle {
            Some(obstacle) => format!("{}; not mended yet: {obstacle}", self.reason),
            None => format!("{}; it is being compared with its table", self.reason),
        }
    }
}

impl Schema {
    pub(super) fn new(columns: &[DimensionColumn], timeline: &Timeline) -> Self {
        let loss = timeline.lost().map(|at| {
            let reason = "its table was changed in a way that cannot be followed".into();
            Loss { at, last: at, reason, obstacle: None }
        });
        Self { columns: RwLock::new(columns.into()), revision: AtomicU64::new(0), loss: Mutex::new(loss) }
    }
}

impl LiveDimension {
    /// Its columns now.
    pub fn columns(&self) -> Arc<[DimensionColumn]> {
        Arc::clone(&self.schema.columns.read())
    }

    /// The columns of rows of a version.
    pub fn columns_at(&self, version: Position) -> Arc<[DimensionColumn]> {
        let (timeline, columns) = self.past();
        let count = columns.len().saturating_sub(timeline.columns_after(version));
        match columns.get(..count) {
            Some(older) if count < columns.len() => older.into(),
            _ => columns,
        }
    }

    /// What is known of the past as a whole, with the columns that go with it.
    pub fn past(&self) -> (Timeline, Arc<[DimensionColumn]>) {
        let columns = self.schema.columns.read();
        (self.cache.timeline(), Arc::clone(&columns))
    }

    /// Columns that rows before `added.at` lack.
    pub(crate) fn add_columns(&self, added: AddedColumns, columns: Vec<DimensionColumn>) {
        let mut known = self.schema.columns.write();
        *known = known.iter().cloned().chain(columns).collect();
        self.cache.add_columns(added);
        self.schema.revision.fetch_add(1, Ordering::Release);
    }

    /// Columns that hold more than before.
    pub(crate) fn widen_columns(&self, columns: &[DimensionColumn]) {
        let mut known = self.schema.columns.write();
        let widened = |column: &DimensionColumn| columns.iter().find(|other| other.name == column.name);
        *known = known.iter().map(|column| widened(column).unwrap_or(column).clone()).collect();
    }

    /// The table's columns anew, while it is lost.
    pub(crate) fn set_columns(&self, columns: Arc<[DimensionColumn]>) {
        *self.schema.columns.write() = columns;
        self.schema.revision.fetch_add(1, Ordering::Release);
    }

    /// Raised when rows have to be read by other columns than before.
    pub(crate) fn columns_revision(&self) -> u64 {
        self.schema.revision.load(Ordering::Acquire)
    }

    /// Changes from `at` on cannot be followed. Told again, what was begun to
    /// mend it must begin anew. Returns whether it is news.
    pub(crate) fn lose(&self, at: Position, reason: &str) -> bool {
        let mut loss = self.schema.loss.lock();
        if let Some(loss) = loss.as_mut() {
            loss.last = at.max(loss.last.after());
            self.cache.lose(at);
            return false;
        }
        // A first load that is under way has no state that it could keep.
        let since = if self.is_loaded() { at } else { at.min(self.cache.floor().before()) };
        *loss = Some(Loss { at: since, last: at, reason: reason.into(), obstacle: None });
        self.cache.lose(since);
        true
    }

    /// What `mended` tells of is mended: everything since `at` is known, as
    /// `timeline` and memory have it. False when the table was changed once more
    /// since; then nothing changes.
    pub(crate) fn regain(&self, mended: &Loss, at: Position, timeline: &Timeline) -> bool {
        let mut loss = self.schema.loss.lock();
        let is_it = loss.as_ref().is_some_and(|loss| loss.last == mended.last);
        if is_it {
            *loss = None;
            self.cache.regain(at, timeline);
        }
        is_it
    }

    /// What keeps a lost dimension from being mended.
    pub(crate) fn note_obstacle(&self, obstacle: &str) {
        if let Some(loss) = self.schema.loss.lock().as_mut() {
            loss.obstacle = Some(obstacle.into());
        }
    }

    /// Whether its changes cannot be followed, and since when.
    pub fn loss(&self) -> Option<Loss> {
        self.schema.loss.lock().clone()
    }
}
