//! Rows of the source and a real Redis.

use super::{
    followed::{Followed, PATIENCE, config},
    isolation,
};
use anyhow::{Context as _, Result, bail, ensure};
use dimsvc::{
    cache::Tier,
    load::{Batch, Begun, Loader},
    shared::SharedTier,
    state::SharedState,
    store::{
        StorePool,
        memory::{Failing, MemoryStore},
    },
};
use std::sync::Arc;
use tidemark_heart::shared::SharedRead;
use tidemark_proto::config::Shared;
use tidemark_tests::{eventually, redis::RedisServer};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tier of a server, connected and published.
async fn in_use(followed: &Followed, tasks: &mut JoinSet<()>) -> Result<SharedTier> {
    let (config, metrics) = (&followed.config.dimsvc.shared, followed.metrics.shared.clone());
    let tier = SharedTier::try_new(config, "00000000", metrics)?;
    let running = tier.clone();
    tasks.spawn(async move { running.run(CancellationToken::new()).await });
    eventually("the server is connected", PATIENCE, async || {
        let run_id = tier.status().run_id;
        ensure!(!run_id.is_empty(), "{:?}", tier.status());
        tier.publish(&SharedState { generation: 1, run_id });
        Ok(())
    })
    .await?;
    Ok(tier)
}

/// A row of the source has no version: in the shared tier no update would
/// replace it. Take the comparison with `Tier::Store` out of `Loader::fill` to
/// see it fail.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_source_stay_out_of_the_shared_tier() -> Result<()> {
    let isolation = isolation("unshared")?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT)")?;
    session.exec("INSERT INTO t VALUES (1, 5)")?;
    let (redis, mut config) = (RedisServer::start().await?, config(&isolation));
    config.dimsvc.shared =
        Shared { url: redis.url(), timeout_ms: 5_000, lease_ms: 60_000, ..Shared::default() };
    let followed = Followed::begin_with(config, &isolation, "[t]\nshared = true\n").await?;
    let mut tasks = JoinSet::new();
    let shared = in_use(&followed, &mut tasks).await?;
    // It fails from the start.
    let store = Arc::new(Failing::new(Arc::new(MemoryStore::default())));
    let loader = Loader {
        store: StorePool::new(store, 1, 64, PATIENCE),
        shared: shared.clone(),
        fallback: followed.fallback(),
        metrics: Arc::clone(&followed.metrics),
        timeout: PATIENCE,
        tasks: TaskTracker::new(),
    };
    let (live, keys) = (followed.dimension("t"), followed.keys("t", &["[1]", "[2]"])?);

    let mut batch = Batch::default();
    let mut waiters = Vec::new();
    for key in &keys {
        let Begun::Awaited(waiter) = batch.begin(live, key) else { bail!("it is resident") };
        waiters.push(waiter);
    }
    loader.start(live, batch);
    for (waiter, image) in waiters.iter().zip([Some(&b"{\"id\":1,\"v\":5}"[..]), None]) {
        let found = waiter.wait().await?;
        assert_eq!((found.tier, found.answer.image()), (Tier::Source, image));
    }
    loader.tasks.close();
    loader.tasks.wait().await;

    let session = shared.usable().context("the tier is in use")?;
    let held = session.peek(&live.dimension.sink_table, &keys).await?;
    assert_eq!(held, [Some(SharedRead::Busy), Some(SharedRead::Busy)], "the leases were filled");
    Ok(())
}
