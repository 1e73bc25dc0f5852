//! Tables read from end to end.

use super::{LARGE, SCANNED, at, key, read, row, write};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use dimsvc::{
    dimension::VersionedRow,
    store::{ReadKey, ReadPrefix, Store},
};
use std::collections::BTreeMap;
use tidemark_proto::Position;

/// Reads every page. The order of keys is the store's own, but the same for
/// every limit.
pub(super) fn scan_all(
    store: &dyn Store,
    table: &str,
    before: Position,
    limit: usize,
) -> Result<Vec<VersionedRow>> {
    let mut rows = Vec::new();
    let mut from = None;
    loop {
        let page = store.scan(table, from.as_ref(), before, limit)?;
        ensure!(page.rows.len() <= limit, "{} rows in a page of {limit}", page.rows.len());
        ensure!(!page.rows.is_empty() || page.next.is_none(), "an empty page is not the last");
        rows.extend(page.rows);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(rows),
        }
    }
}

/// Keys with no, one, some and hundreds of versions, tombstones among them.
pub(super) fn a_scan_sees_what_reads_see_at_every_limit(store: &dyn Store) -> Result<()> {
    let versions_of = |n: u64| if n.is_multiple_of(10) { 120 } else { n % 4 };
    let keys: Vec<_> = (1..=40).map(|n| (n, key("scan", n as usize))).collect();
    for (n, key) in &keys {
        let image =
            |change: u64| (!(n + change).is_multiple_of(5)).then(|| format!("{{\"n\":{n},\"c\":{change}}}"));
        let rows = (0..versions_of(*n)).map(|change| row(key, n + change * 50, image(change).as_deref()));
        write(store, SCANNED, rows)?;
    }
    for before in [0, 1, 20, 75, 151, 3_000, Position::MAX.packed()] {
        let reads: Vec<ReadKey> = keys.iter().map(|(_, key)| read(key.clone(), before)).collect();
        let found = store.read(SCANNED, &reads)?;
        let expect: BTreeMap<_, _> =
            reads.into_iter().zip(found).filter_map(|(read, row)| Some((read.key, row?))).collect();
        let whole = scan_all(store, SCANNED, at(before), usize::MAX)?;
        let seen: BTreeMap<_, _> = whole.iter().map(|row| (row.key.clone(), row)).collect();
        ensure!(seen.len() == whole.len(), "a key is there twice below {before}");
        ensure!(seen.len() == expect.len(), "{} keys below {before}, not {}", seen.len(), expect.len());
        for (key, row) in expect {
            let same =
                seen.get(&key).is_some_and(|seen| seen.version == row.version && seen.image == row.image);
            ensure!(same, "{key:?} below {before} is scanned as {:?}, read as {row:?}", seen.get(&key));
        }
        for limit in [1, 2, 3, 7, 29, 30, 31, 1_000] {
            let paged = scan_all(store, SCANNED, at(before), limit)?;
            ensure!(paged == whole, "pages of {limit} below {before} differ from the whole");
        }
    }
    Ok(())
}

pub(super) fn a_page_is_bounded_in_bytes(store: &dyn Store) -> Result<()> {
    let image = Bytes::from(vec![b'x'; 1 << 20]);
    for n in 0..20 {
        let row = VersionedRow { key: key("large", n), version: at(5), image: Some(image.clone()) };
        write(store, LARGE, [row])?;
    }

    let first = store.scan(LARGE, None, Position::MAX, 1_000)?;
    let bytes: usize = first.rows.iter().filter_map(|row| row.image.as_ref()).map(Bytes::len).sum();
    ensure!((6 << 20..=12 << 20).contains(&bytes), "a page of {bytes} bytes");

    let large = ReadPrefix { prefix: "[\"large\",".into(), before: Position::MAX };
    let page = store.scan_prefixes(LARGE, &[large], 1_000)?.pop().context("a page")?;
    let bytes: usize = page.rows.iter().filter_map(|row| row.image.as_ref()).map(Bytes::len).sum();
    ensure!((6 << 20..=12 << 20).contains(&bytes), "a prefix of {bytes} bytes");
    ensure!(page.more, "a page that is full has more");

    let all = scan_all(store, LARGE, Position::MAX, 1_000)?;
    ensure!(all.len() == 20, "{} rows of 20", all.len());
    ensure!(all.iter().all(|row| row.image.as_ref() == Some(&image)), "an image is not as written");
    Ok(())
}
