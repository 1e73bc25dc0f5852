//! One reader of one dimsvc: asks, waits until the truth is known, judges.

use super::{
    Ask, Progress,
    question::{self, Row, amount, lookup},
};
use crate::{
    coherence::{Check, Tally, Verdict},
    dim::Dim,
    ledger::{TABLES, Truth},
    random::Random,
};
use anyhow::{Result, bail, ensure};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tidemark_proto::{
    Position,
    dim::v1::{
        self as wire, AsOfEach, Latest, LookupRequest, LookupResponse, Now, ReadPoint, position::Place,
        read_point::Point,
    },
};
use tonic::{Code, Request, Status};

/// Keys of one lookup.
const KEYS: usize = 256;
/// Shorter than most faults, so that callers see them.
const DEADLINE: Duration = Duration::from_secs(3);

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many answers were judged.
    Judged(u64),
    /// It failed loudly, as it may while something is broken.
    Failed,
}

/// See the module.
pub struct Reader {
    pub tally: Tally,
    /// Lookups that failed, by code: how many, and what the last one said.
    pub failures: BTreeMap<String, (u64, String)>,
    /// How long a lookup may take.
    pub deadline: Duration,
    dim: Dim,
    truth: Arc<Truth>,
    progress: Arc<Progress>,
    server_uuid: String,
    random: Random,
}

/// A question on its way.
struct Asked {
    ask: Ask,
    ids: Vec<Vec<u64>>,
    /// Of each key of each table; one for all if there is one.
    positions: Vec<Position>,
    /// The commit that the answer has to contain.
    committed: Option<u64>,
    /// What the source had when it was asked, at least.
    begun: Position,
}

impl Reader {
    /// A reader that asks `dim`; `seed` makes its questions its own.
    pub fn new(dim: Dim, truth: &Arc<Truth>, source: &super::Source, seed: u64) -> Self {
        Self {
            tally: Tally::default(),
            failures: BTreeMap::new(),
            deadline: DEADLINE,
            dim,
            truth: Arc::clone(truth),
            progress: Arc::clone(&source.progress),
            server_uuid: source.server_uuid().to_owned(),
            random: Random::new(seed),
        }
    }

    /// Asks once and judges what comes back.
    ///
    /// # Errors
    /// When the answer has not the form it must have, the truth is not known, or
    /// dimsvc fails in a way that no broken service explains.
    pub async fn ask(&mut self, ask: Ask) -> Result<Outcome> {
        self.progress.must_run()?;
        let asked = self.question(ask);
        let mut request = Request::new(self.request(&asked));
        request.set_timeout(self.deadline);
        match self.dim.0.lookup(request).await {
            Ok(response) => self.judge(&asked, &response.into_inner()).await.map(Outcome::Judged),
            Err(status) => self.failed(ask, &status),
        }
    }

    fn question(&mut self, ask: Ask) -> Asked {
        // Writers far ahead wait for checks: the first ones are of what is.
        let ask = if ask.is_as_of() && !self.truth.has_history() { Ask::Now } else { ask };
        let ids = question::ids(ask, self.truth.shape, KEYS, &mut self.random);
        let keys = ids.iter().map(Vec::len).sum();
        let positions = match ask {
            Ask::AsOf | Ask::AsOfSum => 1,
            Ask::AsOfEach => keys,
            _ => 0,
        };
        let begun = self.truth.known();
        let positions = (0..positions).map(|_| self.truth.random_position(&mut self.random)).collect();
        let fenced = matches!(ask, Ask::AtLeast | Ask::AtLeastSum | Ask::Now);
        let committed = fenced.then(|| self.progress.committed.load(Ordering::Acquire));
        Asked { ask, ids, positions, committed, begun }
    }

    fn request(&self, asked: &Asked) -> LookupRequest {
        let position = |place| wire::Position { place: Some(place) };
        let gtid = || Place::Gtid(format!("{}:{}", self.server_uuid, asked.committed.unwrap_or_default()));
        let point = match asked.ask {
            Ask::Latest | Ask::LatestSum => Point::Latest(Latest {}),
            Ask::AtLeast | Ask::AtLeastSum => Point::AtLeast(position(gtid())),
            Ask::Now => Point::AtLeast(position(Place::Now(Now {}))),
            Ask::AsOf | Ask::AsOfSum => Point::AsOf(position(Place::Packed(asked.position(0).packed()))),
            Ask::AsOfEach => Point::AsOfEach(AsOfEach {}),
        };
        let mut from = 0;
        let mut tables = Vec::new();
        for (table, ids) in TABLES.iter().zip(&asked.ids) {
            let each = asked.positions.iter().skip(from).take(ids.len()).map(|p| p.packed());
            let each = if asked.ask == Ask::AsOfEach { each.collect() } else { Vec::new() };
            tables.push(lookup(table, ids, each));
            from += ids.len();
        }
        LookupRequest {
            id: 0,
            tables,
            read_point: Some(ReadPoint { point: Some(point) }),
            ..Default::default()
        }
    }

    async fn judge(&mut self, asked: &Asked, response: &LookupResponse) -> Result<u64> {
        ensure!(response.tables.len() == TABLES.len(), "{} tables were answered", response.tables.len());
        let applied = Position::from_packed(response.applied);
        self.truth.wait_known(applied).await?;
        let demanded = self.demanded(asked).await?;
        let (mut judged, mut sum) = (0, 0);
        for (table, (ids, answers)) in asked.ids.iter().zip(&response.tables).enumerate() {
            for (id, row) in ids.iter().zip(question::rows(answers, ids.len())?) {
                let at = if asked.ask.is_as_of() { asked.position(judged) } else { applied };
                let key = self.truth.key(table, *id);
                // The past is read from the store, whatever happens to its key.
                let was_loaded = row.was_loaded && !asked.ask.is_as_of();
                let raced = was_loaded || self.changed_since(key, asked.begun, applied);
                let answered = row.answered;
                let check = Check {
                    key,
                    at,
                    demanded: demanded.max(asked.demanded(judged)),
                    applied,
                    answered,
                    raced,
                };
                self.tally.add_check(self.truth.checker.judge(&check), &check);
                sum += self.amount(asked, &row)?;
                judged += 1;
            }
        }
        if asked.ask.is_sum() {
            let verdict = Verdict::of_sum([sum], self.truth.shape.sum());
            self.tally.add(verdict, || format!("{:?} at {applied}: the accounts hold {sum}", asked.ask));
        }
        self.progress.checks.fetch_add(judged as u64, Ordering::Relaxed);
        Ok(judged as u64)
    }

    /// The end of the commit that had to be waited for.
    async fn demanded(&self, asked: &Asked) -> Result<Position> {
        let Some(gtid) = asked.committed else { return Ok(Position::ZERO) };
        self.truth.wait_end_of(gtid).await
    }

    fn changed_since(&self, key: usize, begun: Position, applied: Position) -> bool {
        self.truth.checker.as_of(key, applied).is_some_and(|known| known.version >= begun)
    }

    fn amount(&self, asked: &Asked, row: &Row<'_>) -> Result<i64> {
        if asked.ask.is_sum() { amount(row.text) } else { Ok(0) }
    }

    fn failed(&mut self, ask: Ask, status: &Status) -> Result<Outcome> {
        let explained = [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::ResourceExhausted,
            Code::Aborted,
            // What tonic says of a connection that broke off.
            Code::Unknown,
        ];
        // A replica that was started again knows no GTID from before that.
        let is_forgotten = status.code() == Code::FailedPrecondition && ask.is_by_gtid();
        if !explained.contains(&status.code()) && !is_forgotten {
            bail!("{ask:?}: dimsvc says {status}");
        }
        let (count, example) = self.failures.entry(format!("{:?}", status.code())).or_default();
        *count += 1;
        status.message().clone_into(example);
        Ok(Outcome::Failed)
    }
}

impl Asked {
    fn position(&self, key: usize) -> Position {
        let only = if self.positions.len() == 1 { 0 } else { key };
        self.positions.get(only).copied().unwrap_or_default()
    }

    /// What `applied` must reach for a key that is asked at a position.
    fn demanded(&self, key: usize) -> Position {
        if self.ask.is_as_of() { self.position(key) } else { Position::ZERO }
    }
}
