//! The audit: compares recently changed keys in every tier with the source.
//!
//! ```text
//!  apply ──► RecentKeys ──► watch ──► source, memory, shared, store ──► changed?
//!                                                                    ├─ yes: raced
//!                                                                    └─ no: compare
//! ```
//!
//! A key that did not change from before the first of these reads until after
//! the last has one row for all of them. Where a tier differs, the key is
//! dropped from the caches and loaded again; a store that differs is for an
//! operator to repair. A read that fails is no verdict.

mod findings;
mod held;
mod recent;
#[cfg(test)]
mod tests;

pub use findings::{Findings, Mismatch, Tally};
pub use recent::{ChangedKey, RecentKeys};

use crate::{
    cache::Tier,
    dimension::{Image, Key},
    fallback::{Fallback, FallbackError, SourceRead},
    live::{Live, LiveDimension},
    load::Loader,
    store::StoreError,
};
use findings::{shown, visible};
use held::{Held, Tiers};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_proto::Position;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

const AUDIT_EVERY: Duration = Duration::from_secs(1);
/// The longest that the source's rows are waited for.
const SOURCE_DEADLINE: Duration = Duration::from_secs(5);
/// Changes that are sampled for each that can be compared.
pub const SAMPLED_PER_CHECK: usize = 8;

/// Where the truth is.
pub trait SourceRows: Send + Sync + 'static {
    /// [`Fallback::read`].
    fn read(
        &self,
        live: &LiveDimension,
        keys: &[Key],
        deadline: Instant,
    ) -> impl Future<Output = Result<SourceRead, FallbackError>> + Send;
}

impl SourceRows for Fallback {
    async fn read(
        &self,
        live: &LiveDimension,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<SourceRead, FallbackError> {
        Self::read(self, live, keys, deadline).await
    }
}

/// Compares keys in the background.
#[derive(Debug)]
pub struct Auditor<S> {
    pub live: Arc<Live>,
    pub loader: Loader,
    pub source: S,
    pub findings: Arc<Findings>,
    pub keys_per_second: usize,
}

/// Why keys could not be compared.
#[derive(Debug, thiserror::Error)]
enum NoVerdict {
    #[error(transparent)]
    Source(#[from] FallbackError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: SourceRows> Auditor<S> {
    /// Compares so many keys a second until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let audit = async {
            let mut tick = interval(AUDIT_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                self.audit().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = audit => {}
        }
    }

    /// Compares the keys of one second that changed and are durable.
    pub async fn audit(&self) {
        let sample = self.live.recent.take(self.keys_per_second, self.live.durable.get());
        let mut by_dimension = BTreeMap::<Arc<str>, Vec<ChangedKey>>::new();
        for changed in sample {
            by_dimension.entry(Arc::clone(&changed.dimension)).or_default().push(changed);
        }
        for (name, sample) in by_dimension {
            let Some(live) = self.live.dimension(&name).filter(|live| live.is_complete()) else { continue };
            if let Err(error) = self.check(live, &sample).await {
                self.findings.count_failed();
                debug!(%error, dimension = %name, "keys were not audited");
            }
        }
    }

    async fn check(&self, live: &Arc<LiveDimension>, sample: &[ChangedKey]) -> Result<(), NoVerdict> {
        let keys: Vec<Key> = sample.iter().map(|changed| changed.key.clone()).collect();
        // Before the first read, as the look at what changed is after the last.
        self.live.recent.watch(&live.dimension.name, keys.iter());
        let timeline = live.cache.timeline();
        let truth = self.source.read(live, &keys, Instant::now() + SOURCE_DEADLINE).await?;
        let tiers = Tiers { live, loader: &self.loader, at: truth.low };
        let held = tiers.read(&keys).await?;
        let changed = self.live.recent.changed(truth.low, keys.iter());
        // Memory has a change of the table before it counts as applied.
        let all_changed = timeline.latest() >= truth.low || live.cache.timeline() != timeline;
        let compared = sample.iter().zip(truth.rows).zip(held).zip(changed);
        for (((sampled, expected), held), changed) in compared {
            if changed || all_changed {
                self.findings.count_raced();
            } else {
                let check = Check { sampled, at: truth.low, expected: visible(expected) };
                self.judge(live, &check, held).await;
            }
        }
        Ok(())
    }

    async fn judge(&self, live: &Arc<LiveDimension>, check: &Check<'_>, held: Vec<Held>) {
        let wrong: Vec<Held> = held.into_iter().filter(|held| held.image != check.expected).collect();
        let mismatches: Vec<Mismatch> = wrong.iter().map(|held| check.mismatch(held)).collect();
        let stale = wrong.iter().any(|held| held.version < check.sampled.version);
        let staleness = if stale { check.sampled.noted.elapsed() } else { Duration::ZERO };
        self.findings.count_check(&mismatches, staleness);
        for Mismatch { dimension, key, at, tier, held, expected } in &mismatches {
            let tier = tier.as_str();
            error!(%dimension, ?key, %at, tier, held, expected, "a tier differs from the source");
        }
        if wrong.iter().any(|held| held.tier == Tier::Store) {
            let run = format!("dimsvc repair {} '{:?}'", live.dimension.name, check.sampled.key);
            error!(run, "the store differs from the source, which loading again does not mend");
        } else if !wrong.is_empty() {
            self.quarantine(live, check.sampled).await;
        }
    }

    /// Drops a key from the caches and loads it again.
    async fn quarantine(&self, live: &Arc<LiveDimension>, sampled: &ChangedKey) {
        let keys = std::slice::from_ref(&sampled.key);
        // What is loaded again must not come from there.
        if let Some(session) = self.loader.shared.usable().filter(|_| live.dimension.shared)
            && let Err(error) = session.drop_keys(&live.dimension.sink_table, keys).await
        {
            warn!(%error, key = ?sampled.key, "a wrong key stays in the shared tier, will be audited again");
            self.live.recent.put_back(sampled.clone());
            return;
        }
        live.cache.invalidate(sampled.key.as_bytes());
        if let Err(error) = self.loader.reload(live, keys).await {
            warn!(%error, key = ?sampled.key, "a wrong key was not loaded again, will be audited again");
            self.live.recent.put_back(sampled.clone());
        }
    }
}

/// One key, and what it should be.
struct Check<'s> {
    sampled: &'s ChangedKey,
    at: Position,
    expected: Image,
}

impl Check<'_> {
    fn mismatch(&self, held: &Held) -> Mismatch {
        Mismatch {
            dimension: Arc::clone(&self.sampled.dimension),
            key: self.sampled.key.clone(),
            at: self.at,
            tier: held.tier,
            held: shown(held.image.as_deref()),
            expected: shown(self.expected.as_deref()),
        }
    }
}
