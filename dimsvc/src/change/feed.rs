//! The feed: follows the binlog from a place and applies what it says.
//!
//! A lost stream is taken up again where `applied` stands, with backoff, for as
//! long as the process lives; meanwhile `applied` stands still and lag is
//! reported. What cannot be applied exactly stops the feed for good: fenced
//! lookups then wait, and health says why.

use crate::{
    apply::{Applier, ApplyError},
    live::Live,
    metrics::Metrics,
    state::random_bits,
};
use std::{sync::Arc, time::Duration};
use tidemark_binlog::{BinlogPlace, BinlogStream, Source, StreamError, StreamOptions};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where replica ids are chosen from: above what people give their servers.
const CHOSEN_SERVER_IDS: u32 = 0x4000_0000;

/// A replica id that hardly any other reader has.
pub(crate) fn random_server_id() -> u32 {
    CHOSEN_SERVER_IDS | u32::try_from(random_bits() >> 34).unwrap_or_default()
}

/// Follows the binlog.
#[derive(Debug)]
pub struct Feed {
    pub source: Source,
    pub options: StreamOptions,
    pub applier: Applier,
    pub live: Arc<Live>,
    /// The replica id was not given: another may be chosen.
    pub any_server_id: bool,
    pub metrics: Arc<Metrics>,
}

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl FeedError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Stream(error) => error.is_retryable(),
            Self::Apply(_) => false,
        }
    }
}

impl Feed {
    /// Runs until told to stop. A feed that cannot go on stays here, so that
    /// the service keeps answering what it can vouch for.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = RETRY_FIRST;
        loop {
            let before = self.live.applied.get();
            let lost = tokio::select! {
                biased; // a stop is not held up by a busy stream
                () = stop.cancelled() => return,
                lost = self.follow() => lost,
            };
            self.live.feed.lose(&lost.to_string());
            self.metrics.feed_losses.inc();
            if !lost.is_retryable() && !self.chose_another_id(&lost) {
                error!(error = %lost, applied = %self.live.applied.get(), "the binlog cannot be followed any further");
                stop.cancelled().await;
                return;
            }
            if self.live.applied.get() > before {
                pause = RETRY_FIRST;
            }
            warn!(error = %lost, ?pause, "binlog stream lost, will be taken up again");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Two readers chose one id, and the server ended the stream of the first.
    fn chose_another_id(&mut self, lost: &FeedError) -> bool {
        let clash = matches!(lost, FeedError::Stream(StreamError::DuplicateServerId));
        if clash && self.any_server_id {
            self.options.server_id = random_server_id();
        }
        clash && self.any_server_id
    }

    /// Follows one connection until it ends.
    async fn follow(&mut self) -> FeedError {
        match self.try_follow().await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    async fn try_follow(&mut self) -> Result<std::convert::Infallible, FeedError> {
        let mut stream = BinlogStream::open(&self.source, self.options.clone()).await?;
        info!(file = %self.options.from.file, offset = self.options.from.offset, "following the binlog");
        loop {
            let event = stream.next().await?;
            let end = event.end();
            self.applier.apply(event).await?;
            self.options.from = self.place_of(end);
            self.live.feed.follow();
        }
    }

    fn place_of(&self, end: tidemark_proto::Position) -> BinlogPlace {
        let base = self.options.from.file.rsplit_once('.').map_or("binlog", |(base, _)| base);
        BinlogPlace::new(base, end)
    }
}
