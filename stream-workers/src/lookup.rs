//! Dimension rows for a batch of facts, from dimsvc.
//!
//! ```text
//! keys: (key, position) of every fact ─► distinct keys, each at its greatest position
//!   ─► request: chunks within the service's limits ─► call: retried until answered
//!   ─► an answer holds for an interval of positions; the rest is asked again, exactly
//! ```
//!
//! A lookup that fails is never an absent row: it is made again until it
//! succeeds or the process stops. Only a key that the service calls malformed is
//! given back as refused.

mod call;
#[cfg(test)]
pub(crate) mod fake;
mod keys;
mod request;
#[cfg(test)]
mod tests;

pub use keys::{TableAnswers, TableQuery};

use crate::{metrics::LayerMetrics, warehouse::plan::JoinRead};
use bytes::Bytes;
use call::{Caller, Failure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use request::Wanted;
use std::{ops::Range, sync::Arc};
use tidemark_proto::{Position, config::Config, dim::v1};
use tokio_util::sync::CancellationToken;

/// Why lookups cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("`{0}` is not the address of a dimension service: write it as http://host:port")]
    Address(String),
    /// Another try gives the same answer: somebody has to act.
    #[error("the dimension service refused: {0}")]
    Refused(String),
    #[error("the answer of the dimension service does not fit the question: {0}")]
    Malformed(&'static str),
    #[error("stopped while waiting for the dimension service")]
    Stopped,
}

/// What a dimension holds for a key, and for which positions that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The row as a JSON object, or a proven absence.
    Row { row: Option<Bytes>, from: Position, to: Position },
    /// The key itself is malformed; the reason in one line.
    Refused(String),
}

impl Answer {
    /// Whether the answer is right for a read as of `position`.
    fn holds_at(&self, position: Position) -> bool {
        match self {
            Self::Row { from, to, .. } => *from < position && position <= *to,
            Self::Refused(_) => true,
        }
    }
}

/// The source server as dimsvc knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceIdentity {
    pub epoch: u64,
    pub server_uuid: String,
}

/// A client of the dimension service; a clone shares its connections.
#[derive(Clone)]
pub struct Lookup {
    caller: Arc<Caller>,
    keys_max: usize,
}

impl Lookup {
    /// Prepares connections; they are made by the first calls.
    ///
    /// # Errors
    /// When the config's address is none.
    pub fn try_new(
        config: &Config,
        metrics: &LayerMetrics,
        shutdown: CancellationToken,
    ) -> Result<Self, LookupError> {
        let caller = Arc::new(Caller::try_new(config, metrics, shutdown)?);
        Ok(Self { caller, keys_max: config.dimsvc.limits.keys_per_lookup_max.max(1) })
    }

    /// Reads the keys of several tables, all in as few calls as the service's
    /// limits allow. Answers come in the order of the queries.
    ///
    /// # Errors
    /// When the service refuses the question as such, or the process stops.
    pub async fn read(
        &self,
        tables: Vec<TableQuery>,
        read: JoinRead,
    ) -> Result<Vec<TableAnswers>, LookupError> {
        let first: Vec<Wanted> = tables.iter().enumerate().flat_map(|(at, query)| query.newest(at)).collect();
        let mut answers: Vec<_> = tables.iter().map(TableAnswers::new).collect();
        self.ask(&tables, &first, read, &mut answers).await?;
        if read == JoinRead::AsOfRow {
            let rest: Vec<Wanted> = tables
                .iter()
                .zip(&mut answers)
                .enumerate()
                .flat_map(|(at, (q, a))| q.not_covered(at, a))
                .collect();
            self.ask(&tables, &rest, read, &mut answers).await?;
        }
        Ok(answers)
    }

    /// Which server dimsvc follows; waits until it knows.
    ///
    /// # Errors
    /// When the service refuses the call, or the process stops.
    pub async fn source(&self) -> Result<SourceIdentity, LookupError> {
        let status = self.caller.status().await?;
        Ok(SourceIdentity { epoch: u64::from(status.epoch), server_uuid: status.server_uuid })
    }

    /// Asks for `wanted` in chunks, and adds an answer for each in order.
    async fn ask(
        &self,
        tables: &[TableQuery],
        wanted: &[Wanted],
        read: JoinRead,
        answers: &mut [TableAnswers],
    ) -> Result<(), LookupError> {
        let question = Question { tables, wanted, read };
        let chunks = (0..wanted.len()).step_by(self.keys_max);
        let chunks = chunks.map(|start| start..wanted.len().min(start + self.keys_max));
        let calls = stream::iter(chunks).map(|chunk| self.ask_chunk(question, chunk));
        let got: Vec<Vec<Answer>> = calls.buffered(self.caller.connections()).try_collect().await?;
        for (wanted, answer) in wanted.iter().zip(got.into_iter().flatten()) {
            if let Some(table) = answers.get_mut(wanted.table) {
                table.push(answer);
            }
        }
        Ok(())
    }

    /// One chunk; it is cut into smaller ones when the service finds it too
    /// large or cannot say which of its keys is malformed.
    async fn ask_chunk(
        &self,
        question: Question<'_>,
        chunk: Range<usize>,
    ) -> Result<Vec<Answer>, LookupError> {
        let mut answers = Vec::with_capacity(chunk.len());
        let mut todo = vec![chunk];
        while let Some(chunk) = todo.pop() {
            if chunk.is_empty() {
                continue;
            }
            let part = question.wanted.get(chunk.clone()).unwrap_or_default();
            let request = request::build(question.tables, part, question.read);
            match self.caller.lookup(request).await {
                Ok(response) => answers.extend(self.decode(response, part)?),
                Err(Failure::BadKey { reason, .. }) if chunk.len() == 1 => {
                    answers.push(Answer::Refused(reason))
                }
                Err(Failure::BadKey { at, .. }) => {
                    let cut =
                        at.and_then(|(table, key)| request::place(question.tables, part, (&table, key)));
                    todo.extend(cut_around(chunk, cut));
                }
                Err(Failure::TooLarge(_)) if chunk.len() > 1 => todo.extend(cut_around(chunk, None)),
                Err(Failure::TooLarge(reason)) => return Err(LookupError::Refused(reason)),
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        Ok(answers)
    }

    fn decode(&self, response: v1::LookupResponse, part: &[Wanted]) -> Result<Vec<Answer>, LookupError> {
        let decoded = request::decode(response, part)?;
        self.caller.count_before_history(decoded.before_history);
        Ok(decoded.answers)
    }
}

/// What one call of [`Lookup::ask`] is about.
#[derive(Clone, Copy)]
struct Question<'a> {
    tables: &'a [TableQuery],
    wanted: &'a [Wanted],
    read: JoinRead,
}

/// The parts of a chunk in reverse order, for a stack: around the culprit where
/// it is known, else halves.
fn cut_around(chunk: Range<usize>, culprit: Option<usize>) -> Vec<Range<usize>> {
    let Range { start, end } = chunk;
    match culprit.map(|at| start + at).filter(|at| *at < end) {
        Some(at) if end - start > 1 => vec![at + 1..end, at..at + 1, start..at],
        _ => {
            let middle = start + (end - start) / 2;
            vec![middle..end, start..middle]
        }
    }
}
