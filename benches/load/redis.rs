//! Redis on the same machine, by its own benchmark: what a plain cache of the
//! same rows gives, without versions and fences.

use crate::{
    asker::{Case, Keys},
    cpu,
    ground::ROWS,
    report::{Floor, Latency, Line},
};
use anyhow::{Context, Result, ensure};
use std::{process::Command, time::Duration};
use tidemark_tests::stack::Instance;

const VALUE_BYTES: usize = 200;
const MGET_KEYS: usize = 256;
/// The line that has to stay under a share of Redis's CPU time.
const BESIDE_IN_FLIGHT: usize = 8;
const CPU_OF_REDIS: f64 = 0.6;
/// Enough random writes that each of the keys is there.
const FILL_REQUESTS: u64 = 15 * ROWS;

/// One run of redis-benchmark.
struct Run<'a> {
    name: String,
    command: &'a [String],
    clients: usize,
    /// Keys of one request.
    keys: usize,
    /// Expected, for a run of about the wanted length.
    requests_per_second: f64,
}

/// Measures on a private server, each line for about `window`.
pub(crate) fn measure(window: Duration) -> Result<Vec<Line>> {
    let instance = Instance::start("redis", "bench")?;
    let (_, port) = instance.stack.redis.rsplit_once(':').context("read Redis's address")?;
    let server = Server { port, pid: instance.pid("redis")? };
    server.fill()?;
    let get = [String::from("get"), String::from("key:__rand_int__")];
    let mut mget = vec![String::from("mget")];
    mget.resize(1 + MGET_KEYS, String::from("key:__rand_int__"));
    let mut lines = Vec::new();
    for (clients, rate) in [(1, 12_000.0), (8, 60_000.0), (64, 80_000.0)] {
        let name = format!("GET, {clients} in flight");
        lines.push(
            server.run(window, &Run { name, command: &get, clients, keys: 1, requests_per_second: rate })?,
        );
    }
    for (clients, rate) in [(1, 1_500.0), (8, 2_500.0), (64, 2_500.0)] {
        let run = Run {
            name: mget_name(clients),
            command: &mget,
            clients,
            keys: MGET_KEYS,
            requests_per_second: rate,
        };
        lines.push(server.run(window, &run)?);
    }
    Ok(lines)
}

/// Sets the CPU time of batches of lookups, by call and by stream, beside that
/// of the same MGET, when both were measured.
pub(crate) fn set_beside(lines: &mut [Line]) {
    let unary = Case { keys: Keys::Uniform, ..Case::columnar(MGET_KEYS, BESIDE_IN_FLIGHT) }.name();
    let peer = mget_name(BESIDE_IN_FLIGHT);
    let peer = lines.iter().find(|line| line.part == "redis" && line.name == peer);
    let Some(peer) = peer.and_then(|line| line.server_cpu) else { return };
    for line in lines.iter_mut().filter(|line| line.part == "stream" || line.name == unary) {
        let Some(ours) = line.server_cpu else { continue };
        line.floor = Some(Floor::ShareAtMost(ours / peer, CPU_OF_REDIS));
        line.note = String::from("server CPU, of redis-server's for the same MGET");
    }
}

fn mget_name(in_flight: usize) -> String {
    format!("MGET of {MGET_KEYS}, {in_flight} in flight")
}

struct Server<'a> {
    port: &'a str,
    pid: u32,
}

impl Server<'_> {
    fn fill(&self) -> Result<()> {
        let requests = FILL_REQUESTS.to_string();
        let value = "x".repeat(VALUE_BYTES);
        self.benchmark(&["-n", &requests, "-P", "64", "-c", "4", "set", "key:__rand_int__", &value])?;
        Ok(())
    }

    fn run(&self, window: Duration, run: &Run<'_>) -> Result<Line> {
        let requests = (run.requests_per_second * window.as_secs_f64()).ceil();
        let (count, clients) = (requests.to_string(), run.clients.to_string());
        let mut arguments = vec!["-n", &count, "-c", &clients];
        arguments.extend(run.command.iter().map(String::as_str));
        let (server_cpu, own_cpu) = (cpu::of(self.pid)?, cpu::ended_children()?);
        let said = self.benchmark(&arguments)?;
        let keys = requests * run.keys as f64;
        Ok(Line {
            part: "redis",
            name: run.name.clone(),
            rate: said.requests_per_second * run.keys as f64,
            unit: "keys",
            requests_per_second: Some(said.requests_per_second),
            latency: Some(said.latency),
            server_cpu: Some((cpu::of(self.pid)? - server_cpu) * 1e6 / keys),
            client_cpu: Some((cpu::ended_children()? - own_cpu) * 1e6 / keys),
            ..Line::default()
        })
    }

    fn benchmark(&self, arguments: &[&str]) -> Result<Said> {
        let range = ROWS.to_string();
        let said = Command::new("redis-benchmark")
            .args(["-h", "127.0.0.1", "-p", self.port, "--csv", "-r", &range])
            .args(arguments)
            .output()
            .context("run redis-benchmark")?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(
            said.status.success(),
            "redis-benchmark failed: {text}{}",
            String::from_utf8_lossy(&said.stderr)
        );
        Said::read(&text).with_context(|| format!("understand redis-benchmark: {text}"))
    }
}

/// The last line of its CSV.
struct Said {
    requests_per_second: f64,
    latency: Latency,
}

impl Said {
    /// `"command","rps","avg","min","p50","p95","p99","max"`; the command may
    /// hold anything, so from the right.
    fn read(text: &str) -> Option<Self> {
        let line = text.trim_end().lines().last()?;
        let fields: Vec<f64> =
            line.rsplit(',').take(7).map_while(|field| field.trim_matches('"').parse().ok()).collect();
        let [max_ms, p99_ms, _, p50_ms, _, _, requests_per_second] = fields[..] else { return None };
        Some(Self { requests_per_second, latency: Latency { p50_ms, p99_ms, max_ms } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_redis_benchmark_prints() {
        let text = "\"test\",\"rps\",\"avg\"\n\"get k,1\",\"9900.99\",\"0.1\",\"0.02\",\"0.09\",\"0.2\",\"0.3\",\"1.5\"\n";
        let said = Said::read(text).unwrap();
        let Latency { p50_ms, p99_ms, max_ms } = said.latency;
        assert_eq!((said.requests_per_second, p50_ms, p99_ms, max_ms), (9900.99, 0.09, 0.3, 1.5));
        assert!(Said::read("error").is_none());
    }
}
