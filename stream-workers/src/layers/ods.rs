//! The ods layer: the binlog as messages of `topic_db`.
//!
//! ```text
//! binlog ─► capture: whole transactions ─► message: Maxwell's JSON
//!        ─► topic_db, acknowledged ─► place: kept in Kafka, once a second
//! ```
//!
//! Its place moves only after the rows before it are acknowledged: a crash sends
//! up to a second of rows again, with the same bytes, and loses none. On a gap it
//! only fails: what was not written can be had no more.

mod capture;
mod message;
mod partition;
mod place;

use crate::{
    lookup::{Lookup, SourceIdentity},
    metrics::{Blocked, Layer, LayerMetrics, Metrics},
    sink::kafka::KafkaSink,
    warehouse::Warehouse,
};
use anyhow::{Context as _, bail};
use capture::{Capture, Outlet};
use message::Format;
use place::{Place, Places};
use std::{fmt::Display, sync::Arc};
use tidemark_binlog::{BinlogPlace, Server, Source, SourceOptions};
use tidemark_proto::{Position, config::Config};
use tokio_util::sync::CancellationToken;

/// Runs the layer until it fails for good or the process stops.
///
/// # Errors
/// With the reason, when work cannot go on without somebody's help.
pub async fn run(
    warehouse: Arc<Warehouse>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let layer = metrics.layer(Layer::Ods);
    let capture = tokio::select! {
        capture = prepare(&warehouse.config, &layer) => capture?,
        () = shutdown.cancelled() => return Ok(()),
    };
    capture.run(shutdown).await
}

/// Finds out where to begin, waiting for every service that it needs.
async fn prepare(config: &Config, metrics: &LayerMetrics) -> anyhow::Result<Capture> {
    let kafka = &config.kafka;
    let topics = super::prepare_topics(kafka, &[&kafka.topic_db], metrics).await?;
    let partitions = topics.partitions(&[&kafka.topic_db]).await?.get(&kafka.topic_db).copied().unwrap_or(1);

    let source = Source::new(SourceOptions::from(&config.mysql));
    let server = retried(metrics, Blocked::Source, || source.check(), |error| error.is_retryable()).await?;
    let lookup = Lookup::try_new(config, metrics, CancellationToken::new())?;
    let identity = lookup.source().await?;
    if identity.server_uuid != server.uuid {
        bail!(
            "mysql at {}:{} is server {}, but dimsvc follows {}: let both name the same server",
            config.mysql.host,
            config.mysql.port,
            server.uuid,
            identity.server_uuid
        );
    }

    let places = Places::try_new(kafka)?;
    let kept = retried(metrics, Blocked::Kafka, || places.load(), place::PlaceError::is_retryable).await?;
    let place = match kept {
        Some(place) => known(place, &identity)?,
        None => {
            let begin = first_place(config, &source, &server, identity.epoch).await?;
            let place =
                Place { uuid: server.uuid, epoch: identity.epoch, file: begin.file, offset: begin.offset };
            // Before the first row: a crash must not begin at another "now".
            retried(metrics, Blocked::Kafka, || places.save(&place), place::PlaceError::is_retryable).await?;
            place
        }
    };
    tracing::info!(file = place.file, offset = place.offset, epoch = place.epoch, "ods begins");
    let format =
        Format { partition_by: config.ods.partition_by, partitions, output_gtid: config.ods.output_gtid };
    let sink = KafkaSink::try_new(kafka, metrics)?;
    let outlet = Outlet { sink, places, topic: kafka.topic_db.clone(), format, metrics: metrics.clone() };
    Capture::try_new(config, source, place, outlet)
}

/// A place goes on only in the same life of the same server.
fn known(place: Place, identity: &SourceIdentity) -> anyhow::Result<Place> {
    if place.uuid != identity.server_uuid || place.epoch != identity.epoch {
        bail!(
            "ods stopped in epoch {} of server {}, but dimsvc is in epoch {} of server {}: changes in between are \
             lost; rebuild the warehouse with another kafka.group_prefix and kafka.topic_db",
            place.epoch,
            place.uuid,
            identity.epoch,
            identity.server_uuid
        );
    }
    Ok(place)
}

/// Where a new ods begins, by the config.
async fn first_place(
    config: &Config,
    source: &Source,
    server: &Server,
    epoch: u64,
) -> anyhow::Result<BinlogPlace> {
    if config.ods.start == "now" {
        return source.binlog_end().await.context("begin at ods.start = \"now\"");
    }
    let position = Position::parse(&config.ods.start, epoch).context("read ods.start")?;
    Ok(BinlogPlace::new(&server.base_name, position))
}

/// Makes a call until it succeeds or fails for good.
async fn retried<T, E: Display, F: Future<Output = Result<T, E>>>(
    metrics: &LayerMetrics,
    waits_for: Blocked,
    call: impl Fn() -> F,
    is_retryable: impl Fn(&E) -> bool,
) -> Result<T, E> {
    loop {
        match call().await {
            Err(error) if is_retryable(&error) => {
                tracing::warn!(%error, "ods waits");
                metrics.blocked(waits_for, &error);
                metrics.retries.inc();
                tokio::time::sleep(super::START_RETRY).await;
            }
            result => {
                metrics.unblocked(waits_for);
                return result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_another_server_or_epoch_is_refused() {
        let identity = SourceIdentity { epoch: 2, server_uuid: "a".into() };
        let place =
            |uuid: &str, epoch| Place { uuid: uuid.into(), epoch, file: "binlog.000001".into(), offset: 4 };
        assert!(known(place("a", 2), &identity).is_ok());
        for wrong in [place("b", 2), place("a", 1)] {
            assert!(known(wrong, &identity).unwrap_err().to_string().contains("rebuild the warehouse"));
        }
    }
}
