//! Asks one kind of lookup again and again, over a number of calls in flight,
//! and checks what comes back.

use crate::{
    cpu,
    ground::{Client, ROWS, read_point},
    report::{Latency, Line},
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
/// Keys of all the requests that are asked in turn.
const KEYS_DRAWN: usize = 65_536;
/// Of `flags`, for each key.
const FOUND: u8 = 1;

/// One line to measure.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) table: &'static str,
    pub(crate) form: Form,
    pub(crate) keys: Keys,
    pub(crate) as_of: bool,
    pub(crate) batch: usize,
    pub(crate) in_flight: usize,
    pub(crate) floor: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One key as text, as a person asks.
    Single,
    Columnar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// The hot ones come often.
    Zipf,
    Uniform,
    /// None is there.
    Missing,
}

impl Case {
    pub(crate) const fn columnar(batch: usize, in_flight: usize) -> Self {
        let (form, keys) = (Form::Columnar, Keys::Zipf);
        Self { table: "sku_info", form, keys, as_of: false, batch, in_flight, floor: None }
    }

    pub(crate) const fn single(in_flight: usize) -> Self {
        Self { form: Form::Single, ..Self::columnar(1, in_flight) }
    }

    pub(crate) fn name(&self) -> String {
        let form = match self.form {
            Form::Single => String::from("single key"),
            Form::Columnar => format!("batch {}", self.batch),
        };
        let point = if self.as_of { "as_of(applied)" } else { "latest" };
        let keys = match self.keys {
            Keys::Zipf => "",
            Keys::Uniform => ", uniform",
            Keys::Missing => ", all missing",
        };
        format!("{form}, {} in flight, {}, {point}{keys}", self.in_flight, self.tier_name())
    }

    /// Whether rows become resident by being asked for.
    pub(crate) fn is_lru(&self) -> bool {
        self.table.ends_with("_lru")
    }

    fn tier_name(&self) -> &'static str {
        if self.is_lru() { "lru" } else { "full" }
    }

    /// The number of the tier on the wire.
    fn tier(&self) -> u8 {
        if self.is_lru() { 2 } else { 1 }
    }
}

/// The requests of a case, and what their answers must be.
pub(crate) struct Asker {
    pub(crate) case: Case,
    pub(crate) requests: Vec<(LookupRequest, u64)>,
}

/// What a drive counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) took: Vec<Duration>,
    /// Keys that another tier answered.
    pub(crate) elsewhere: usize,
}

impl Asker {
    /// `applied` is where a read as of a position reads.
    pub(crate) fn prepare(case: Case, applied: u64) -> Self {
        let mut zipf = Zipf::new(ROWS, 42);
        let mut step = 0_u64;
        let mut id = || {
            step += 1;
            match case.keys {
                Keys::Zipf => zipf.draw(),
                Keys::Uniform => step.wrapping_mul(2_654_435_761) % ROWS,
                Keys::Missing => ROWS + zipf.draw(),
            }
        };
        let mut request = || {
            let ids: Vec<u64> = (0..case.batch).map(|_| id()).collect();
            let point = case.as_of.then(|| read_point(Point::AsOf, Place::Packed(applied))).flatten();
            let first = ids.first().copied().unwrap_or_default();
            (
                LookupRequest {
                    id: 0,
                    tables: vec![table_lookup(case, &ids)],
                    read_point: point,
                    ..Default::default()
                },
                first,
            )
        };
        let count = KEYS_DRAWN.div_ceil(case.batch);
        Self { case, requests: (0..count).map(|_| request()).collect() }
    }

    /// Asks every request once, so that all it can hold is resident.
    pub(crate) async fn ask_once(self: &Arc<Self>, clients: &[Client]) -> Result<()> {
        let mut client = clients.first().context("there is a connection")?.clone();
        for (request, _) in &self.requests {
            client.lookup(request.clone()).await.context("look up")?;
        }
        Ok(())
    }

    /// Measures one line over `window`, after a warm-up; the server is `pid`.
    pub(crate) async fn line(
        self: &Arc<Self>,
        (clients, pid): (&[Client], u32),
        window: Duration,
    ) -> Result<Line> {
        self.drive(clients, WARM_UP).await?;
        let (server_cpu, own_cpu, begun) = (cpu::of(pid)?, cpu::own()?, Instant::now());
        let counts = self.drive(clients, window).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let requests = counts.took.len() as f64;
        let keys = requests * self.case.batch as f64;
        let elsewhere = counts.elsewhere;
        Ok(Line {
            part: "lookup",
            name: self.case.name(),
            rate: keys / seconds,
            unit: "keys",
            requests_per_second: Some(requests / seconds),
            latency: Latency::of(counts.took),
            server_cpu: Some((cpu::of(pid)? - server_cpu) * 1e6 / keys),
            client_cpu: Some((cpu::own()? - own_cpu) * 1e6 / keys),
            floor: self.case.floor.map(crate::report::Floor::RateAtLeast),
            note: if elsewhere == 0 { String::new() } else { format!("{elsewhere} keys not from the tier") },
            ..Line::default()
        })
    }

    /// Keeps the case's number of calls in flight for `window`.
    async fn drive(self: &Arc<Self>, clients: &[Client], window: Duration) -> Result<Counts> {
        let until = Instant::now() + window;
        let mut tasks = JoinSet::new();
        for (number, client) in (0..self.case.in_flight).zip(clients.iter().cycle()) {
            let (asker, client) = (Arc::clone(self), client.clone());
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
    pub(crate) fn check(&self, response: &LookupResponse, first: u64) -> Result<usize> {
        let table = response.tables.first().context("an answer without its table")?;
        if self.case.form == Form::Single {
            let answer = table.answers.first().context("an answer without its key")?;
            ensure!(answer.row.starts_with("{\"id\":"), "a wrong row: {}", answer.row);
            return Ok(usize::from(answer.tier != i32::from(self.case.tier())));
        }
        ensure!(table.row_ends.len() == self.case.batch, "{} answers", table.row_ends.len());
        let there = self.case.keys != Keys::Missing;
        let as_asked = table.flags.iter().all(|flags| (flags & FOUND != 0) == there);
        ensure!(as_asked, "a key was not found, or one that is not there was");
        let expect = if there { format!("{{\"id\":{first},") } else { String::new() };
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
