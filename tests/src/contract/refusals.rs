//! What is an error everywhere, so that no store hides it from tests.

use super::{ROWS, at, key, read, row, write};
use anyhow::{Result, ensure};
use bytes::Bytes;
use dimsvc::{
    dimension::{Key, TableRows, VersionedRow},
    store::{PruneKey, ReadPrefix, Store, StoreError},
};
use tidemark_proto::Position;

const NEVER_MADE: &str = "contract_never_made";

pub(super) fn a_table_never_made_is_an_error_not_absent(store: &dyn Store) -> Result<()> {
    let key = key("none", 1);
    expect_refused("a read", store.read(NEVER_MADE, &[read(key.clone(), 9)]))?;
    let prefix = ReadPrefix { prefix: "[\"none\",".into(), before: at(9) };
    let prune = PruneKey { key: key.clone(), through: at(9) };
    expect_refused("versions", store.versions(NEVER_MADE, &key, 9))?;
    expect_refused("a prefix", store.scan_prefixes(NEVER_MADE, &[prefix], 9))?;
    expect_refused("pruning", store.prune(NEVER_MADE, &[prune]))?;
    expect_refused("a scan", store.scan(NEVER_MADE, None, Position::MAX, 10))?;
    let rows = TableRows { table: NEVER_MADE.into(), rows: vec![row(&key, 1, None)] };
    expect_refused("a write", store.write(&[rows]))
}

pub(super) fn what_no_store_can_keep_is_refused(store: &dyn Store) -> Result<()> {
    let write_row = |key: &Key, version, image| {
        let rows = vec![VersionedRow { key: key.clone(), version, image }];
        store.write(&[TableRows { table: ROWS.into(), rows }])
    };
    let good = key("refused", 1);
    let text = Some(Bytes::from_static(b"{}"));
    expect_refused("an empty image", write_row(&good, at(9), Some(Bytes::new())))?;
    expect_refused("the last position as version", write_row(&good, Position::MAX, text.clone()))?;
    expect_refused("an empty key", write_row(&Key::from_canonical(""), at(9), text.clone()))?;
    expect_refused("a long key", write_row(&Key::from_canonical(vec![b'k'; 20 << 10]), at(9), text))?;
    expect_refused("an empty cell", store.compare_and_set_cell("refused", None, b""))?;
    for prefix in ["", "[", "[\"a\"", "[\"a\"]", "\"a\","] {
        let read = ReadPrefix { prefix: prefix.into(), before: at(9) };
        expect_refused("a prefix", store.scan_prefixes(ROWS, &[read], 9))?;
    }
    for name in ["", "a.b", "a-b", "a b", "\u{e9}", &"a".repeat(200)] {
        expect_refused("a table's name", store.create_table(name))?;
        expect_refused("a cell's name", store.load_cell(name))?;
        expect_refused("a cell's name", store.compare_and_set_cell(name, None, b"1"))?;
    }
    let after = store.read(ROWS, &[read(good.clone(), 99)])?;
    ensure!(after == [None], "what was refused is there: {after:?}");
    write(store, ROWS, [row(&good, 9, Some("{}"))])
}

fn expect_refused<T>(what: &str, result: Result<T, StoreError>) -> Result<()> {
    match result {
        Err(StoreError::Refused(_)) => Ok(()),
        Err(other) => anyhow::bail!("{what} is {other:?}, not refused"),
        Ok(_) => anyhow::bail!("{what} is taken"),
    }
}
