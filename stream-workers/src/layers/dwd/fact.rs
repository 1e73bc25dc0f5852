//! Messages → facts: parsed, routed to their plans, filtered by what needs no
//! lookup. Everything borrows the batch.

use super::{Worker, route::Routes};
use crate::{
    sink::dead_letter::Reason,
    source::Record,
    warehouse::{
        Frame,
        plan::{DwdPlan, JoinRead},
    },
};
use std::{borrow::Cow, ops::Range};
use tidemark_proto::{
    Position,
    envelope::{Envelope, EnvelopeError, RowKind},
};

/// A change on its way through one plan.
#[derive(Debug)]
pub(super) struct Fact<'b> {
    /// Index into the batch.
    pub(super) record: usize,
    pub(super) plan: usize,
    pub(super) change: &'b Change<'b>,
    pub(super) frame: Frame<'b>,
    pub(super) fate: Fate,
}

/// What is known to become of a fact.
#[derive(Debug)]
pub(super) enum Fate {
    /// It goes on to the next step.
    Alive,
    Dropped,
    Dead(Reason),
}

/// The fields of a change beside its columns.
#[derive(Debug)]
pub(super) struct Change<'b> {
    pub(super) database: Cow<'b, str>,
    pub(super) kind: RowKind,
    pub(super) ts: i64,
    pub(super) xid: Option<u64>,
    pub(super) position_text: Option<Cow<'b, str>>,
    pub(super) position: Option<Position>,
    pub(super) gtid: Option<Cow<'b, str>>,
    pub(super) transaction: Option<(Position, Position)>,
}

impl Change<'_> {
    /// Where the joins read: the end of the transaction is as good as any place
    /// in it, and rows of one transaction then share their questions.
    pub(super) fn read_position(&self) -> Option<Position> {
        self.transaction.map(|(_, end)| end).or(self.position)
    }
}

/// A batch, parsed. Facts point into `changes` and `cells`.
#[derive(Debug, Default)]
pub(super) struct Parsed<'b> {
    changes: Vec<Change<'b>>,
    /// The tokens of all facts' columns, end to end.
    cells: Vec<Option<&'b str>>,
    facts: Vec<ParsedFact>,
    pub(super) dead: Vec<(usize, Reason)>,
    pub(super) dropped: usize,
    pub(super) null_messages: usize,
}

#[derive(Debug)]
struct ParsedFact {
    record: usize,
    plan: usize,
    change: usize,
    cells: Range<usize>,
}

/// Parses the messages. One that cannot be used becomes a dead letter; one that
/// no plan reads is passed over.
pub(super) fn parse<'b>(records: &[Record<'b>], worker: &Worker) -> Parsed<'b> {
    let mut parsed = Parsed::default();
    for (number, record) in records.iter().enumerate() {
        let Some(payload) = record.payload.filter(|payload| !payload.is_empty()) else {
            parsed.null_messages += 1;
            continue;
        };
        if let Err(error) = parsed.add(number, payload, worker) {
            parsed.dead.push((number, Reason::new("parse", error)));
        }
    }
    parsed
}

impl<'b> Parsed<'b> {
    fn add(&mut self, record: usize, payload: &'b [u8], worker: &Worker) -> Result<(), EnvelopeError> {
        let envelope = Envelope::parse(payload)?;
        let plans = worker.routes.of_table(&envelope.table);
        let Some(kind) = envelope.kind() else { return Ok(()) };
        if plans.is_empty() || envelope.database != worker.config.mysql.database {
            return Ok(());
        }
        let position = envelope.position.as_ref().map(|_| envelope.position(worker.epoch)).transpose()?;
        let change = self.changes.len();
        for plan in plans {
            let Some(routed) = worker.routes.plan(*plan) else { continue };
            let start = self.cells.len();
            self.cells.extend(routed.source_columns.iter().map(|column| envelope.data.get(column)));
            let cells = start..self.cells.len();
            match self.passes(routed, cells.clone(), (kind, position, envelope.ts)) {
                Ok(true) => self.facts.push(ParsedFact { record, plan: *plan, change, cells }),
                Ok(false) => self.dropped += 1,
                Err(reason) => self.dead.push((record, reason)),
            }
        }
        let pack = |packed: Option<u64>| packed.map(Position::from_packed);
        self.changes.push(Change {
            kind,
            ts: envelope.ts,
            xid: envelope.xid,
            position,
            transaction: pack(envelope.tx).zip(pack(envelope.tx_end)),
            database: envelope.database,
            position_text: envelope.position,
            gtid: envelope.gtid,
        });
        Ok(())
    }

    /// Whether a fact is wanted, and can be joined.
    fn passes(
        &self,
        plan: &DwdPlan,
        cells: Range<usize>,
        (kind, position, ts): (RowKind, Option<Position>, i64),
    ) -> Result<bool, Reason> {
        let slots = vec![self.cells.get(cells).unwrap_or_default()];
        let frame = Frame { slots, kind, position, ts };
        let passes = plan.fact_filter.as_ref().map_or(Ok(true), |filter| filter.is_true(&frame));
        let passes = passes.map_err(|error| Reason::new("evaluate", format!("{}: {error}", plan.name)))?;
        let needs_position = plan.levels.iter().flatten().any(|join| join.read == JoinRead::AsOfRow);
        if passes && needs_position && position.is_none() {
            return Err(Reason::new("parse", EnvelopeError::NoPosition));
        }
        Ok(passes)
    }
}

/// The facts with their first slot filled and room for their joins.
pub(super) fn frames<'b>(parsed: &'b Parsed<'b>, routes: &Routes) -> Vec<Fact<'b>> {
    let frame = |fact: &ParsedFact| {
        let change = parsed.changes.get(fact.change)?;
        let mut slots: Vec<&'b [Option<&'b str>]> = vec![&[]; routes.plan(fact.plan)?.slots()];
        *slots.first_mut()? = parsed.cells.get(fact.cells.clone())?;
        let frame = Frame { slots, kind: change.kind, position: change.position, ts: change.ts };
        Some(Fact { record: fact.record, plan: fact.plan, change, frame, fate: Fate::Alive })
    };
    parsed.facts.iter().filter_map(frame).collect()
}
