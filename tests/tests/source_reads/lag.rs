//! What a replica says of its age.

use super::{
    followed::{Followed, PATIENCE},
    isolation,
};
use anyhow::{Result, ensure};
use dimsvc::change::lag::Lag;
use std::{sync::Arc, time::Duration};
use tidemark_tests::eventually;
use tokio_util::sync::CancellationToken;

/// Some questions long.
const BEHIND: Duration = Duration::from_secs(1);

/// Fails when `measure` does not wait for `applied`, or the feed says by itself
/// that it heard of the source.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_as_old_as_it_is_behind() -> Result<()> {
    let isolation = isolation("lag")?;
    isolation.session(&isolation.name)?.exec("CREATE TABLE t (id INT PRIMARY KEY)")?;
    let followed = Followed::begin(&isolation, "[t]\n").await?;
    let lag = Lag { source: followed.source.clone(), live: Arc::clone(&followed.live) };
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "it ends with its owner")]
    let measured = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(lag.run(stop.clone())));
    let age = || followed.live.freshness.age();
    followed.hold(true);
    isolation.session(&isolation.name)?.exec("INSERT INTO t VALUES (1)")?;
    eventually("it grows old", PATIENCE, async || {
        ensure!(age() > BEHIND, "{:?}", age());
        Ok(())
    })
    .await?;
    followed.hold(false);
    eventually("it is new again", PATIENCE, async || {
        ensure!(age() < BEHIND, "{:?}", age());
        Ok(())
    })
    .await?;
    stop.cancel();
    Ok(measured.await?)
}
