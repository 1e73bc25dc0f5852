//! What an operator asks a running process: `/metrics`, `/healthz`, `/readyz`.

use crate::metrics::Metrics;
use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Binds the address, so that a mistake in it is known before any work begins.
///
/// # Errors
/// When the address is malformed or taken.
pub(crate) async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("bind workers.metrics_listen = \"{address}\""))
}

/// Serves until the process stops.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let served = axum::serve(listener, router(metrics)).with_graceful_shutdown(shutdown.cancelled_owned());
    served.await.context("serve metrics")
}

fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(encode))
        // The process answers: that is all that restarting it could mend.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(metrics)
}

async fn encode(State(metrics): State<Metrics>) -> impl IntoResponse {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(metrics): State<Metrics>) -> impl IntoResponse {
    match metrics.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reasons}\n")),
    }
}
