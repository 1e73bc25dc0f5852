//! The options of a dimension: what they mean, and which contradict each other.

use super::Dimension;
use crate::cache::TierKind;
use std::time::Duration;
use tidemark_proto::config::{Cache, Deleted, DimensionConfig, Dimsvc, Load, OnStale};

/// The bound of an `lru` tier that names none.
const CACHE_MIB_DEFAULT: u64 = 64;
/// 16 TiB: what is greater is a slip of the pen, and does not count in bytes.
const CACHE_MIB_MAX: u64 = 1 << 24;
const MIB: u64 = 1 << 20;
const DAY_SECONDS: u64 = 86_400;
/// A century: nobody keeps a version longer by the clock.
const DAYS_MAX: u64 = 36_500;
/// What a resident row takes beside its text: its header, its key, its place.
const ROW_OVERHEAD_BYTES: u64 = 64;
/// What a column takes in a row's text beside its name and value: `"":,`.
const COLUMN_OVERHEAD_BYTES: usize = 4;

/// Sets all options of a dimension whose table takes `data_bytes` in the source.
///
/// # Errors
/// The first option that contradicts another, and what to do.
pub(super) fn set(
    dimension: &mut Dimension,
    config: &DimensionConfig,
    data_bytes: u64,
    dimsvc: &Dimsvc,
) -> Result<(), String> {
    let refusals = tier_refusals(config).into_iter().chain(lazy_refusals(config, dimsvc));
    let mut refusals = refusals.chain(time_refusals(config)).chain(shared_refusals(config, dimsvc));
    if let Some((_, reason)) = refusals.find(|(wrong, _)| *wrong) {
        return Err(reason.to_owned());
    }
    dimension.lazy = config.load == Load::Lazy;
    (dimension.tier, dimension.tier_reason) =
        tier(dimension, config, data_bytes, dimsvc.limits.auto_full_mib_max);
    let has_room = !dimension.lazy && !matches!(dimension.tier, TierKind::Full);
    dimension.shared = config.shared.unwrap_or(true) && has_room && !dimsvc.shared.url.is_empty();
    dimension.refresh_ahead = config.refresh_ahead && matches!(dimension.tier, TierKind::Lru { .. });
    dimension.max_staleness = config.max_staleness_seconds.map(Duration::from_secs);
    dimension.on_stale = config.on_stale;
    dimension.history = config.history_days.map(days);
    dimension.deleted = config.deleted;
    dimension.deleted_after = config.deleted_after_days.map(days);
    Ok(())
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * DAY_SECONDS)
}

fn tier(
    dimension: &Dimension,
    config: &DimensionConfig,
    data_bytes: u64,
    full_mib_max: u64,
) -> (TierKind, String) {
    let lru = TierKind::Lru {
        bytes_max: config.cache_mib.unwrap_or(CACHE_MIB_DEFAULT) * MIB,
        time_to_live: config.ttl_seconds.map(Duration::from_secs),
    };
    let configured = String::from("configured");
    match config.cache {
        Cache::Full => (TierKind::Full, configured),
        Cache::Lru => (lru, configured),
        Cache::Auto if dimension.lazy => {
            (lru, String::from("auto: lru, because rows are loaded when they are asked for"))
        }
        Cache::Auto => {
            let bytes = resident_bytes(dimension, data_bytes);
            let measured =
                format!("about {} rows take {:.1} MiB", dimension.rows_estimate, bytes as f64 / MIB as f64);
            let bound = format!("dimsvc.limits.auto_full_mib_max = {full_mib_max}");
            if bytes <= full_mib_max.saturating_mul(MIB) {
                (TierKind::Full, format!("auto: full, because {measured}, within {bound}"))
            } else {
                (lru, format!("auto: lru, because {measured}, more than {bound}"))
            }
        }
    }
}

/// What all rows would take in memory. A resident row is JSON text, which names
/// its columns.
fn resident_bytes(dimension: &Dimension, data_bytes: u64) -> u64 {
    let names: usize = dimension.columns.iter().map(|column| column.name.len() + COLUMN_OVERHEAD_BYTES).sum();
    let row_bytes = ROW_OVERHEAD_BYTES + names as u64;
    data_bytes.saturating_add(dimension.rows_estimate.saturating_mul(row_bytes))
}

/// Whether something is wrong, and what to say then.
type Refusal = (bool, &'static str);

fn tier_refusals(config: &DimensionConfig) -> [Refusal; 6] {
    let full = config.cache == Cache::Full;
    let mib_fits = config.cache_mib.is_none_or(|mib| (1..=CACHE_MIB_MAX).contains(&mib));
    [
        (
            full && config.cache_mib.is_some(),
            "`cache_mib` bounds an `lru` tier, a `full` one has every row; take it out, or set \
             cache = \"lru\"",
        ),
        (
            full && config.ttl_seconds.is_some(),
            "`ttl_seconds` is for an `lru` tier, a `full` one keeps every row; take it out, or set \
             cache = \"lru\"",
        ),
        (
            full && config.refresh_ahead,
            "`refresh_ahead` is for an `lru` tier, a `full` one keeps every row; take it out, or set \
             cache = \"lru\"",
        ),
        (
            config.refresh_ahead && config.ttl_seconds.is_none(),
            "`refresh_ahead` loads a row before its time is over, and it has none; set `ttl_seconds`",
        ),
        (!mib_fits, "`cache_mib` must be from 1 to 16777216; leave it out for 64"),
        (config.ttl_seconds == Some(0), "`ttl_seconds` = 0 would keep no row; leave it out for no bound"),
    ]
}

fn lazy_refusals(config: &DimensionConfig, dimsvc: &Dimsvc) -> [Refusal; 6] {
    let lazy = config.load == Load::Lazy;
    [
        (
            lazy && dimsvc.fallback.reads_per_second == 0,
            "load = \"lazy\" reads rows from the source, which dimsvc.fallback.reads_per_second = 0 forbids; raise \
             it, or take out `load`",
        ),
        (
            lazy && config.cache == Cache::Full,
            "cache = \"full\" has every row, load = \"lazy\" only those that were asked for; take out one of \
             them",
        ),
        (
            lazy && !config.indexes.is_empty(),
            "`indexes` need every row, load = \"lazy\" has only those that were asked for; take out one of \
             them",
        ),
        (
            lazy && config.history_days.is_some(),
            "`history_days` is about stored versions, load = \"lazy\" stores none; take out one of them",
        ),
        (
            lazy && config.shared == Some(true),
            "shared = true shares rows of the store, load = \"lazy\" has none; take out one of them",
        ),
        (
            lazy && config.deleted != Deleted::Keep,
            "`deleted` is about stored versions, load = \"lazy\" stores none; take out one of them",
        ),
    ]
}

fn time_refusals(config: &DimensionConfig) -> [Refusal; 7] {
    let removes = config.deleted == Deleted::Remove;
    let forgets_before = config.deleted_after_days.zip(config.history_days);
    let fits = |days: Option<u64>| days.is_none_or(|days| (1..=DAYS_MAX).contains(&days));
    [
        (
            removes && config.deleted_after_days.is_none(),
            "deleted = \"remove\" needs to know when; set `deleted_after_days`",
        ),
        (
            !removes && config.deleted_after_days.is_some(),
            "`deleted_after_days` says when deleted rows are removed; set deleted = \"remove\", or take it \
             out",
        ),
        (
            forgets_before.is_some_and(|(deleted, history)| deleted < history),
            "history of `history_days` needs deleted rows as long; raise `deleted_after_days` to it",
        ),
        (!fits(config.history_days), "`history_days` must be from 1 to 36500; leave it out for ever"),
        (!fits(config.deleted_after_days), "`deleted_after_days` must be from 1 to 36500"),
        (
            config.on_stale == OnStale::Mark && config.max_staleness_seconds.is_none(),
            "on_stale = \"mark\" needs to know what is stale; set `max_staleness_seconds`",
        ),
        (
            config.max_staleness_seconds == Some(0),
            "`max_staleness_seconds` = 0 would refuse every answer; leave it out for no bound",
        ),
    ]
}

fn shared_refusals(config: &DimensionConfig, dimsvc: &Dimsvc) -> [Refusal; 2] {
    let shared = config.shared == Some(true);
    [
        (
            shared && config.cache == Cache::Full,
            "shared = true is for an `lru` tier, a `full` one never asks below; take out one of them",
        ),
        (
            shared && dimsvc.shared.url.is_empty(),
            "shared = true, but there is no shared tier; set dimsvc.shared.url in tidemark.toml, or take it \
             out",
        ),
    ]
}

#[cfg(test)]
mod tests;
