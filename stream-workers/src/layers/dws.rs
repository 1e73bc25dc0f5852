//! The DWS layer: dwd topics in, window aggregates in ClickHouse.
//!
//! ```text
//! dwd topic ─► batch ──► measure ──► aggregate ──► table ──► ClickHouse
//!              parse     filter,     merge into    NAME_prefix, versioned;
//!                        window,     groups, skip  NAME, the view for SQL
//!                        arguments   by version
//!                                                  then commit
//! ```
//!
//! Every row in ClickHouse is the aggregate of one log prefix, its version the
//! next offset. So a crash, a retry, a duplicate or a worker that lost its
//! partition without noticing leaves right sums. `progress` decides whether a
//! log can give what its tables lack, `schema` knows their form.

mod aggregate;
mod assign;
mod batch;
mod measure;
mod progress;
mod retry;
mod schema;
mod table;
mod worker;

pub use schema::NameTaken;
pub use table::TableError;
pub use worker::{DwsError, Worker};

use crate::{
    metrics::{Blocked, Layer, LayerMetrics, Metrics},
    warehouse::{
        Mistake, Warehouse,
        types::{Catalog, WarehouseTypes},
    },
};
use anyhow::Context as _;
use measure::Measure;
use mysql_async::OptsBuilder;
use schema::Schema;
use std::{future::Future, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long MySQL is left alone before the next try.
const MYSQL_RETRY: Duration = Duration::from_secs(2);

/// Builds the dws tables of a warehouse until `shutdown`.
///
/// # Errors
/// What no retry can mend: a table of another plan, a log with a gap, a sum
/// that overflows.
pub async fn run(
    warehouse: Arc<Warehouse>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let layer = metrics.layer(Layer::Dws);
    let kafka = &warehouse.config.kafka;
    let mut topics: Vec<&str> = warehouse.dws.iter().map(|plan| plan.topic.as_str()).collect();
    topics.push(&kafka.dead_letter_topic);
    topics.sort_unstable();
    topics.dedup();
    tokio::select! {
        prepared = super::prepare_topics(kafka, &topics, &layer) => drop(prepared?),
        () = shutdown.cancelled() => return Ok(()),
    }
    let Some(types) = types(&warehouse, &layer, &shutdown).await? else { return Ok(()) };
    match Worker::of_warehouse(&warehouse, &types, (&layer, &shutdown)).await {
        Ok(worker) => Ok(worker.run().await?),
        Err(error) if matches!(error.downcast_ref(), Some(DwsError::Stopped)) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Worker {
    /// A worker for all dws tables of a warehouse, whose columns are of `types`.
    ///
    /// # Errors
    /// When a table is not the plan's, or Kafka's client refuses its settings.
    pub async fn of_warehouse(
        warehouse: &Warehouse,
        types: &WarehouseTypes,
        (metrics, shutdown): (&LayerMetrics, &CancellationToken),
    ) -> anyhow::Result<Self> {
        let database = &warehouse.config.clickhouse.database;
        let mut measures = Vec::with_capacity(warehouse.dws.len());
        for plan in &warehouse.dws {
            let types = types.dws.get(&plan.name).with_context(|| format!("{} has no types", plan.name))?;
            let schema = Schema::try_new(database, plan, &measure::value_types(types, plan))?;
            measures.push(Measure { plan: plan.clone(), schema });
        }
        Ok(Self::open(&warehouse.config, measures, (metrics, shutdown)).await?)
    }
}

/// The types of all tables, from MySQL's columns; `None` when the process stops
/// before MySQL answers.
async fn types(
    warehouse: &Warehouse,
    metrics: &LayerMetrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<WarehouseTypes>> {
    loop {
        let catalog = tokio::select! {
            catalog = catalog(warehouse) => catalog,
            () = shutdown.cancelled() => return Ok(None),
        };
        let error = match catalog {
            Ok(catalog) => {
                metrics.unblocked(Blocked::Source);
                return Ok(Some(warehouse.types(&catalog).map_err(|found| mistakes(&found))?));
            }
            Err(error) => error,
        };
        tracing::warn!(error = format!("{error:#}"), "column types of the sources are not known yet");
        metrics.blocked(Blocked::Source, &format!("{error:#}"));
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(MYSQL_RETRY) => {}
        }
    }
}

async fn catalog(warehouse: &Warehouse) -> anyhow::Result<Catalog> {
    let mysql = &warehouse.config.mysql;
    let options = OptsBuilder::default()
        .ip_or_hostname(mysql.host.clone())
        .tcp_port(mysql.port)
        .user(Some(mysql.user.clone()))
        .pass(Some(mysql.password.clone()));
    let connecting = mysql_async::Conn::new(options);
    let mut conn = within(mysql.connect_timeout_ms, connecting).await?.context("connect to MySQL")?;
    let loading = Catalog::load(&mut conn, &mysql.database, warehouse.source_tables());
    let catalog =
        within(mysql.query_timeout_ms, loading).await?.context("read the columns of the source tables")?;
    conn.disconnect().await.ok();
    Ok(catalog)
}

async fn within<T>(limit_ms: u64, call: impl Future<Output = T>) -> anyhow::Result<T> {
    let limit = Duration::from_millis(limit_ms);
    tokio::time::timeout(limit, call).await.with_context(|| format!("MySQL did not answer within {limit:?}"))
}

fn mistakes(found: &[Mistake]) -> anyhow::Error {
    anyhow::anyhow!(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
