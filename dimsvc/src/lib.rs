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
pub mod audit;
pub mod cache;
pub mod change;
pub mod client;
pub mod clock;
pub mod dimension;
pub mod fallback;
pub mod gtids;
pub mod http;
pub mod lease;
pub mod live;
pub mod load;
pub mod metrics;
pub mod prune;
pub mod registry;
pub mod ring;
pub mod role;
pub mod serve;
pub mod shared;
mod start;
pub mod state;
pub mod store;
pub mod upkeep;
pub mod writer;

use anyhow::Context as _;
use apply::{Applier, Room};
use audit::{Auditor, Findings};
use change::{
    feed::Feed, first_load::FirstLoads, lag::Lag, mend::Mender, repair::Repair, snapshot::Snapshot,
};
use fallback::Fallback;
use lease::Lease;
use load::Loader;
use metrics::Metrics;
use prune::Pruner;
use serve::{Admin, Lookups, Operators};
use shared::SharedTier;
use start::Started;
use std::{future::Future, path::Path, pin::pin, sync::Arc, time::Duration};
use tidemark_proto::config::{Config, ConfigError, Dimensions, Dimsvc, load as load_settings};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use upkeep::Upkeep;
use writer::Writer;

/// Events between apply and the writer; the overlays' bound holds before.
const WRITER_QUEUE: usize = 4_096;

/// For the writer to give back its lease once it was told to give up.
const LAST_STEPS: Duration = Duration::from_secs(2);

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
        let config = load_settings(&folder.join("tidemark.toml"))?;
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
    let mut shutdown = pin!(shutdown);
    let (started, lease) = tokio::select! {
        started = start::start(&settings) => started?,
        () = &mut shutdown => return Ok(()),
    };
    let metrics = Arc::new(Metrics::try_new()?);
    let shared = SharedTier::try_new(&config.shared, &started.live.store_id, metrics.shared.clone())
        .context("tidemark.toml: [dimsvc.shared] url")?;

    let mut parts = Parts::default();
    let (queue, pending) = mpsc::channel(WRITER_QUEUE);
    let room = Room::new(config.limits.overlay_bytes_max);
    let applier = Applier::new(Arc::clone(&started.live), Arc::clone(&metrics), room.clone(), queue);
    parts.keep_shared(&shared);
    let lookups = parts.lookups(&started, &metrics, &settings, (shared.clone(), room));
    let findings = parts.keep_up(&started, &lookups, &config);
    let operators = parts.operators(&started, &settings, (&lookups, findings));
    parts.serve((lookups, operators), (listener, http_listener));
    parts.write(&started, &metrics, &settings, (lease, shared, pending));
    parts.follow(&started, &metrics, (applier, config.server_id == 0));
    parts.load(&started, &metrics, &settings);

    let failed = tokio::select! {
        () = &mut shutdown => { info!("told to stop, draining"); Ok(()) }
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
    /// Loads at work; nobody waits for them at the end.
    loads: TaskTracker,
    intake: CancellationToken,
    writing: CancellationToken,
}

impl Parts {
    fn keep_shared(&mut self, shared: &SharedTier) {
        let shared = shared.clone();
        self.until_stop(|stop| async move { shared.run(stop).await });
    }

    fn lookups(
        &self,
        started: &Started,
        metrics: &Arc<Metrics>,
        settings: &Settings,
        (shared, room): (SharedTier, Room),
    ) -> Lookups {
        let (live, limits) = (&started.live, &settings.config.dimsvc.limits);
        let fallback =
            Fallback::new(started.source.clone(), Arc::clone(live), Arc::clone(metrics), &settings.config);
        let loader = Loader {
            store: started.store.clone(),
            shared,
            fallback,
            metrics: Arc::clone(metrics),
            timeout: Duration::from_millis(limits.store_timeout_ms),
            tasks: self.loads.clone(),
        };
        Lookups {
            live: Arc::clone(live),
            loader,
            source: started.source.clone(),
            metrics: Arc::clone(metrics),
            limits: limits.clone(),
            room,
            stop: self.intake.clone(),
        }
    }

    /// Starts what goes on in the background: the audit, where the source may be
    /// asked, the pruner, and the care for memory.
    fn keep_up(&mut self, started: &Started, lookups: &Lookups, config: &Dimsvc) -> Arc<Findings> {
        let (live, loader, metrics) = (&lookups.live, &lookups.loader, &lookups.metrics);
        let findings = Arc::new(Findings::new(Arc::clone(metrics)));
        let auditor = Auditor {
            live: Arc::clone(live),
            loader: loader.clone(),
            source: loader.fallback.clone(),
            findings: Arc::clone(&findings),
            keys_per_second: config.audit.keys_per_second as usize,
        };
        let pruner = Pruner {
            live: Arc::clone(live),
            store: started.store.clone(),
            cells: Arc::clone(&started.cells),
            metrics: Arc::clone(metrics),
            grace: prune::GRACE,
        };
        let upkeep = Upkeep { live: Arc::clone(live), loader: loader.clone(), metrics: Arc::clone(metrics) };
        if live.recent.is_on() && loader.fallback.is_allowed() {
            self.until_stop(|stop| auditor.run(stop));
        }
        self.until_stop(|stop| pruner.run(stop));
        self.until_stop(|stop| upkeep.run(stop));
        findings
    }

    fn until_stop<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        part: impl FnOnce(CancellationToken) -> F,
    ) {
        let running = part(self.intake.clone());
        self.tasks.spawn(async move {
            running.await;
            Ok(())
        });
    }

    fn operators(
        &mut self,
        started: &Started,
        settings: &Settings,
        (lookups, findings): (&Lookups, Arc<Findings>),
    ) -> Operators {
        let limits = &lookups.limits;
        let repair = Repair {
            source: started.source.clone(),
            live: Arc::clone(&started.live),
            store: started.store.clone(),
            shared: lookups.loader.shared.clone(),
            cells: Arc::clone(&started.cells),
            chunk_rows: settings.config.dimsvc.snapshot.chunk_rows,
            query_timeout: Duration::from_millis(settings.config.mysql.query_timeout_ms),
            noted_bytes_max: limits.overlay_bytes_max,
        };
        let repair = Arc::new(repair);
        let mender = Mender {
            repair: Arc::clone(&repair),
            config: settings.config.clone(),
            dimensions: settings.dimensions.clone(),
        };
        self.until_stop(|stop| mender.run(stop));
        let admin = Admin { repair, keys_max: limits.keys_per_lookup_max, tasks: self.loads.clone() };
        Operators { admin: Arc::new(admin), findings }
    }

    fn serve(
        &mut self,
        (lookups, operators): (Lookups, Operators),
        (listener, http_listener): (tokio::net::TcpListener, tokio::net::TcpListener),
    ) {
        let (live, metrics) = (Arc::clone(&lookups.live), Arc::clone(&lookups.metrics));
        self.tasks.spawn(serve::serve(listener, (lookups, operators), self.intake.clone()));
        self.tasks.spawn(http::serve(http_listener, live, metrics, self.intake.clone()));
    }

    fn write(
        &mut self,
        started: &Started,
        metrics: &Arc<Metrics>,
        settings: &Settings,
        (lease, shared, pending): (Lease, SharedTier, mpsc::Receiver<apply::Pending>),
    ) {
        let writer = Writer {
            live: Arc::clone(&started.live),
            metrics: Arc::clone(metrics),
            store: started.store.clone(),
            cells: Arc::clone(&started.cells),
            lease,
            shared,
            name: Arc::clone(&started.name),
            file_base: started.file_base(),
            gtids: started.gtids.clone(),
            overlay_bytes_max: settings.config.dimsvc.limits.overlay_bytes_max,
        };
        let stop = self.writing.clone();
        self.tasks.spawn(async move { writer.run(pending, stop).await.context("writer") });
    }

    fn follow(
        &mut self,
        started: &Started,
        metrics: &Arc<Metrics>,
        (applier, any_server_id): (Applier, bool),
    ) {
        let feed = Feed {
            source: started.source.clone(),
            options: started.stream.clone(),
            applier,
            live: Arc::clone(&started.live),
            any_server_id,
            metrics: Arc::clone(metrics),
        };
        self.until_stop(|stop| feed.run(stop));
        let lag = Lag { source: started.source.clone(), live: Arc::clone(&started.live) };
        self.until_stop(|stop| lag.run(stop));
    }

    fn load(&mut self, started: &Started, metrics: &Arc<Metrics>, settings: &Settings) {
        let snapshot = Snapshot {
            source: started.source.clone(),
            live: Arc::clone(&started.live),
            store: started.store.clone(),
            cells: Arc::clone(&started.cells),
            metrics: Arc::clone(metrics),
            chunk_rows: settings.config.dimsvc.snapshot.chunk_rows,
            query_timeout: Duration::from_millis(settings.config.mysql.query_timeout_ms),
        };
        let loads = FirstLoads { snapshot, store: started.store.clone() };
        let stop = self.intake.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                loaded = loads.run() => Ok(loaded?),
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
        let mut deadline = tokio::time::Instant::now() + limit;
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
                    deadline += LAST_STEPS;
                }
            }
        }
    }
}
