//! LookupStream: the same batches, many in flight on one stream a connection.

use crate::{
    asker::{Asker, Case, Keys},
    cpu,
    ground::{Client, Ground, status},
    report::{Latency, Line},
};
use anyhow::{Context, Result};
use futures_util::{StreamExt as _, stream};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};

const CONNECTIONS: usize = 2;
const BATCH: usize = 256;
/// Of one stream.
const IN_FLIGHT: usize = 4;

pub(crate) async fn measure(ground: &Ground, window: Duration) -> Result<Line> {
    let clients = ground.clients(CONNECTIONS).await?;
    let applied = status(&mut clients.first().context("a connection")?.clone()).await?.applied;
    let case = Case { keys: Keys::Uniform, ..Case::columnar(BATCH, CONNECTIONS * IN_FLIGHT) };
    let asker = Arc::new(Asker::prepare(case, applied));
    drive(&asker, &clients, window / 4).await?;
    let pid = ground.dimsvc.pid();
    let (server_cpu, own_cpu, begun) = (cpu::of(pid)?, cpu::own()?, Instant::now());
    let took = drive(&asker, &clients, window).await?;
    let (requests, seconds) = (took.len() as f64, begun.elapsed().as_secs_f64());
    let keys = requests * BATCH as f64;
    Ok(Line {
        part: "stream",
        name: format!("batch {BATCH}, {CONNECTIONS} streams of {IN_FLIGHT} in flight, full, latest, uniform"),
        rate: keys / seconds,
        unit: "keys",
        requests_per_second: Some(requests / seconds),
        latency: Latency::of(took),
        server_cpu: Some((cpu::of(pid)? - server_cpu) * 1e6 / keys),
        client_cpu: Some((cpu::own()? - own_cpu) * 1e6 / keys),
        ..Line::default()
    })
}

async fn drive(asker: &Arc<Asker>, clients: &[Client], window: Duration) -> Result<Vec<Duration>> {
    let until = Instant::now() + window;
    let mut streams = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let (asker, client) = (Arc::clone(asker), client.clone());
        streams.spawn(async move { ask(&asker, client, (number, until)).await });
    }
    let mut all = Vec::new();
    while let Some(took) = streams.join_next().await {
        all.extend(took.context("a stream panicked")??);
    }
    Ok(all)
}

/// One stream, until the deadline; answers may come in any order.
async fn ask(asker: &Asker, mut client: Client, (number, until): (usize, Instant)) -> Result<Vec<Duration>> {
    let (send, mut queue) = mpsc::channel(IN_FLIGHT);
    let requests = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let mut answers = client.lookup_stream(requests).await.context("open a stream")?.into_inner();
    let place = number * asker.requests.len() / CONNECTIONS;
    let mut next = (1..).zip(asker.requests.iter().cycle().skip(place));
    let (mut asked, mut took) = (HashMap::new(), Vec::new());
    while Instant::now() < until || !asked.is_empty() {
        while asked.len() < IN_FLIGHT && Instant::now() < until {
            let (id, (request, first)) = next.next().context("requests come in a circle")?;
            let mut request = request.clone();
            request.id = id;
            asked.insert(id, (*first, Instant::now()));
            send.send(request).await.context("ask on a stream")?;
        }
        let answer = answers.next().await.context("the stream ended")?.context("read a stream")?;
        let (first, begun) = asked.remove(&answer.id).context("an answer that was not asked for")?;
        took.push(begun.elapsed());
        asker.check(&answer, first)?;
    }
    Ok(took)
}
