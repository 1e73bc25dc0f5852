//! The client against a service of its own.

use super::{
    fake::{Behaviour, Fake, Fixture, keys_of},
    *,
};
use std::time::Duration;
use tonic::Code;

impl Fixture {
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
