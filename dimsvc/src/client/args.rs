//! What can be typed: the client's commands, their options and their help.

use super::{point, point::At};
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;
use tidemark_proto::dim::v1::{ReadPoint, position::Place};

const KEY_HELP: &str = "\
A JSON array of the key columns' values, as '[\"a\",3]', or for a key of one
column its bare value; - reads keys from standard input, one a line";
const POSITION_HELP: &str = "\
now (the end of the source's binlog), FILE:OFFSET
(binlog.000012:3456), EPOCH/FILE:OFFSET (1/000012:3456), or a GTID (uuid:23: the
end of that transaction, so that its own changes are seen)";

/// The client's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look up rows by key
    ///
    /// Prints the row of each key as of one read point: the newest that the
    /// service knows, or with --at as it was for a transaction in the past. Keys
    /// from standard input go 1,000 a lookup.
    ///
    /// Exit codes: 0 every key has a row, 1 some have none, 2 the request is
    /// wrong or cannot be answered, 69 the service or what it needs was not
    /// there in time, 70 anything else.
    #[command(after_help = "\
Example: the province 15 as it is now, and as it was for the transaction at that place
  dimsvc lookup base_province 15 --at now
  dimsvc lookup base_province 15 --at binlog.000012:3456")]
    Lookup(Lookup),
    /// Explain the answer for one key: what each tier holds of it
    #[command(after_help = "\
Example: why is this row not what the source says?
  dimsvc explain base_province 15 --source")]
    Explain(Explain),
    /// Show where the service stands: applied, durable, role, lag, loads, tiers
    #[command(after_help = "\
Example: the position that lookups see
  dimsvc status --output json | jq -r .applied")]
    Status(Status),
    /// List the dimensions, or describe one
    #[command(after_help = "\
Example: columns, key, tier and history of one dimension
  dimsvc dimensions base_province")]
    Dimensions(Dimensions),
    /// Follow the changes of dimensions until ctrl-c
    ///
    /// Prints every change after a position, transaction by transaction. When
    /// the service is restarted, it goes on where it was. With --output json
    /// each line is one message: its changes are those of one transaction, and
    /// a line without changes says that nothing more has happened up to
    /// `applied`.
    #[command(after_help = "\
Example: what happens to two dimensions from now on
  dimsvc watch base_province sku_info")]
    Watch(Watch),
    /// Show what the audit in the background has found
    #[command(after_help = "\
Example: fail when a tier has ever differed from the source
  dimsvc audit --output json | jq -e '.mismatches == 0'")]
    Audit(Audit),
    /// Drop keys, or all, of a dimension from memory and the shared tier
    ///
    /// The next lookups load them again; no answer changes by it.
    #[command(after_help = "\
Example: drop one key
  dimsvc invalidate base_province 15")]
    Invalidate(Keys),
    /// Compare a dimension, or some keys, with the source and mend what differs
    ///
    /// Runs while both change. History before the repair is unknown where it
    /// wrote. Only the replica that writes the store can do it.
    #[command(after_help = "\
Example: a dimension that was restored from a backup
  dimsvc repair base_province")]
    Repair(Keys),
}

impl Command {
    pub(super) fn server(&self) -> &Server {
        match self {
            Self::Lookup(lookup) => &lookup.server,
            Self::Explain(explain) => &explain.server,
            Self::Status(Status { server }) | Self::Audit(Audit { server }) => server,
            Self::Dimensions(dimensions) => &dimensions.server,
            Self::Watch(watch) => &watch.server,
            Self::Invalidate(keys) | Self::Repair(keys) => &keys.server,
        }
    }
}

/// Which service is asked, and how its answer is printed.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The service to ask
    #[arg(long, value_name = "URL", env = "TIDEMARK_SERVER", default_value = "http://127.0.0.1:7400")]
    pub(super) server: String,
    /// Aligned text for people, or JSON lines for programs
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
    /// How long an answer may take: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) timeout: Duration,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct Lookup {
    /// The dimension
    pub(super) table: String,
    #[arg(value_name = "KEY", required = true, allow_negative_numbers = true, help = KEY_HELP)]
    pub(super) keys: Vec<String>,
    /// Look up by an index: keys are of its columns, or of the first of them
    #[arg(long, value_name = "NAME")]
    pub(super) index: Option<String>,
    #[command(flatten)]
    pub(super) when: When,
    /// Only these columns, in this order
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
    #[command(flatten)]
    pub(super) server: Server,
}

/// The read point.
#[derive(Debug, Args)]
pub(super) struct When {
    #[arg(long, value_name = "POSITION", value_parser = point::at, help = at_help("\
Rows as the transaction at this position saw them: latest (never waits), or
"))]
    pub(super) at: Option<At>,
    #[arg(long, value_name = "POSITION", value_parser = point::place, conflicts_with = "at", help = at_help("\
The newest rows, once this position is applied: "))]
    pub(super) at_least: Option<Place>,
}

impl When {
    pub(super) fn read_point(&self) -> Option<ReadPoint> {
        point::read_point(self.at.as_ref(), self.at_least.as_ref())
    }
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The dimension
    pub(super) table: String,
    /// A JSON array of the key columns' values, or the bare value of a key of
    /// one column
    #[arg(allow_negative_numbers = true)]
    pub(super) key: String,
    #[command(flatten)]
    pub(super) when: When,
    /// Ask the source too: one query
    #[arg(long)]
    pub(super) source: bool,
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(Debug, Args)]
pub struct Audit {
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(Debug, Args)]
pub struct Dimensions {
    /// Describe this one
    pub(super) table: Option<String>,
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// The dimensions; all when none is named
    #[arg(value_name = "TABLE")]
    pub(super) tables: Vec<String>,
    #[arg(long, value_name = "POSITION", value_parser = point::place, help = at_help("\
Changes after this position, from now on when it is not given:
"))]
    pub(super) after: Option<Place>,
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(Debug, Args)]
pub struct Keys {
    /// The dimension
    pub(super) table: String,
    #[arg(value_name = "KEY", allow_negative_numbers = true, help = key_help())]
    pub(super) keys: Vec<String>,
    #[command(flatten)]
    pub(super) server: Server,
}

fn at_help(before: &str) -> String {
    format!("{before}{POSITION_HELP}")
}

fn key_help() -> String {
    format!("{KEY_HELP}; every key when none is given")
}

/// `500ms`, `10s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let malformed = || format!("`{text}` is not a time: write 500ms, 10s or 2m");
    let count: u64 = digits.parse().map_err(|_| malformed())?;
    let milliseconds = match unit {
        "ms" => count,
        "s" => count.saturating_mul(1_000),
        "m" => count.saturating_mul(60_000),
        _ => return Err(malformed()),
    };
    if (1..=MILLISECONDS_MAX).contains(&milliseconds) {
        return Ok(Duration::from_millis(milliseconds));
    }
    Err(format!("`{text}` is out of bounds: at least 1ms, at most 1440m"))
}

/// A day: a deadline must fit the clock.
const MILLISECONDS_MAX: u64 = 24 * 60 * 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(subcommand)]
        command: Command,
    }

    fn parse(line: &str) -> Result<Command, String> {
        let words = ["dimsvc"].into_iter().chain(line.split(' '));
        Typed::try_parse_from(words).map(|typed| typed.command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_commands_are_well_formed() {
        use clap::CommandFactory as _;
        Typed::command().debug_assert();
    }

    #[test]
    fn a_lookup_takes_keys_of_every_spelling() {
        let line = "lookup sku -5 [1,\"a\"] abc - --columns id,name --timeout 500ms --output json";
        let Ok(Command::Lookup(lookup)) = parse(line) else { panic!("it is a lookup") };
        assert_eq!(lookup.keys, ["-5", "[1,\"a\"]", "abc", "-"]);
        assert_eq!(lookup.columns, ["id", "name"]);
        assert_eq!(lookup.server.timeout, Duration::from_millis(500));
        assert_eq!(lookup.server.output, Output::Json);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_cure() {
        let cases = [
            ("lookup sku", "<KEY>"),
            ("lookup sku 1 --at now --at-least now", "cannot be used with"),
            ("lookup sku 1 --at yesterday", "is not a position"),
            ("lookup sku 1 --at-least latest", "is not a position"),
            ("watch --after latest", "is not a position"),
            ("status --timeout 10", "write 500ms, 10s or 2m"),
            ("status --timeout 0s", "out of bounds"),
            ("status --timeout 99999999999999999999s", "is not a time"),
        ];
        for (line, expect) in cases {
            let error = parse(line).expect_err(line);
            assert!(error.contains(expect), "{line}: {error}");
        }
    }
}
