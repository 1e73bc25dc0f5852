//! Plain HTTP beside gRPC: metrics and probes.

use crate::{live::Live, metrics::Metrics};
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Shared {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
}

/// Serves `/metrics`, `/healthz` (the process runs) and `/readyz` (lookups are
/// answered, or why not) until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Shared { live, metrics });
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn render(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.metrics.render(&shared.live) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    }
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    let live = &shared.live;
    if live.is_serving() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let loading: Vec<_> =
        live.dimensions().filter(|d| !d.has_history()).map(|d| d.dimension.name.to_string()).collect();
    let mut why = String::new();
    if !loading.is_empty() {
        why.push_str(&format!("loading: {}\n", loading.join(", ")));
    }
    if !live.feed.is_following() {
        why.push_str(&format!("not following: {}\n", live.feed.error().unwrap_or_else(|| "starting".into())));
    }
    (StatusCode::SERVICE_UNAVAILABLE, why)
}
