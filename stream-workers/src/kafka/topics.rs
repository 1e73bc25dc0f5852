//! Creating topics and asking for their partitions.

use super::{client, message_bytes_max};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataTopic,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tidemark_proto::config::Kafka;
use tokio::time::Instant;

/// Between two looks at a topic that the brokers do not know yet.
const PROPAGATION: Duration = Duration::from_millis(100);

/// Why topics could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    #[error("kafka at {brokers} does not answer")]
    Unreachable { brokers: String, source: KafkaError },
    #[error("topic {topic} cannot be created: {code}")]
    Refused { topic: String, code: RDKafkaErrorCode },
    #[error("topic {0} does not exist")]
    Missing(String),
}

impl TopicsError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The topics of a cluster, as an administrator sees them.
#[derive(Clone)]
pub struct Topics {
    admin: Arc<AdminClient<DefaultClientContext>>,
    config: Kafka,
}

impl Topics {
    /// Prepares a client; it connects on the first call.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn try_new(config: &Kafka) -> Result<Self, TopicsError> {
        let admin = client(config).create().map_err(|source| unreachable(config, source))?;
        Ok(Self { admin: Arc::new(admin), config: config.clone() })
    }

    /// Creates the topics that do not exist yet, with the partitions and the
    /// replication of the config. One that exists stays as it is.
    ///
    /// # Errors
    /// When the brokers do not answer in time or refuse a topic.
    pub async fn create(&self, names: &[&str]) -> Result<(), TopicsError> {
        let bytes = message_bytes_max(&self.config).to_string();
        let new = |name| {
            let replication = TopicReplication::Fixed(self.config.replication_factor);
            NewTopic::new(name, self.config.partitions, replication).set("max.message.bytes", &bytes)
        };
        let topics: Vec<_> = names.iter().copied().map(new).collect();
        let limit = Duration::from_millis(self.config.timeout_ms);
        let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit));
        let results = self.admin.create_topics(&topics, &options).await;
        for result in results.map_err(|source| unreachable(&self.config, source))? {
            match result {
                // Another worker was faster: the topic is there, which is all we want.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(TopicsError::Refused { topic, code }),
            }
        }
        Ok(())
    }

    /// How many partitions each topic has. A topic that was just created may
    /// take a moment to be known everywhere: it is waited for.
    ///
    /// # Errors
    /// When the brokers do not answer in time or a topic does not exist.
    pub async fn partitions(&self, names: &[&str]) -> Result<BTreeMap<String, i32>, TopicsError> {
        let deadline = Instant::now() + Duration::from_millis(self.config.timeout_ms);
        loop {
            match self.partitions_now(names).await {
                Err(TopicsError::Missing(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(PROPAGATION).await
                }
                result => return result,
            }
        }
    }

    async fn partitions_now(&self, names: &[&str]) -> Result<BTreeMap<String, i32>, TopicsError> {
        let admin = Arc::clone(&self.admin);
        let limit = Duration::from_millis(self.config.timeout_ms);
        let fetch = tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(None, limit));
        let metadata = fetch.await.unwrap_or(Err(KafkaError::Canceled));
        let metadata = metadata.map_err(|source| unreachable(&self.config, source))?;
        let mut counts = BTreeMap::new();
        for name in names {
            let is_ready = |topic: &&MetadataTopic| topic.name() == *name && !topic.partitions().is_empty();
            let topic = metadata.topics().iter().find(is_ready);
            let topic = topic.ok_or_else(|| TopicsError::Missing((*name).to_owned()))?;
            counts.insert((*name).to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX));
        }
        Ok(counts)
    }
}

fn unreachable(config: &Kafka, source: KafkaError) -> TopicsError {
    TopicsError::Unreachable { brokers: config.brokers.clone(), source }
}
