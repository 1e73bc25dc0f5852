//! `dimsvc status`: where the service stands.

use super::{
    connection::Connection,
    failure::Failure,
    print::{Printer, position},
    table::{Table, pairs},
};
use serde::Serialize;
use tidemark_proto::dim::v1::{DimensionStatus, Role, StatusRequest, StatusResponse};

#[derive(Serialize)]
struct Line {
    applied: Option<String>,
    durable: Option<String>,
    following: bool,
    feed_error: Option<String>,
    lag_seconds: f64,
    role: String,
    writer: Option<String>,
    term: u64,
    epoch: u32,
    server_uuid: String,
    store_id: String,
    overlay_bytes: u64,
    overlay_bytes_max: u64,
    shared: Option<Shared>,
    dimensions: Vec<Dimension>,
}

#[derive(Serialize)]
struct Shared {
    in_use: bool,
    reason: Option<String>,
    generation: u64,
    run_id: String,
}

#[derive(Serialize)]
struct Dimension {
    name: String,
    complete: bool,
    snapshot_rows: u64,
    snapshot_rows_estimate: u64,
    cache: String,
    resident_rows: u64,
    resident_bytes: u64,
    overlay_versions: u64,
    lost: Option<String>,
}

pub(super) async fn run(mut connection: Connection, out: &mut Printer) -> Result<(), Failure> {
    let request = connection.request(StatusRequest {});
    let status = connection.dimensions.status(request).await?.into_inner();
    if out.is_json() {
        return Ok(out.json(&line(status))?);
    }
    Ok(out.text(&text(&status))?)
}

fn line(status: StatusResponse) -> Line {
    let role = role(&status);
    let shared = status.shared.map(|shared| Shared {
        in_use: shared.in_use,
        reason: unless_empty(shared.reason),
        generation: shared.generation,
        run_id: shared.run_id,
    });
    let dimension = |dimension: DimensionStatus| Dimension {
        name: dimension.name,
        complete: dimension.complete,
        snapshot_rows: dimension.snapshot_rows,
        snapshot_rows_estimate: dimension.snapshot_rows_estimate,
        cache: dimension.cache,
        resident_rows: dimension.resident_rows,
        resident_bytes: dimension.resident_bytes,
        overlay_versions: dimension.overlay_versions,
        lost: unless_empty(dimension.lost),
    };
    Line {
        applied: position(status.applied),
        durable: position(status.durable),
        following: status.following,
        feed_error: unless_empty(status.feed_error),
        lag_seconds: status.lag_seconds,
        role,
        writer: unless_empty(status.writer),
        term: status.term,
        epoch: status.epoch,
        server_uuid: status.server_uuid,
        store_id: status.store_id,
        overlay_bytes: status.overlay_bytes,
        overlay_bytes_max: status.overlay_bytes_max,
        shared,
        dimensions: status.dimensions.into_iter().map(dimension).collect(),
    }
}

fn text(status: &StatusResponse) -> String {
    let feed = match (status.following, status.feed_error.as_str()) {
        (true, _) => format!("followed, {:.1} s behind", status.lag_seconds),
        (false, "") => "not followed yet".to_owned(),
        (false, error) => format!("LOST for {:.0} s: {error}", status.lag_seconds),
    };
    let writer = if status.writer.is_empty() { "nobody" } else { &status.writer };
    let shared = status.shared.as_ref().map_or_else(
        || "none".to_owned(),
        |shared| {
            let state =
                if shared.in_use { "in use".to_owned() } else { format!("skipped: {}", shared.reason) };
            format!("{state}, generation {}", shared.generation)
        },
    );
    let facts = pairs([
        ("applied", status.applied_text.clone()),
        ("durable", status.durable_text.clone()),
        ("binlog", feed),
        ("role", format!("{}, writer {writer}, term {}", role(status), status.term)),
        ("source", format!("epoch {}, server {}", status.epoch, status.server_uuid)),
        ("store", status.store_id.clone()),
        ("overlay", format!("{} of {}", bytes(status.overlay_bytes), bytes(status.overlay_bytes_max))),
        ("shared tier", shared),
    ]);
    let mut table = Table::new(["DIMENSION", "STATE", "CACHE", "ROWS", "MEMORY", "NOT DURABLE"]);
    for dimension in &status.dimensions {
        table.row([
            dimension.name.clone(),
            state(dimension),
            dimension.cache.clone(),
            dimension.resident_rows.to_string(),
            bytes(dimension.resident_bytes),
            dimension.overlay_versions.to_string(),
        ]);
    }
    format!("{facts}\n{}", table.render())
}

/// `complete`, or how far the first load is, or what keeps it from answering.
fn state(dimension: &DimensionStatus) -> String {
    if !dimension.lost.is_empty() {
        return format!("LOST: {}", dimension.lost);
    }
    match (dimension.complete, dimension.snapshot_rows, dimension.snapshot_rows_estimate) {
        (true, ..) => "complete".to_owned(),
        (false, rows, 0) => format!("loading, {rows} rows"),
        (false, rows, estimate) => format!("loading, {rows} of about {estimate} rows"),
    }
}

fn role(status: &StatusResponse) -> String {
    match status.role() {
        Role::Unspecified => "unknown",
        Role::Writer => "writer",
        Role::Standby => "standby",
    }
    .to_owned()
}

/// `1.5 MiB`.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = UNITS.iter().find(|(_, size)| count >= *size);
    unit.map_or_else(
        || format!("{count} B"),
        |(name, size)| format!("{:.1} {name}", count as f64 / *size as f64),
    )
}

fn unless_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> StatusResponse {
        let dimension = |name: &str, complete| DimensionStatus {
            name: name.into(),
            complete,
            snapshot_rows: 10,
            snapshot_rows_estimate: 100,
            cache: "full".into(),
            resident_rows: 7,
            resident_bytes: 1536,
            ..DimensionStatus::default()
        };
        StatusResponse {
            applied: 9,
            applied_text: "0/000000:9".into(),
            lag_seconds: 31.6,
            feed_error: "gone".into(),
            role: Role::Standby.into(),
            dimensions: vec![dimension("a", true), dimension("bb", false)],
            ..StatusResponse::default()
        }
    }

    #[test]
    fn a_lost_feed_and_a_load_are_seen_at_once() {
        let text = text(&status());
        assert!(text.contains("binlog       LOST for 32 s: gone\n"), "{text}");
        assert!(
            text.contains("a          complete                       full   7     1.5 KiB  0\n"),
            "{text}"
        );
        assert!(text.contains("bb         loading, 10 of about 100 rows"), "{text}");
    }

    #[test]
    fn json_has_nulls_for_what_is_not_there() {
        let value =
            serde_json::to_value(line(StatusResponse { feed_error: String::new(), ..status() })).unwrap();
        assert_eq!(
            (&value["feed_error"], &value["durable"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(
            (value["role"].as_str(), value["applied"].as_str()),
            (Some("standby"), Some("0/000000:9"))
        );
        assert_eq!(value["dimensions"][1]["complete"], false);
    }
}
