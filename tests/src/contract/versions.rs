//! All versions of a key, and removing old ones.

use super::{ROWS, expect_versions, key, row, stored, write};
use anyhow::{Result, ensure};
use dimsvc::{
    dimension::Key,
    store::{PruneKey, Store, StoredRow},
};
use tidemark_proto::Position;

fn expect_all(store: &dyn Store, key: &Key, expect: &[(u64, Option<&str>)]) -> Result<()> {
    let found = store.versions(ROWS, key, 100)?;
    let expect: Vec<StoredRow> =
        expect.iter().filter_map(|(version, text)| stored(*version, *text)).collect();
    ensure!(found == expect, "{key:?} holds {found:?}, not {expect:?}");
    Ok(())
}

fn prune(store: &dyn Store, keys: &[(&Key, u64)]) -> Result<()> {
    let prune = |(key, through): &(&Key, u64)| PruneKey {
        key: Key::clone(key),
        through: Position::from_packed(*through),
    };
    Ok(store.prune(ROWS, &keys.iter().map(prune).collect::<Vec<_>>())?)
}

pub(super) fn versions_are_all_there_newest_first(store: &dyn Store) -> Result<()> {
    let (mine, other) = (key("versions", 1), key("versions", 11));
    let greatest = Position::MAX.before().packed();
    let mut expect =
        vec![(greatest, Some("{\"v\":9}")), (20, None), (10, Some("{\"v\":1}")), (0, Some("{}"))];
    write(store, ROWS, expect.iter().map(|(version, text)| row(&mine, *version, *text)))?;
    write(store, ROWS, [row(&other, 15, Some("{\"other\":1}"))])?;

    expect_all(store, &mine, &expect)?;
    expect_all(store, &key("versions", 2), &[])?;

    expect.truncate(2);
    let newest = store.versions(ROWS, &mine, 2)?;
    let versions: Vec<_> = newest.iter().map(|row| row.version.packed()).collect();
    ensure!(versions == [greatest, 20], "the newest two are {versions:?}");
    Ok(())
}

pub(super) fn pruned_versions_are_gone_and_later_ones_stay(store: &dyn Store) -> Result<()> {
    let (mine, other) = (key("pruned", 1), key("pruned", 11));
    let all = [(40, Some("{\"v\":4}")), (30, None), (20, Some("{\"v\":2}")), (10, Some("{\"v\":1}"))];
    for key in [&mine, &other] {
        write(store, ROWS, all.iter().map(|(version, text)| row(key, *version, *text)))?;
    }

    prune(store, &[(&mine, 29)])?;

    let [newest, tombstone, older, _] = all;
    expect_all(store, &mine, &[newest, tombstone])?;
    expect_all(store, &other, &all)?;
    let v4 = stored(40, Some("{\"v\":4}"));
    expect_versions(store, &mine, &[(21, None), (30, None), (31, stored(30, None)), (41, v4)])?;
    prune(store, &[(&mine, 30), (&other, 10), (&key("pruned", 404), 99)])?;
    expect_all(store, &mine, &[newest])?;
    expect_all(store, &other, &[newest, tombstone, older])
}

/// A marker that hides versions must not hide those written later above it.
pub(super) fn a_key_that_was_pruned_away_takes_later_versions(store: &dyn Store) -> Result<()> {
    let key = key("pruned_away", 1);
    write(store, ROWS, [row(&key, 10, Some("{}")), row(&key, 20, None)])?;
    prune(store, &[(&key, 20)])?;
    prune(store, &[(&key, 20)])?;
    expect_all(store, &key, &[])?;
    expect_versions(store, &key, &[(21, None), (Position::MAX.packed(), None)])?;

    write(store, ROWS, [row(&key, 30, Some("{\"back\":1}"))])?;
    write(store, ROWS, [row(&key, 21, Some("{\"between\":1}"))])?;

    expect_all(store, &key, &[(30, Some("{\"back\":1}")), (21, Some("{\"between\":1}"))])
}

/// Far more keys than one call carries, with many positions and with one.
pub(super) fn many_keys_are_pruned_at_once(store: &dyn Store) -> Result<()> {
    let keys: Vec<_> = (0..1_200).map(|n| key("pruned_many", n)).collect();
    write(store, ROWS, keys.iter().map(|key| row(key, 10, Some("{}"))))?;
    write(store, ROWS, keys.iter().map(|key| row(key, 2_000, Some("{\"kept\":1}"))))?;

    let through = |n: usize| if n < 1_100 { 500 } else { 500 + n as u64 };
    prune(store, &keys.iter().enumerate().map(|(n, key)| (key, through(n))).collect::<Vec<_>>())?;
    prune(store, &[])?;

    for key in keys.iter().step_by(50) {
        expect_all(store, key, &[(2_000, Some("{\"kept\":1}"))])?;
    }
    Ok(())
}
