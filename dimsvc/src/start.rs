//! Everything between the settings and a running service: source checks, the
//! store and its state, where each dimension begins.

mod admission;

use crate::{
    Settings,
    gtids::RecentGtids,
    live::{Identity, Live, LiveDimension},
    registry::{Dimension, resolve},
    state::{Checkpoint, Definition, DimensionState, State, StateCell},
    store::{self, StorePool},
};
use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
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
/// How long the engine may take to show what the binlog already has.
const VISIBLE: Duration = Duration::from_secs(30);

/// What a start has found and made.
pub(crate) struct Started {
    pub(crate) source: Source,
    pub(crate) store: StorePool,
    pub(crate) state: Arc<Mutex<StateCell>>,
    pub(crate) live: Arc<Live>,
    pub(crate) stream: StreamOptions,
    /// GTIDs up to where the stream begins.
    pub(crate) gtids: GtidSet,
    pub(crate) loading: Vec<Loading>,
}

/// A dimension and whether its first load was finished before.
#[derive(Clone)]
pub(crate) struct Loading {
    pub(crate) live: Arc<LiveDimension>,
    pub(crate) complete: bool,
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
    let dimensions = resolve(&source, &settings.config.mysql.database, &settings.dimensions).await?;
    Ok((source, server, dimensions))
}

/// Looks at source and dimensions, and changes nothing.
pub(crate) async fn check(settings: &Settings) -> anyhow::Result<()> {
    let (_, server, dimensions) = inspect(settings).await?;
    info!(version = %server.version, uuid = %server.uuid, dimensions = dimensions.len(), "source and dimensions fit");
    Ok(())
}

pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Started> {
    let config = &settings.config.dimsvc;
    let (source, server, dimensions) = inspect(settings).await?;
    let opening = config.clone();
    let opened = tokio::task::spawn_blocking(move || store::open(&opening)).await;
    let store = opened.context("opening the store panicked")?.context("tidemark.toml: [dimsvc] store")?;
    let timeout = Duration::from_millis(config.limits.store_timeout_ms);
    let store = StorePool::new(store, config.limits.store_threads, STORE_QUEUE, timeout);
    let create = dimensions.iter().map(async |dimension| {
        let table = Arc::clone(&dimension.sink_table);
        store.create_table(table).await.with_context(|| format!("create table {}", dimension.sink_table))
    });
    try_join_all(create).await?;
    let origin = Origin { source: &source, server: &server, server_id: config.server_id };
    let (mut cell, fresh) = origin.open_state(&store).await?;
    origin.admit(&mut cell, &dimensions, fresh).await?;
    let state = cell.state().clone();
    let from = first_place(&state, &dimensions);
    let gtids = origin.gtids_at(&state, &from).await?;
    let start = from.position(state.epoch)?;
    info!(position = %start, file = %from.file, first_load = fresh, "resuming from the checkpoint");

    let mut loading = Vec::with_capacity(dimensions.len());
    for dimension in dimensions {
        let known =
            state.dimensions.get(dimension.name.as_ref()).context("an admitted dimension is in the state")?;
        let live = Arc::new(LiveDimension::new(dimension, known.floor()));
        if !known.complete {
            live.cache.track_changes();
        }
        loading.push(Loading { live, complete: known.complete });
    }
    let identity = Identity {
        start,
        epoch: state.epoch,
        server_uuid: server.uuid.clone(),
        store_id: state.store_id.clone(),
    };
    let live = loading.iter().map(|loading| Arc::clone(&loading.live)).collect();
    let stream = stream_options(settings, &loading, from, state.epoch);
    Ok(Started {
        source,
        store,
        state: Arc::new(Mutex::new(cell)),
        live: Arc::new(Live::new(live, identity, RecentGtids::new(gtids.clone()))),
        stream,
        gtids,
        loading,
    })
}

fn stream_options(settings: &Settings, loading: &[Loading], from: BinlogPlace, epoch: u64) -> StreamOptions {
    let tables: HashSet<_> = loading
        .iter()
        .map(|l| (l.live.dimension.database.clone(), l.live.dimension.source.clone()))
        .collect();
    StreamOptions {
        server_id: settings.config.dimsvc.server_id,
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
fn first_place(state: &State, dimensions: &[Dimension]) -> BinlogPlace {
    let checkpoint = state.checkpoint.place();
    let admitted = dimensions.iter().filter_map(|dimension| state.dimensions.get(dimension.name.as_ref()));
    let unfinished = admitted.filter(|known| !known.complete);
    let floors = unfinished.map(|known| {
        let (file, offset) = known.floor_place.clone();
        BinlogPlace { file, offset }
    });
    let order = |place: &BinlogPlace| (Position::file_number(&place.file).unwrap_or_default(), place.offset);
    floors.chain([checkpoint]).min_by_key(order).unwrap_or_else(|| state.checkpoint.place())
}

/// The source, as the state is held against it.
struct Origin<'s> {
    source: &'s Source,
    server: &'s Server,
    server_id: u32,
}

impl Origin<'_> {
    /// Reads the state, or makes that of a store used for the first time.
    async fn open_state(&self, store: &StorePool) -> anyhow::Result<(StateCell, bool)> {
        if let Some(cell) = StateCell::read(store).await? {
            let known = &cell.state().server_uuid;
            if *known != self.server.uuid {
                bail!(
                    "the store was filled from server {known}, mysql.host is server {}: its positions mean \
                     nothing here; point mysql.host at the first server, or use another store",
                    self.server.uuid
                );
            }
            let followed: GtidSet =
                cell.state().checkpoint.gtid_set.parse().context("read the checkpoint's GTID set")?;
            if !self.source.has_executed(&followed).await? {
                bail!(
                    "the source no longer has all transactions that were followed (RESET, or restored from a \
                     backup): its positions mean something else now; use another store"
                );
            }
            return Ok((cell, false));
        }
        let end = self.source.binlog_end().await?;
        let gtid_set = self.source.gtid_set_at(&end, self.server_id).await?.to_string();
        let checkpoint = Checkpoint { file: end.file, offset: end.offset, gtid_set };
        let cell = StateCell::create(store, State::new(self.server.uuid.clone(), checkpoint)).await?;
        Ok((cell, true))
    }

    /// Brings the state in line with the configured dimensions: new ones begin
    /// at S, the end of the binlog now; known ones must be what they were; those
    /// that are no longer configured are retired.
    async fn admit(&self, cell: &mut StateCell, dimensions: &[Dimension], fresh: bool) -> anyhow::Result<()> {
        for dimension in dimensions {
            admission::check(dimension, cell.state())?;
        }
        let is_new = |dimension: &&Dimension| !cell.state().dimensions.contains_key(dimension.name.as_ref());
        let new: Vec<_> = dimensions.iter().filter(is_new).collect();
        let place = if fresh { cell.state().checkpoint.place() } else { self.source.binlog_end().await? };
        if !new.is_empty() {
            // A server writes a transaction to the binlog before its engine
            // shows it: all of S must be visible to the first SELECT.
            let set = self.source.gtid_set_at(&place, self.server_id).await?;
            self.source
                .wait_visible(&set, VISIBLE)
                .await
                .context("wait until the source shows its own binlog")?;
        }
        let floor = place.position(cell.state().epoch)?.packed();
        cell.change(|state| {
            admission::retire(state, dimensions);
            for dimension in new {
                let begun = DimensionState {
                    definition: Definition::of(dimension),
                    floor,
                    floor_place: (place.file.clone(), place.offset),
                    complete: false,
                    loaded_rows: 0,
                    loaded_to: None,
                    retired: false,
                };
                state.dimensions.insert(dimension.name.to_string(), begun);
            }
        })
        .await?;
        Ok(())
    }

    /// GTIDs up to the place where the stream begins.
    async fn gtids_at(&self, state: &State, from: &BinlogPlace) -> anyhow::Result<GtidSet> {
        if *from == state.checkpoint.place() {
            return state.checkpoint.gtid_set.parse().context("read the checkpoint's GTID set");
        }
        Ok(self.source.gtid_set_at(from, self.server_id).await?)
    }
}
