//! The whole line in small, on the real services: MySQL → Kafka → dwd → dws →
//! ClickHouse → HTTP, and what must not break it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use tidemark_tests::{
    clickhouse,
    dim::{Dim, at_least_gtid},
    eventually, free_port, http,
    isolation::Isolation,
    kafka::{self, TopicReader},
    mysql::Session,
    process::Process,
    programs::Programs,
    stack::{Instance, Stack, repository},
};

const STACK: &[&str] = &["mysql", "kafka", "clickhouse"];
const PATIENCE: Duration = Duration::from_secs(60);

const CATALOG: &str = "
    INSERT INTO base_region (id, region_name) VALUES ('1', 'north');
    INSERT INTO base_province (id, name, region_id) VALUES (1, 'Hebei', '1'), (2, 'Shanxi', '1');
    INSERT INTO base_category1 (id, name) VALUES (1, 'digital');
    INSERT INTO base_category2 (id, name, category1_id) VALUES (1, 'phones', 1);
    INSERT INTO base_category3 (id, name, category2_id) VALUES (1, 'smart', 1);
    INSERT INTO base_trademark (id, tm_name) VALUES (1, 'Redmi');
    INSERT INTO spu_info (id, spu_name, category3_id, tm_id) VALUES (1, 'Note', 1, 1);
    INSERT INTO sku_info (id, spu_id, price, sku_name, tm_id, category3_id) VALUES (1, 1, 999, 'Note 8', 1, 1)";

/// A shop with a catalog and no orders.
fn open_shop(isolation: &Isolation) -> Result<Session> {
    let mut session = isolation.session(&isolation.name)?;
    session.load_file(&isolation.name, &repository().join("examples/gmall/schema.sql"))?;
    session.exec(CATALOG)?;
    Ok(session)
}

/// dimsvc and layers that follow a shop from now on.
async fn follow(
    isolation: &Isolation,
    session: &mut Session,
    layers: &str,
) -> Result<(Programs, [Process; 2])> {
    let mut programs = isolation.programs("examples/gmall")?;
    let dimsvc = programs.dimsvc().await?;
    programs.settings.set("ods.start", session.binlog_end()?);
    let workers = programs.workers(layers, free_port()?).await?;
    Ok((programs, [dimsvc, workers]))
}

/// An order of two pieces of sku 1, for 20.50.
fn order(id: u32) -> [String; 2] {
    [
        format!(
            "INSERT INTO order_info (id, total_amount, order_status, user_id, province_id, create_time) \
             VALUES ({id}, 20.50, '1001', 7, 1, NOW())"
        ),
        format!(
            "INSERT INTO order_detail (id, order_id, sku_id, order_price, sku_num, split_total_amount, create_time) \
             VALUES ({id}, {id}, 1, 10.25, 2, 20.50, NOW())"
        ),
    ]
}

/// The rows of a dwd topic once there are that many; more are a mistake.
async fn dwd_rows(isolation: &Isolation, topic: &str, count: usize) -> Result<Vec<Value>> {
    let mut reader = TopicReader::open(&isolation.stack.kafka, &isolation.topic(topic))?;
    let mut rows = Vec::new();
    eventually(topic, PATIENCE, async || {
        for message in reader.read_to_end()? {
            let mut message: Value = serde_json::from_str(&message.text())?;
            rows.push(message.get_mut("data").context("a message has data")?.take());
        }
        ensure!(rows.len() >= count, "{} rows of {count}", rows.len());
        Ok(())
    })
    .await?;
    ensure!(rows.len() == count, "{} rows, not {count}", rows.len());
    Ok(rows)
}

async fn view_shows(isolation: &Isolation, sql: &str, expect: &[&str]) -> Result<()> {
    let sql = sql.replace("{db}", &isolation.name);
    eventually("the view", PATIENCE, async || {
        let rows = clickhouse::query(&isolation.stack.clickhouse, &sql)?;
        let row: Vec<_> = rows.iter().flatten().map(|value| value.as_deref().unwrap_or("null")).collect();
        ensure!(row == expect, "{sql} gives {row:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_becomes_a_row_an_aggregate_and_an_indicator() -> Result<()> {
    let isolation = Isolation::new("line", &Stack::with(STACK)?)?;
    let mut session = open_shop(&isolation)?;
    let (programs, _running) = follow(&isolation, &mut session, "ods,dwd,dws,ads").await?;

    let rename = |name: &str| format!("UPDATE sku_info SET sku_name = '{name}' WHERE id = 1");
    let [head, lines] = order(1);
    let placed = session.transact(&[&rename("before"), &head, &lines, &rename("ordered")])?;
    let renamed = session.transact(&[&rename("later"), "DELETE FROM base_province WHERE id = 1"])?;

    let mut dim = Dim::connect(programs.settings.get("dimsvc.listen")?).await?;
    for (gtid, name) in [(&placed, "ordered"), (&renamed, "later")] {
        let point = tidemark_tests::dim::as_of_gtid(&gtid.to_string());
        let answer = dim.lookup("sku_info", &["[1]".to_owned()], point).await?.remove(0);
        assert!(answer.row.contains(&format!("\"sku_name\":\"{name}\"")), "{answer:?}");
    }
    let newest =
        dim.lookup("base_province", &["[1]".to_owned()], at_least_gtid(&renamed.to_string())).await?;
    assert!(newest.iter().all(|answer| !answer.found), "{newest:?}");

    let row = dwd_rows(&isolation, "dwd_trade_order_detail", 1).await?.remove(0);
    let joined =
        ["sku_name", "province_name", "region_name", "category1_name", "tm_name"].map(|name| &row[name]);
    assert_eq!(joined, ["ordered", "Hebei", "north", "digital", "Redmi"], "{row}");
    view_shows(
        &isolation,
        "SELECT province_name, order_count, toString(order_amount) FROM {db}.dws_trade_order_window",
        &["Hebei", "1", "20.50"],
    )
    .await?;
    let url = format!("http://{}/indicators/gmv", programs.settings.get("ads.listen")?);
    let answer: Value = serde_json::from_str(&http::get(&url)?.success()?)?;
    assert_eq!(answer["rows"][0]["gmv"].to_string().trim_end_matches('0'), "20.5", "{answer}");
    assert_eq!(answer["rows"][0]["order_count"], 1, "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_no_use_are_dead_letters_or_skipped_and_the_rest_goes_on() -> Result<()> {
    let isolation = Isolation::new("letters", &Stack::with(STACK)?)?;
    let mut session = open_shop(&isolation)?;
    let (_programs, _running) = follow(&isolation, &mut session, "ods,dwd").await?;
    let place = |session: &mut Session, id| session.transact(&order(id).each_ref().map(String::as_str));

    place(&mut session, 1)?;
    dwd_rows(&isolation, "dwd_trade_order_detail", 1).await?;
    let malformed = [
        "{",
        "not JSON",
        "[]",
        r#"{"database":"x"}"#,
        r#"{"database":7,"table":"t","type":"insert","data":{}}"#,
    ];
    let nothing: [kafka::Pair<'_>; 5] = [(Some(b"key"), None); 5];
    let malformed = malformed.map(|text| (None, Some(text.as_bytes())));
    let messages: Vec<_> = malformed.into_iter().chain(nothing).collect();
    kafka::produce(&isolation.stack.kafka, &isolation.topic("topic_db"), &messages).await?;
    place(&mut session, 2)?;

    dwd_rows(&isolation, "dwd_trade_order_detail", 2).await?;
    let mut letters = TopicReader::open(&isolation.stack.kafka, &isolation.topic("dead_letter"))?;
    let mut found = Vec::new();
    eventually("dead letters", PATIENCE, async || {
        found.extend(letters.read_to_end()?);
        ensure!(found.len() >= 5, "{} of 5", found.len());
        Ok(())
    })
    .await?;
    let mut texts: Vec<_> = found.iter().map(kafka::Message::text).collect();
    texts.sort();
    let mut expect: Vec<_> =
        malformed.iter().map(|(_, text)| String::from_utf8_lossy(text.unwrap_or_default())).collect();
    expect.sort();
    assert_eq!(texts, expect);
    for letter in &found {
        let header = |name: &str| letter.headers.get(name).cloned().unwrap_or_default();
        assert_eq!(header("__connect.errors.topic"), isolation.topic("topic_db"));
        assert_eq!(header("__connect.errors.stage"), "parse");
        assert!(header("__connect.errors.exception.message").len() > 10, "{letter:?}");
    }
    Ok(())
}

/// An order as dwd writes it.
fn dwd_message(id: usize) -> String {
    format!(
        r#"{{"database":"d","table":"dwd_trade_order","type":"insert","ts":1700000000,"xid":{id},"data":{{"id":{id},"#
    ) + &format!(
        r#""user_id":1,"province_id":{},"province_name":"p","region_id":"1","region_name":"r","#,
        id % 34
    ) + r#""total_amount":1.25,"create_time":"2026-01-01 00:00:00"}}"#
}

/// Kafka is frozen after dws has taken the rows in, so its write to ClickHouse
/// succeeds and its commit cannot. Then both are killed: the commit may wait in
/// the broker's socket.
#[tokio::test(flavor = "multi_thread")]
async fn dws_killed_between_write_and_commit_counts_nothing_twice() -> Result<()> {
    const ORDERS: usize = 1000;
    const SUMS: &str =
        "SELECT sum(order_count), toString(sum(order_amount)) FROM {db}.dws_trade_order_window";
    Stack::with(&["mysql", "clickhouse"])?;
    let instance = Instance::start("kafka", &format!("frozen-{}", std::process::id()))?;
    let isolation = Isolation::new("frozen", &instance.stack)?;
    open_shop(&isolation)?;
    let brokers = &instance.stack.kafka;
    let topic = isolation.topic("dwd_trade_order");
    kafka::create_topic(brokers, &topic, 2).await?;
    let texts: Vec<String> = (0..ORDERS).map(dwd_message).collect();
    let keys: Vec<String> = (0..ORDERS).map(|id| id.to_string()).collect();
    let messages: Vec<kafka::Pair<'_>> =
        keys.iter().zip(&texts).map(|(key, text)| (Some(key.as_bytes()), Some(text.as_bytes()))).collect();
    kafka::produce(brokers, &topic, &messages).await?;
    let mut programs = isolation.programs("examples/gmall")?;
    programs.settings.set("dws.flush_ms", 5_000);
    let port = free_port()?;
    let mut dws = programs.start_workers("dws", port)?;

    taken_in(port, ORDERS).await?;
    instance.signal("kafka", "STOP")?;
    view_shows(&isolation, SUMS, &["1000", "1250.00"]).await?;
    dws.kill()?;
    instance.signal("kafka", "KILL")?;
    instance.up()?;

    let group = format!("{}-dws", isolation.name);
    let left = kafka::lag(brokers, &group, &topic)?;
    assert_eq!(left, i64::try_from(ORDERS)?, "the commit came before the kill: this test proved nothing");
    let _dws = programs.workers("dws", port).await?;
    eventually("everything is committed", PATIENCE * 2, async || {
        let left = kafka::lag(brokers, &group, &topic)?;
        ensure!(left == 0, "{left} messages left");
        Ok(())
    })
    .await?;
    view_shows(&isolation, SUMS, &["1000", "1250.00"]).await
}

/// Waits until dws has read that many rows.
async fn taken_in(port: u16, rows: usize) -> Result<()> {
    let line = format!("tidemark_worker_rows_in_total{{layer=\"dws\"}} {rows}");
    eventually("dws reads the rows", PATIENCE, async || {
        let metrics = http::get(&format!("http://127.0.0.1:{port}/metrics"))?.success()?;
        let found = metrics.lines().find(|line| line.starts_with("tidemark_worker_rows_in_total"));
        ensure!(metrics.contains(&line), "{}", found.context("no such metric yet")?);
        Ok(())
    })
    .await
}
