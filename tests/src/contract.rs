//! What every store promises, as one suite that runs on any of them.
//!
//! A check is a function with a promise for a name. All of them share a few
//! tables, and each writes keys of its own, so that the suite also runs on a
//! store where a table takes a second to make.

mod cells;
mod images;
mod model;
mod prefixes;
mod reads;
mod refusals;
mod scans;
mod versions;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dimsvc::{
    dimension::{Image, Key, TableRows, VersionedRow},
    store::{ReadKey, Store, StoredRow},
};
use std::{sync::Arc, thread};
use tidemark_proto::Position;

/// Rows of most checks.
const ROWS: &str = "contract_rows";
/// For batches over two tables, with few rows, because each scan of the model
/// check reads all of it; so with the next.
const OTHER: &str = "contract_other";
const MODEL: &str = "contract_model";
/// Scanned from end to end, so only one check may write there.
const SCANNED: &str = "contract_scanned";
const LARGE: &str = "contract_large";
const TABLES: [&str; 5] = [ROWS, OTHER, MODEL, SCANNED, LARGE];

/// Instances that make the same tables at once.
const INSTANCES: usize = 8;

/// How instances of a store live together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// One at a time: another is refused until the first is dropped.
    Exclusive,
    /// Any number at once.
    Shared,
}

type Check = fn(&dyn Store) -> Result<()>;

macro_rules! checks {
    ($($module:ident::$check:ident,)*) => {
        &[$((stringify!($check), $module::$check)),*]
    };
}

const CHECKS: &[(&str, Check)] = checks![
    reads::the_greatest_version_below_a_position_is_read,
    reads::a_tombstone_is_a_version,
    reads::an_older_version_may_come_after_a_newer,
    reads::a_version_may_be_written_again,
    reads::of_a_version_twice_in_a_batch_the_last_stands,
    reads::missing_and_duplicate_keys_are_answered_in_place,
    reads::each_key_is_read_as_of_its_own_position,
    reads::a_batch_may_span_tables_and_versions,
    reads::a_table_may_be_made_again,
    images::every_key_and_image_comes_back_as_written,
    versions::versions_are_all_there_newest_first,
    versions::pruned_versions_are_gone_and_later_ones_stay,
    versions::a_key_that_was_pruned_away_takes_later_versions,
    versions::many_keys_are_pruned_at_once,
    prefixes::a_prefix_gives_what_reads_give_of_its_keys,
    prefixes::each_prefix_has_its_own_page_and_position,
    prefixes::deleted_keys_leave_their_room_to_rows,
    refusals::a_table_never_made_is_an_error_not_absent,
    refusals::what_no_store_can_keep_is_refused,
    scans::a_scan_sees_what_reads_see_at_every_limit,
    scans::a_page_is_bounded_in_bytes,
    cells::a_cell_is_set_only_if_it_is_as_expected,
    cells::of_many_racing_one_wins,
    cells::racing_increments_are_all_counted,
    model::any_calls_agree_with_the_model,
];

/// Runs the whole suite on a fresh, empty place. `open` opens the store there,
/// each time another instance.
///
/// # Panics
/// When a check fails: it tells all that did.
pub fn run(opening: Opening, open: impl Fn() -> Arc<dyn Store> + Sync) {
    let store = open_and_make_tables(opening, &open);
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = check(&*store) {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    if let Err(error) = what_was_written_is_there_after_reopening(store, open) {
        failed.push(format!("what_was_written_is_there_after_reopening: {error:#}"));
    }
    assert!(failed.is_empty(), "{} broken promises:\n{}", failed.len(), failed.join("\n"));
}

/// The first check: all instances make all tables at once.
fn open_and_make_tables(opening: Opening, open: &(impl Fn() -> Arc<dyn Store> + Sync)) -> Arc<dyn Store> {
    let exclusive = (opening == Opening::Exclusive).then(open);
    thread::scope(|scope| {
        for _ in 0..INSTANCES {
            scope.spawn(|| {
                let store = exclusive.clone().unwrap_or_else(open);
                for table in TABLES {
                    store.create_table(table).expect("every instance makes every table");
                    store.read(table, &[read(key("none", 0), 9)]).expect("a table that was made can be read");
                }
            });
        }
    });
    exclusive.unwrap_or_else(open)
}

fn what_was_written_is_there_after_reopening(
    store: Arc<dyn Store>,
    open: impl Fn() -> Arc<dyn Store>,
) -> Result<()> {
    let keys: Vec<_> = (0..100).map(|n| key("reopened", n)).collect();
    write(&*store, ROWS, keys.iter().map(|key| row(key, 5, Some("{\"a\":1}"))))?;
    store.compare_and_set_cell("reopened", None, b"kept")?;
    drop(store);

    let store = open();

    store.create_table(ROWS)?;
    let reads: Vec<_> = keys.iter().map(|key| read(key.clone(), 6)).collect();
    for answer in store.read(ROWS, &reads)? {
        ensure!(answer == stored(5, Some("{\"a\":1}")), "a row is {answer:?}");
    }
    let cell = store.load_cell("reopened")?;
    ensure!(cell.as_deref() == Some(b"kept"), "the cell is {cell:?}");
    Ok(())
}

fn key(check: &str, n: usize) -> Key {
    Key::from_canonical(format!("[\"{check}\",{n}]"))
}

fn at(packed: u64) -> Position {
    Position::from_packed(packed)
}

fn image(text: Option<&str>) -> Image {
    text.map(|text| Bytes::copy_from_slice(text.as_bytes()))
}

fn row(key: &Key, version: u64, text: Option<&str>) -> VersionedRow {
    VersionedRow { key: key.clone(), version: at(version), image: image(text) }
}

fn read(key: Key, before: u64) -> ReadKey {
    ReadKey { key, before: at(before) }
}

fn stored(version: u64, text: Option<&str>) -> Option<StoredRow> {
    Some(StoredRow { version: at(version), image: image(text) })
}

fn write(store: &dyn Store, table: &str, rows: impl IntoIterator<Item = VersionedRow>) -> Result<()> {
    let rows = TableRows { table: Arc::from(table), rows: rows.into_iter().collect() };
    store.write(&[rows]).with_context(|| format!("write to {table}"))
}

/// Reads one key of [`ROWS`].
fn read_one(store: &dyn Store, key: &Key, before: Position) -> Result<Option<StoredRow>> {
    let answers = store.read(ROWS, &[ReadKey { key: key.clone(), before }])?;
    ensure!(answers.len() == 1, "{} answers to one key", answers.len());
    Ok(answers.into_iter().next().flatten())
}

/// Reads one key of [`ROWS`] at several positions and compares.
fn expect_versions(store: &dyn Store, key: &Key, expect: &[(u64, Option<StoredRow>)]) -> Result<()> {
    for (before, expect) in expect {
        let answer = read_one(store, key, at(*before))?;
        ensure!(&answer == expect, "{key:?} below {before} is {answer:?}, not {expect:?}");
    }
    Ok(())
}
