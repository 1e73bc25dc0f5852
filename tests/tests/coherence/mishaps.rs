//! What goes wrong, one after the other, while lookups go on.

use crate::site::{KEYS, Site, number_of};
use anyhow::Result;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tidemark_proto::Position;
use tidemark_tests::random::Random;

/// How long a fault lasts, and the peace after it.
const FAULT: Duration = Duration::from_millis(150);
const PEACE: Duration = Duration::from_millis(100);
const EVICTED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mishap {
    Evictions,
    AllEvicted,
    StoreFails,
    StoreHangs,
    StoreAnswersLate,
    RedisFlushed,
    RedisKilled,
    RedisFromOldDump,
    RedisFrozen,
    LeaseMoves,
    ReplicaRestarts,
}

impl Mishap {
    const ALL: [Self; 11] = [
        Self::Evictions,
        Self::AllEvicted,
        Self::StoreFails,
        Self::StoreHangs,
        Self::StoreAnswersLate,
        Self::RedisFlushed,
        Self::RedisKilled,
        Self::RedisFromOldDump,
        Self::RedisFrozen,
        Self::LeaseMoves,
        Self::ReplicaRestarts,
    ];
}

/// See the module.
pub(crate) struct Mishaps {
    site: Arc<Site>,
    random: Random,
    count: usize,
    told: BTreeMap<Mishap, u64>,
    writer: usize,
}

impl Mishaps {
    pub(crate) fn new(site: Arc<Site>, seed: u64) -> Self {
        Self { site, random: Random::new(seed), count: 0, told: BTreeMap::new(), writer: 0 }
    }

    /// How often each has happened.
    pub(crate) fn rounds(&self) -> usize {
        self.count / Mishap::ALL.len()
    }

    pub(crate) fn told(&self) -> String {
        format!("{:?}", self.told)
    }

    /// The next one, from its begin to the peace after it.
    pub(crate) async fn next(&mut self) -> Result<()> {
        let mishap = Mishap::ALL.into_iter().cycle().nth(self.count).unwrap_or(Mishap::Evictions);
        self.count += 1;
        *self.told.entry(mishap).or_default() += 1;
        let site = Arc::clone(&self.site);
        let mut redis = site.redis.lock().await;
        match mishap {
            Mishap::Evictions => self.evict(),
            Mishap::AllEvicted => self.evict_all(),
            Mishap::StoreFails => {
                site.failing.set_failing(true);
                tokio::time::sleep(FAULT).await;
                site.failing.set_failing(false);
            }
            Mishap::StoreHangs => {
                site.slow.hold();
                tokio::time::sleep(FAULT).await;
                site.slow.release();
            }
            Mishap::StoreAnswersLate => {
                site.late.set_late(true);
                // Or nobody would ask the store.
                self.evict_all();
                tokio::time::sleep(FAULT).await;
                site.late.set_late(false);
            }
            Mishap::RedisFlushed => redis.flush()?,
            Mishap::RedisKilled => redis.restart_empty().await?,
            Mishap::RedisFromOldDump => {
                redis.save()?;
                drop(redis);
                tokio::time::sleep(PEACE).await;
                site.redis.lock().await.restart_from_save().await?;
            }
            Mishap::RedisFrozen => {
                redis.freeze()?;
                tokio::time::sleep(FAULT).await;
                redis.thaw()?;
            }
            Mishap::LeaseMoves => self.move_lease(),
            Mishap::ReplicaRestarts => site.restart(self.random.below(2) as usize).await?,
        }
        self.peace().await
    }

    fn evict_all(&mut self) {
        let replica = self.site.replica(self.random.below(2) as usize);
        replica.live().dimensions().for_each(|live| live.cache.invalidate_all());
    }

    fn evict(&mut self) {
        let replica = self.site.replica(self.random.below(2) as usize);
        for _ in 0..EVICTED {
            let id = self.random.below(KEYS as u64) as usize;
            for (table, live) in ["sku", "shop"].into_iter().enumerate() {
                let Some(live) = replica.live().dimension(live) else { continue };
                self.site.checker.touched(number_of(table, id));
                live.cache.invalidate(format!("[{id}]").as_bytes());
            }
        }
    }

    /// The other one may write now; for a moment, nobody or both.
    fn move_lease(&mut self) {
        let (old, new) = (self.writer, 1 - self.writer);
        let both = self.random.below(2) == 0;
        for (number, holds) in if both { [(new, true), (old, false)] } else { [(old, false), (new, true)] } {
            self.site.replica(number).may_write.send_replace(holds);
        }
        self.writer = new;
    }

    /// All goes on for a while; a part that failed for good fails the run.
    async fn peace(&mut self) -> Result<()> {
        let applied: Position = self.site.applied();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        tokio::time::sleep(PEACE).await;
        while self.site.applied() <= applied {
            for number in 0..2 {
                if let Some(error) = self.site.replica(number).failure() {
                    return Err(error.context(format!("replica {number} ended")));
                }
            }
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "nothing is applied any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}
