//! The writer's side: rows that are durable now go to Redis, and the writer
//! learns whether readers may go on using it.

use super::{SharedTier, Standing};
use crate::{
    dimension::TableRows,
    state::SharedState,
    writer::{AfterStore, SharedUpdate},
};

impl AfterStore for SharedTier {
    /// Every replica answers from what this lets stand, so rows are taken only
    /// if a session of the published generation has taken them. Under another
    /// run there is nothing to bring up to date: its generation will be a new
    /// one, and empty.
    async fn update(&self, rows: &[TableRows]) -> SharedUpdate {
        let session = match self.standing() {
            Standing::Usable(session) => session,
            Standing::OtherRun { run_id, generation } => return SharedUpdate::Taken { generation, run_id },
            // Also when this process has no address: others may read the tier.
            Standing::Unusable if !rows.is_empty() => return SharedUpdate::Failed,
            Standing::Unusable => return SharedUpdate::Unused,
        };
        for table in rows {
            if let Err(error) = session.update(&table.table, &table.rows).await {
                tracing::warn!(%error, table = &*table.table, "shared tier not updated, it is left behind");
                return SharedUpdate::Failed;
            }
        }
        SharedUpdate::Taken { generation: session.generation(), run_id: session.run_id().to_owned() }
    }

    fn publish(&self, shared: &SharedState) {
        Self::publish(self, shared);
    }
}
