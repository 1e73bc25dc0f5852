//! The load generator: what a user of the programs gets on this machine.
//!
//! Measures the caches in this process; starts a dimsvc over a database of its
//! own, asks it over gRPC, commits changes and looks how soon they are visible,
//! runs the dwd worker over generated facts. Beside each its peer: bare caches,
//! a tonic echo, redis-benchmark, a loop that only copies. Prints one table and
//! writes it to `target/bench/load.json`. What a part measures is in its file;
//! `cpu` and `report` know none of them.

mod asker;
mod cache;
mod cpu;
mod dwd;
mod echo;
mod flight;
mod freshness;
mod ground;
mod lookups;
mod memory;
mod redis;
mod report;
mod stream;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use ground::Ground;
use report::Line;
use std::{io::Write as _, process::ExitCode, time::Duration};
use tidemark_tests::stack::{Stack, repository};

const FILE: &str = "target/bench/load.json";

/// Measures caches, lookups, freshness and enrichment on the real services.
///
/// Needs `dev/stack up mysql kafka redis clickhouse` and release builds of dimsvc and
/// stream-workers beside this program. The table shows rates and latencies with
/// CPU-seconds per million units; a missed floor is marked, a wrong answer is
/// an error.
#[derive(Parser)]
struct Arguments {
    /// Short measurements: for a look, not to be quoted
    #[arg(long)]
    quick: bool,
    /// Which parts, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = Part::ALL, hide_default_value = true)]
    only: Vec<Part>,
    /// Be the echo server that lookups are set beside
    #[arg(long, hide = true)]
    echo: Option<echo::Threads>,
    /// Hold rows, and say what they cost
    #[arg(long, hide = true, requires = "rows")]
    hold: Option<memory::Holder>,
    #[arg(long, hide = true)]
    rows: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The hit path in process, beside quick_cache, moka and a hash map
    Cache,
    /// What rows cost in memory, beside moka
    Memory,
    /// Ten thousand callers of one cold key
    Flight,
    /// gRPC lookups of rows in memory
    Lookups,
    /// Lookups on streams
    Stream,
    /// redis-benchmark on the same machine
    Redis,
    /// From a commit to a lookup that shows it
    Freshness,
    /// The dwd worker, three lookups a fact
    Dwd,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Cache,
        Self::Memory,
        Self::Flight,
        Self::Lookups,
        Self::Stream,
        Self::Redis,
        Self::Freshness,
        Self::Dwd,
    ];

    /// Whether it asks a running dimsvc.
    fn needs_ground(self) -> bool {
        !matches!(self, Self::Cache | Self::Memory | Self::Redis)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// How long and how much.
#[derive(Clone, Copy)]
struct Size {
    lookups: Duration,
    freshness: Duration,
    facts: u64,
    /// Rows held in memory, to be weighed.
    rows: u64,
}

const USUAL: Size = Size {
    lookups: Duration::from_secs(3),
    freshness: Duration::from_secs(10),
    facts: 500_000,
    rows: 5_000_000,
};
const QUICK: Size = Size {
    lookups: Duration::from_millis(500),
    freshness: Duration::from_secs(2),
    facts: 50_000,
    rows: 500_000,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.echo, arguments.hold.zip(arguments.rows)) {
        (Some(threads), _) => echo::run(threads),
        (None, Some((holder, rows))) => {
            memory::hold(holder, rows).and_then(|bytes| print(&bytes.to_string()))
        }
        (None, None) => measure_all(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("load: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn measure_all(arguments: &Arguments) -> Result<()> {
    tokio::select! {
        measured = measure(arguments) => measured,
        // What was started is stopped, and what was made is removed.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let size = if arguments.quick { QUICK } else { USUAL };
    let (mut lines, mut ground) = (Vec::new(), None);
    for part in Part::ALL.into_iter().filter(|part| arguments.only.contains(part)) {
        if part.needs_ground() && ground.is_none() {
            tell("loading 100,000 products and users");
            ground = Some(Ground::prepare(&Stack::with(&["mysql", "kafka", "clickhouse"])?).await?);
        }
        tell(&format!("measuring {part}"));
        let measured = measure_part(part, ground.as_ref(), size).await;
        lines.extend(measured.with_context(|| format!("measure {part}"))?);
    }
    drop(ground);
    redis::set_beside(&mut lines);
    let path = repository().join(FILE);
    report::save(&path, &lines, arguments.quick)?;
    print(&report::table(&lines))?;
    tell(&format!("written to {FILE}"));
    let wrong: usize = lines.iter().map(|line| line.wrong).sum();
    ensure!(wrong == 0, "{wrong} answers were wrong");
    Ok(())
}

async fn measure_part(part: Part, ground: Option<&Ground>, size: Size) -> Result<Vec<Line>> {
    let ground = || ground.context("dimsvc runs");
    match part {
        Part::Cache => tokio::task::block_in_place(|| cache::measure(size.lookups)),
        Part::Memory => tokio::task::block_in_place(|| memory::measure(size.rows)),
        Part::Flight => Ok(vec![flight::measure(ground()?).await?]),
        Part::Lookups => lookups::measure(ground()?, size.lookups).await,
        Part::Stream => Ok(vec![stream::measure(ground()?, size.lookups).await?]),
        Part::Redis => tokio::task::block_in_place(|| redis::measure(size.lookups)),
        Part::Freshness => Ok(vec![freshness::measure(ground()?, size.freshness).await?]),
        Part::Dwd => dwd::measure(ground()?, size.facts).await,
    }
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("print what was measured")
}

/// A line of progress, for whoever waits.
fn tell(line: &str) {
    // Nobody is left to tell when standard error is closed.
    writeln!(std::io::stderr(), "{line}").ok();
}
