//! The hit path in this process, with the read-point check, beside the same
//! rows in bare caches: quick_cache, moka, a hash map.
//!
//! Ours and the peer's take turns, so that what else the machine does meets
//! both; the line shows the median round.

use crate::report::{Floor, Line};
use anyhow::{Result, ensure};
use bytes::Bytes;
use dimsvc::cache::{
    DimensionCache, Filling, Keeps, Peek, Resident as _, ResidentTier, Row, TierKind, Timeline,
};
use std::{
    collections::HashMap,
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};
use tidemark_benches::{Zipf, key, row};
use tidemark_proto::Position;

const ROUNDS: usize = 5;
/// Keys drawn before the clock starts, and asked in turn.
const KEYS_DRAWN: usize = 1 << 18;
/// Of these none comes often: more, so that their rows do not fit a cache.
const UNIFORM_KEYS: u64 = 1 << 20;
const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];
const LRU_ROWS: u64 = 100_000;
/// The bound of lru and moka: more than all rows.
const ENOUGH_BYTES: u64 = 4 << 30;
/// From so many rows to so many.
const GROWTH: [u64; 2] = [100_000, 10_000_000];
const GROWN_ROW_BYTES: usize = 100;

type Hasher = foldhash::fast::RandomState;

/// What is measured: whether a key is there.
trait Lookup: Sync {
    fn hit(&self, key: &[u8]) -> bool;
}

impl<F: Fn(&[u8]) -> bool + Sync> Lookup for F {
    #[inline]
    fn hit(&self, key: &[u8]) -> bool {
        self(key)
    }
}

/// Measures all lines, each side of each for about `window`.
pub(crate) fn measure(window: Duration) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for rows in SIZES {
        for threads in [1, 2] {
            lines.extend(full_beside_quick_cache(rows, threads, window)?);
        }
    }
    lines.extend(lru_beside_moka(window)?);
    lines.extend(growth(window)?);
    Ok(lines)
}

fn at(offset: u64) -> Result<Position> {
    Ok(Position::try_new(1, 1, offset)?)
}

/// A cache of `rows` rows that are all resident.
fn resident(kind: TierKind, rows: impl Iterator<Item = (Bytes, Bytes)>) -> Result<Arc<DimensionCache>> {
    let floor = at(10)?;
    let tier = ResidentTier::new(kind, floor);
    let cache = Arc::new(DimensionCache::new(tier, Timeline::new(floor), Keeps::Versions));
    let rows = rows.map(|(key, image)| Row::new(&key, floor, Some(&image)));
    match Filling::begin(&cache) {
        Some(filling) => {
            filling.add(rows);
            filling.end();
        }
        None => cache.with_tier(|tier, _| rows.for_each(|row| tier.install(&row))),
    }
    Ok(cache)
}

fn peeks(cache: &Arc<DimensionCache>) -> Result<impl Lookup> {
    let (cache, now) = (Arc::clone(cache), at(1_000)?);
    Ok(move |key: &[u8]| matches!(black_box(cache.peek(key, now)), Peek::Hit(_)))
}

fn rows_of_200_bytes(count: u64) -> impl Iterator<Item = (Bytes, Bytes)> {
    (0..count).map(|id| (key(id), row(id)))
}

fn full_beside_quick_cache(rows: u64, threads: usize, window: Duration) -> Result<[Line; 2]> {
    let full = resident(TierKind::Full, rows_of_200_bytes(rows))?;
    let (items, lifecycle) = (2 * rows, quick_cache::sync::DefaultLifecycle::default());
    let quick = quick_cache::sync::Cache::<Bytes, Bytes, _, _, _>::with(
        items as usize,
        items,
        quick_cache::UnitWeighter,
        Hasher::default(),
        lifecycle,
    );
    rows_of_200_bytes(rows).for_each(|(key, row)| quick.insert(key, row));
    let peer = |key: &[u8]| black_box(quick.get(key)).is_some();
    let round = Round { keys: zipf_keys(rows), threads, window };
    let sides = round.take_turns(&peeks(&full)?, &peer)?;
    Ok(sides.lines(&format!("{rows} rows, {threads} threads"), ("full hit", "quick_cache get"), Some(1.0)))
}

fn lru_beside_moka(window: Duration) -> Result<[Line; 2]> {
    let kind = TierKind::Lru { bytes_max: ENOUGH_BYTES, time_to_live: None };
    let lru = resident(kind, rows_of_200_bytes(LRU_ROWS))?;
    let moka = moka::sync::Cache::<Bytes, Bytes>::builder()
        .max_capacity(ENOUGH_BYTES)
        .weigher(|_, row| row.len() as u32)
        .build_with_hasher(Hasher::default());
    rows_of_200_bytes(LRU_ROWS).for_each(|(key, row)| moka.insert(key, row));
    moka.run_pending_tasks();
    let peer = |key: &[u8]| black_box(moka.get(key)).is_some();
    let round = Round { keys: zipf_keys(LRU_ROWS), threads: 1, window };
    let sides = round.take_turns(&peeks(&lru)?, &peer)?;
    Ok(sides.lines(&format!("{LRU_ROWS} rows, 1 threads"), ("lru hit", "moka get"), Some(0.9)))
}

/// What a hundred times the rows cost a lookup, beside what they cost a hash
/// map's, whose growth is that of the memory hierarchy.
fn growth(window: Duration) -> Result<Vec<Line>> {
    let rows = |count: u64| (0..count).map(|id| (key(id), Bytes::from(vec![b'x'; GROWN_ROW_BYTES])));
    let (mut lines, mut sides) = (Vec::new(), Vec::new());
    for count in GROWTH {
        let full = resident(TierKind::Full, rows(count))?;
        let map: HashMap<Bytes, Bytes, Hasher> = rows(count).collect();
        let peer = |key: &[u8]| black_box(map.get(key).cloned()).is_some();
        let round = Round { keys: uniform_keys(count), threads: 1, window };
        let both = round.take_turns(&peeks(&full)?, &peer)?;
        let what = format!("{count} rows of {GROWN_ROW_BYTES} B, uniform");
        lines.extend(both.lines(&what, ("full hit", "HashMap get"), None));
        sides.push(both);
    }
    let [few, many] = &sides[..] else { return Ok(lines) };
    let (ours, map) = (few.ours / many.ours, few.peer / many.peer);
    if let Some(line) = lines.iter_mut().rev().nth(1) {
        line.floor = Some(Floor::ShareAtMost(ours / map, 1.3));
        line.note = format!("slower than with {} rows: {ours:.2}x, HashMap {map:.2}x", GROWTH[0]);
    }
    Ok(lines)
}

fn zipf_keys(rows: u64) -> Vec<Bytes> {
    let mut zipf = Zipf::new(rows, 42);
    (0..KEYS_DRAWN).map(|_| key(zipf.draw())).collect()
}

/// By a multiplicative walk, which passes every row before it repeats.
fn uniform_keys(rows: u64) -> Vec<Bytes> {
    const PRIME: u64 = 2_654_435_761;
    (0..UNIFORM_KEYS).map(|step| key(step.wrapping_mul(PRIME) % rows)).collect()
}

/// How a side is measured.
struct Round {
    keys: Vec<Bytes>,
    threads: usize,
    window: Duration,
}

/// Medians of two sides.
struct Sides {
    ours: f64,
    peer: f64,
    share: f64,
}

impl Round {
    fn take_turns(&self, ours: &impl Lookup, peer: &impl Lookup) -> Result<Sides> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (ours, peer) = (self.rate(ours)?, self.rate(peer)?);
            rounds.push(Sides { ours, peer, share: ours / peer });
        }
        rounds.sort_by(|a, b| a.share.total_cmp(&b.share));
        let median = rounds.into_iter().nth(ROUNDS / 2);
        median.ok_or_else(|| anyhow::anyhow!("there was no round"))
    }

    /// Lookups a second over all threads; every key must hit.
    fn rate(&self, lookup: &impl Lookup) -> Result<f64> {
        let until = Instant::now() + self.window / ROUNDS as u32;
        let start = Barrier::new(self.threads);
        let rates = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|number| {
                    let start = &start;
                    scope.spawn(move || self.pass(lookup, start, (number, until)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(None)).collect::<Option<Vec<f64>>>()
        });
        let rates = rates.filter(|rates| !rates.is_empty());
        ensure!(rates.is_some(), "a key was not found, or a thread panicked");
        Ok(rates.into_iter().flatten().sum())
    }

    /// One thread's rate; `None` when a key is missing.
    fn pass(&self, lookup: &impl Lookup, start: &Barrier, (number, until): (usize, Instant)) -> Option<f64> {
        let mut keys = self.keys.iter().cycle().skip(number * self.keys.len() / self.threads);
        start.wait();
        let (begun, mut asked) = (Instant::now(), 0);
        while Instant::now() < until || asked == 0 {
            for key in keys.by_ref().take(1024) {
                if !lookup.hit(key) {
                    return None;
                }
            }
            asked += 1024;
        }
        Some(f64::from(asked) / begun.elapsed().as_secs_f64())
    }
}

impl Sides {
    fn lines(&self, what: &str, (ours, peer): (&str, &str), goal: Option<f64>) -> [Line; 2] {
        let line = |name: &str, rate, floor| {
            let name = format!("{name}, {what}");
            Line { part: "cache", name, rate, unit: "keys", floor, ..Line::default() }
        };
        let floor = goal.map(|goal| Floor::ShareAtLeast(self.share, goal));
        [line(ours, self.ours, floor), line(peer, self.peer, None)]
    }
}
