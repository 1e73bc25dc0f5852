//! Joined facts → messages of the target topics, in one buffer.

use super::{
    Worker,
    fact::{Fact, Fate},
};
use crate::{
    sink::dead_letter::Reason,
    source::Record,
    warehouse::{
        EvaluateError, Value,
        plan::{DwdPlan, Output},
    },
};
use std::ops::Range;
use tidemark_proto::{
    envelope::{EnvelopeWriter, Meta, RowKind},
    text::write_string,
};

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Projected {
    /// Payloads and keys of all rows.
    pub(super) text: Vec<u8>,
    /// In the order of the batch.
    pub(super) rows: Vec<Row>,
    /// Messages of the batch that cannot be used.
    pub(super) dead: Vec<(usize, Reason)>,
    pub(super) dropped: usize,
    pub(super) null_messages: usize,
}

/// A row of a target.
#[derive(Debug)]
pub(super) struct Row {
    /// Index into the batch.
    pub(super) record: usize,
    pub(super) plan: usize,
    pub(super) payload: Range<usize>,
    /// `None`: the fact's own key.
    pub(super) key: Option<Range<usize>>,
}

/// Writes the rows of all facts that are still wanted.
pub(super) fn project(facts: &[Fact<'_>], records: &[Record<'_>], worker: &Worker) -> Projected {
    let bytes: usize = records.iter().filter_map(|record| record.payload).map(<[u8]>::len).sum();
    let mut projected = Projected { text: Vec::with_capacity(bytes + bytes / 2), ..Projected::default() };
    let mut token = Vec::new();
    for fact in facts {
        let Some(plan) = worker.routes.plan(fact.plan) else { continue };
        match &fact.fate {
            Fate::Dropped => projected.dropped += 1,
            Fate::Dead(reason) => {
                let reason = Reason::new(reason.stage, format!("{}: {}", plan.name, reason.message));
                projected.dead.push((fact.record, reason));
            }
            Fate::Alive => {
                let start = projected.text.len();
                let added = projected.add(fact, plan, &mut token);
                let added = added.map_err(|error| Reason::new("evaluate", format!("{}: {error}", plan.name)));
                let fits = added.and_then(|()| fits(projected.text.len() - start, plan, worker));
                if let Err(reason) = fits {
                    projected.rows.pop_if(|row| row.payload.start >= start);
                    projected.text.truncate(start);
                    projected.dead.push((fact.record, reason));
                }
            }
        }
    }
    projected
}

fn fits(bytes: usize, plan: &DwdPlan, worker: &Worker) -> Result<(), Reason> {
    if bytes <= worker.config.kafka.message_bytes_max {
        return Ok(());
    }
    let text = format!("{}: the row of {bytes} bytes is over kafka.message_bytes_max", plan.name);
    Err(Reason::new("write", text))
}

impl Projected {
    fn add(&mut self, fact: &Fact<'_>, plan: &DwdPlan, token: &mut Vec<u8>) -> Result<(), EvaluateError> {
        if let Some(filter) = &plan.joined_filter
            && !filter.is_true(&fact.frame)?
        {
            self.dropped += 1;
            return Ok(());
        }
        let start = self.text.len();
        self.write_payload(fact, plan, token)?;
        let payload = start..self.text.len();
        let key = if plan.key.is_empty() { None } else { Some(self.write_key(fact, plan)?) };
        self.rows.push(Row { record: fact.record, plan: fact.plan, payload, key });
        Ok(())
    }

    fn write_payload(
        &mut self,
        fact: &Fact<'_>,
        plan: &DwdPlan,
        token: &mut Vec<u8>,
    ) -> Result<(), EvaluateError> {
        let change = fact.change;
        let meta = Meta {
            database: &change.database,
            table: &plan.name,
            kind: RowKind::Insert,
            ts: change.ts,
            xid: change.xid,
            // The last row of the transaction may be another plan's, or dropped.
            commit: false,
            position: change.position_text.as_deref(),
            gtid: change.gtid.as_deref(),
            transaction: change.transaction,
            again: false,
        };
        let mut writer = EnvelopeWriter::begin(&mut self.text, &meta);
        for Output { name, expression } in &plan.outputs {
            match expression.evaluate(&fact.frame)? {
                Value::Null => writer.column(name, "null"),
                Value::Token(text) => writer.column(name, text),
                computed => {
                    token.clear();
                    computed.write_token(token);
                    // Tokens are written from text: they are UTF-8.
                    writer.column(name, &String::from_utf8_lossy(token));
                }
            }
        }
        writer.end();
        Ok(())
    }

    /// Writes the row's key in Maxwell's form.
    fn write_key(&mut self, fact: &Fact<'_>, plan: &DwdPlan) -> Result<Range<usize>, EvaluateError> {
        let start = self.text.len();
        self.text.extend_from_slice(b"{\"database\":");
        write_string(&mut self.text, &fact.change.database);
        self.text.extend_from_slice(b",\"table\":");
        write_string(&mut self.text, &plan.name);
        for output in plan.key.iter().filter_map(|column| plan.outputs.get(*column)) {
            self.text.push(b',');
            write_string(&mut self.text, &format!("pk.{}", output.name.to_lowercase()));
            self.text.push(b':');
            output.expression.evaluate(&fact.frame)?.write_token(&mut self.text);
        }
        self.text.push(b'}');
        Ok(start..self.text.len())
    }
}
