//! The line under demonstration: its settings, its processes, its addresses.
//!
//! Everything of a run lies in `.demo/` at the repository's root: a copy of the
//! warehouse, the embedded store, a log for each process.

use crate::options::Store;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};
use tidemark_tests::{
    Settings, clickhouse, free_port, hbase,
    isolation::copy_folder,
    kafka,
    mysql::Session,
    process::Process,
    programs::{Programs, binaries},
    stack::{Stack, repository},
};

/// The databases' name, and what topics and groups of every run begin with.
pub(crate) const DATABASE: &str = "gmall_demo";
/// What a kept demo left running, in its folder.
const PIDS: &str = "pids";
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// The programs of a run and where they listen.
pub(crate) struct Line {
    pub(crate) stack: Stack,
    /// What topics and consumer groups of this run begin with.
    pub(crate) run: String,
    pub(crate) dimsvc_address: String,
    pub(crate) ads_address: String,
    programs: Programs,
    processes: Processes,
}

/// What runs at this moment.
#[derive(Default)]
struct Processes {
    dimsvc: Option<Process>,
    /// ods and ads.
    ends: Option<Process>,
    dwd: Option<Process>,
    dws: Option<Process>,
}

/// Ports of the workers' metrics and health.
const ENDS_PORT: u16 = 7501;
const DWD_PORT: u16 = 7502;
const DWS_PORT: u16 = 7503;

impl Line {
    /// Makes the run's folder and its empty places in the services; starts
    /// nothing.
    pub(crate) async fn prepare(stack: &Stack, store: Store) -> Result<Self> {
        kafka::delete_topics(&stack.kafka, &format!("{DATABASE}-")).await?;
        clickhouse::query(&stack.clickhouse, &format!("DROP DATABASE IF EXISTS {DATABASE}"))?;
        clickhouse::query(&stack.clickhouse, &format!("CREATE DATABASE {DATABASE}"))?;
        if store == Store::Hbase {
            hbase::drop_tables(&stack.hbase, DATABASE)?;
        }
        let folder = new_folder()?;
        copy_folder(&repository().join("examples/gmall"), &folder.join("warehouse"))?;
        let run = format!("{DATABASE}-{}", std::process::id());
        let (dimsvc_address, ads_address) = (local(7400)?, local(7600)?);
        let mut settings = Settings::of_stack(stack);
        settings
            .set("mysql.database", DATABASE)
            .set("clickhouse.database", DATABASE)
            .set("kafka.topic_db", format!("{run}.topic_db"))
            .set("kafka.dead_letter_topic", format!("{run}.dead_letter"))
            .set("kafka.topic_prefix", format!("{run}."))
            .set("kafka.group_prefix", &run)
            .set("workers.dimsvc", format!("http://{dimsvc_address}"))
            .set("dimsvc.listen", &dimsvc_address)
            .set("dimsvc.metrics_listen", local(7401)?)
            .set("dimsvc.server_id", 300_000 + std::process::id())
            .set("ods.server_id", 10_000_000 + std::process::id())
            .set("dimsvc.store", store)
            .set("dimsvc.embedded.path", folder.join("store").display())
            .set("dimsvc.hbase.namespace", run.replace('-', "_"))
            .set("ads.listen", &ads_address)
            // The proof wants what is true now.
            .set("ads.cache_ms", 0);
        let warehouse = folder.join("warehouse");
        let programs = Programs { binaries: binaries()?, warehouse, settings, folder };
        let processes = Processes::default();
        Ok(Self { stack: stack.clone(), run, dimsvc_address, ads_address, programs, processes })
    }

    /// Starts dimsvc and waits until every dimension is loaded.
    pub(crate) async fn start_dimsvc(&mut self) -> Result<()> {
        self.processes.dimsvc = Some(self.programs.dimsvc().await?);
        Ok(())
    }

    /// Starts every layer; ods begins at the present end of the binlog.
    pub(crate) async fn start_layers(&mut self) -> Result<()> {
        let end = Session::open(&self.stack.mysql, DATABASE)?.binlog_end()?;
        self.programs.settings.set("ods.start", end);
        self.processes.ends = Some(self.programs.workers("ods,ads", port_or_free(ENDS_PORT)?).await?);
        self.start_dwd().await?;
        self.processes.dws = Some(self.programs.workers("dws", port_or_free(DWS_PORT)?).await?);
        Ok(())
    }

    /// Starts dwd and waits until it is at work.
    pub(crate) async fn start_dwd(&mut self) -> Result<()> {
        self.processes.dwd = Some(self.programs.workers("dwd", port_or_free(DWD_PORT)?).await?);
        Ok(())
    }

    /// Stops dwd as an operator would.
    pub(crate) async fn stop_dwd(&mut self) -> Result<()> {
        stop(&mut self.processes.dwd).await
    }

    /// Fails when one of the processes has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        self.processes.all().try_for_each(Process::must_run)
    }

    /// The full name of a topic.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.run)
    }

    /// Stops all, the readers first, and removes the run's topics.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let Processes { dimsvc, ends, dwd, dws } = &mut self.processes;
        for process in [dwd, dws, ends, dimsvc] {
            stop(process).await?;
        }
        kafka::delete_topics(&self.stack.kafka, &format!("{}.", self.run)).await
    }

    /// Lets all run on, and returns the pids.
    pub(crate) fn leave_running(mut self) -> Result<String> {
        let Processes { dimsvc, ends, dwd, dws } = std::mem::take(&mut self.processes);
        let mut pids = Vec::new();
        for process in [dimsvc, ends, dwd, dws].into_iter().flatten() {
            pids.push(process.pid().to_string());
            process.leave_running();
        }
        let pids = pids.join(" ");
        fs::write(self.programs.folder.join(PIDS), &pids).context("write the pids")?;
        Ok(pids)
    }
}

impl Processes {
    fn all(&mut self) -> impl Iterator<Item = &mut Process> {
        let Self { dimsvc, ends, dwd, dws } = self;
        [dimsvc, ends, dwd, dws].into_iter().flatten()
    }
}

async fn stop(process: &mut Option<Process>) -> Result<()> {
    match process.take() {
        Some(mut process) => process.stop(STOP_DEADLINE).await.map(drop),
        None => Ok(()),
    }
}

/// `.demo/`, without what a former run left; that run must have ended.
fn new_folder() -> Result<PathBuf> {
    let folder = repository().join(".demo");
    let kept = fs::read_to_string(folder.join(PIDS)).unwrap_or_default();
    let runs = |pid: &&str| is_of_the_demo(&folder, pid);
    let running: Vec<&str> = kept.split_whitespace().filter(runs).collect();
    ensure!(running.is_empty(), "a demo that was kept still runs; stop it first: kill {}", running.join(" "));
    if folder.exists() {
        fs::remove_dir_all(&folder).context("delete .demo")?;
    }
    fs::create_dir_all(&folder).context("create .demo")?;
    Ok(folder)
}

/// Whether the process is one that a demo started here: pids are used again.
fn is_of_the_demo(folder: &Path, pid: &str) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).contains(&folder.display().to_string())
}

fn local(port: u16) -> Result<String> {
    Ok(format!("127.0.0.1:{}", port_or_free(port)?))
}

/// The usual port, or another when somebody has it.
fn port_or_free(port: u16) -> Result<u16> {
    TcpListener::bind(("127.0.0.1", port)).map_or_else(|_| free_port(), |_| Ok(port))
}
