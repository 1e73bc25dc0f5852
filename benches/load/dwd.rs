//! The dwd worker over generated facts with three lookups each, beside a loop
//! that only copies the same messages.

use crate::{
    cpu,
    ground::{Ground, ROWS, status},
    report::{Floor, Line},
    tell,
};
use anyhow::{Context, Result, ensure};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use serde::Deserialize;
use std::time::{Duration, Instant};
use stream_workers::kafka::{consumer, producer};
use tidemark_benches::{OrderDetail, Zipf, write_order_detail};
use tidemark_proto::{Position, config, envelope::Envelope};
use tidemark_tests::{eventually, free_port, kafka};

const PARTITIONS: i32 = 2;
const FACTS_PER_SECOND_FLOOR: f64 = 25_000.0;
const DEADLINE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);
/// Positions of two transactions that follow each other are so far apart.
const TRANSACTION_BYTES: u64 = 3;
/// Joined rows that are compared with the dimensions.
const CHECKED: usize = 1_000;
/// How many trademarks there are.
const TRADEMARKS: u64 = 50;
const TARGET: &str = "dwd_order_detail";

pub(crate) async fn measure(ground: &Ground, facts: u64) -> Result<Vec<Line>> {
    let topics = Topics::of(ground);
    for topic in [&topics.facts, &topics.joined, &topics.copies] {
        kafka::create_topic(&topics.kafka.brokers, topic, PARTITIONS).await?;
    }
    let first = take_positions(ground, facts).await?;
    topics.fill(&ground.isolation.name, facts, first)?;
    let joined = work(ground, &topics, facts).await?;
    topics.check_joined()?;
    Ok(vec![joined, topics.copy(facts)?])
}

/// Makes room in the binlog for the facts' transactions: all dimensions are the
/// same from the first position to the last, and dimsvc has applied them all.
async fn take_positions(ground: &Ground, facts: u64) -> Result<Position> {
    let mut client = ground.client().await?;
    let before = status(&mut client).await?.applied;
    let bytes = facts * TRANSACTION_BYTES;
    ground.session()?.exec(&format!("INSERT INTO filler VALUES (REPEAT('x', {bytes}))"))?;
    eventually("dimsvc applies the filler", DEADLINE, async || {
        let applied = status(&mut client).await?.applied;
        ensure!(applied >= before + bytes, "applied is {applied}");
        Ok(())
    })
    .await?;
    Ok(Position::from_packed(before))
}

/// Runs the worker until it has joined all facts. Time and CPU are counted from
/// its first output on, so that a start and a group's assembly are not in them.
async fn work(ground: &Ground, topics: &Topics, facts: u64) -> Result<Line> {
    let mut worker = ground.programs.start_workers("dwd", free_port()?)?;
    let watch = topics.consumer("watch")?;
    let (mut first, deadline) = (None, Instant::now() + DEADLINE);
    let (seconds, rows, worker_cpu, server_cpu) = loop {
        let now = Sample::take(&watch, topics, (worker.pid(), ground.dimsvc.pid()))?;
        if now.rows > 0 {
            let first = first.get_or_insert(now);
            if now.rows >= facts {
                break now.since(first);
            }
        }
        worker.must_run()?;
        ensure!(Instant::now() < deadline, "{} of {facts} facts were joined in {DEADLINE:?}", now.rows);
        tokio::time::sleep(POLL).await;
    };
    let group = format!("{}-dwd", ground.programs.settings.get("kafka.group_prefix")?);
    eventually("dwd commits all it read", DEADLINE, async || {
        let lag = kafka::lag(&topics.kafka.brokers, &group, &topics.facts)?;
        ensure!(lag == 0, "its lag is {lag}");
        Ok(())
    })
    .await?;
    worker.stop(DEADLINE).await?;
    let joined = count(&watch, &topics.joined)?;
    ensure!(joined == facts, "{joined} rows came of {facts} facts");
    Ok(Line {
        part: "dwd",
        name: format!("{facts} facts, 3 lookups each, server = dimsvc, client = worker"),
        rate: rows / seconds,
        unit: "facts",
        server_cpu: Some(server_cpu * 1e6 / rows),
        client_cpu: Some(worker_cpu * 1e6 / rows),
        floor: Some(Floor::RateAtLeast(FACTS_PER_SECOND_FLOOR)),
        note: format!("{CHECKED} joined rows compared"),
        ..Line::default()
    })
}

/// How far the worker is, and what that has cost.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    rows: u64,
    worker_cpu: f64,
    server_cpu: f64,
}

impl Sample {
    fn take(watch: &BaseConsumer, topics: &Topics, (worker, server): (u32, u32)) -> Result<Self> {
        let rows = count(watch, &topics.joined)?;
        Ok(Self { at: Instant::now(), rows, worker_cpu: cpu::of(worker)?, server_cpu: cpu::of(server)? })
    }

    /// Seconds, rows, the worker's and the server's CPU-seconds.
    fn since(self, first: &Self) -> (f64, f64, f64, f64) {
        let seconds = (self.at - first.at).as_secs_f64();
        let rows = (self.rows - first.rows) as f64;
        (seconds, rows, self.worker_cpu - first.worker_cpu, self.server_cpu - first.server_cpu)
    }
}

/// Messages of a topic.
fn count(consumer: &BaseConsumer, topic: &str) -> Result<u64> {
    let mut count = 0;
    for partition in 0..PARTITIONS {
        let (low, high) =
            consumer.fetch_watermarks(topic, partition, DEADLINE).context("read a topic's end")?;
        count += u64::try_from(high - low)?;
    }
    Ok(count)
}

type FactProducer = ThreadedProducer<DefaultProducerContext>;

/// The topics of a run.
struct Topics {
    kafka: config::Kafka,
    facts: String,
    joined: String,
    copies: String,
}

impl Topics {
    fn of(ground: &Ground) -> Self {
        let topic = |name: &str| ground.isolation.topic(name);
        Self {
            kafka: config::Kafka {
                brokers: ground.isolation.stack.kafka.clone(),
                ..config::Kafka::default()
            },
            facts: topic("topic_db"),
            joined: topic(TARGET),
            copies: topic("copies"),
        }
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer> {
        consumer(&self.kafka, group).create().context("create a consumer")
    }

    /// A consumer of a whole topic, from its beginning.
    fn reader(&self, topic: &str) -> Result<BaseConsumer> {
        let reader = self.consumer("bench-reader")?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions
                .add_partition_offset(topic, partition, Offset::Beginning)
                .context("name a partition")?;
        }
        reader.assign(&partitions).context("assign partitions")?;
        Ok(reader)
    }

    fn producer(&self) -> Result<FactProducer> {
        producer(&self.kafka).create().context("create a producer")
    }

    /// Writes facts in transactions of one to five rows.
    fn fill(&self, database: &str, facts: u64, first: Position) -> Result<()> {
        let producer = self.producer()?;
        let (mut skus, mut users) = (Zipf::new(ROWS, 1), Zipf::new(ROWS, 2));
        let (mut payload, mut order, mut left, mut bytes) = (Vec::new(), 0, 1, 0);
        for id in 0..facts {
            left -= 1;
            let begin = Position::from_packed(first.packed() + order * TRANSACTION_BYTES);
            let end = Position::from_packed(begin.packed() + TRANSACTION_BYTES);
            let (sku, user) = (skus.draw(), users.draw());
            payload.clear();
            write_order_detail(
                &mut payload,
                database,
                &OrderDetail { id, order, sku, user, begin, end, commit: left == 0 },
            );
            bytes += payload.len() as u64;
            let key = format!("{{\"database\":\"{database}\",\"table\":\"order_detail\",\"pk.id\":{id}}}");
            let partition = i32::try_from(order % PARTITIONS as u64)?;
            send(
                &producer,
                BaseRecord::to(&self.facts).partition(partition).key(key.as_bytes()).payload(&payload),
            )?;
            if left == 0 {
                order += 1;
                left = order % 5 + 1;
            }
        }
        flush(&producer)?;
        let written = count(&self.consumer("watch")?, &self.facts)?;
        ensure!(written == facts, "{written} of {facts} facts were written");
        tell(&format!("{facts} facts of {} bytes written", bytes / facts.max(1)));
        Ok(())
    }

    /// Compares joined rows with what the schema put into the dimensions.
    fn check_joined(&self) -> Result<()> {
        let reader = self.reader(&self.joined)?;
        let deadline = Instant::now() + DEADLINE;
        for _ in 0..CHECKED {
            let message = loop {
                ensure!(Instant::now() < deadline, "the joined rows cannot be read");
                if let Some(message) = reader.poll(POLL) {
                    break message.context("read joined rows")?;
                }
            };
            let payload = message.payload().context("a joined row is null")?;
            Joined::check(payload).with_context(|| String::from_utf8_lossy(payload).into_owned())?;
        }
        Ok(())
    }

    /// Consumes the facts and produces them again, and nothing else.
    fn copy(&self, facts: u64) -> Result<Line> {
        let (reader, producer) = (self.reader(&self.facts)?, self.producer()?);
        let deadline = Instant::now() + DEADLINE;
        let (mut copied, mut first) = (0, None);
        while copied < facts {
            ensure!(Instant::now() < deadline, "{copied} of {facts} facts were copied in {DEADLINE:?}");
            let Some(message) = reader.poll(POLL) else { continue };
            let message = message.context("read facts")?;
            if first.is_none() {
                first = Some((Instant::now(), cpu::own()?));
            }
            let record = BaseRecord::to(&self.copies).partition(message.partition());
            let record =
                record.key(message.key().unwrap_or_default()).payload(message.payload().unwrap_or_default());
            send(&producer, record)?;
            copied += 1;
        }
        flush(&producer)?;
        let (begun, cpu_before) = first.context("there are facts")?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Line {
            part: "dwd",
            name: format!("{facts} facts, copied only: the floor under any worker"),
            rate: facts as f64 / seconds,
            unit: "facts",
            client_cpu: Some((cpu::own()? - cpu_before) * 1e6 / facts as f64),
            ..Line::default()
        })
    }
}

/// Columns of a joined row that tell whether its three lookups were right.
#[derive(Deserialize)]
struct Joined {
    sku_id: u64,
    sku_name: String,
    user_id: u64,
    user_level: String,
    tm_name: String,
}

impl Joined {
    fn check(payload: &[u8]) -> Result<()> {
        let envelope = Envelope::parse(payload)?;
        let columns: Vec<String> =
            envelope.data.iter().map(|(name, token)| format!("\"{name}\":{token}")).collect();
        let row: Self = serde_json::from_str(&format!("{{{}}}", columns.join(",")))?;
        ensure!(
            row.sku_name == format!("A product with a name of usual length {}", row.sku_id),
            "a wrong sku_name"
        );
        ensure!(row.tm_name == format!("Brand {}", row.sku_id % TRADEMARKS), "a wrong tm_name");
        let levels = ["new", "known", "loyal"];
        let level = levels.iter().cycle().nth(usize::try_from(row.user_id % 3)?);
        ensure!(level.is_some_and(|level| *level == row.user_level), "a wrong user_level");
        Ok(())
    }
}

/// Puts a message into the producer's queue, waiting for room.
fn send(producer: &FactProducer, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, back)) if is_full(&error) => {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error).context("produce"),
        }
    }
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Waits until all is delivered; `flush` itself may give up early.
fn flush(producer: &FactProducer) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while producer.in_flight_count() > 0 {
        ensure!(Instant::now() < deadline, "{} messages were not delivered", producer.in_flight_count());
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
