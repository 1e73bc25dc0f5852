//! The path of a lookup: check, settle the read point, read, encode.

use super::{
    encode::{Form, Projection, encode},
    point::{ReadAt, ReadPoints},
    read::{Keys, Reader},
    status::ServeError,
};
use crate::{
    live::{Live, LiveDimension},
    metrics::Metrics,
    registry::write_key,
    store::StorePool,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::Source;
use tidemark_proto::{
    Position,
    config::Limits,
    dim::v1::{LookupRequest, LookupResponse, TableAnswers, TableLookup},
};
use tokio_util::sync::CancellationToken;

/// Answers lookups. Cheap to share.
#[derive(Debug)]
pub struct Lookups {
    pub live: Arc<Live>,
    pub store: StorePool,
    /// Asked for the binlog's end alone.
    pub source: Source,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
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
}

impl Lookups {
    /// Answers one lookup within `timeout` (or the configured bound).
    pub(super) async fn lookup(
        &self,
        request: LookupRequest,
        timeout: Option<Duration>,
    ) -> Result<LookupResponse, ServeError> {
        let started = Instant::now();
        let wait_max = Duration::from_millis(self.limits.wait_max_ms);
        let deadline = started + timeout.map_or(wait_max, |timeout| leave_room(timeout).min(wait_max));
        let answered = self.answer(&request, deadline).await;
        let code = answered.as_ref().err().map_or("ok", ServeError::code_name);
        self.metrics.lookups.with_label_values(&[code]).inc();
        let (read_at, response) = answered?;
        let seconds = self.metrics.lookup_seconds.with_label_values(&[read_at.as_str()]);
        seconds.observe(started.elapsed().as_secs_f64());
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
        // Before the first read: what is read later is at least this new.
        let applied = self.live.applied.get();
        let mut tables = Vec::with_capacity(plans.len());
        for plan in &plans {
            tables.push(self.read_table(plan, read_at, applied).await?);
        }
        Ok((read_at, LookupResponse { id: request.id, applied: applied.packed(), tables, error: None }))
    }

    fn plan<'r>(&self, request: &'r LookupRequest) -> Result<Vec<TablePlan<'r>>, ServeError> {
        let got = request.tables.iter().map(count_keys).sum();
        let max = self.limits.keys_per_lookup_max;
        if got > max {
            return Err(ServeError::TooManyKeys { got, max });
        }
        request.tables.iter().map(|table| self.plan_table(table)).collect()
    }

    fn plan_table<'r>(&self, table: &'r TableLookup) -> Result<TablePlan<'r>, ServeError> {
        let name = &table.table;
        let live = self.live.dimension(name).ok_or_else(|| ServeError::UnknownTable(name.clone()))?;
        if !live.is_complete() {
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
            write_key(&mut keys.text, &live.dimension.key_columns, text)
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
        let projection = Projection::of(&live.dimension, &table.columns)?;
        Ok(TablePlan { live: Arc::clone(live), keys, positions: &table.positions, projection, form })
    }

    async fn read_table(
        &self,
        plan: &TablePlan<'_>,
        read_at: ReadAt,
        applied: Position,
    ) -> Result<TableAnswers, ServeError> {
        let asked = |index: usize| match read_at {
            ReadAt::Latest => applied,
            ReadAt::AsOf(position) => position,
            ReadAt::AsOfEach => Position::from_packed(plan.positions.get(index).copied().unwrap_or_default()),
        };
        if read_at == ReadAt::AsOfEach && plan.positions.len() != plan.keys.len() {
            return Err(ServeError::request(
                "tables.positions",
                "`as_of_each` needs a position for each key",
            ));
        }
        let floor = plan.live.cache.floor();
        let reader = Reader { live: &plan.live, store: &self.store, metrics: &self.metrics, applied };
        let found = reader.read(&plan.keys, |index| asked(index).max(floor)).await?;
        // `latest` reads at `applied`, which a complete dimension has past its
        // floor: only a position that was named can lie before history.
        let before_history = |index: usize| read_at != ReadAt::Latest && asked(index) <= floor;
        self.count(&found, (0..found.len()).filter(|index| before_history(*index)).count());
        Ok(encode(&plan.form, &found, &plan.projection, before_history))
    }

    fn count(&self, found: &[crate::cache::Found], before_history: usize) {
        for tier in crate::cache::Tier::ALL {
            let keys = found.iter().filter(|found| found.tier == tier).count();
            if let (1.., Some(counter)) = (keys, self.metrics.keys_by_tier.get(tier as usize - 1)) {
                counter.inc_by(keys as u64);
            }
        }
        self.metrics.keys_before_history.inc_by(before_history as u64);
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
