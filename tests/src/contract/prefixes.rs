//! Rows found by the first columns of their keys.

use super::{ROWS, at, read, row, write};
use anyhow::{Result, ensure};
use dimsvc::{
    dimension::{Key, VersionedRow},
    store::{PrefixPage, ReadPrefix, Store},
};
use tidemark_proto::Position;

/// Keys whose texts are near each other, with the two prefixes asked for.
const KEYS: [&str; 12] = [
    r#"["prefix","a"]"#,
    r#"["prefix","a",1]"#,
    r#"["prefix","a",-1]"#,
    r#"["prefix","a",10]"#,
    r#"["prefix","a","b,c]"]"#,
    r#"["prefix","a\",",1]"#,
    r#"["prefix","a\\",1]"#,
    r#"["prefix","a ",1]"#,
    r#"["prefix","A",1]"#,
    r#"["prefix","",1]"#,
    r#"["prefix","é",1]"#,
    r#"["prefiy","a",1]"#,
];

fn page(store: &dyn Store, prefix: &str, before: Position, limit: usize) -> Result<PrefixPage> {
    let read = ReadPrefix { prefix: prefix.to_owned().into(), before };
    let mut pages = store.scan_prefixes(ROWS, &[read], limit)?;
    ensure!(pages.len() == 1, "{} pages of one prefix", pages.len());
    Ok(pages.remove(0))
}

/// What reads give of all keys that begin with the prefix, in key order.
fn by_reads(store: &dyn Store, prefix: &str, before: Position) -> Result<Vec<VersionedRow>> {
    let mut keys: Vec<_> = KEYS.iter().filter(|key| key.starts_with(prefix)).collect();
    keys.sort_unstable();
    let key = |key: &&&str| Key::from_canonical(key.as_bytes().to_vec());
    let reads: Vec<_> = keys.iter().map(|text| read(key(text), before.packed())).collect();
    let found = keys.iter().zip(store.read(ROWS, &reads)?);
    let row = |(text, row): (&&&str, Option<_>)| {
        row.map(|row: dimsvc::store::StoredRow| VersionedRow {
            key: key(text),
            version: row.version,
            image: row.image,
        })
    };
    Ok(found.filter_map(row).collect())
}

pub(super) fn a_prefix_gives_what_reads_give_of_its_keys(store: &dyn Store) -> Result<()> {
    for (n, key) in (0..).zip(KEYS) {
        let key = Key::from_canonical(key.as_bytes().to_vec());
        let image = |change: u64| (change != n % 3).then(|| format!("{{\"n\":{n},\"c\":{change}}}"));
        let rows = (0..=n % 4).map(|change| row(&key, 10 * change + n, image(change).as_deref()));
        write(store, ROWS, rows)?;
    }
    for prefix in [r#"["prefix","#, r#"["prefix","a","#, r#"["prefix","é","#, r#"["none","#] {
        for before in [0, 1, 5, 12, 25, Position::MAX.packed()].map(at) {
            let mut expect = by_reads(store, prefix, before)?;
            expect.retain(|row| row.image.is_some());
            for limit in 1..=12 {
                let page = page(store, prefix, before, limit)?;
                let rows = expect.iter().take(limit).cloned().collect();
                let expect = PrefixPage { rows, more: expect.len() > limit };
                ensure!(page == expect, "{prefix} below {before} has {page:?}, not {expect:?}");
            }
        }
    }
    Ok(())
}

pub(super) fn each_prefix_has_its_own_page_and_position(store: &dyn Store) -> Result<()> {
    let key = |n: u64, m: u64| Key::from_canonical(format!("[\"prefixes\",{n},{m}]"));
    for version in [10, 20] {
        let text = format!("{{\"v\":{version}}}");
        let keys = (0..50).flat_map(|n| (0..n % 3).map(move |m| (n, m)));
        write(store, ROWS, keys.map(|(n, m)| row(&key(n, m), version, Some(&text))))?;
    }
    // Below which, and the version found there.
    let moment = |n: u64| match n / 3 % 3 {
        0 => (10, None),
        1 => (15, Some(10)),
        _ => (21, Some(20)),
    };
    let reads: Vec<_> = (0..50)
        .map(|n| ReadPrefix { prefix: format!("[\"prefixes\",{n},").into(), before: at(moment(n).0) })
        .collect();

    let pages = store.scan_prefixes(ROWS, &reads, 100)?;

    ensure!(pages.len() == 50, "{} pages of 50 prefixes", pages.len());
    for (n, page) in (0..).zip(pages) {
        let found = moment(n).1.into_iter().flat_map(|version| (0..n % 3).map(move |m| (m, version)));
        let stored = |(m, version)| row(&key(n, m), version, Some(&format!("{{\"v\":{version}}}")));
        let expect = PrefixPage { rows: found.map(stored).collect(), more: false };
        ensure!(page == expect, "prefix {n} has {page:?}, not {expect:?}");
    }
    ensure!(store.scan_prefixes(ROWS, &[], 9)?.is_empty(), "no prefix has a page");
    Ok(())
}

pub(super) fn deleted_keys_leave_their_room_to_rows(store: &dyn Store) -> Result<()> {
    let key = |n: u64| Key::from_canonical(format!("[\"deleted\",{n:05}]"));
    // Rows at both ends, and more deleted keys between them than a page has rows.
    let image = |n: u64| (n == 0 || n == 999).then_some("{}");
    write(store, ROWS, (0..1_000).map(|n| row(&key(n), 10, image(n))))?;
    let whole = page(store, r#"["deleted","#, at(11), 50)?;
    let keys: Vec<_> = whole.rows.iter().map(|row| row.key.clone()).collect();
    ensure!(keys == [key(0), key(999)] && !whole.more, "{whole:?}");
    // But not without a bound.
    let short = page(store, r#"["deleted","#, at(11), 2)?;
    ensure!(short.more, "998 deleted keys were read for 2 rows");
    Ok(())
}
