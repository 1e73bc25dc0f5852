//! The dimension service: a cache in front of every version of every dimension
//! row, kept fresh from the MySQL binlog, with lookups fenced by position.
//!
//! ```text
//!  MySQL ─ binlog ─► change ─► apply ─► cache ─► writer ─► store
//!                                │        ▲                  ▲
//!                             applied     │ memory first     │ then the truth
//!                                ▼        │                  │
//!  gRPC ───────────────────────► serve ───┴──────────────────┘
//! ```
//!
//! Two flows meet in [`cache`]: changes in (`change → apply → cache + store`)
//! and requests in (`serve → cache → store`). [`run`] is the wiring.

pub mod apply;
pub mod cache;
pub mod change;
pub mod clock;
pub mod dimension;
pub mod gtids;
pub mod http;
pub mod live;
pub mod metrics;
pub mod registry;
pub mod serve;
mod start;
pub mod state;
pub mod store;
pub mod writer;

use anyhow::Context as _;
use apply::Applier;
use change::{feed::Feed, fill::fill, snapshot::Snapshot};
use metrics::Metrics;
use serve::Lookups;
use start::Started;
use std::{future::Future, path::Path, sync::Arc, time::Duration};
use tidemark_proto::config::{Config, ConfigError, Dimensions, load};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use writer::Writer;

/// Events between apply and the writer; the overlays' bound holds before.
const WRITER_QUEUE: usize = 4_096;

/// What a warehouse folder says to this program.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Config,
    pub dimensions: Dimensions,
}

impl Settings {
    /// Reads `tidemark.toml` and `dimensions.toml` of a folder.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let config = load(&folder.join("tidemark.toml"))?;
        // The environment overrides settings, not the list of dimensions.
        let none = std::iter::empty();
        let path = folder.join("dimensions.toml");
        let dimensions: Dimensions = tidemark_proto::config::load_with_env(&path, none)?;
        if dimensions.is_empty() {
            let message = "there is no dimension: add a section as [base_province]".to_owned();
            return Err(ConfigError { source_name: path.display().to_string(), place: None, message });
        }
        Ok(Self { config, dimensions })
    }
}

/// Checks settings, source and dimensions as a start would, and changes
/// nothing.
///
/// # Errors
/// The first thing that would keep the service from starting.
pub async fn check(settings: &Settings) -> anyhow::Result<()> {
    start::check(settings).await
}

/// Runs the service until `shutdown` ends, then drains: no new lookups, answers
/// those at work, writes what is applied, writes a checkpoint.
///
/// # Errors
/// When it cannot start, or one of its parts fails for good.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let config = settings.config.dimsvc.clone();
    let listener = serve::bind("dimsvc.listen", &config.listen).await?;
    let http_listener = serve::bind("dimsvc.metrics_listen", &config.metrics_listen).await?;
    let started = start::start(&settings).await?;
    let metrics = Arc::new(Metrics::try_new()?);

    let mut parts = Parts::default();
    let (queue, pending) = mpsc::channel(WRITER_QUEUE);
    let applier =
        Applier::new(Arc::clone(&started.live), Arc::clone(&metrics), config.limits.overlay_bytes_max, queue);
    parts.serve(&started, &metrics, &settings, (listener, http_listener));
    parts.write(&started, &metrics, pending);
    parts.follow(&started, &metrics, applier);
    parts.load(&started, &metrics, &settings);

    let failed = tokio::select! {
        () = shutdown => { info!("told to stop, draining"); Ok(()) }
        failed = parts.first_failure() => failed,
    };
    let limit = Duration::from_millis(config.limits.drain_timeout_ms);
    let drained = parts.drain(limit).await;
    // A store call that hangs must not hold up the end: it is repeated.
    if tokio::time::timeout(limit, started.store.shutdown()).await.is_err() {
        warn!("a store call is still at work at the end");
    }
    failed.and(drained)
}

/// The tasks of the service, and what stops each group of them in order: first
/// intake, then (once the feed has let go of the queue) the writer.
#[derive(Default)]
struct Parts {
    tasks: JoinSet<anyhow::Result<()>>,
    intake: CancellationToken,
    writing: CancellationToken,
}

impl Parts {
    fn serve(
        &mut self,
        started: &Started,
        metrics: &Arc<Metrics>,
        settings: &Settings,
        (listener, http_listener): (tokio::net::TcpListener, tokio::net::TcpListener),
    ) {
        let lookups = Lookups {
            live: Arc::clone(&started.live),
            store: started.store.clone(),
            source: started.source.clone(),
            metrics: Arc::clone(metrics),
            limits: settings.config.dimsvc.limits.clone(),
            stop: self.intake.clone(),
        };
        let (live, metrics) = (Arc::clone(&started.live), Arc::clone(metrics));
        self.tasks.spawn(serve::serve(listener, lookups, self.intake.clone()));
        self.tasks.spawn(http::serve(http_listener, live, metrics, self.intake.clone()));
    }

    fn write(&mut self, started: &Started, metrics: &Arc<Metrics>, pending: mpsc::Receiver<apply::Pending>) {
        let writer = Writer {
            live: Arc::clone(&started.live),
            metrics: Arc::clone(metrics),
            store: started.store.clone(),
            state: Arc::clone(&started.state),
            file_base: started.file_base(),
            gtids: started.gtids.clone(),
        };
        let stop = self.writing.clone();
        self.tasks.spawn(async move { writer.run(pending, stop).await.context("writer") });
    }

    fn follow(&mut self, started: &Started, metrics: &Arc<Metrics>, applier: Applier) {
        let feed = Feed {
            source: started.source.clone(),
            options: started.stream.clone(),
            applier,
            live: Arc::clone(&started.live),
            metrics: Arc::clone(metrics),
        };
        let stop = self.intake.clone();
        self.tasks.spawn(async move {
            feed.run(stop).await;
            Ok(())
        });
    }

    fn load(&mut self, started: &Started, metrics: &Arc<Metrics>, settings: &Settings) {
        let snapshot = Snapshot {
            source: started.source.clone(),
            live: Arc::clone(&started.live),
            store: started.store.clone(),
            state: Arc::clone(&started.state),
            metrics: Arc::clone(metrics),
            chunk_rows: settings.config.dimsvc.snapshot.chunk_rows,
            query_timeout: Duration::from_millis(settings.config.mysql.query_timeout_ms),
        };
        let (loading, store, stop) = (started.loading.clone(), started.store.clone(), self.intake.clone());
        self.tasks.spawn(async move {
            let load = load_all(&snapshot, &loading, &store);
            tokio::select! {
                loaded = load => loaded,
                () = stop.cancelled() => Ok(()),
            }
        });
    }

    /// Waits for a part to fail. Parts that end well before a stop are done.
    async fn first_failure(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a part of the service panicked")??;
        }
        anyhow::bail!("every part of the service has ended")
    }

    async fn drain(mut self, limit: Duration) -> anyhow::Result<()> {
        self.intake.cancel();
        let deadline = tokio::time::Instant::now() + limit;
        let mut result = Ok(());
        loop {
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(None) => return result,
                Ok(Some(ended)) => {
                    let ended = ended.context("a part of the service panicked").and_then(|ended| ended);
                    result = result.and(ended);
                }
                Err(_) if self.writing.is_cancelled() => {
                    anyhow::bail!("not drained in time; a restart repeats the rest")
                }
                // The store does not take what is left: give it up, it is
                // applied again after a restart.
                Err(_) => {
                    self.writing.cancel();
                    self.tasks.abort_all();
                }
            }
        }
    }
}

/// Residence of what is loaded, then first loads one after the other; a
/// dimension answers as soon as its own part is done.
async fn load_all(
    snapshot: &Snapshot,
    dimensions: &[start::Loading],
    store: &store::StorePool,
) -> anyhow::Result<()> {
    let (complete, incomplete): (Vec<_>, Vec<_>) = dimensions.iter().partition(|loading| loading.complete);
    for loading in complete.into_iter().chain(incomplete) {
        let name = &loading.live.dimension.name;
        if !loading.complete {
            snapshot.load(&loading.live).await.with_context(|| format!("first load of dimension {name}"))?;
        }
        let filled = fill(&loading.live, store, &snapshot.live.applied).await;
        filled.with_context(|| format!("fill the tier of dimension {name}"))?;
    }
    Ok(())
}
