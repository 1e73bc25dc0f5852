//! Waiting for a condition, with a deadline.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Asks `condition` again and again until it gives a value, and returns that.
///
/// # Errors
/// When it has not by the deadline; the text carries `what` and the last reason
/// that the condition gave.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        let reason = match condition().await {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if begun.elapsed() >= deadline {
            return Err(anyhow!("{what}: not within {deadline:?}: {reason:#}"));
        }
        tokio::time::sleep(POLL).await;
    }
}
