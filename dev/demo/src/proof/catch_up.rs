//! Waiting until the line has taken in all traffic.

use super::{
    Ground,
    totals::{Fact, facts},
};
use crate::{line::Line, screen::Screen};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tidemark_tests::kafka::{self, TopicReader};

const DEADLINE: Duration = Duration::from_secs(90);
const SAID_EVERY: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);

/// What lies in the dwd topics.
#[derive(Default)]
pub(crate) struct DwdTopics {
    /// Messages of each topic.
    pub(crate) rows: BTreeMap<&'static str, u64>,
    /// The rows of dwd_trade_order_detail by their id; the last one counts.
    pub(crate) details: BTreeMap<u64, String>,
}

/// Waits until every dwd topic has as many rows as MySQL has facts, and no
/// group has anything to read. Returns what there is at the deadline, too: the
/// proof then shows what is missing.
pub(crate) async fn wait(line: &mut Line, ground: &mut Ground<'_>, screen: &Screen) -> Result<DwdTopics> {
    let facts = facts(&ground.traffic.before);
    let mut readers = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for fact in &facts {
        readers.insert(fact.topic, TopicReader::open(&line.stack.kafka, &line.topic(fact.topic))?);
        let count = ground.session.value(&fact.count_sql())?.context("COUNT gives a row")?;
        expected.insert(fact.topic, count.parse::<u64>().context("a count is a number")?);
    }
    let mut topics = DwdTopics::default();
    let (begun, mut said) = (Instant::now(), Instant::now());
    loop {
        line.must_run()?;
        for (topic, reader) in &mut readers {
            topics.take(topic, reader)?;
        }
        let lag = lag(line, &facts)?;
        if lag == 0 && topics.rows == expected || begun.elapsed() > DEADLINE {
            return Ok(topics);
        }
        if said.elapsed() > SAID_EVERY {
            said = Instant::now();
            let (have, want): (u64, u64) = (topics.rows.values().sum(), expected.values().sum());
            screen.step(format!("catching up: {have} of {want} rows in dwd, {lag} messages to read"));
        }
        tokio::time::sleep(POLL).await;
    }
}

impl DwdTopics {
    fn take(&mut self, topic: &'static str, reader: &mut TopicReader) -> Result<()> {
        let messages = reader.read_to_end()?;
        *self.rows.entry(topic).or_default() += messages.len() as u64;
        if topic == super::joins::TOPIC {
            for message in messages {
                let text = message.text();
                let row: DetailRow =
                    serde_json::from_str(&text).with_context(|| format!("read a row of {topic}"))?;
                self.details.insert(row.data.id, text);
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct DetailRow {
    data: DetailId,
}

#[derive(Deserialize)]
struct DetailId {
    id: u64,
}

fn lag(line: &Line, facts: &[Fact]) -> Result<i64> {
    let brokers = &line.stack.kafka;
    let mut lag = kafka::lag(brokers, &format!("{}-dwd", line.run), &line.topic("topic_db"))?;
    for fact in facts.iter().filter(|fact| fact.is_aggregated) {
        lag += kafka::lag(brokers, &format!("{}-dws", line.run), &line.topic(fact.topic))?;
    }
    Ok(lag)
}
