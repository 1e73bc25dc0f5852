//! Kafka in: batches of messages of a consumer group, and its rebalances.
//!
//! librdkafka is polled by a thread of its own (`poll`): a rebalance runs
//! inside of a poll, and must wait for work of async tasks, which no task of the
//! runtime may do. The thread and the layer talk over one bounded channel, so
//! that batches and rebalances keep their order: what comes before
//! [`SourceEvent::Revoked`] was read while the partitions were still ours.
//!
//! Nothing is committed here by itself: the layer commits what it has
//! delivered.

mod batch;
mod poll;

pub use batch::{Batch, Record};

use crate::{
    kafka,
    metrics::{Blocked, LayerMetrics},
};
use poll::{Context, Poller};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult},
};
use std::{
    sync::{Arc, mpsc::SyncSender},
    thread,
    time::Duration,
};
use tidemark_proto::config::Kafka;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Batches that wait for the layer; with more, memory holds what a restart
/// reads again anyway.
const BATCHES_QUEUED: usize = 2;

/// A partition of one of the source's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Index into the topics that the source was started with.
    pub topic: usize,
    pub partition: i32,
}

/// What bounds a batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows_max: usize,
    pub bytes_max: usize,
    /// How long the first message of a batch waits for more.
    pub wait: Duration,
}

impl Limits {
    /// Batches of so many rows, and of a size that a few of may wait in memory.
    pub fn new(rows_max: usize, wait: Duration) -> Self {
        Self { rows_max, bytes_max: 8 << 20, wait }
    }
}

/// What happened to the group's share of this process.
#[derive(Debug)]
pub enum SourceEvent {
    /// These partitions are now ours, from their committed offsets on.
    Assigned(Vec<TopicPartition>),
    /// These are taken away. No message of them follows; the group waits until
    /// the layer has finished what it had of them and says so.
    Revoked(Vec<TopicPartition>, Ack),
    Batch(Batch),
}

/// Tells the group that revoked partitions are no longer worked on; a drop does
/// too.
#[derive(Debug)]
pub struct Ack(SyncSender<()>);

impl Ack {
    /// The partitions may go.
    pub fn done(self) {
        drop(self.0);
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub at: TopicPartition,
    /// The group's committed next offset; `None` before its first commit.
    pub committed: Option<i64>,
    /// The first offset that the log still has.
    pub low: i64,
    /// The offset after the last message.
    pub high: i64,
}

/// Why a source cannot go on, or a call to it failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("kafka consumer cannot be started")]
    Start(#[source] KafkaError),
    #[error("kafka consumer failed for good")]
    Fatal(#[source] KafkaError),
    #[error("kafka refused the call")]
    Refused(#[source] KafkaError),
    #[error("kafka did not answer in time")]
    Timeout,
    #[error("the kafka polling thread ended")]
    Stopped,
}

impl SourceError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Timeout)
    }
}

/// A member of the consumer group of a layer.
pub struct Source {
    consumer: Arc<BaseConsumer<Context>>,
    events: mpsc::Receiver<SourceEvent>,
    topics: Arc<[String]>,
    timeout: Duration,
    /// One call to the brokers at a time: a call past its deadline still runs.
    calls: Arc<Semaphore>,
    stop: CancellationToken,
    ended: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Source {
    /// Joins the layer's group and begins to read the topics.
    ///
    /// # Errors
    /// When librdkafka refuses the settings. Brokers that do not answer are no
    /// error: the metrics say that the layer waits for them.
    pub fn start(
        config: &Kafka,
        topics: &[&str],
        limits: Limits,
        metrics: &LayerMetrics,
    ) -> Result<Self, SourceError> {
        let topics: Arc<[String]> = topics.iter().copied().map(String::from).collect();
        let (sender, events) = mpsc::channel(BATCHES_QUEUED);
        let stop = CancellationToken::new();
        let context = Context::new(Arc::clone(&topics), sender, metrics.clone(), stop.clone());
        let settings = kafka::consumer(config, &kafka::group(config, metrics.layer()));
        let consumer: BaseConsumer<Context> =
            settings.create_with_context(context).map_err(SourceError::Start)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(SourceError::Start)?;
        let consumer = Arc::new(consumer);
        let poller = Poller::new(Arc::clone(&consumer), limits);
        let ended = CancellationToken::new();
        let at_end = ended.clone();
        let thread = thread::Builder::new()
            .name(format!("{}-source", metrics.layer()))
            .spawn(move || poller.run(at_end))
            .map_err(|_| SourceError::Stopped)?;
        Ok(Self {
            consumer,
            events,
            topics,
            timeout: Duration::from_millis(config.timeout_ms),
            calls: Arc::new(Semaphore::new(1)),
            stop,
            ended,
            thread: Some(thread),
        })
    }

    /// The next event. Cancel safe.
    ///
    /// # Errors
    /// When the consumer has failed for good.
    pub async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        let event = tokio::select! {
            // What was read before the end is delivered first.
            biased;
            event = self.events.recv() => event,
            () = self.ended.cancelled() => None,
        };
        if let Some(thread) = &self.thread {
            // It may be waiting for the room that this made.
            thread.thread().unpark();
        }
        event
            .ok_or_else(|| self.consumer.context().failure().map_or(SourceError::Stopped, SourceError::Fatal))
    }

    /// The name of a topic by its index.
    pub fn topic(&self, at: TopicPartition) -> &str {
        self.topics.get(at.topic).map_or("", String::as_str)
    }

    /// Commits the next offset of each partition: all before it is delivered.
    /// Partitions that are no longer ours are left out.
    ///
    /// # Errors
    /// When the brokers refuse it or do not answer in time; the next commit
    /// covers what this one did not.
    pub async fn commit(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (at, next) in offsets.iter().filter(|(at, _)| self.consumer.context().owns(*at)) {
            list.add_partition_offset(self.topic(*at), at.partition, Offset::Offset(*next))
                .map_err(SourceError::Refused)?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        self.call(move |consumer| consumer.commit(&list, CommitMode::Sync)).await
    }

    /// Where partitions stand, in the order asked.
    ///
    /// # Errors
    /// When the brokers refuse it or do not answer in time.
    pub async fn offsets(&self, partitions: &[TopicPartition]) -> Result<Vec<Offsets>, SourceError> {
        let asked: Vec<_> = partitions.iter().map(|at| (*at, self.topic(*at).to_owned())).collect();
        let limit = self.timeout;
        self.call(move |consumer| read_offsets(consumer, &asked, limit)).await
    }

    /// Leaves the group. What was not committed is read again by the next owner.
    pub async fn close(mut self) {
        self.stop.cancel();
        self.events.close();
        let thread = self.thread.take();
        let consumer = Arc::clone(&self.consumer);
        drop(self);
        let closing = tokio::task::spawn_blocking(move || {
            let panicked = thread.is_some_and(|thread| thread.join().is_err());
            drop(consumer);
            panicked
        });
        if closing.await.unwrap_or(true) {
            tracing::error!("the kafka polling thread panicked");
        }
    }

    /// Makes a blocking call with the deadline of the config.
    async fn call<T, F>(&self, call: F) -> Result<T, SourceError>
    where
        T: Send + 'static,
        F: FnOnce(&BaseConsumer<Context>) -> KafkaResult<T> + Send + 'static,
    {
        let calls = Arc::clone(&self.calls);
        let consumer = Arc::clone(&self.consumer);
        let work = async move {
            let permit = calls.acquire_owned().await.map_err(|_| SourceError::Stopped)?;
            let task = tokio::task::spawn_blocking(move || {
                let result = call(&consumer);
                drop(permit);
                result
            });
            task.await.map_err(|_| SourceError::Stopped)?.map_err(SourceError::Refused)
        };
        tokio::time::timeout(self.timeout, work).await.map_err(|_| SourceError::Timeout)?
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn read_offsets(
    consumer: &BaseConsumer<Context>,
    asked: &[(TopicPartition, String)],
    limit: Duration,
) -> KafkaResult<Vec<Offsets>> {
    let mut list = TopicPartitionList::with_capacity(asked.len());
    for (at, topic) in asked {
        list.add_partition(topic, at.partition);
    }
    let committed = consumer.committed_offsets(list, limit)?;
    let read = |(at, topic): &(TopicPartition, String)| {
        let (low, high) = consumer.fetch_watermarks(topic, at.partition, limit)?;
        let entry = committed.find_partition(topic, at.partition);
        let committed =
            match entry.as_ref().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset) {
                Some(Offset::Offset(next)) => Some(next),
                _ => None,
            };
        Ok(Offsets { at: *at, committed, low, high })
    };
    asked.iter().map(read).collect()
}

/// Says in the metrics that the brokers do not answer, or do again.
fn report_brokers(metrics: &LayerMetrics, error: Option<&KafkaError>) {
    match error {
        Some(error) => metrics.blocked(Blocked::Kafka, error),
        None => metrics.unblocked(Blocked::Kafka),
    }
}
