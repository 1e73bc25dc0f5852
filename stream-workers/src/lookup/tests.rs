//! The client against a service of its own that answers by a small model.

use super::*;
use crate::metrics::{Layer, Metrics};
use parking_lot::Mutex;
use std::{pin::Pin, time::Duration};
use tidemark_proto::dim::v1::dimension_service_server::{DimensionService, DimensionServiceServer};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Every key has had two versions, written at these positions.
const VERSIONS: [u64; 2] = [10, 20];
const APPLIED: u64 = 100;

/// How the service misbehaves.
#[derive(Clone, Copy, Default)]
struct Behaviour {
    /// The first calls fail so.
    failures: usize,
    failure: Option<Code>,
    keys_max: Option<usize>,
    /// Whether an error names the bad key.
    names_bad_key: bool,
}

/// A dimension service that keeps the requests it got.
#[derive(Clone, Default)]
struct Fake {
    behaviour: Behaviour,
    requests: Arc<Mutex<Vec<v1::LookupRequest>>>,
    server_uuid: &'static str,
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DimensionService for Fake {
    type LookupStreamStream = Stream<v1::LookupResponse>;

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

    fn calls(&self) -> usize {
        self.requests.lock().len()
    }
}

fn keys_of(table: &v1::TableLookup) -> Vec<String> {
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
struct Fixture {
    fake: Fake,
    lookup: Lookup,
    metrics: Metrics,
    stop: CancellationToken,
    _server: JoinSet<()>,
}

impl Fixture {
    async fn start(fake: Fake, keys_max: usize) -> Self {
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

    async fn with(behaviour: Behaviour) -> Self {
        Self::start(Fake { behaviour, ..Fake::default() }, 100).await
    }

    /// Asks one table and returns what each question got.
    async fn read(&self, asks: &[(&str, u64)]) -> Result<Vec<String>, LookupError> {
        let query = query("sku_info", asks);
        let answers = self.lookup.read(vec![query], JoinRead::AsOfRow).await?;
        Ok((0..asks.len()).map(|ask| shown(answers[0].get(ask))).collect())
    }
}

fn query(table: &str, asks: &[(&str, u64)]) -> TableQuery {
    let mut query = TableQuery::new(table.into(), [String::from("version")].into());
    for (key, position) in asks {
        query.ask(key.as_bytes(), Position::from_packed(*position));
    }
    query
}

fn shown(answer: Option<&Answer>) -> String {
    match answer {
        None => "no answer".into(),
        Some(Answer::Refused(reason)) => format!("refused: {reason}"),
        Some(Answer::Row { row: None, .. }) => "absent".into(),
        Some(Answer::Row { row: Some(row), .. }) => String::from_utf8(row.to_vec()).unwrap(),
    }
}

fn row(key: &str, version: u64) -> String {
    format!("{{\"key\":{key},\"version\":{version}}}")
}

#[tokio::test]
async fn every_question_gets_its_answer_in_order() {
    let fixture = Fixture::with(Behaviour::default()).await;
    let got = fixture.read(&[("[2]", 50), ("[1]", 60), ("[\"absent\"]", 50), ("[2]", 70)]).await.unwrap();
    assert_eq!(got, [row("[2]", 20), row("[1]", 20), "absent".into(), row("[2]", 20)]);
    let requests = fixture.fake.requests.lock();
    assert_eq!(requests.len(), 1);
    assert_eq!(keys_of(&requests[0].tables[0]), ["[2]", "[1]", "[\"absent\"]"], "each key once");
    assert_eq!(requests[0].tables[0].positions, [70, 60, 50], "at the greatest of its positions");
    assert_eq!(requests[0].tables[0].columns, ["version"]);
}

#[tokio::test]
async fn a_position_outside_of_the_answer_is_asked_again_exactly() {
    let fixture = Fixture::with(Behaviour::default()).await;
    let asks = [("[1]", 50), ("[1]", 15), ("[1]", 20), ("[1]", 21), ("[1]", 10), ("[1]", 15)];
    let got = fixture.read(&asks).await.unwrap();
    let expect =
        [row("[1]", 20), row("[1]", 10), row("[1]", 10), row("[1]", 20), "absent".into(), row("[1]", 10)];
    assert_eq!(got, expect);
    let requests = fixture.fake.requests.lock();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].tables[0].positions, [15, 20, 10], "each place once");
}

#[tokio::test]
async fn an_open_answer_reaches_no_further_than_applied() {
    let response = v1::LookupResponse {
        applied: 30,
        tables: vec![v1::TableAnswers {
            row_ends: vec![0],
            froms: vec![20],
            tos: vec![0],
            flags: vec![0].into(),
            ..v1::TableAnswers::default()
        }],
        ..v1::LookupResponse::default()
    };
    let wanted = [Wanted { table: 0, key: 0, position: Position::from_packed(30) }];
    let answer = request::decode(response, &wanted).unwrap().answers.remove(0);
    assert!(answer.holds_at(Position::from_packed(30)));
    assert!(!answer.holds_at(Position::from_packed(31)));
}

#[tokio::test]
async fn tables_of_a_level_share_one_call() {
    let fixture = Fixture::with(Behaviour::default()).await;
    let queries = vec![query("a", &[("[1]", 50)]), query("b", &[]), query("c", &[("[1]", 15), ("[2]", 50)])];
    let answers = fixture.lookup.read(queries, JoinRead::AsOfRow).await.unwrap();
    assert_eq!(fixture.fake.calls(), 1);
    assert_eq!(shown(answers[0].get(0)), row("[1]", 20));
    assert_eq!(answers[1].get(0), None);
    assert_eq!(shown(answers[2].get(0)), row("[1]", 10));
    assert_eq!(shown(answers[2].get(1)), row("[2]", 20));
}

#[tokio::test]
async fn latest_asks_without_positions() {
    let fixture = Fixture::with(Behaviour::default()).await;
    let answers = fixture.lookup.read(vec![query("a", &[("[1]", 15)])], JoinRead::Latest).await.unwrap();
    assert_eq!(shown(answers[0].get(0)), row("[1]", 20));
    assert!(fixture.fake.requests.lock()[0].tables[0].positions.is_empty());
}

#[tokio::test]
async fn a_failing_service_is_asked_until_it_answers() {
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded] {
        let behaviour = Behaviour { failures: 3, failure: Some(code), ..Behaviour::default() };
        let fixture = Fixture::with(behaviour).await;
        assert_eq!(fixture.read(&[("[1]", 50)]).await.unwrap(), [row("[1]", 20)]);
        assert_eq!(fixture.fake.calls(), 4);
        assert_eq!(fixture.metrics.not_ready(), None, "it is ready again");
    }
}

#[tokio::test]
async fn readiness_says_why_lookups_wait_and_a_stop_ends_them() {
    let behaviour =
        Behaviour { failures: usize::MAX, failure: Some(Code::Unavailable), ..Behaviour::default() };
    let fixture = Fixture::with(behaviour).await;
    let observe = async {
        while fixture.metrics.not_ready().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(fixture.metrics.not_ready().unwrap().contains("as the test says"));
        fixture.stop.cancel();
    };
    let asks = [("[1]", 50)];
    let (got, ()) = tokio::time::timeout(Duration::from_secs(10), async {
        futures_util::future::join(fixture.read(&asks), observe).await
    })
    .await
    .unwrap();
    assert!(matches!(got, Err(LookupError::Stopped)));
}

#[tokio::test]
async fn a_refused_call_is_not_made_again() {
    for code in [Code::NotFound, Code::InvalidArgument, Code::FailedPrecondition, Code::PermissionDenied] {
        let behaviour = Behaviour { failures: 1, failure: Some(code), ..Behaviour::default() };
        let fixture = Fixture::with(behaviour).await;
        assert!(matches!(fixture.read(&[("[1]", 50)]).await, Err(LookupError::Refused(_))));
        assert_eq!(fixture.fake.calls(), 1);
    }
}

#[tokio::test]
async fn more_keys_than_a_call_may_carry_are_split() {
    let asks: Vec<_> = (0..23).map(|key| (format!("[{key}]"), 50)).collect();
    let asks: Vec<_> = asks.iter().map(|(key, position)| (key.as_str(), *position)).collect();
    let expect: Vec<_> = asks.iter().map(|(key, _)| row(key, 20)).collect();

    let by_config = Fixture::start(Fake::default(), 5).await;
    assert_eq!(by_config.read(&asks).await.unwrap(), expect);
    assert_eq!(by_config.fake.calls(), 5);

    let strict = Behaviour { keys_max: Some(4), ..Behaviour::default() };
    let by_service = Fixture::with(strict).await;
    assert_eq!(by_service.read(&asks).await.unwrap(), expect, "also when the service's limit is another");
}

#[tokio::test]
async fn a_malformed_key_spoils_no_other() {
    let asks = [("[1]", 50), ("[\"bad\"]", 50), ("[2]", 50), ("[\"bad too\"]", 50), ("[3]", 50)];
    let refused = || String::from("refused: not a number");
    let expect = [row("[1]", 20), refused(), row("[2]", 20), refused(), row("[3]", 20)];
    for names_bad_key in [true, false] {
        let fixture = Fixture::with(Behaviour { names_bad_key, ..Behaviour::default() }).await;
        assert_eq!(fixture.read(&asks).await.unwrap(), expect, "named: {names_bad_key}");
    }
}

#[tokio::test]
async fn answers_that_do_not_fit_the_question_are_refused() {
    let wanted = [Wanted { table: 0, key: 0, position: Position::from_packed(1) }];
    let whole = v1::TableAnswers {
        rows: "{}".into(),
        row_ends: vec![2],
        froms: vec![0],
        tos: vec![0],
        flags: vec![1].into(),
        ..v1::TableAnswers::default()
    };
    let response = |tables| v1::LookupResponse { tables, ..v1::LookupResponse::default() };
    assert!(request::decode(response(vec![whole.clone()]), &wanted).is_ok());
    let wrong = [
        vec![],
        vec![whole.clone(), whole.clone()],
        vec![v1::TableAnswers { row_ends: vec![3], ..whole.clone() }],
        vec![v1::TableAnswers { row_ends: vec![], ..whole.clone() }],
        vec![v1::TableAnswers { flags: vec![1, 1].into(), ..whole }],
    ];
    for tables in wrong {
        assert!(matches!(request::decode(response(tables), &wanted), Err(LookupError::Malformed(_))));
    }
}

#[tokio::test]
async fn the_source_is_asked_for_until_the_service_knows_it() {
    let fixture = Fixture::start(Fake { server_uuid: "u", ..Fake::default() }, 100).await;
    assert_eq!(
        fixture.lookup.source().await.unwrap(),
        SourceIdentity { epoch: 3, server_uuid: String::from("u") }
    );
    let unknowing = Fixture::with(Behaviour::default()).await;
    let observe = async {
        while unknowing.metrics.not_ready().is_none() {
            tokio::task::yield_now().await;
        }
        unknowing.stop.cancel();
    };
    let (got, ()) = futures_util::future::join(unknowing.lookup.source(), observe).await;
    assert!(matches!(got, Err(LookupError::Stopped)));
}
