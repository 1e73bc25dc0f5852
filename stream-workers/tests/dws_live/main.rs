//! The dws and ads layers against the real Kafka and ClickHouse.
//!
//! Needs `dev/stack up mysql kafka clickhouse`; every test has a database and
//! topics of its own. `cargo test -p stream-workers --test dws_live`

mod shop;

use anyhow::{Result, ensure};
use shop::{DEADLINE, Running, Shop, TOTAL, WINDOW};
use std::sync::Arc;
use stream_workers::layers::ads;
use tidemark_tests::{
    eventually, http,
    kafka::{self, TopicReader},
    stack::{Instance, Stack},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

const TABLES: [(&str, &str); 2] = [("dws_sale_window", WINDOW), ("dws_sale_total", TOTAL)];

#[tokio::test(flavor = "multi_thread")]
async fn messages_become_the_views_rows() -> Result<()> {
    let mut shop = Shop::open("dws_rows", &TABLES).await?;
    let layer = shop.run()?;

    shop.sell(300).await?;
    shop.caught_up().await?;
    shop.check()?;
    // The same windows again: their groups left memory long ago.
    shop.sell(300).await?;
    shop.caught_up().await?;

    shop.check()?;
    ensure!(shop.metrics.not_ready().is_none());
    layer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_by_another_group_changes_nothing() -> Result<()> {
    let mut shop = Shop::open("dws_replay", &TABLES).await?;
    let layer = shop.run()?;
    shop.sell(200).await?;
    shop.caught_up().await?;
    layer.stop().await?;

    let other = format!("{}.other", shop.isolation.name);
    let replay = shop.run_with(|warehouse| warehouse.config.kafka.group_prefix.clone_from(&other))?;
    let (brokers, topic) = (&shop.isolation.stack.kafka, shop.topic());
    let caught_up = async || {
        ensure!(kafka::lag(brokers, &format!("{other}-dws"), &topic)? == 0);
        Ok(())
    };
    eventually("the replay is through", DEADLINE, caught_up).await?;

    shop.check()?;
    replay.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_write_and_commit_counts_nothing_twice() -> Result<()> {
    let mut shop = Shop::open("dws_crash", &TABLES).await?;
    shop.sell(200).await?;

    // Given a worker that has written all and committed nothing,
    let mut worker = shop.worker_with(200, &CancellationToken::new()).await?;
    worker.write().await?;
    shop.check()?;
    ensure!(shop.lag()? == 200, "nothing is committed");
    drop(worker);

    // when another one starts and more comes,
    shop.sell(100).await?;
    let layer = shop.run()?;
    shop.caught_up().await?;

    // then each sale is counted once.
    shop.check()?;
    layer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_change_hands_leave_right_sums() -> Result<()> {
    let mut shop = Shop::open("dws_hands", &TABLES).await?;
    let first = shop.run()?;
    shop.sell(150).await?;
    let second = shop.run()?;
    shop.sell(150).await?;
    shop.caught_up().await?;
    first.stop().await?;
    shop.sell(150).await?;
    shop.caught_up().await?;

    shop.check()?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_filled_from_the_logs_beginning() -> Result<()> {
    let mut shop = Shop::open("dws_new", &TABLES[1..]).await?;
    let layer = shop.run()?;
    shop.sell(200).await?;
    shop.caught_up().await?;
    layer.stop().await?;
    shop.check_total()?;

    let (name, sql) = TABLES[0];
    shop.write(&format!("dws/{name}.sql"), sql)?;
    let layer = shop.run()?;
    let filled = async || shop.check();
    eventually("the new table is filled", DEADLINE, filled).await?;

    shop.caught_up().await?;
    shop.check()?;
    layer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_plan_is_refused_with_what_to_do() -> Result<()> {
    let mut shop = Shop::open("dws_plan", &TABLES[1..]).await?;
    let layer = shop.run()?;
    shop.sell(20).await?;
    shop.caught_up().await?;
    layer.stop().await?;

    shop.write("dws/dws_sale_total.sql", &TOTAL.replace("IS NOT NULL", "< 0"))?;
    let error = shop.run()?.ended().await.unwrap_err().to_string();

    ensure!(error.contains("the SQL has changed"), "{error}");
    shop.drop_tables(&error)?;
    let layer = shop.run()?;
    let refilled = async || {
        ensure!(!shop.query("SELECT * FROM DB.dws_sale_total")?.is_empty());
        Ok(())
    };
    eventually("the table is built again", DEADLINE, refilled).await?;
    layer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_refused() -> Result<()> {
    let mut shop = Shop::open("dws_topic", &TABLES[1..]).await?;
    let layer = shop.run()?;
    shop.sell(40).await?;
    shop.caught_up().await?;
    layer.stop().await?;

    let brokers = shop.isolation.stack.kafka.clone();
    kafka::delete_topics(&brokers, &shop.topic()).await?;
    let gone = async || {
        ensure!(!kafka::topics(&brokers)?.contains_key(&shop.topic()));
        Ok(())
    };
    eventually("the topic is gone", DEADLINE, gone).await?;
    kafka::create_topic(&brokers, &shop.topic(), 2).await?;
    let error = shop.run()?.ended().await.unwrap_err().to_string();

    ensure!(error.contains("made anew") && error.contains("DROP TABLE"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_records_before_they_were_counted_is_refused() -> Result<()> {
    let mut shop = Shop::open("dws_gap", &TABLES).await?;
    let layer = shop.run()?;
    shop.sell(40).await?;
    shop.caught_up().await?;
    layer.stop().await?;

    // Given records that retention takes while nobody reads.
    shop.sell(40).await?;
    shop.delete_records().await?;
    let error = shop.run()?.ended().await.unwrap_err().to_string();

    ensure!(error.contains("were never counted (retention"), "{error}");
    shop.drop_tables(&error)?;
    shop.forget();
    let layer = shop.run()?;
    shop.sell(40).await?;
    shop.caught_up().await?;
    shop.check()?;
    layer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_a_dead_letter_and_nulls_are_skipped() -> Result<()> {
    let mut shop = Shop::open("dws_dead", &TABLES).await?;
    let layer = shop.run()?;
    shop.sell(10).await?;
    let row =
        |data: &str| format!(r#"{{"database":"shop","table":"dwd_sale","type":"insert","data":{data}}}"#);
    let bad = [
        String::from("{oops"),
        row(r#"{"id":1,"amount":1.00,"create_time":"0000-00-00 00:00:00"}"#),
        row(r#"{"id":2,"amount":"much","create_time":"2024-01-01 00:00:00"}"#),
        row(r#"{"id":3,"amount":null}"#),
    ];
    let mut messages: Vec<kafka::Pair<'_>> =
        bad.iter().map(|text| (Some(&b"k"[..]), Some(text.as_bytes()))).collect();
    messages.push((Some(&b"k"[..]), None));
    kafka::produce(&shop.isolation.stack.kafka, &shop.topic(), &messages).await?;
    shop.sell(10).await?;
    shop.caught_up().await?;
    layer.stop().await?;

    let mut letters = TopicReader::open(&shop.isolation.stack.kafka, &shop.isolation.topic("dead"))?;
    let letters = tokio::task::spawn_blocking(move || letters.read_to_end()).await??;
    let mut reasons: Vec<String> =
        letters.iter().map(|letter| letter.headers["__connect.errors.exception.message"].clone()).collect();
    reasons.sort();
    let expect = [
        "dws_sale_total: amount: \"much\" is not a number",
        "dws_sale_window: amount: \"much\" is not a number",
        "dws_sale_window: event time: 0000-00-00 00:00:00 is not a DateTime('UTC')",
        "dws_sale_window: the event time is NULL: the row is in no window",
        "not a change message: key must be a string at line 1 column 2",
    ];
    ensure!(reasons == expect, "{reasons:?}");
    let metrics = shop.metrics.encode()?;
    ensure!(metrics.contains(r#"null_messages_total{layer="dws"} 1"#), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_taken_back_ends_the_layer() -> Result<()> {
    let shop = Shop::open("dws_back", &TABLES).await?;
    let delete = r#"{"database":"shop","table":"dwd_sale","type":"delete","data":{"id":1}}"#;
    kafka::produce(&shop.isolation.stack.kafka, &shop.topic(), &[(None, Some(delete.as_bytes()))]).await?;

    let error = shop.run()?.ended().await.unwrap_err().to_string();

    ensure!(error.contains("offset 0 is a message of type delete"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_down_loses_nothing_and_says_so() -> Result<()> {
    let base = Stack::with(&["mysql", "kafka"])?;
    let own = Instance::start("clickhouse", &format!("dws-{}", std::process::id()))?;
    let stack = Stack { clickhouse: own.stack.clickhouse.clone(), ..base };
    let mut shop = Shop::open_on("dws_down", &stack, &TABLES).await?;

    // Given groups in memory that wait for their flush, and more to come,
    shop.sell(100).await?;
    let stop = CancellationToken::new();
    let worker = shop.worker_with(100, &stop).await?;
    own.down()?;
    let layer = Running::of(worker, stop);
    shop.sell(100).await?;

    // then the outage shows, and nothing is committed that is not written,
    let blocked = async || {
        let reason = shop.metrics.not_ready().unwrap_or_default();
        ensure!(reason.contains("clickhouse"), "{reason:?}");
        Ok(())
    };
    eventually("the outage shows", DEADLINE, blocked).await?;
    ensure!(shop.lag()? == 200, "{} are not committed", shop.lag()?);

    // and all is there once the server is.
    own.up()?;
    shop.caught_up().await?;
    shop.check()?;
    let ready = async || {
        ensure!(shop.metrics.not_ready().is_none());
        Ok(())
    };
    eventually("the layer is ready again", DEADLINE, ready).await?;
    layer.stop().await?;
    drop(shop);
    drop(own);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indicator_answers_over_a_view() -> Result<()> {
    let mut shop = Shop::open("ads_view", &TABLES).await?;
    shop.write(
        "ads/sales.sql",
        "-- Sales of a day.\n-- param date Date = today\n-- param province Text = Hubei\n\
         SELECT count() AS windows, sum(amount) AS amount, sum(row_counts) AS sales FROM dws_sale_window\n\
         WHERE toDate(window_start) = {date:Date} AND province = {province:Text}",
    )?;
    shop.write("ads/windows.sql", "-- Too many rows.\nSELECT * FROM dws_sale_window")?;
    let layer = shop.run()?;
    shop.sell(240).await?;
    shop.caught_up().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(ads::serve(listener, Arc::new(shop.warehouse()?), shop.metrics.clone(), stop.clone()));
    let get = async |path: &str| {
        let url = format!("{url}{path}");
        tokio::task::spawn_blocking(move || http::get(&url)).await?
    };

    let sales = get("/indicators/sales?date=2024-01-01").await?.success()?;
    let row = shop.query(
        "SELECT count(), sum(amount), sum(row_counts) FROM DB.dws_sale_window \
         WHERE window_start >= 1704067200 AND province = 'Hubei'",
    )?;
    let [Some(windows), Some(amount), Some(count)] = row[0].as_slice() else { anyhow::bail!("{row:?}") };
    let expect = format!(
        r#"{{"indicator":"sales","parameters":{{"date":"2024-01-01","province":"Hubei"}},"rows":[{{"windows":{windows},"amount":{amount},"sales":{count}}}],"#
    );
    ensure!(sales.starts_with(&expect), "{sales} is not {expect}");

    let quoted = get("/indicators/sales?date=2024-01-01&province=O'Brien%5C%0A").await?.success()?;
    ensure!(quoted.contains(r#""province":"O'Brien\\\n"},"rows":[{"windows":8,"#), "{quoted}");
    let injected = get("/indicators/sales?province='%20OR%201=1%20--").await?.success()?;
    ensure!(injected.contains(r#""windows":0,"#), "{injected}");

    for (path, status, detail) in [
        ("/indicators/sale", 404, "did you mean `sales`?"),
        ("/nothing", 404, "GET / lists the indicators"),
        (
            "/indicators/sales?date=yesterday",
            400,
            "parameter `date` is `yesterday`: give a date as 2024-06-30",
        ),
        ("/indicators/sales?dat=2024-01-01", 400, "did you mean `date`?"),
        ("/indicators/windows", 422, "more than 20 rows"),
    ] {
        let response = get(path).await?;
        ensure!(response.status == status && response.body.contains(detail), "{path}: {response:?}");
    }
    let list = get("/").await?.success()?;
    ensure!(list.contains(r#""url":"/indicators/sales""#) && list.contains("Sales of a day."), "{list}");

    layer.stop().await?;
    stop.cancel();
    serving.join_next().await.transpose()?.transpose()?;
    Ok(())
}
