//! Comparing a dimension with its source while both change, and writing what
//! differs.
//!
//! A repair stands at S2, which is `applied` when it begins. It compares every
//! row of the source with the newest version below S2 in the store, then every
//! key of the store with the source: so it finds rows that differ, that are
//! missing and that should be gone. What it writes is of version S2 - 1. A row
//! whose key changed since S2 is not compared as it is now but as it was before
//! the first of these changes, which the feed noted: so each key is right at S2.
//!
//! When something differed, nobody can say since when: history up to S2 becomes
//! unknown. One chunk is in memory at a time.

mod run;

use super::chunk::ReadError;
use crate::{
    dimension::Key,
    live::{Live, LiveDimension, Loss},
    shared::SharedTier,
    state::{StateCells, StateError},
    store::{StoreError, StorePool},
};
use run::Run;
use std::{sync::Arc, time::Duration};
use tidemark_binlog::Source;
use tidemark_proto::{Position, PositionError, dim::v1::RepairProgress};
use tokio::sync::{Mutex, mpsc};

/// Repairs dimensions.
#[derive(Debug)]
pub struct Repair {
    pub source: Source,
    pub live: Arc<Live>,
    pub store: StorePool,
    pub shared: SharedTier,
    pub cells: Arc<Mutex<StateCells>>,
    /// Keys of one comparison.
    pub chunk_rows: usize,
    pub query_timeout: Duration,
    /// Bytes of keys that may change while a repair runs.
    pub noted_bytes_max: usize,
}

/// Who wants a repair, and what is known of the past.
#[derive(Debug)]
pub struct Order {
    /// The last position at which everything was known to be right: the history
    /// floor when not set.
    pub since: Option<Position>,
    /// What it brings back: a dimension that is lost, with the columns that it
    /// has from here on.
    pub mends: Option<Loss>,
    /// Gets how far it is; what does not fit is left out. Once its receiver is
    /// gone, the repair stops after the chunk at work.
    pub progress: mpsc::Sender<RepairProgress>,
}

/// Why a repair came to no end. What it wrote until then stays, and is right;
/// history before it is marked as unknown all the same.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error("this replica does not write the store")]
    NotWriter,
    #[error("cannot repair: {0}")]
    Refused(&'static str),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the feed or the store does not reach {0}")]
    Behind(Position),
    #[error(transparent)]
    Position(#[from] PositionError),
}

impl RepairError {
    /// Whether the same repair may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(error) => error.is_retryable(),
            Self::Store(error) | Self::State(StateError::Store(error)) => error.is_retryable(),
            Self::Behind(_) => true,
            Self::NotWriter | Self::Refused(_) | Self::State(_) | Self::Position(_) => false,
        }
    }
}

impl Repair {
    /// Compares the whole table, and returns the last progress: it is done.
    ///
    /// # Errors
    /// When it cannot be compared to its end; run it again.
    ///
    /// # Cancel safety
    /// May be dropped at any time; then the next repair, or the next writer,
    /// marks history as unknown and tells the replicas.
    pub async fn table(&self, live: &LiveDimension, order: &Order) -> Result<RepairProgress, RepairError> {
        let mut run = Run::begin(self, live, order).await?;
        let compared = run.compare_table().await;
        run.end(compared).await
    }

    /// Compares some keys.
    ///
    /// # Errors
    /// As [`Repair::table`].
    ///
    /// # Cancel safety
    /// As [`Repair::table`].
    pub async fn keys(
        &self,
        live: &LiveDimension,
        keys: &[Key],
        order: &Order,
    ) -> Result<RepairProgress, RepairError> {
        let mut run = Run::begin(self, live, order).await?.of(keys);
        let compared = run.compare_some(keys).await;
        run.end(compared).await
    }
}
