//! The shared tier on a real Redis: its scripts against the model, and what the
//! tier does when the server is flushed, set back, frozen, demoted or full.
//!
//! Every test starts a server of its own; `dev/stack up redis` installs Redis.

mod shared {
    mod audit;
    pub(crate) mod fixture;
    mod loads;
    mod model;
}

use anyhow::{Result, ensure};
use dimsvc::{
    dimension::TableRows,
    shared::{SharedError, SharedTier},
    state::SharedState,
    writer::{AfterStore as _, SharedUpdate},
};
use shared::fixture::{DEADLINE, Fixture, TABLE, hit, key, newest, row, version};
use std::sync::Arc;
use tidemark_heart::shared::SharedRead;
use tidemark_tests::eventually;

#[tokio::test]
async fn one_load_of_a_key_fills_it_for_all() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (first, second) = (fixture.session().await?, fixture.session().await?);
    let keys = [key(1), key(2)];

    assert_eq!(first.read_or_lease(TABLE, &keys, 1).await?, [SharedRead::Leased, SharedRead::Leased]);
    assert_eq!(second.read_or_lease(TABLE, &keys, 2).await?, [SharedRead::Busy, SharedRead::Busy]);
    assert_eq!(second.fill(TABLE, &[newest(1, 10)], 2).await?, 0);
    assert_eq!(first.fill(TABLE, &[newest(1, 10), (key(2), None)], 1).await?, 2);

    assert_eq!(second.read_or_lease(TABLE, &keys, 2).await?, [hit(10), SharedRead::Absent]);
    assert_eq!(second.peek(TABLE, &[key(2), key(3)]).await?, [Some(SharedRead::Absent), None]);
    second.drop_keys(TABLE, &keys).await?;
    assert_eq!(second.peek(TABLE, &keys).await?, [None, None]);
    Ok(())
}

#[tokio::test]
async fn a_batch_of_many_scripts_is_answered_in_order() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    let keys: Vec<_> = (0..5_000).map(key).collect();
    let rows: Vec<_> = (0..5_000).map(|id| newest(id, u64::from(id) + 1)).collect();

    session.read_or_lease(TABLE, &keys, 1).await?;
    assert_eq!(session.fill(TABLE, &rows, 1).await?, rows.len());

    let expect: Vec<_> = (0..5_000).map(|id| hit(id + 1)).collect();
    assert_eq!(session.read_or_lease(TABLE, &keys, 2).await?, expect);
    Ok(())
}

/// Remove the `DEL` of a lease from `update.lua` to see it fail.
#[tokio::test]
async fn an_update_voids_the_lease() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;

    session.read_or_lease(TABLE, &[key(1)], 1).await?;
    session.update(TABLE, &[row(1, 20)]).await?;

    assert_eq!(session.fill(TABLE, &[newest(1, 10)], 1).await?, 0, "an older row was filled");
    assert_eq!(session.read_or_lease(TABLE, &[key(1)], 2).await?, [SharedRead::Leased]);
    Ok(())
}

/// Let `update.lua` set what is not held to see it fail.
#[tokio::test]
async fn an_update_makes_no_key() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.session().await?.update(TABLE, &[row(1, 20)]).await?;
    assert_eq!(fixture.redis.keys()?, 0);
    Ok(())
}

/// Make `is_older` of `update.lua` answer true, or compare
/// `struct.unpack('>I8', held, 2)` with the same of `value`, to see it fail.
#[tokio::test]
async fn versions_compare_as_numbers_of_64_bits() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    session.read_or_lease(TABLE, &[key(1)], 1).await?;
    session.fill(TABLE, &[(key(1), None)], 1).await?;
    // Bytes from 0x80 on, zeros, and versions that differ beyond 53 bits.
    let rising = [1, 0x7f, 0x80, 0xff, 0x100, 0x7fff_ffff, 0x8000_0000, 0xffff_ff00, 0xffff_ffff];
    for (older, newer) in rising.into_iter().zip(rising.into_iter().skip(1)) {
        session.update(TABLE, &[row(1, newer)]).await?;
        session.update(TABLE, &[row(1, older)]).await?;
        assert_eq!(session.read_or_lease(TABLE, &[key(1)], 2).await?, [hit(newer)], "{newer:#x}");
    }
    Ok(())
}

/// Remove the comparison with `ARGV[1]` from `fill.lua` to see it fail.
#[tokio::test]
async fn a_lease_that_was_evicted_fills_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;

    session.read_or_lease(TABLE, &[key(1), key(2)], 1).await?;
    fixture.redis.flush()?;
    session.read_or_lease(TABLE, &[key(1)], 2).await?;

    assert_eq!(session.fill(TABLE, &[newest(1, 10), newest(2, 10)], 1).await?, 0);
    Ok(())
}

#[tokio::test]
async fn leases_and_rows_expire() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    let life = || -> Result<u64> {
        let key = fixture.redis.execute(&["KEYS", "*"])?;
        Ok(fixture.redis.execute(&["PTTL", &key])?.parse()?)
    };

    session.read_or_lease(TABLE, &[key(1)], 1).await?;
    assert!((1..=fixture.config.lease_ms).contains(&life()?));
    session.fill(TABLE, &[newest(1, 10)], 1).await?;
    let ttl_ms = fixture.config.ttl_seconds * 1_000;
    assert!((ttl_ms / 2..=ttl_ms).contains(&life()?));
    Ok(())
}

#[tokio::test]
async fn rows_too_great_for_a_batch_stay_out() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    let great = Some(vec![b' '; 1 << 20].into());
    let keys = [key(1), key(2)];

    session.read_or_lease(TABLE, &keys, 1).await?;
    let rows = [newest(1, 10), (key(2), Some((version(10), great.clone())))];
    assert_eq!(session.fill(TABLE, &rows, 1).await?, 1);
    session.update(TABLE, &[tidemark_heart::VersionedRow { image: great, ..row(1, 20) }]).await?;

    assert_eq!(session.peek(TABLE, &[key(1)]).await?, [None], "the older row looks like the newest");
    Ok(())
}

#[tokio::test]
async fn after_a_flush_everything_is_a_miss() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    session.read_or_lease(TABLE, &[key(1)], 1).await?;
    session.fill(TABLE, &[newest(1, 10)], 1).await?;

    fixture.redis.flush()?;

    assert_eq!(fixture.session().await?.read_or_lease(TABLE, &[key(1)], 2).await?, [SharedRead::Leased]);
    Ok(())
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    fixture.redis.execute(&["SCRIPT", "FLUSH"])?;
    assert_eq!(session.read_or_lease(TABLE, &[key(1)], 1).await?, [SharedRead::Leased]);
    Ok(())
}

/// Remove the comparison of run ids from `SharedTier::standing` to see it fail.
#[tokio::test]
async fn a_restart_from_an_old_dump_is_used_only_under_a_new_generation() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    session.read_or_lease(TABLE, &[key(1)], 1).await?;
    session.fill(TABLE, &[newest(1, 10)], 1).await?;
    fixture.redis.save()?;
    session.update(TABLE, &[row(1, 20)]).await?;
    let before = fixture.published();

    fixture.redis.restart_from_save().await?;
    let after = fixture.other_run(&before.run_id).await?;

    assert!(fixture.tier.usable().is_none(), "the past would look alive");
    assert_eq!(
        fixture.tier.update(&[]).await,
        SharedUpdate::Taken { generation: before.generation, run_id: after.clone() }
    );
    fixture.tier.publish(&SharedState { generation: before.generation + 1, run_id: after });
    let reads = fixture.session().await?.read_or_lease(TABLE, &[key(1)], 1).await?;
    assert_eq!(reads, [SharedRead::Leased]);
    Ok(())
}

/// Take the time limit out of `Link::call`, or let `Inner::lose` keep a link when
/// the breaker opens, to see it fail.
#[tokio::test]
async fn a_frozen_server_is_waited_for_a_few_times_and_then_left_alone() -> Result<()> {
    let mut fixture = Fixture::start_with(|config| config.timeout_ms = 100).await?;
    fixture.session().await?;
    fixture.redis.freeze()?;

    let mut waits = 0;
    while let Some(session) = fixture.tier.usable() {
        assert!(waits < 3, "{waits} calls waited");
        let keys = [key(1)];
        let late = tokio::time::timeout(DEADLINE, session.read_or_lease(TABLE, &keys, 1)).await?;
        assert!(matches!(late, Err(SharedError::Late(_))), "{late:?}");
        waits += 1;
    }
    assert!(waits > 0, "no call waited");
    assert_eq!(fixture.metrics.breaker_open.get(), 1);
    assert!(fixture.tier.status().reason.contains("did not answer"), "{:?}", fixture.tier.status());
    let lost = [TableRows { table: Arc::from(TABLE), rows: vec![row(1, 20)] }];
    assert_eq!(fixture.tier.update(&lost).await, SharedUpdate::Failed);

    fixture.redis.thaw()?;
    eventually("the server answers again", DEADLINE, async || {
        let session = fixture.session().await?;
        ensure!(session.read_or_lease(TABLE, &[key(1)], 1).await?.len() == 1);
        ensure!(fixture.metrics.breaker_open.get() == 0);
        Ok(())
    })
    .await
}

/// Let `Inner::lose` keep the link of a server that does not answer any more to
/// see it fail.
#[tokio::test]
async fn a_server_that_is_gone_is_skipped_and_found_again() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    let before = fixture.published().run_id;

    fixture.redis.kill()?;
    let failed = session.read_or_lease(TABLE, &[key(1)], 1).await;

    assert!(failed.is_err(), "{failed:?}");
    eventually("the link is given up", DEADLINE, async || {
        ensure!(fixture.tier.usable().is_none());
        Ok(())
    })
    .await?;
    fixture.redis.restart_empty().await?;
    fixture.other_run(&before).await?;
    Ok(())
}

/// Remove the last `DEL` of `read_or_lease.lua` to see it fail.
#[tokio::test]
async fn a_server_that_was_made_a_replica_is_not_believed() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    session.read_or_lease(TABLE, &[key(1)], 1).await?;
    session.fill(TABLE, &[newest(1, 10)], 1).await?;

    fixture.demote()?;
    let read = session.read_or_lease(TABLE, &[key(1)], 2).await;

    assert!(read.is_err(), "{read:?}");
    eventually("the replica is refused", DEADLINE, async || {
        let status = fixture.tier.status();
        ensure!(!status.in_use && status.reason.contains("replica"), "{status:?}");
        Ok(())
    })
    .await
}

/// Remove the last `DEL` of `update.lua` to see it fail.
#[tokio::test]
async fn a_server_that_was_made_a_replica_takes_no_update() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.session().await?;

    fixture.demote()?;

    let rows = [TableRows { table: Arc::from(TABLE), rows: vec![row(1, 20)] }];
    assert_eq!(fixture.tier.update(&rows).await, SharedUpdate::Failed);
    Ok(())
}

/// Call `SET` without `pcall` in the scripts, or leave out the `DEL` after it in
/// `update.lua`, to see it fail.
#[tokio::test]
async fn a_full_server_keeps_no_older_row() -> Result<()> {
    let fixture = Fixture::start().await?;
    let session = fixture.session().await?;
    session.read_or_lease(TABLE, &[key(1), key(2)], 1).await?;
    session.fill(TABLE, &[newest(1, 10)], 1).await?;

    fixture.redis.execute(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
    fixture.redis.execute(&["CONFIG", "SET", "maxmemory", "1"])?;

    assert_eq!(session.fill(TABLE, &[newest(2, 10)], 1).await?, 0);
    let reads = session.read_or_lease(TABLE, &[key(1), key(3)], 3).await?;
    assert_eq!(reads, [hit(10), SharedRead::Busy]);
    session.update(TABLE, &[row(1, 20)]).await?;
    assert_eq!(session.peek(TABLE, &[key(1)]).await?, [None]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_used_before_it_is_published() -> Result<()> {
    let fixture = Fixture::connected().await?;
    assert!(fixture.tier.usable().is_none());
    let rows = [TableRows { table: Arc::from(TABLE), rows: vec![row(1, 20)] }];
    let run_id = fixture.tier.status().run_id;
    fixture.tier.publish(&SharedState::default());
    assert_eq!(fixture.tier.update(&rows).await, SharedUpdate::Taken { generation: 0, run_id });
    let unset = SharedTier::try_new(&Default::default(), "store", fixture.metrics.clone())?;
    assert_eq!(unset.update(&rows).await, SharedUpdate::Failed, "others may read the tier");
    assert_eq!(unset.update(&[]).await, SharedUpdate::Unused);
    Ok(())
}
