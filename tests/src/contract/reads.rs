//! Versions written and read.

use super::{OTHER, ROWS, expect_versions, key, read, row, stored, write};
use anyhow::{Result, ensure};
use dimsvc::{
    dimension::TableRows,
    store::{Store, StoredRow},
};
use tidemark_proto::Position;

pub(super) fn the_greatest_version_below_a_position_is_read(store: &dyn Store) -> Result<()> {
    let key = key("below", 1);
    let greatest = Position::MAX.before().packed();
    let versions = [(0, "{\"v\":0}"), (10, "{\"v\":10}"), (20, "{\"v\":20}"), (greatest, "{\"v\":9}")];
    for (version, text) in versions {
        write(store, ROWS, [row(&key, version, Some(text))])?;
    }
    let [v0, v10, v20, v9] = versions.map(|(version, text)| stored(version, Some(text)));
    let expect = [
        (0, None),
        (1, v0.clone()),
        (10, v0),
        (11, v10.clone()),
        (20, v10),
        (21, v20.clone()),
        (greatest, v20),
        (Position::MAX.packed(), v9),
    ];
    expect_versions(store, &key, &expect)
}

pub(super) fn a_tombstone_is_a_version(store: &dyn Store) -> Result<()> {
    let (deleted, never_was) = (key("tombstone", 1), key("tombstone", 2));
    write(store, ROWS, [row(&deleted, 10, Some("{}"))])?;
    write(store, ROWS, [row(&deleted, 20, None), row(&never_was, 20, None)])?;
    write(store, ROWS, [row(&deleted, 30, Some("{\"back\":1}"))])?;
    let (tombstone, back) = (stored(20, None), stored(30, Some("{\"back\":1}")));
    expect_versions(store, &deleted, &[(20, stored(10, Some("{}"))), (21, tombstone.clone()), (31, back)])?;
    expect_versions(store, &never_was, &[(20, None), (99, tombstone)])
}

pub(super) fn an_older_version_may_come_after_a_newer(store: &dyn Store) -> Result<()> {
    let key = key("older", 1);
    for version in [30, 10, 20] {
        write(store, ROWS, [row(&key, version, Some(&version.to_string()))])?;
    }
    let expect = [30, 20, 10].map(|version| (version + 1, stored(version, Some(&version.to_string()))));
    expect_versions(store, &key, &expect)
}

pub(super) fn a_version_may_be_written_again(store: &dyn Store) -> Result<()> {
    let key = key("again", 1);
    for image in [Some("{\"a\":1}"), Some("{\"a\":1}"), None, Some("{\"a\":2}")] {
        write(store, ROWS, [row(&key, 10, Some("{\"before\":1}")), row(&key, 20, image)])?;
        expect_versions(store, &key, &[(20, stored(10, Some("{\"before\":1}"))), (21, stored(20, image))])?;
    }
    Ok(())
}

pub(super) fn of_a_version_twice_in_a_batch_the_last_stands(store: &dyn Store) -> Result<()> {
    let (first, second) = (key("twice", 1), key("twice", 2));
    let rows = |key| [row(key, 10, Some("{\"a\":1}")), row(key, 10, None), row(key, 10, Some("{\"a\":2}"))];
    let one_list = TableRows { table: ROWS.into(), rows: rows(&first).into() };
    let lists = rows(&second).map(|row| TableRows { table: ROWS.into(), rows: vec![row] });
    store.write(&[vec![one_list], lists.into()].concat())?;
    for key in [first, second] {
        expect_versions(store, &key, &[(10, None), (11, stored(10, Some("{\"a\":2}")))])?;
    }
    Ok(())
}

pub(super) fn missing_and_duplicate_keys_are_answered_in_place(store: &dyn Store) -> Result<()> {
    let text = |n: usize| format!("{{\"n\":{n}}}");
    let there = (0..900).filter(|n| n % 3 != 0);
    write(store, ROWS, there.map(|n| row(&key("many", n), 10, Some(&text(n)))))?;

    let asked: Vec<usize> = (0..900).rev().chain([5, 5, 6, 6, 5]).collect();
    let reads: Vec<_> = asked.iter().map(|n| read(key("many", *n), 11)).collect();
    let answers = store.read(ROWS, &reads)?;

    ensure!(answers.len() == asked.len(), "{} answers to {} keys", answers.len(), asked.len());
    for (n, answer) in asked.into_iter().zip(answers) {
        let expect = if n % 3 == 0 { None } else { stored(10, Some(&text(n))) };
        ensure!(answer == expect, "key {n} is {answer:?}, not {expect:?}");
    }
    ensure!(store.read(ROWS, &[])?.is_empty(), "no key has an answer");
    Ok(())
}

/// One hot key and many others, each at other positions, so that no position
/// answers more than a few.
pub(super) fn each_key_is_read_as_of_its_own_position(store: &dyn Store) -> Result<()> {
    let version = |n: u64, change: u64| n * 3 + change * 100 + 10;
    let text = |change: u64| format!("{{\"change\":{change}}}");
    let key = |n: u64| key("own", n as usize);
    for change in 0..4 {
        write(store, ROWS, (0..150).map(|n| row(&key(n), version(n, change), Some(&text(change)))))?;
    }
    let mut asked: Vec<(u64, u64)> = (0..400).map(|before| (7, before)).collect();
    for n in 0..150 {
        asked.extend((0..4).map(|change| (n, version(n, change) + n % 2)));
    }
    asked.push((7, Position::MAX.packed()));
    let reads: Vec<_> = asked.iter().map(|(n, before)| read(key(*n), *before)).collect();

    let answers = store.read(ROWS, &reads)?;

    ensure!(answers.len() == asked.len(), "{} answers to {} keys", answers.len(), asked.len());
    for ((n, before), answer) in asked.into_iter().zip(answers) {
        let newest = (0..4).rev().find(|change| version(n, *change) < before);
        let expect = newest.and_then(|change| stored(version(n, change), Some(&text(change))));
        ensure!(answer == expect, "key {n} below {before} is {answer:?}, not {expect:?}");
    }
    Ok(())
}

pub(super) fn a_batch_may_span_tables_and_versions(store: &dyn Store) -> Result<()> {
    let key = key("tables", 1);
    let rows = |text| vec![row(&key, 10, Some(text)), row(&key, 20, None)];
    store.write(&[
        TableRows { table: ROWS.into(), rows: rows("{\"in\":\"rows\"}") },
        TableRows { table: OTHER.into(), rows: rows("{\"in\":\"other\"}") },
    ])?;
    for (table, text) in [(ROWS, "{\"in\":\"rows\"}"), (OTHER, "{\"in\":\"other\"}")] {
        let answers = store.read(table, &[read(key.clone(), 11), read(key.clone(), 21)])?;
        let expect: [Option<StoredRow>; 2] = [stored(10, Some(text)), stored(20, None)];
        ensure!(answers == expect, "{table} holds {answers:?}");
    }
    store.write(&[])?;
    Ok(())
}

pub(super) fn a_table_may_be_made_again(store: &dyn Store) -> Result<()> {
    let key = key("made", 1);
    write(store, ROWS, [row(&key, 10, Some("{}"))])?;
    store.create_table(ROWS)?;
    expect_versions(store, &key, &[(11, stored(10, Some("{}")))])
}
