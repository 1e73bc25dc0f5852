//! The numbers and the state of health of the layers of one process.
//!
//! Every layer counts into its own [`LayerMetrics`] and says there what it
//! waits for; `http` shows both. Labels are closed sets: a layer, a
//! reason, never a key or a table.

use parking_lot::Mutex;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Seconds: from a lookup in the cache to a wait for a service that is down.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A layer of the warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    Ods,
    Dwd,
    Dws,
    Ads,
}

impl Layer {
    /// All layers, in the order of the flow.
    pub const ALL: [Self; 4] = [Self::Ods, Self::Dwd, Self::Dws, Self::Ads];

    /// Its name: the subcommand, the label, the end of its consumer group.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ods => "ods",
            Self::Dwd => "dwd",
            Self::Dws => "dws",
            Self::Ads => "ads",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Layer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|layer| layer.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is not a layer: ods, dwd, dws, ads"))
    }
}

/// What a layer waits for while it makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocked {
    /// It has not begun its work yet.
    Starting,
    /// The binlog cannot be read.
    Source,
    /// Kafka does not take or give messages.
    Kafka,
    /// dimsvc does not answer, or not yet.
    Lookup,
    /// ClickHouse does not answer.
    Clickhouse,
}

impl Blocked {
    const ALL: [Self; 5] = [Self::Starting, Self::Source, Self::Kafka, Self::Lookup, Self::Clickhouse];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Source => "source",
            Self::Kafka => "kafka",
            Self::Lookup => "lookup",
            Self::Clickhouse => "clickhouse",
        }
    }
}

/// All metrics of the process. A clone shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    counters: BTreeMap<&'static str, IntCounterVec>,
    lag: IntGaugeVec,
    blocked: IntGaugeVec,
    seconds: BTreeMap<&'static str, HistogramVec>,
    reasons: Arc<Mutex<BTreeMap<(Layer, Blocked), String>>>,
}

const COUNTERS: [(&str, &str); 9] = [
    ("rows_in_total", "Messages or row changes taken in."),
    ("rows_out_total", "Messages or rows delivered."),
    ("rows_dropped_total", "Rows that a filter or an INNER join dropped."),
    ("rows_dead_lettered_total", "Messages sent to the dead-letter topic."),
    ("null_messages_total", "Messages without a payload, skipped."),
    ("before_history_total", "Lookup answers from before the kept history."),
    ("statements_skipped_total", "Statements of the binlog that are not rows: DDL and its like."),
    ("pauses_total", "Times that the layer was stuck and its partitions were paused."),
    ("retries_total", "Calls to a service that failed and were made again."),
];

const HISTOGRAMS: [(&str, &str); 2] = [
    ("lookup_seconds", "Time of one batched lookup, with its retries."),
    ("batch_seconds", "Time of one batch, from its arrival to its delivery."),
];

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When a metric's name is taken, which a fresh registry excludes.
    pub fn try_new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let name = |name: &str| format!("tidemark_worker_{name}");
        let mut counters = BTreeMap::new();
        for (key, help) in COUNTERS {
            let counter = IntCounterVec::new(Opts::new(name(key), help), &["layer"])?;
            registry.register(Box::new(counter.clone()))?;
            counters.insert(key, counter);
        }
        let mut seconds = BTreeMap::new();
        for (key, help) in HISTOGRAMS {
            let options = HistogramOpts::new(name(key), help).buckets(SECONDS.to_vec());
            let histogram = HistogramVec::new(options, &["layer"])?;
            registry.register(Box::new(histogram.clone()))?;
            seconds.insert(key, histogram);
        }
        let lag =
            Opts::new(name("lag_records"), "Records of its topics that the layer has not committed yet.");
        let lag = IntGaugeVec::new(lag, &["layer"])?;
        let blocked = Opts::new(name("blocked"), "1 while the layer waits for this.");
        let blocked = IntGaugeVec::new(blocked, &["layer", "reason"])?;
        registry.register(Box::new(lag.clone()))?;
        registry.register(Box::new(blocked.clone()))?;
        Ok(Self { registry, counters, lag, blocked, seconds, reasons: Arc::default() })
    }

    /// The metrics of a layer. From now on `/readyz` waits for it: it is
    /// blocked by [`Blocked::Starting`] until it says otherwise.
    pub fn layer(&self, layer: Layer) -> LayerMetrics {
        let label = [layer.as_str()];
        let counter = |key: &str| self.counters.get(key).map(|vec| vec.with_label_values(&label));
        let counter = |key| counter(key).unwrap_or_else(|| unreachable_metric(key));
        let histogram = |key: &str| self.seconds.get(key).map(|vec| vec.with_label_values(&label));
        let histogram = |key| histogram(key).unwrap_or_else(|| unreachable_metric(key));
        for reason in Blocked::ALL {
            self.blocked.with_label_values(&[layer.as_str(), reason.as_str()]).set(0);
        }
        let metrics = LayerMetrics {
            layer,
            rows_in: counter("rows_in_total"),
            rows_out: counter("rows_out_total"),
            rows_dropped: counter("rows_dropped_total"),
            rows_dead_lettered: counter("rows_dead_lettered_total"),
            null_messages: counter("null_messages_total"),
            before_history: counter("before_history_total"),
            statements_skipped: counter("statements_skipped_total"),
            pauses: counter("pauses_total"),
            retries: counter("retries_total"),
            lag: self.lag.with_label_values(&label),
            lookup_seconds: histogram("lookup_seconds"),
            batch_seconds: histogram("batch_seconds"),
            blocked: self.blocked.clone(),
            reasons: Arc::clone(&self.reasons),
        };
        metrics.blocked(Blocked::Starting, &"the layer is starting");
        metrics
    }

    /// Why the process is not ready, one line a reason; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        let reasons = self.reasons.lock();
        let lines: Vec<_> = reasons
            .iter()
            .map(|((layer, kind), text)| format!("{layer}: {}: {text}", kind.as_str()))
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// Everything in Prometheus' text form.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// The registry, for metrics that only one layer has.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// A name that is not in the tables above is a mistake in this file.
fn unreachable_metric(key: &str) -> ! {
    unreachable!("{key} is not registered")
}

/// The metrics of one layer. A clone shares them.
#[derive(Clone)]
pub struct LayerMetrics {
    layer: Layer,
    pub rows_in: IntCounter,
    pub rows_out: IntCounter,
    pub rows_dropped: IntCounter,
    pub rows_dead_lettered: IntCounter,
    pub null_messages: IntCounter,
    pub before_history: IntCounter,
    pub statements_skipped: IntCounter,
    pub pauses: IntCounter,
    pub retries: IntCounter,
    pub lag: IntGauge,
    pub lookup_seconds: Histogram,
    pub batch_seconds: Histogram,
    blocked: IntGaugeVec,
    reasons: Arc<Mutex<BTreeMap<(Layer, Blocked), String>>>,
}

impl LayerMetrics {
    /// The layer that counts here.
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// The layer makes no progress because of this; `/readyz` says why.
    pub fn blocked(&self, reason: Blocked, why: &dyn fmt::Display) {
        self.blocked.with_label_values(&[self.layer.as_str(), reason.as_str()]).set(1);
        self.reasons.lock().insert((self.layer, reason), why.to_string());
    }

    /// This no longer holds the layer up.
    pub fn unblocked(&self, reason: Blocked) {
        self.blocked.with_label_values(&[self.layer.as_str(), reason.as_str()]).set(0);
        self.reasons.lock().remove(&(self.layer, reason));
    }

    /// The layer has begun its work.
    pub fn started(&self) {
        self.unblocked(Blocked::Starting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_ready_once_nothing_blocks_it() {
        let metrics = Metrics::try_new().unwrap();
        assert_eq!(metrics.not_ready(), None);

        let dwd = metrics.layer(Layer::Dwd);
        assert!(metrics.not_ready().unwrap().contains("dwd: starting"));

        dwd.started();
        dwd.blocked(Blocked::Lookup, &"dimension sku_info is loading");
        assert_eq!(metrics.not_ready().unwrap(), "dwd: lookup: dimension sku_info is loading");
        assert!(metrics.encode().unwrap().contains(r#"blocked{layer="dwd",reason="lookup"} 1"#));

        dwd.unblocked(Blocked::Lookup);
        assert_eq!(metrics.not_ready(), None);
    }

    #[test]
    fn layers_count_apart() {
        let metrics = Metrics::try_new().unwrap();
        metrics.layer(Layer::Ods).rows_in.inc_by(3);
        metrics.layer(Layer::Dwd).rows_in.inc();
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"tidemark_worker_rows_in_total{layer="ods"} 3"#), "{text}");
        assert!(text.contains(r#"tidemark_worker_rows_in_total{layer="dwd"} 1"#), "{text}");
    }
}
