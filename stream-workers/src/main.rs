//! The program: arguments → telemetry → warehouse → [`stream_workers::run`].

use clap::{Args, Parser, Subcommand};
use std::{io::Write as _, path::PathBuf, process::ExitCode};
use stream_workers::{
    check::check,
    metrics::Layer,
    telemetry,
    warehouse::{Mistake, Warehouse},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A mistake in the arguments or the folder, by sysexits.h.
const EX_USAGE: u8 = 64;

/// Builds the layers of a real-time warehouse.
///
/// A warehouse is a folder: tidemark.toml (connections and limits),
/// dimensions.toml, and the SQL of its tables in dwd/, dws/ and ads/. Every
/// setting can be overridden by the environment: TIDEMARK__KAFKA__BROKERS.
///
/// A worker that is stopped with SIGTERM finishes its batches first. Workers of
/// one layer share its work as members of a Kafka consumer group.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Binlog to Kafka: every change of the business database, as Maxwell JSON
    ///
    /// Reads MySQL's binlog as a replica (ods.server_id) and writes each changed
    /// row into kafka.topic_db, with its binlog position and its transaction.
    /// Its place is kept in Kafka, as metadata of the group's offset; a new ods
    /// begins at ods.start. Run one at a time.
    Ods(Folder),
    /// Facts with their dimensions joined in, one topic a table
    ///
    /// Reads kafka.topic_db and runs every plan of dwd/*.sql. Joins are looked
    /// up in dimsvc as of each fact's own transaction. Messages that cannot be
    /// used go to kafka.dead_letter_topic with the reason in their headers.
    Dwd(Folder),
    /// Aggregates in ClickHouse, one table a plan
    ///
    /// Reads the dwd topics and keeps the tables of dws/*.sql: right after any
    /// crash or replay. Query the view that has the plan's name.
    Dws(Folder),
    /// Indicators over HTTP, computed on demand
    ///
    /// Serves the queries of ads/*.sql at ads.listen: GET / lists them, GET
    /// /indicators/NAME?parameter=value answers with JSON.
    Ads(Folder),
    /// Several layers in one process
    Run(Run),
    /// Check the folder and report every mistake with its place and its cure
    Check(Check),
}

#[derive(Args)]
struct Folder {
    /// The warehouse folder
    folder: PathBuf,
}

#[derive(Args)]
struct Run {
    /// The warehouse folder
    folder: PathBuf,
    /// Which layers, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "ods,dwd,dws,ads")]
    layers: Vec<Layer>,
}

#[derive(Args)]
struct Check {
    /// The warehouse folder
    folder: PathBuf,
    /// Check against the live MySQL, dimsvc, Kafka and ClickHouse too
    #[arg(long)]
    connect: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors: clap knows the stream of each.
            let failed = error.use_stderr();
            return if error.print().is_ok() && !failed {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EX_USAGE)
            };
        }
    };
    telemetry::start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error).context("start threads")),
    };
    let (folder, layers) = match arguments.command {
        Command::Ods(Folder { folder }) => (folder, vec![Layer::Ods]),
        Command::Dwd(Folder { folder }) => (folder, vec![Layer::Dwd]),
        Command::Dws(Folder { folder }) => (folder, vec![Layer::Dws]),
        Command::Ads(Folder { folder }) => (folder, vec![Layer::Ads]),
        Command::Run(Run { folder, layers }) => (folder, layers),
        Command::Check(Check { folder, connect }) => {
            let report = runtime.block_on(check(&folder, connect));
            // Written as it was asked for; a closed pipe is the reader's choice.
            std::io::stdout().write_all(report.to_string().as_bytes()).ok();
            return if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(EX_USAGE) };
        }
    };
    let warehouse = match Warehouse::load(&folder) {
        Ok(warehouse) => warehouse,
        Err(mistakes) => return refuse(&mistakes),
    };
    match runtime.block_on(work(warehouse, &layers)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Runs the layers until a signal comes or one of them fails.
async fn work(warehouse: Warehouse, layers: &[Layer]) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tasks = TaskTracker::new();
    let stop = shutdown.clone();
    tasks.spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = stop.cancelled() => return,
        };
        tracing::info!(signal = name, "stopping");
        stop.cancel();
    });
    tasks.close();
    let result = stream_workers::run(warehouse, layers, shutdown.clone()).await;
    shutdown.cancel();
    tasks.wait().await;
    result
}

fn refuse(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        write_line(&mistake.to_string());
    }
    ExitCode::from(EX_USAGE)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    write_line(&format!("stream-workers: {error:#}"));
    ExitCode::FAILURE
}

/// One line for people on standard error, whatever the log's filter is.
fn write_line(line: &str) {
    // Nobody is left to tell when standard error is closed.
    writeln!(std::io::stderr(), "{line}").ok();
}
