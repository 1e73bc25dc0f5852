//! Ten thousand callers of one cold key at once, and how often the store was
//! read for them.

use crate::{
    ground::{Ground, ROWS},
    report::{Floor, Latency, Line},
};
use anyhow::{Context, Result, ensure};
use std::time::Instant;
use tidemark_benches::key;
use tidemark_proto::dim::v1::{LookupRequest, TableLookup};
use tidemark_tests::http;
use tokio::task::JoinSet;

const CALLERS: usize = 10_000;
/// So that as many calls are at work at once: a connection has 1,024.
const CONNECTIONS: usize = 10;
/// Cold keys, one after the other; the worst counts.
const KEYS: u64 = 20;
/// A table whose rows are loaded when they are first asked for.
const TABLE: &str = "user_info";
const READS: &str = "dimsvc_store_read_seconds_count ";

pub(crate) async fn measure(ground: &Ground) -> Result<Line> {
    let clients = ground.clients(CONNECTIONS).await?;
    let (mut worst, mut took, begun) = (0, Vec::new(), Instant::now());
    for cold in (0..KEYS).map(|number| ROWS - 1 - number) {
        let before = store_reads(ground).await?;
        let text = String::from_utf8_lossy(&key(cold)).into_owned();
        let lookup =
            TableLookup { table: TABLE.to_owned(), plain_keys: vec![text], ..TableLookup::default() };
        let request = LookupRequest { tables: vec![lookup], ..LookupRequest::default() };
        let mut callers = JoinSet::new();
        for client in clients.iter().cycle().take(CALLERS) {
            let (mut client, request) = (client.clone(), request.clone());
            callers.spawn(async move {
                let begun = Instant::now();
                let found = client.lookup(request).await.map(|response| {
                    response.into_inner().tables.iter().all(|table| table.answers.iter().all(|row| row.found))
                });
                (found, begun.elapsed())
            });
        }
        while let Some(called) = callers.join_next().await {
            let (found, seconds) = called.context("a caller panicked")?;
            ensure!(found.context("look up")?, "key {cold} was not found");
            took.push(seconds);
        }
        worst = worst.max(store_reads(ground).await? - before);
    }
    Ok(Line {
        part: "flight",
        name: format!("{CALLERS} callers of one cold key"),
        rate: took.len() as f64 / begun.elapsed().as_secs_f64(),
        unit: "keys",
        latency: Latency::of(took),
        floor: Some(Floor::CountIs(worst, 1)),
        note: format!("store reads, the worst of {KEYS} keys"),
        ..Line::default()
    })
}

async fn store_reads(ground: &Ground) -> Result<u64> {
    let url = format!("http://{}/metrics", ground.programs.settings.get("dimsvc.metrics_listen")?);
    let metrics = tokio::task::block_in_place(|| http::get(&url))?.success()?;
    let count =
        metrics.lines().find_map(|line| line.strip_prefix(READS)).context("find the store's reads")?;
    count.trim().parse().with_context(|| format!("understand {count}"))
}
