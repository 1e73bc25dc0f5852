//! How much the overlays may hold: when it is spent, applying waits.

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use std::sync::Arc;

/// Bytes are counted in units of this size.
pub const UNIT: usize = 1024;

/// Room for row versions that are not durable. Clones share it.
#[derive(Clone, Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    units_max: usize,
}

impl Room {
    /// Room for about `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        let units_max = (bytes_max / UNIT).clamp(1, (u32::MAX as usize).min(Semaphore::MAX_PERMITS));
        Self { free: Arc::new(Semaphore::new(units_max)), units_max }
    }

    /// Waits for room for so many bytes, or for all of it; none for no bytes.
    ///
    /// # Cancel safety
    /// Takes nothing when dropped.
    pub(super) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT).min(self.units_max)).unwrap_or(u32::MAX);
        if units == 0 {
            return None;
        }
        // The semaphore is never closed.
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }

    /// Bytes taken at this moment.
    pub fn taken(&self) -> usize {
        (self.units_max - self.free.available_permits().min(self.units_max)) * UNIT
    }

    /// All of it, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.units_max * UNIT
    }
}
