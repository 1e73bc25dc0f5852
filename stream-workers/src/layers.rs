//! The layers of the warehouse, one module each. Every layer is a `run` that
//! ends when its work fails for good or the process stops.

pub mod ads;
pub mod dwd;
pub mod dws;
pub mod ods;

use crate::{
    kafka::{Topics, TopicsError},
    metrics::{Blocked, LayerMetrics},
};
use std::time::Duration;
use tidemark_proto::config::Kafka;

/// Between two tries of a service that is not there yet.
pub(crate) const START_RETRY: Duration = Duration::from_secs(1);

/// Creates the topics that a layer needs, waiting for Kafka as long as it takes.
/// Cancel safe.
pub(crate) async fn prepare_topics(
    config: &Kafka,
    names: &[&str],
    metrics: &LayerMetrics,
) -> Result<Topics, TopicsError> {
    let topics = Topics::try_new(config)?;
    loop {
        match topics.create(names).await {
            Ok(()) => {
                metrics.unblocked(Blocked::Kafka);
                return Ok(topics);
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, layer = %metrics.layer(), "waiting for kafka");
                metrics.blocked(Blocked::Kafka, &error);
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(START_RETRY).await;
    }
}
