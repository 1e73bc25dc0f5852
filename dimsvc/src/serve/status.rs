//! Errors of the API, and the one place where they become gRPC statuses.

use super::read::ReadError;
use crate::{
    change::repair::RepairError, live::LiveDimension, load::LoadError, registry::KeyError, ring::TooOld,
    state::StateError, store::StoreError,
};
use std::{collections::HashMap, time::Duration};
use tidemark_proto::{Position, PositionError, dim::v1::LookupError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

const DOMAIN: &str = "tidemark";

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("position {wanted} is not applied yet: applied is {applied}{}", why(.feed_error))]
    NotApplied { wanted: String, applied: Position, feed_error: Option<String> },
    #[error("dimension {0} is still being loaded; its progress is in Status")]
    Loading(String),
    #[error("dimension {dimension} is not known after {at}: {why}")]
    Lost { dimension: String, at: Position, why: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the lookup was not answered before its deadline")]
    Late,
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error("there is no dimension `{0}`; ListDimensions names them")]
    UnknownTable(String),
    #[error("bad request: {message}")]
    Invalid { reason: &'static str, field: String, message: String },
    #[error("{got} keys in one lookup, at most {max}; split it")]
    TooManyKeys { got: usize, max: usize },
    #[error("position cannot be placed: {0}")]
    Unresolved(String),
    #[error(
        "key {index} of dimension {dimension}: history begins at {begins}, and the lookup refuses older positions"
    )]
    BeforeHistory { dimension: String, index: usize, begins: Position },
    #[error("{0}: load anew, then watch from there")]
    TooOld(#[from] TooOld),
    #[error("{0}")]
    Overloaded(String),
    #[error("how far the history of dimension {0} reaches was not learned lately: the store is not reached")]
    FloorUnknown(String),
    #[error("nothing was dropped: the shared tier is not reached: {0}")]
    SharedTier(String),
    #[error(
        "dimension {table} last had all that its source has {age:.1} s ago, more than its `max_staleness_seconds`"
    )]
    Stale { table: String, age: f64 },
}

fn why(feed_error: &Option<String>) -> String {
    feed_error.as_ref().map_or_else(String::new, |error| format!("; the binlog is not followed: {error}"))
}

impl ServeError {
    /// A dimension is asked for what came after it was lost.
    pub(super) fn lost(live: &LiveDimension, at: Position) -> Self {
        let why = live.loss().map(|loss| loss.describe()).unwrap_or_default();
        Self::Lost { dimension: live.dimension.name.to_string(), at, why }
    }

    /// A key that is none of its table's.
    pub(super) fn key(table: &str, index: usize, error: &KeyError) -> Self {
        let field = format!("tables[{table}].keys[{index}]");
        Self::Invalid { reason: "BAD_KEY", field, message: error.to_string() }
    }

    /// A position that cannot be one.
    pub(super) fn position(error: &PositionError) -> Self {
        Self::Invalid { reason: "BAD_POSITION", field: "read_point".into(), message: error.to_string() }
    }

    /// A request of the wrong form.
    pub(super) fn request(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { reason: "BAD_REQUEST", field: field.to_owned(), message: message.into() }
    }

    /// The code and the stable reason, for every error of the API.
    fn code(&self) -> (Code, &'static str) {
        match self {
            Self::NotApplied { feed_error: None, .. } => (Code::Unavailable, "NOT_APPLIED_YET"),
            Self::NotApplied { .. } => (Code::Unavailable, "FEED_LOST"),
            Self::Loading(_) | Self::Lost { .. } => (Code::Unavailable, "DIMENSION_LOADING"),
            Self::Read(error) => read_code(error),
            Self::Late => (Code::DeadlineExceeded, "LATE"),
            Self::Repair(error) => repair_code(error),
            Self::UnknownTable(_) => (Code::NotFound, "UNKNOWN_TABLE"),
            Self::Invalid { reason, .. } => (Code::InvalidArgument, reason),
            Self::TooManyKeys { .. } => (Code::ResourceExhausted, "TOO_MANY_KEYS"),
            Self::Unresolved(_) => (Code::FailedPrecondition, "POSITION_UNRESOLVED"),
            Self::BeforeHistory { .. } => (Code::OutOfRange, "BEFORE_HISTORY"),
            Self::TooOld(_) => (Code::OutOfRange, "TOO_OLD"),
            Self::Stale { .. } => (Code::Unavailable, "STALE"),
            Self::FloorUnknown(_) => (Code::Unavailable, "STORE_FAILED"),
            Self::SharedTier(_) => (Code::Unavailable, "SHARED_TIER"),
            Self::Overloaded(_) => (Code::ResourceExhausted, "OVERLOADED"),
        }
    }

    /// The name of the code, for metrics.
    pub(super) fn code_name(&self) -> &'static str {
        match self.code().0 {
            Code::Unavailable => "unavailable",
            Code::ResourceExhausted => "resource_exhausted",
            Code::NotFound => "not_found",
            Code::InvalidArgument => "invalid_argument",
            Code::FailedPrecondition => "failed_precondition",
            Code::OutOfRange => "out_of_range",
            Code::DeadlineExceeded => "deadline_exceeded",
            _ => "internal",
        }
    }

    /// The error of one lookup on a stream.
    pub(super) fn on_stream(&self) -> LookupError {
        let (code, reason) = self.code();
        LookupError { code: code as i32, reason: reason.to_owned(), message: self.to_string() }
    }
}

fn read_code(error: &ReadError) -> (Code, &'static str) {
    match error {
        ReadError::Store(error) => store_code(error),
        ReadError::Load(LoadError::Store(error) | LoadError::Both { store: error, .. }) => store_code(error),
        ReadError::Load(LoadError::Source(error)) if error.is_overload() => {
            (Code::ResourceExhausted, "OVERLOADED")
        }
        ReadError::Load(LoadError::Source(_)) => (Code::Unavailable, "SOURCE_FAILED"),
        ReadError::Load(LoadError::GivenUp) | ReadError::Moved => (Code::Unavailable, "MOVED"),
        ReadError::TooManyRows { .. } => (Code::ResourceExhausted, "TOO_MANY_ROWS"),
        ReadError::NoHistory { .. } => (Code::FailedPrecondition, "NO_HISTORY"),
    }
}

fn repair_code(error: &RepairError) -> (Code, &'static str) {
    match error {
        RepairError::NotWriter | RepairError::State(StateError::Moved) => {
            (Code::FailedPrecondition, "NOT_WRITER")
        }
        RepairError::Refused(_) => (Code::FailedPrecondition, "REPAIR_REFUSED"),
        RepairError::Behind(_) => (Code::Unavailable, "NOT_APPLIED_YET"),
        RepairError::Store(error) | RepairError::State(StateError::Store(error)) => store_code(error),
        RepairError::State(_) => (Code::Unavailable, "STORE_FAILED"),
        RepairError::Read(_) | RepairError::Position(_) => (Code::Unavailable, "SOURCE_FAILED"),
    }
}

fn store_code(error: &StoreError) -> (Code, &'static str) {
    match error {
        StoreError::Overloaded(_) => (Code::ResourceExhausted, "STORE_OVERLOADED"),
        _ => (Code::Unavailable, "STORE_FAILED"),
    }
}

impl From<ServeError> for Status {
    fn from(error: ServeError) -> Self {
        let (code, reason) = error.code();
        let mut metadata = HashMap::new();
        let mut details = ErrorDetails::new();
        match &error {
            ServeError::NotApplied { wanted, applied, feed_error } => {
                metadata.insert("wanted".to_owned(), wanted.clone());
                metadata.insert("applied".to_owned(), applied.to_string());
                metadata.insert("applied_packed".to_owned(), applied.packed().to_string());
                if let Some(error) = feed_error {
                    metadata.insert("feed_error".to_owned(), error.clone());
                }
            }
            ServeError::TooOld(TooOld { oldest }) => {
                metadata.insert("oldest".to_owned(), oldest.to_string());
                metadata.insert("oldest_packed".to_owned(), oldest.packed().to_string());
            }
            ServeError::Invalid { field, message, .. } => {
                details.add_bad_request_violation(field.clone(), message.clone());
            }
            _ => {}
        }
        details.set_error_info(reason, DOMAIN, metadata);
        // No retry mends a call that asks for too much.
        let asks_too_much = matches!(reason, "TOO_MANY_KEYS" | "TOO_MANY_ROWS");
        if matches!(code, Code::Unavailable | Code::ResourceExhausted) && !asks_too_much {
            details.set_retry_info(Some(Duration::from_millis(200)));
        }
        Self::with_error_details(code, error.to_string(), details)
    }
}
