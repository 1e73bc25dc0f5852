//! One call to dimsvc, made until it is answered.

use super::LookupError;
use crate::metrics::{Blocked, LayerMetrics};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tidemark_proto::{
    config::Config,
    dim::v1::{self, dimension_service_client::DimensionServiceClient},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Beyond the deadline that the service was told, so that its own answer, which
/// says why, comes first.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// HTTP/2 windows: with the default of 64 KiB a large answer waits for a round
/// trip every few hundred rows.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// A batch's rows in one frame: dimsvc writes each to its socket by itself.
const FRAME_BYTES: u32 = 1 << 20;

/// Why a call is not simply made again.
#[derive(Debug)]
pub(super) enum Failure {
    /// A key is malformed: by its table and its index in the request's keys of
    /// that table, where the service says so.
    BadKey {
        reason: String,
        at: Option<(String, usize)>,
    },
    /// Too many keys, or too long an answer, for one call.
    TooLarge(String),
    Final(LookupError),
}

/// What to do about a status.
enum Verdict {
    Retry,
    Give(Failure),
}

/// The connections to the service.
pub(super) struct Caller {
    clients: Vec<DimensionServiceClient<Channel>>,
    next: AtomicUsize,
    timeout: Duration,
    metrics: LayerMetrics,
    shutdown: CancellationToken,
}

impl Caller {
    pub(super) fn try_new(
        config: &Config,
        metrics: &LayerMetrics,
        shutdown: CancellationToken,
    ) -> Result<Self, LookupError> {
        let address = &config.workers.dimsvc;
        let endpoint =
            Endpoint::from_shared(address.clone()).map_err(|_| LookupError::Address(address.clone()))?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let bytes_max = config.dimsvc.limits.message_bytes_max;
        let client = |_| {
            DimensionServiceClient::new(endpoint.connect_lazy())
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(bytes_max)
        };
        Ok(Self {
            clients: (0..config.dwd.connections.max(1)).map(client).collect(),
            next: AtomicUsize::new(0),
            timeout: Duration::from_millis(config.dwd.lookup_timeout_ms),
            metrics: metrics.clone(),
            shutdown,
        })
    }

    pub(super) fn connections(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn count_before_history(&self, answers: u64) {
        self.metrics.before_history.inc_by(answers);
    }

    /// A lookup, retried while a retry can help.
    pub(super) async fn lookup(&self, request: v1::LookupRequest) -> Result<v1::LookupResponse, Failure> {
        let begin = Instant::now();
        let call = |mut client: DimensionServiceClient<Channel>| {
            let request = self.request(request.clone());
            async move { client.lookup(request).await }
        };
        let response = self.until_answered(call).await;
        self.metrics.lookup_seconds.observe(begin.elapsed().as_secs_f64());
        response
    }

    /// Where the service stands, once it knows its source.
    pub(super) async fn status(&self) -> Result<v1::StatusResponse, LookupError> {
        let call = |mut client: DimensionServiceClient<Channel>| {
            let request = self.request(v1::StatusRequest {});
            async move {
                let response = client.status(request).await?;
                if response.get_ref().server_uuid.is_empty() {
                    return Err(Status::unavailable("the service has not met its source yet"));
                }
                Ok(response)
            }
        };
        self.until_answered(call).await.map_err(|failure| match failure {
            Failure::Final(error) => error,
            Failure::BadKey { reason, .. } | Failure::TooLarge(reason) => LookupError::Refused(reason),
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    async fn until_answered<T, F>(
        &self,
        call: impl Fn(DimensionServiceClient<Channel>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let deadline = self.timeout + DEADLINE_GRACE;
            let answer = tokio::select! {
                answer = tokio::time::timeout(deadline, call(self.client())) => answer,
                () = self.shutdown.cancelled() => return Err(Failure::Final(LookupError::Stopped)),
            };
            let status = match answer {
                Ok(Ok(response)) => {
                    self.metrics.unblocked(Blocked::Lookup);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if let Verdict::Give(failure) = judge(&status) {
                return Err(failure);
            }
            self.report(&status);
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = self.shutdown.cancelled() => return Err(Failure::Final(LookupError::Stopped)),
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// The next connection in turn.
    #[expect(
        clippy::indexing_slicing,
        reason = "there is at least one client, and the index is taken modulo"
    )]
    fn client(&self) -> DimensionServiceClient<Channel> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.clients[turn % self.clients.len()].clone()
    }

    fn report(&self, status: &Status) {
        let why = describe(status);
        tracing::warn!(error = %why, layer = %self.metrics.layer(), "lookup is made again");
        self.metrics.retries.inc();
        self.metrics.blocked(Blocked::Lookup, &why);
    }
}

/// Sorts statuses by what helps: waiting, another question, or nobody but an
/// operator. Unknown and internal errors come from broken connections.
fn judge(status: &Status) -> Verdict {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or("", |info| info.reason.as_str());
    match status.code() {
        Code::ResourceExhausted if reason == "TOO_MANY_KEYS" => {
            Verdict::Give(Failure::TooLarge(describe(status)))
        }
        // The transport's word for a message beyond the limit.
        Code::OutOfRange => Verdict::Give(Failure::TooLarge(describe(status))),
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::Unknown
        | Code::Internal => Verdict::Retry,
        Code::InvalidArgument if reason == "BAD_KEY" => {
            let at = details.bad_request().and_then(|bad| bad_key(&bad.field_violations.first()?.field));
            Verdict::Give(Failure::BadKey { reason: status.message().to_owned(), at })
        }
        _ => Verdict::Give(Failure::Final(LookupError::Refused(describe(status)))),
    }
}

/// The table and the index in `tables[NAME].keys[INDEX]`.
fn bad_key(field: &str) -> Option<(String, usize)> {
    let (table, index) = field.strip_prefix("tables[")?.strip_suffix(']')?.rsplit_once("].keys[")?;
    Some((table.to_owned(), index.parse().ok()?))
}

fn describe(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => format!("{}: {}", info.reason, status.message()),
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_bad_key_is_read() {
        assert_eq!(bad_key("tables[sku_info].keys[12]"), Some(("sku_info".into(), 12)));
        for field in ["", "read_point", "tables[sku_info].columns[1]", "tables[a].keys[x]"] {
            assert_eq!(bad_key(field), None, "{field}");
        }
    }
}
