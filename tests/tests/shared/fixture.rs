//! A tier on a Redis of its own, connected and published.

use anyhow::{Context as _, Result, ensure};
use dimsvc::{
    metrics::{Metrics, SharedMetrics},
    shared::{Session, SharedTier},
    state::SharedState,
};
use std::time::Duration;
use tidemark_heart::{
    Key, VersionedRow,
    shared::{Newest, SharedRead},
};
use tidemark_proto::{Position, config::Shared};
use tidemark_tests::{eventually, redis::RedisServer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const TABLE: &str = "dim_sku";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Fixture {
    pub(crate) redis: RedisServer,
    pub(crate) config: Shared,
    pub(crate) tier: SharedTier,
    pub(crate) metrics: SharedMetrics,
    // Its tasks end with it.
    _connection: JoinSet<()>,
}

impl Fixture {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Shared)) -> Result<Self> {
        let fixture = Self::connect(change).await?;
        fixture.tier.publish(&fixture.published());
        Ok(fixture)
    }

    /// The same with nothing published.
    pub(crate) async fn connected() -> Result<Self> {
        Self::connect(|_| {}).await
    }

    async fn connect(change: impl FnOnce(&mut Shared)) -> Result<Self> {
        let redis = RedisServer::start().await?;
        // Generous: other tests share the machine.
        let mut config = Shared {
            url: redis.url(),
            timeout_ms: 5_000,
            lease_ms: 60_000,
            retry_ms: 100,
            ..Shared::default()
        };
        change(&mut config);
        let metrics = Metrics::try_new()?.shared;
        let tier = SharedTier::try_new(&config, "0123456789abcdef", metrics.clone())?;
        let mut connection = JoinSet::new();
        let running = tier.clone();
        connection.spawn(async move { running.run(CancellationToken::new()).await });
        let fixture = Self { redis, config, tier, metrics, _connection: connection };
        fixture.other_run("").await?;
        Ok(fixture)
    }

    /// Makes the server a replica, of nobody who answers: it keeps its rows as
    /// one that fell behind.
    pub(crate) fn demote(&self) -> Result<()> {
        self.redis.execute(&["REPLICAOF", "127.0.0.1", "1"]).map(drop)
    }

    /// What the fixture published, were it to do so now.
    pub(crate) fn published(&self) -> SharedState {
        SharedState { generation: 1, run_id: self.tier.status().run_id }
    }

    /// A session, as soon as the tier may be used.
    pub(crate) async fn session(&self) -> Result<Session> {
        eventually("the tier is in use", DEADLINE, async || {
            self.tier.usable().with_context(|| self.tier.status().reason)
        })
        .await
    }

    /// The run id of the server, as soon as another than `before` is connected.
    pub(crate) async fn other_run(&self, before: &str) -> Result<String> {
        eventually("the server is connected", DEADLINE, async || {
            let status = self.tier.status();
            ensure!(!status.run_id.is_empty() && status.run_id != before, "{status:?}");
            Ok(status.run_id)
        })
        .await
    }
}

pub(crate) fn key(id: u32) -> Key {
    Key::from_canonical(format!("[{id}]"))
}

/// A version with all the bytes above its offset in use.
pub(crate) fn version(offset: u64) -> Position {
    Position::try_new(1_000, 0x8_0001, offset).expect("an offset below 4 GiB")
}

pub(crate) fn row(id: u32, offset: u64) -> VersionedRow {
    VersionedRow { key: key(id), version: version(offset), image: Some(format!("{{\"v\":{offset}}}").into()) }
}

pub(crate) fn newest(id: u32, offset: u64) -> (Key, Newest) {
    let row = row(id, offset);
    (row.key, Some((row.version, row.image)))
}

pub(crate) fn hit(offset: u64) -> SharedRead {
    let row = row(0, offset);
    SharedRead::Hit { version: row.version, image: row.image }
}
