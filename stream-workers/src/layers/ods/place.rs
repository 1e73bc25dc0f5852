//! Where ods stands in the binlog: kept in Kafka, beside what it wrote.
//!
//! The place is the metadata of a committed offset of the layer's group, in
//! partition 0 of the topic. Nobody joins that group: the commit is only a small
//! durable cell that moves after the rows are acknowledged.

use crate::{kafka, metrics::Layer};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tidemark_proto::config::Kafka;

/// All rows up to here are in the topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The source server's.
    pub(super) uuid: String,
    pub(super) epoch: u64,
    pub(super) file: String,
    pub(super) offset: u64,
}

/// Why the place is not known or not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("kafka refused the place of ods")]
    Kafka(#[source] KafkaError),
    #[error("kafka did not answer in time about the place of ods")]
    Timeout,
    #[error(
        "group {group} holds a place that is none: {text}; reset the group or write another group_prefix"
    )]
    Malformed { group: String, text: String },
}

impl PlaceError {
    pub(super) fn is_retryable(&self) -> bool {
        !matches!(self, Self::Malformed { .. })
    }
}

/// The cell that holds the place.
#[derive(Clone)]
pub(super) struct Places {
    consumer: Arc<BaseConsumer>,
    topic: String,
    group: String,
    timeout: Duration,
}

impl Places {
    pub(super) fn try_new(config: &Kafka) -> KafkaResult<Self> {
        let group = kafka::group(config, Layer::Ods);
        // Statistics would pile up: this consumer is hardly ever polled.
        let consumer = kafka::consumer(config, &group).set("statistics.interval.ms", "0").create()?;
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Self { consumer: Arc::new(consumer), topic: config.topic_db.clone(), group, timeout })
    }

    /// The place kept last; `None` when there never was one.
    pub(super) async fn load(&self) -> Result<Option<Place>, PlaceError> {
        let (topic, limit) = (self.topic.clone(), self.timeout);
        let text = self
            .call(move |consumer| {
                let mut asked = TopicPartitionList::with_capacity(1);
                asked.add_partition(&topic, 0);
                let committed = consumer.committed_offsets(asked, limit)?;
                let entry = committed.find_partition(&topic, 0);
                entry.as_ref().map_or(Ok(()), |entry| entry.error())?;
                Ok(entry.map(|entry| entry.metadata().to_owned()).unwrap_or_default())
            })
            .await?;
        if text.is_empty() {
            return Ok(None);
        }
        let malformed = |_| PlaceError::Malformed { group: self.group.clone(), text: text.clone() };
        serde_json::from_str(&text).map(Some).map_err(malformed)
    }

    /// Keeps a place.
    pub(super) async fn save(&self, place: &Place) -> Result<(), PlaceError> {
        let malformed = |_| PlaceError::Malformed { group: self.group.clone(), text: format!("{place:?}") };
        let text = serde_json::to_string(place).map_err(malformed)?;
        let topic = self.topic.clone();
        self.call(move |consumer| {
            let mut list = TopicPartitionList::with_capacity(1);
            let mut entry = list.add_partition(&topic, 0);
            entry.set_offset(Offset::Offset(0))?;
            entry.set_metadata(text);
            consumer.commit(&list, CommitMode::Sync)
        })
        .await
    }

    async fn call<T, F>(&self, call: F) -> Result<T, PlaceError>
    where
        T: Send + 'static,
        F: FnOnce(&BaseConsumer) -> KafkaResult<T> + Send + 'static,
    {
        let consumer = Arc::clone(&self.consumer);
        let task = tokio::task::spawn_blocking(move || {
            // Takes events off its queue; there are no messages.
            drop(consumer.poll(Duration::ZERO));
            call(&consumer)
        });
        match tokio::time::timeout(self.timeout, task).await {
            Ok(Ok(result)) => result.map_err(PlaceError::Kafka),
            Ok(Err(_)) => Err(PlaceError::Kafka(KafkaError::Canceled)),
            Err(_) => Err(PlaceError::Timeout),
        }
    }
}
