//! What keeps memory in shape in the background.
//!
//! The sweep does what moka puts off, so that what expired is gone and counted
//! while nobody asks. The refresh loads rows anew that are still read when
//! their time is almost over, from the tiers beneath, so that no caller waits.
//! Nothing here makes an answer right: freshness comes from the binlog.

#[cfg(test)]
mod tests;

use crate::{
    live::{Live, LiveDimension},
    load::Loader,
    metrics::Metrics,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Well below a tenth of the shortest time to live that people choose.
const REFRESH_EVERY: Duration = Duration::from_millis(100);
/// Keys of one batch, which is one read of each tier.
const REFRESH_KEYS_MAX: usize = 256;

/// The tasks of one process.
#[derive(Debug)]
pub struct Upkeep {
    pub live: Arc<Live>,
    pub loader: Loader,
    pub metrics: Arc<Metrics>,
}

impl Upkeep {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.sweep() => {}
            () = self.refresh() => {}
        }
    }

    async fn sweep(&self) {
        let mut tick = interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let live = Arc::clone(&self.live);
            // Up to a tenth of a second for each tier that has much to do.
            let swept = tokio::task::spawn_blocking(move || {
                live.dimensions().filter_map(|live| live.cache.tier().lru()).for_each(|lru| lru.clean());
            });
            if let Err(error) = swept.await {
                warn!(%error, "a sweep did not end");
            }
        }
    }

    async fn refresh(&self) {
        let mut tick = interval(REFRESH_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            for live in self.live.dimensions().filter(|live| live.dimension.refresh_ahead) {
                self.refresh_hot(live).await;
            }
        }
    }

    /// Loads what was noted of a dimension anew. What fails is left to the
    /// caller who misses it.
    async fn refresh_hot(&self, live: &Arc<LiveDimension>) {
        let Some(hot) = live.cache.tier().lru().and_then(|lru| lru.hot()) else { return };
        loop {
            let keys = hot.take(REFRESH_KEYS_MAX);
            if keys.is_empty() {
                return;
            }
            let loaded = self.loader.reload(live, &keys).await;
            hot.done(&keys);
            let outcome = if loaded.is_ok() { "loaded" } else { "failed" };
            self.metrics.refreshed.with_label_values(&[outcome]).inc_by(keys.len() as u64);
            if let Err(error) = loaded {
                debug!(%error, dimension = %live.dimension.name, "hot rows were not loaded anew");
                return;
            }
        }
    }
}
