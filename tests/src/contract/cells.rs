//! Cells of state, set by comparison.

use anyhow::{Context, Result, ensure};
use dimsvc::store::Store;
use std::{sync::Barrier, thread};

const THREADS: usize = 8;
const INCREMENTS: usize = 5;

pub(super) fn a_cell_is_set_only_if_it_is_as_expected(store: &dyn Store) -> Result<()> {
    let expect = |value: Option<&[u8]>| -> Result<()> {
        let loaded = store.load_cell("expected")?;
        ensure!(loaded.as_deref() == value, "the cell is {loaded:?}, not {value:?}");
        Ok(())
    };
    let set = |expect: Option<&[u8]>, value: &[u8]| store.compare_and_set_cell("expected", expect, value);
    let binary = [0, 255, 10, b'"'];
    expect(None)?;
    ensure!(!set(Some(b"1"), b"2")?, "a cell that is not there was set as if it were");
    ensure!(!set(Some(b""), b"2")?, "a cell that is not there was taken for an empty one");
    expect(None)?;
    ensure!(set(None, b"1")?, "a new cell was not set");
    expect(Some(b"1"))?;
    ensure!(!set(None, b"2")?, "a cell was set as if it were new");
    ensure!(!set(Some(b"2"), b"3")?, "a cell with another value was set");
    ensure!(!set(Some(b""), b"3")?, "a cell with a value was set as if it were empty");
    expect(Some(b"1"))?;
    ensure!(set(Some(b"1"), &binary)? && set(Some(&binary), b"1")?, "a cell as expected was not set");
    ensure!(set(Some(b"1"), b"1")?, "a cell was not set to what it is");
    expect(Some(b"1"))?;
    let other = store.load_cell("expected_2")?;
    ensure!(other.is_none(), "another cell is {other:?}");
    Ok(())
}

pub(super) fn of_many_racing_one_wins(store: &dyn Store) -> Result<()> {
    for round in 0..5 {
        let cell = format!("race_{round}");
        let start = Barrier::new(THREADS);
        let winners: Vec<String> = thread::scope(|scope| {
            let racers: Vec<_> = (0..THREADS)
                .map(|racer| {
                    let (cell, start) = (&cell, &start);
                    scope.spawn(move || {
                        let value = format!("racer {racer}");
                        start.wait();
                        let won = store.compare_and_set_cell(cell, None, value.as_bytes());
                        won.map(|won| won.then_some(value))
                    })
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().expect("no racer panics").transpose())
                .collect::<Result<_, _>>()
        })?;
        let loaded = store.load_cell(&cell)?;
        ensure!(winners.len() == 1, "{} winners in round {round}", winners.len());
        ensure!(loaded.as_deref() == winners.first().map(String::as_bytes), "the cell is not the winner's");
    }
    Ok(())
}

pub(super) fn racing_increments_are_all_counted(store: &dyn Store) -> Result<()> {
    thread::scope(|scope| {
        let racers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| increment(store, INCREMENTS))).collect();
        racers.into_iter().try_for_each(|racer| racer.join().expect("no racer panics"))
    })?;
    let count = number(store.load_cell("count")?.as_deref())?;
    ensure!(count == THREADS * INCREMENTS, "{count} of {} increments", THREADS * INCREMENTS);
    Ok(())
}

fn increment(store: &dyn Store, times: usize) -> Result<()> {
    for _ in 0..times {
        loop {
            let old = store.load_cell("count")?;
            let new = number(old.as_deref())? + 1;
            if store.compare_and_set_cell("count", old.as_deref(), new.to_string().as_bytes())? {
                break;
            }
        }
    }
    Ok(())
}

fn number(cell: Option<&[u8]>) -> Result<usize> {
    let text = cell.map_or(Ok("0"), std::str::from_utf8)?;
    text.parse().with_context(|| format!("the cell is `{text}`"))
}
