//! One process of the service, without its sockets: the parts that `run` puts
//! together, over the site's store and feed.

use crate::site::{FLOOR, Site, at, place};
use anyhow::{Context as _, Result};
use dimsvc::{
    apply::{Applier, Room},
    change::fill::fill,
    fallback::Fallback,
    gtids::RecentGtids,
    lease::Lease,
    live::{Identity, Live, LiveDimension},
    load::Loader,
    metrics::Metrics,
    serve::Lookups,
    shared::SharedTier,
    state::StateCells,
    store::StorePool,
    writer::Writer,
};
use std::{sync::Arc, time::Duration};
use tidemark_binlog::{Event, GtidSet, Source, SourceOptions};
use tidemark_proto::{
    Position,
    config::{Config, Limits, Mysql},
};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const WRITER_QUEUE: usize = 64;
const OVERLAY_BYTES_MAX: usize = 8 << 20;
const CALL: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Replica {
    pub(crate) lookups: Lookups,
    /// Whether it may hold the writer's lease.
    pub(crate) may_write: watch::Sender<bool>,
    tasks: parking_lot::Mutex<JoinSet<Result<()>>>,
}

impl Replica {
    /// Starts from what the store says.
    pub(crate) async fn start(site: &Arc<Site>, name: &str, may_write: bool) -> Result<Self> {
        let (store, mut tasks) = (site.pool(), JoinSet::new());
        let cells = StateCells::read(&store).await?.context("the store was loaded")?;
        let (live, from) = live(site, &cells)?;
        let metrics = Arc::new(Metrics::try_new()?);
        let mut config = Config::default();
        config.dimsvc.shared.url.clone_from(&site.redis_url);
        config.dimsvc.fallback.reads_per_second = 0;
        let shared = SharedTier::try_new(&config.dimsvc.shared, &live.store_id, metrics.shared.clone())?;
        let room = Room::new(OVERLAY_BYTES_MAX);
        let lookups = lookups(&live, (&store, &shared, &room), (&metrics, &config));
        let (queue, pending) = mpsc::channel(WRITER_QUEUE);
        let (allow, allowed) = watch::channel(may_write);
        let writer = Writer {
            live: Arc::clone(&live),
            metrics: Arc::clone(&metrics),
            store: store.clone(),
            cells: Arc::new(Mutex::new(cells)),
            lease: Lease::while_allowed(allowed),
            shared: shared.clone(),
            name: name.into(),
            file_base: "binlog".into(),
            gtids: GtidSet::default(),
            overlay_bytes_max: OVERLAY_BYTES_MAX,
        };
        let applier = Applier::new(Arc::clone(&live), metrics, room, queue);
        let stop = CancellationToken::new();
        let writing = stop.clone();
        tasks.spawn(async move { Ok(writer.run(pending, writing).await?) });
        tasks.spawn(async move {
            shared.run(stop).await;
            Ok(())
        });
        tasks.spawn(follow(Arc::clone(site), applier, from));
        for dimension in live.dimensions() {
            let (dimension, store, live) = (Arc::clone(dimension), store.clone(), Arc::clone(&live));
            tasks.spawn(async move { Ok(fill(&dimension, &store, &live.applied).await?) });
        }
        Ok(Self { lookups, may_write: allow, tasks: parking_lot::Mutex::new(tasks) })
    }

    /// As kill -9 does: all tasks end where they are. Lookups at work go on as
    /// answers that are on their way.
    pub(crate) fn kill(&self) {
        self.tasks.lock().abort_all();
    }

    /// What one of its parts failed of.
    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        match self.tasks.lock().try_join_next()? {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(error) => (!error.is_cancelled()).then(|| error.into()),
        }
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.lookups.live
    }
}

/// Its dimensions, and from where it follows.
fn live(site: &Site, cells: &StateCells) -> Result<(Arc<Live>, Position)> {
    let state = cells.state();
    let from = place(&state.checkpoint.place())?.max(at(FLOOR));
    let mut dimensions = Vec::new();
    for dimension in site.dimensions() {
        let known = cells.dimension(&dimension.name).context("the store was loaded")?;
        let live = LiveDimension::with_timeline(dimension, known.timeline.clone());
        live.learn(known, Position::MAX);
        dimensions.push(Arc::new(live));
    }
    let identity = Identity {
        start: from,
        epoch: 1,
        server_uuid: state.server_uuid.clone(),
        store_id: state.store_id.clone(),
    };
    let live = Live::new(dimensions, identity, RecentGtids::new(GtidSet::default()));
    live.feed.follow();
    Ok((Arc::new(live), from))
}

fn lookups(
    live: &Arc<Live>,
    (store, shared, room): (&StorePool, &SharedTier, &Room),
    (metrics, config): (&Arc<Metrics>, &Config),
) -> Lookups {
    let source = Source::new(SourceOptions::from(&Mysql::default()));
    let loader = Loader {
        store: store.clone(),
        shared: shared.clone(),
        fallback: Fallback::new(source.clone(), Arc::clone(live), Arc::clone(metrics), config),
        metrics: Arc::clone(metrics),
        timeout: CALL,
        tasks: TaskTracker::new(),
    };
    Lookups {
        live: Arc::clone(live),
        loader,
        source,
        metrics: Arc::clone(metrics),
        limits: Limits::default(),
        room: room.clone(),
        stop: CancellationToken::new(),
    }
}

/// Applies what the source has committed, for ever.
async fn follow(site: Arc<Site>, mut applier: Applier, mut from: Position) -> Result<()> {
    loop {
        let moved = site.moved.notified();
        match site.committed_after(from) {
            Some(transaction) => {
                from = transaction.end;
                applier.apply(Event::Transaction(transaction)).await?;
                site.moved.notify_waiters();
            }
            None => moved.await,
        }
    }
}
