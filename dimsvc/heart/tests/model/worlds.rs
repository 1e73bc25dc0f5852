//! Random worlds: each has all threads of a deployment around one kind of tier.

use crate::{outside::TierKind, schedules, world::Cast};

const CAST: Cast = Cast {
    tiers: &[TierKind::Evicting, TierKind::Evicting],
    keys: 2,
    events: 4,
    replicas: 2,
    readers: 1,
    late: false,
    has_shared: true,
    mishaps: 6,
};

/// Rules 1 to 4, 8 and 9.
#[test]
fn rows_that_are_evicted_are_never_stale() {
    schedules::random(|| CAST.play());
}

/// One table more often meets itself.
#[test]
fn one_hot_key_is_never_stale() {
    schedules::random(|| Cast { tiers: &[TierKind::Evicting], keys: 1, mishaps: 10, ..CAST }.play());
}

/// Every line of the shared tier's protocol: nothing is resident, so that each
/// read that memory cannot answer asks the tier.
#[test]
fn rows_of_the_shared_tier_are_never_stale() {
    schedules::random(|| {
        Cast { tiers: &[TierKind::None], keys: 1, events: 5, readers: 2, ..CAST }.play();
    });
}

/// Rule 5: a missing row is an absent row only after the last delete.
#[test]
fn full_tables_are_never_stale() {
    schedules::random(|| {
        let tiers = &[TierKind::Full, TierKind::Full];
        Cast { tiers, has_shared: false, readers: 2, replicas: 1, ..CAST }.play();
    });
}

/// A process that starts from the store while all others go on.
#[test]
fn a_late_replica_is_never_stale() {
    schedules::random(|| {
        let tiers = &[TierKind::Full, TierKind::Evicting];
        Cast { tiers, late: true, replicas: 1, mishaps: 3, ..CAST }.play();
    });
}

/// Rule 4: tables of every kind in one batch.
#[test]
fn batches_over_tables_of_every_kind_are_whole() {
    schedules::random(|| {
        let tiers = &[TierKind::Full, TierKind::Evicting, TierKind::None];
        Cast { tiers, keys: 1, ..CAST }.play();
    });
}
