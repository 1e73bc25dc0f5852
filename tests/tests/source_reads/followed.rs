//! Dimensions that follow the binlog of a test's database into a store in
//! memory, with a feed that a test may hold.

use anyhow::{Context as _, Result};
use dimsvc::{
    apply::{Applier, Pending, Room},
    cache::Timeline,
    change::{repair::Repair, snapshot::Snapshot},
    dimension::Key,
    fallback::Fallback,
    gtids::RecentGtids,
    live::{Identity, Live, LiveDimension},
    load::Loader,
    metrics::Metrics,
    registry::{resolve, write_key},
    serve::Lookups,
    shared::SharedTier,
    state::{Checkpoint, Definition, DimensionState, State, StateCells},
    store::{StorePool, memory::MemoryStore},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_binlog::{BinlogPlace, BinlogStream, Source, SourceOptions, StreamOptions, TableFilter};
use tidemark_proto::config::{Config, Dimensions};
use tidemark_tests::{free_port, isolation::Isolation};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The parts of a service that reads of the source need.
pub(crate) struct Followed {
    pub(crate) source: Source,
    pub(crate) live: Arc<Live>,
    pub(crate) store: StorePool,
    pub(crate) cells: Arc<Mutex<StateCells>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: Config,
    held: watch::Sender<bool>,
    _tasks: JoinSet<Result<()>>,
}

/// A configuration for the isolation's MySQL.
pub(crate) fn config(isolation: &Isolation) -> Config {
    let mut config = Config::default();
    let mysql = &isolation.stack.mysql;
    config.mysql.host.clone_from(&mysql.host);
    config.mysql.port = mysql.port;
    config.mysql.user.clone_from(&mysql.user);
    config.mysql.password.clone_from(&mysql.password);
    config.mysql.database.clone_from(&isolation.name);
    config
}

impl Followed {
    /// Follows from the end of the binlog as of now. `dimensions` is as in
    /// `dimensions.toml`.
    pub(crate) async fn begin(isolation: &Isolation, dimensions: &str) -> Result<Self> {
        Self::begin_with(config(isolation), isolation, dimensions).await
    }

    /// The same with a configuration of one's own.
    pub(crate) async fn begin_with(config: Config, isolation: &Isolation, dimensions: &str) -> Result<Self> {
        let source = Source::new(SourceOptions::from(&config.mysql));
        let server = source.check().await?;
        let server_id = 300_000 + u32::from(free_port()?);
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), dimensions)?;
        let wanted: Dimensions = tidemark_proto::config::load_with_env(file.path(), std::iter::empty())?;
        let dimensions = resolve(&source, &config, &wanted).await?;
        let place = source.binlog_end().await?;
        let gtids = source.gtid_set_at(&place, server_id).await?;
        source.wait_visible(&gtids, PATIENCE).await?;
        let start = place.position(1)?;
        let store = StorePool::new(Arc::new(MemoryStore::default()), 2, 64, PATIENCE);
        let checkpoint =
            Checkpoint { file: place.file.clone(), offset: place.offset, gtid_set: gtids.to_string() };
        StateCells::create(&store, State::new(server.uuid.clone(), checkpoint, start)).await?;
        let mut cells = StateCells::read(&store).await?.context("read the cells")?;
        cells.take_over("test").await?;
        let mut live = Vec::new();
        for dimension in dimensions {
            store.create_table(Arc::clone(&dimension.sink_table)).await?;
            let state = DimensionState {
                term: 1,
                definition: Definition::of(&dimension),
                timeline: Timeline::new(start),
                floor_place: (place.file.clone(), place.offset),
                complete: false,
                loaded_rows: 0,
                loaded_to: None,
                repairing: None,
            };
            cells.add(vec![(dimension.name.to_string(), state)]).await?;
            let dimension = LiveDimension::new(dimension, start);
            dimension.cache.track_changes();
            live.push(Arc::new(dimension));
        }
        let identity =
            Identity { start, epoch: 1, server_uuid: server.uuid, store_id: "00000000".to_owned() };
        let live = Arc::new(Live::new(live, identity, RecentGtids::new(gtids)).sampling(1_000));
        live.role.take_over("test", 1);
        let metrics = Arc::new(Metrics::try_new()?);
        let (held, holds) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let (writer, pending) = mpsc::channel(1_024);
        let applier = Applier::new(Arc::clone(&live), Arc::clone(&metrics), Room::new(64 << 20), writer);
        tasks.spawn(write(Arc::clone(&live), store.clone(), pending));
        let options = stream_options(place, server_id, isolation);
        tasks.spawn(follow(source.clone(), options, applier, holds));
        let cells = Arc::new(Mutex::new(cells));
        Ok(Self { source, live, store, cells, metrics, config, held, _tasks: tasks })
    }

    /// Holds the feed, or lets it go on.
    pub(crate) fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    pub(crate) fn dimension(&self, name: &str) -> &Arc<LiveDimension> {
        self.live.dimension(name).expect("it was configured")
    }

    /// Runs the first load of a dimension.
    pub(crate) async fn load(&self, name: &str) -> Result<()> {
        let snapshot = Snapshot {
            source: self.source.clone(),
            live: Arc::clone(&self.live),
            store: self.store.clone(),
            cells: Arc::clone(&self.cells),
            metrics: Arc::clone(&self.metrics),
            chunk_rows: 64,
            query_timeout: PATIENCE,
        };
        let live = self.dimension(name);
        snapshot.load(live).await?;
        let applied = self.live.applied.get();
        live.learn(self.cells.lock().await.dimension(name).context("the dimension has a cell")?, applied);
        live.set_complete();
        Ok(())
    }

    pub(crate) fn fallback(&self) -> Fallback {
        let (live, metrics) = (Arc::clone(&self.live), Arc::clone(&self.metrics));
        Fallback::new(self.source.clone(), live, metrics, &self.config)
    }

    pub(crate) fn loader(&self) -> Result<Loader> {
        Ok(Loader {
            store: self.store.clone(),
            shared: self.shared()?,
            fallback: self.fallback(),
            metrics: Arc::clone(&self.metrics),
            timeout: PATIENCE,
            tasks: TaskTracker::new(),
        })
    }

    fn shared(&self) -> Result<SharedTier> {
        Ok(SharedTier::try_new(&self.config.dimsvc.shared, "00000000", self.metrics.shared.clone())?)
    }

    pub(crate) fn lookups(&self) -> Result<Lookups> {
        Ok(Lookups {
            live: Arc::clone(&self.live),
            loader: self.loader()?,
            source: self.source.clone(),
            metrics: Arc::clone(&self.metrics),
            limits: self.config.dimsvc.limits.clone(),
            room: Room::new(1 << 20),
            stop: CancellationToken::new(),
        })
    }

    pub(crate) fn repair(&self, chunk_rows: usize) -> Result<Repair> {
        Ok(Repair {
            source: self.source.clone(),
            live: Arc::clone(&self.live),
            store: self.store.clone(),
            shared: self.shared()?,
            cells: Arc::clone(&self.cells),
            chunk_rows,
            query_timeout: PATIENCE,
            noted_bytes_max: 64 << 20,
        })
    }

    /// Keys as people spell them.
    pub(crate) fn keys(&self, name: &str, spelled: &[&str]) -> Result<Vec<Key>> {
        let columns = &self.dimension(name).dimension.key_columns;
        let canonical = |text: &&str| {
            let mut out = Vec::new();
            write_key(&mut out, columns, text).map(|()| Key::from_canonical(out))
        };
        Ok(spelled.iter().map(canonical).collect::<Result<_, _>>()?)
    }

    /// Waits until all that is in the binlog now is applied and durable.
    pub(crate) async fn caught_up(&self) -> Result<()> {
        let end = self.source.binlog_end().await?.position(1)?;
        let deadline = Instant::now() + PATIENCE;
        let reached = self.live.durable.reached(end, deadline).await;
        anyhow::ensure!(reached, "{end} was not durable in time");
        Ok(())
    }
}

fn stream_options(from: BinlogPlace, server_id: u32, isolation: &Isolation) -> StreamOptions {
    StreamOptions {
        server_id,
        epoch: 1,
        from,
        tables: {
            let name = isolation.name.clone();
            TableFilter::new(move |database, _| database == name)
        },
        transaction_bytes_max: 64 << 20,
        heartbeat: Duration::from_millis(200),
        liveness: PATIENCE,
    }
}

async fn follow(
    source: Source,
    options: StreamOptions,
    mut applier: Applier,
    mut holds: watch::Receiver<bool>,
) -> Result<()> {
    let mut stream = BinlogStream::open(&source, options).await?;
    loop {
        let event = stream.next().await?;
        holds.wait_for(|hold| !hold).await?;
        applier.apply(event).await?;
    }
}

async fn write(live: Arc<Live>, store: StorePool, mut pending: mpsc::Receiver<Pending>) -> Result<()> {
    while let Some(Pending { end, rows, .. }) = pending.recv().await {
        store.write(rows).await?;
        live.durable.advance(end);
        live.dimensions().for_each(|live| live.cache.forget(end));
    }
    Ok(())
}
