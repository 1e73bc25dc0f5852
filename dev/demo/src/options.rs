//! The command line.

use clap::{Parser, ValueEnum};
use std::{fmt, path::PathBuf};

/// Runs the whole line once, for real: a shop's traffic in MySQL, dimsvc, the
/// layers in Kafka and ClickHouse, indicators over HTTP; then proves that every
/// result equals what SQL says in MySQL. Needs the services of `dev/stack`.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidemark-demo", version)]
pub(crate) struct Options {
    /// Orders to place, each with 1 to 5 lines.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) orders: u64,
    /// Seed of the generated rows and traffic.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Where dimsvc keeps the dimensions.
    #[arg(long, value_enum, default_value_t = Store::Embedded)]
    pub(crate) store: Store,
    /// Load this dump of a gmall database instead of generated rows.
    #[arg(long, value_name = "FILE.sql")]
    pub(crate) data: Option<PathBuf>,
    /// Leave everything running at the end and say how to look at it.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// The stores of dimsvc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    Embedded,
    Hbase,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Hbase => "hbase",
        })
    }
}
