//! What can go wrong, as one line that says what to do, and as an exit code.

use std::io;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// By sysexits.h.
const EX_UNAVAILABLE: u8 = 69;
const EX_SOFTWARE: u8 = 70;
const USAGE: u8 = 2;

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(
        "cannot reach {server}: {reason}; start dimsvc there, or name another with --server or TIDEMARK_SERVER"
    )]
    Unreachable { server: String, reason: String },
    #[error("{}", line(.0))]
    Refused(Box<Status>),
    #[error("the answer is not complete: {0}")]
    Incomplete(&'static str),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Failure {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Unreachable { .. } => EX_UNAVAILABLE,
            Self::Incomplete(_) | Self::Output(_) => EX_SOFTWARE,
            Self::Refused(status) if asks_too_much(status) => USAGE,
            Self::Refused(status) => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => {
                    EX_UNAVAILABLE
                }
                Code::InvalidArgument | Code::NotFound | Code::OutOfRange | Code::FailedPrecondition => USAGE,
                _ => EX_SOFTWARE,
            },
        }
    }

    /// The reader of the output has gone, as `head` does.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the same call may succeed once the service is back.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            // A connection that breaks has no reason of the API's.
            Self::Refused(status) => {
                status.code() == Code::Unavailable
                    || (status.code() == Code::Unknown && status.get_details_error_info().is_none())
            }
            Self::Usage(_) | Self::Incomplete(_) | Self::Output(_) => false,
        }
    }
}

fn asks_too_much(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| matches!(info.reason.as_str(), "TOO_MANY_KEYS" | "TOO_MANY_ROWS"))
}

/// `REASON: message (name=value, …); what to do`.
fn line(status: &Status) -> String {
    let info = status.get_details_error_info();
    let reason = info.as_ref().map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
    let mut metadata: Vec<_> = info.into_iter().flat_map(|info| info.metadata).collect();
    // What the text of a position says again.
    metadata.retain(|(name, value)| !name.ends_with("_packed") && !status.message().contains(value.as_str()));
    metadata.sort();
    let metadata: Vec<_> = metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let metadata = if metadata.is_empty() { String::new() } else { format!(" ({})", metadata.join(", ")) };
    let cure = cure(&reason, status.code()).map_or_else(String::new, |cure| format!("; {cure}"));
    let message = status.message().lines().collect::<Vec<_>>().join(" ");
    format!("{reason}: {message}{metadata}{cure}")
}

fn cure(reason: &str, code: Code) -> Option<&'static str> {
    Some(match reason {
        "NOT_APPLIED_YET" => "wait longer with --timeout; `dimsvc status` shows the lag",
        "DIMENSION_LOADING" => "try again when `dimsvc status` shows it complete",
        "FEED_LOST" => "see the source; --at latest answers from what is known",
        "STORE_FAILED" | "STORE_OVERLOADED" => "see the store, then try again",
        "SOURCE_FAILED" => "see the source, then try again",
        "MOVED" => "try again",
        "LATE" => "wait longer with --timeout",
        "UNKNOWN_TABLE" => "`dimsvc dimensions` lists them",
        "BAD_KEY" | "BAD_COLUMN" => "`dimsvc dimensions TABLE` shows key and columns",
        "TOO_MANY_KEYS" => "ask for fewer, or read them from standard input with -",
        "TOO_MANY_ROWS" => "give more of the index's columns, or raise dimsvc.limits.index_rows_max",
        "REPAIR_REFUSED" => "`dimsvc status` shows the dimension",
        "POSITION_UNRESOLVED" => "name it as EPOCH/FILE:OFFSET",
        "STALE" => "see the source; the dimension's on_stale decides whether stale rows are served",
        "NO_HISTORY" => "ask with --at latest",
        "BEFORE_HISTORY" => "`dimsvc dimensions TABLE` shows where history begins",
        "OVERLOADED" => "try again later",
        "TOO_OLD" => "give --after that position, or leave it out",
        "NOT_WRITER" => "`dimsvc status` names the writer: ask it with --server",
        _ => match code {
            Code::DeadlineExceeded | Code::Cancelled => "wait longer with --timeout",
            Code::Unimplemented => "this service is of a version that cannot do it",
            Code::Unavailable => "see whether dimsvc runs",
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    fn refused(code: Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Failure {
        let metadata: HashMap<_, _> =
            metadata.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
        let details = ErrorDetails::with_error_info(reason, "tidemark", metadata);
        Status::with_error_details(code, message, details).into()
    }

    #[test]
    fn a_refusal_is_one_line_with_reason_metadata_and_cure() {
        let metadata = [("wanted", "1/000001:500"), ("applied", "1/000001:10"), ("applied_packed", "45")];
        let failure =
            refused(Code::Unavailable, "NOT_APPLIED_YET", "1/000001:500 is not\napplied yet", &metadata);
        assert_eq!(
            failure.to_string(),
            "NOT_APPLIED_YET: 1/000001:500 is not applied yet (applied=1/000001:10); \
             wait longer with --timeout; `dimsvc status` shows the lag"
        );
        assert_eq!(failure.exit_code(), 69);
    }

    #[test]
    fn a_status_without_details_still_says_what_to_do() {
        let failure = Failure::from(Status::unimplemented("no"));
        assert_eq!(failure.to_string(), "Unimplemented: no; this service is of a version that cannot do it");
        assert_eq!(failure.exit_code(), 70);
    }

    #[test]
    fn the_exit_code_says_whether_to_try_again() {
        let cases = [
            (refused(Code::NotFound, "UNKNOWN_TABLE", "x", &[]), 2),
            (refused(Code::OutOfRange, "TOO_OLD", "x", &[]), 2),
            (refused(Code::ResourceExhausted, "OVERLOADED", "x", &[]), 69),
            (Failure::Usage("x".into()), 2),
            (Failure::Unreachable { server: "s".into(), reason: "r".into() }, 69),
        ];
        for (failure, expect) in cases {
            assert_eq!(failure.exit_code(), expect, "{failure}");
        }
    }
}
