//! The dwd layer: facts with their dimensions joined in.
//!
//! ```text
//! topic_db ─► fact: parse, route, filter ─► join: lookups, level by level
//!          ─► project: the target's rows ─► topics of the plans, then the commit
//! ```
//!
//! All plans read the topic once. Several batches are at work at a time
//! (`pipeline`), delivered and committed in order.

mod fact;
mod join;
mod pipeline;
mod project;
mod route;
#[cfg(test)]
mod tests;

use crate::{
    lookup::{Lookup, LookupError},
    metrics::{Layer, LayerMetrics, Metrics},
    sink::{
        dead_letter,
        kafka::{KafkaSink, KafkaSinkError, Message},
    },
    source::{Batch, Limits, Record, Source},
    warehouse::Warehouse,
};
use join::Levels;
use pipeline::Pipeline;
use project::Projected;
use route::Routes;
use std::{sync::Arc, time::Duration};
use tidemark_proto::config::Config;
use tokio_util::sync::CancellationToken;

/// Why the layer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DwdError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Sink(#[from] KafkaSinkError),
    #[error("a row of {table} in the answer of the dimension service is not UTF-8 text")]
    Row { table: String },
}

/// Runs the layer until it fails for good or the process stops.
///
/// # Errors
/// With the reason, when work cannot go on without somebody's help.
pub async fn run(
    warehouse: Arc<Warehouse>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let layer = metrics.layer(Layer::Dwd);
    let kafka = &warehouse.config.kafka;
    let mut topics = vec![kafka.topic_db.as_str(), kafka.dead_letter_topic.as_str()];
    topics.extend(warehouse.dwd.iter().map(|plan| plan.topic.as_str()));
    // Lookups outlive the wish to stop: batches at work are still delivered.
    let give_up = CancellationToken::new();
    let lookup = Lookup::try_new(&warehouse.config, &layer, give_up.clone())?;
    let ready = async {
        super::prepare_topics(kafka, &topics, &layer).await?;
        anyhow::Ok(lookup.source().await?)
    };
    let identity = tokio::select! {
        identity = ready => identity?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let sink = KafkaSink::try_new(kafka, &layer)?;
    let worker = Worker::new(&warehouse, Services { lookup, sink, metrics: layer.clone() }, identity.epoch);
    let settings = &warehouse.config.dwd;
    let limits = Limits::new(settings.batch_rows_max, Duration::from_millis(settings.batch_wait_ms));
    let source = Source::start(kafka, &[&kafka.topic_db], limits, &layer)?;
    let drain = Duration::from_millis(warehouse.config.workers.drain_timeout_ms);
    Pipeline::new(Arc::new(worker), source, give_up, drain).run(shutdown).await
}

/// What a worker calls outside of itself.
pub(crate) struct Services {
    pub(crate) lookup: Lookup,
    pub(crate) sink: KafkaSink,
    pub(crate) metrics: LayerMetrics,
}

/// Turns batches of changes into rows of the plans.
pub(crate) struct Worker {
    routes: Routes,
    config: Config,
    services: Services,
    /// The epoch of messages that name none: a Maxwell's.
    epoch: u64,
}

impl Worker {
    pub(crate) fn new(warehouse: &Warehouse, services: Services, epoch: u64) -> Self {
        Self { routes: Routes::new(&warehouse.dwd), config: warehouse.config.clone(), services, epoch }
    }

    /// Joins and projects a batch. Nothing is written yet.
    async fn enrich(&self, batch: &Batch) -> Result<Projected, DwdError> {
        let records: Vec<Record<'_>> = batch.records().collect();
        let parsed = fact::parse(&records, self);
        let depth = self.routes.levels.len();
        let (answers, cells) = (join::room(depth), join::room(depth));
        let mut facts = fact::frames(&parsed, &self.routes);
        join::join_all(&mut facts, Levels { answers: &answers, cells: &cells }, self).await?;
        let mut projected = project::project(&facts, &records, self);
        projected.dead.extend(parsed.dead.iter().cloned());
        projected.null_messages = parsed.null_messages;
        projected.dropped += parsed.dropped;
        Ok(projected)
    }

    /// Writes what became of a batch, and returns when all of it is safe.
    async fn deliver(&self, batch: &Batch, projected: &Projected) -> Result<(), DwdError> {
        let records: Vec<Record<'_>> = batch.records().collect();
        let kafka = &self.config.kafka;
        let mut messages = Vec::with_capacity(projected.rows.len() + projected.dead.len());
        messages.extend(projected.rows.iter().map(|row| self.message(&records, projected, row)));
        for (at, reason) in &projected.dead {
            let Some(record) = records.get(*at) else { continue };
            messages.push(dead_letter::message(&kafka.dead_letter_topic, &kafka.topic_db, record, reason));
        }
        self.services.sink.deliver(&messages).await?;
        self.count(&records, projected);
        Ok(())
    }

    fn message<'a>(
        &'a self,
        records: &[Record<'a>],
        projected: &'a Projected,
        row: &project::Row,
    ) -> Message<'a> {
        let own_key = || records.get(row.record).and_then(|record| record.key);
        Message {
            topic: self.routes.plan(row.plan).map_or("", |plan| plan.topic.as_str()),
            partition: None,
            key: row.key.as_ref().map_or_else(own_key, |key| projected.text.get(key.clone())),
            payload: projected.text.get(row.payload.clone()),
            headers: None,
        }
    }

    fn count(&self, records: &[Record<'_>], projected: &Projected) {
        let metrics = &self.services.metrics;
        let add = |counter: &prometheus::IntCounter, count: usize| counter.inc_by(count as u64);
        add(&metrics.rows_in, records.len());
        add(&metrics.rows_out, projected.rows.len());
        add(&metrics.rows_dropped, projected.dropped);
        add(&metrics.rows_dead_lettered, projected.dead.len());
        add(&metrics.null_messages, projected.null_messages);
        for (at, reason) in &projected.dead {
            let record = records.get(*at);
            let (partition, offset) = record.map_or((-1, -1), |record| (record.at.partition, record.offset));
            tracing::warn!(reason = reason.message, stage = reason.stage, partition, offset, "dead letter");
        }
    }
}
