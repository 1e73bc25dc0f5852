//! How old the newest rows may be.
//!
//! The source is asked for its binlog's end again and again; once all up to
//! there is applied, the rows are as new as the question. What the feed hears
//! says nothing of it: a replica that is an hour behind hears all the time.

use crate::live::Live;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::Source;
use tidemark_proto::Position;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Bounds below a second are for the tests alone: `max_staleness_seconds`.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Before it looks whether it is to stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// Measures the lag of a process.
#[derive(Debug)]
pub struct Lag {
    pub source: Source,
    pub live: Arc<Live>,
}

impl Lag {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.measure() => {}
        }
    }

    async fn measure(&self) {
        let mut conn = None;
        loop {
            let asked = Instant::now();
            match self.end(&mut conn).await {
                Ok(end) => {
                    while !self.live.applied.reached(end, Instant::now() + PATIENCE).await {}
                    self.live.freshness.heard(asked);
                }
                Err(error) => {
                    debug!(%error, "the source does not tell its binlog's end");
                    conn = None;
                }
            }
            tokio::time::sleep_until((asked + ASK_EVERY).into()).await;
        }
    }

    /// On one connection for as long as it lasts; the source's own time limit
    /// bounds each question.
    async fn end(&self, conn: &mut Option<mysql_async::Conn>) -> anyhow::Result<Position> {
        let conn = match conn {
            Some(conn) => conn,
            none => none.insert(self.source.connect().await?),
        };
        Ok(self.source.binlog_end_on(conn).await?.position(self.live.epoch)?)
    }
}
