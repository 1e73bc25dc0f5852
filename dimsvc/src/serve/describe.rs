//! What the service says of itself: its dimensions and where it stands.

use super::{lookup::Lookups, status::ServeError};
use crate::{
    cache::Resident as _,
    live::{Live, LiveDimension},
};
use std::sync::atomic::Ordering;
use tidemark_proto::dim::v1::{
    Column, DescribeResponse, DimensionStatus, DimensionSummary, Index, ListDimensionsResponse, Range, Role,
    SharedTierStatus, StatusResponse,
};

pub(super) fn list(live: &Live) -> ListDimensionsResponse {
    let summary = |live: &std::sync::Arc<LiveDimension>| DimensionSummary {
        name: live.dimension.name.to_string(),
        source_table: source_table(live),
        key_columns: live.dimension.key_names().map(str::to_owned).collect(),
        cache: live.dimension.cache_name().to_owned(),
        complete: live.is_complete(),
    };
    ListDimensionsResponse { dimensions: live.dimensions().map(summary).collect() }
}

pub(super) fn describe(live: &Live, table: &str) -> Result<DescribeResponse, ServeError> {
    let catalog = live;
    let live = live.dimension(table).ok_or_else(|| ServeError::UnknownTable(table.to_owned()))?;
    let (dimension, timeline) = (&live.dimension, live.cache.timeline());
    let key_ordinal = |name: &str| dimension.key_names().position(|key| key == name).map_or(0, |at| at + 1);
    let kept = live.columns();
    let columns = kept.iter().map(|column| Column {
        name: column.name.clone(),
        mysql_type: column.mysql_type.clone(),
        nullable: column.nullable,
        key_ordinal: u32::try_from(key_ordinal(&column.name)).unwrap_or_default(),
    });
    Ok(DescribeResponse {
        name: dimension.name.to_string(),
        source_table: source_table(live),
        key_columns: dimension.key_names().map(str::to_owned).collect(),
        columns: columns.collect(),
        cache: dimension.cache_name().to_owned(),
        sink_table: if dimension.lazy { String::new() } else { dimension.sink_table.to_string() },
        history_floor: live.cache.floor().packed(),
        complete: live.is_complete(),
        resident_rows: live.cache.tier().rows(),
        cache_reason: dimension.tier_reason.clone(),
        lazy: dimension.lazy,
        indexes: indexes_of(catalog, &dimension.name),
        unknown: timeline
            .unknown()
            .map(|(from, to)| Range { from: from.packed(), to: to.packed() })
            .collect(),
        truncated_at: timeline.truncated().map(|at| at.packed()).collect(),
    })
}

fn indexes_of(live: &Live, table: &str) -> Vec<Index> {
    let indexes = live.dimensions().filter_map(|live| {
        let index = live.dimension.index_of.as_ref().filter(|index| *index.table == *table)?;
        let columns = live.dimension.key_names().take(index.prefix_columns).map(str::to_owned).collect();
        Some(Index { name: index.index.clone(), columns })
    });
    indexes.collect()
}

pub(super) fn status(lookups: &Lookups) -> StatusResponse {
    let live = &lookups.live;
    let shared = lookups.loader.shared.status();
    let (applied, durable) = (live.applied.get(), live.durable.get());
    let standing = live.role.standing();
    let dimension = |live: &std::sync::Arc<LiveDimension>| DimensionStatus {
        name: live.dimension.name.to_string(),
        complete: live.is_complete(),
        snapshot_rows: live.snapshot_rows.load(Ordering::Relaxed),
        snapshot_rows_estimate: live.dimension.rows_estimate,
        cache: live.dimension.cache_name().to_owned(),
        resident_rows: live.cache.tier().rows(),
        resident_bytes: live.cache.tier().bytes(),
        overlay_versions: live.cache.overlay_versions() as u64,
        lost: live.loss().map(|loss| loss.describe()).unwrap_or_default(),
    };
    StatusResponse {
        applied: applied.packed(),
        applied_text: applied.to_string(),
        durable: durable.packed(),
        durable_text: durable.to_string(),
        following: live.feed.is_following(),
        feed_error: live.feed.error().unwrap_or_default(),
        lag_seconds: live.freshness.age().as_secs_f64(),
        epoch: u32::try_from(live.epoch).unwrap_or_default(),
        server_uuid: live.server_uuid.clone(),
        store_id: live.store_id.clone(),
        dimensions: live.dimensions().map(dimension).collect(),
        role: if standing.is_writer { Role::Writer.into() } else { Role::Standby.into() },
        writer: standing.writer,
        term: standing.term,
        shared: Some(SharedTierStatus {
            in_use: shared.in_use,
            reason: shared.reason,
            generation: shared.generation,
            run_id: shared.run_id,
        }),
        overlay_bytes: lookups.room.taken() as u64,
        overlay_bytes_max: lookups.room.bytes_max() as u64,
    }
}

fn source_table(live: &LiveDimension) -> String {
    format!("{}.{}", live.dimension.database, live.dimension.source)
}
