//! The hit path of both tiers, with the read-point check, beside bare moka and
//! bare quick_cache of the same rows.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dimsvc::{
    cache::{Change, DimensionCache, LoadStart, Peek, TierKind},
    dimension::Key,
};
use std::hint::black_box;
use tidemark_benches::{Zipf, key, row};
use tidemark_proto::Position;

const ROWS: u64 = 100_000;
/// Keys of one measured pass.
const PASS: usize = 4_096;

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).expect("offsets here fit")
}

fn full() -> DimensionCache {
    let cache = DimensionCache::new(TierKind::Full, at(10));
    cache.begin_fill();
    cache.fill((0..ROWS).map(|id| (Key::from_canonical(key(id)), at(9), Some(row(id)))));
    cache.end_fill();
    cache
}

fn lru() -> DimensionCache {
    let cache = DimensionCache::new(TierKind::Lru { bytes_max: 1 << 30, time_to_live: None }, at(10));
    for id in 0..ROWS {
        if let LoadStart::Read(load) = cache.begin_load(&Key::from_canonical(key(id))) {
            load.finish(Some((at(9), Some(row(id)))));
        }
    }
    cache
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
        .build();
    let quick = quick_cache::sync::Cache::<Bytes, Bytes>::new(2 * ROWS as usize);
    for id in 0..ROWS {
        moka.insert(key(id), row(id));
        quick.insert(key(id), row(id));
    }
    moka.run_pending_tasks();
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
    for (name, cache) in [("full", full()), ("lru", lru())] {
        let mut version = 2_000;
        group.bench_function(name, |b| {
            b.iter(|| {
                version += 2;
                let id = version % ROWS;
                let change = Change { key: Key::from_canonical(key(id)), before: None, after: Some(row(id)) };
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
