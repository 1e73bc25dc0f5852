//! Topics from a test's side: make, fill, read to the end, measure a group.

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Headers, Message as _},
    producer::{FutureProducer, FutureRecord},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// One message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
}

impl Message {
    /// The payload as text; empty for a null message.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.payload.as_deref().unwrap_or_default()).into_owned()
    }
}

/// Creates a topic.
///
/// # Errors
/// When the broker refuses, or the topic exists.
pub async fn create_topic(brokers: &str, topic: &str, partitions: i32) -> Result<()> {
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let answers =
        admin(brokers)?.create_topics([&topic], &admin_options()).await.context("create a topic")?;
    for answer in answers {
        answer.map_err(|(name, code)| anyhow::anyhow!("create topic {name}: {code}"))?;
    }
    Ok(())
}

/// Deletes every topic whose name begins so.
///
/// # Errors
/// When the broker does not answer.
pub async fn delete_topics(brokers: &str, prefix: &str) -> Result<()> {
    ensure!(!prefix.is_empty(), "an empty prefix would delete every topic");
    let names: Vec<String> = topics(brokers)?.into_keys().filter(|name| name.starts_with(prefix)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if !names.is_empty() {
        admin(brokers)?.delete_topics(&names, &admin_options()).await.context("delete topics")?;
    }
    Ok(())
}

/// Every topic with its number of partitions.
///
/// # Errors
/// When the broker does not answer.
pub fn topics(brokers: &str) -> Result<BTreeMap<String, i32>> {
    let consumer: BaseConsumer = client(brokers).create().context("create a Kafka client")?;
    let metadata = consumer.fetch_metadata(None, DEADLINE).context("list topics")?;
    let size = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Ok(metadata
        .topics()
        .iter()
        .map(|topic| (topic.name().to_owned(), size(topic.partitions().len())))
        .collect())
}

/// A key and a payload; `None` is a null of Kafka's.
pub type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Appends messages, one after the other.
///
/// # Errors
/// When a message is not acknowledged in time.
pub async fn produce(brokers: &str, topic: &str, messages: &[Pair<'_>]) -> Result<()> {
    let producer: FutureProducer = client(brokers).create().context("create a producer")?;
    let sent = messages.iter().map(|(key, payload)| {
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic);
        record.key = *key;
        record.payload = *payload;
        producer.send(record, DEADLINE)
    });
    try_join_all(sent).await.map_err(|(error, _)| error).context("produce")?;
    Ok(())
}

/// How many messages of the topic the group has still to commit.
///
/// # Errors
/// When the broker does not answer.
pub fn lag(brokers: &str, group: &str, topic: &str) -> Result<i64> {
    let consumer: BaseConsumer =
        client(brokers).set("group.id", group).create().context("create a consumer")?;
    let mut partitions = TopicPartitionList::new();
    let count = topics(brokers)?.get(topic).copied().with_context(|| format!("no topic {topic}"))?;
    partitions.add_partition_range(topic, 0, count - 1);
    let committed = consumer.committed_offsets(partitions, DEADLINE).context("read committed offsets")?;
    let mut lag = 0;
    for partition in committed.elements() {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition.partition(), DEADLINE)
            .context("read the ends of a partition")?;
        lag += match partition.offset() {
            Offset::Offset(next) => high - next,
            _ => high - low,
        };
    }
    Ok(lag)
}

/// Reads a topic from its beginning, outside any group.
pub struct TopicReader {
    consumer: BaseConsumer,
    topic: String,
    /// Whether the last thing seen of a partition was its end.
    at_end: BTreeMap<i32, bool>,
}

impl TopicReader {
    /// Opens a topic that exists.
    ///
    /// # Errors
    /// When it does not, or the broker does not answer.
    pub fn open(brokers: &str, topic: &str) -> Result<Self> {
        let consumer: BaseConsumer = client(brokers)
            .set("group.id", "tidemark-reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "5")
            .create()
            .context("create a consumer")?;
        let count = topics(brokers)?.get(topic).copied().with_context(|| format!("no topic {topic}"))?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..count {
            partitions
                .add_partition_offset(topic, partition, Offset::Beginning)
                .context("name a partition")?;
        }
        consumer.assign(&partitions).context("assign partitions")?;
        let at_end = (0..count).map(|partition| (partition, false)).collect();
        Ok(Self { consumer, topic: topic.to_owned(), at_end })
    }

    /// What came since the last call, up to the present end. Blocks.
    ///
    /// # Errors
    /// When the broker does not serve the end within the deadline.
    pub fn read_to_end(&mut self) -> Result<Vec<Message>> {
        let begun = Instant::now();
        let mut messages = Vec::new();
        loop {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    self.at_end.insert(message.partition(), false);
                    messages.push(owned(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.at_end.insert(partition, true);
                }
                Some(Err(error)) => bail!("read {}: {error}", self.topic),
                None if self.at_end.values().all(|end| *end) => return Ok(messages),
                None => {}
            }
            ensure!(
                begun.elapsed() < DEADLINE,
                "read {}: its end was not reached in {DEADLINE:?}",
                self.topic
            );
        }
    }
}

fn owned(message: &rdkafka::message::BorrowedMessage<'_>) -> Message {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Message {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default())))
            .collect(),
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("message.max.bytes", "8388608");
    config
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    client(brokers).create().context("create a Kafka admin client")
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(DEADLINE)).operation_timeout(Some(DEADLINE))
}
