//! Every metric of the service, in one place. Labels are closed sets.

use crate::{
    cache::{Evictions, Resident as _, Tier},
    live::Live,
};
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::{sync::atomic::Ordering, time::Duration};

/// What is counted of the shared tier. Clones count together.
#[derive(Clone, Debug)]
pub struct SharedMetrics {
    keys: IntCounterVec,
    calls: IntCounterVec,
    pub seconds: Histogram,
    pub breaker_open: IntGauge,
    pub breaker_opened: IntCounter,
}

impl SharedMetrics {
    fn declare(make: &Declare<'_>) -> prometheus::Result<Self> {
        let (keys, calls) =
            ("Keys asked of the shared tier and filled into it.", "Calls of the shared tier.");
        Ok(Self {
            keys: make.counters("shared_keys_total", keys, &["outcome"])?,
            calls: make.counters("shared_calls_total", calls, &["outcome"])?,
            seconds: make.histogram("shared_seconds", "Time of a call of the shared tier.")?,
            breaker_open: make
                .gauge("shared_breaker_open", "1 while the shared tier is left alone after failures.")?,
            breaker_opened: make.counter(
                "shared_breaker_opened_total",
                "Times that failures made the shared tier be left alone.",
            )?,
        })
    }

    /// Keys of which `hits` were held.
    pub fn read(&self, keys: usize, hits: usize) {
        self.keys.with_label_values(&["hit"]).inc_by(hits as u64);
        self.keys.with_label_values(&["miss"]).inc_by((keys - hits) as u64);
    }

    /// Loaded keys, of which the tier took `filled`.
    pub fn filled(&self, keys: usize, filled: usize) {
        self.keys.with_label_values(&["filled"]).inc_by(filled as u64);
        self.keys.with_label_values(&["not_filled"]).inc_by((keys - filled) as u64);
    }

    /// One call: `ok`, `error`, `late`, or `skipped` when it was not made.
    pub fn called(&self, outcome: &'static str) {
        self.calls.with_label_values(&[outcome]).inc();
    }
}

/// What is counted of reads of the source by key.
#[derive(Debug)]
pub struct FallbackMetrics {
    pub queries: IntCounter,
    pub refused: IntCounter,
    pub failed: IntCounter,
    pub seconds: Histogram,
    pub breaker_open: IntGauge,
}

impl FallbackMetrics {
    fn declare(make: &Declare<'_>) -> prometheus::Result<Self> {
        let (queries, refused) = ("Queries by key to the source.", "Reads refused to protect the source.");
        Ok(Self {
            queries: make.counter("fallback_queries_total", queries)?,
            refused: make.counter("fallback_refused_total", refused)?,
            failed: make.counter("fallback_failed_total", "Reads of the source that failed.")?,
            seconds: make.histogram("fallback_seconds", "Time of a read of the source.")?,
            breaker_open: make
                .gauge("fallback_breaker_open", "1 while the source is left alone after failures.")?,
        })
    }
}

/// What the audit has found.
#[derive(Debug)]
pub struct AuditMetrics {
    pub checks: IntCounter,
    pub raced: IntCounter,
    pub failed: IntCounter,
    pub mismatches: IntCounterVec,
    pub nines: Gauge,
    pub worst_staleness: Gauge,
}

impl AuditMetrics {
    fn declare(make: &Declare<'_>) -> prometheus::Result<Self> {
        let (raced, failed) = ("Keys that changed while they were compared.", "Audits without a verdict.");
        let mismatches = "Answers that differed from the source, by tier.";
        let (nines, worst) =
            ("-log10 of the share of checks with a mismatch.", "Of an answer that was found.");
        Ok(Self {
            checks: make.counter("audit_checks_total", "Keys compared in all tiers.")?,
            raced: make.counter("audit_raced_total", raced)?,
            failed: make.counter("audit_failed_total", failed)?,
            mismatches: make.counters("audit_mismatches_total", mismatches, &["tier"])?,
            nines: make.float("audit_nines", nines)?,
            worst_staleness: make.float("audit_worst_staleness_seconds", worst)?,
        })
    }
}

/// What has been removed for the depth of history.
#[derive(Debug)]
pub struct PruneMetrics {
    pub scanned: IntCounter,
    pub pruned: IntCounter,
    pub failed: IntCounter,
}

impl PruneMetrics {
    fn declare(make: &Declare<'_>) -> prometheus::Result<Self> {
        let pruned = "Keys of which old versions were removed.";
        Ok(Self {
            scanned: make.counter("prune_scanned_total", "Keys looked at for versions to remove.")?,
            pruned: make.counter("prune_pruned_total", pruned)?,
            failed: make.counter("prune_failed_total", "Rounds of pruning that failed; they are resumed.")?,
        })
    }
}

/// Lookups: those of the ones that are answered are at hand.
#[derive(Debug)]
pub struct LookupMetrics {
    by_code: IntCounterVec,
    answered: IntCounter,
    latest_seconds: Histogram,
    as_of_seconds: Histogram,
}

impl LookupMetrics {
    fn declare(make: &Declare<'_>) -> prometheus::Result<Self> {
        let by_code = make.counters("lookups_total", "Lookups, by gRPC code.", &["code"])?;
        let seconds =
            make.histograms("lookup_seconds", "Time of a lookup, by read point.", &["read_point"])?;
        Ok(Self {
            answered: by_code.with_label_values(&["ok"]),
            by_code,
            latest_seconds: seconds.with_label_values(&["latest"]),
            as_of_seconds: seconds.with_label_values(&["as_of"]),
        })
    }

    /// A lookup got its answer.
    pub fn answered(&self, latest: bool, took: Duration) {
        self.answered.inc();
        let seconds = if latest { &self.latest_seconds } else { &self.as_of_seconds };
        seconds.observe(took.as_secs_f64());
    }

    /// A lookup failed, with this gRPC code.
    pub fn failed(&self, code: &str) {
        self.by_code.with_label_values(&[code]).inc();
    }
}

/// Handles of all metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub lookups: LookupMetrics,
    pub keys_by_tier: [IntCounter; Tier::ALL.len()],
    pub keys_before_history: IntCounter,
    pub transactions: IntCounter,
    pub changes: IntCounter,
    pub feed_losses: IntCounter,
    pub store_errors: IntCounter,
    pub store_read_seconds: Histogram,
    pub store_write_seconds: Histogram,
    pub snapshot_rows: IntCounter,
    pub shared: SharedMetrics,
    pub fallback: FallbackMetrics,
    pub audit: AuditMetrics,
    pub prune: PruneMetrics,
    pub refreshed: IntCounterVec,
    evicted: IntCounterVec,
    pub role_changes: IntCounter,
    writer: IntGauge,
    term: IntGauge,
    applied: IntGauge,
    durable: IntGauge,
    following: IntGauge,
    serving: IntGauge,
    feed_age: Gauge,
    resident_rows: IntGaugeVec,
    resident_bytes: IntGaugeVec,
    overlay_versions: IntGaugeVec,
}

impl Metrics {
    /// Declares them all in a registry of their own.
    ///
    /// # Errors
    /// When two metrics share a name.
    pub fn try_new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("dimsvc".into()), None)?;
        let make = Declare { registry: &registry };
        let keys =
            make.counters("cache_requests_total", "Keys answered, by the tier that answered.", &["tier"])?;
        Ok(Self {
            lookups: LookupMetrics::declare(&make)?,
            keys_by_tier: Tier::ALL.map(|tier| keys.with_label_values(&[tier.as_str()])),
            keys_before_history: make
                .counter("before_history_total", "Keys asked at or below the history floor.")?,
            transactions: make.counter("transactions_total", "Transactions applied.")?,
            changes: make.counter("row_changes_total", "Row versions applied.")?,
            feed_losses: make.counter("feed_losses_total", "Times that the binlog stream was lost.")?,
            store_errors: make.counter("store_errors_total", "Store calls that failed.")?,
            store_read_seconds: make.histogram("store_read_seconds", "Time of a batched store read.")?,
            store_write_seconds: make.histogram("store_write_seconds", "Time of a batched store write.")?,
            shared: SharedMetrics::declare(&make)?,
            fallback: FallbackMetrics::declare(&make)?,
            audit: AuditMetrics::declare(&make)?,
            prune: PruneMetrics::declare(&make)?,
            refreshed: make.counters("refreshed_total", "Rows loaded before their time.", &["outcome"])?,
            evicted: make.counters(
                "evicted_total",
                "Rows that left the lru tier by themselves.",
                &["dimension", "cause"],
            )?,
            snapshot_rows: make.counter("snapshot_rows_total", "Rows read by first loads.")?,
            role_changes: make
                .counter("role_changes_total", "Times that this process began or ceased to be the writer.")?,
            writer: make.gauge("writer", "1 while this process writes the store.")?,
            term: make.gauge("term", "Counts the processes that became the store's writer.")?,
            applied: make.gauge("applied_position", "Packed position up to which the binlog is applied.")?,
            durable: make.gauge("durable_position", "Packed position up to which changes are durable.")?,
            following: make.gauge("following", "1 while the binlog is followed.")?,
            serving: make.gauge("serving", "1 while every dimension is answered.")?,
            feed_age: make.float("feed_age_seconds", "Time since all that the source had was applied.")?,
            resident_rows: make.gauges("resident_rows", "Rows in process.", &["dimension"])?,
            resident_bytes: make.gauges("resident_bytes", "Bytes of rows in process.", &["dimension"])?,
            overlay_versions: make.gauges("overlay_versions", "Versions not yet durable.", &["dimension"])?,
            registry,
        })
    }

    /// All metrics in Prometheus text form, gauges read from `live` now.
    ///
    /// # Errors
    /// When they cannot be encoded.
    pub fn render(&self, live: &Live) -> prometheus::Result<Vec<u8>> {
        self.applied.set(signed(live.applied.get().packed()));
        self.durable.set(signed(live.durable.get().packed()));
        self.following.set(i64::from(live.feed.is_following()));
        self.serving.set(i64::from(live.is_serving()));
        let standing = live.role.standing();
        self.writer.set(i64::from(standing.is_writer));
        self.term.set(signed(standing.term));
        self.feed_age.set(live.freshness.age().as_secs_f64());
        for dimension in live.dimensions() {
            let label = [dimension.dimension.name.as_ref()];
            self.resident_rows.with_label_values(&label).set(signed(dimension.cache.tier().rows()));
            self.resident_bytes.with_label_values(&label).set(signed(dimension.cache.tier().bytes()));
            self.overlay_versions
                .with_label_values(&label)
                .set(signed(dimension.cache.overlay_versions() as u64));
            if let Some(lru) = dimension.cache.tier().lru() {
                self.count_evictions(&dimension.dimension.name, lru.evictions());
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn count_evictions(&self, dimension: &str, evictions: &Evictions) {
        for (cause, count) in [("expired", &evictions.expired), ("size", &evictions.size)] {
            let counter = self.evicted.with_label_values(&[dimension, cause]);
            counter.inc_by(count.load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

struct Declare<'r> {
    registry: &'r Registry,
}

impl Declare<'_> {
    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::new(name, help)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::new(name, help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn float(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        let gauge = Gauge::new(name, help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn histogram(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(latency_buckets()))?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let histograms =
            HistogramVec::new(HistogramOpts::new(name, help).buckets(latency_buckets()), labels)?;
        self.registry.register(Box::new(histograms.clone()))?;
        Ok(histograms)
    }
}

/// 50 µs to about 13 s.
fn latency_buckets() -> Vec<f64> {
    (0..10).map(|power| 50e-6 * 4f64.powi(power)).collect()
}
