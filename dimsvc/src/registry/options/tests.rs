//! Tiers that are chosen, and options that contradict each other.

use super::*;
use tidemark_binlog::ColumnKind;
use tidemark_proto::config::Shared;

fn dimension(rows_estimate: u64) -> Dimension {
    let column = crate::registry::DimensionColumn {
        name: "id".into(),
        kind: ColumnKind::Integer { unsigned: false, bits: 64 },
        mysql_type: "bigint".into(),
        nullable: false,
    };
    Dimension { columns: vec![column], rows_estimate, ..Dimension::new("d", TierKind::None) }
}

fn config(text: &str) -> DimensionConfig {
    toml::from_str(text).unwrap()
}

fn with_redis() -> Dimsvc {
    Dimsvc { shared: Shared { url: "redis://127.0.0.1:1".into(), ..Shared::default() }, ..Dimsvc::default() }
}

fn chosen(text: &str, rows_estimate: u64, data_bytes: u64) -> Dimension {
    let mut dimension = dimension(rows_estimate);
    set(&mut dimension, &config(text), data_bytes, &with_redis()).unwrap();
    dimension
}

fn refused(text: &str, dimsvc: &Dimsvc) -> String {
    set(&mut dimension(1), &config(text), 1, dimsvc).unwrap_err()
}

#[test]
fn auto_is_full_up_to_the_bound_with_the_figures_in_the_reason() {
    // 64 MiB, less 70 bytes a row of overhead.
    let rows = 100_000;
    let data_bytes = 64 * MIB - rows * (ROW_OVERHEAD_BYTES + 2 + COLUMN_OVERHEAD_BYTES as u64);
    let full = chosen("cache = \"auto\"", rows, data_bytes);
    assert_eq!(full.tier, TierKind::Full);
    assert!(!full.shared, "a full tier never asks below");
    let expect =
        "auto: full, because about 100000 rows take 64.0 MiB, within dimsvc.limits.auto_full_mib_max = 64";
    assert_eq!(full.tier_reason, expect);

    let lru = chosen("cache = \"auto\"\nttl_seconds = 9", rows, data_bytes + 1);
    assert_eq!(
        lru.tier,
        TierKind::Lru { bytes_max: CACHE_MIB_DEFAULT * MIB, time_to_live: Some(Duration::from_secs(9)) }
    );
    assert!(lru.shared);
    assert!(
        lru.tier_reason.contains("more than dimsvc.limits.auto_full_mib_max = 64"),
        "{}",
        lru.tier_reason
    );
}

#[test]
fn a_lazy_dimension_is_lru_and_unshared() {
    let lazy = chosen("load = \"lazy\"\ncache = \"auto\"", 1, 1);
    assert!(lazy.lazy && !lazy.shared && matches!(lazy.tier, TierKind::Lru { .. }));
    assert!(lazy.tier_reason.starts_with("auto: lru"), "{}", lazy.tier_reason);
}

#[test]
fn options_arrive_in_their_units() {
    let all = chosen(
        "cache_mib = 2\nttl_seconds = 60\nrefresh_ahead = true\nmax_staleness_seconds = 5\non_stale = \"mark\"\n\
         history_days = 2\ndeleted = \"remove\"\ndeleted_after_days = 3",
        1,
        1,
    );
    assert_eq!(all.tier_reason, "configured");
    let tier = TierKind::Lru { bytes_max: 2 * MIB, time_to_live: Some(Duration::from_secs(60)) };
    assert_eq!((all.tier, all.refresh_ahead, all.shared), (tier, true, true));
    assert_eq!((all.max_staleness, all.on_stale), (Some(Duration::from_secs(5)), OnStale::Mark));
    assert_eq!(all.history, Some(Duration::from_secs(2 * DAY_SECONDS)));
    assert_eq!(
        (all.deleted, all.deleted_after),
        (Deleted::Remove, Some(Duration::from_secs(3 * DAY_SECONDS)))
    );
}

#[test]
fn without_a_shared_tier_nothing_is_shared() {
    let mut plain = dimension(1);
    set(&mut plain, &config(""), 1, &Dimsvc::default()).unwrap();
    assert!(!plain.shared);
    assert!(chosen("", 1, 1).shared);
    assert!(!chosen("shared = false", 1, 1).shared);
    assert!(refused("shared = true", &Dimsvc::default()).contains("dimsvc.shared.url"));
}

/// Fails without the refusal: every lookup would fail for ever.
#[test]
fn a_lazy_dimension_needs_reads_of_the_source() {
    let mut forbidding = Dimsvc::default();
    forbidding.fallback.reads_per_second = 0;
    assert!(refused("load = \"lazy\"", &forbidding).contains("dimsvc.fallback.reads_per_second"));
}

#[test]
fn contradictions_are_refused_with_what_to_do() {
    let lazy = "load = \"lazy\"\n";
    let full = "cache = \"full\"\n";
    for (text, expect) in [
        (format!("{lazy}{full}"), "cache = \"full\""),
        (format!("{lazy}indexes = {{ by_n = [\"n\"] }}"), "`indexes`"),
        (format!("{lazy}history_days = 1"), "`history_days`"),
        (format!("{lazy}shared = true"), "shared = true"),
        (format!("{lazy}deleted = \"mark\""), "`deleted`"),
        (format!("{full}ttl_seconds = 1"), "`ttl_seconds`"),
        (format!("{full}cache_mib = 1"), "`cache_mib`"),
        (format!("{full}refresh_ahead = true"), "`refresh_ahead`"),
        (format!("{full}shared = true"), "shared = true"),
        (String::from("refresh_ahead = true"), "set `ttl_seconds`"),
        (String::from("ttl_seconds = 0"), "`ttl_seconds` = 0"),
        (String::from("cache_mib = 0"), "`cache_mib` must be"),
        (String::from("cache_mib = 999999999999"), "`cache_mib` must be"),
        (String::from("deleted = \"remove\""), "set `deleted_after_days`"),
        (String::from("deleted_after_days = 1"), "set deleted = \"remove\""),
        (
            String::from("history_days = 9\ndeleted = \"remove\"\ndeleted_after_days = 8"),
            "raise `deleted_after_days`",
        ),
        (String::from("history_days = 0"), "`history_days` must be"),
        (
            String::from("deleted = \"remove\"\ndeleted_after_days = 99999999999999"),
            "`deleted_after_days` must be",
        ),
        (String::from("on_stale = \"mark\""), "set `max_staleness_seconds`"),
        (String::from("max_staleness_seconds = 0"), "`max_staleness_seconds` = 0"),
    ] {
        let reason = refused(&text, &with_redis());
        assert!(reason.contains(expect), "{text}: {reason}");
    }
}
