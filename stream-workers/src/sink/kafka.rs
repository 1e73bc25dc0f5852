//! Producing batches: returns when every message is acknowledged.
//!
//! One idempotent producer keeps the order of what it is given, a partition at a
//! time. A batch that fails in part is sent again as a whole by its layer before
//! anything later: messages may then come twice, never out of order for good.

use crate::{kafka, metrics::LayerMetrics};
use rdkafka::{
    ClientContext, Message as _,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tidemark_proto::config::Kafka;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How long a full producer queue is left alone before the next try.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(2);
/// Beyond the producer's own timeout, so that its answer always comes first.
const DEADLINE_GRACE: Duration = Duration::from_secs(5);

/// A message to send. Its bytes are copied by the producer.
#[derive(Debug)]
pub struct Message<'a> {
    pub topic: &'a str,
    /// Chosen by the key's hash when not set.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    pub headers: Option<OwnedHeaders>,
}

/// Why a batch is not delivered.
#[derive(Debug, thiserror::Error)]
pub enum KafkaSinkError {
    #[error("kafka producer cannot be started")]
    Start(#[source] KafkaError),
    #[error("kafka did not acknowledge {0} messages in time")]
    Timeout(usize),
    #[error("kafka did not take a message for {topic}")]
    Failed { topic: String, source: KafkaError },
    #[error("kafka refused a message for {topic}")]
    Refused { topic: String, source: KafkaError },
}

impl KafkaSinkError {
    /// Whether the same batch may be taken later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Failed { .. })
    }
}

/// A producer shared by the batches of one layer; a clone is the same.
#[derive(Clone)]
pub struct KafkaSink {
    producer: Arc<ThreadedProducer<Reports>>,
    metrics: LayerMetrics,
    timeout: Duration,
}

impl KafkaSink {
    /// Prepares a producer; it connects by itself.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn try_new(config: &Kafka, metrics: &LayerMetrics) -> Result<Self, KafkaSinkError> {
        let producer = kafka::producer(config).create_with_context(Reports).map_err(KafkaSinkError::Start)?;
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Self { producer: Arc::new(producer), metrics: metrics.clone(), timeout })
    }

    /// Sends messages in order and waits until all are acknowledged.
    ///
    /// # Errors
    /// When one is not. A retryable error leaves it to the caller to send the
    /// batch again; some of it may have arrived.
    ///
    /// # Cancel safety
    /// A dropped call leaves an unknown part of the batch sent.
    pub async fn send_all(&self, messages: &[Message<'_>]) -> Result<(), KafkaSinkError> {
        let deadline = Instant::now() + self.timeout + DEADLINE_GRACE;
        // One for the batch itself: it is not done before all is enqueued.
        let delivery = Arc::new(Delivery::open());
        for message in messages {
            self.enqueue(message, &delivery, deadline).await?;
        }
        delivery.done(1);
        if timeout_at(deadline, delivery.wait()).await.is_err() {
            return Err(KafkaSinkError::Timeout(delivery.pending.load(Ordering::Acquire)));
        }
        match delivery.failure.lock().take() {
            Some((topic, source)) => Err(classify(topic, source)),
            None => Ok(()),
        }
    }

    /// [`KafkaSink::send_all`], again and again until it succeeds.
    ///
    /// # Errors
    /// When a message is refused for good.
    pub async fn deliver(&self, messages: &[Message<'_>]) -> Result<(), KafkaSinkError> {
        loop {
            match self.send_all(messages).await {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, layer = %self.metrics.layer(), "batch is sent again");
                    self.metrics.retries.inc();
                    self.metrics.blocked(crate::metrics::Blocked::Kafka, &error);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Ok(()) => {
                    self.metrics.unblocked(crate::metrics::Blocked::Kafka);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts a message into the producer's queue, waiting for room.
    async fn enqueue(
        &self,
        message: &Message<'_>,
        delivery: &Arc<Delivery>,
        deadline: Instant,
    ) -> Result<(), KafkaSinkError> {
        let mut record =
            BaseRecord::<[u8], [u8], Arc<Delivery>>::with_opaque_to(message.topic, Arc::clone(delivery));
        record.key = message.key;
        record.payload = message.payload;
        record.partition = message.partition;
        record.headers.clone_from(&message.headers);
        delivery.pending.fetch_add(1, Ordering::AcqRel);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    if Instant::now() >= deadline {
                        return Err(KafkaSinkError::Timeout(self.in_flight()));
                    }
                    record = back;
                    tokio::time::sleep(QUEUE_FULL_WAIT).await;
                }
                Err((error, record)) => return Err(classify(record.topic.to_owned(), error)),
            }
        }
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}

/// Which failures pass by themselves. What a broker says about the message, the
/// topic or our rights stays true.
fn classify(topic: String, source: KafkaError) -> KafkaSinkError {
    use RDKafkaErrorCode as Code;
    match source.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidTopic
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Fatal,
        ) => KafkaSinkError::Refused { topic, source },
        _ => KafkaSinkError::Failed { topic, source },
    }
}

/// The delivery of one batch.
#[derive(Default)]
struct Delivery {
    pending: AtomicUsize,
    failure: parking_lot::Mutex<Option<(String, KafkaError)>>,
    finished: Notify,
}

impl Delivery {
    fn open() -> Self {
        Self { pending: AtomicUsize::new(1), ..Self::default() }
    }

    fn done(&self, count: usize) {
        if self.pending.fetch_sub(count, Ordering::AcqRel) == count {
            self.finished.notify_one();
        }
    }

    async fn wait(&self) {
        while self.pending.load(Ordering::Acquire) > 0 {
            // `notify_one` leaves a permit when it comes before this.
            self.finished.notified().await;
        }
    }
}

/// Takes the producer's delivery reports, on its polling thread.
struct Reports;

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Arc<Delivery>) {
        if let Err((error, message)) = result {
            delivery.failure.lock().get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
        delivery.done(1);
    }
}
