//! Batches through plans compiled from SQL, against a dimension service of the
//! test: each key has a row written at position 10 and another at 20.

use super::*;
use crate::{
    lookup::fake::{Behaviour, Fake, Fixture},
    source::TopicPartition,
};
use std::fs;
use tonic::Code;

const DETAIL: &str = "
INSERT INTO dwd_detail
SELECT od.id, od.sku_id, sku.version AS sku_version, od.amount * 2 AS twice
FROM order_detail AS od
LEFT JOIN sku_info FOR SYSTEM_TIME AS OF od.row_position AS sku ON sku.key = od.sku_id
WHERE od.row_kind = 'insert' AND od.amount > 0";

const STRICT: &str = "
INSERT INTO dwd_strict
SELECT od.id, sku.version AS sku_version, user.version AS user_version
FROM order_detail AS od
JOIN sku_info FOR SYSTEM_TIME AS OF od.row_position AS sku ON sku.key = od.sku_id
LEFT JOIN user_info FOR SYSTEM_TIME AS OF od.row_position AS user ON user.key = sku.version
WHERE od.row_kind = 'insert' AND od.amount > 0 AND sku.version > 10";

const DIMENSIONS: &str = "[sku_info]\nkey = [\"key\"]\n[user_info]\nkey = [\"key\"]\n";

/// A worker with the plans, and the service that it asks.
struct Bench {
    worker: Worker,
    service: Fixture,
}

impl Bench {
    async fn new(plans: &[(&str, &str)]) -> Self {
        Self::with(plans, Behaviour::default()).await
    }

    async fn with(plans: &[(&str, &str)], behaviour: Behaviour) -> Self {
        let service = Fixture::start(Fake { behaviour, ..Fake::default() }, 1_000).await;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for part in ["dwd", "dws", "ads"] {
            fs::create_dir(path(part)).unwrap();
        }
        fs::write(path("tidemark.toml"), "[kafka]\nbrokers = \"127.0.0.1:1\"\nmessage_bytes_max = 2000\n")
            .unwrap();
        fs::write(path("dimensions.toml"), DIMENSIONS).unwrap();
        for (name, sql) in plans {
            fs::write(path(&format!("dwd/{name}.sql")), sql).unwrap();
        }
        let warehouse = Warehouse::load(folder.path()).unwrap();
        let metrics = service.metrics.layer(Layer::Dwd);
        metrics.started();
        let sink = KafkaSink::try_new(&warehouse.config.kafka, &metrics).unwrap();
        let worker = Worker::new(&warehouse, Services { lookup: service.lookup.clone(), sink, metrics }, 0);
        Self { worker, service }
    }

    async fn enrich(&self, messages: &[Option<&'static str>]) -> Result<Projected, DwdError> {
        let at = TopicPartition { topic: 0, partition: 0 };
        let batch: Batch = messages.iter().zip(0..).map(|(payload, offset)| (at, offset, *payload)).collect();
        self.worker.enrich(&batch).await
    }

    /// Target and `data` of each row, in order.
    async fn rows(&self, messages: &[Option<&'static str>]) -> Vec<(String, String)> {
        let projected = self.enrich(messages).await.unwrap();
        assert!(projected.dead.is_empty(), "{:?}", projected.dead);
        projected.rows.iter().map(|row| self.row(&projected, row)).collect()
    }

    fn row(&self, projected: &Projected, row: &project::Row) -> (String, String) {
        let text = std::str::from_utf8(&projected.text[row.payload.clone()]).unwrap();
        let (_, data) = text.split_once("\"data\":").unwrap();
        (
            self.worker.routes.plan(row.plan).unwrap().topic.clone(),
            data.trim_end_matches('}').to_owned() + "}",
        )
    }
}

/// A change of order_detail, at a position of file 0 in epoch 0: the packed
/// position is its offset.
fn change(kind: &str, position: u64, data: &str) -> Option<&'static str> {
    let text = format!(
        "{{\"database\":\"gmall\",\"table\":\"order_detail\",\"type\":\"{kind}\",\"ts\":7,\"xid\":3,\
         \"position\":\"binlog.000000:{position}\",\"data\":{data}}}"
    );
    Some(Box::leak(text.into_boxed_str()))
}

fn detail(data: &str) -> (String, String) {
    (String::from("dwd_detail"), data.to_owned())
}

#[tokio::test]
async fn a_fact_is_joined_as_its_own_transaction_saw_it() {
    let bench = Bench::new(&[("dwd_detail", DETAIL)]).await;
    let rows = bench
        .rows(&[
            change("insert", 15, r#"{"id":1,"sku_id":5,"amount":1.50}"#),
            change("insert", 20, r#"{"id":2,"sku_id":5,"amount":1}"#),
            change("insert", 21, r#"{"id":3,"sku_id":5,"amount":1}"#),
            change("insert", 9, r#"{"id":4,"sku_id":5,"amount":1}"#),
        ])
        .await;
    let expect = [
        detail(r#"{"id":1,"sku_id":5,"sku_version":10,"twice":3.00}"#),
        detail(r#"{"id":2,"sku_id":5,"sku_version":10,"twice":2}"#),
        detail(r#"{"id":3,"sku_id":5,"sku_version":20,"twice":2}"#),
        detail(r#"{"id":4,"sku_id":5,"sku_version":null,"twice":2}"#),
    ];
    assert_eq!(rows, expect);
}

#[tokio::test]
async fn an_absent_row_drops_an_inner_join_and_a_null_key_finds_none() {
    let bench = Bench::new(&[("dwd_detail", DETAIL), ("dwd_strict", STRICT)]).await;
    let rows = bench
        .rows(&[
            change("insert", 50, r#"{"id":1,"sku_id":"absent","amount":1}"#),
            change("insert", 50, r#"{"id":2,"sku_id":null,"amount":1}"#),
            change("insert", 50, r#"{"id":3,"sku_id":7,"amount":1}"#),
        ])
        .await;
    let strict = (String::from("dwd_strict"), r#"{"id":3,"sku_version":20,"user_version":20}"#.to_owned());
    let expect = [
        detail(r#"{"id":1,"sku_id":"absent","sku_version":null,"twice":2}"#),
        detail(r#"{"id":2,"sku_id":null,"sku_version":null,"twice":2}"#),
        detail(r#"{"id":3,"sku_id":7,"sku_version":20,"twice":2}"#),
        strict,
    ];
    assert_eq!(rows, expect);
}

#[tokio::test]
async fn plans_share_the_lookups_of_a_level() {
    let bench = Bench::new(&[("dwd_detail", DETAIL), ("dwd_strict", STRICT)]).await;
    bench.rows(&[change("insert", 50, r#"{"id":1,"sku_id":5,"amount":1}"#)]).await;
    let requests = bench.service.fake.requests.lock();
    let asked: Vec<Vec<&str>> = requests
        .iter()
        .map(|request| request.tables.iter().map(|table| table.table.as_str()).collect())
        .collect();
    assert_eq!(asked, [["sku_info"], ["user_info"]], "one call a level, one table for both plans");
}

#[tokio::test]
async fn what_no_plan_wants_costs_no_lookup() {
    let bench = Bench::new(&[("dwd_detail", DETAIL)]).await;
    let elsewhere = r#"{"database":"other","table":"order_detail","type":"insert","data":{}}"#;
    let unread = r#"{"database":"gmall","table":"comment_info","type":"insert","data":{}}"#;
    let ddl = r#"{"database":"gmall","table":"order_detail","type":"table-alter","data":{}}"#;
    let projected = bench
        .enrich(&[
            change("update", 50, r#"{"id":1,"sku_id":5,"amount":1}"#),
            change("insert", 50, r#"{"id":1,"sku_id":5,"amount":0}"#),
            Some(elsewhere),
            Some(unread),
            Some(ddl),
            None,
            Some(""),
        ])
        .await
        .unwrap();
    assert!(projected.rows.is_empty() && projected.dead.is_empty());
    assert_eq!((projected.dropped, projected.null_messages), (2, 2));
    assert_eq!(bench.service.fake.calls(), 0);
}

#[tokio::test]
async fn a_message_that_cannot_be_used_becomes_a_dead_letter_and_no_other_does() {
    let bench = Bench::new(&[("dwd_detail", DETAIL)]).await;
    let no_position = r#"{"database":"gmall","table":"order_detail","type":"insert","data":{"id":1,"sku_id":5,"amount":1}}"#;
    let projected = bench
        .enrich(&[
            Some("{oops"),
            change("insert", 50, r#"{"id":1,"sku_id":5,"amount":1}"#),
            change("insert", 50, r#"{"id":2,"sku_id":5,"amount":"many"}"#),
            Some(no_position),
            change("insert", 50, r#"{"id":3,"sku_id":"bad","amount":1}"#),
            change("insert", 50, r#"{"id":4,"sku_id":6,"amount":1}"#),
        ])
        .await
        .unwrap();
    let mut dead: Vec<_> = projected.dead.iter().map(|(at, reason)| (*at, reason.stage)).collect();
    dead.sort_unstable();
    assert_eq!(dead, [(0, "parse"), (2, "evaluate"), (3, "parse"), (4, "lookup")]);
    assert_eq!(projected.rows.iter().map(|row| row.record).collect::<Vec<_>>(), [1, 5]);
}

#[tokio::test]
async fn a_row_that_is_too_large_becomes_a_dead_letter() {
    let bench = Bench::new(&[("dwd_detail", DETAIL)]).await;
    let id = "9".repeat(1_990);
    let large = format!("{{\"id\":{id},\"sku_id\":5,\"amount\":1}}");
    let small = r#"{"id":1,"sku_id":5,"amount":1}"#;
    let projected = bench.enrich(&[change("insert", 50, &large), change("insert", 50, small)]).await.unwrap();
    assert_eq!(
        projected.dead.iter().map(|(at, reason)| (*at, reason.stage)).collect::<Vec<_>>(),
        [(0, "write")]
    );
    let row = bench.row(&projected, &projected.rows[0]);
    assert_eq!(row, detail(r#"{"id":1,"sku_id":5,"sku_version":20,"twice":2}"#));
}

#[tokio::test]
async fn a_refused_lookup_is_an_error_and_never_a_null_or_a_dead_letter() {
    let behaviour = Behaviour { failures: 1, failure: Some(Code::NotFound), ..Behaviour::default() };
    let bench = Bench::with(&[("dwd_detail", DETAIL)], behaviour).await;
    let enriched = bench.enrich(&[change("insert", 50, r#"{"id":1,"sku_id":5,"amount":1}"#)]).await;
    assert!(matches!(enriched, Err(DwdError::Lookup(LookupError::Refused(_)))));
}

#[tokio::test]
async fn a_row_carries_its_facts_place_and_key() {
    let bench = Bench::new(&[("dwd_detail", DETAIL)]).await;
    let message = r#"{"database":"gmall","table":"order_detail","type":"insert","ts":7,"xid":3,"commit":true,"position":"binlog.000000:50","gtid":"u:1","epoch":0,"tx":40,"tx_end":60,"data":{"id":1,"sku_id":5,"amount":1}}"#;
    let projected = bench.enrich(&[Some(message)]).await.unwrap();
    let row = &projected.rows[0];
    let text = std::str::from_utf8(&projected.text[row.payload.clone()]).unwrap();
    let expect = r#"{"database":"gmall","table":"dwd_detail","type":"insert","ts":7,"xid":3,"position":"binlog.000000:50","gtid":"u:1","epoch":0,"tx":40,"tx_end":60,"data":{"id":1,"sku_id":5,"sku_version":20,"twice":2}}"#;
    assert_eq!(text, expect);
    assert_eq!(
        bench.service.fake.requests.lock()[0].tables[0].positions,
        [60],
        "read at the transaction's end"
    );
    let at = TopicPartition { topic: 0, partition: 0 };
    let record = Record { at, offset: 0, timestamp: 0, key: Some(b"k"), payload: None };
    assert_eq!(bench.worker.message(&[record], &projected, row).key, Some(&b"k"[..]));
}
