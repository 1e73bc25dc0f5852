//! The source, as the store's state is held against it.

use super::admission;
use crate::{
    cache::Timeline,
    registry::Dimension,
    state::{Checkpoint, Definition, DimensionState, State, StateCells},
    store::StorePool,
};
use anyhow::{Context as _, bail};
use std::time::Duration;
use tidemark_binlog::{BinlogPlace, GtidSet, Server, Source};

/// How long the engine may take to show what the binlog already has.
const VISIBLE: Duration = Duration::from_secs(30);
/// The life of the source server that a new store begins with.
const FIRST_EPOCH: u64 = 1;

/// The source server of this process.
pub(super) struct Origin<'s> {
    pub(super) source: &'s Source,
    pub(super) server: &'s Server,
    pub(super) server_id: u32,
}

impl Origin<'_> {
    /// Reads the cells, or makes those of a store used for the first time.
    pub(super) async fn open_cells(&self, store: &StorePool) -> anyhow::Result<StateCells> {
        let cells = match StateCells::read(store).await? {
            Some(cells) => cells,
            None => {
                self.create_cells(store).await?;
                StateCells::read(store).await?.context("the store's state was just written")?
            }
        };
        let known = &cells.state().server_uuid;
        if *known != self.server.uuid {
            bail!(
                "the store was filled from server {known}, mysql.host is server {}: its positions mean \
                 nothing here; point mysql.host at the first server, or use another store",
                self.server.uuid
            );
        }
        let followed: GtidSet =
            cells.state().checkpoint.gtid_set.parse().context("read the checkpoint's GTID set")?;
        if !self.source.has_executed(&followed).await? {
            bail!(
                "the source no longer has all transactions that were followed (RESET, or restored from a \
                 backup): its positions mean something else now; use another store"
            );
        }
        Ok(cells)
    }

    /// Of several processes that meet a new store, one is the faster.
    async fn create_cells(&self, store: &StorePool) -> anyhow::Result<()> {
        let end = self.source.binlog_end().await?;
        let gtid_set = self.source.gtid_set_at(&end, self.server_id).await?.to_string();
        let durable = end.position(FIRST_EPOCH)?;
        let checkpoint = Checkpoint { file: end.file, offset: end.offset, gtid_set };
        StateCells::create(store, State::new(self.server.uuid.clone(), checkpoint, durable)).await?;
        Ok(())
    }

    /// Brings the state in line with the configured dimensions, as the writer:
    /// new ones begin at S, the end of the binlog now; those that are no longer
    /// configured are retired.
    pub(super) async fn admit(&self, cells: &mut StateCells, dimensions: &[Dimension]) -> anyhow::Result<()> {
        let new: Vec<_> = super::stored(dimensions)
            .filter(|dimension| cells.dimension(&dimension.name).is_none())
            .collect();
        if !new.is_empty() {
            let place = self.source.binlog_end().await?;
            self.show(&place).await?;
            let floor = place.position(cells.state().epoch)?;
            let begun = |dimension: &&Dimension| {
                let begun = DimensionState {
                    term: cells.state().term,
                    definition: Definition::of(dimension),
                    timeline: Timeline::new(floor),
                    floor_place: (place.file.clone(), place.offset),
                    complete: false,
                    loaded_rows: 0,
                    loaded_to: None,
                    repairing: None,
                };
                (dimension.name.to_string(), begun)
            };
            let begun = new.iter().map(begun).collect();
            cells.add(begun).await?;
        }
        cells.change(|state| admission::retire(state, dimensions)).await?;
        Ok(())
    }

    /// Waits until SELECTs see all up to a place: a server writes a transaction
    /// to the binlog before its engine shows it.
    async fn show(&self, place: &BinlogPlace) -> anyhow::Result<()> {
        let set = self.source.gtid_set_at(place, self.server_id).await?;
        let shown = self.source.wait_visible(&set, VISIBLE).await;
        shown.context("wait until the source shows its own binlog")
    }

    /// GTIDs up to the place where the stream begins.
    pub(super) async fn gtids_at(&self, state: &State, from: &BinlogPlace) -> anyhow::Result<GtidSet> {
        if *from == state.checkpoint.place() {
            return state.checkpoint.gtid_set.parse().context("read the checkpoint's GTID set");
        }
        Ok(self.source.gtid_set_at(from, self.server_id).await?)
    }
}
