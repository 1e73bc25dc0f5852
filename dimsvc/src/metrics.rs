//! Every metric of the service, in one place. Labels are closed sets.

use crate::{cache::Tier, live::Live};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Handles of all metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub lookups: IntCounterVec,
    pub lookup_seconds: HistogramVec,
    pub keys_by_tier: [IntCounter; Tier::ALL.len()],
    pub keys_before_history: IntCounter,
    pub transactions: IntCounter,
    pub changes: IntCounter,
    pub feed_losses: IntCounter,
    pub store_errors: IntCounter,
    pub store_read_seconds: Histogram,
    pub store_write_seconds: Histogram,
    pub snapshot_rows: IntCounter,
    applied: IntGauge,
    durable: IntGauge,
    following: IntGauge,
    serving: IntGauge,
    feed_age: prometheus::Gauge,
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
            lookups: make.counters("lookups_total", "Lookups, by gRPC code.", &["code"])?,
            lookup_seconds: make.histograms(
                "lookup_seconds",
                "Time of a lookup, by read point.",
                &["read_point"],
            )?,
            keys_by_tier: Tier::ALL.map(|tier| keys.with_label_values(&[tier.as_str()])),
            keys_before_history: make
                .counter("before_history_total", "Keys asked at or below the history floor.")?,
            transactions: make.counter("transactions_total", "Transactions applied.")?,
            changes: make.counter("row_changes_total", "Row versions applied.")?,
            feed_losses: make.counter("feed_losses_total", "Times that the binlog stream was lost.")?,
            store_errors: make.counter("store_errors_total", "Store calls that failed.")?,
            store_read_seconds: make.histogram("store_read_seconds", "Time of a batched store read.")?,
            store_write_seconds: make.histogram("store_write_seconds", "Time of a batched store write.")?,
            snapshot_rows: make.counter("snapshot_rows_total", "Rows read by first loads.")?,
            applied: make.gauge("applied_position", "Packed position up to which the binlog is applied.")?,
            durable: make.gauge("durable_position", "Packed position up to which changes are durable.")?,
            following: make.gauge("following", "1 while the binlog is followed.")?,
            serving: make.gauge("serving", "1 while every dimension is answered.")?,
            feed_age: {
                let gauge =
                    prometheus::Gauge::new("feed_age_seconds", "Time since the source was last heard.")?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
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
        self.feed_age.set(live.freshness.age().as_secs_f64());
        for dimension in live.dimensions() {
            let label = [dimension.dimension.name.as_ref()];
            self.resident_rows.with_label_values(&label).set(signed(dimension.cache.resident_rows()));
            self.resident_bytes.with_label_values(&label).set(signed(dimension.cache.resident_bytes()));
            self.overlay_versions
                .with_label_values(&label)
                .set(signed(dimension.cache.overlay_versions() as u64));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
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
