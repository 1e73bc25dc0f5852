//! How the workers talk to Kafka: client settings and topics.
//!
//! Settings are chosen for throughput with few cores and for delivery in
//! order: the defaults of librdkafka leave a worker idle while it waits for
//! its next fetch.

mod topics;

pub use topics::{Topics, TopicsError};

use rdkafka::ClientConfig;
use tidemark_proto::config::Kafka;

/// Room for a message's headers and framing beside `message_bytes_max`.
const FRAMING_BYTES: usize = 64 << 10;
/// Without a poll for this long the broker gives the partitions away. A layer
/// that waits for a service goes on polling, so only a stuck process meets it.
const POLL_INTERVAL_MAX_MS: u64 = 300_000;

/// The greatest message that topics and clients allow.
pub fn message_bytes_max(config: &Kafka) -> usize {
    config.message_bytes_max + FRAMING_BYTES
}

/// What every client says.
pub fn client(config: &Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.brokers)
        .set("socket.keepalive.enable", "true")
        // A timeout of a request must be shorter than the deadline of the call
        // that makes it, or the reason is never seen.
        .set("socket.timeout.ms", config.timeout_ms.clamp(1_000, 60_000).to_string())
        .set("reconnect.backoff.max.ms", "2000")
        .set("message.max.bytes", message_bytes_max(config).to_string())
        .set("log.connection.close", "false");
    client
}

/// A consumer of a group: reads committed messages only, commits by hand.
pub fn consumer(config: &Kafka, group: &str) -> ClientConfig {
    let mut client = client(config);
    client
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "10000")
        .set("max.poll.interval.ms", POLL_INTERVAL_MAX_MS.to_string())
        // The default back-off of a second leaves the queue empty for most of
        // it: 97,000 messages/s instead of 760,000.
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", "65536")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.message.max.bytes", message_bytes_max(config).to_string())
        .set("statistics.interval.ms", "2000");
    client
}

/// A producer that loses, doubles and reorders nothing while it lives.
pub fn producer(config: &Kafka) -> ClientConfig {
    let mut client = client(config);
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "2")
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "131072")
        .set("message.timeout.ms", config.timeout_ms.to_string());
    client
}

/// The name of a layer's consumer group.
pub fn group(config: &Kafka, layer: crate::metrics::Layer) -> String {
    format!("{}-{layer}", config.group_prefix)
}
