//! gRPC lookups of rows in memory: how many keys a second, at which latency,
//! for how much CPU; beside an echo, and beside themselves without rows.

use crate::{
    asker::{Asker, Case, Keys},
    echo::{Echo, Threads},
    ground::{Client, Ground, connect, status},
    report::{Floor, Line},
};
use anyhow::{Context, Result};
use prost::Message as _;
use std::{sync::Arc, time::Duration};

const CONNECTIONS: usize = 2;
const KEYS_PER_SECOND_FLOOR: f64 = 300_000.0;
/// Runs of a line that has something to reach; the median is shown.
const RUNS: usize = 3;
/// A single lookup's rate, of an echo's.
const OF_ECHO: f64 = 0.95;
/// The rate of a batch of missing keys, of one that hits.
const OF_HITS: f64 = 0.8;

fn cases() -> Vec<Case> {
    let floor = Some(KEYS_PER_SECOND_FLOOR);
    let batch_256 = Case { floor, ..Case::columnar(256, 8) };
    vec![
        Case::columnar(1, 1),
        Case::columnar(1, 8),
        Case::columnar(1, 64),
        Case::columnar(16, 1),
        Case::columnar(16, 8),
        Case::columnar(16, 64),
        Case::columnar(256, 1),
        batch_256,
        Case::columnar(256, 64),
        Case { keys: Keys::Uniform, ..batch_256 },
        Case { as_of: true, ..batch_256 },
        Case::columnar(1_000, 1),
        Case::columnar(1_000, 8),
        Case::columnar(1_000, 64),
    ]
}

/// Measures every case, each for at least `window` after a warm-up.
pub(crate) async fn measure(ground: &Ground, window: Duration) -> Result<Vec<Line>> {
    let clients = ground.clients(CONNECTIONS).await?;
    let mut measured = Measured { ground, clients, applied: 0, window };
    measured.applied = status(&mut measured.clients.first().context("a connection")?.clone()).await?.applied;
    let mut lines = Vec::new();
    for in_flight in [1, 64] {
        lines.extend(measured.beside_echo(Case::single(in_flight)).await?);
    }
    for case in cases() {
        lines.push(measured.median(case).await?);
    }
    for table in ["sku_info", "sku_info_lru"] {
        lines.extend(measured.missing(Case { table, ..Case::columnar(256, 8) }).await?);
    }
    Ok(lines)
}

struct Measured<'g> {
    ground: &'g Ground,
    clients: Vec<Client>,
    applied: u64,
    window: Duration,
}

impl Measured<'_> {
    async fn asker(&self, case: Case) -> Result<Arc<Asker>> {
        let asker = Arc::new(Asker::prepare(case, self.applied));
        if case.is_lru() {
            asker.ask_once(&self.clients).await?;
        }
        Ok(asker)
    }

    async fn line(&self, asker: &Arc<Asker>) -> Result<Line> {
        asker.line((&self.clients, self.ground.dimsvc.pid()), self.window).await
    }

    async fn median(&self, case: Case) -> Result<Line> {
        let asker = self.asker(case).await?;
        let mut runs = Vec::new();
        for _ in 0..if case.floor.is_some() { RUNS } else { 1 } {
            runs.push(self.line(&asker).await?);
        }
        median(runs, |line| line.rate)
    }

    /// The same batch of keys that are there and of keys that are not, in turns.
    async fn missing(&self, case: Case) -> Result<[Line; 2]> {
        let hits = self.asker(case).await?;
        let missing = self.asker(Case { keys: Keys::Missing, ..case }).await?;
        let mut pairs = Vec::new();
        for _ in 0..RUNS {
            pairs.push((self.line(&missing).await?, self.line(&hits).await?));
        }
        pair(pairs, OF_HITS)
    }

    /// A single lookup and two echo servers, in turns; the quicker of them is
    /// the one to reach.
    async fn beside_echo(&self, case: Case) -> Result<Vec<Line>> {
        let asker = self.asker(case).await?;
        let (request, _) = asker.requests.first().context("there is a request")?;
        let mut client = self.clients.first().context("there is a connection")?.clone();
        let answer = client.lookup(request.clone()).await.context("look up")?.into_inner().encode_to_vec();
        let mut echoes = Vec::new();
        for threads in [Threads::WorkStealing, Threads::One] {
            let echo = Echo::start(threads, &answer)?;
            let mut clients = Vec::new();
            for _ in 0..CONNECTIONS {
                clients.push(connect(&format!("http://{}", echo.address)).await?);
            }
            echoes.push((threads, echo, clients));
        }
        let mut rounds = Vec::new();
        for _ in 0..RUNS {
            let (ours, mut peers) = (self.line(&asker).await?, Vec::new());
            for (threads, echo, clients) in &echoes {
                let line = asker.line((clients, echo.pid()), self.window).await?;
                let name = format!("bare tonic echo of {} B, {} in flight", answer.len(), case.in_flight);
                peers.push(Line { part: "echo", name, note: format!("{threads:?}"), ..line });
            }
            let share = ours.rate / peers.iter().map(|peer| peer.rate).fold(f64::MIN_POSITIVE, f64::max);
            let floor = Some(Floor::ShareAtLeast(share, OF_ECHO));
            peers.insert(0, Line { floor, note: String::from("of the quicker echo"), ..ours });
            rounds.push((share, peers));
        }
        Ok(median(rounds, |(share, _)| *share)?.1)
    }
}

/// The pair whose share is the median, with the share to reach.
fn pair(pairs: Vec<(Line, Line)>, goal: f64) -> Result<[Line; 2]> {
    let (ours, peer) = median(pairs, |(ours, peer)| ours.rate / peer.rate)?;
    let floor = Some(Floor::ShareAtLeast(ours.rate / peer.rate, goal));
    Ok([Line { floor, ..ours }, peer])
}

fn median<T>(mut runs: Vec<T>, by: impl Fn(&T) -> f64) -> Result<T> {
    runs.sort_by(|a, b| by(a).total_cmp(&by(b)));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle).context("there was no run")
}
