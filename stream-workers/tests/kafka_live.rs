//! The Kafka source and sink against a real broker.
//!
//! Needs `dev/stack up kafka`; every test has topics and groups of its own.
//! `cargo test -p stream-workers --test kafka_live`

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use stream_workers::{
    kafka::Topics,
    metrics::{Layer, LayerMetrics, Metrics},
    sink::{
        dead_letter::{self, Reason},
        kafka::{KafkaSink, KafkaSinkError, Message},
    },
    source::{Limits, Record, Source, SourceEvent, TopicPartition},
};
use tidemark_proto::config;
use tidemark_tests::{
    kafka::{self, TopicReader},
    stack::Stack,
};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);
const P0: TopicPartition = TopicPartition { topic: 0, partition: 0 };

/// Topics and a group that only one test has.
struct Own {
    config: config::Kafka,
    metrics: LayerMetrics,
    topic: String,
}

impl Own {
    async fn new(test: &str, partitions: i32) -> Result<Self> {
        let stack = Stack::with(&["kafka"])?;
        let name = format!("t_{test}_{}", std::process::id());
        let config = config::Kafka {
            brokers: stack.kafka,
            group_prefix: name.clone(),
            dead_letter_topic: format!("{name}.dead"),
            partitions,
            ..config::Kafka::default()
        };
        let topic = format!("{name}.rows");
        let topics = Topics::try_new(&config)?;
        topics.create(&[&topic, &config.dead_letter_topic]).await?;
        topics.partitions(&[&topic]).await?;
        Ok(Self { config, metrics: Metrics::try_new()?.layer(Layer::Dwd), topic })
    }

    fn source(&self, rows_max: usize) -> Result<Source> {
        let limits = Limits::new(rows_max, Duration::from_millis(20));
        Ok(Source::start(&self.config, &[&self.topic], limits, &self.metrics)?)
    }

    /// Writes the numbers of the range, each into partition `number % partitions`.
    async fn write(&self, numbers: std::ops::Range<i64>) -> Result<()> {
        let payloads: Vec<String> = numbers.clone().map(|number| number.to_string()).collect();
        let mut messages = Vec::with_capacity(payloads.len());
        for (number, payload) in numbers.zip(&payloads) {
            let partition = i32::try_from(number)? % self.config.partitions;
            messages.push(Message {
                topic: &self.topic,
                partition: Some(partition),
                key: None,
                payload: Some(payload.as_bytes()),
                headers: None,
            });
        }
        Ok(KafkaSink::try_new(&self.config, &self.metrics)?.send_all(&messages).await?)
    }

    async fn remove(self) -> Result<()> {
        kafka::delete_topics(&self.config.brokers, &self.config.group_prefix).await
    }
}

/// The next event, or an error when there is none in time.
async fn next(source: &mut Source) -> Result<SourceEvent> {
    Ok(timeout(DEADLINE, source.next()).await.context("no event of the source in time")??)
}

fn number(record: &Record<'_>) -> Result<i64> {
    Ok(std::str::from_utf8(record.payload.context("a null message")?)?.parse()?)
}

/// Reads until so many numbers have come; rebalances are passed over.
async fn read(source: &mut Source, count: usize) -> Result<Vec<i64>> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        if let SourceEvent::Batch(batch) = next(source).await? {
            for record in batch.records() {
                numbers.push(number(&record)?);
            }
        }
    }
    Ok(numbers)
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_bounded_and_in_order() -> Result<()> {
    let own = Own::new("source_batches", 1).await?;
    own.write(0..1_000).await?;

    let mut source = own.source(100)?;
    let SourceEvent::Assigned(assigned) = next(&mut source).await? else { bail!("partitions come first") };
    let mut numbers = Vec::new();
    while numbers.len() < 1_000 {
        let SourceEvent::Batch(batch) = next(&mut source).await? else { bail!("only batches were expected") };
        ensure!(batch.len() <= 100, "a batch of {}", batch.len());
        for record in batch.records() {
            ensure!(record.offset == number(&record)? && record.at == P0);
            numbers.push(record.offset);
        }
    }

    ensure!(assigned == [P0]);
    ensure!(numbers.into_iter().eq(0..1_000));
    source.close().await;
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_not_read_again_and_the_rest_is() -> Result<()> {
    let own = Own::new("source_commit", 1).await?;
    own.write(0..300).await?;
    let mut source = own.source(100)?;
    read(&mut source, 300).await?;
    source.commit(&[(P0, 120)]).await?;
    let offsets = source.offsets(&[P0]).await?;
    ensure!((offsets[0].committed, offsets[0].low, offsets[0].high) == (Some(120), 0, 300), "{offsets:?}");
    source.close().await;

    let mut restarted = own.source(100)?;
    let numbers = read(&mut restarted, 180).await?;

    ensure!(numbers.into_iter().eq(120..300));
    restarted.close().await;
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_hands_over_without_a_gap_or_a_double() -> Result<()> {
    const ROWS: i64 = 4_000;
    let own = Own::new("source_rebalance", 4).await?;
    own.write(0..ROWS / 2).await?;
    let mut first = own.source(100)?;
    let mut seen: BTreeMap<i64, usize> = BTreeMap::new();
    let mut done = BTreeMap::new();
    let mut revoked = 0;
    let mut second = None;
    let begun = Instant::now();

    // Every member commits what it has seen before it lets partitions go.
    while seen.len() < ROWS as usize || revoked == 0 {
        ensure!(begun.elapsed() < DEADLINE, "{} rows, {revoked} partitions revoked", seen.len());
        if second.is_none() && seen.len() >= 500 {
            second = Some(own.source(100)?);
            own.write(ROWS / 2..ROWS).await?;
        }
        let event = tokio::select! {
            event = next(&mut first) => event?,
            event = async { next(second.as_mut().context("no second")?).await }, if second.is_some() => {
                if let SourceEvent::Batch(batch) = event? {
                    for record in batch.records() {
                        *seen.entry(number(&record)?).or_default() += 1;
                    }
                }
                continue;
            }
        };
        match event {
            SourceEvent::Assigned(_) => {}
            SourceEvent::Batch(batch) => {
                for record in batch.records() {
                    *seen.entry(number(&record)?).or_default() += 1;
                }
                done.extend(batch.next_offsets());
            }
            SourceEvent::Revoked(partitions, ack) => {
                revoked += partitions.len();
                let of_these = done.iter().filter(|(at, _)| partitions.contains(at));
                let offsets: Vec<_> = of_these.map(|(at, next)| (*at, *next)).collect();
                first.commit(&offsets).await?;
                ack.done();
            }
        }
    }

    ensure!(seen.keys().copied().eq(0..ROWS), "a row is missing");
    ensure!(seen.values().all(|times| *times == 1), "a row came twice");
    first.close().await;
    second.context("the second never started")?.close().await;
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_stuck_stays_in_the_group_and_loses_nothing() -> Result<()> {
    let own = Own::new("source_stuck", 1).await?;
    // More than the queue holds: the source must stop, pause, and go on.
    own.write(0..1_000).await?;
    let mut source = own.source(50)?;
    let mut numbers = read(&mut source, 50).await?;
    let paused = async || {
        ensure!(own.metrics.pauses.get() == 1, "not paused");
        Ok(())
    };
    tidemark_tests::eventually("the source has paused", DEADLINE, paused).await?;

    own.write(1_000..1_100).await?;
    numbers.extend(read(&mut source, 1_050).await?);

    ensure!(numbers.into_iter().eq(0..1_100));
    source.close().await;
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_leaves_out_partitions_that_are_not_ours() -> Result<()> {
    let own = Own::new("source_foreign", 1).await?;
    own.write(0..10).await?;
    let mut source = own.source(10)?;
    read(&mut source, 10).await?;

    source.commit(&[(P0, 10), (TopicPartition { topic: 0, partition: 7 }, 99)]).await?;

    ensure!(kafka::lag(&own.config.brokers, &format!("{}-dwd", own.config.group_prefix), &own.topic)? == 0);
    source.close().await;
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_in_the_topic_when_it_is_acknowledged() -> Result<()> {
    let own = Own::new("sink_batch", 3).await?;
    own.write(0..30_000).await?;

    let messages = TopicReader::open(&own.config.brokers, &own.topic)?.read_to_end()?;

    ensure!(messages.len() == 30_000);
    for partition in 0..3 {
        let of_partition = messages.iter().filter(|message| message.partition == partition);
        let numbers: Vec<i64> =
            of_partition.map(|message| message.text().parse()).collect::<Result<_, _>>()?;
        ensure!(numbers.is_sorted(), "partition {partition} is out of order");
    }
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_for_good() -> Result<()> {
    let mut own = Own::new("sink_large", 1).await?;
    own.config.message_bytes_max = 100_000;
    let sink = KafkaSink::try_new(&own.config, &own.metrics)?;
    let payload = vec![b'x'; 300_000];
    let message =
        Message { topic: &own.topic, partition: None, key: None, payload: Some(&payload), headers: None };

    let error = sink.deliver(&[message]).await.err().context("it was taken")?;

    ensure!(!error.is_retryable() && matches!(error, KafkaSinkError::Refused { .. }), "{error:?}");
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_not_there_are_a_retryable_error() -> Result<()> {
    let metrics = Metrics::try_new()?.layer(Layer::Dwd);
    let config =
        config::Kafka { brokers: "127.0.0.1:1".into(), timeout_ms: 1_000, ..config::Kafka::default() };
    let sink = KafkaSink::try_new(&config, &metrics)?;
    let message = Message { topic: "rows", partition: None, key: None, payload: Some(b"x"), headers: None };

    let error = sink.send_all(&[message]).await.err().context("nobody took it")?;

    ensure!(error.is_retryable(), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_arrives_with_the_reason_and_the_original() -> Result<()> {
    let own = Own::new("sink_dead", 1).await?;
    let record = Record { at: P0, offset: 42, timestamp: 0, key: Some(b"k"), payload: Some(b"{oops") };
    let reason = Reason::new("parse", "not a change message: EOF");
    let letter = dead_letter::message(&own.config.dead_letter_topic, &own.topic, &record, &reason);

    KafkaSink::try_new(&own.config, &own.metrics)?.deliver(&[letter]).await?;

    let letters = TopicReader::open(&own.config.brokers, &own.config.dead_letter_topic)?.read_to_end()?;
    ensure!(letters.len() == 1);
    ensure!(letters[0].text() == "{oops" && letters[0].key.as_deref() == Some(b"k"));
    let header = |name: &str| letters[0].headers.get(&format!("__connect.errors.{name}")).cloned();
    ensure!(header("topic") == Some(own.topic.clone()));
    ensure!(header("offset").as_deref() == Some("42"));
    ensure!(header("exception.message").as_deref() == Some("not a change message: EOF"));
    own.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_once_by_whoever_comes_first() -> Result<()> {
    let own = Own::new("topics", 2).await?;
    let name = format!("{}.more", own.config.group_prefix);
    let topics = Topics::try_new(&own.config)?;

    let names = [name.as_str()];
    let (one, two) = futures_util::future::join(topics.create(&names), topics.create(&names)).await;

    one?;
    two?;
    ensure!(topics.partitions(&names).await?.get(&name) == Some(&2));
    own.remove().await
}
