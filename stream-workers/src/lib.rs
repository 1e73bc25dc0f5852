//! Thin Kafka workers that build the layers of a warehouse.
//!
//! ```text
//! MySQL binlog ─► ods ─► topic_db ─► dwd ─► dwd_* ─► dws ─► ClickHouse ─► ads ─► HTTP
//!                                     │
//!                                     └─ lookup: batched, fenced calls to dimsvc
//!
//! warehouse   the folder that people write: settings, dimensions, SQL → plans
//! source      Kafka in: batches and rebalances of a consumer group
//! lookup      dimension rows for a batch
//! layers      what is done with it, a module a layer
//! sink        Kafka, dead letters and ClickHouse out
//! ```
//!
//! A process runs one layer or several; they share nothing but the metrics.

pub mod calendar;
pub mod check;
mod http;
pub mod kafka;
pub mod layers;
pub mod lookup;
pub mod metrics;
pub mod sink;
pub mod source;
pub mod telemetry;
pub mod warehouse;

use anyhow::Context as _;
use metrics::{Layer, Metrics};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use warehouse::Warehouse;

/// Beyond the layers' own drain, for closing their clients.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// Runs layers of a warehouse until `shutdown`, or until one of them ends by
/// itself: then the others are stopped too.
///
/// # Errors
/// With the first layer's reason to fail; a panic is one.
pub async fn run(warehouse: Warehouse, layers: &[Layer], shutdown: CancellationToken) -> anyhow::Result<()> {
    let drain = Duration::from_millis(warehouse.config.workers.drain_timeout_ms);
    let listener = http::bind(&warehouse.config.workers.metrics_listen).await?;
    let metrics = Metrics::try_new().context("register metrics")?;
    let warehouse = Arc::new(warehouse);
    let mut running = Running::default();
    for layer in layers {
        running.start(*layer, &warehouse, &metrics, &shutdown);
    }
    let serving = http::serve(listener, metrics, shutdown.clone());
    running.add("http", serving);
    let first = tokio::select! {
        first = running.next() => first,
        () = shutdown.cancelled() => Ok(()),
    };
    shutdown.cancel();
    let rest = timeout(drain + CLOSE_GRACE, running.finish()).await;
    first?;
    rest.context("the layers did not stop in time")?
}

/// The layers at work, by name.
#[derive(Default)]
struct Running {
    tasks: JoinSet<anyhow::Result<()>>,
    names: Vec<(Id, &'static str)>,
}

impl Running {
    fn start(
        &mut self,
        layer: Layer,
        warehouse: &Arc<Warehouse>,
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) {
        let (warehouse, metrics, shutdown) = (Arc::clone(warehouse), metrics.clone(), shutdown.clone());
        match layer {
            Layer::Ods => self.add(layer.as_str(), layers::ods::run(warehouse, metrics, shutdown)),
            Layer::Dwd => self.add(layer.as_str(), layers::dwd::run(warehouse, metrics, shutdown)),
            Layer::Dws => self.add(layer.as_str(), layers::dws::run(warehouse, metrics, shutdown)),
            Layer::Ads => self.add(layer.as_str(), layers::ads::run(warehouse, metrics, shutdown)),
        }
    }

    fn add(&mut self, name: &'static str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let id = self.tasks.spawn(work).id();
        self.names.push((id, name));
    }

    /// The end of the next task; a panic is an error with the layer's name.
    async fn next(&mut self) -> anyhow::Result<()> {
        let Some(done) = self.tasks.join_next_with_id().await else { return Ok(()) };
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let name = self.names.iter().find(|(known, _)| *known == id).map_or("task", |(_, name)| name);
        match done {
            Ok((_, result)) => {
                tracing::info!(name, "stopped");
                result.with_context(|| name)
            }
            Err(error) => Err(anyhow::anyhow!("{name}: {error}")),
        }
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        while !self.tasks.is_empty() {
            self.next().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_layer_that_fails_or_panics_is_named() {
        let mut running = Running::default();
        running.add("ods", async { anyhow::bail!("the binlog is gone") });
        assert_eq!(format!("{:#}", running.next().await.unwrap_err()), "ods: the binlog is gone");
        running.add("dwd", async { panic!("a proof was wrong") });
        let error = format!("{:#}", running.next().await.unwrap_err());
        assert!(error.starts_with("dwd: ") && error.contains("a proof was wrong"), "{error}");
    }

    #[tokio::test]
    async fn a_taken_port_is_told_before_any_work_begins() {
        let taken = http::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = format!("{:#}", http::bind(&address).await.unwrap_err());
        assert!(error.contains("workers.metrics_listen") && error.contains(&address), "{error}");
    }
}
