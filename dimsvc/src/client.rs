//! The command-line client: arguments → one call of the API → text for people
//! or JSON lines for programs.
//!
//! `args` is what can be typed, `point` and `key` read positions and keys,
//! `connection` calls, `failure` turns what went wrong into one line and an
//! exit code, `print` and `table` write. Each other module is one command. The
//! client knows the API alone, nothing of the service behind it.

mod admin;
mod args;
mod connection;
mod dimensions;
mod explain;
mod failure;
mod key;
mod lookup;
mod point;
mod print;
mod status;
mod table;
mod watch;

pub use args::Command;

use connection::Connection;
use failure::Failure;
use print::Printer;
use std::io::Write as _;

/// Runs one command and returns the exit code: 0, or 1 when a key was absent,
/// 2 for a request that cannot be answered, 69 when the service was not there,
/// 70 for anything else.
pub async fn run(command: Command) -> u8 {
    match dispatch(command).await {
        Ok(code) => code,
        Err(failure) if failure.is_closed_pipe() => 0,
        Err(failure) => {
            // Without standard error nobody is there to read it.
            drop(writeln!(std::io::stderr(), "dimsvc: {failure}"));
            failure.exit_code()
        }
    }
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    let server = command.server();
    let connection = Connection::open(server).await?;
    let mut out = Printer::new(std::io::stdout(), server.output);
    match &command {
        Command::Lookup(arguments) => return lookup::run(connection, arguments, &mut out).await,
        Command::Explain(arguments) => explain::run(connection, arguments, &mut out).await?,
        Command::Status(_) => status::run(connection, &mut out).await?,
        Command::Dimensions(arguments) => dimensions::run(connection, arguments, &mut out).await?,
        Command::Watch(arguments) => watch::run(connection, arguments, &mut out).await?,
        Command::Audit(_) => admin::audit(connection, &mut out).await?,
        Command::Invalidate(arguments) => admin::invalidate(connection, arguments, &mut out).await?,
        Command::Repair(arguments) => admin::repair(connection, arguments, &mut out).await?,
    }
    Ok(0)
}
