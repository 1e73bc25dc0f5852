//! `dimsvc watch`: follows changes until ctrl-c, over restarts of the service.

use super::{
    args::Watch,
    connection::Connection,
    failure::Failure,
    print::{Printer, position, raw, raw_row},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{
    io::{self, Write as _},
    time::Duration,
};
use tidemark_proto::dim::v1::{self, WatchRequest, WatchResponse, WatchedChange, position::Place};
use tonic::Streaming;

/// Between attempts to reach the service again.
const RETRY: Duration = Duration::from_secs(1);
/// Longer than any silence that the API allows.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Line {
    applied: Option<String>,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    table: String,
    key: Option<Box<RawValue>>,
    version: Option<String>,
    row: Option<Box<RawValue>>,
    deleted: bool,
    truncated: bool,
    columns_added: bool,
}

pub(super) async fn run(connection: Connection, arguments: &Watch, out: &mut Printer) -> Result<(), Failure> {
    tokio::select! {
        followed = follow(connection, arguments, out) => followed,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

/// Only its first connection must succeed; later ones are tried again.
async fn follow(connection: Connection, arguments: &Watch, out: &mut Printer) -> Result<(), Failure> {
    let mut after = arguments.after.clone();
    let mut lost = take(&connection, arguments, &mut after, out).await;
    loop {
        match lost {
            Err(failure) if !failure.is_passing() || after.is_none() => return Err(failure),
            Err(failure) => tell(&format!("{failure}; trying again"))?,
            Ok(()) => tell("the service stops; trying again")?,
        }
        tokio::time::sleep(RETRY).await;
        lost = match Connection::open(&arguments.server).await {
            Ok(connection) => take(&connection, arguments, &mut after, out).await,
            Err(failure) => Err(failure),
        };
    }
}

/// Prints one stream's messages until it ends, and notes where to resume.
async fn take(
    connection: &Connection,
    arguments: &Watch,
    after: &mut Option<Place>,
    out: &mut Printer,
) -> Result<(), Failure> {
    let position = after.clone().map(|place| v1::Position { place: Some(place) });
    let request = WatchRequest { tables: arguments.tables.clone(), after: position };
    let mut client = connection.dimensions.clone();
    let mut messages: Streaming<WatchResponse> = connection.begin(client.watch(request)).await?;
    loop {
        let silent = |_| tonic::Status::unavailable("the service has fallen silent");
        let message = tokio::time::timeout(SILENCE_MAX, messages.message()).await.map_err(silent)??;
        let Some(message) = message else { return Ok(()) };
        *after = Some(Place::Packed(message.applied));
        print(out, message)?;
    }
}

fn print(out: &mut Printer, message: WatchResponse) -> io::Result<()> {
    if !out.is_json() {
        return out.text(&message.changes.iter().map(text).collect::<String>());
    }
    let change = |change: WatchedChange| Change {
        key: if change.truncated || change.columns_added { None } else { raw(&change.key) },
        version: position(change.version),
        row: raw_row(&change.row),
        deleted: change.deleted,
        truncated: change.truncated,
        columns_added: change.columns_added,
        table: change.table,
    };
    let applied = position(message.applied);
    out.json(&Line { applied, changes: message.changes.into_iter().map(change).collect() })
}

/// `version  table  key  row`.
fn text(change: &WatchedChange) -> String {
    let version = position(change.version).unwrap_or_default();
    let WatchedChange { table, key, row, .. } = change;
    match change {
        WatchedChange { truncated: true, .. } => format!("{version}  {table}  (truncated)\n"),
        WatchedChange { columns_added: true, .. } => format!("{version}  {table}  (columns added)\n"),
        WatchedChange { deleted: true, .. } => format!("{version}  {table}  {key}  (deleted)\n"),
        _ => format!("{version}  {table}  {key}  {row}\n"),
    }
}

fn tell(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "dimsvc: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_proto::Position;

    #[test]
    fn a_line_says_what_became_of_the_key() {
        let version = Position::try_new(1, 1, 9).unwrap().packed();
        let change =
            WatchedChange { table: "sku".into(), key: "[1]".into(), version, ..WatchedChange::default() };
        let cases = [
            (
                WatchedChange { row: "{\"id\":1}".into(), ..change.clone() },
                "1/000001:9  sku  [1]  {\"id\":1}\n",
            ),
            (WatchedChange { deleted: true, ..change.clone() }, "1/000001:9  sku  [1]  (deleted)\n"),
            (
                WatchedChange { truncated: true, key: String::new(), ..change.clone() },
                "1/000001:9  sku  (truncated)\n",
            ),
            (
                WatchedChange { columns_added: true, key: String::new(), ..change },
                "1/000001:9  sku  (columns added)\n",
            ),
        ];
        for (change, expect) in cases {
            assert_eq!(text(&change), expect);
        }
    }
}
