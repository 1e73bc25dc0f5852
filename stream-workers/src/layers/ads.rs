//! The ADS layer: indicators over HTTP, computed on demand by SQL over the dws
//! views.
//!
//! ```text
//! GET /indicators/NAME?… ─► binding ────────► answers ──────────► ClickHouse
//!                           parameters into   cached for a moment,
//!                           the SQL, typed    computed once for all callers
//! ```
//!
//! `problem` is every refusal as RFC 9457 JSON. Nothing is stored here.

mod answers;
mod binding;
mod problem;

use crate::{
    calendar,
    metrics::{Blocked, Layer, LayerMetrics, Metrics},
    sink::clickhouse::Clickhouse,
    warehouse::{
        Warehouse, hint,
        plan::{Indicator, ParameterKind},
    },
};
use answers::Answers;
use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderValue, header},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use problem::Problem;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often the layer sees for itself whether ClickHouse answers.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Serves the warehouse's indicators at `ads.listen` until `shutdown`.
///
/// # Errors
/// When the address is malformed or taken.
pub async fn run(
    warehouse: Arc<Warehouse>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = &warehouse.config.ads.listen;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("bind ads.listen = \"{address}\""))?;
    serve(listener, warehouse, metrics, shutdown).await
}

/// As [`run`], on a listener that is bound already.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    warehouse: Arc<Warehouse>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let layer = metrics.layer(Layer::Ads);
    let clickhouse = Clickhouse::new(&warehouse.config.clickhouse);
    let answers = Answers::new(clickhouse.clone(), &warehouse.config.ads);
    let indicators = Arc::new(Indicators { warehouse, answers, metrics: layer.clone() });
    let served =
        axum::serve(listener, router(indicators)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    layer.started();
    tokio::select! {
        served = served.into_future() => served.context("serve indicators"),
        () = watch(&clickhouse, &layer) => Ok(()),
    }
}

/// What requests share.
struct Indicators {
    warehouse: Arc<Warehouse>,
    answers: Answers,
    metrics: LayerMetrics,
}

fn router(indicators: Arc<Indicators>) -> Router {
    Router::new()
        .route("/", get(list))
        .route("/indicators/{name}", get(compute))
        .fallback(async || Problem::not_found("there is nothing here; GET / lists the indicators"))
        .with_state(indicators)
}

/// Keeps `/readyz` true to ClickHouse, requests or not. Never ends.
async fn watch(clickhouse: &Clickhouse, metrics: &LayerMetrics) {
    loop {
        match clickhouse.query("SELECT 1", "TabSeparated").await {
            Ok(_) => metrics.unblocked(Blocked::Clickhouse),
            Err(error) => metrics.blocked(Blocked::Clickhouse, &error),
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}

/// All indicators, with what a caller needs to ask for them.
async fn list(State(indicators): State<Arc<Indicators>>) -> Json<Value> {
    let describe = |indicator: &Indicator| {
        let parameters = indicator.parameters.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "type": kind_name(parameter.kind),
                "form": binding::form_of(parameter.kind),
                "default": parameter.default,
            })
        });
        json!({
            "name": indicator.name,
            "description": indicator.description,
            "url": format!("/indicators/{}", indicator.name),
            "parameters": parameters.collect::<Vec<_>>(),
        })
    };
    Json(json!({ "indicators": indicators.warehouse.ads.iter().map(describe).collect::<Vec<_>>() }))
}

const fn kind_name(kind: ParameterKind) -> &'static str {
    match kind {
        ParameterKind::Date => "date",
        ParameterKind::Integer => "integer",
        ParameterKind::Text => "text",
    }
}

async fn compute(
    State(indicators): State<Arc<Indicators>>,
    Path(name): Path<String>,
    given: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    indicators.metrics.rows_in.inc();
    let timer = indicators.metrics.batch_seconds.start_timer();
    let Query(given) = given.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let known = &indicators.warehouse.ads;
    let indicator = known.iter().find(|indicator| indicator.name == name).ok_or_else(|| {
        let nearest = hint(&name, known.iter().map(|indicator| indicator.name.as_str()));
        Problem::not_found(format!("there is no indicator `{name}`{nearest}"))
    })?;
    let bound = binding::bind(indicator, &given, today()).map_err(Problem::bad_request)?;
    let answer = indicators.answers.get(&indicator.name, bound).await?;
    indicators.metrics.rows_out.inc();
    timer.observe_duration();
    Ok(json_response(answer))
}

fn json_response(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// The day in UTC.
fn today() -> i64 {
    now().div_euclid(calendar::DAY_SECONDS)
}
