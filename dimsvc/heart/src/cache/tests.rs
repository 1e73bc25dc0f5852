//! The promises of the heart, one a test. Each names the line that keeps it.

use super::*;
use crate::{AddedColumns, FullTier, supersedes};
use bytes::Bytes;
use std::collections::HashMap;

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

/// A tier that loads again, without a bound.
#[derive(Default)]
struct MapTier(parking_lot::Mutex<HashMap<Vec<u8>, Row>>);

impl Resident for MapTier {
    fn tier(&self) -> Tier {
        Tier::Lru
    }

    fn get(&self, key: &[u8]) -> Option<Row> {
        self.0.lock().get(key).cloned()
    }

    fn absent_after(&self) -> Option<Position> {
        None
    }

    fn install(&self, row: &Row) {
        let mut rows = self.0.lock();
        if rows.get(row.key()).is_none_or(|resident| supersedes(row, resident)) {
            rows.insert(row.key().to_vec(), row.clone());
        }
    }

    fn replace(&self, row: &Row) {
        if self.get(row.key()).is_some() {
            self.install(row);
        }
    }

    fn force(&self, row: &Row) {
        self.0.lock().insert(row.key().to_vec(), row.clone());
    }

    fn remove(&self, key: &[u8]) {
        self.0.lock().remove(key);
    }

    fn clear(&self, _: Option<Position>) {
        self.0.lock().clear();
    }

    fn rows(&self) -> u64 {
        self.0.lock().len() as u64
    }

    fn bytes(&self) -> u64 {
        0
    }
}

type Lru = Arc<DimensionCache<MapTier, ()>>;

fn lru() -> Lru {
    Arc::new(DimensionCache::new(MapTier::default(), Timeline::new(at(10)), Keeps::Versions))
}

fn full() -> Arc<DimensionCache<FullTier, ()>> {
    Arc::new(DimensionCache::new(FullTier::new(at(10)), Timeline::new(at(10)), Keeps::Versions))
}

fn hit(peek: Peek) -> Answer {
    match peek {
        Peek::Hit(found) => found.answer,
        other => panic!("expected a hit, got {other:?}"),
    }
}

fn image(answer: &Answer) -> Option<&str> {
    answer.image().map(|image| std::str::from_utf8(image).unwrap())
}

fn lead<R: Resident>(cache: &Arc<DimensionCache<R, ()>>, id: u32) -> Load<R, ()> {
    match cache.begin_load(&key(id), || ()) {
        LoadStart::Lead(load) => load,
        LoadStart::Joined(()) => panic!("expected to lead, somebody loads it"),
        LoadStart::Known(found) => panic!("expected a load, memory holds {found:?}"),
    }
}

fn stored(version: u64, text: &'static str) -> Loaded {
    Loaded { version: Some((at(version), row(text))), tier: Tier::Store }
}

fn nothing() -> Loaded {
    Loaded { version: None, tier: Tier::Store }
}

/// Fails without `flights.hand_over` in `apply`.
#[test]
fn a_load_that_raced_a_change_fills_the_change() {
    let cache = lru();
    let load = lead(&cache, 1);
    cache.apply(at(100), &[change(1, row("new"))]);
    cache.forget(at(101));
    let found = load.finish(stored(50, "old"));
    assert_eq!(image(&found.answer), Some("new"));
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), Some("new"));
}

/// Fails without the overlay's check in `begin_load`: the store read may have
/// begun before the writer wrote.
#[test]
fn a_load_begun_after_an_undurable_change_sees_it() {
    let cache = lru();
    cache.apply(at(100), &[change(1, row("new"))]);
    let LoadStart::Known(found) = cache.begin_load(&key(1), || ()) else { panic!("the overlay holds it") };
    assert_eq!(image(&found.answer), Some("new"));
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), Some("new"));
}

/// Fails without `flights.join` in `begin_load`.
#[test]
fn who_comes_while_a_key_is_loaded_joins() {
    let cache = lru();
    let load = lead(&cache, 1);
    assert!(matches!(cache.begin_load(&key(1), || ()), LoadStart::Joined(())));
    load.finish(stored(50, "a"));
    assert_eq!(cache.flights(), 0);
}

#[test]
fn a_load_that_is_given_up_is_not_remembered() {
    let cache = lru();
    drop(lead(&cache, 1));
    assert_eq!(cache.flights(), 0);
    assert!(matches!(cache.peek(key(1).as_bytes(), at(101)), Peek::Miss));
}

/// Fails when `Flights::end` does not look at the load's own id: dropping the
/// first, ended load, would end the second, which then hears of no change.
#[test]
fn a_finished_load_leaves_the_next_one_of_its_key_alone() {
    let cache = lru();
    let first = lead(&cache, 1);
    cache.heart.lock().land(&first.key, first.id, nothing());
    let second = lead(&cache, 1);
    drop(first);
    cache.apply(at(100), &[change(1, row("new"))]);
    cache.forget(at(101));
    assert_eq!(image(&second.finish(stored(50, "old")).answer), Some("new"));
}

/// Fails without `supersedes` in the tier's install.
#[test]
fn the_tier_keeps_the_newer_version() {
    let cache = full();
    cache.tier().install(&Row::new(key(1).as_bytes(), at(60), Some(b"newer")));
    cache.tier().install(&Row::new(key(1).as_bytes(), at(50), Some(b"older")));
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), Some("newer"));
}

/// Fails when `replace` is left out of `apply`: an insert must end a proven
/// absence.
#[test]
fn an_insert_ends_a_missing_entry() {
    let cache = lru();
    lead(&cache, 1).finish(nothing());
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(20)))), None);
    cache.apply(at(100), &[change(1, row("born"))]);
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), Some("born"));
}

/// Fails when `peek` compares `row.from() <= at`: a version is visible to
/// positions after its begin only.
#[test]
fn a_version_is_not_visible_at_its_own_begin() {
    let cache = full();
    cache.apply(at(100), &[change(1, row("a"))]);
    assert!(matches!(cache.peek(key(1).as_bytes(), at(100)), Peek::Older));
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), Some("a"));
}

#[test]
fn older_positions_read_the_version_that_was_replaced() {
    let cache = full();
    cache.apply(at(100), &[change(1, row("a"))]);
    cache.forget(at(150));
    cache.apply(at(200), &[change(1, row("b"))]);
    let older = cache.older(key(1).as_bytes(), at(150)).expect("kept until its successor is durable").answer;
    assert_eq!((image(&older), older.from, older.to), (Some("a"), at(100), at(200)));
    cache.forget(at(250));
    assert!(cache.older(key(1).as_bytes(), at(150)).is_none(), "durable: the store answers");
    assert_eq!(cache.overlay_versions(), 0);
}

/// Fails without `absent_after.fetch_max` in the full tier: a delete would prove
/// absence for the past.
#[test]
fn a_full_tier_proves_absence_only_after_the_last_delete() {
    let cache = full();
    cache.apply(at(100), &[change(1, row("a"))]);
    cache.apply(at(200), &[change(1, None)]);
    assert!(matches!(cache.peek(key(1).as_bytes(), at(150)), Peek::Older));
    assert!(matches!(cache.peek(key(2).as_bytes(), at(150)), Peek::Older));
    let absent = hit(cache.peek(key(1).as_bytes(), at(201)));
    assert_eq!((image(&absent), absent.from), (None, at(200)));
}

/// Fails when tombstones are dropped while a scan fills the tier.
#[test]
fn a_scan_does_not_bring_back_what_was_deleted_meanwhile() {
    let cache = full();
    cache.tier().begin_fill();
    cache.apply(at(200), &[change(1, None), change(2, row("new"))]);
    for id in [1, 2] {
        cache.tier().install(&Row::new(key(id).as_bytes(), at(50), Some(b"old")));
    }
    cache.tier().end_fill();
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(201)))), None);
    assert_eq!(image(&hit(cache.peek(key(2).as_bytes(), at(201)))), Some("new"));
    assert_eq!(cache.tier().rows(), 1);
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
    assert!(cache.tier().bytes() > 100 * 6);
    let deletes: Vec<_> = (0..100).map(|id| change(id, None)).collect();
    cache.apply(at(1_000), &deletes);
    assert_eq!((cache.tier().rows(), cache.tier().bytes()), (0, 0));
}

/// Fails without `Timeline::hide`.
#[test]
fn a_truncation_hides_what_was_there_and_nothing_later() {
    for cache in [lru(), lru()] {
        lead(&cache, 1).finish(stored(50, "old"));
        let racing = lead(&cache, 2);
        cache.truncate(at(100));
        cache.apply(at(200), &[change(3, row("new"))]);
        let absent = racing.finish(stored(50, "old")).answer;
        assert_eq!((image(&absent), absent.from), (None, at(100)));
        assert_eq!(image(&lead(&cache, 1).finish(stored(50, "old")).answer), None);
        let LoadStart::Known(found) = cache.begin_load(&key(3), || ()) else { panic!("not durable") };
        assert_eq!(image(&found.answer), Some("new"));
        let before = cache.stored(key(1).as_bytes(), Some((at(50), row("old"))), at(100));
        assert_eq!((image(&before), before.from, before.to), (Some("old"), at(50), at(100)));
    }
}

/// Fails without `timeline.truncate` (what was there has no end), and without
/// both the cut and `fetch_max` in the full tier's `clear` (absence is proven for
/// before; each alone prevents it).
#[test]
fn a_truncated_full_tier_proves_absence_after_the_truncation_only() {
    let cache = full();
    cache.apply(at(50), &[change(1, row("a"))]);
    cache.truncate(at(100));
    assert_eq!(cache.tier().rows(), 0);
    let absent = hit(cache.peek(key(1).as_bytes(), at(101)));
    assert_eq!((image(&absent), absent.from), (None, at(100)));
    assert!(matches!(cache.peek(key(1).as_bytes(), at(99)), Peek::Older));
    let before = cache.older(key(1).as_bytes(), at(99)).expect("not durable").answer;
    assert_eq!((image(&before), before.to), (Some("a"), at(100)));
}

/// Fails without `Timeline::complete`.
#[test]
fn older_rows_read_the_default_of_a_column_that_was_added() {
    let cache = full();
    cache.apply(at(50), &[change(1, row(r#"{"id":1}"#))]);
    cache.add_columns(AddedColumns { at: at(100).packed(), suffix: r#","n":0"#.into() });
    assert!(matches!(cache.peek(key(1).as_bytes(), at(101)), Peek::Older));
    let completed = cache.older(key(1).as_bytes(), at(101)).expect("resident").answer;
    assert_eq!((image(&completed), completed.from), (Some(r#"{"id":1,"n":0}"#), at(100)));
    assert_eq!(completed.version(), at(50));
    let before = cache.older(key(1).as_bytes(), at(100)).expect("not durable").answer;
    assert_eq!((image(&before), before.to), (Some(r#"{"id":1}"#), at(100)));
    cache.forget(at(60));
    cache.older(key(1).as_bytes(), at(101)).expect("resident");
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), Some(r#"{"id":1,"n":0}"#));
}

/// Fails without `holes` in `Timeline::clip`.
#[test]
fn no_interval_spans_what_is_unknown() {
    let cache = lru();
    lead(&cache, 1).finish(stored(50, "a"));
    cache.add_unknown(at(100), at(200));
    assert_eq!(cache.resolve(at(150)), (at(200), true));
    assert_eq!(cache.resolve(at(100)), (at(100), false));
    assert_eq!(cache.resolve(at(201)), (at(201), false));
    let newest = cache.older(key(1).as_bytes(), at(300)).expect("resident").answer;
    assert_eq!((newest.from, newest.to), (at(199), Position::MAX));
    let before = cache.stored(key(1).as_bytes(), Some((at(50), row("a"))), at(100));
    assert_eq!((before.from, before.to), (at(50), at(100)));
}

/// Fails without `hand_over` in `repaired`.
#[test]
fn a_repair_reaches_loads_and_residents_but_not_newer_rows() {
    let cache = lru();
    lead(&cache, 1).finish(stored(50, "wrong"));
    lead(&cache, 2).finish(stored(50, "wrong"));
    let racing = lead(&cache, 3);
    cache.apply(at(300), &[change(2, row("newest"))]);
    let rows = [1, 2, 3].map(|id| (key(id), row("right")));
    cache.repaired(at(200), &rows);
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(301)))), Some("right"));
    assert_eq!(image(&hit(cache.peek(key(2).as_bytes(), at(301)))), Some("newest"));
    assert_eq!(image(&racing.finish(stored(50, "wrong")).answer), Some("right"));
}

/// Fails when `Flight::hand_over` takes whatever comes last: a repair tells of
/// what was before the change.
#[test]
fn a_repair_of_before_does_not_take_a_newer_change_from_a_load() {
    let cache = lru();
    let load = lead(&cache, 1);
    cache.apply(at(300), &[change(1, row("newest"))]);
    cache.repaired(at(200), &[(key(1), row("before"))]);
    cache.forget(at(301));
    assert_eq!(image(&load.finish(stored(50, "old")).answer), Some("newest"));
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(301)))), Some("newest"));
}

/// Fails when `finish_by_force` installs instead of forcing.
#[test]
fn a_key_found_wrong_is_replaced_whatever_is_resident() {
    let cache = full();
    cache.tier().force(&Row::new(key(1).as_bytes(), at(90), Some(b"never was")));
    lead(&cache, 1).finish_by_force(nothing());
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), None);
}

/// Fails when the overlay takes the changes of a dimension without a store.
#[test]
fn a_lazy_dimension_keeps_only_what_is_resident() {
    let cache = Arc::new(DimensionCache::<_, ()>::new(
        MapTier::default(),
        Timeline::new(Position::ZERO.after()),
        Keeps::Nothing,
    ));
    lead(&cache, 1).finish(stored(50, "a"));
    cache.apply(at(100), &[change(1, row("b")), change(2, row("nobody asked"))]);
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(101)))), Some("b"));
    assert!(cache.older(key(1).as_bytes(), at(90)).is_none());
    assert!(matches!(cache.peek(key(2).as_bytes(), at(101)), Peek::Miss));
    assert_eq!(cache.overlay_versions(), 0);
}

#[test]
fn a_prefix_reads_what_is_not_durable_of_its_keys() {
    let cache = full();
    let child = |id: u32| Key::from_canonical(format!("[7,{id}]"));
    let insert = |key: Key| Change { key, before: None, after: row("x") };
    cache.apply(at(100), &[insert(child(1)), insert(child(2)), insert(key(8))]);
    cache.apply(at(200), &[Change { key: child(1), before: row("x"), after: None }]);
    let found = cache.older_by_prefix(b"[7,", at(150));
    assert_eq!(found.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [child(1), child(2)]);
    assert!(found.iter().all(|(_, answer)| image(answer) == Some("x")));
    let found = cache.older_by_prefix(b"[7,", at(250));
    assert_eq!(image(&found[0].1), None);
}

/// Fails without `overlay.repair`: what a change replaced was wrong already.
#[test]
fn a_repair_mends_what_the_overlay_kept_of_before() {
    let cache = full();
    cache.apply(at(50), &[change(1, row("wrong"))]);
    cache.forget(at(60));
    cache.apply(at(300), &[change(1, row("newest"))]);
    cache.repaired(at(199), &[(key(1), row("right"))]);
    let before = cache.older(key(1).as_bytes(), at(250)).expect("kept until the change is durable").answer;
    assert_eq!((image(&before), before.from, before.to), (Some("right"), at(199), at(300)));
    let newest = hit(cache.peek(key(1).as_bytes(), at(301)));
    assert_eq!(image(&newest), Some("newest"));
    cache.forget(at(301));
    assert_eq!(cache.overlay_versions(), 0);
    assert!(cache.older(key(1).as_bytes(), at(250)).is_none());
}

/// Fails when a row of the source is given a version: it has none to tell.
#[test]
fn a_row_of_the_source_is_valid_from_where_it_was_seen() {
    let cache = lru();
    let seen = Loaded { version: Some((at(99), row("a"))), tier: Tier::Source };
    let found = lead(&cache, 1).finish(seen.clone());
    assert_eq!((found.answer.version(), found.answer.from), (Position::ZERO, at(99)));
    assert!(matches!(cache.peek(key(1).as_bytes(), at(99)), Peek::Older));
    let racing = lead(&cache, 2);
    cache.apply(at(120), &[change(2, row("new"))]);
    assert_eq!(image(&racing.finish(seen).answer), Some("new"));
}

/// Fails without `as_of_version` in `apply`: rows at the floor would have
/// columns that came after it.
#[test]
fn images_below_the_floor_have_the_columns_of_the_floor() {
    let cache = lru();
    cache.track_changes();
    cache.add_columns(AddedColumns { at: at(100).packed(), suffix: r#","n":0"#.into() });
    let change = Change { key: key(1), before: row(r#"{"id":1,"n":5}"#), after: row(r#"{"id":1,"n":6}"#) };
    let first = cache.apply(at(200), &[change]);
    assert_eq!(first, [(key(1), row(r#"{"id":1}"#))]);
}

/// Fails without `heart.last` in `takes` (what was passed over while a repair
/// began is missing), without `lost` in `cut` (the newest row answers past the
/// statement) and when `regain` leaves the cut where it was.
#[test]
fn what_is_lost_is_passed_over_until_it_is_followed_again() {
    let cache = full();
    cache.apply(at(50), &[change(1, row("a"))]);
    assert!(cache.takes(at(90)));
    cache.lose(at(100));
    assert!(cache.takes(at(90)) && !cache.takes(at(100)) && !cache.takes(at(150)));
    assert_eq!(cache.lost(), Some(at(100)));
    assert!(matches!(cache.peek(key(1).as_bytes(), at(80)), Peek::Older));
    let before = cache.older(key(1).as_bytes(), at(80)).expect("its past is known").answer;
    assert_eq!((image(&before), before.to), (Some("a"), at(100)));

    assert!(!cache.track_repair(at(150), 1 << 20) && !cache.resume(at(150)), "150 was passed over");
    assert!(cache.track_repair(at(160), 1 << 20) && cache.takes(at(160)));
    cache.apply(at(170), &[change(1, row("b"))]);
    cache.stop_tracking();
    cache.regain(at(160), &Timeline::new(Position::ZERO.after()));
    assert_eq!((cache.lost(), cache.resolve(at(120))), (None, (at(160), true)));
    assert_eq!(image(&hit(cache.peek(key(1).as_bytes(), at(180)))), Some("b"));
}

/// Fails without `flights.invalidate_all` in `invalidate_all`.
#[test]
fn a_load_begun_before_its_key_was_invalidated_leaves_nothing() {
    let cache = lru();
    let before = lead(&cache, 1);
    cache.invalidate_all();
    let after = lead(&cache, 1);
    after.finish(stored(60, "right"));
    cache.invalidate(key(1).as_bytes());
    let racing = lead(&cache, 1);
    cache.apply(at(100), &[change(1, row("new"))]);
    cache.forget(at(101));
    assert_eq!(image(&before.finish(stored(50, "wrong")).answer), Some("new"), "it hears of changes");
    assert!(matches!(cache.peek(key(1).as_bytes(), at(101)), Peek::Miss));
    assert_eq!(image(&racing.finish(stored(60, "right")).answer), Some("new"));
    assert_eq!(cache.flights(), 0);
}

/// Fails when `land` compares with the read's version: the source tells none.
#[test]
fn a_repair_from_before_a_read_of_the_source_does_not_win() {
    let cache = lru();
    let load = lead(&cache, 1);
    cache.repaired(at(99), &[(key(1), row("of the repair"))]);
    let seen = Loaded { version: Some((at(150), row("of the source"))), tier: Tier::Source };
    assert_eq!(image(&load.finish(seen).answer), Some("of the source"));
    let load = lead(&cache, 2);
    cache.repaired(at(199), &[(key(2), row("of the repair"))]);
    let seen = Loaded { version: Some((at(150), row("of the source"))), tier: Tier::Source };
    assert_eq!(image(&load.finish(seen).answer), Some("of the repair"));
}
