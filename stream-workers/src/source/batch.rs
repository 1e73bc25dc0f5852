//! Messages of one poll round, copied once into one buffer.

use super::{Limits, TopicPartition};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::Range, time::Instant};

/// Messages in the order in which their partitions gave them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    text: Bytes,
    messages: Vec<Message>,
}

/// One message, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub at: TopicPartition,
    pub offset: i64,
    /// Milliseconds since 1970; 0 when the broker gives none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    /// `None` for a null message.
    pub payload: Option<&'a [u8]>,
}

#[derive(Clone, Debug)]
struct Message {
    at: TopicPartition,
    offset: i64,
    timestamp: i64,
    key: Option<Range<u32>>,
    payload: Option<Range<u32>>,
}

impl Batch {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.messages.iter().map(|message| self.record(message))
    }

    /// The next offset of each partition of the batch: what to commit once all
    /// of it is delivered.
    pub fn next_offsets(&self) -> Vec<(TopicPartition, i64)> {
        let mut next = BTreeMap::new();
        for message in &self.messages {
            next.insert(message.at, message.offset + 1);
        }
        next.into_iter().collect()
    }

    fn record(&self, message: &Message) -> Record<'_> {
        let slice =
            |range: &Range<u32>| self.text.get(range.start as usize..range.end as usize).unwrap_or_default();
        Record {
            at: message.at,
            offset: message.offset,
            timestamp: message.timestamp,
            key: message.key.as_ref().map(slice),
            payload: message.payload.as_ref().map(slice),
        }
    }
}

/// A batch that is being filled.
#[derive(Debug, Default)]
pub(super) struct PendingBatch {
    text: Vec<u8>,
    messages: Vec<Message>,
    first_at: Option<Instant>,
    /// Bytes of the batch before: the next one is likely to need as many.
    expected_bytes: usize,
}

impl PendingBatch {
    /// Adds a copy of a message.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        if self.first_at.is_none() {
            self.first_at = Some(Instant::now());
            self.text.reserve(self.expected_bytes);
        }
        let key = record.key.map(|bytes| append(&mut self.text, bytes));
        let payload = record.payload.map(|bytes| append(&mut self.text, bytes));
        let Record { at, offset, timestamp, .. } = *record;
        self.messages.push(Message { at, offset, timestamp, key, payload });
    }

    /// How long a poll may wait for another message; `None` when the batch is to
    /// be delivered now.
    pub(super) fn room(&self, limits: &Limits, idle: std::time::Duration) -> Option<std::time::Duration> {
        let Some(first_at) = self.first_at else { return Some(idle) };
        if self.is_full(limits) {
            return None;
        }
        limits.wait.checked_sub(first_at.elapsed()).filter(|left| !left.is_zero())
    }

    /// Whether a bound is reached.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.messages.len() >= limits.rows_max || self.text.len() >= limits.bytes_max
    }

    /// Forgets the messages of partitions that were taken away: their next owner
    /// reads them.
    pub(super) fn drop_partitions(&mut self, partitions: &[TopicPartition]) {
        self.messages.retain(|message| !partitions.contains(&message.at));
        if self.messages.is_empty() {
            self.text.clear();
            self.first_at = None;
        }
    }

    /// Hands the batch over and begins a new one.
    pub(super) fn take(&mut self) -> Batch {
        self.first_at = None;
        self.expected_bytes = self.text.len();
        let text = Bytes::from(std::mem::take(&mut self.text));
        let messages = std::mem::take(&mut self.messages);
        self.messages.reserve(messages.len());
        Batch { text, messages }
    }
}

/// Batches end at `bytes_max` and one message more: far below 4 GiB.
fn append(text: &mut Vec<u8>, bytes: &[u8]) -> Range<u32> {
    let start = u32::try_from(text.len()).unwrap_or(u32::MAX);
    text.extend_from_slice(bytes);
    start..u32::try_from(text.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
impl FromIterator<(TopicPartition, i64, Option<&'static str>)> for Batch {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, i64, Option<&'static str>)>>(messages: I) -> Self {
        let mut pending = PendingBatch::default();
        for (at, offset, payload) in messages {
            let payload = payload.map(str::as_bytes);
            pending.push(&Record { at, offset, timestamp: 0, key: Some(b"k"), payload });
        }
        pending.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const P0: TopicPartition = TopicPartition { topic: 0, partition: 0 };
    const P1: TopicPartition = TopicPartition { topic: 0, partition: 1 };
    const IDLE: Duration = Duration::from_millis(10);

    #[test]
    fn records_keep_their_bytes_and_order() {
        let batch: Batch = [(P0, 5, Some("abc")), (P1, 9, None), (P0, 6, Some(""))].into_iter().collect();
        let records: Vec<_> = batch.records().collect();
        assert_eq!(records[0].payload, Some(&b"abc"[..]));
        assert_eq!(records[1].payload, None, "a null message is not an empty one");
        assert_eq!(records[2].payload, Some(&b""[..]));
        assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [5, 9, 6]);
        assert_eq!(batch.next_offsets(), [(P0, 7), (P1, 10)]);
    }

    #[test]
    fn a_batch_is_due_by_rows_by_bytes_and_by_age() {
        let long = Limits { rows_max: 2, bytes_max: 100, wait: Duration::from_secs(3600) };
        let mut pending = PendingBatch::default();
        assert_eq!(pending.room(&long, IDLE), Some(IDLE), "an empty batch is never due");
        let record = Record { at: P0, offset: 0, timestamp: 0, key: None, payload: Some(b"0123456789") };
        pending.push(&record);
        assert!(pending.room(&long, IDLE).is_some());
        assert_eq!(pending.room(&Limits { wait: Duration::ZERO, ..long }, IDLE), None);
        assert_eq!(pending.room(&Limits { bytes_max: 10, ..long }, IDLE), None);
        pending.push(&record);
        assert_eq!(pending.room(&long, IDLE), None);
    }

    #[test]
    fn a_revoked_partition_leaves_the_batch_that_is_being_filled() {
        let mut pending = PendingBatch::default();
        for at in [P0, P1, P0] {
            pending.push(&Record { at, offset: 1, timestamp: 0, key: None, payload: Some(b"x") });
        }
        pending.drop_partitions(&[P0]);
        let batch = pending.take();
        assert_eq!(batch.records().map(|record| record.at).collect::<Vec<_>>(), [P1]);
    }
}
