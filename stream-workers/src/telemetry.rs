//! Logs of the process: to standard error, filtered by `RUST_LOG`.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Without `RUST_LOG`: our words at INFO, those of the libraries from WARN on.
const DEFAULT_FILTER: &str = "warn,stream_workers=info,tidemark_binlog=info";

/// Begins to log. To be called once, first of all.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
