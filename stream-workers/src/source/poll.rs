//! The thread that polls librdkafka, and what its callbacks do.
//!
//! The thread fills one batch and hands it over when the channel has room.
//! While the channel is full it first just waits: pausing partitions throws away
//! what librdkafka has fetched for them. Only when the layer is stuck for longer
//! it pauses them and polls on, so that the group sees the process alive and
//! rebalances go on.

use super::{Ack, Limits, Record, SourceEvent, TopicPartition, batch::PendingBatch, report_brokers};
use crate::metrics::LayerMetrics;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message as _, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
    message::BorrowedMessage,
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{Sender, error::TrySendError};
use tokio_util::sync::CancellationToken;

/// How long one poll waits while there is nothing to do.
const IDLE: Duration = Duration::from_millis(10);
/// Messages taken in one go before the thread looks at anything else.
const MESSAGES_AT_ONCE: usize = 256;
/// A full channel for longer than this means that the layer is stuck, not busy.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// How long a rebalance waits for the layer. Later than this the partitions go
/// all the same: the group must not stand still, and delivery is at least once.
const REVOKE_WAIT_MAX: Duration = Duration::from_secs(20);

/// What the callbacks of librdkafka share with the thread.
pub(super) struct Context {
    topics: Arc<[String]>,
    events: Sender<SourceEvent>,
    metrics: LayerMetrics,
    stop: CancellationToken,
    pending: Mutex<PendingBatch>,
    /// Rebalances that found no room in the channel; they go before any batch.
    waiting: Mutex<VecDeque<SourceEvent>>,
    owned: Mutex<BTreeSet<TopicPartition>>,
    failure: Mutex<Option<KafkaError>>,
    paused: Mutex<bool>,
}

impl Context {
    pub(super) fn new(
        topics: Arc<[String]>,
        events: Sender<SourceEvent>,
        metrics: LayerMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            topics,
            events,
            metrics,
            stop,
            pending: Mutex::default(),
            waiting: Mutex::default(),
            owned: Mutex::default(),
            failure: Mutex::default(),
            paused: Mutex::default(),
        }
    }

    /// Whether the group has given us the partition.
    pub(super) fn owns(&self, at: TopicPartition) -> bool {
        self.owned.lock().contains(&at)
    }

    /// Why the consumer failed for good.
    pub(super) fn failure(&self) -> Option<KafkaError> {
        self.failure.lock().clone()
    }

    fn topic_index(&self, name: &str) -> usize {
        // A subscription by names brings messages of these topics only.
        self.topics.iter().position(|topic| topic == name).unwrap_or(0)
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let elements = list.elements();
        let place = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| TopicPartition {
            topic: self.topic_index(element.topic()),
            partition: element.partition(),
        };
        elements.iter().map(place).collect()
    }

    /// Sends what waits, then whatever is due; false when nothing more can be
    /// sent now.
    fn send_waiting(&self) -> bool {
        let mut waiting = self.waiting.lock();
        while let Some(event) = waiting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    waiting.push_front(event);
                    return false;
                }
                // Nobody listens any more; an ack that is dropped is an ack.
                Err(TrySendError::Closed(_)) => {}
            }
        }
        true
    }

    /// Tells the layer and waits until it lets the partitions go.
    fn revoke(&self, partitions: &[TopicPartition]) {
        self.pending.lock().drop_partitions(partitions);
        let (ack, acked) = sync_channel(1);
        self.waiting.lock().push_back(SourceEvent::Revoked(partitions.to_vec(), Ack(ack)));
        let deadline = Instant::now() + REVOKE_WAIT_MAX;
        while !self.stop.is_cancelled() {
            self.send_waiting();
            match acked.recv_timeout(IDLE) {
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!(layer = %self.metrics.layer(), "partitions revoked while at work");
                    break;
                }
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.owned.lock().retain(|at| !partitions.contains(at));
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lag: i64 = partitions.map(|partition| partition.consumer_lag.max(0)).sum();
        self.metrics.lag.set(lag);
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            report_brokers(&self.metrics, None);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka retries by itself and tells here only what it meets.
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                let partitions = self.partitions(list);
                tracing::info!(layer = %self.metrics.layer(), ?partitions, "partitions assigned");
                self.owned.lock().extend(&partitions);
                self.waiting.lock().push_back(SourceEvent::Assigned(partitions));
            }
            Rebalance::Revoke(list) => {
                let partitions = self.partitions(list);
                tracing::info!(layer = %self.metrics.layer(), ?partitions, "partitions revoked");
                self.revoke(&partitions);
            }
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance failed"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let (Rebalance::Assign(list), true) = (rebalance, *self.paused.lock())
            && let Err(error) = consumer.pause(list)
        {
            tracing::warn!(%error, "partitions cannot be paused");
        }
    }
}

/// The polling loop.
pub(super) struct Poller {
    consumer: Arc<BaseConsumer<Context>>,
    limits: Limits,
    full_since: Option<Instant>,
}

impl Poller {
    pub(super) fn new(consumer: Arc<BaseConsumer<Context>>, limits: Limits) -> Self {
        Self { consumer, limits, full_since: None }
    }

    /// Polls until the source is stopped or the consumer fails for good.
    pub(super) fn run(mut self, ended: CancellationToken) {
        // Also on a panic: a layer must never wait for a thread that is gone.
        let _ended = ended.drop_guard();
        let consumer = Arc::clone(&self.consumer);
        let context = consumer.context();
        while !context.stop.is_cancelled() && context.failure.lock().is_none() {
            let room = context.pending.lock().room(&self.limits, IDLE);
            match room {
                _ if !context.send_waiting() => self.wait_for_room(),
                Some(wait) => self.poll(wait),
                None => self.deliver(),
            }
        }
    }

    /// Waits for one message and takes those that follow it at once.
    fn poll(&self, mut wait: Duration) {
        let context = self.consumer.context();
        for _ in 0..MESSAGES_AT_ONCE {
            match self.consumer.poll(std::mem::take(&mut wait)) {
                Some(Ok(message)) => {
                    let mut pending = context.pending.lock();
                    pending.push(&record(context, &message));
                    if pending.is_full(&self.limits) {
                        return;
                    }
                }
                Some(Err(error)) => return self.consumer_error(error),
                None => return,
            }
        }
    }

    fn consumer_error(&self, error: KafkaError) {
        let context = self.consumer.context();
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            *context.failure.lock() = Some(error);
            return;
        }
        tracing::warn!(%error, layer = %context.metrics.layer(), "kafka consumer waits");
        report_brokers(&context.metrics, Some(&error));
    }

    fn deliver(&mut self) {
        let context = Arc::clone(self.consumer.context());
        match context.events.try_reserve() {
            Ok(permit) => {
                permit.send(SourceEvent::Batch(context.pending.lock().take()));
                self.full_since = None;
                if std::mem::take(&mut *context.paused.lock()) {
                    self.change_flow(false);
                }
            }
            Err(TrySendError::Full(())) => self.wait_for_room(),
            Err(TrySendError::Closed(())) => context.stop.cancel(),
        }
    }

    fn wait_for_room(&mut self) {
        let full_since = *self.full_since.get_or_insert_with(Instant::now);
        if full_since.elapsed() < STUCK_AFTER {
            thread::park_timeout(IDLE);
            return;
        }
        if !std::mem::replace(&mut *self.consumer.context().paused.lock(), true) {
            self.consumer.context().metrics.pauses.inc();
            self.change_flow(true);
        }
        self.poll(IDLE);
    }

    fn change_flow(&self, pause: bool) {
        let assignment = self.consumer.assignment();
        let change = |list| if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = assignment.and_then(change) {
            tracing::warn!(%error, pause, "partitions cannot be paused or resumed");
        }
    }
}

fn record<'a>(context: &Context, message: &'a BorrowedMessage<'_>) -> Record<'a> {
    Record {
        at: TopicPartition { topic: context.topic_index(message.topic()), partition: message.partition() },
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(0),
        key: message.key(),
        payload: message.payload(),
    }
}
