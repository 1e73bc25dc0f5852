//! A dimension service for tests: a real gRPC server in this process that
//! answers by a small model, or misbehaves as it is told.

use super::Lookup;
use crate::metrics::{Layer, Metrics};
use parking_lot::Mutex;
use std::{pin::Pin, sync::Arc};
use tidemark_proto::{
    config::Config,
    dim::v1::{
        self,
        dimension_service_server::{DimensionService, DimensionServiceServer},
    },
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Every key has had two versions, written at these positions.
const VERSIONS: [u64; 2] = [10, 20];
pub(crate) const APPLIED: u64 = 100;

/// How the service misbehaves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// The first calls fail so.
    pub(crate) failures: usize,
    pub(crate) failure: Option<Code>,
    pub(crate) keys_max: Option<usize>,
    /// Whether an error names the bad key.
    pub(crate) names_bad_key: bool,
}

/// A dimension service that keeps the requests it got.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) behaviour: Behaviour,
    pub(crate) requests: Arc<Mutex<Vec<v1::LookupRequest>>>,
    pub(crate) server_uuid: &'static str,
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DimensionService for Fake {
    type LookupStreamStream = Stream<v1::LookupResponse>;
    type WatchStream = Stream<v1::WatchResponse>;

    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        self.requests.lock().push(request.clone());
        if let Some(code) =
            self.behaviour.failure.filter(|_| self.requests.lock().len() <= self.behaviour.failures)
        {
            return Err(Status::new(code, "as the test says"));
        }
        let keys: usize = request.tables.iter().map(|table| keys_of(table).len()).sum();
        if self.behaviour.keys_max.is_some_and(|max| keys > max) {
            let details = ErrorDetails::with_error_info("TOO_MANY_KEYS", "tidemark", []);
            return Err(Status::with_error_details(Code::ResourceExhausted, "too many keys", details));
        }
        let tables = request.tables.iter().map(|table| self.answer(table)).collect::<Result<_, _>>()?;
        Ok(Response::new(v1::LookupResponse { id: 0, applied: APPLIED, tables, error: None }))
    }

    async fn lookup_stream(
        &self,
        _: Request<tonic::Streaming<v1::LookupRequest>>,
    ) -> Result<Response<Self::LookupStreamStream>, Status> {
        Err(Status::unimplemented("not asked by this client"))
    }

    async fn list_dimensions(
        &self,
        _: Request<v1::ListDimensionsRequest>,
    ) -> Result<Response<v1::ListDimensionsResponse>, Status> {
        Err(Status::unimplemented("not asked by this client"))
    }

    async fn describe(
        &self,
        _: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        Err(Status::unimplemented("not asked by this client"))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let server_uuid = self.server_uuid.to_owned();
        Ok(Response::new(v1::StatusResponse { epoch: 3, server_uuid, ..v1::StatusResponse::default() }))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not asked by this client"))
    }
}

impl Fake {
    fn answer(&self, table: &v1::TableLookup) -> Result<v1::TableAnswers, Status> {
        let mut answers = v1::TableAnswers::default();
        let (mut rows, mut flags) = (Vec::new(), Vec::new());
        let latest = std::iter::repeat(APPLIED);
        let keys = keys_of(table);
        let positions = table.positions.iter().copied().chain(latest);
        for (index, (key, position)) in keys.iter().zip(positions).enumerate() {
            if key.contains("bad") {
                return Err(self.bad_key(&table.table, index));
            }
            let version = VERSIONS.iter().rev().find(|version| **version < position).copied();
            let found = version.filter(|_| !key.contains("absent"));
            if let Some(version) = found {
                rows.extend_from_slice(format!("{{\"key\":{key},\"version\":{version}}}").as_bytes());
            }
            flags.push(u8::from(found.is_some()));
            answers.row_ends.push(rows.len() as u32);
            answers.versions.push(version.unwrap_or(0));
            answers.froms.push(version.unwrap_or(0));
            answers.tos.push(VERSIONS.iter().find(|later| **later >= position).copied().unwrap_or(0));
        }
        answers.rows = rows.into();
        answers.tiers = flags.clone().into();
        answers.flags = flags.into();
        Ok(answers)
    }

    fn bad_key(&self, table: &str, index: usize) -> Status {
        let mut details = ErrorDetails::with_error_info("BAD_KEY", "tidemark", []);
        if self.behaviour.names_bad_key {
            details.add_bad_request_violation(format!("tables[{table}].keys[{index}]"), "not a number");
        }
        Status::with_error_details(Code::InvalidArgument, "not a number", details)
    }

    pub(crate) fn calls(&self) -> usize {
        self.requests.lock().len()
    }
}

pub(crate) fn keys_of(table: &v1::TableLookup) -> Vec<String> {
    let block = table.keys.clone().unwrap_or_default();
    let mut start = 0;
    let key = |end: &u32| {
        let text = &block.text[start..*end as usize];
        start = *end as usize;
        String::from_utf8(text.to_vec()).unwrap()
    };
    block.ends.iter().map(key).collect()
}

/// A client of a fake; the set owns the server.
pub(crate) struct Fixture {
    pub(crate) fake: Fake,
    pub(crate) lookup: Lookup,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    _server: JoinSet<()>,
}

impl Fixture {
    pub(crate) async fn start(fake: Fake, keys_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::default();
        config.workers.dimsvc = format!("http://{}", listener.local_addr().unwrap());
        config.dimsvc.limits.keys_per_lookup_max = keys_max;
        let service = DimensionServiceServer::new(fake.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let router = tonic::transport::Server::builder().add_service(service);
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let metrics = Metrics::try_new().unwrap();
        let layer = metrics.layer(Layer::Dwd);
        layer.started();
        let stop = CancellationToken::new();
        let lookup = Lookup::try_new(&config, &layer, stop.clone()).unwrap();
        Self { fake, lookup, metrics, stop, _server: server }
    }

    pub(crate) async fn with(behaviour: Behaviour) -> Self {
        Self::start(Fake { behaviour, ..Fake::default() }, 100).await
    }
}
