//! Calls that are made again until they succeed: nothing here counts tries, as
//! giving up would lose what only waiting keeps.

use super::{table::TableError, worker::DwsError};
use crate::{
    metrics::{Blocked, LayerMetrics},
    source::SourceError,
};
use std::{fmt::Display, future::Future, time::Duration};
use tokio_util::sync::CancellationToken;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// An error of a service that the worker waits for.
pub(super) trait Retry: Display + Into<DwsError> {
    const BLOCKED: Blocked;

    fn is_retryable(&self) -> bool;
}

impl Retry for TableError {
    const BLOCKED: Blocked = Blocked::Clickhouse;

    fn is_retryable(&self) -> bool {
        Self::is_retryable(self)
    }
}

impl Retry for SourceError {
    const BLOCKED: Blocked = Blocked::Kafka;

    fn is_retryable(&self) -> bool {
        Self::is_retryable(self)
    }
}

/// Calls until it succeeds, the error is final, or the process stops.
pub(super) async fn retried<T, E, F>(
    (metrics, shutdown): (&LayerMetrics, &CancellationToken),
    call: impl Fn() -> F,
) -> Result<T, DwsError>
where
    E: Retry,
    F: Future<Output = Result<T, E>>,
{
    let mut wait = RETRY_FIRST;
    loop {
        let error = match call().await {
            Ok(value) => {
                metrics.unblocked(E::BLOCKED);
                return Ok(value);
            }
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error.into()),
        };
        tracing::warn!(%error, ?wait, "dws tries again");
        metrics.retries.inc();
        metrics.blocked(E::BLOCKED, &error);
        tokio::select! {
            () = shutdown.cancelled() => return Err(DwsError::Stopped),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RETRY_LONGEST);
    }
}
