//! What the service says of itself: its dimensions and where it stands.

use super::status::ServeError;
use crate::live::{Live, LiveDimension};
use std::sync::atomic::Ordering;
use tidemark_proto::dim::v1::{
    Column, DescribeResponse, DimensionStatus, DimensionSummary, ListDimensionsResponse, StatusResponse,
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
    let live = live.dimension(table).ok_or_else(|| ServeError::UnknownTable(table.to_owned()))?;
    let dimension = &live.dimension;
    let key_ordinal =
        |place: usize| dimension.key.iter().position(|key| *key == place).map_or(0, |at| at + 1);
    let columns = dimension.columns.iter().enumerate().map(|(place, column)| Column {
        name: column.name.clone(),
        mysql_type: column.mysql_type.clone(),
        nullable: column.nullable,
        key_ordinal: u32::try_from(key_ordinal(place)).unwrap_or_default(),
    });
    Ok(DescribeResponse {
        name: dimension.name.to_string(),
        source_table: source_table(live),
        key_columns: dimension.key_names().map(str::to_owned).collect(),
        columns: columns.collect(),
        cache: dimension.cache_name().to_owned(),
        sink_table: dimension.sink_table.to_string(),
        history_floor: live.cache.floor().packed(),
        complete: live.is_complete(),
        resident_rows: live.cache.resident_rows(),
    })
}

pub(super) fn status(live: &Live) -> StatusResponse {
    let (applied, durable) = (live.applied.get(), live.durable.get());
    let dimension = |live: &std::sync::Arc<LiveDimension>| DimensionStatus {
        name: live.dimension.name.to_string(),
        complete: live.is_complete(),
        snapshot_rows: live.snapshot_rows.load(Ordering::Relaxed),
        snapshot_rows_estimate: live.dimension.rows_estimate,
        cache: live.dimension.cache_name().to_owned(),
        resident_rows: live.cache.resident_rows(),
        resident_bytes: live.cache.resident_bytes(),
        overlay_versions: live.cache.overlay_versions() as u64,
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
    }
}

fn source_table(live: &LiveDimension) -> String {
    format!("{}.{}", live.dimension.database, live.dimension.source)
}
