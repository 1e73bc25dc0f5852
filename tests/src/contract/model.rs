//! Any sequence of calls gives what the store in memory gives.

use super::{MODEL, OTHER, at, key, scans::scan_all};
use anyhow::Result;
use bytes::Bytes;
use dimsvc::{
    dimension::{TableRows, VersionedRow},
    store::{PruneKey, ReadKey, ReadPrefix, Store, memory::MemoryStore},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};
use tidemark_proto::Position;

const CASES: u32 = 16;
const CALLS_MAX: usize = 24;

#[derive(Clone, Debug)]
enum Call {
    Write(Vec<Written>),
    Read { table: &'static str, keys: Vec<(usize, u64)> },
    Scan { table: &'static str, before: u64, limit: usize },
    Versions { table: &'static str, key: usize, limit: usize },
    ScanPrefix { table: &'static str, before: u64, limit: usize },
    Prune { table: &'static str, keys: Vec<(usize, u64)> },
    CompareAndSet { cell: usize, expect: Option<u8>, value: u8 },
}

#[derive(Clone, Debug)]
struct Written {
    table: &'static str,
    key: usize,
    version: u64,
    /// `None` is a tombstone.
    image: Option<u8>,
}

fn call() -> impl Strategy<Value = Call> {
    let table = || prop_oneof![Just(MODEL), Just(OTHER)];
    let before = || prop_oneof![9 => 0..20_u64, 1 => Just(Position::MAX.packed())];
    let written = (table(), 0..6_usize, 0..20_u64, proptest::option::of(0..9_u8))
        .prop_map(|(table, key, version, image)| Written { table, key, version, image });
    let read =
        (table(), vec((0..8_usize, before()), 0..20)).prop_map(|(table, keys)| Call::Read { table, keys });
    let scan = (table(), before(), 1..9_usize).prop_map(|(table, before, limit)| Call::Scan {
        table,
        before,
        limit,
    });
    let versions = (table(), 0..6_usize, 1..9_usize).prop_map(|(table, key, limit)| Call::Versions {
        table,
        key,
        limit,
    });
    let prefix = (table(), before(), 1..9_usize).prop_map(|(table, before, limit)| Call::ScanPrefix {
        table,
        before,
        limit,
    });
    let prune =
        (table(), vec((0..6_usize, 0..20_u64), 0..4)).prop_map(|(table, keys)| Call::Prune { table, keys });
    let digit = || b'0'..b'3';
    let cell = (0..2_usize, proptest::option::of(digit()), digit())
        .prop_map(|(cell, expect, value)| Call::CompareAndSet { cell, expect, value });
    prop_oneof![
        4 => vec(written, 0..12).prop_map(Call::Write),
        4 => read,
        2 => versions,
        2 => prefix,
        1 => prune,
        1 => scan,
        1 => cell,
    ]
}

/// A case has keys and cells of its own, so that cases do not meet in a store
/// that cannot be emptied.
struct Case<'a> {
    store: &'a dyn Store,
    name: String,
    /// Through where a key was pruned: what is written there again may stay
    /// away, so it is not written.
    pruned: RefCell<HashMap<(&'static str, usize), u64>>,
}

pub(super) fn any_calls_agree_with_the_model(store: &dyn Store) -> Result<()> {
    let cases = Cell::new(0);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&vec(call(), 1..CALLS_MAX), |calls| {
        cases.set(cases.get() + 1);
        let name = format!("model_{}", cases.get());
        let model = MemoryStore::default();
        let failed = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
        for table in [MODEL, OTHER] {
            model.create_table(table).map_err(|error| failed(error.into()))?;
        }
        let (real, model) = (Case::new(store, &name), Case::new(&model, &name));
        for call in &calls {
            let (found, expect) = (real.make(call).map_err(failed)?, model.make(call).map_err(failed)?);
            prop_assert_eq!(found, expect, "after {:?}", call);
        }
        Ok(())
    })?;
    Ok(())
}

impl<'a> Case<'a> {
    fn new(store: &'a dyn Store, name: &str) -> Self {
        Self { store, name: name.to_owned(), pruned: RefCell::default() }
    }

    /// Makes a call and tells what came back.
    fn make(&self, call: &Call) -> Result<String> {
        match call {
            Call::Write(rows) => {
                let rows = rows
                    .iter()
                    .filter(|row| !self.is_pruned(row))
                    .map(|row| TableRows { table: row.table.into(), rows: vec![self.row(row)] });
                Ok(format!("{:?}", self.store.write(&rows.collect::<Vec<_>>())?))
            }
            Call::Read { table, keys } => {
                let keys: Vec<_> = keys
                    .iter()
                    .map(|(n, before)| ReadKey { key: key(&self.name, *n), before: at(*before) })
                    .collect();
                Ok(format!("{:?}", self.store.read(table, &keys)?))
            }
            Call::Scan { table, before, limit } => {
                // Only the own keys, in one order for every store.
                let prefix = format!("[\"{}\",", self.name);
                let mut rows = scan_all(self.store, table, at(*before), *limit)?;
                rows.retain(|row| row.key.as_bytes().starts_with(prefix.as_bytes()));
                rows.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(format!("{rows:?}"))
            }
            Call::Versions { table, key: n, limit } => {
                Ok(format!("{:?}", self.store.versions(table, &key(&self.name, *n), *limit)?))
            }
            Call::ScanPrefix { table, before, limit } => {
                let prefix = format!("[\"{}\",", self.name).into();
                let read = ReadPrefix { prefix, before: at(*before) };
                Ok(format!("{:?}", self.store.scan_prefixes(table, &[read], *limit)?))
            }
            Call::Prune { table, keys } => Ok(format!("{:?}", self.prune(table, keys)?)),
            Call::CompareAndSet { cell, expect, value } => {
                let cell = format!("{}_{cell}", self.name);
                let expect = expect.map(|digit| [digit]);
                let set = self.store.compare_and_set_cell(
                    &cell,
                    expect.as_ref().map(|e| e.as_slice()),
                    &[*value],
                )?;
                Ok(format!("{set} {:?}", self.store.load_cell(&cell)?))
            }
        }
    }

    fn prune(&self, table: &'static str, keys: &[(usize, u64)]) -> Result<()> {
        let mut prune = Vec::with_capacity(keys.len());
        for (n, through) in keys {
            let pruned = &mut *self.pruned.borrow_mut();
            let known = pruned.entry((table, *n)).or_default();
            // From 1: zero is a version, too.
            *known = (*known).max(through + 1);
            prune.push(PruneKey { key: key(&self.name, *n), through: at(*through) });
        }
        Ok(self.store.prune(table, &prune)?)
    }

    fn is_pruned(&self, row: &Written) -> bool {
        self.pruned.borrow().get(&(row.table, row.key)).is_some_and(|end| row.version < *end)
    }

    fn row(&self, row: &Written) -> VersionedRow {
        let image = row.image.map(|value| Bytes::from(format!("{{\"v\":{value}}}")));
        VersionedRow { key: key(&self.name, row.key), version: at(row.version), image }
    }
}
