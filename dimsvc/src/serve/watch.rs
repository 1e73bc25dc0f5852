//! Watch: the ring of applied transactions as a stream of messages.
//!
//! A watch is a position, the tables it wants, and nothing else: each message
//! is read from the ring when the caller has room for it, so that a slow caller
//! holds no memory. Messages are cut to a bound; what a message says of its
//! progress is true for every way of cutting. Ring and `applied` are all it
//! knows.

#[cfg(test)]
mod tests;

use super::{lookup::Lookups, point::ReadPoints, status::ServeError};
use crate::{
    dimension::{Image, Key},
    live::Live,
    ring::{Next, Ring, TooOld, Transaction, Whole, is_watchable},
};
use futures_util::{Stream, stream};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_proto::{
    Position,
    dim::v1::{WatchRequest, WatchResponse, WatchedChange},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The longest silence: half of what the API promises.
const MARK_EVERY: Duration = Duration::from_millis(500);
/// Changes of one message, but for a single greater row.
const MESSAGE_BYTES: usize = 1 << 20;
/// About what a change takes on the wire beside its texts.
const CHANGE_OVERHEAD: usize = 32;

/// One caller's watch.
#[derive(Debug)]
pub(super) struct Watch {
    live: Arc<Live>,
    stop: CancellationToken,
    cursor: Cursor,
    /// When a progress mark is due.
    mark_at: Instant,
    /// One of the bounded number of watches.
    _permit: OwnedSemaphorePermit,
}

/// Where a watch is.
#[derive(Debug)]
struct Cursor {
    tables: Tables,
    message_bytes: usize,
    /// All transactions that ended up to here have been sent.
    after: Position,
    /// Changes of the next transaction that have been sent.
    sent: usize,
}

/// Which dimensions are watched; all that can be when empty.
#[derive(Debug, Default)]
struct Tables(BTreeSet<String>);

impl Watch {
    /// Checks a request and finds its place.
    pub(super) async fn open(
        lookups: &Lookups,
        request: WatchRequest,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, ServeError> {
        let live = &lookups.live;
        if !live.ring.is_on() {
            return Err(ServeError::request("watch", "nothing is kept: dimsvc.limits.watch_bytes_max is 0"));
        }
        let tables = Tables::of(live, request.tables)?;
        // Below a floor the first load had the rows: no transaction was kept.
        let oldest = live.ring.oldest().max(tables.floor(live));
        let after = match request.after {
            None => live.applied.get().max(oldest),
            Some(after) => {
                let deadline = Instant::now() + Duration::from_millis(lookups.limits.wait_max_ms);
                let points = ReadPoints { live, source: &lookups.source, stop: &lookups.stop, deadline };
                // Its marks must not run ahead of what is applied here.
                points.reach(after).await?
            }
        };
        if after < oldest {
            return Err(TooOld { oldest }.into());
        }
        let message_bytes = MESSAGE_BYTES.min(lookups.limits.message_bytes_max / 2);
        let cursor = Cursor { tables, message_bytes, after, sent: 0 };
        let (live, stop) = (Arc::clone(live), lookups.stop.clone());
        Ok(Self { live, stop, cursor, mark_at: Instant::now(), _permit: permit })
    }

    /// The messages; the first comes at once. Ends with the service, or with an
    /// error when the caller was too slow for the ring.
    pub(super) fn messages(self) -> impl Stream<Item = Result<WatchResponse, Status>> + Send {
        stream::unfold(Some(self), async |watch| {
            let mut watch = watch?;
            match watch.next().await {
                Ok(message) => message.map(|message| (Ok(message), Some(watch))),
                Err(error) => Some((Err(ServeError::from(error).into()), None)),
            }
        })
    }

    /// The next message; none when the service stops.
    async fn next(&mut self) -> Result<Option<WatchResponse>, TooOld> {
        while !self.stop.is_cancelled() {
            // Loaded first: all that ended up to it is in the ring, but for what
            // was passed over since a loss.
            let applied = self.live.applied.get();
            let known = self.cursor.tables.lost(&self.live).map_or(applied, |lost| applied.min(lost));
            let message = self.cursor.step(&self.live.ring, known)?;
            if message.is_some() || Instant::now() >= self.mark_at {
                self.mark_at = Instant::now() + MARK_EVERY;
                return Ok(Some(message.unwrap_or_else(|| self.cursor.message(Vec::new()))));
            }
            tokio::select! {
                _ = self.live.applied.moved_past(applied, self.mark_at) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(None)
    }
}

impl Cursor {
    /// The next changes of wanted tables up to `applied`; none when there are
    /// none, and then all up to `applied` has been sent.
    fn step(&mut self, ring: &Ring, applied: Position) -> Result<Option<WatchResponse>, TooOld> {
        loop {
            match ring.next(self.after, applied, |transaction| self.tables.want(transaction))? {
                Next::Wanted(transaction) => return Ok(Some(self.cut(&transaction))),
                Next::Passed(end) => self.after = end,
                Next::Nothing => {
                    self.after = self.after.max(applied);
                    return Ok(None);
                }
            }
        }
    }

    /// The next part of a transaction. Only its last part moves `after`: who
    /// took half of a transaction must not extend an interval over it, and who
    /// resumes gets all of it again.
    fn cut(&mut self, transaction: &Transaction) -> WatchResponse {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for change in self.tables.changes(transaction, self.sent) {
            bytes += change.table.len() + change.key.len() + change.row.len() + CHANGE_OVERHEAD;
            if bytes > self.message_bytes && !changes.is_empty() {
                self.sent += changes.len();
                return self.message(changes);
            }
            changes.push(change);
        }
        (self.after, self.sent) = (transaction.end, 0);
        self.message(changes)
    }

    fn message(&self, changes: Vec<WatchedChange>) -> WatchResponse {
        WatchResponse { applied: self.after.packed(), applied_text: self.after.to_string(), changes }
    }
}

impl Tables {
    fn of(live: &Live, names: Vec<String>) -> Result<Self, ServeError> {
        for name in &names {
            if live.dimension(name).is_none() {
                return Err(ServeError::UnknownTable(name.clone()));
            }
            if !is_watchable(name) {
                return Err(ServeError::request("tables", format!("`{name}` is an index: watch its table")));
            }
        }
        Ok(Self(names.into_iter().collect()))
    }

    fn has(&self, dimension: &str) -> bool {
        self.0.is_empty() || self.0.contains(dimension)
    }

    fn want(&self, transaction: &Transaction) -> bool {
        transaction.tables.iter().any(|table| self.has(&table.dimension))
    }

    /// From where on every change of all of them is fed.
    fn floor(&self, live: &Live) -> Position {
        let watched = live
            .dimensions()
            .filter(|live| is_watchable(&live.dimension.name) && self.has(&live.dimension.name));
        watched.map(|live| live.cache.floor()).max().unwrap_or_default()
    }

    /// After which place changes of one of them are not known.
    fn lost(&self, live: &Live) -> Option<Position> {
        let watched = live.dimensions().filter(|live| self.has(&live.dimension.name));
        watched.filter_map(|live| live.cache.lost()).min()
    }

    /// The wanted changes of a transaction from the given one on, always in the
    /// same order.
    fn changes(&self, transaction: &Transaction, from: usize) -> impl Iterator<Item = WatchedChange> {
        let version = transaction.begin.packed();
        let wanted = transaction.tables.iter().filter(|table| self.has(&table.dimension));
        let parts = wanted.flat_map(|table| {
            let whole = table.whole.map(|_| (table, None));
            whole.into_iter().chain(table.rows.iter().map(move |row| (table, Some(row))))
        });
        // Only what is sent is copied.
        parts.skip(from).map(move |(table, row)| match row {
            Some(row) => change(table.dimension.to_string(), version, row),
            None => WatchedChange {
                table: table.dimension.to_string(),
                version,
                truncated: table.whole == Some(Whole::Truncated),
                columns_added: table.whole == Some(Whole::ColumnsAdded),
                ..WatchedChange::default()
            },
        })
    }
}

fn change(table: String, version: u64, (key, image): &(Key, Image)) -> WatchedChange {
    // Keys and rows are JSON that this service wrote.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    WatchedChange {
        table,
        key: text(key.as_bytes()),
        version,
        row: image.as_deref().map(text).unwrap_or_default(),
        deleted: image.is_none(),
        ..WatchedChange::default()
    }
}
