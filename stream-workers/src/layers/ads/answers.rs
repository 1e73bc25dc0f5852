//! Computed answers, kept for a moment.
//!
//! Callers who ask the same at the same time share one query, and those of the
//! next `cache_ms` its answer. A query that fails is not remembered.

use super::{binding::Bound, now, problem::Problem};
use crate::{
    calendar,
    sink::clickhouse::{Clickhouse, ClickhouseError},
};
use bytes::Bytes;
use moka::future::Cache;
use serde::de::IgnoredAny;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tidemark_proto::config::Ads;

/// Bound of all answers that are kept, keys included.
const CACHE_BYTES_MAX: u64 = 64 << 20;

/// The indicators' answers.
pub(super) struct Answers {
    clickhouse: Clickhouse,
    /// By the SQL with its literals; `None` when nothing is to be kept.
    cache: Option<Cache<String, Bytes>>,
    rows_max: usize,
}

impl Answers {
    pub(super) fn new(clickhouse: Clickhouse, config: &Ads) -> Self {
        let weigh =
            |sql: &String, answer: &Bytes| u32::try_from(sql.len() + answer.len()).unwrap_or(u32::MAX);
        let cache = (config.cache_ms > 0).then(|| {
            Cache::builder()
                .max_capacity(CACHE_BYTES_MAX)
                .weigher(weigh)
                .time_to_live(Duration::from_millis(config.cache_ms))
                .build()
        });
        Self { clickhouse, cache, rows_max: config.rows_max }
    }

    /// The body of an indicator's answer.
    pub(super) async fn get(&self, indicator: &str, bound: Bound) -> Result<Bytes, Problem> {
        let Some(cache) = &self.cache else { return self.compute(indicator, &bound).await };
        let key = bound.sql.clone();
        let computed = cache.try_get_with(key, self.compute(indicator, &bound)).await;
        computed.map_err(|problem: Arc<Problem>| Problem::clone(&problem))
    }

    async fn compute(&self, indicator: &str, bound: &Bound) -> Result<Bytes, Problem> {
        let lines = self.clickhouse.query_at_most(&bound.sql, "JSONEachRow", self.rows_max).await;
        let answer = lines.and_then(|lines| body(indicator, bound, &lines));
        answer.map_err(|error| {
            tracing::warn!(%error, indicator, "indicator not computed");
            Problem::of_query(&error, self.rows_max)
        })
    }
}

/// The rows are ClickHouse's own text, so that decimals keep every digit.
fn body(indicator: &str, bound: &Bound, lines: &[u8]) -> Result<Bytes, ClickhouseError> {
    let mut body = Vec::with_capacity(lines.len() + 256);
    let parameters = json!(bound.parameters);
    body.extend_from_slice(
        format!("{{\"indicator\":{},\"parameters\":{parameters}", json!(indicator)).as_bytes(),
    );
    body.extend_from_slice(b",\"rows\":[");
    let rows = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (index, row) in rows.enumerate() {
        serde_json::from_slice::<IgnoredAny>(row)
            .map_err(|error| ClickhouseError::Answer(error.to_string()))?;
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    let computed_at = calendar::format_timestamp(now());
    body.extend_from_slice(format!("],\"computed_at\":\"{computed_at}\"}}").as_bytes());
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_digits() {
        let parameters = [(String::from("limit"), json!(2))].into_iter().collect();
        let bound = Bound { sql: String::new(), parameters };
        let lines = b"{\"amount\":12345678901234567890.10,\"n\":null}\n{\"amount\":0.00,\"n\":7}\n";

        let body = body("top", &bound, lines).unwrap();

        let text = std::str::from_utf8(&body).unwrap();
        let expect = r#"{"indicator":"top","parameters":{"limit":2},"rows":[{"amount":12345678901234567890.10,"n":null},{"amount":0.00,"n":7}],"computed_at":""#;
        assert!(text.starts_with(expect), "{text}");
        serde_json::from_str::<serde_json::Value>(text).unwrap();
    }

    #[test]
    fn an_error_in_the_rows_is_no_answer() {
        let bound = Bound { sql: String::new(), parameters: serde_json::Map::new() };
        let lines = b"{\"a\":1}\nCode: 241, e.displayText() = DB::Exception: Memory limit\n";
        assert!(matches!(body("top", &bound, lines), Err(ClickhouseError::Answer(_))));
    }
}
