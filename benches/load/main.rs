//! The load generator: what a user of the programs gets on this machine.
//!
//! Starts a dimsvc over a database of its own, asks it over gRPC, commits
//! changes and looks how soon they are visible, runs the dwd worker over
//! generated facts; beside it redis-benchmark and a loop that only copies.
//! Prints one table and writes it to `target/bench/load.json`. What a part
//! measures is in its file; `cpu` and `report` know none of them.

mod cpu;
mod dwd;
mod freshness;
mod ground;
mod lookups;
mod redis;
mod report;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use ground::Ground;
use report::Line;
use std::{io::Write as _, process::ExitCode, time::Duration};
use tidemark_tests::stack::{Stack, repository};

const FILE: &str = "target/bench/load.json";

/// Measures lookups, freshness and enrichment on the real services.
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// gRPC lookups of rows in memory
    Lookups,
    /// redis-benchmark on the same machine
    Redis,
    /// From a commit to a lookup that shows it
    Freshness,
    /// The dwd worker, three lookups a fact
    Dwd,
}

impl Part {
    const ALL: [Self; 4] = [Self::Lookups, Self::Redis, Self::Freshness, Self::Dwd];
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
}

const USUAL: Size =
    Size { lookups: Duration::from_secs(3), freshness: Duration::from_secs(10), facts: 500_000 };
const QUICK: Size =
    Size { lookups: Duration::from_millis(500), freshness: Duration::from_secs(2), facts: 50_000 };

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measured = tokio::select! {
        measured = measure(&arguments) => measured,
        // What was started is stopped, and what was made is removed.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("load: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let stack = Stack::with(&["mysql", "kafka", "clickhouse"])?;
    let size = if arguments.quick { QUICK } else { USUAL };
    tell("loading 100,000 products and users");
    let ground = Ground::prepare(&stack).await?;
    let mut lines = Vec::new();
    for part in Part::ALL.into_iter().filter(|part| arguments.only.contains(part)) {
        tell(&format!("measuring {part}"));
        lines.extend(measure_part(part, &ground, size).await.with_context(|| format!("measure {part}"))?);
    }
    drop(ground);
    let path = repository().join(FILE);
    report::save(&path, &lines, arguments.quick)?;
    std::io::stdout().write_all(report::table(&lines).as_bytes()).context("print the table")?;
    tell(&format!("written to {FILE}"));
    let wrong: usize = lines.iter().map(|line| line.wrong).sum();
    ensure!(wrong == 0, "{wrong} answers were wrong");
    Ok(())
}

async fn measure_part(part: Part, ground: &Ground, size: Size) -> Result<Vec<Line>> {
    match part {
        Part::Lookups => lookups::measure(ground, size.lookups).await,
        Part::Redis => tokio::task::block_in_place(|| redis::measure(size.lookups)),
        Part::Freshness => Ok(vec![freshness::measure(ground, size.freshness).await?]),
        Part::Dwd => dwd::measure(ground, size.facts).await,
    }
}

/// A line of progress, for whoever waits.
fn tell(line: &str) {
    // Nobody is left to tell when standard error is closed.
    writeln!(std::io::stderr(), "{line}").ok();
}
