//! What breaks, in which order, and how it is mended.

use crate::scene::Scene;
use anyhow::Result;
use std::time::Duration;
use tidemark_tests::proxy::{Mode, Proxy};

/// One thing that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    RedisCut,
    RedisDelay,
    RedisBlackHole,
    RedisFlush,
    RedisOldDump,
    RedisFreeze,
    HbaseDelay,
    HbaseCut,
    HbaseBlackHole,
    MysqlDelay,
    MysqlCut,
    MysqlBlackHole,
    ReplicaKill,
}

/// More than the patience for a call to Redis, less than that for HBase.
const DELAY: Mode = Mode::Delay { latency: Duration::from_millis(60), jitter: Duration::from_millis(40) };

impl Fault {
    pub(crate) const ALL: [Self; 13] = [
        Self::RedisCut,
        Self::RedisDelay,
        Self::RedisBlackHole,
        Self::RedisFlush,
        Self::RedisOldDump,
        Self::RedisFreeze,
        Self::HbaseDelay,
        Self::HbaseCut,
        Self::HbaseBlackHole,
        Self::MysqlDelay,
        Self::MysqlCut,
        Self::MysqlBlackHole,
        Self::ReplicaKill,
    ];

    /// Shorter would not be noticed.
    pub(crate) fn at_least(self) -> Duration {
        match self {
            Self::RedisFlush => Duration::ZERO,
            _ => Duration::from_millis(500),
        }
    }

    fn mode(self) -> Option<Mode> {
        match self {
            Self::RedisCut | Self::HbaseCut | Self::MysqlCut => Some(Mode::Cut),
            Self::RedisDelay | Self::HbaseDelay | Self::MysqlDelay => Some(DELAY),
            Self::RedisBlackHole | Self::HbaseBlackHole | Self::MysqlBlackHole => Some(Mode::BlackHole),
            Self::RedisFlush | Self::RedisOldDump | Self::RedisFreeze | Self::ReplicaKill => None,
        }
    }

    fn proxy(self, scene: &Scene) -> &Proxy {
        match self {
            Self::HbaseDelay | Self::HbaseCut | Self::HbaseBlackHole => &scene.hbase,
            Self::MysqlDelay | Self::MysqlCut | Self::MysqlBlackHole => &scene.mysql,
            _ => &scene.redis_proxy,
        }
    }
}

impl Scene {
    /// Breaks it.
    pub(crate) async fn inject(&mut self, fault: Fault) -> Result<()> {
        if let Some(mode) = fault.mode() {
            fault.proxy(self).set(mode);
        }
        match fault {
            Fault::RedisFlush => self.redis.flush(),
            // What it holds now comes back when it is old.
            Fault::RedisOldDump => self.redis.save(),
            Fault::RedisFreeze => self.redis.freeze(),
            Fault::ReplicaKill => self.kill_next(),
            _ => Ok(()),
        }
    }

    /// Mends it.
    pub(crate) async fn heal(&mut self, fault: Fault) -> Result<()> {
        if fault.mode().is_some() {
            fault.proxy(self).set(Mode::Pass);
        }
        match fault {
            Fault::RedisOldDump => self.redis.restart_from_save().await,
            Fault::RedisFreeze => self.redis.thaw(),
            Fault::ReplicaKill => self.start_killed().await,
            _ => Ok(()),
        }
    }
}
