//! The tonic server: the API, health, reflection, limits.

use super::{
    describe,
    lookup::Lookups,
    operators::{Operated, Operators},
    status::ServeError,
    threads::serve_on_threads,
    watch::Watch,
};
use crate::live::Live;
use futures_util::{Stream, StreamExt as _};
use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};
use tidemark_proto::dim::{
    FILE_DESCRIPTOR_SET,
    v1::{
        DescribeRequest, DescribeResponse, ListDimensionsRequest, ListDimensionsResponse, LookupRequest,
        LookupResponse, StatusRequest, StatusResponse, WatchRequest, WatchResponse,
        admin_service_server::AdminServiceServer,
        dimension_service_server::{DimensionService, DimensionServiceServer},
    },
};
use tokio::{net::TcpListener, sync::Semaphore, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// Lookups of one stream at work at once.
const STREAM_IN_FLIGHT_MAX: usize = 64;
/// How often health is brought up to date.
const HEALTH_EVERY: Duration = Duration::from_millis(50);
/// HTTP/2 windows: a batch response is some hundred KiB.
const WINDOW_BYTES: u32 = 4 << 20;
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The service, as tonic calls it.
#[derive(Clone, Debug)]
pub(super) struct Served {
    lookups: Arc<Lookups>,
    /// A permit for each watch.
    watchers: Arc<Semaphore>,
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;
type LookupStream = Pin<Box<dyn Stream<Item = Result<LookupResponse, Status>> + Send>>;

impl Served {
    fn new(lookups: &Arc<Lookups>) -> Self {
        let watchers = lookups.limits.watchers_max.min(Semaphore::MAX_PERMITS);
        Self { lookups: Arc::clone(lookups), watchers: Arc::new(Semaphore::new(watchers)) }
    }
}

#[tonic::async_trait]
impl DimensionService for Served {
    type LookupStreamStream = LookupStream;
    type WatchStream = WatchStream;

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let timeout = grpc_timeout(request.metadata());
        Ok(Response::new(self.lookups.lookup(request.into_inner(), timeout).await?))
    }

    async fn lookup_stream(
        &self,
        request: Request<Streaming<LookupRequest>>,
    ) -> Result<Response<Self::LookupStreamStream>, Status> {
        let lookups = Arc::clone(&self.lookups);
        let stop = lookups.stop.clone();
        let requests = request.into_inner().take_until(stop.cancelled_owned());
        let answers = requests.map(move |request| {
            let lookups = Arc::clone(&lookups);
            async move {
                let request = request?;
                let id = request.id;
                let failed = |error: ServeError| LookupResponse {
                    id,
                    error: Some(error.on_stream()),
                    ..Default::default()
                };
                Ok(lookups.lookup(request, None).await.unwrap_or_else(failed))
            }
        });
        Ok(Response::new(Box::pin(answers.buffer_unordered(STREAM_IN_FLIGHT_MAX))))
    }

    async fn list_dimensions(
        &self,
        _: Request<ListDimensionsRequest>,
    ) -> Result<Response<ListDimensionsResponse>, Status> {
        Ok(Response::new(describe::list(&self.lookups.live)))
    }

    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(describe::describe(&self.lookups.live, &request.into_inner().table)?))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(describe::status(&self.lookups)))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let permit = Arc::clone(&self.watchers).try_acquire_owned();
        let permit = permit.map_err(|_| {
            let max = self.lookups.limits.watchers_max;
            ServeError::Overloaded(format!("{max} watchers, as many as dimsvc.limits.watchers_max allows"))
        })?;
        let watch = Watch::open(&self.lookups, request.into_inner(), permit).await?;
        Ok(Response::new(Box::pin(watch.messages())))
    }
}

/// The caller's own deadline, from the `grpc-timeout` header: up to eight
/// digits and a unit.
pub(super) fn grpc_timeout(metadata: &tonic::metadata::MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Serves on a bound listener until `stop`, then answers what is at work and
/// returns.
///
/// # Errors
/// When the server cannot be set up or its listener fails.
pub async fn serve(
    listener: TcpListener,
    (lookups, operators): (Lookups, Operators),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let limits = lookups.limits.clone();
    let lookups = Arc::new(lookups);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_not_serving::<DimensionServiceServer<Served>>().await;
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let api = DimensionServiceServer::new(Served::new(&lookups))
        .max_decoding_message_size(limits.message_bytes_max)
        .max_encoding_message_size(limits.message_bytes_max);
    let admin = AdminServiceServer::new(Operated { lookups: Arc::clone(&lookups), operators })
        .max_decoding_message_size(limits.message_bytes_max)
        .max_encoding_message_size(limits.message_bytes_max);
    let router = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        // HTTP/2's own limit: what is more waits at the caller, and a lookup
        // passes no semaphore.
        .max_concurrent_streams(u32::try_from(limits.lookups_in_flight_max).unwrap_or(u32::MAX))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(api)
        .add_service(admin);
    let server = serve_on_threads(listener, &stop, |connections| {
        let serving =
            router.clone().serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        async move { Ok(serving.await?) }
    });
    let report = report_health(health, Arc::clone(&lookups.live), stop.clone());
    let (served, ()) = tokio::join!(server, report);
    served
}

/// Keeps health true: SERVING only when every dimension is loaded and the
/// binlog is followed.
async fn report_health(
    health: tonic_health::server::HealthReporter,
    live: Arc<Live>,
    stop: CancellationToken,
) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let mut tick = tokio::time::interval(HEALTH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_serving = None;
    loop {
        let stopping = stop.is_cancelled();
        let serving = !stopping && live.is_serving();
        if was_serving.replace(serving) != Some(serving) {
            let status = if serving { Serving } else { NotServing };
            health.set_service_status("", status).await;
            health.set_service_status("tidemark.dim.v1.DimensionService", status).await;
            tracing::info!(serving, applied = %live.applied.get(), "health changed");
        }
        if stopping {
            return;
        }
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Binds a listener; the error names the setting.
///
/// # Errors
/// When the address is malformed or in use.
pub async fn bind(setting: &str, address: &str) -> anyhow::Result<TcpListener> {
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| anyhow::anyhow!("{setting} = \"{address}\" is not an address as 127.0.0.1:7400"))?;
    TcpListener::bind(parsed)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {setting} = \"{address}\": {error}"))
}
