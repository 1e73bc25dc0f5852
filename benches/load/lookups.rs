//! gRPC lookups of rows in memory: how many keys a second, at which latency,
//! for how much CPU.

use crate::{
    cpu,
    ground::{Client, Ground, ROWS, read_point, status},
    report::{Floor, Latency, Line},
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_benches::{Zipf, key};
use tidemark_proto::dim::v1::{
    KeyBlock, LookupRequest, LookupResponse, TableLookup, position::Place, read_point::Point,
};
use tokio::task::JoinSet;

const WARM_UP: Duration = Duration::from_millis(700);
const CONNECTIONS: usize = 2;
/// Keys of all the requests that are asked in turn: draws, so the hot ones come
/// often.
const KEYS_DRAWN: usize = 65_536;
const KEYS_PER_SECOND_FLOOR: f64 = 300_000.0;
/// Of `flags`, for each key.
const FOUND: u8 = 1;

/// One line to measure.
#[derive(Clone, Copy)]
struct Case {
    table: &'static str,
    form: Form,
    as_of: bool,
    batch: usize,
    in_flight: usize,
    runs: usize,
    floor: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One key as text, as a person asks.
    Single,
    Columnar,
}

impl Case {
    const fn columnar(batch: usize, in_flight: usize) -> Self {
        let form = Form::Columnar;
        Self { table: "sku_info", form, as_of: false, batch, in_flight, runs: 1, floor: None }
    }

    fn name(&self) -> String {
        let form = match self.form {
            Form::Single => String::from("single key"),
            Form::Columnar => format!("batch {}", self.batch),
        };
        let point = if self.as_of { "as_of(applied)" } else { "latest" };
        format!("{form}, {} in flight, {}, {point}", self.in_flight, self.tier_name())
    }

    fn tier_name(&self) -> &'static str {
        if self.table == "sku_info" { "full" } else { "lru" }
    }

    /// The number of the tier on the wire.
    fn tier(&self) -> u8 {
        if self.table == "sku_info" { 1 } else { 2 }
    }
}

fn cases() -> Vec<Case> {
    let floor = Some(KEYS_PER_SECOND_FLOOR);
    let batch_256 = Case { runs: 3, ..Case::columnar(256, 8) };
    vec![
        Case { form: Form::Single, ..Case::columnar(1, 1) },
        Case { form: Form::Single, ..Case::columnar(1, 64) },
        Case::columnar(1, 1),
        Case::columnar(1, 8),
        Case::columnar(1, 64),
        Case::columnar(16, 1),
        Case::columnar(16, 8),
        Case::columnar(16, 64),
        Case { in_flight: 1, ..batch_256 },
        Case { floor, ..batch_256 },
        Case { in_flight: 64, ..batch_256 },
        Case { table: "sku_info_lru", floor, ..batch_256 },
        Case { as_of: true, floor, ..batch_256 },
        Case::columnar(1_000, 1),
        Case::columnar(1_000, 8),
        Case::columnar(1_000, 64),
    ]
}

/// Measures every case, each for at least `window` after a warm-up.
pub(crate) async fn measure(ground: &Ground, window: Duration) -> Result<Vec<Line>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(ground.client().await?);
    }
    let mut lines = Vec::new();
    for case in cases() {
        let mut runs = Vec::new();
        for _ in 0..case.runs {
            runs.push(measure_case(ground, &clients, case, window).await?);
        }
        runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let median = runs.len() / 2;
        lines.extend(runs.into_iter().nth(median));
    }
    Ok(lines)
}

async fn measure_case(ground: &Ground, clients: &[Client], case: Case, window: Duration) -> Result<Line> {
    let asker = Arc::new(Asker::prepare(clients, case).await?);
    drive(&asker, clients, WARM_UP).await?;
    let server = ground.dimsvc.pid();
    let (server_cpu, own_cpu, begun) = (cpu::of(server)?, cpu::own()?, Instant::now());
    let counts = drive(&asker, clients, window).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let requests = counts.took.len() as f64;
    let keys = requests * case.batch as f64;
    let millions = keys / 1e6;
    let elsewhere = counts.elsewhere;
    Ok(Line {
        part: "lookup",
        name: case.name(),
        rate: keys / seconds,
        unit: "keys",
        requests_per_second: Some(requests / seconds),
        latency: Latency::of(counts.took),
        server_cpu: Some((cpu::of(server)? - server_cpu) / millions),
        client_cpu: Some((cpu::own()? - own_cpu) / millions),
        floor: case.floor.map(Floor::RateAtLeast),
        wrong: 0,
        note: if elsewhere == 0 { String::new() } else { format!("{elsewhere} keys not from the tier") },
    })
}

/// The requests of a case, and what their answers must be.
struct Asker {
    case: Case,
    requests: Vec<(LookupRequest, u64)>,
}

/// What a drive counted.
#[derive(Default)]
struct Counts {
    took: Vec<Duration>,
    /// Keys that another tier answered.
    elsewhere: usize,
}

impl Asker {
    async fn prepare(clients: &[Client], case: Case) -> Result<Self> {
        let mut client = clients.first().context("there is a connection")?.clone();
        let applied = status(&mut client).await?.applied;
        let mut zipf = Zipf::new(ROWS, 42);
        let mut request = || {
            let ids: Vec<u64> = (0..case.batch).map(|_| zipf.draw()).collect();
            let point = case.as_of.then(|| read_point(Point::AsOf, Place::Packed(applied))).flatten();
            let first = ids.first().copied().unwrap_or_default();
            (LookupRequest { id: 0, tables: vec![table_lookup(case, &ids)], read_point: point }, first)
        };
        let count = KEYS_DRAWN.div_ceil(case.batch);
        Ok(Self { case, requests: (0..count).map(|_| request()).collect() })
    }

    /// Asks until the deadline. Each asker begins at a place of its own.
    async fn ask(&self, mut client: Client, number: usize, until: Instant) -> Result<Counts> {
        let mut counts = Counts::default();
        let place = number * self.requests.len() / self.case.in_flight;
        for (request, first) in self.requests.iter().cycle().skip(place) {
            let begun = Instant::now();
            if begun >= until {
                break;
            }
            let response = client.lookup(request.clone()).await.context("look up")?.into_inner();
            counts.took.push(begun.elapsed());
            counts.elsewhere += self.check(&response, *first)?;
        }
        Ok(counts)
    }

    /// Whether every key is answered, and the first one rightly; returns how
    /// many were answered by another tier.
    fn check(&self, response: &LookupResponse, first: u64) -> Result<usize> {
        let table = response.tables.first().context("an answer without its table")?;
        if self.case.form == Form::Single {
            let answer = table.answers.first().context("an answer without its key")?;
            ensure!(answer.row.starts_with(&format!("{{\"id\":{first},")), "a wrong row: {}", answer.row);
            return Ok(usize::from(answer.tier != i32::from(self.case.tier())));
        }
        ensure!(table.row_ends.len() == self.case.batch, "{} answers", table.row_ends.len());
        ensure!(table.flags.iter().all(|flags| flags & FOUND != 0), "a key was not found");
        let expect = format!("{{\"id\":{first},");
        ensure!(table.rows.starts_with(expect.as_bytes()), "a wrong row for key {first}");
        Ok(table.tiers.iter().filter(|tier| **tier != self.case.tier()).count())
    }
}

fn table_lookup(case: Case, ids: &[u64]) -> TableLookup {
    let keys: Vec<Bytes> = ids.iter().map(|id| key(*id)).collect();
    let mut lookup = TableLookup { table: case.table.to_owned(), ..TableLookup::default() };
    match case.form {
        Form::Single => {
            lookup.plain_keys = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        }
        Form::Columnar => {
            let mut end = 0;
            let ends = keys.iter().map(|key| {
                end += key.len() as u32;
                end
            });
            let ends = ends.collect();
            lookup.keys = Some(KeyBlock { text: keys.concat().into(), ends });
        }
    }
    lookup
}

/// Keeps the case's number of calls in flight for `window`.
async fn drive(asker: &Arc<Asker>, clients: &[Client], window: Duration) -> Result<Counts> {
    let until = Instant::now() + window;
    let mut tasks = JoinSet::new();
    for (number, client) in (0..asker.case.in_flight).zip(clients.iter().cycle()) {
        let (asker, client) = (Arc::clone(asker), client.clone());
        tasks.spawn(async move { asker.ask(client, number, until).await });
    }
    let mut all = Counts::default();
    while let Some(done) = tasks.join_next().await {
        let counts = done??;
        all.took.extend(counts.took);
        all.elsewhere += counts.elsewhere;
    }
    Ok(all)
}
