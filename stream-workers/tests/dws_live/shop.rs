//! A small warehouse with a name of its own: sales, their window aggregates,
//! and what a plain sum over the sales says.

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};
use stream_workers::{
    layers::dws::{self, Worker},
    metrics::{Layer, Metrics},
    warehouse::{
        Warehouse,
        types::{Catalog, WarehouseTypes},
    },
};
use tempfile::TempDir;
use tidemark_tests::{clickhouse, eventually, isolation::Isolation, kafka, stack::Stack};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Columns as (name, type, nullable).
const COLUMNS: [(&str, &str, bool); 6] = [
    ("id", "bigint", false),
    ("province", "varchar(20)", true),
    ("amount", "decimal(16,2)", true),
    ("note", "varchar(20)", true),
    ("day", "date", true),
    ("create_time", "datetime", false),
];

const DWD: &str = "INSERT INTO dwd_sale
SELECT s.id, s.province, s.amount, s.note, s.day, s.create_time FROM sale AS s WHERE s.row_kind = 'insert'";

pub(crate) const WINDOW: &str = "INSERT INTO dws_sale_window
SELECT window_start, window_end, province, SUM(amount) AS amount, COUNT(*) AS row_counts, COUNT(amount) AS paid,
       MIN(day) AS first_day, MAX(note) AS last_note
FROM TABLE(TUMBLE(TABLE dwd_sale, DESCRIPTOR(create_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, province";

pub(crate) const TOTAL: &str = "INSERT INTO dws_sale_total
SELECT SUM(amount) AS amount, COUNT(*) AS sales FROM dwd_sale WHERE amount IS NOT NULL";

/// What one test works with.
pub(crate) struct Shop {
    pub(crate) isolation: Isolation,
    folder: TempDir,
    pub(crate) types: WarehouseTypes,
    pub(crate) metrics: Metrics,
    sales: Vec<Sale>,
    forgotten: usize,
}

/// A row of the fact.
#[derive(Clone, Debug)]
pub(crate) struct Sale {
    pub(crate) id: u64,
    pub(crate) province: Option<&'static str>,
    pub(crate) cents: Option<i64>,
    pub(crate) note: Option<String>,
    pub(crate) day: Option<u8>,
    pub(crate) second: u64,
}

/// A row of a view, as text; `None` is NULL.
type Row = Vec<Option<String>>;

/// Start and province of a window.
type WindowKey = (Option<String>, Option<String>);

/// A layer at work, stopped with [`Running::stop`].
pub(crate) struct Running {
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Shop {
    pub(crate) async fn open(test: &str, tables: &[(&str, &str)]) -> Result<Self> {
        let stack = Stack::with(&["mysql", "kafka", "clickhouse"])?;
        Self::open_on(test, &stack, tables).await
    }

    pub(crate) async fn open_on(test: &str, stack: &Stack, tables: &[(&str, &str)]) -> Result<Self> {
        let isolation = Isolation::new(test, stack)?;
        let columns =
            COLUMNS.map(|(name, kind, null)| format!("{name} {kind} {}", if null { "" } else { "NOT NULL" }));
        isolation.session(&isolation.name)?.exec(&format!("CREATE TABLE sale ({})", columns.join(", ")))?;
        kafka::create_topic(&stack.kafka, &isolation.topic("dwd_sale"), 2).await?;
        let mut catalog = Catalog::default();
        catalog.insert("sale", &COLUMNS)?;
        let folder = tempfile::tempdir()?;
        let types = WarehouseTypes::default();
        let mut shop =
            Self { isolation, folder, types, metrics: Metrics::try_new()?, sales: Vec::new(), forgotten: 0 };
        shop.write("tidemark.toml", &shop.settings())?;
        shop.write("dimensions.toml", "")?;
        shop.write("dwd/dwd_sale.sql", DWD)?;
        for (name, sql) in tables {
            shop.write(&format!("dws/{name}.sql"), sql)?;
        }
        shop.types = shop.warehouse()?.types(&catalog).map_err(|found| anyhow::anyhow!("{found:?}"))?;
        Ok(shop)
    }

    fn settings(&self) -> String {
        let (name, stack) = (&self.isolation.name, &self.isolation.stack);
        format!(
            "[mysql]\nhost = {:?}\nport = {}\nuser = {:?}\npassword = {:?}\ndatabase = {name:?}\n\
             [kafka]\nbrokers = {:?}\ntopic_prefix = \"{name}.\"\ngroup_prefix = {name:?}\n\
             dead_letter_topic = \"{name}.dead\"\ntopic_db = \"{name}.topic_db\"\n\
             [clickhouse]\nurl = {:?}\nuser = {:?}\npassword = {:?}\ndatabase = {name:?}\ntimeout_ms = 10000\n\
             [dws]\nflush_ms = 50\ngroups_max = 8\nbatch_rows_max = 64\n[ads]\ncache_ms = 0\nrows_max = 20\n",
            stack.mysql.host,
            stack.mysql.port,
            stack.mysql.user,
            stack.mysql.password,
            stack.kafka,
            stack.clickhouse.url,
            stack.clickhouse.user,
            stack.clickhouse.password,
        )
    }

    /// Writes a file of the warehouse.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        Ok(fs::write(path, text)?)
    }

    pub(crate) fn warehouse(&self) -> Result<Warehouse> {
        Warehouse::load(self.folder.path()).map_err(|found| anyhow::anyhow!("{found:?}"))
    }

    /// A worker that has merged so many messages and written none.
    pub(crate) async fn worker_with(&self, messages: i64, stop: &CancellationToken) -> Result<Worker> {
        let layer = self.metrics.layer(Layer::Dws);
        let mut worker = Worker::of_warehouse(&self.warehouse()?, &self.types, (&layer, stop)).await?;
        let merged = |worker: &Worker| worker.merged().iter().map(|(_, next)| next).sum::<i64>();
        while merged(&worker) < messages {
            tokio::time::timeout(DEADLINE, worker.step()).await??;
        }
        Ok(worker)
    }

    /// Runs the statements that a refusal names: they are to be enough.
    pub(crate) fn drop_tables(&self, refusal: &str) -> Result<()> {
        let statements = refusal.split_once("run: ").and_then(|(_, rest)| rest.split_once(" and start"));
        let (statements, _) = statements.with_context(|| format!("{refusal} names no statements"))?;
        statements.split_terminator(';').try_for_each(|statement| self.query(statement).map(drop))
    }

    /// Expects nothing of what was sold until now.
    pub(crate) fn forget(&mut self) {
        self.forgotten = self.sales.len();
    }

    /// The layer as the program runs it.
    pub(crate) fn run(&self) -> Result<Running> {
        self.run_with(|_| {})
    }

    pub(crate) fn run_with(&self, change: impl FnOnce(&mut Warehouse)) -> Result<Running> {
        let mut warehouse = self.warehouse()?;
        change(&mut warehouse);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(dws::run(Arc::new(warehouse), self.metrics.clone(), stop.clone()));
        Ok(Running { stop, tasks })
    }

    /// Sells, and puts the messages on the topic.
    pub(crate) async fn sell(&mut self, count: u64) -> Result<()> {
        let first = self.sales.len() as u64;
        let sales: Vec<Sale> = (first..first + count).map(sale).collect();
        let messages: Vec<(String, String)> =
            sales.iter().map(|sale| (sale.id.to_string(), message(sale))).collect();
        let pairs: Vec<kafka::Pair<'_>> =
            messages.iter().map(|(key, value)| (Some(key.as_bytes()), Some(value.as_bytes()))).collect();
        kafka::produce(&self.isolation.stack.kafka, &self.topic(), &pairs).await?;
        self.sales.extend(sales);
        Ok(())
    }

    pub(crate) fn topic(&self) -> String {
        self.isolation.topic("dwd_sale")
    }

    /// Removes all messages of the topic, as retention does.
    pub(crate) async fn delete_records(&self) -> Result<()> {
        let mut client = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> =
            client.set("bootstrap.servers", &self.isolation.stack.kafka).create()?;
        let mut ends = TopicPartitionList::new();
        for partition in 0..2 {
            ends.add_partition_offset(&self.topic(), partition, Offset::End)?;
        }
        let deleted =
            admin.delete_records(&ends, &AdminOptions::new().operation_timeout(Some(DEADLINE))).await?;
        deleted.elements().iter().try_for_each(|partition| partition.error().context("delete records"))
    }

    /// How many messages the group has not committed.
    pub(crate) fn lag(&self) -> Result<i64> {
        kafka::lag(&self.isolation.stack.kafka, &format!("{}-dws", self.isolation.name), &self.topic())
    }

    /// Waits until all messages are committed.
    pub(crate) async fn caught_up(&self) -> Result<()> {
        let caught_up = async || {
            let lag = self.lag()?;
            ensure!(lag == 0, "{lag} messages are not committed");
            Ok(())
        };
        eventually("all is committed", DEADLINE, caught_up).await
    }

    pub(crate) fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        clickhouse::query(&self.isolation.stack.clickhouse, &sql.replace("DB", &self.isolation.name))
    }

    /// Both views say what a plain sum over all sales says.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_total()?;
        let windows = self.query(
            "SELECT toUnixTimestamp(window_start), toUnixTimestamp(window_end), province, amount, row_counts, paid, \
             first_day, last_note FROM DB.dws_sale_window",
        )?;
        let mut expected = self.expected_windows();
        for row in &windows {
            let [start, _, province, ..] = row.as_slice() else { bail!("{row:?} is no row of the view") };
            let key = (start.clone(), province.clone());
            let expect = expected.remove(&key).with_context(|| format!("{row:?} is not expected"))?;
            ensure!(*row == expect, "{row:?} is not {expect:?}");
        }
        ensure!(expected.is_empty(), "the view lacks {expected:?}");
        Ok(())
    }

    pub(crate) fn check_total(&self) -> Result<()> {
        let total = self.query("SELECT amount, sales FROM DB.dws_sale_total")?;
        let paid: Vec<i64> = self.expected().filter_map(|sale| sale.cents).collect();
        let expect = vec![vec![Some(decimal(paid.iter().sum())), Some(paid.len().to_string())]];
        ensure!(total == expect, "total {total:?} is not {expect:?}");
        Ok(())
    }

    fn expected(&self) -> impl Iterator<Item = &Sale> {
        self.sales.iter().skip(self.forgotten)
    }

    fn expected_windows(&self) -> BTreeMap<WindowKey, Row> {
        let mut windows: BTreeMap<(u64, Option<&str>), Vec<&Sale>> = BTreeMap::new();
        for sale in self.expected() {
            windows.entry((sale.second / 10 * 10, sale.province)).or_default().push(sale);
        }
        let row = |((start, province), sales): ((u64, Option<&str>), Vec<&Sale>)| {
            let paid: Vec<i64> = sales.iter().filter_map(|sale| sale.cents).collect();
            let province = province.map(str::to_owned);
            let row = vec![
                Some(start.to_string()),
                Some((start + 10).to_string()),
                province.clone(),
                (!paid.is_empty()).then(|| decimal(paid.iter().sum())),
                Some(sales.len().to_string()),
                Some(paid.len().to_string()),
                sales.iter().filter_map(|sale| sale.day).min().map(day),
                sales.iter().filter_map(|sale| sale.note.clone()).max(),
            ];
            ((Some(start.to_string()), province), row)
        };
        windows.into_iter().map(row).collect()
    }
}

impl Running {
    /// A worker that goes on by itself.
    pub(crate) fn of(worker: Worker, stop: CancellationToken) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { Ok(worker.run().await?) });
        Self { stop, tasks }
    }

    /// Stops the layer as SIGTERM does.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        self.ended().await
    }

    /// How the layer ended.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        tokio::time::timeout(DEADLINE, self.tasks.join_next()).await?.context("the layer runs")??
    }
}

/// Sales of all kinds: late ones, unpaid ones, refunds, without a province.
fn sale(id: u64) -> Sale {
    let province = match id % 4 {
        0 => Some("Hubei"),
        1 => Some("O'Brien\\\n"),
        2 => None,
        _ => Some(""),
    };
    let late = if id.is_multiple_of(11) { 25 } else { 0 };
    Sale {
        id,
        province,
        cents: (!id.is_multiple_of(7)).then_some(id as i64 * 101 - 3_000),
        note: (!id.is_multiple_of(5)).then(|| format!("é{}", id * 7_919 % 1_000)),
        day: (!id.is_multiple_of(3)).then_some((id % 28) as u8 + 1),
        second: 1_704_067_200 + id / 3 - late,
    }
}

pub(crate) fn message(sale: &Sale) -> String {
    let time = sale.second + 86_400 - 1_704_067_200;
    let date = if time < 86_400 { "2023-12-31" } else { "2024-01-01" };
    let of_day = time % 86_400;
    serde_json::json!({
        "database": "shop", "table": "dwd_sale", "type": "insert", "ts": sale.second,
        "data": {
            "id": sale.id, "province": sale.province, "amount": null, "note": sale.note,
            "day": sale.day.map(day),
            "create_time": format!("{date} {:02}:{:02}:{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60),
        },
    })
    .to_string()
    .replace(
        "\"amount\":null",
        &format!("\"amount\":{}", sale.cents.map_or_else(|| "null".to_owned(), decimal)),
    )
}

fn day(day: u8) -> String {
    format!("2024-02-{day:02}")
}

fn decimal(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}
