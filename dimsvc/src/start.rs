//! Everything between the settings and a running service: source checks, the
//! store and its state, where each dimension begins.

mod admission;
mod join;
mod origin;

use crate::{
    Settings, audit,
    cache::Timeline,
    change::feed::random_server_id,
    gtids::RecentGtids,
    lease::Lease,
    live::{Identity, Live, LiveDimension},
    registry::{Dimension, resolve},
    state::StateCells,
    store::{self, StorePool},
};
use anyhow::Context as _;
use futures_util::future::try_join_all;
use join::Joined;
use origin::Origin;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tidemark_binlog::{BinlogPlace, GtidSet, Server, Source, SourceOptions, StreamOptions, TableFilter};
use tidemark_proto::Position;
use tokio::sync::Mutex;
use tracing::info;

/// Store calls that may wait for a thread.
const STORE_QUEUE: usize = 1_024;
/// The server's heartbeat on an idle binlog.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A stream that is silent for this long is lost.
const LIVENESS: Duration = Duration::from_secs(10);
/// What a start has found and made.
pub(crate) struct Started {
    pub(crate) source: Source,
    pub(crate) store: StorePool,
    pub(crate) cells: Arc<Mutex<StateCells>>,
    /// This process, as other replicas will know it.
    pub(crate) name: Arc<str>,
    pub(crate) live: Arc<Live>,
    pub(crate) stream: StreamOptions,
    /// GTIDs up to where the stream begins.
    pub(crate) gtids: GtidSet,
}

impl Started {
    /// What the binlog files are called before their number.
    pub(crate) fn file_base(&self) -> String {
        self.stream.from.file.rsplit_once('.').map_or("binlog", |(base, _)| base).to_owned()
    }
}

/// What both a check and a start look at.
async fn inspect(settings: &Settings) -> anyhow::Result<(Source, Server, Vec<Dimension>)> {
    let source = Source::new(SourceOptions::from(&settings.config.mysql));
    let server = source.check().await.context("tidemark.toml: [mysql]")?;
    let dimensions = resolve(&source, &settings.config, &settings.dimensions).await?;
    Ok((source, server, dimensions))
}

/// Looks at source and dimensions, and changes nothing.
pub(crate) async fn check(settings: &Settings) -> anyhow::Result<()> {
    let (_, server, dimensions) = inspect(settings).await?;
    info!(version = %server.version, uuid = %server.uuid, dimensions = dimensions.len(), "source and dimensions fit");
    Ok(())
}

/// The lease apart: it belongs to the writer alone.
pub(crate) async fn start(settings: &Settings) -> anyhow::Result<(Started, Lease)> {
    let config = &settings.config.dimsvc;
    let (source, server, dimensions) = inspect(settings).await?;
    let opening = config.clone();
    let opened = tokio::task::spawn_blocking(move || store::open(&opening)).await;
    let store = opened.context("opening the store panicked")?.context("tidemark.toml: [dimsvc] store")?;
    let timeout = Duration::from_millis(config.limits.store_timeout_ms);
    let store = StorePool::new(store, config.limits.store_threads, STORE_QUEUE, timeout);
    let create = stored(&dimensions).map(async |dimension| {
        let table = Arc::clone(&dimension.sink_table);
        store.create_table(table).await.with_context(|| format!("create table {}", dimension.sink_table))
    });
    try_join_all(create).await?;
    let server_id = if config.server_id == 0 { random_server_id() } else { config.server_id };
    let origin = Origin { source: &source, server: &server, server_id };
    let Joined { cells, lease, name } = join::join(&origin, &store, &dimensions, config).await?;
    let from = first_place(&cells);
    let gtids = origin.gtids_at(cells.state(), &from).await?;
    let start = from.position(cells.state().epoch)?;
    info!(position = %start, file = %from.file, name = %name, "resuming from the checkpoint");

    let live = dimensions.into_iter().map(|dimension| live_dimension(dimension, &cells, start));
    let live = live.collect::<anyhow::Result<Vec<_>>>()?;
    let identity = Identity {
        start,
        epoch: cells.state().epoch,
        server_uuid: server.uuid.clone(),
        store_id: cells.state().store_id.clone(),
    };
    let stream = stream_options(settings, &live, from, (server_id, identity.epoch));
    let sampled = config.audit.keys_per_second as usize * audit::SAMPLED_PER_CHECK;
    let live = Live::new(live, identity, RecentGtids::new(gtids.clone()))
        .keeping(config.limits.watch_bytes_max)
        .sampling(sampled);
    let (writer, term) = (&cells.state().writer, cells.state().term);
    if cells.is_writer() {
        live.role.take_over(writer, term);
    } else {
        live.role.learn(writer, term);
    }
    let (live, cells) = (Arc::new(live), Arc::new(Mutex::new(cells)));
    Ok((Started { source, store, cells, name, live, stream, gtids }, lease))
}

/// Dimensions whose rows are in the store.
fn stored(dimensions: &[Dimension]) -> impl Iterator<Item = &Dimension> {
    dimensions.iter().filter(|dimension| !dimension.lazy)
}

/// A dimension as this process will serve it. If its first load is not
/// finished, the keys that change are noted, whoever loads it.
fn live_dimension(
    dimension: Dimension,
    cells: &StateCells,
    start: Position,
) -> anyhow::Result<Arc<LiveDimension>> {
    if dimension.lazy {
        let live = LiveDimension::with_timeline(dimension, Timeline::new(start));
        live.set_loaded();
        return Ok(Arc::new(live));
    }
    let known = cells.dimension(&dimension.name).context("an admitted dimension is in the state")?;
    let dimension = dimension.with_columns(&known.definition.columns).map_err(anyhow::Error::msg)?;
    let live = LiveDimension::with_timeline(dimension, known.timeline.clone());
    // Nothing new: the dimension was made with this timeline, and answers only
    // once all that it tells of is applied.
    live.learn(known, Position::MAX);
    if !known.complete {
        live.cache.track_changes();
    }
    Ok(Arc::new(live))
}

fn stream_options(
    settings: &Settings,
    live: &[Arc<LiveDimension>],
    from: BinlogPlace,
    (server_id, epoch): (u32, u64),
) -> StreamOptions {
    let tables: HashSet<_> =
        live.iter().map(|live| (live.dimension.database.clone(), live.dimension.source.clone())).collect();
    StreamOptions {
        server_id,
        epoch,
        from,
        tables: TableFilter::of(tables),
        transaction_bytes_max: settings.config.dimsvc.limits.transaction_bytes_max,
        heartbeat: HEARTBEAT,
        liveness: LIVENESS,
    }
}

/// From where the binlog must be read: the checkpoint, or the oldest floor of a
/// load that is not finished, because which keys changed since is known from
/// the binlog alone.
fn first_place(cells: &StateCells) -> BinlogPlace {
    let checkpoint = cells.state().checkpoint.place();
    let followed = cells.state().followed().filter_map(|name| cells.dimension(name));
    let floors = followed.filter(|known| !known.complete).map(|known| {
        let (file, offset) = known.floor_place.clone();
        BinlogPlace { file, offset }
    });
    let order = |place: &BinlogPlace| (Position::file_number(&place.file).unwrap_or_default(), place.offset);
    floors.chain([checkpoint]).min_by_key(order).unwrap_or_else(|| cells.state().checkpoint.place())
}
