//! The newest applied transactions, for watchers.
//!
//! Apply pushes each transaction before `applied` moves over it; a watcher
//! reads by position, so a slow one holds nothing here. The ring is bounded by
//! bytes: it lets the oldest transactions go, and a reader from before them is
//! told so instead of being given a part. It knows nothing of requests, and
//! what it holds are the bytes that the writer was given too.

#[cfg(test)]
mod tests;

use crate::dimension::{Image, Key};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tidemark_proto::Position;

/// About what a transaction, a table and a row need beside their bytes.
const TRANSACTION_OVERHEAD: usize = 128;
const TABLE_OVERHEAD: usize = 48;
const ROW_OVERHEAD: usize = 96;
/// Transactions that one read looks at: apply waits meanwhile.
const LOOKED_AT_MAX: usize = 1_024;

/// A transaction's changes of watchable dimensions.
#[derive(Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The version of its rows.
    pub begin: Position,
    pub end: Position,
    pub tables: Vec<TableChanges>,
}

/// A transaction's changes of one dimension.
#[derive(Debug, PartialEq, Eq)]
pub struct TableChanges {
    pub dimension: Arc<str>,
    /// What happened to all rows from before, ahead of `rows`.
    pub whole: Option<Whole>,
    /// The last image of each key that changed.
    pub rows: Vec<(Key, Image)>,
}

/// What happens to a table as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// All rows were removed at once.
    Truncated,
    /// All rows have more columns from here on.
    ColumnsAdded,
}

/// What a read finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The first transaction that is wanted.
    Wanted(Arc<Transaction>),
    /// Nothing wanted up to here; there is more to look at.
    Passed(Position),
    /// Nothing wanted up to where the read was to go.
    Nothing,
}

/// Transactions that a reader asks for are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes are kept from {oldest} on")]
pub struct TooOld {
    /// A read after this position, or after a later one, misses nothing.
    pub oldest: Position,
}

/// The newest transactions, whole and in order, within a bound of bytes.
#[derive(Debug)]
pub struct Ring {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Everything that ended after this is in `transactions`.
    oldest: Position,
    transactions: VecDeque<(usize, Arc<Transaction>)>,
    bytes: usize,
}

/// Whether a dimension can be watched: an index changes with its table.
pub fn is_watchable(dimension: &str) -> bool {
    !dimension.contains('@')
}

impl Ring {
    /// An empty ring, complete from `start` on, for at most `bytes_max` bytes;
    /// with 0 it keeps nothing and costs nothing.
    pub fn new(start: Position, bytes_max: usize) -> Self {
        let kept = Kept { oldest: start, transactions: VecDeque::new(), bytes: 0 };
        Self { bytes_max, kept: Mutex::new(kept) }
    }

    /// Whether it keeps anything at all.
    pub fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Whether it keeps changes of a dimension: those of others can be spared.
    pub fn wants(&self, dimension: &str) -> bool {
        self.is_on() && is_watchable(dimension)
    }

    /// From where on it is complete.
    pub fn oldest(&self) -> Position {
        self.kept.lock().oldest
    }

    /// Takes a transaction. To be called in order, and before `applied` reaches
    /// its end.
    pub fn push(&self, mut transaction: Transaction) {
        transaction.tables.retain(|table| self.wants(&table.dimension));
        if transaction.tables.is_empty() {
            return;
        }
        let bytes = transaction.bytes();
        let transaction = Arc::new(transaction);
        let mut kept = self.kept.lock();
        kept.bytes += bytes;
        kept.transactions.push_back((bytes, transaction));
        while kept.bytes > self.bytes_max {
            let Some((bytes, gone)) = kept.transactions.pop_front() else { break };
            kept.bytes -= bytes;
            kept.oldest = gone.end;
        }
    }

    /// Forgets everything, for what changes rows without a transaction, as a
    /// repair does: to be called once lookups see it. Whoever watches from
    /// `applied` or before is told, and loads anew.
    pub fn restart(&self, applied: Position) {
        let mut kept = self.kept.lock();
        // Just after it: a watcher that has come as far as `applied` is told
        // too, and no transaction ends before the position that it is given.
        let oldest = applied.after().max(kept.oldest);
        *kept = Kept { oldest, transactions: VecDeque::new(), bytes: 0 };
    }

    /// The first wanted transaction that ended after `after` and not after
    /// `upto`. `upto` is an `applied` that was loaded before: then all that
    /// ended up to it is here.
    ///
    /// # Errors
    /// When a transaction that ended after `after` may be gone.
    pub fn next(
        &self,
        after: Position,
        upto: Position,
        wanted: impl Fn(&Transaction) -> bool,
    ) -> Result<Next, TooOld> {
        let kept = self.kept.lock();
        if after < kept.oldest {
            return Err(TooOld { oldest: kept.oldest });
        }
        let first = kept.transactions.partition_point(|(_, transaction)| transaction.end <= after);
        let candidates = kept.transactions.range(first..).map(|(_, transaction)| transaction);
        let mut passed = None;
        for transaction in candidates.take_while(|transaction| transaction.end <= upto).take(LOOKED_AT_MAX) {
            if wanted(transaction) {
                return Ok(Next::Wanted(Arc::clone(transaction)));
            }
            passed = Some(transaction.end);
        }
        Ok(passed.map_or(Next::Nothing, Next::Passed))
    }
}

impl Transaction {
    fn bytes(&self) -> usize {
        let row = |(key, image): &(Key, Image)| {
            ROW_OVERHEAD + key.as_bytes().len() + image.as_ref().map_or(0, |image| image.len())
        };
        let table = |table: &TableChanges| TABLE_OVERHEAD + table.rows.iter().map(row).sum::<usize>();
        TRANSACTION_OVERHEAD + self.tables.iter().map(table).sum::<usize>()
    }
}
