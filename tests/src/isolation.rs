//! A test's own names on the shared services: database, topics, tables, ports.

use crate::{
    Settings, clickhouse, free_port, hbase, kafka,
    mysql::Session,
    programs::{Programs, binaries},
    stack::{Stack, repository},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What one test owns. Dropping it removes all of it from the services.
pub struct Isolation {
    /// The name of its MySQL and ClickHouse databases and the beginning of its
    /// topics' and groups' names.
    pub name: String,
    pub stack: Stack,
    /// The settings for the programs; a test may lay more over them.
    pub settings: Settings,
    folder: TempDir,
}

impl Isolation {
    /// Makes an empty database with a name of its own, and settings with free
    /// ports.
    ///
    /// # Errors
    /// When a service is down: the text says which.
    pub fn new(test: &str, stack: &Stack) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t_{test}_{}_{number}", std::process::id());
        let folder = tempfile::tempdir().context("create a folder")?;
        let settings = settings(&name, stack, folder.path())?;
        let isolation = Self { name, stack: stack.clone(), settings, folder };
        isolation.session("")?.exec(&format!("CREATE DATABASE {}", isolation.name))?;
        clickhouse::query(&stack.clickhouse, &format!("CREATE DATABASE {}", isolation.name))?;
        Ok(isolation)
    }

    /// A MySQL session in its database, or in none for an empty name.
    ///
    /// # Errors
    /// When MySQL cannot be reached.
    pub fn session(&self, database: &str) -> Result<Session> {
        Session::open(&self.stack.mysql, database)
    }

    /// The name of one of its topics: `topic("topic_db")`.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// A copy of a warehouse folder of the repository, with the programs that
    /// run it.
    ///
    /// # Errors
    /// When the folder cannot be copied or the programs not be built.
    pub fn programs(&self, warehouse: &str) -> Result<Programs> {
        let copy = self.folder.path().join("warehouse");
        copy_folder(&repository().join(warehouse), &copy)?;
        Ok(Programs {
            binaries: binaries()?,
            warehouse: copy,
            settings: self.settings.clone(),
            folder: self.folder.path().to_owned(),
        })
    }

    async fn delete_topics(brokers: String, name: String) -> Result<()> {
        kafka::delete_topics(&brokers, &format!("{name}.")).await
    }

    fn remove(&self) -> Result<()> {
        self.session("")?.exec(&format!("DROP DATABASE IF EXISTS {}", self.name))?;
        clickhouse::query(&self.stack.clickhouse, &format!("DROP DATABASE IF EXISTS {}", self.name))?;
        if self.stack.is_up("hbase") {
            hbase::drop_tables(&self.stack.hbase, &self.name)?;
        }
        let work = Self::delete_topics(self.stack.kafka.clone(), self.name.clone());
        // A runtime of its own: a drop may run inside one, which must not block.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(work)).join().map_err(|_| anyhow::anyhow!("panicked"))?
    }
}

impl Drop for Isolation {
    #[expect(clippy::print_stderr, reason = "a drop has no other way to tell of what it left behind")]
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("{} was not removed: {error:#}", self.name);
        }
    }
}

fn settings(name: &str, stack: &Stack, folder: &Path) -> Result<Settings> {
    let local = || free_port().map(|port| format!("127.0.0.1:{port}"));
    let dimsvc = local()?;
    let mut settings = Settings::of_stack(stack);
    settings
        .set("mysql.database", name)
        .set("kafka.topic_db", format!("{name}.topic_db"))
        .set("kafka.dead_letter_topic", format!("{name}.dead_letter"))
        .set("kafka.topic_prefix", format!("{name}."))
        .set("kafka.group_prefix", name)
        .set("clickhouse.database", name)
        .set("workers.dimsvc", format!("http://{dimsvc}"))
        .set("dimsvc.listen", dimsvc)
        .set("dimsvc.metrics_listen", local()?)
        // A free port is a number that no other test has just now.
        .set("dimsvc.server_id", 100_000 + u32::from(free_port()?))
        .set("ods.server_id", 200_000 + u32::from(free_port()?))
        .set("dimsvc.embedded.path", folder.join("store").display())
        .set("dimsvc.hbase.namespace", name)
        .set("ads.listen", local()?)
        .set("ads.cache_ms", 0);
    Ok(settings)
}

/// Copies a folder with all it holds.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_folder(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    let entries = fs::read_dir(source).with_context(|| format!("read {}", source.display()))?;
    for entry in entries {
        let from: PathBuf = entry.context("read a folder")?.path();
        let to = target.join(from.file_name().context("an entry has a name")?);
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}
