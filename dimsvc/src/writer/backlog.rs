//! What was taken from the feed and is not published as durable yet.

use crate::{apply::Pending, dimension::TableRows, live::LiveDimension};
use std::{collections::VecDeque, pin::pin, sync::Arc};
use tidemark_binlog::{GtidError, GtidSet};
use tidemark_proto::Position;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Events taken from the queue at a time.
const TAKE_MAX: usize = 512;
/// Entries of one batch: most stores take one call for each.
const BATCH_ENTRIES_MAX: usize = 512;

/// Some events of the feed, in its order.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Of the last event.
    pub(super) end: Position,
    pub(super) gtids: GtidSet,
    pub(super) rows: Vec<TableRows>,
    pub(super) timelines: Vec<Arc<LiveDimension>>,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.timelines.is_empty()
    }
}

/// What some entries bring to the store.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// How many entries.
    pub(super) entries: usize,
    pub(super) rows: Vec<TableRows>,
    /// Dimensions whose past has changed.
    pub(super) timelines: Vec<Arc<LiveDimension>>,
}

/// Entries in order: first those in the store, then the others. Its bytes are
/// bounded by the room in the overlays that entries hold; events without rows
/// melt into one entry.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    /// How many of them, from the first on, are in the store.
    written: usize,
    units: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, pending: Pending) -> Result<(), GtidError> {
        let melts = pending.rows.is_empty() && pending.timelines.is_empty();
        let into = self.entries.len() > self.written && self.entries.back().is_some_and(Entry::is_empty);
        if !(melts && into) {
            self.units += pending.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            self.entries.push_back(Entry {
                rows: pending.rows,
                timelines: pending.timelines,
                room: pending.room,
                ..Entry::default()
            });
        }
        if let Some(last) = self.entries.back_mut() {
            last.end = pending.end;
            if let Some(gtid) = pending.gtid {
                last.gtids.add(&gtid)?;
            }
        }
        Ok(())
    }

    /// What to write next, up to a bound that the last entry may exceed; `None`
    /// when all is written.
    pub(super) fn next_batch(&self, rows_max: usize) -> Option<Batch> {
        let (mut batch, mut count) = (Batch::default(), 0);
        for entry in self.entries.range(self.written..) {
            if count >= rows_max || batch.entries >= BATCH_ENTRIES_MAX {
                break;
            }
            batch.entries += 1;
            count += entry.rows.iter().map(|table| table.rows.len()).sum::<usize>();
            batch.rows.extend(entry.rows.iter().filter(|table| !table.rows.is_empty()).cloned());
            batch.timelines.extend(entry.timelines.iter().cloned());
        }
        (batch.entries > 0).then_some(batch)
    }

    /// So many more entries are in the store.
    pub(super) fn note_written(&mut self, entries: usize) {
        let written = self.written;
        self.written = written.saturating_add(entries).min(self.entries.len());
        for entry in self.entries.range_mut(written..self.written) {
            entry.rows = Vec::new();
            entry.timelines = Vec::new();
        }
    }

    /// The end of what is in the store.
    pub(super) fn written_end(&self) -> Option<Position> {
        Some(self.entries.get(self.written.checked_sub(1)?)?.end)
    }

    /// The GTIDs of what is in the store.
    pub(super) fn written_gtids(&self) -> impl Iterator<Item = &GtidSet> {
        self.entries.range(..self.written).map(|entry| &entry.gtids)
    }

    /// Takes out the oldest entry if it ends at or before the position.
    pub(super) fn pop_until(&mut self, durable: Position) -> Option<Entry> {
        let entry = self.entries.pop_front_if(|entry| entry.end <= durable)?;
        self.written = self.written.saturating_sub(1);
        self.units -= entry.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        Some(entry)
    }

    /// Units of the overlays' room that entries hold.
    pub(super) fn units(&self) -> usize {
        self.units
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The queue of the feed and what was taken from it.
#[derive(Debug)]
pub(super) struct Intake {
    queue: mpsc::Receiver<Pending>,
    pub(super) backlog: Backlog,
    /// The feed has ended, and the queue is empty.
    pub(super) ended: bool,
    /// The feed named what is no GTID: nothing after it may be written.
    failed: Option<GtidError>,
}

impl Intake {
    pub(super) fn new(queue: mpsc::Receiver<Pending>) -> Self {
        Self { queue, backlog: Backlog::default(), ended: false, failed: None }
    }

    /// Waits for events and takes them; at once when the feed has ended.
    ///
    /// # Cancel safety
    /// What is not taken stays in the queue.
    pub(super) async fn receive(&mut self) -> Result<(), GtidError> {
        let mut taken = Vec::with_capacity(TAKE_MAX);
        self.ended = self.queue.recv_many(&mut taken, TAKE_MAX).await == 0;
        for pending in taken {
            if let Err(error) = self.backlog.push(pending) {
                self.failed.get_or_insert(error);
            }
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Goes on taking while something else is waited for, so that a slow store
    /// stops the feed by the room in the overlays alone.
    ///
    /// # Cancel safety
    /// As the other future's.
    pub(super) async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        while !self.ended && self.failed.is_none() {
            tokio::select! {
                biased; // nothing is taken once the other is done
                done = &mut other => return done,
                // Kept in `failed`, told by the next `receive`.
                _ = self.receive() => {}
            }
        }
        other.await
    }
}
