//! The ods and dwd layers as programs, on the real services: what they write,
//! and what a stop or a kill may cost.
//!
//! Needs `dev/stack up mysql kafka clickhouse`.
//! `cargo test -p stream-workers --test layers_live`

use anyhow::{Context as _, Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tidemark_proto::envelope::Envelope;
use tidemark_tests::{
    eventually, free_port,
    isolation::Isolation,
    kafka::{self, Message, TopicReader},
    mysql::Session,
    process::Process,
    programs::Programs,
    stack::Stack,
};

const DEADLINE: Duration = Duration::from_secs(60);
const STACK: &[&str] = &["mysql", "kafka", "clickhouse"];

/// A shop's empty database with a dimension service, followed from now on.
struct Line {
    isolation: Isolation,
    session: Session,
    programs: Programs,
    _dimsvc: Process,
    /// What the topics have given so far.
    read: BTreeMap<String, (TopicReader, Vec<Message>)>,
}

impl Line {
    async fn open(test: &str) -> Result<Self> {
        let isolation = Isolation::new(test, &Stack::with(STACK)?)?;
        let mut session = isolation.session(&isolation.name)?;
        // Ids begin at 0 here.
        session.exec("SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')")?;
        let mut programs = isolation.programs("examples/gmall")?;
        session.load_file(&isolation.name, &programs.warehouse.join("schema.sql"))?;
        let dimsvc = programs.dimsvc().await?;
        programs.settings.set("ods.start", session.binlog_end()?);
        Ok(Self { isolation, session, programs, _dimsvc: dimsvc, read: BTreeMap::new() })
    }

    async fn start(&self, layers: &str) -> Result<Process> {
        self.programs.workers(layers, free_port()?).await
    }

    /// Users with these ids, five a transaction.
    fn add_users(&mut self, ids: std::ops::Range<i64>) -> Result<()> {
        for id in ids.step_by(5) {
            let user = |id: i64| format!("({id}, 'u{id}', NOW())");
            let users: Vec<_> = (id..id + 5).map(user).collect();
            let users = users.join(",");
            self.session
                .exec(&format!("INSERT INTO user_info (id, login_name, create_time) VALUES {users}"))?;
        }
        Ok(())
    }

    /// All messages of a topic, once `enough` says so.
    async fn messages(
        &mut self,
        topic: &str,
        enough: impl Fn(&[Message]) -> Result<()>,
    ) -> Result<Vec<Message>> {
        let topic = self.isolation.topic(topic);
        if !self.read.contains_key(&topic) {
            let reader = TopicReader::open(&self.isolation.stack.kafka, &topic)?;
            self.read.insert(topic.clone(), (reader, Vec::new()));
        }
        let (reader, messages) = self.read.get_mut(&topic).context("just opened")?;
        let read = async || {
            messages.extend(reader.read_to_end()?);
            enough(messages)
        };
        eventually(&format!("{topic} is complete"), DEADLINE, read).await?;
        Ok(messages.clone())
    }
}

fn id(message: &Message) -> Result<i64> {
    let text = message.text();
    let envelope = Envelope::parse(text.as_bytes())?;
    let id = envelope.data.get("id").or_else(|| envelope.data.get("user_id"));
    Ok(id.context("no id")?.parse()?)
}

fn ids(messages: &[Message]) -> Result<Vec<i64>> {
    messages.iter().map(id).collect()
}

/// Whether every id has come at least once.
fn complete(messages: &[Message], expect: std::ops::Range<i64>) -> Result<()> {
    let seen: BTreeSet<i64> = ids(messages)?.into_iter().collect();
    let missing = expect.clone().filter(|id| !seen.contains(id)).count();
    ensure!(missing == 0, "{missing} of {expect:?} are missing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_as_maxwell_writes_them() -> Result<()> {
    let mut line = Line::open("ods_form").await?;
    let _ods = line.start("ods").await?;

    line.session.transact(&[
        "INSERT INTO sku_info (id, price, sku_name, is_sale) VALUES (1, 10, 'a \"b\"', 1)",
        "UPDATE sku_info SET sku_name = 'c' WHERE id = 1",
    ])?;
    line.session.exec("ALTER TABLE sku_info COMMENT = 'no row of it'")?;
    line.session.transact(&["DELETE FROM sku_info WHERE id = 1"])?;

    let enough = |messages: &[Message]| {
        ensure!(messages.len() >= 3, "{} messages", messages.len());
        Ok(())
    };
    let messages = line.messages("topic_db", enough).await?;
    ensure!(messages.len() == 3, "DDL writes no message");
    let texts: Vec<String> = messages.iter().map(Message::text).collect();
    let rows: Vec<Envelope<'_>> =
        texts.iter().map(|text| Envelope::parse(text.as_bytes())).collect::<Result<_, _>>()?;
    let shape: Vec<_> = rows
        .iter()
        .map(|row| (row.event.as_ref(), row.data.get("sku_name"), row.commit, row.again))
        .collect();
    let expect = [
        ("insert", Some(r#""a \"b\"""#), false, false),
        ("update", Some(r#""c""#), true, true),
        ("delete", Some(r#""c""#), true, false),
    ];
    ensure!(shape == expect, "{shape:?}");
    let old: Vec<_> = rows[1].old.as_ref().context("no old")?.iter().collect();
    ensure!(old == [("sku_name", r#""a \"b\"""#)], "{old:?}");
    ensure!(rows[0].tx == rows[1].tx && rows[0].tx_end == rows[1].tx_end && rows[1].tx_end <= rows[2].tx);
    for row in &rows {
        let position = row.position(0)?.packed();
        ensure!(row.tx < Some(position) && Some(position) <= row.tx_end, "the row lies in its transaction");
    }
    let key = format!(r#"{{"database":"{}","table":"sku_info","pk.id":1}}"#, line.isolation.name);
    ensure!(messages.iter().all(|message| message.key.as_deref() == Some(key.as_bytes())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_ods_goes_on_where_it_was() -> Result<()> {
    let mut line = Line::open("ods_stop").await?;
    let mut ods = line.start("ods").await?;
    line.add_users(0..100)?;
    line.messages("topic_db", |messages| complete(messages, 0..100)).await?;
    let status = ods.stop(DEADLINE).await?;
    ensure!(status.success(), "{status}");
    line.add_users(100..200)?;

    let _again = line.start("ods").await?;

    line.add_users(200..300)?;
    let messages = line.messages("topic_db", |messages| complete(messages, 0..300)).await?;
    ensure!(ids(&messages)?.into_iter().eq(0..300), "a row came twice or out of order");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_ods_loses_nothing_and_repeats_the_same_bytes() -> Result<()> {
    let mut line = Line::open("ods_kill").await?;
    for round in 0..4 {
        let mut ods = line.start("ods").await?;
        line.add_users(round * 250..round * 250 + 250)?;
        // Somewhere in the middle of the work, or of its end.
        let some = usize::try_from(round * 250 + 50)?;
        let enough = |messages: &[Message]| {
            ensure!(messages.len() > some, "{} messages", messages.len());
            Ok(())
        };
        line.messages("topic_db", enough).await?;
        ods.kill()?;
    }

    let _last = line.start("ods").await?;

    let messages = line.messages("topic_db", |messages| complete(messages, 0..1_000)).await?;
    let mut first: BTreeMap<i64, String> = BTreeMap::new();
    let mut order = Vec::new();
    for message in &messages {
        let known = first.entry(id(message)?).or_insert_with(|| {
            order.push(message.offset);
            message.text()
        });
        ensure!(*known == message.text(), "a repeated row has other bytes");
    }
    ensure!(order.is_sorted() && first.len() == 1_000);
    let firsts: Vec<i64> =
        messages.iter().filter(|message| order.contains(&message.offset)).map(id).collect::<Result<_>>()?;
    ensure!(firsts.is_sorted(), "rows came out of order");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_dwd_loses_nothing() -> Result<()> {
    let mut line = Line::open("dwd_kill").await?;
    let _ods = line.start("ods").await?;
    for round in 0..3 {
        let mut dwd = line.start("dwd").await?;
        line.add_users(round * 400..round * 400 + 400)?;
        let some = usize::try_from(round * 400 + 50)?;
        let enough = |messages: &[Message]| {
            ensure!(messages.len() > some, "{} messages", messages.len());
            Ok(())
        };
        line.messages("dwd_user_register", enough).await?;
        dwd.kill()?;
    }

    let _last = line.start("dwd").await?;

    line.messages("dwd_user_register", |messages| complete(messages, 0..1_200)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_dwd_repeats_nothing() -> Result<()> {
    let mut line = Line::open("dwd_stop").await?;
    let _ods = line.start("ods").await?;
    for round in 0..3 {
        let mut dwd = line.start("dwd").await?;
        line.add_users(round * 200..round * 200 + 200)?;
        line.messages("dwd_user_register", |messages| complete(messages, 0..round * 200 + 50)).await?;
        let status = dwd.stop(DEADLINE).await?;
        ensure!(status.success(), "{status}");
    }

    let _last = line.start("dwd").await?;

    let messages = line.messages("dwd_user_register", |messages| complete(messages, 0..600)).await?;
    let (brokers, group) = (&line.isolation.stack.kafka, format!("{}-dwd", line.isolation.name));
    let committed = async || {
        ensure!(kafka::lag(brokers, &group, &line.isolation.topic("topic_db"))? == 0);
        Ok(())
    };
    eventually("all is committed", DEADLINE, committed).await?;
    ensure!(messages.len() == 600, "{} rows", messages.len());
    Ok(())
}
