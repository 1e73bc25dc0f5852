//! The services, the proxies before them, the replicas, the writers.

use anyhow::{Context as _, Result};
use std::{
    fs,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tidemark_tests::{
    dim::{Dim, latest, now},
    eventually, free_port, http,
    isolation::Isolation,
    ledger::{Shape, TABLES, Truth},
    live::{Reader, Source},
    process::Process,
    programs::Programs,
    proxy::Proxy,
    redis::RedisServer,
    stack::Stack,
};

const REPLICAS: usize = 2;
const SEED: u64 = 7;
const SHAPE: Shape = Shape { keys: 3_000, accounts: 16 };
/// A tier that holds all, one whose rows expire and one that must evict.
const DIMENSIONS: &str = "
    [a]\ncache = \"full\"\n
    [b]\ncache = \"lru\"\ncache_mib = 1\nttl_seconds = 1\n
    [c]\ncache = \"lru\"\ncache_mib = 1\ncolumns = [\"id\", \"v\"]\n";

/// Everything that takes part. Fields are dropped in this order: programs before
/// what they are connected to.
pub(crate) struct Scene {
    replicas: Vec<Replica>,
    next_kill: usize,
    truth: Arc<Truth>,
    pub(crate) source: Source,
    pub(crate) mysql: Proxy,
    pub(crate) hbase: Proxy,
    pub(crate) redis_proxy: Proxy,
    pub(crate) redis: RedisServer,
    _isolation: Isolation,
}

struct Replica {
    programs: Programs,
    process: Process,
}

impl Scene {
    pub(crate) async fn start() -> Result<Self> {
        let isolation = Isolation::new("live", &Stack::with(&["mysql", "hbase", "kafka", "clickhouse"])?)?;
        let stack = &isolation.stack;
        let mysql = Proxy::start(&format!("{}:{}", stack.mysql.host, stack.mysql.port)).await?;
        let hbase = Proxy::start(&stack.hbase).await?;
        let redis = RedisServer::start().await?;
        let redis_proxy = Proxy::start(&redis.address()).await?;
        let mut source = Source::start(&isolation, SHAPE, SEED, 1_000)?;
        let mut programs = isolation.programs("examples/gmall")?;
        fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
        programs
            .settings
            .set("dimsvc.store", "hbase")
            .set("dimsvc.hbase.address", hbase.address())
            .set("dimsvc.hbase.timeout_ms", 2_000)
            .set("dimsvc.limits.store_timeout_ms", 2_000)
            .set("dimsvc.shared.url", format!("redis://{}/0", redis_proxy.address()))
            .set("mysql.host", "127.0.0.1")
            .set("mysql.port", mysql.port());
        let mut replicas = Vec::new();
        for number in 0..REPLICAS {
            replicas.push(Replica::start(&programs, number).await?);
        }
        let first = replicas.first().context("there is a replica")?;
        let truth = source.truth(&mut connect(&first.programs).await?).await?;
        let next_kill = 0;
        Ok(Self {
            replicas,
            next_kill,
            truth,
            source,
            mysql,
            hbase,
            redis_proxy,
            redis,
            _isolation: isolation,
        })
    }

    pub(crate) fn replicas(&self) -> Range<usize> {
        0..self.replicas.len()
    }

    /// One reader of one replica.
    pub(crate) async fn reader(&self, replica: usize, number: u64) -> Result<Reader> {
        let asked = self.replicas.get(replica).context("there is such a replica")?;
        let dim = connect(&asked.programs).await?;
        Ok(Reader::new(dim, &self.truth, &self.source, SEED + number * 100 + replica as u64))
    }

    /// Judged answers so far.
    pub(crate) fn checks(&self) -> u64 {
        self.source.progress.checks.load(Ordering::Relaxed)
    }

    /// `kill -9` of the replica whose turn it is.
    pub(crate) fn kill_next(&mut self) -> Result<()> {
        self.victim()?.process.kill()
    }

    /// Starts it again.
    pub(crate) async fn start_killed(&mut self) -> Result<()> {
        let victim = self.victim()?;
        victim.process = victim.programs.dimsvc().await?;
        self.next_kill = (self.next_kill + 1) % self.replicas.len();
        Ok(())
    }

    fn victim(&mut self) -> Result<&mut Replica> {
        self.replicas.get_mut(self.next_kill).context("there is such a replica")
    }

    /// Waits until every replica answers for every table what is newest now.
    pub(crate) async fn wait_answering(&mut self, deadline: Duration) -> Result<()> {
        for replica in &mut self.replicas {
            replica.process.must_run()?;
            eventually("every table is answered", deadline, async || {
                let mut dim = connect(&replica.programs).await?;
                for table in TABLES {
                    dim.lookup(table, &["[0]".into()], now()).await?;
                    dim.lookup(table, &["[1]".into()], latest()).await?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// What went through the proxies.
    pub(crate) fn traffic(&self) -> String {
        let of = |proxy: &Proxy| proxy.traffic().to_string();
        format!("mysql {}; hbase {}; redis {}", of(&self.mysql), of(&self.hbase), of(&self.redis_proxy))
    }

    /// The metrics of each replica whose names begin so.
    pub(crate) fn metrics_of(&self, begin: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, replica) in self.replicas.iter().enumerate() {
            let text = replica.metrics().unwrap_or_else(|error| format!("{begin}: {error:#}"));
            let chosen = text.lines().filter(|line| line.starts_with(begin));
            lines.extend(chosen.map(|line| format!("replica {number}: {line}")));
        }
        lines
    }

    /// Ends the writers and the replicas; what they met on their way fails here.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for replica in &mut self.replicas {
            replica.process.stop(Duration::from_secs(30)).await?;
        }
        self.source.stop()
    }
}

impl Replica {
    async fn start(programs: &Programs, number: usize) -> Result<Self> {
        let mut programs = programs.clone();
        programs.folder = programs.folder.join(format!("replica-{number}"));
        programs
            .settings
            .set("dimsvc.listen", format!("127.0.0.1:{}", free_port()?))
            .set("dimsvc.metrics_listen", format!("127.0.0.1:{}", free_port()?))
            .set("dimsvc.server_id", 100_000 + u32::from(free_port()?));
        let process = programs.dimsvc().await.with_context(|| format!("start replica {number}"))?;
        Ok(Self { programs, process })
    }

    fn metrics(&self) -> Result<String> {
        let address = self.programs.settings.get("dimsvc.metrics_listen")?;
        http::get(&format!("http://{address}/metrics"))?.success()
    }
}

async fn connect(programs: &Programs) -> Result<Dim> {
    Dim::connect(programs.settings.get("dimsvc.listen")?).await
}
