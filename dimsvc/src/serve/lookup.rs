//! The path of a lookup: check, settle the read point, read, encode.

use super::{
    encode::{Form, Projection, encode},
    marks::{mark_deleted, mark_stale, unmark_deleted},
    matches::{IndexReader, encode_matches},
    point::{ReadAt, ReadPoints},
    read::{Keys, ReadError, Reader},
    status::ServeError,
};
use crate::{
    apply::Room,
    live::{Live, LiveDimension},
    load::Loader,
    metrics::Metrics,
    registry::{Dimension, KeyError, write_key, write_prefix},
};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use tidemark_binlog::Source;
use tidemark_proto::{
    Position,
    config::{Deleted, Limits, OnStale},
    dim::v1::{LookupRequest, LookupResponse, TableAnswers, TableLookup, read_point::Point},
    text::array_items,
};
use tokio_util::sync::CancellationToken;

/// Answers lookups. Cheap to share.
#[derive(Debug)]
pub struct Lookups {
    pub live: Arc<Live>,
    pub loader: Loader,
    /// Asked for the binlog's end alone.
    pub source: Source,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub room: Room,
    /// Ends waits: after it the feed does not move any more.
    pub stop: CancellationToken,
}

/// One table of a call, checked.
struct TablePlan<'r> {
    live: Arc<LiveDimension>,
    keys: Keys,
    /// A packed position for each key, or none.
    positions: &'r [u64],
    projection: Projection,
    form: Form<'r>,
    /// `latest` is given, but marked.
    is_stale: bool,
}

impl Lookups {
    /// Answers a lookup of this process, as one that comes by gRPC.
    ///
    /// # Errors
    /// What a client would get.
    ///
    /// # Cancel safety
    /// Reads only: may be dropped at any time.
    pub async fn call(&self, request: LookupRequest) -> Result<LookupResponse, tonic::Status> {
        Ok(self.lookup(request, None).await?)
    }

    /// Answers one lookup within `timeout` (or the configured bound).
    pub(super) async fn lookup(
        &self,
        request: LookupRequest,
        timeout: Option<Duration>,
    ) -> Result<LookupResponse, ServeError> {
        let started = Instant::now();
        let deadline = deadline_of(started, timeout, &self.limits);
        let answered = self.answer(&request, deadline).await;
        let metrics = &self.metrics.lookups;
        let (read_at, response) = answered.inspect_err(|error| metrics.failed(error.code_name()))?;
        metrics.answered(read_at == ReadAt::Latest, started.elapsed());
        Ok(response)
    }

    async fn answer(
        &self,
        request: &LookupRequest,
        deadline: Instant,
    ) -> Result<(ReadAt, LookupResponse), ServeError> {
        let plans = self.plan(request)?;
        let points = ReadPoints { live: &self.live, source: &self.source, stop: &self.stop, deadline };
        let greatest =
            plans.iter().flat_map(|plan| plan.positions).max().map(|packed| Position::from_packed(*packed));
        let read_at = points.settle(request.read_point.clone(), greatest).await?;
        let read = async {
            let refuses_before_history = request.refuse_before_history;
            let may_move = read_at == ReadAt::Latest;
            let first = ReadOnce { lookups: self, read_at, may_move, refuses_before_history };
            match first.read(&plans).await {
                Err(TableError::Read(ReadError::Moved)) => {
                    Box::pin(ReadOnce { may_move: false, ..first }.read(&plans)).await
                }
                read => read,
            }
        };
        let (applied, tables) = within(deadline, read).await.ok_or(ServeError::Late)??;
        Ok((read_at, LookupResponse { id: request.id, applied: applied.packed(), tables, error: None }))
    }

    fn plan<'r>(&self, request: &'r LookupRequest) -> Result<Vec<TablePlan<'r>>, ServeError> {
        let got = request.tables.iter().map(count_keys).sum();
        let max = self.limits.keys_per_lookup_max;
        if got > max {
            return Err(ServeError::TooManyKeys { got, max });
        }
        let point = request.read_point.as_ref().and_then(|point| point.point.as_ref());
        let latest = matches!(point, None | Some(Point::Latest(_)));
        request.tables.iter().map(|table| self.plan_table(table, latest)).collect()
    }

    fn plan_table<'r>(&self, table: &'r TableLookup, latest: bool) -> Result<TablePlan<'r>, ServeError> {
        let (name, by_index) = (&table.table, !table.index.is_empty());
        let live = self.live.dimension(name).ok_or_else(|| ServeError::UnknownTable(name.clone()))?;
        let live = if by_index { self.index(name, &table.index)? } else { live };
        if !live.has_history() {
            return Err(ServeError::Loading(name.clone()));
        }
        let form = Form::of(table)?;
        let mut keys = Keys::default();
        for index in 0..form.len() {
            let text = form.key(index).ok_or_else(|| {
                ServeError::request(
                    "tables.keys",
                    format!("key {index} of `{name}` is not within `text`, or not UTF-8"),
                )
            })?;
            write_one(&mut keys.text, &live.dimension, text)
                .map_err(|error| ServeError::key(name, index, &error))?;
            keys.ends.push(keys.text.len());
        }
        if !table.positions.is_empty() && table.positions.len() != keys.len() {
            let (positions, keys) = (table.positions.len(), keys.len());
            return Err(ServeError::request(
                "tables.positions",
                format!("{positions} positions for {keys} keys of `{name}`"),
            ));
        }
        let projection = Projection::of(live, &table.columns)?;
        let is_stale = latest && self.is_stale(live)?;
        Ok(TablePlan {
            live: Arc::clone(live),
            keys,
            positions: &table.positions,
            projection,
            form,
            is_stale,
        })
    }

    fn index(&self, table: &str, index: &str) -> Result<&Arc<LiveDimension>, ServeError> {
        let live = self.live.dimension(&format!("{table}@{index}"));
        live.ok_or_else(|| {
            let message = format!("dimension `{table}` has no index `{index}`; Describe names them");
            ServeError::request("tables.index", message)
        })
    }

    /// Whether answers of a dimension must be marked as stale.
    fn is_stale(&self, live: &LiveDimension) -> Result<bool, ServeError> {
        let dimension = &live.dimension;
        let Some(max) = dimension.max_staleness else { return Ok(false) };
        let age = self.live.freshness.age();
        match dimension.on_stale {
            _ if age <= max => Ok(false),
            OnStale::Mark => Ok(true),
            OnStale::Error => {
                Err(ServeError::Stale { table: dimension.name.to_string(), age: age.as_secs_f64() })
            }
        }
    }

    fn count(&self, found: &[crate::cache::Found], before_history: usize) {
        let mut keys = [0; crate::cache::Tier::ALL.len()];
        for found in found {
            if let Some(keys) = keys.get_mut(found.tier as usize - 1) {
                *keys += 1;
            }
        }
        for (counter, keys) in self.metrics.keys_by_tier.iter().zip(keys).filter(|(_, keys)| *keys > 0) {
            counter.inc_by(keys);
        }
        self.metrics.keys_before_history.inc_by(before_history as u64);
    }
}

/// One reading of a call's tables, all at one `applied`.
#[derive(Clone, Copy)]
struct ReadOnce<'l> {
    lookups: &'l Lookups,
    read_at: ReadAt,
    may_move: bool,
    refuses_before_history: bool,
}

impl ReadOnce<'_> {
    async fn read(&self, plans: &[TablePlan<'_>]) -> Result<(Position, Vec<TableAnswers>), TableError> {
        // Before the first read: what is read later is at least this new.
        let applied = self.lookups.live.applied.get();
        let mut tables = Vec::with_capacity(plans.len());
        for plan in plans {
            tables.push(self.read_table(plan, applied).await?);
        }
        // What memory held of a dimension may have been let go since it was
        // found complete.
        if let Some(plan) = plans.iter().find(|plan| !plan.live.has_history()) {
            return Err(ServeError::Loading(plan.live.dimension.name.to_string()).into());
        }
        Ok((applied, tables))
    }

    async fn read_table(&self, plan: &TablePlan<'_>, applied: Position) -> Result<TableAnswers, TableError> {
        let points = self.points(plan, applied)?;
        points.check_known(&plan.live)?;
        if let Some(index) = points.before_history.first().filter(|_| self.refuses_before_history) {
            let (dimension, index) = (plan.live.dimension.name.to_string(), *index);
            return Err(ServeError::BeforeHistory { dimension, index, begins: points.at(index) }.into());
        }
        if self.read_at != ReadAt::Latest && !self.lookups.live.knows_floor(&plan.live) {
            return Err(ServeError::FloorUnknown(plan.live.dimension.name.to_string()).into());
        }
        if plan.live.dimension.index_of.is_some() {
            return Box::pin(self.read_index(plan, &points)).await;
        }
        let latest = self.read_at == ReadAt::Latest;
        let reader =
            Reader { live: &plan.live, loader: &self.lookups.loader, latest, may_move: self.may_move };
        let mut found = reader.read(&plan.keys, |index| points.at(index)).await?;
        self.lookups.count(&found, points.before_history.len());
        let marks = plan.live.dimension.deleted == Deleted::Mark;
        let deleted = if marks { unmark_deleted(&mut found, latest) } else { Vec::new() };
        let before_history = |index| points.is_before_history(index);
        let mut answers = encode(&plan.form, &found, &plan.projection, before_history);
        if !deleted.is_empty() {
            mark_deleted(&mut answers, &deleted);
        }
        if plan.is_stale {
            mark_stale(&mut answers);
        }
        Ok(answers)
    }

    async fn read_index(&self, plan: &TablePlan<'_>, points: &Points) -> Result<TableAnswers, TableError> {
        let rows_max = self.lookups.limits.index_rows_max;
        let reader = IndexReader { live: &plan.live, loader: &self.lookups.loader, rows_max };
        let found = reader.read(&plan.keys, |index| points.at(index)).await?;
        found.iter().for_each(|rows| self.lookups.count(rows, 0));
        self.lookups.metrics.keys_before_history.inc_by(points.before_history.len() as u64);
        let before_history = |index| points.is_before_history(index);
        let mut answers = encode_matches(&plan.form, found, &plan.projection, before_history);
        if plan.is_stale {
            mark_stale(&mut answers);
        }
        Ok(answers)
    }

    /// Where each key is read: where it was asked, or the next position that
    /// history reaches.
    fn points(&self, plan: &TablePlan<'_>, applied: Position) -> Result<Points, ServeError> {
        let cache = &plan.live.cache;
        let mut before_history = Vec::new();
        let each = match self.read_at {
            // `applied` of a dimension that answers is past its holes.
            ReadAt::Latest => return Ok(Points { one: applied, each: Vec::new(), before_history }),
            ReadAt::AsOf(asked) => {
                let (at, before) = cache.resolve(asked);
                let before_history = if before { (0..plan.keys.len()).collect() } else { before_history };
                return Ok(Points { one: at, each: Vec::new(), before_history });
            }
            ReadAt::AsOfEach => plan.positions,
        };
        if each.len() != plan.keys.len() {
            return Err(ServeError::request(
                "tables.positions",
                "`as_of_each` needs a position for each key",
            ));
        }
        let resolve = |(index, packed): (usize, &u64)| {
            let (at, before) = cache.resolve(Position::from_packed(*packed));
            before_history.extend(before.then_some(index));
            at
        };
        let each = each.iter().enumerate().map(resolve).collect();
        Ok(Points { one: applied, each, before_history })
    }
}

/// Positions of the keys of one table: of each, or one for all.
struct Points {
    one: Position,
    each: Vec<Position>,
    /// Places of keys whose position history does not reach, in rising order.
    before_history: Vec<usize>,
}

impl Points {
    fn at(&self, index: usize) -> Position {
        self.each.get(index).copied().unwrap_or(self.one)
    }

    /// Nothing is known past a statement that could not be followed.
    ///
    /// `applied` was loaded before: what it has passed is in the cache.
    fn check_known(&self, live: &LiveDimension) -> Result<(), ServeError> {
        let Some(lost) = live.cache.lost() else { return Ok(()) };
        let newest = self.each.iter().max().copied().unwrap_or(self.one);
        if newest <= lost { Ok(()) } else { Err(ServeError::lost(live, lost)) }
    }

    fn is_before_history(&self, index: usize) -> bool {
        !self.before_history.is_empty() && self.before_history.binary_search(&index).is_ok()
    }
}

/// Why a table was not read.
#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl From<TableError> for ServeError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Read(error) => error.into(),
            TableError::Serve(error) => error,
        }
    }
}

/// Appends a key in canonical form; of an index, what the keys of its rows
/// begin with.
fn write_one(out: &mut Vec<u8>, dimension: &Dimension, text: &str) -> Result<(), KeyError> {
    let Some(index) = &dimension.index_of else { return write_key(out, &dimension.key_columns, text) };
    let given = array_items(text).count().clamp(1, index.prefix_columns);
    write_prefix(out, dimension.key_columns.get(..given).unwrap_or_default(), text)
}

/// When a call must be answered: its caller's timeout, within our own bound.
pub(super) fn deadline_of(started: Instant, timeout: Option<Duration>, limits: &Limits) -> Instant {
    let wait_max = Duration::from_millis(limits.wait_max_ms);
    started + timeout.map_or(wait_max, |timeout| leave_room(timeout).min(wait_max))
}

/// The outcome, unless the deadline came first. What is at hand needs no timer.
async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => tokio::time::timeout_at(deadline.into(), work).await.ok(),
    }
}

/// Leaves time for the answer to reach the caller before its own deadline, so
/// that it learns both positions instead of a bare DEADLINE_EXCEEDED.
fn leave_room(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(Duration::from_millis(50)))
}

fn count_keys(table: &TableLookup) -> usize {
    table.plain_keys.len() + table.keys.as_ref().map_or(0, |keys| keys.ends.len())
}
