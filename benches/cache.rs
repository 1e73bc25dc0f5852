//! The hit path of both tiers, with the read-point check, beside bare moka and
//! bare quick_cache of the same rows; then what a change costs.
//!
//! One thread, 100,000 rows of about 200 bytes, keys by a Zipf law. All four
//! hash alike, and hold every row: what differs is the cache.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dimsvc::{
    cache::{
        Change, DimensionCache, Filling, Keeps, Peek, Resident as _, ResidentTier, Row, TierKind, Timeline,
    },
    dimension::Key,
};
use std::{hint::black_box, sync::Arc};
use tidemark_benches::{Zipf, key, row};
use tidemark_proto::Position;

const ROWS: u64 = 100_000;
/// Keys of one measured pass.
const PASS: usize = 4_096;

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).expect("offsets here fit")
}

fn cache(kind: TierKind) -> Arc<DimensionCache> {
    let tier = ResidentTier::new(kind, at(10));
    let cache = Arc::new(DimensionCache::new(tier, Timeline::new(at(10)), Keeps::Versions));
    let rows = (0..ROWS).map(|id| Row::new(&key(id), at(10), Some(&row(id))));
    match Filling::begin(&cache) {
        Some(filling) => {
            filling.add(rows);
            filling.end();
        }
        None => cache.with_tier(|tier, _| rows.for_each(|row| tier.install(&row))),
    }
    cache
}

fn full() -> Arc<DimensionCache> {
    cache(TierKind::Full)
}

fn lru() -> Arc<DimensionCache> {
    cache(TierKind::Lru { bytes_max: 1 << 30, time_to_live: None })
}

type Quick = quick_cache::sync::Cache<Bytes, Bytes, quick_cache::UnitWeighter, foldhash::fast::RandomState>;

fn quick() -> Quick {
    let (items, lifecycle) = (2 * ROWS, quick_cache::sync::DefaultLifecycle::default());
    let hasher = foldhash::fast::RandomState::default();
    Quick::with(items as usize, items, quick_cache::UnitWeighter, hasher, lifecycle)
}

fn zipf_keys(missing_in_ten: u64) -> Vec<Bytes> {
    let mut zipf = Zipf::new(ROWS, 42);
    let draw = |place| {
        let id = zipf.draw();
        if place % 10 < missing_in_ten { key(id + ROWS) } else { key(id) }
    };
    (0..PASS as u64).map(draw).collect()
}

fn hits(cache: &DimensionCache, keys: &[Bytes]) -> usize {
    let now = at(1_000);
    keys.iter().filter(|key| matches!(black_box(cache.peek(key, now)), Peek::Hit(_))).count()
}

fn hit_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(PASS as u64));
    let (full, lru) = (full(), lru());
    let moka = moka::sync::Cache::<Bytes, Bytes>::builder()
        .max_capacity(1 << 30)
        .weigher(|_, row| row.len() as u32)
        .build_with_hasher(foldhash::fast::RandomState::default());
    let quick = quick();
    for id in 0..ROWS {
        moka.insert(key(id), row(id));
        quick.insert(key(id), row(id));
    }
    moka.run_pending_tasks();
    let all: Vec<Bytes> = (0..ROWS).map(key).collect();
    for (name, held) in [
        ("full", hits(&full, &all)),
        ("lru", hits(&lru, &all)),
        ("moka", all.iter().filter(|key| moka.contains_key(*key)).count()),
        ("quick_cache", all.iter().filter(|key| quick.peek(*key).is_some()).count()),
    ] {
        assert_eq!(held, all.len(), "{name} does not hold every row: its hits would be misses");
    }
    for (mix, missing_in_ten) in [("hit", 0), ("mixed", 2), ("miss", 10)] {
        let keys = zipf_keys(missing_in_ten);
        group.bench_function(BenchmarkId::new("full", mix), |b| b.iter(|| hits(&full, &keys)));
        group.bench_function(BenchmarkId::new("lru", mix), |b| b.iter(|| hits(&lru, &keys)));
        group.bench_function(BenchmarkId::new("bare moka", mix), |b| {
            b.iter(|| keys.iter().filter(|key| black_box(moka.get(*key)).is_some()).count());
        });
        group.bench_function(BenchmarkId::new("bare quick_cache", mix), |b| {
            b.iter(|| keys.iter().filter(|key| black_box(quick.get(*key)).is_some()).count());
        });
    }
    group.finish();
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(1));
    let rows: Vec<(Key, Bytes)> = (0..ROWS).map(|id| (Key::from_canonical(key(id)), row(id))).collect();
    for (name, cache) in [("full", full()), ("lru", lru())] {
        let mut rows = rows.iter().cycle();
        let mut version = 2_000;
        group.bench_function(BenchmarkId::new("update and forget", name), |b| {
            b.iter(|| {
                version += 2;
                let (key, row) = rows.next().expect("a cycle does not end");
                let change = Change { key: key.clone(), before: None, after: Some(row.clone()) };
                cache.apply(at(version), &[change]);
                cache.forget(at(version + 1))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = hit_path, apply
}
criterion_main!(benches);
