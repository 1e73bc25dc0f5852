//! How a process joins those that share a store: as the writer if it gets the
//! lease, else as a standby, which it can only be with the dimensions that the
//! store has.
//!
//! With other dimensions it waits, and answers nothing, until it gets the lease
//! or the others have its dimensions. So a running replica never loses one that
//! it serves to a process that happened to start with another file.

use super::{admission, origin::Origin, stored};
use crate::{
    lease::Lease,
    registry::Dimension,
    state::{StateCells, random_bits},
    store::StorePool,
};
use std::{sync::Arc, time::Duration};
use tidemark_proto::config::{Dimsvc, StoreKind};
use tracing::warn;

/// How often a process that waits looks at the store again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A process that has its place among the replicas.
pub(super) struct Joined {
    pub(super) cells: StateCells,
    pub(super) lease: Lease,
    pub(super) name: Arc<str>,
}

/// Takes the writer's role if it is free, or stands by.
pub(super) async fn join(
    origin: &Origin<'_>,
    store: &StorePool,
    dimensions: &[Dimension],
    config: &Dimsvc,
) -> anyhow::Result<Joined> {
    let name = replica_name(&config.listen);
    let mut cells = origin.open_cells(store).await?;
    let mut lease = match config.store {
        StoreKind::Embedded => Lease::of_only_process(),
        StoreKind::Hbase => Lease::of_store(origin.source.clone(), &cells.state().store_id),
    };
    let mut told = false;
    loop {
        stored(dimensions).try_for_each(|dimension| admission::check(dimension, &cells))?;
        if lease.is_held() {
            cells.take_over(&name).await?;
            stored(dimensions).try_for_each(|dimension| admission::check(dimension, &cells))?;
            origin.admit(&mut cells, dimensions).await?;
            return Ok(Joined { cells, lease, name });
        }
        let Some(difference) = admission::difference(dimensions, cells.state()) else {
            return Ok(Joined { cells, lease, name });
        };
        if !std::mem::replace(&mut told, true) {
            warn!(
                difference,
                writer = cells.state().writer,
                "dimensions.toml is not what the other replicas follow: waits for the writer's lease"
            );
        }
        tokio::select! {
            changed = lease.changed() => changed?,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        cells = origin.open_cells(store).await?;
    }
}

/// `HOST/LISTEN#RANDOM`: people find the process by it, and no two have the
/// same.
fn replica_name(listen: &str) -> Arc<str> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = random_bits() >> 32;
    format!("{}/{listen}#{random:08x}", host.trim()).into()
}
