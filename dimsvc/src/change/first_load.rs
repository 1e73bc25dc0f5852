//! Brings every dimension to where it answers: its first load if it is not
//! finished, then its tier.
//!
//! Only the writer loads. A standby notes all the while which keys change, and
//! waits for the cell to say that the load is finished; if it becomes the
//! writer instead, it goes on where the cell says that the load was.

use super::{
    fill::fill,
    snapshot::{Snapshot, SnapshotError},
};
use crate::{
    live::LiveDimension,
    state::StateError,
    store::{StoreError, StorePool},
};
use std::{sync::Arc, time::Duration};
use tracing::warn;

const RETRY: Duration = Duration::from_millis(500);

/// Loads and fills the dimensions of a process.
#[derive(Debug)]
pub struct FirstLoads {
    pub snapshot: Snapshot,
    pub store: StorePool,
}

/// Why a dimension will not answer.
#[derive(Debug, thiserror::Error)]
pub enum FirstLoadError {
    #[error("first load of dimension {dimension}: {source}")]
    Load { dimension: Arc<str>, source: SnapshotError },
    #[error("fill the tier of dimension {dimension}: {source}")]
    Fill { dimension: Arc<str>, source: StoreError },
}

impl FirstLoads {
    /// Runs until every dimension answers: first those that the store has, so
    /// that no load holds them up, then one load after the other.
    ///
    /// # Errors
    /// When rows cannot be kept exactly, or the store refuses.
    pub async fn run(&self) -> Result<(), FirstLoadError> {
        let dimensions = self.snapshot.live.dimensions();
        let (loaded, others): (Vec<_>, Vec<_>) = dimensions.partition(|live| live.is_loaded());
        for live in loaded.into_iter().chain(others) {
            self.load(live).await?;
            let filled = fill(live, &self.store, &self.snapshot.live.applied).await;
            let dimension = Arc::clone(&live.dimension.name);
            filled.map_err(|source| FirstLoadError::Fill { dimension, source })?;
        }
        Ok(())
    }

    /// Returns once the store has all rows, whoever loaded them.
    async fn load(&self, live: &Arc<LiveDimension>) -> Result<(), FirstLoadError> {
        if live.is_loaded() {
            return Ok(());
        }
        let role = &self.snapshot.live.role;
        while !live.is_loaded() {
            tokio::select! {
                () = live.loaded() => break,
                () = role.becomes(true) => {}
            }
            let result = tokio::select! {
                result = self.snapshot.load(live) => result,
                () = role.becomes(false) => continue,
            };
            match result {
                Ok(()) => live.set_loaded(),
                Err(error) if is_passing(&error) => {
                    warn!(dimension = %live.dimension.name, %error, "first load interrupted, will go on");
                    tokio::time::sleep(RETRY).await;
                }
                Err(source) => {
                    let dimension = Arc::clone(&live.dimension.name);
                    return Err(FirstLoadError::Load { dimension, source });
                }
            }
        }
        live.cache.stop_tracking();
        Ok(())
    }
}

/// The cell could not be written now, or not by this process any more.
fn is_passing(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::State(error) if error.is_retryable() || matches!(error, StateError::Moved))
}
