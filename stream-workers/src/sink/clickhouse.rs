//! ClickHouse over HTTP: statements, queries and inserts of encoded rows.
//!
//! Speaks only what servers since 18.16 understand (plain RowBinary, no query
//! parameters), so one client serves them all. Every call has a deadline, and
//! every error says whether the same call may succeed later. What the rows
//! mean is the layers' business.

pub mod rowbinary;
pub mod sql;

use bytes::{Bytes, BytesMut};
use clickhouse::{Client, Compression, error::Error as ClientError};
use std::{future::Future, time::Duration};
use tidemark_proto::config;

/// The most that one answer may hold. Loads and indicators are bounded in rows
/// before; this only keeps a mistake there from filling the memory.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How much of an insert is sent at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A server's codes for statements that fail however often they are tried:
/// they do not fit the schema, the grammar or the user's rights.
const FATAL_CODES: &[u32] = &[
    6, 7, 8, 10, 15, 16, 20, 26, 27, 33, 34, 35, 36, 38, 41, 42, 43, 44, 46, 47, 48, 50, 51, 53, 57, 59, 60,
    62, 63, 69, 70, 72, 73, 80, 81, 115, 117, 128, 131, 153, 164, 168, 179, 184, 192, 193, 194, 195, 215,
    291, 349, 395, 407, 497, 516,
];

/// Limits of rows read or returned: the caller asked for too much.
const TOO_MANY_ROWS_CODES: &[u32] = &[158, 396];

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClickhouseError {
    /// The server read the call and said no.
    #[error("ClickHouse refused: {message}")]
    Refused { code: Option<u32>, message: String },
    #[error("ClickHouse would return more rows than the limit")]
    TooManyRows,
    #[error("ClickHouse did not answer within {0:?}")]
    Deadline(Duration),
    #[error("ClickHouse is not reachable at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// The answer is not of the form that was asked for.
    #[error("unusable answer of ClickHouse: {0}")]
    Answer(String),
}

impl ClickhouseError {
    /// Whether the same call may succeed later. A code that is not known to be
    /// final counts as passing (memory, merges behind, shutting down): waiting
    /// loses nothing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { code: Some(code), .. } => !FATAL_CODES.contains(code),
            Self::Refused { code: None, .. } | Self::Deadline(_) | Self::Unreachable { .. } => true,
            Self::TooManyRows | Self::Answer(_) => false,
        }
    }
}

/// A client of one database. A clone shares its connections.
#[derive(Clone)]
pub struct Clickhouse {
    client: Client,
    url: String,
    database: String,
    timeout: Duration,
}

impl Clickhouse {
    /// Prepares a client; it connects on the first call.
    pub fn new(config: &config::Clickhouse) -> Self {
        let timeout = Duration::from_millis(config.timeout_ms);
        let client = Client::default()
            .with_url(&config.url)
            .with_user(&config.user)
            .with_password(&config.password)
            .with_compression(Compression::None)
            .with_validation(false)
            // The server gives up when we do, so that retries do not pile up.
            .with_setting("max_execution_time", timeout.as_secs().max(1).to_string());
        Self { client, url: config.url.clone(), database: config.database.clone(), timeout }
    }

    /// The database that unqualified names of [`Clickhouse::query`] are in.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Runs a statement without an answer (DDL). Names must be qualified: the
    /// database may not exist yet.
    ///
    /// # Errors
    /// When the server refuses it or does not answer in time.
    pub async fn execute(&self, sql: &str) -> Result<(), ClickhouseError> {
        self.within_deadline(self.client.query_raw(sql).execute()).await
    }

    /// Runs a query and returns its answer in a format (`RowBinary`,
    /// `JSONEachRow`, `TabSeparated`).
    ///
    /// # Errors
    /// As [`Clickhouse::execute`]; an answer is whole or an error.
    pub async fn query(&self, sql: &str, format: &str) -> Result<Bytes, ClickhouseError> {
        self.read(self.client.clone(), sql, format).await
    }

    /// As [`Clickhouse::query`], but an error when there are more rows.
    ///
    /// # Errors
    /// [`ClickhouseError::TooManyRows`], else as [`Clickhouse::query`].
    pub async fn query_at_most(
        &self,
        sql: &str,
        format: &str,
        rows_max: usize,
    ) -> Result<Bytes, ClickhouseError> {
        let client = self
            .client
            .clone()
            .with_setting("max_result_rows", rows_max.to_string())
            .with_setting("result_overflow_mode", "throw");
        self.read(client, sql, format).await
    }

    /// Inserts rows that are already encoded, and returns when they are there.
    /// `target` is a table with its columns: ``db.t (`a`, `b`)``.
    ///
    /// # Errors
    /// As [`Clickhouse::execute`]. After an error the rows may be there.
    pub async fn insert(&self, target: &str, rows: Bytes) -> Result<(), ClickhouseError> {
        self.within_deadline(async {
            let mut insert =
                self.client.insert_formatted_with(format!("INSERT INTO {target} FORMAT RowBinary"));
            let mut rest = rows;
            while !rest.is_empty() {
                insert.send(rest.split_to(rest.len().min(CHUNK_BYTES))).await?;
            }
            insert.end().await
        })
        .await
    }

    async fn read(&self, client: Client, sql: &str, format: &str) -> Result<Bytes, ClickhouseError> {
        let query = client
            .with_database(&self.database)
            // Without it an error in mid-answer comes as text after status 200.
            .with_setting("wait_end_of_query", "1")
            // JSON numbers stay numbers.
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .query_raw(sql);
        let answer = self.within_deadline(async {
            let mut cursor = query.fetch_bytes(format)?;
            let mut answer = BytesMut::new();
            while let Some(chunk) = cursor.next().await? {
                answer.extend_from_slice(&chunk);
                if answer.len() > ANSWER_BYTES_MAX {
                    return Ok(None);
                }
            }
            Ok(Some(answer.freeze()))
        });
        answer.await?.ok_or_else(|| ClickhouseError::Answer(format!("over {ANSWER_BYTES_MAX} bytes")))
    }

    async fn within_deadline<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClickhouseError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(result) => result.map_err(|error| self.classify(&error)),
            Err(_) => Err(ClickhouseError::Deadline(self.timeout)),
        }
    }

    fn classify(&self, error: &ClientError) -> ClickhouseError {
        match error {
            ClientError::BadResponse(message) => refusal(message),
            ClientError::TimedOut => ClickhouseError::Deadline(self.timeout),
            ClientError::InvalidParams(_) | ClientError::Unsupported(_) => {
                ClickhouseError::Answer(chain(error))
            }
            _ => ClickhouseError::Unreachable { url: self.url.clone(), reason: chain(error) },
        }
    }
}

/// Reads the server's own words: `Code: 60, e.displayText() = …` of old
/// servers, `Code: 60. DB::Exception: …` of new ones.
fn refusal(message: &str) -> ClickhouseError {
    let after = message.split_once("Code: ").map(|(_, rest)| rest);
    let code = after.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    match code {
        Some(code) if TOO_MANY_ROWS_CODES.contains(&code) => ClickhouseError::TooManyRows,
        _ => ClickhouseError::Refused { code, message: message.trim().replace('\n', " ") },
    }
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_what_is_tried_again() {
        let cases = [
            (
                "Code: 60, e.displayText() = DB::Exception: Table a.b doesn't exist., e.what() = DB::Exception",
                false,
            ),
            ("Code: 62. DB::Exception: Syntax error", false),
            ("Code: 241, e.displayText() = DB::Exception: Memory limit (total) exceeded", true),
            ("Code: 252, e.displayText() = DB::Exception: Too many parts (300)", true),
            ("502 Bad Gateway", true),
        ];
        for (message, retryable) in cases {
            assert_eq!(refusal(message).is_retryable(), retryable, "{message}");
        }
    }

    #[test]
    fn a_row_limit_is_told_apart() {
        let message =
            "Code: 396, e.displayText() = DB::Exception: Limit for result exceeded, max rows: 10.00";
        assert!(matches!(refusal(message), ClickhouseError::TooManyRows));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_retryable_and_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let config = config::Clickhouse { url: url.clone(), ..config::Clickhouse::default() };

        let error = Clickhouse::new(&config).query("SELECT 1", "TabSeparated").await.unwrap_err();

        assert!(error.is_retryable());
        assert!(error.to_string().contains(&url), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_meets_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = config::Clickhouse { url, timeout_ms: 50, ..config::Clickhouse::default() };

        let error = Clickhouse::new(&config).execute("SELECT 1").await.unwrap_err();

        assert!(matches!(error, ClickhouseError::Deadline(_)), "{error}");
    }
}
