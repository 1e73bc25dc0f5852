//! From a commit in MySQL to a lookup that shows it.
//!
//! Two connections update rows at a steady rate. After each commit a lookup is
//! fenced by the commit's own GTID; it must show the row as committed or newer.

use crate::{
    ground::{Client, Ground, read_point},
    report::{Floor, Latency, Line},
};
use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use std::time::{Duration, Instant};
use tidemark_proto::dim::v1::{LookupRequest, TableLookup, position::Place, read_point::Point};
use tidemark_tests::mysql::{Gtid, Session};
use tokio::{sync::mpsc, task::JoinSet};

const WRITERS: u64 = 2;
const UPDATES_PER_SECOND: u64 = 500;
const P99_MS_FLOOR: f64 = 20.0;
/// Lookups that wait for their commit at once.
const IN_FLIGHT: usize = 256;
/// Rows that are updated, again and again.
const UPDATED: u64 = 5_000;

struct Commit {
    gtid: Gtid,
    id: u64,
    revision: u64,
    returned: Instant,
}

/// What a lookup said of a commit.
struct Seen {
    took: Duration,
    fresh: bool,
}

/// The column that is updated.
#[derive(Deserialize)]
struct Row {
    revision: u64,
}

pub(crate) async fn measure(ground: &Ground, window: Duration) -> Result<Line> {
    let client = ground.client().await?;
    let (sender, mut commits) = mpsc::channel(IN_FLIGHT);
    let mut writers = JoinSet::new();
    let begun = Instant::now();
    for writer in 0..WRITERS {
        let (session, sender) = (ground.session()?, sender.clone());
        writers.spawn_blocking(move || write(session, writer, begun + window, &sender));
    }
    drop(sender);
    let commits = stream::poll_fn(|context| commits.poll_recv(context));
    let looks = commits.map(|commit| look(client.clone(), commit)).buffer_unordered(IN_FLIGHT);
    let seen: Vec<Seen> = looks.try_collect().await?;
    while let Some(done) = writers.join_next().await {
        done??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let wrong = seen.iter().filter(|seen| !seen.fresh).count();
    Ok(Line {
        part: "freshness",
        name: String::from("commit -> at_least(its GTID) answers"),
        rate: seen.len() as f64 / seconds,
        unit: "updates",
        latency: Latency::of(seen.into_iter().map(|seen| seen.took).collect()),
        floor: Some(Floor::P99AtMostMs(P99_MS_FLOOR)),
        note: format!("{wrong} wrong answers"),
        wrong,
        ..Line::default()
    })
}

/// Commits updates at their share of the rate, without catching up on those
/// that were late.
fn write(mut session: Session, writer: u64, until: Instant, commits: &mpsc::Sender<Commit>) -> Result<()> {
    let interval = Duration::from_micros(1_000_000 * WRITERS / UPDATES_PER_SECOND);
    let mut due = Instant::now() + interval * u32::try_from(writer)? / u32::try_from(WRITERS)?;
    for revision in 1.. {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + interval).max(Instant::now());
        if Instant::now() >= until {
            break;
        }
        // A row has one writer: its revisions rise.
        let id = revision * 17 % (UPDATED / WRITERS) * WRITERS + writer;
        let update = format!("UPDATE sku_info SET revision = {revision} WHERE id = {id}");
        let gtid = session.transact(&[&update])?;
        let commit = Commit { gtid, id, revision, returned: Instant::now() };
        if commits.blocking_send(commit).is_err() {
            break;
        }
    }
    Ok(())
}

async fn look(mut client: Client, commit: Commit) -> Result<Seen> {
    let request = LookupRequest {
        tables: vec![TableLookup {
            table: String::from("sku_info"),
            plain_keys: vec![format!("[{}]", commit.id)],
            columns: vec![String::from("revision")],
            ..TableLookup::default()
        }],
        read_point: read_point(Point::AtLeast, Place::Gtid(commit.gtid.to_string())),
        ..LookupRequest::default()
    };
    let response = client.lookup(request).await.context("look up a commit")?.into_inner();
    let took = commit.returned.elapsed();
    let answer =
        response.tables.first().and_then(|table| table.answers.first()).context("an empty answer")?;
    let row: Row = serde_json::from_str(&answer.row).context("read the row")?;
    Ok(Seen { took, fresh: row.revision >= commit.revision })
}
