//! Refusals as `application/problem+json` (RFC 9457).

use crate::sink::clickhouse::ClickhouseError;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A database or table that is not there: dws has not made it yet.
const NOT_MADE_YET_CODES: [u32; 2] = [60, 81];

/// How long a caller is asked to wait while ClickHouse does not answer.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request has no answer, in words for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, detail: detail.into() }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail: detail.into() }
    }

    /// What a failed query means to the caller.
    pub(super) fn of_query(error: &ClickhouseError, rows_max: usize) -> Self {
        let (status, detail) = match error {
            ClickhouseError::TooManyRows => (
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the answer has more than {rows_max} rows (ads.rows_max): ask for less"),
            ),
            ClickhouseError::Refused { code: Some(code), message } if NOT_MADE_YET_CODES.contains(code) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("a table is not there yet: {message}"))
            }
            error if error.is_retryable() => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            error => (StatusCode::INTERNAL_SERVER_ERROR, format!("the indicator's SQL fails: {error}")),
        };
        Self { status, detail }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
