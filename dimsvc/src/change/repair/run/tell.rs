//! What a repair tells of itself: to history, to replicas, to watchers.

use super::{CHANGED, Run};
use crate::{
    change::repair::RepairError,
    live::Loss,
    state::{DimensionState, StateError},
};
use std::time::Duration;
use tidemark_proto::Position;

const RETRY: Duration = Duration::from_millis(200);

impl Run<'_> {
    /// Before anything is written: whatever becomes of this process, history is
    /// marked and replicas are told.
    pub(super) async fn note_begun(&mut self) -> Result<(), RepairError> {
        if self.begun || self.order.mends.is_some() {
            return Ok(());
        }
        let (live, repair) = (self.live, self.repair);
        let since = self.order.since.unwrap_or_else(|| live.cache.floor()).packed();
        let note = |dimension: &mut DimensionState| {
            dimension.repairing = Some(dimension.repairing.map_or(since, |noted| noted.min(since)));
        };
        repair.cells.lock().await.change_dimension(&live.dimension.name, note).await?;
        self.begun = true;
        Ok(())
    }

    /// Nothing, when neither this repair nor one before it has written.
    pub(super) async fn mark_unknown(&self) -> Result<(), RepairError> {
        let (repair, live, at) = (self.repair, self.live, self.at);
        let name = &live.dimension.name;
        let mut cells = repair.cells.lock().await;
        let Some(since) = cells.dimension(name).and_then(|dimension| dimension.repairing) else {
            return Ok(());
        };
        cells.change_dimension(name, |dimension| dimension.end_repair(at)).await?;
        live.cache.add_unknown(Position::from_packed(since), at);
        // Whoever loaded what was wrong must not find it again.
        cells.change(|state| state.shared.generation += 1).await?;
        cells.announce(name).await?;
        repair.shared.publish(&cells.state().shared);
        drop(cells);
        live.cache.invalidate_all();
        // Watchers see transactions alone: they have to load anew.
        repair.live.ring.restart(repair.live.applied.get());
        Ok(())
    }

    /// A dimension that was lost answers again, from S2 on.
    pub(super) async fn regain(&self, loss: &Loss) -> Result<(), RepairError> {
        let (repair, live, at) = (self.repair, self.live, self.at);
        let mut cells = repair.cells.lock().await;
        // Before the first answer: the shared tier has rows from before.
        cells.change(|state| state.shared.generation += 1).await?;
        repair.shared.publish(&cells.state().shared);
        live.cache.invalidate_all();
        let (timeline, _) = live.past();
        if !live.regain(loss, at, &timeline) {
            return Err(RepairError::Refused(CHANGED));
        }
        drop(cells);
        repair.live.ring.restart(repair.live.applied.get());
        // Standbys wait for it, and a restart would begin anew.
        while let Err(error) = self.note_regained().await {
            if !error.is_retryable() || !repair.live.role.is_writer() {
                return Err(error.into());
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    async fn note_regained(&self) -> Result<(), StateError> {
        let (timeline, columns) = self.live.past();
        let note = |dimension: &mut DimensionState| {
            dimension.timeline.merge(&timeline);
            dimension.definition.columns = columns.to_vec();
        };
        let mut cells = self.repair.cells.lock().await;
        cells.change_dimension(&self.live.dimension.name, note).await?;
        cells.announce(&self.live.dimension.name).await
    }
}
