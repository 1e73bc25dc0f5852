//! Where the real services are.
//!
//! Addresses come from `dev/stack env`, and `TIDEMARK_*` variables go before
//! them. [`Instance`] is a private copy of a service for a test that kills,
//! freezes or purges it; it is deleted with the value.

use crate::eventually;
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    net::{TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const GONE_DEADLINE: Duration = Duration::from_secs(10);

/// Addresses of the services.
#[derive(Clone, Debug)]
pub struct Stack {
    pub mysql: MysqlServer,
    /// `host:port` of a broker.
    pub kafka: String,
    pub clickhouse: ClickhouseServer,
    /// `host:port` of the Thrift gateway.
    pub hbase: String,
    /// `host:port`.
    pub redis: String,
}

/// A MySQL server and an account that may do everything.
#[derive(Clone, Debug)]
pub struct MysqlServer {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

/// A ClickHouse server's HTTP interface.
#[derive(Clone, Debug)]
pub struct ClickhouseServer {
    pub url: String,
    pub user: String,
    pub password: String,
}

impl Stack {
    /// The addresses, whether or not something answers there.
    ///
    /// # Errors
    /// When `dev/stack env` fails or its answer lacks an address.
    pub fn find() -> Result<Self> {
        let mut variables = read_variables(&["env"])?;
        variables.extend(std::env::vars().filter(|(name, _)| variables_name(name)));
        Self::from_variables(&variables)
    }

    /// [`Stack::find`], after a look whether the named services listen.
    ///
    /// # Errors
    /// As above; the text says `dev/stack up` for a service that is down.
    pub fn with(services: &[&str]) -> Result<Self> {
        let stack = Self::find()?;
        for service in services {
            let address = stack.address(service)?;
            if !listens(&address) {
                bail!("{service} does not answer at {address}: start it with `dev/stack up {service}`");
            }
        }
        Ok(stack)
    }

    /// Whether something listens at the service's address.
    pub fn is_up(&self, service: &str) -> bool {
        self.address(service).is_ok_and(|address| listens(&address))
    }

    fn address(&self, service: &str) -> Result<String> {
        Ok(match service {
            "mysql" => format!("{}:{}", self.mysql.host, self.mysql.port),
            "kafka" => self.kafka.clone(),
            "hbase" => self.hbase.clone(),
            "redis" => self.redis.clone(),
            "clickhouse" => {
                self.clickhouse.url.trim_start_matches("http://").trim_end_matches('/').to_owned()
            }
            _ => bail!("no such service: {service}"),
        })
    }

    fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self> {
        let get = |name: &str| {
            variables.get(name).cloned().with_context(|| format!("`dev/stack env` does not print {name}"))
        };
        Ok(Self {
            mysql: MysqlServer {
                host: get("TIDEMARK_MYSQL_HOST")?,
                port: get("TIDEMARK_MYSQL_PORT")?.parse().context("read TIDEMARK_MYSQL_PORT")?,
                user: get("TIDEMARK_MYSQL_USER")?,
                password: get("TIDEMARK_MYSQL_PASSWORD")?,
            },
            kafka: get("TIDEMARK_KAFKA_BROKERS")?,
            clickhouse: ClickhouseServer {
                url: get("TIDEMARK_CLICKHOUSE_URL")?,
                user: get("TIDEMARK_CLICKHOUSE_USER")?,
                password: get("TIDEMARK_CLICKHOUSE_PASSWORD")?,
            },
            hbase: get("TIDEMARK_HBASE_THRIFT")?,
            redis: get("TIDEMARK_REDIS_ADDRESS")?,
        })
    }
}

/// A private copy of one service.
#[derive(Debug)]
pub struct Instance {
    /// The stack with this service's addresses in place of the shared ones.
    pub stack: Stack,
    service: String,
    name: String,
}

impl Instance {
    /// Starts a private copy under a name of its own.
    ///
    /// # Errors
    /// When it does not come up; the text ends in what `dev/stack` said.
    pub fn start(service: &str, name: &str) -> Result<Self> {
        Self::start_with(service, name, &[])
    }

    /// The same with variables for `dev/stack`, as `TIDEMARK_MYSQL_OPTIONS`.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub fn start_with(service: &str, name: &str, variables: &[(&str, &str)]) -> Result<Self> {
        run_with(&["up", service, "--instance", name], variables)?;
        let mut variables = read_variables(&["env"])?;
        variables.extend(read_variables(&["env", service, "--instance", name])?);
        let stack = Stack::from_variables(&variables)?;
        Ok(Self { stack, service: service.to_owned(), name: name.to_owned() })
    }

    /// Starts it again after a kill; its ports and data are the same.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub fn up(&self) -> Result<()> {
        run(&["up", &self.service, "--instance", &self.name]).map(drop)
    }

    /// Stops it; its data stays.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn down(&self) -> Result<()> {
        run(&["down", &self.service, "--instance", &self.name]).map(drop)
    }

    /// The pid of one of its processes, as `dev/stack env` names it:
    /// `mysql`, `kafka`, `hbase`, `hbase_thrift`, `redis`, `clickhouse`.
    ///
    /// # Errors
    /// When that process does not run.
    pub fn pid(&self, part: &str) -> Result<u32> {
        let variables = read_variables(&["env", &self.service, "--instance", &self.name])?;
        let name = format!("TIDEMARK_{}_PID", part.to_uppercase());
        let pid = variables.get(&name).with_context(|| format!("{part} does not run"))?;
        pid.parse().context("read the pid")
    }

    /// `kill -9` of one of its processes; returns when it is gone. The others
    /// run on, and [`Instance::up`] starts it again at the same address.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub async fn kill(&self, part: &str) -> Result<()> {
        let pid = self.pid(part)?;
        self.signal(part, "KILL")?;
        eventually("a killed process is gone", GONE_DEADLINE, async || {
            ensure!(self.pid(part).is_err() && threads(pid) <= 1, "{part} is still there");
            Ok(())
        })
        .await
    }

    /// Sends a signal by its name to one of its processes: `STOP` freezes it,
    /// `CONT` wakes it.
    ///
    /// # Errors
    /// When that process does not run.
    pub fn signal(&self, part: &str, name: &str) -> Result<()> {
        let pid = self.pid(part)?.to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().context("run kill")?;
        ensure!(sent.success(), "{part} took no SIG{name}");
        Ok(())
    }
}

/// Of a process that was killed: sockets are held until the last thread is gone,
/// after which a zombie may stay.
fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = run(&["remove", &self.service, "--instance", &self.name]) {
            eprintln_in_drop(&error);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a drop has no other way to tell of a process left behind")]
fn eprintln_in_drop(error: &anyhow::Error) {
    eprintln!("{error:#}");
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

fn run(arguments: &[&str]) -> Result<String> {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let said = Command::new("dev/stack")
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(repository())
        .output()
        .context("run dev/stack from the repository's root")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(
        said.status.success(),
        "`dev/stack {}` failed: {}\n{}",
        arguments.join(" "),
        text(&said.stdout),
        text(&said.stderr)
    );
    Ok(text(&said.stdout))
}

fn read_variables(arguments: &[&str]) -> Result<BTreeMap<String, String>> {
    let text = run(arguments)?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// `TIDEMARK_X`, but not `TIDEMARK__X`: those are the programs' settings.
fn variables_name(name: &str) -> bool {
    name.starts_with("TIDEMARK_") && !name.starts_with("TIDEMARK__")
}

fn listens(address: &str) -> bool {
    let Ok(addresses) = address.to_socket_addrs() else { return false };
    addresses.into_iter().any(|at| TcpStream::connect_timeout(&at, Duration::from_secs(2)).is_ok())
}
