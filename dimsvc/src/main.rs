//! The program: arguments → telemetry → settings → [`dimsvc::run`], or one
//! command of the client.

use clap::{Args, Parser, Subcommand};
use dimsvc::{Settings, client};
use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// A mistake in the settings, by sysexits.h.
const EX_USAGE: u8 = 64;

/// The dimension service of Tidemark.
///
/// Keeps MySQL tables as dimensions, every version of every row, fresh from the
/// binlog, and answers gRPC lookups that may be fenced by a binlog position.
/// `serve` is the service; the other commands ask a service that runs.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// Print tidemark.toml with every key, its default and its meaning
    #[arg(long)]
    print_default_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the dimensions of a warehouse folder
    Serve(Serve),
    #[command(flatten)]
    Client(client::Command),
}

#[derive(Args)]
struct Serve {
    /// The warehouse folder: tidemark.toml and dimensions.toml
    folder: PathBuf,
    /// Check settings, source and dimensions, start nothing, and exit
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.print_default_config {
        return print(tidemark_proto::config::DEFAULT_TOML);
    }
    match arguments.command {
        Some(Command::Serve(arguments)) => serve(&arguments),
        Some(Command::Client(command)) => ask(command),
        None => print("nothing to do: see dimsvc --help\n"),
    }
}

/// One command of the client, on this thread alone.
fn ask(command: client::Command) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(client::run(command))),
        Err(error) => refuse(&format!("cannot start: {error}"), 1),
    }
}

fn serve(serve: &Serve) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    let settings = match Settings::load(&serve.folder) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error.to_string(), EX_USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start threads: {error}"), 1),
    };
    let result = runtime.block_on(async {
        if serve.check {
            dimsvc::check(&settings).await.inspect(|()| info!("nothing is wrong"))
        } else {
            dimsvc::run(settings, terminated()).await
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("{error:#}"), 1),
    }
}

/// SIGTERM or SIGINT.
async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        error!("signals cannot be caught: stop the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(message: &str, code: u8) -> ExitCode {
    use std::io::Write as _;
    // One line for people, beside the log.
    let written = writeln!(std::io::stderr(), "dimsvc: {message}");
    if written.is_err() { ExitCode::FAILURE } else { ExitCode::from(code) }
}
