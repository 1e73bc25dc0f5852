//! The layers of the warehouse, one module each. Every layer is a `run` that
//! ends when its work fails for good or the process stops.

pub mod dwd;
pub mod dws;

use crate::{
    kafka::Topics,
    metrics::{Blocked, LayerMetrics},
};
use std::time::Duration;
use tidemark_proto::config::Kafka;
use tokio_util::sync::CancellationToken;

/// Between two tries of a service that is not there yet.
pub(crate) const START_RETRY: Duration = Duration::from_secs(1);

/// Creates the topics that a layer needs, waiting for Kafka as long as it takes.
/// `None` when the process stops first.
pub(crate) async fn prepare_topics(
    config: &Kafka,
    names: &[&str],
    metrics: &LayerMetrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Topics>> {
    let topics = Topics::try_new(config)?;
    loop {
        let created = tokio::select! {
            created = topics.create(names) => created,
            () = shutdown.cancelled() => return Ok(None),
        };
        match created {
            Ok(()) => {
                metrics.unblocked(Blocked::Kafka);
                return Ok(Some(topics));
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, layer = %metrics.layer(), "waiting for kafka");
                metrics.blocked(Blocked::Kafka, &error);
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(START_RETRY) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}
