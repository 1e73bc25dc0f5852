//! What the heart asks of a resident tier, of the real ones: `full`, and `lru`
//! in moka.

use super::*;

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn row(version: u64) -> Row {
    Row::new(b"[1]", at(version), Some(b"{}"))
}

fn full() -> ResidentTier {
    ResidentTier::new(TierKind::Full, at(1))
}

fn lru(bytes_max: u64) -> ResidentTier {
    ResidentTier::new(TierKind::Lru { bytes_max, time_to_live: None }, at(1))
}

/// One with a row of version 20.
fn holding_20(tier: ResidentTier) -> ResidentTier {
    tier.install(&row(20));
    assert_eq!(held(&tier), Some(at(20)));
    tier
}

fn both() -> [ResidentTier; 2] {
    [full(), lru(1 << 20)].map(holding_20)
}

/// The version that is resident.
fn held(tier: &ResidentTier) -> Option<Position> {
    tier.get(b"[1]").map(|row| row.version())
}

/// Fails without `supersedes` in a tier's `install`.
#[test]
fn a_load_replaces_no_newer_row() {
    for tier in both() {
        tier.install(&row(10));
        assert_eq!(held(&tier), Some(at(20)), "{:?}", tier.tier());
        tier.install(&row(30));
        assert_eq!(held(&tier), Some(at(30)), "{:?}", tier.tier());
    }
}

/// Fails without `supersedes` in a tier's `replace`: a repair tells of before.
#[test]
fn a_change_replaces_no_newer_row() {
    for tier in both() {
        tier.replace(&row(10));
        assert_eq!(held(&tier), Some(at(20)), "{:?}", tier.tier());
        tier.replace(&row(30));
        assert_eq!(held(&tier), Some(at(30)), "{:?}", tier.tier());
    }
}

/// Fails with `supersedes` in a tier's `force`.
#[test]
fn a_forced_row_takes_the_place_of_any() {
    for tier in both() {
        tier.force(&row(10));
        assert_eq!(held(&tier), Some(at(10)), "{:?}", tier.tier());
    }
}

/// Fails without `contains_key` in the `lru` tier's `replace`.
#[test]
fn a_change_adds_a_row_only_where_all_are_resident() {
    let (full, lru) = (full(), lru(1 << 20));
    for tier in [&full, &lru] {
        tier.replace(&row(20));
    }
    assert_eq!((held(&full), held(&lru)), (Some(at(20)), None));
}

/// Fails when the `lru` tier's `remove` does nothing, or the `full` one's does
/// what its name says.
#[test]
fn a_removed_row_is_gone_where_it_is_loaded_again() {
    let [full, lru] = both();
    for tier in [&full, &lru] {
        tier.remove(b"[1]");
    }
    assert_eq!((held(&full), held(&lru)), (Some(at(20)), None));
    lru.install(&row(10));
    assert_eq!(held(&lru), Some(at(10)), "what is gone is in nobody's way");
}

/// Fails when the `lru` tier's `clear` does nothing, or the `full` one goes on
/// without a position.
#[test]
fn a_cleared_tier_loads_again_or_keeps_all() {
    let [full, lru] = both();
    for tier in [&full, &lru] {
        tier.clear(None);
    }
    assert_eq!((held(&full), held(&lru)), (Some(at(20)), None));
    lru.install(&row(10));
    assert_eq!(held(&lru), Some(at(10)), "what is gone is in nobody's way");
}

/// Fails when the `lru` tier's `clear` looks for no position, or the `full`
/// one's does not sweep.
#[test]
fn a_truncation_empties_every_tier() {
    for tier in both() {
        tier.clear(Some(at(30)));
        assert_eq!(held(&tier), None, "{:?}", tier.tier());
    }
}

/// Fails when `put` of the `lru` tier passes rows without an image over, or
/// `weigh` finds that they weigh nothing.
#[test]
fn absences_are_entries_within_the_bound() {
    const BYTES_MAX: u64 = 64 << 10;
    let tier = lru(BYTES_MAX);
    let lru = tier.lru().unwrap();
    tier.install(&Row::absent(b"[1]", at(9)));
    assert!(tier.get(b"[1]").is_some_and(|row| row.image().is_none()));
    lru.clean();
    assert_eq!(tier.rows(), 1);
    for id in 0..10_000 {
        tier.install(&Row::absent(format!("[{id}]").as_bytes(), at(9)));
    }
    lru.clean();
    assert!((1..=BYTES_MAX).contains(&tier.bytes()), "{} bytes", tier.bytes());
    assert!((1..1_000).contains(&tier.rows()), "{} rows", tier.rows());
}
