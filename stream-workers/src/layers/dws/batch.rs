//! A batch of messages, measured: what it adds to every table, and what of it
//! cannot be used. Pure work on the messages' text, done away from the runtime's
//! threads.

use super::{aggregate::Contributions, measure::Measure};
use crate::{
    sink::dead_letter::Reason,
    source::{Batch, Record, TopicPartition},
};
use std::{collections::BTreeMap, sync::Arc};
use tidemark_proto::envelope::{Envelope, RowKind};

/// The tables that read a topic.
pub(super) type Measures = Vec<Arc<Measure>>;

/// What a batch comes to.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) batch: Batch,
    /// For each partition one entry a table of its topic.
    pub(super) contributions: BTreeMap<TopicPartition, Vec<Contributions>>,
    /// The first offset of each partition.
    pub(super) first: BTreeMap<TopicPartition, i64>,
    /// Messages by their place in the batch, and why they cannot be used.
    pub(super) dead: Vec<(usize, Reason)>,
    pub(super) nulls: u64,
    pub(super) dropped: u64,
    /// The first message that takes something back.
    pub(super) retraction: Option<Retraction>,
}

/// An update or delete among the messages of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retraction {
    pub(super) at: TopicPartition,
    pub(super) offset: i64,
    pub(super) kind: RowKind,
}

/// Measures a batch; `topics` are the tables by topic index.
pub(super) fn measure(batch: Batch, topics: &[Measures]) -> Measured {
    let mut measured = Measured::default();
    for (index, record) in batch.records().enumerate() {
        measured.first.entry(record.at).or_insert(record.offset);
        let Some(measures) = topics.get(record.at.topic) else { continue };
        let Some(payload) = record.payload.filter(|payload| !payload.is_empty()) else {
            measured.nulls += 1;
            continue;
        };
        match Envelope::parse(payload) {
            Ok(row) => measured.count(index, &record, (&row, measures)),
            Err(error) => measured.dead.push((index, Reason::new("parse", error))),
        }
        if measured.retraction.is_some() {
            break;
        }
    }
    measured.batch = batch;
    measured
}

impl Measured {
    fn count(&mut self, index: usize, record: &Record<'_>, (row, measures): (&Envelope<'_>, &Measures)) {
        match row.kind() {
            Some(RowKind::Insert | RowKind::BootstrapInsert) => {}
            Some(kind) => {
                self.retraction = Some(Retraction { at: record.at, offset: record.offset, kind });
                return;
            }
            None => {
                let reason = Reason::new("parse", format!("type `{}` is not a change of a row", row.event));
                self.dead.push((index, reason));
                return;
            }
        }
        let offset = u64::try_from(record.offset).unwrap_or_default();
        let contributions = self.contributions.entry(record.at).or_default();
        contributions.resize_with(measures.len(), Contributions::default);
        for (measure, contributions) in measures.iter().zip(contributions) {
            match measure.contribute(row, offset, contributions) {
                Ok(true) => {}
                Ok(false) => self.dropped += 1,
                Err(error) => {
                    let message = format!("{}: {error}", measure.schema.name());
                    self.dead.push((index, Reason::new("evaluate", message)));
                }
            }
        }
    }
}
