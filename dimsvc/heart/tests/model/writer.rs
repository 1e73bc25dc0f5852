//! The writer: rows to the store, then the shared tier, then the cell, and only
//! then do overlays forget. One that lost its lease without noticing works on
//! until its write of the cell fails.

use crate::{log::Event, outside::Cell, replica::Replica, world::World};
use shuttle::rand::{Rng, thread_rng};
use tidemark_proto::Position;

/// What became of the updates of the shared tier since the last publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Update {
    Taken(u64),
    Failed,
}

/// Takes the lease and writes all that is not durable, `events_max` events at
/// most, for the process that it runs in.
pub(crate) fn write_behind(world: &World, own: &Replica, events_max: usize) {
    let term = {
        let mut cell = world.cell.lock();
        cell.term += 1;
        cell.term
    };
    let durable = world.cell.lock().durable;
    let pending: Vec<&Event> =
        world.log.events.iter().filter(|event| event.end > durable).take(events_max).collect();
    let mut rest = pending.as_slice();
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(thread_rng().gen_range(1..=rest.len()));
        rest = after;
        batch.iter().for_each(|event| world.store_rows(event));
        let update = update_shared(world, batch);
        let end = batch.last().map_or(durable, |event| event.end);
        let Some(cell) = publish(world, term, (end, update)) else { return };
        own.learn(&world.log, &cell);
    }
}

/// Brings rows that are durable to the shared tier. In two lives of the server
/// those of the first may be lost.
fn update_shared(world: &World, batch: &[&Event]) -> Update {
    let connection = world.server.connect();
    let generation = world.cell.lock().generation;
    for (place, row) in batch.iter().flat_map(|event| event.rows()) {
        if world.loses_update() || connection.update(generation, place, row).is_none() {
            return Update::Failed;
        }
    }
    Update::Taken(connection.run_id)
}

/// None: another process has become the writer.
fn publish(world: &World, term: u64, (durable, update): (Position, Update)) -> Option<Cell> {
    let mut cell = world.cell.lock();
    if cell.term != term {
        return None;
    }
    let run_id = match update {
        Update::Taken(run_id) => Some(run_id),
        Update::Failed => None,
    };
    if run_id != cell.run_id {
        cell.generation += 1;
        cell.run_id = run_id;
    }
    cell.durable = cell.durable.max(durable);
    Some(*cell)
}
