//! The loop of the dws layer: batches in, groups merged, changed groups written,
//! offsets committed, in this order and never another.
//!
//! ClickHouse down or slow means that the worker does not take the next batch:
//! it tries again, says so in the metrics, and loses nothing. Whatever dies
//! between the write and the commit is read again and skipped by version.

use super::{
    aggregate::{Groups, Merge, Overflow},
    batch::{self, Measured, Measures},
    measure::Measure,
    progress::LogMismatch,
    retry::{Retry, retried},
    table::{Table, TableError, foreign},
};
use crate::{
    metrics::LayerMetrics,
    sink::{
        clickhouse::Clickhouse,
        dead_letter,
        kafka::{KafkaSink, KafkaSinkError},
    },
    source::{Limits, Source, SourceError, SourceEvent, TopicPartition},
};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_proto::config::Config;
use tokio_util::sync::CancellationToken;

/// Changed groups of one table and partition that are written without waiting
/// for the time. It keeps an insert within one block of the server.
const CHANGED_GROUPS_MAX: usize = 65_536;

/// How long the first message of a batch waits for more.
const BATCH_WAIT: Duration = Duration::from_millis(20);

/// Why the layer ends.
#[derive(Debug, thiserror::Error)]
pub enum DwsError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("dead letters cannot be delivered")]
    DeadLetter(#[from] KafkaSinkError),
    #[error(
        "table {table}: the sum {column} of group ({group}) leaves 38 digits at {topic}-{partition} offset {offset}"
    )]
    Overflow { table: String, column: String, group: String, topic: String, partition: i32, offset: u64 },
    #[error(
        "{topic}-{partition} offset {offset} is a message of type {kind}: dws tables are built from inserts, and \
         updates and deletes cannot be taken back from sums"
    )]
    Retraction { topic: String, partition: i32, offset: i64, kind: &'static str },
    #[error("the process stops")]
    Stopped,
    #[error("a batch was measured with a panic")]
    Panicked,
}

/// What a partition has in memory.
#[derive(Debug)]
pub(super) struct Partition {
    /// One a table of its topic.
    pub(super) groups: Vec<Groups>,
    /// Where it was begun in this life.
    pub(super) start: i64,
    /// The offset after the last record that was merged.
    pub(super) next: Option<i64>,
}

/// One member of the layer's consumer group.
pub struct Worker {
    pub(super) config: Config,
    pub(super) metrics: LayerMetrics,
    pub(super) shutdown: CancellationToken,
    pub(super) topics: Vec<String>,
    /// By topic, then as in [`Partition::groups`].
    pub(super) tables: Vec<Vec<Table>>,
    measures: Arc<[Measures]>,
    pub(super) source: Source,
    dead_letters: KafkaSink,
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    uncommitted_since: Option<Instant>,
}

impl Worker {
    /// Opens the tables and joins the group.
    ///
    /// # Errors
    /// When a table is not the plan's, or Kafka's client refuses its settings.
    /// A server that does not answer is waited for.
    pub(crate) async fn open(
        config: &Config,
        measures: Vec<Measure>,
        (metrics, shutdown): (&LayerMetrics, &CancellationToken),
    ) -> Result<Self, DwsError> {
        let clickhouse = Clickhouse::new(&config.clickhouse);
        let (mut topics, mut tables) = (Vec::<String>::new(), Vec::<Vec<Table>>::new());
        for measure in measures.into_iter().map(Arc::new) {
            let open = || Table::open(&clickhouse, Arc::clone(&measure));
            let table = retried((metrics, shutdown), open).await?;
            match topics.iter().position(|topic| *topic == measure.plan.topic) {
                Some(at) => {
                    tables.iter_mut().skip(at).take(1).for_each(|of_topic| of_topic.push(table.clone()))
                }
                None => {
                    topics.push(measure.plan.topic.clone());
                    tables.push(vec![table]);
                }
            }
        }
        let measures =
            tables.iter().map(|of_topic| of_topic.iter().map(|table| Arc::clone(&table.measure)).collect());
        Ok(Self {
            config: config.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            measures: measures.collect(),
            source: start_source(config, &topics, metrics)?,
            topics,
            tables,
            dead_letters: KafkaSink::try_new(&config.kafka, metrics)?,
            partitions: BTreeMap::new(),
            uncommitted_since: None,
        })
    }

    /// Works until the process stops.
    ///
    /// # Errors
    /// What no retry can mend.
    pub async fn run(mut self) -> Result<(), DwsError> {
        self.metrics.started();
        let flush_after = Duration::from_millis(self.config.dws.flush_ms);
        let shutdown = self.shutdown.clone();
        let ended = loop {
            let flush_at = self.uncommitted_since.map(|since| since + flush_after);
            let step = tokio::select! {
                // The stop first, and a flush that is due before more input.
                biased;
                () = shutdown.cancelled() => break Ok(()),
                () = until(flush_at) => self.flush().await,
                event = self.source.next() => match event {
                    Ok(event) => self.take(event).await,
                    Err(error) => Err(error.into()),
                },
            };
            match step {
                Ok(()) => {}
                Err(DwsError::Stopped) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if ended.is_ok() {
            let drain = Duration::from_millis(self.config.workers.drain_timeout_ms);
            self.let_go(drain).await;
        }
        self.source.close().await;
        ended
    }

    /// Takes the next event of the source, whatever it is.
    ///
    /// # Errors
    /// What no retry can mend.
    pub async fn step(&mut self) -> Result<(), DwsError> {
        let event = self.source.next().await?;
        self.take(event).await
    }

    /// The next offset of each partition that has merged records.
    pub fn merged(&self) -> Vec<(TopicPartition, i64)> {
        self.partitions.iter().filter_map(|(at, partition)| Some((*at, partition.next?))).collect()
    }

    /// Writes all changed groups, again and again until they are in the tables.
    ///
    /// # Errors
    /// When a table refuses them, or the process stops.
    pub async fn write(&mut self) -> Result<(), DwsError> {
        for (topic, tables) in self.tables.iter().enumerate() {
            for (index, table) in tables.iter().enumerate() {
                let partitions = || {
                    let of_topic = self.partitions.iter().filter(move |(at, _)| at.topic == topic);
                    of_topic
                        .filter_map(move |(at, partition)| Some((at.partition, partition.groups.get(index)?)))
                };
                let written = self.retried(|| table.write(partitions())).await?;
                self.metrics.rows_out.inc_by(written as u64);
            }
        }
        for partition in self.partitions.values_mut() {
            for groups in &mut partition.groups {
                groups.written(self.config.dws.groups_max);
            }
        }
        Ok(())
    }

    /// Commits all that was written. A commit that fails is made good by the
    /// next one: what it would cover is only read again.
    pub async fn commit(&mut self) {
        self.uncommitted_since = None;
        let offsets = self.merged();
        match self.source.commit(&offsets).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "offsets not committed");
                self.metrics.retries.inc();
                self.uncommitted_since = Some(Instant::now());
            }
        }
    }

    async fn flush(&mut self) -> Result<(), DwsError> {
        self.write().await?;
        self.commit().await;
        Ok(())
    }

    async fn take(&mut self, event: SourceEvent) -> Result<(), DwsError> {
        match event {
            SourceEvent::Assigned(partitions) => self.assign(&partitions).await,
            SourceEvent::Revoked(partitions, ack) => {
                self.let_go(Duration::from_millis(self.config.clickhouse.timeout_ms)).await;
                self.partitions.retain(|at, _| !partitions.contains(at));
                ack.done();
                Ok(())
            }
            SourceEvent::Batch(batch) => {
                let timer = self.metrics.batch_seconds.start_timer();
                let topics = Arc::clone(&self.measures);
                let measuring = tokio::task::spawn_blocking(move || batch::measure(batch, &topics));
                let measured = measuring.await.map_err(|_| DwsError::Panicked)?;
                self.merge(measured).await?;
                timer.observe_duration();
                Ok(())
            }
        }
    }

    /// Writes and commits if that is possible now. If it is not, the next owner
    /// reads again what was not committed.
    async fn let_go(&mut self, limit: Duration) {
        match tokio::time::timeout(limit, self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "left without a last flush")
            }
            Err(_) => tracing::warn!(?limit, "left without a last flush: it took too long"),
        }
    }

    async fn merge(&mut self, measured: Measured) -> Result<(), DwsError> {
        self.metrics.rows_in.inc_by(measured.batch.len() as u64);
        self.metrics.null_messages.inc_by(measured.nulls);
        self.metrics.rows_dropped.inc_by(measured.dropped);
        if let Some(batch::Retraction { at, offset, kind }) = measured.retraction {
            let (topic, kind) = (self.source.topic(at).to_owned(), kind.as_str());
            return Err(DwsError::Retraction { topic, partition: at.partition, offset, kind });
        }
        self.check_gaps(&measured).await?;
        self.bury(&measured).await?;
        self.load(&measured).await?;
        for (at, contributions) in &measured.contributions {
            let Some(partition) = self.partitions.get_mut(at) else { continue };
            let tables = self.tables.get(at.topic).into_iter().flatten();
            for ((groups, contributions), table) in partition.groups.iter_mut().zip(contributions).zip(tables)
            {
                let columns = &table.measure.schema.values;
                let merges: Vec<Merge> = columns.iter().map(|column| column.merge).collect();
                let merged = groups.merge(&merges, contributions);
                merged.map_err(|overflow| overflow_error(&table.measure, *at, &overflow))?;
            }
        }
        for (at, next) in measured.batch.next_offsets() {
            if let Some(partition) = self.partitions.get_mut(&at) {
                partition.next = Some(next);
            }
        }
        self.uncommitted_since.get_or_insert_with(Instant::now);
        let groups = self.partitions.values().flat_map(|partition| &partition.groups);
        if groups.map(Groups::changed_len).max() >= Some(CHANGED_GROUPS_MAX) {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Offsets that are not there are a transaction's own, or records that
    /// retention took from a worker that was too slow: the log's beginning tells.
    async fn check_gaps(&self, measured: &Measured) -> Result<(), DwsError> {
        for (at, first) in &measured.first {
            let Some(partition) = self.partitions.get(at) else { continue };
            let next = partition.next.unwrap_or(partition.start);
            if *first <= next {
                continue;
            }
            let low = self.offsets(&[*at]).await?.first().map_or(0, |offsets| offsets.low);
            if low > next {
                return Err(self.mismatch(*at, LogMismatch::Gap { low, next }));
            }
        }
        Ok(())
    }

    /// The refusal of a log that does not fit the tables of its topic.
    pub(super) fn mismatch(&self, at: TopicPartition, mismatch: LogMismatch) -> DwsError {
        let tables = self.tables.get(at.topic).map(Vec::as_slice).unwrap_or_default();
        foreign(tables, &format!("partition {} of the topic does not fit: {mismatch}", at.partition)).into()
    }

    /// Delivers the dead letters of a batch before anything of it is committed.
    async fn bury(&self, measured: &Measured) -> Result<(), DwsError> {
        if measured.dead.is_empty() {
            return Ok(());
        }
        let mut letters = Vec::with_capacity(measured.dead.len());
        for (index, reason) in &measured.dead {
            let Some(record) = measured.batch.records().nth(*index) else { continue };
            let topic = &self.config.kafka.dead_letter_topic;
            letters.push(dead_letter::message(topic, self.source.topic(record.at), &record, reason));
        }
        tokio::select! {
            biased;
            delivered = self.dead_letters.deliver(&letters) => delivered?,
            () = self.shutdown.cancelled() => return Err(DwsError::Stopped),
        };
        self.metrics.rows_dead_lettered.inc_by(measured.dead.len() as u64);
        Ok(())
    }

    /// Loads the groups that the batch changes and memory does not have.
    async fn load(&mut self, measured: &Measured) -> Result<(), DwsError> {
        for (at, contributions) in &measured.contributions {
            for (index, contributions) in contributions.iter().enumerate() {
                let groups = self.partitions.get(at).and_then(|partition| partition.groups.get(index));
                let table = self.tables.get(at.topic).and_then(|tables| tables.get(index));
                let Some((groups, table)) = groups.zip(table) else { continue };
                let unseen = groups.unseen(contributions);
                let load = || table.load(at.partition, &unseen);
                let loaded = self.retried(load).await?;
                let groups =
                    self.partitions.get_mut(at).and_then(|partition| partition.groups.get_mut(index));
                let Some(groups) = groups else { continue };
                for (key, group) in loaded {
                    groups.install(&key, group);
                }
            }
        }
        Ok(())
    }

    pub(super) async fn retried<T, E, F>(&self, call: impl Fn() -> F) -> Result<T, DwsError>
    where
        E: Retry,
        F: Future<Output = Result<T, E>>,
    {
        retried((&self.metrics, &self.shutdown), call).await
    }
}

pub(super) fn start_source(
    config: &Config,
    topics: &[String],
    metrics: &LayerMetrics,
) -> Result<Source, SourceError> {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    Source::start(&config.kafka, &topics, Limits::new(config.dws.batch_rows_max, BATCH_WAIT), metrics)
}

fn overflow_error(measure: &Measure, at: TopicPartition, overflow: &Overflow) -> DwsError {
    DwsError::Overflow {
        table: measure.schema.name().to_owned(),
        column: measure.plan.aggregates.get(overflow.column).map_or_else(String::new, |sum| sum.name.clone()),
        group: measure.schema.show_key(&overflow.key),
        topic: measure.plan.topic.clone(),
        partition: at.partition,
        offset: overflow.offset,
    }
}

/// Never, when there is no time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
