//! What a worker does with partitions that it is given: it looks whether their
//! logs fit its tables, and begins at the beginning where a table is new.

use super::{
    aggregate::Groups,
    progress::{self, Start},
    retry::retried,
    worker::{DwsError, Partition, Worker, start_source},
};
use crate::source::{Offsets, SourceError, TopicPartition};

impl Worker {
    /// Takes partitions with nothing in memory.
    pub(super) async fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), DwsError> {
        let offsets = self.offsets(partitions).await?;
        let mut source_is_ahead = false;
        for offsets in offsets {
            let start = match self.start_of(&offsets).await? {
                Start::Committed => offsets.committed.unwrap_or(offsets.low),
                Start::Beginning(low) => {
                    let begun = self.begin(offsets.at, low).await?;
                    source_is_ahead |= !begun || offsets.committed.is_some_and(|committed| committed != low);
                    low
                }
            };
            let tables = self.tables.get(offsets.at.topic).map_or(0, Vec::len);
            let groups = (0..tables).map(|_| Groups::default()).collect();
            self.partitions.insert(offsets.at, Partition { groups, start, next: None });
        }
        if source_is_ahead {
            // It reads from another offset than the tables need: nothing of that
            // may be merged. Joining again takes what is committed.
            self.partitions.clear();
            let fresh = start_source(&self.config, &self.topics, &self.metrics)?;
            std::mem::replace(&mut self.source, fresh).close().await;
        }
        Ok(())
    }

    async fn start_of(&self, offsets: &Offsets) -> Result<Start, DwsError> {
        let tables = self.tables.get(offsets.at.topic).map(Vec::as_slice).unwrap_or_default();
        let mut progress = Vec::with_capacity(tables.len());
        for table in tables {
            let ask = || table.progress(offsets.at.partition);
            progress.push(self.retried(ask).await?);
        }
        progress::start(offsets, &progress).map_err(|mismatch| self.mismatch(offsets.at, mismatch))
    }

    /// Makes the beginning the group's place, then notes that it was: in this
    /// order a crash repeats it, and never leaves a part out. False when the
    /// partition went to another member meanwhile, which finds the same.
    async fn begin(&self, at: TopicPartition, low: i64) -> Result<bool, DwsError> {
        let commit = || async {
            self.source.commit(&[(at, low)]).await?;
            let committed = self.source.offsets(&[at]).await?;
            Ok::<_, SourceError>(committed.first().and_then(|offsets| offsets.committed) == Some(low))
        };
        let committed = retried((&self.metrics, &self.shutdown), commit).await?;
        if !committed {
            return Ok(false);
        }
        tracing::info!(
            topic = self.source.topic(at),
            partition = at.partition,
            offset = low,
            "read from the beginning"
        );
        for table in self.tables.get(at.topic).into_iter().flatten() {
            self.retried(|| table.mark_begun(at.partition)).await?;
        }
        Ok(true)
    }

    pub(super) async fn offsets(&self, partitions: &[TopicPartition]) -> Result<Vec<Offsets>, DwsError> {
        self.retried(|| self.source.offsets(partitions)).await
    }
}
