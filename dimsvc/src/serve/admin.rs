//! For operators: repairing a dimension against its source, and letting go of
//! what memory and shared tier hold of it.
//!
//! A repair runs as a task of its own whose progress is the answer's stream;
//! it stops after the chunk at work once nobody reads that.

use super::status::ServeError;
use crate::{
    cache::{Resident as _, ResidentTier},
    change::repair::{Order, Repair, RepairError},
    dimension::Key,
    live::LiveDimension,
    registry::write_key,
};
use futures_util::{Stream, stream};
use std::sync::Arc;
use tidemark_proto::dim::v1::{InvalidateRequest, InvalidateResponse, RepairProgress, RepairRequest};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tonic::Status;

/// Progress that waits for a slow reader; what does not fit is left out.
const PROGRESS_WAITING: usize = 4;

/// What an operator may have done.
#[derive(Debug)]
pub struct Admin {
    pub repair: Arc<Repair>,
    /// Keys of one request.
    pub keys_max: usize,
    pub tasks: TaskTracker,
}

impl Admin {
    /// Starts a repair and tells how far it is.
    ///
    /// # Errors
    /// When the request names no dimension or no keys of it. What goes wrong
    /// later ends the stream.
    pub(super) fn repair(
        &self,
        request: &RepairRequest,
    ) -> Result<impl Stream<Item = Result<RepairProgress, Status>> + Send + use<>, ServeError> {
        let live = self.dimension(&request.table)?;
        let keys = self.keys(&live, &request.keys)?;
        let (progress, told) = mpsc::channel(PROGRESS_WAITING);
        let (ended, outcome) = oneshot::channel();
        let repair = Arc::clone(&self.repair);
        self.tasks.spawn(async move {
            let order = Order { since: None, mends: None, progress };
            let result = match keys.as_slice() {
                [] => repair.table(&live, &order).await,
                keys => repair.keys(&live, keys, &order).await,
            };
            if ended.send(result).is_err() {
                tracing::info!(dimension = %live.dimension.name, "nobody waited for the end of the repair");
            }
        });
        Ok(stream::unfold((told, Some(outcome)), |(mut told, mut outcome)| async move {
            if let Some(progress) = told.recv().await {
                return Some((Ok(progress), (told, outcome)));
            }
            let last = match outcome.take()?.await {
                Ok(result) => result.map_err(|error| ServeError::from(error).into()),
                Err(_) => Err(Status::internal("the repair ended without an outcome")),
            };
            Some((last, (told, None)))
        }))
    }

    /// Lets go of keys, or of all of a dimension's.
    ///
    /// # Errors
    /// When every row has to stay resident, or only the writer can do it.
    pub(super) async fn invalidate(
        &self,
        request: &InvalidateRequest,
    ) -> Result<InvalidateResponse, ServeError> {
        let live = self.dimension(&request.table)?;
        if matches!(live.cache.tier(), ResidentTier::Full(_)) {
            let why = "every row of the dimension stays resident; Repair compares it with the source";
            return Err(ServeError::request("table", why));
        }
        let keys = self.keys(&live, &request.keys)?;
        let dropped =
            if keys.is_empty() { self.drop_all(&live).await? } else { self.drop_keys(&live, &keys).await? };
        Ok(InvalidateResponse { dropped })
    }

    async fn drop_keys(&self, live: &LiveDimension, keys: &[Key]) -> Result<u64, ServeError> {
        let shared = &self.repair.shared;
        // The shared tier first: memory may load from it again at once.
        if live.dimension.shared && shared.is_configured() {
            let unreached = |why: String| ServeError::SharedTier(why);
            let session = shared.usable().ok_or_else(|| unreached(shared.status().reason))?;
            let dropped = session.drop_keys(&live.dimension.sink_table, keys).await;
            dropped.map_err(|error| unreached(error.to_string()))?;
        }
        let resident = |key: &&Key| live.cache.tier().get(key.as_bytes()).is_some();
        let dropped = keys.iter().filter(resident).count() as u64;
        keys.iter().for_each(|key| live.cache.invalidate(key.as_bytes()));
        Ok(dropped)
    }

    async fn drop_all(&self, live: &LiveDimension) -> Result<u64, ServeError> {
        if live.dimension.shared && self.repair.shared.is_configured() {
            if !self.repair.live.role.is_writer() {
                return Err(RepairError::NotWriter.into());
            }
            let mut cells = self.repair.cells.lock().await;
            cells.change(|state| state.shared.generation += 1).await.map_err(RepairError::from)?;
            self.repair.shared.publish(&cells.state().shared);
        }
        let dropped = live.cache.tier().rows();
        live.cache.invalidate_all();
        Ok(dropped)
    }

    fn dimension(&self, name: &str) -> Result<Arc<LiveDimension>, ServeError> {
        let live = self.repair.live.dimension(name).cloned();
        live.ok_or_else(|| ServeError::UnknownTable(name.to_owned()))
    }

    fn keys(&self, live: &LiveDimension, spelled: &[String]) -> Result<Vec<Key>, ServeError> {
        if spelled.len() > self.keys_max {
            return Err(ServeError::TooManyKeys { got: spelled.len(), max: self.keys_max });
        }
        let canonical = |(index, text): (usize, &String)| {
            let mut key = Vec::new();
            write_key(&mut key, &live.dimension.key_columns, text)
                .map(|()| Key::from_canonical(key))
                .map_err(|error| ServeError::key(&live.dimension.name, index, &error))
        };
        spelled.iter().enumerate().map(canonical).collect()
    }
}
