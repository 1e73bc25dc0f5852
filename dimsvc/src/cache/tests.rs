//! The promises of the heart, one a test. Each names the line that keeps it.

use super::*;
use bytes::Bytes;

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn key(id: u32) -> Key {
    Key::from_canonical(format!("[{id}]"))
}

fn row(text: &'static str) -> Image {
    Some(Bytes::from_static(text.as_bytes()))
}

fn change(id: u32, after: Image) -> Change {
    Change { key: key(id), before: None, after }
}

fn lru() -> DimensionCache {
    DimensionCache::new(TierKind::Lru { bytes_max: 1 << 20, time_to_live: None }, at(10))
}

fn full() -> DimensionCache {
    let cache = DimensionCache::new(TierKind::Full, at(10));
    assert!(cache.begin_fill());
    cache.end_fill();
    cache
}

fn hit(peek: Peek) -> Answer {
    match peek {
        Peek::Hit(found) => found.answer,
        other => panic!("expected a hit, got {other:?}"),
    }
}

fn load(cache: &DimensionCache, id: u32) -> Load<'_> {
    match cache.begin_load(&key(id)) {
        LoadStart::Read(load) => load,
        LoadStart::Known(found) => panic!("expected a load, memory holds {found:?}"),
    }
}

/// Fails without `heart.loads.hand_over` in `apply`.
#[test]
fn a_load_that_raced_a_change_fills_the_change() {
    let cache = lru();
    let load = load(&cache, 1);
    cache.apply(at(100), &[change(1, row("new"))]);
    cache.forget(at(101));
    let found = load.finish(Some((at(50), row("old"))));
    assert_eq!(found.answer.image, row("new"));
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(101))).image, row("new"));
}

/// Fails without the overlay's check in `begin_load`: the store read may have
/// begun before the writer wrote.
#[test]
fn a_load_begun_after_an_undurable_change_sees_it() {
    let cache = lru();
    cache.apply(at(100), &[change(1, row("new"))]);
    let LoadStart::Known(found) = cache.begin_load(&key(1)) else { panic!("the overlay holds the newest") };
    assert_eq!(found.answer.image, row("new"));
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(101))).image, row("new"));
}

#[test]
fn a_failed_load_is_not_remembered() {
    let cache = lru();
    drop(load(&cache, 1));
    assert!(matches!(cache.peek(key(1).as_bytes(), at(101)), Peek::Miss));
    assert!(cache.heart.lock().loads.handed_over(&key(1)).is_none());
}

/// Fails without the version check of `LruTier::install`.
#[test]
fn the_tier_keeps_the_newer_version() {
    let cache = lru();
    let (first, second) = (load(&cache, 1), load(&cache, 1));
    first.finish(Some((at(60), row("newer"))));
    second.finish(Some((at(50), row("older"))));
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(101))).image, row("newer"));
}

/// Fails when `replace` is left out of `apply`: an insert must end a proven
/// absence.
#[test]
fn an_insert_ends_a_missing_entry() {
    let cache = lru();
    load(&cache, 1).finish(None);
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(20))).image, None);
    cache.apply(at(100), &[change(1, row("born"))]);
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(101))).image, row("born"));
    let before = cache.older(&key(1), at(100)).expect("the absence was kept").answer;
    assert_eq!((before.image, before.to), (None, Some(at(100))));
}

/// Fails when `answers` compares with `<=`: a version is visible to positions
/// after its begin only.
#[test]
fn a_version_is_not_visible_at_its_own_begin() {
    let cache = full();
    cache.apply(at(100), &[change(1, row("a"))]);
    assert!(matches!(cache.peek(key(1).as_bytes(), at(100)), Peek::Older));
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(101))).image, row("a"));
}

#[test]
fn older_positions_read_the_version_that_was_replaced() {
    let cache = full();
    cache.apply(at(100), &[change(1, row("a"))]);
    cache.forget(at(150));
    cache.apply(at(200), &[change(1, row("b"))]);
    let older = cache.older(&key(1), at(150)).expect("kept until its successor is durable").answer;
    assert_eq!((older.image, older.from, older.to), (row("a"), at(100), Some(at(200))));
    cache.forget(at(250));
    assert!(cache.older(&key(1), at(150)).is_none(), "durable: the store answers");
    assert_eq!(cache.overlay_versions(), 0);
}

/// Fails without `last_delete`: a delete would prove absence for the past.
#[test]
fn a_full_tier_proves_absence_only_after_the_last_delete() {
    let cache = full();
    cache.apply(at(100), &[change(1, row("a"))]);
    cache.apply(at(200), &[change(1, None)]);
    assert!(matches!(cache.peek(key(1).as_bytes(), at(150)), Peek::Older));
    assert!(matches!(cache.peek(key(2).as_bytes(), at(150)), Peek::Older));
    let absent = hit(cache.peek(key(1).as_bytes(), at(201)));
    assert_eq!((absent.image, absent.from), (None, at(200)));
}

/// Fails when tombstones are dropped while a scan fills the tier.
#[test]
fn a_scan_does_not_bring_back_what_was_deleted_meanwhile() {
    let cache = DimensionCache::new(TierKind::Full, at(10));
    cache.begin_fill();
    cache.apply(at(200), &[change(1, None), change(2, row("new"))]);
    cache.fill([(key(1), at(50), row("old")), (key(2), at(50), row("old"))].into_iter());
    cache.end_fill();
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(201))).image, None);
    assert_eq!(hit(cache.peek(key(2).as_bytes(), at(201))).image, row("new"));
    assert_eq!(cache.resident_rows(), 1);
}

#[test]
fn a_fill_begins_with_what_is_not_durable() {
    let cache = DimensionCache::new(TierKind::Full, at(10));
    cache.apply(at(100), &[change(1, row("undurable"))]);
    cache.begin_fill();
    cache.fill([(key(1), at(50), row("old"))].into_iter());
    cache.end_fill();
    assert_eq!(hit(cache.peek(key(1).as_bytes(), at(101))).image, row("undurable"));
}

#[test]
fn the_first_change_of_a_key_hands_out_the_image_before_it() {
    let cache = lru();
    cache.track_changes();
    let update = Change { key: key(1), before: row("s"), after: row("a") };
    assert_eq!(cache.apply(at(100), &[update]), vec![(key(1), row("s"))]);
    let again = Change { key: key(1), before: row("a"), after: row("b") };
    assert!(cache.apply(at(200), &[again]).is_empty());
    assert!(cache.has_changed(&key(1)) && !cache.has_changed(&key(2)));
    cache.stop_tracking();
    assert!(cache.apply(at(300), &[change(2, row("x"))]).is_empty());
}

#[test]
fn bytes_of_a_full_tier_return_to_nothing() {
    let cache = full();
    for id in 0..100 {
        cache.apply(at(100 + u64::from(id)), &[change(id, row("abcdef"))]);
    }
    assert!(cache.resident_bytes() > 100 * 6);
    let deletes: Vec<_> = (0..100).map(|id| change(id, None)).collect();
    cache.apply(at(1_000), &deletes);
    assert_eq!((cache.resident_rows(), cache.resident_bytes()), (0, 0));
}
