//! Batches at work: looked up side by side, delivered and committed in order.
//!
//! A batch may be written only when the one before it is acknowledged, so that
//! rows of a key stay in order even when a batch has to be sent again. Offsets
//! are committed in the same order: what is committed is delivered.

use super::Worker;
use crate::source::{Batch, Source, SourceEvent, TopicPartition};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// One is being delivered, one looked up, one waits with its lookups done.
const BATCHES_AT_WORK: usize = 3;

/// The layer's loop: events of the source in, commits out.
pub(super) struct Pipeline {
    worker: Arc<Worker>,
    source: Source,
    at_work: JoinSet<anyhow::Result<Delivered>>,
    /// The number of the next batch, and of the next to be committed.
    next: u64,
    to_commit: u64,
    finished: BTreeMap<u64, Vec<(TopicPartition, i64)>>,
    /// Resolves when the newest batch is delivered.
    turn: Option<oneshot::Receiver<()>>,
    give_up: CancellationToken,
    drain: Duration,
}

/// A batch of which everything is acknowledged.
struct Delivered {
    number: u64,
    offsets: Vec<(TopicPartition, i64)>,
}

impl Pipeline {
    pub(super) fn new(
        worker: Arc<Worker>,
        source: Source,
        give_up: CancellationToken,
        drain: Duration,
    ) -> Self {
        Self {
            worker,
            source,
            at_work: JoinSet::new(),
            next: 0,
            to_commit: 0,
            finished: BTreeMap::new(),
            turn: None,
            give_up,
            drain,
        }
    }

    /// Works until the process stops, then finishes what is at work.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = self.at_work.join_next() => self.commit(done??).await,
                event = self.source.next(), if self.at_work.len() < BATCHES_AT_WORK => {
                    self.take(event?).await?;
                }
            }
        }
        let drained = timeout(self.drain, self.finish_all()).await;
        self.give_up.cancel();
        match drained {
            Ok(result) => result?,
            Err(_) => tracing::warn!("stopped with batches at work; they are read again after the start"),
        }
        self.source.close().await;
        Ok(())
    }

    async fn take(&mut self, event: SourceEvent) -> anyhow::Result<()> {
        match event {
            SourceEvent::Assigned(_) => self.worker.services.metrics.started(),
            SourceEvent::Batch(batch) => self.begin(batch),
            SourceEvent::Revoked(_, ack) => {
                self.finish_all().await?;
                ack.done();
            }
        }
        Ok(())
    }

    /// Waits for all batches at work and commits them.
    async fn finish_all(&mut self) -> anyhow::Result<()> {
        while let Some(done) = self.at_work.join_next().await {
            self.commit(done??).await;
        }
        Ok(())
    }

    /// Begins a batch; it looks up at once and writes in its turn.
    fn begin(&mut self, batch: Batch) {
        let (finished, next_turn) = oneshot::channel();
        let turn = self.turn.replace(next_turn);
        let worker = Arc::clone(&self.worker);
        let number = self.next;
        self.next += 1;
        self.at_work.spawn(async move {
            let timer = worker.services.metrics.batch_seconds.start_timer();
            let projected = worker.enrich(&batch).await?;
            if let Some(turn) = turn {
                // When the batch before has failed, this one must not be written.
                turn.await.map_err(|_| anyhow::anyhow!("the batch before was not delivered"))?;
            }
            worker.deliver(&batch, &projected).await?;
            // Without a next batch nobody waits for the turn.
            finished.send(()).ok();
            timer.observe_duration();
            Ok(Delivered { number, offsets: batch.next_offsets() })
        });
    }

    /// Commits the batches that are delivered up to the first that is not.
    async fn commit(&mut self, delivered: Delivered) {
        self.finished.insert(delivered.number, delivered.offsets);
        let mut offsets = BTreeMap::new();
        while let Some(next) = self.finished.remove(&self.to_commit) {
            offsets.extend(next);
            self.to_commit += 1;
        }
        let offsets: Vec<_> = offsets.into_iter().collect();
        // A commit that fails costs only work: the next one covers it, and a
        // restart reads the same messages again.
        if let Err(error) = self.source.commit(&offsets).await {
            tracing::warn!(%error, "offset commit failed");
            self.worker.services.metrics.retries.inc();
        }
    }
}
