//! What a batch of loads came to, for all who wait.

use super::LoadError;
use crate::cache::Found;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// The side that sets it, once; at the latest when it is dropped, so that
/// nobody waits for ever.
#[derive(Debug, Default)]
pub(super) struct Outcome(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    found: OnceLock<Result<Vec<Found>, LoadError>>,
    ready: Notify,
}

/// One key's place in an outcome. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waiter {
    outcome: Arc<Shared>,
    slot: usize,
}

impl Outcome {
    /// What waits for the load in this slot of the batch.
    pub(super) fn waiter(&self, slot: usize) -> Waiter {
        Waiter { outcome: Arc::clone(&self.0), slot }
    }

    pub(super) fn set(&self, found: Result<Vec<Found>, LoadError>) {
        // The first one stands.
        drop(self.0.found.set(found));
        self.0.ready.notify_waiters();
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.set(Err(LoadError::GivenUp));
    }
}

impl Waiter {
    /// Waits for the load. What it found is the newest version for all who
    /// joined before it ended.
    ///
    /// # Errors
    /// When the batch failed.
    ///
    /// # Cancel safety
    /// Holds no state: the load goes on without who waited.
    pub async fn wait(&self) -> Result<Found, LoadError> {
        loop {
            let ready = self.outcome.ready.notified();
            if let Some(found) = self.outcome.found.get() {
                let found = found.as_ref().map_err(Clone::clone)?;
                return found.get(self.slot).cloned().ok_or(LoadError::GivenUp);
            }
            ready.await;
        }
    }
}
