//! One connection to one run of one server.
//!
//! A [`Link`] never reconnects: who it talks to is read once, right after
//! connecting, and stays true for as long as the connection lives. That is what
//! makes a published run id worth comparing with. Its owner drives it with the
//! [`Driver`]; where that ends, so does the link.

use super::SharedError;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline, Value,
    aio::MultiplexedConnection,
};
use std::{future::Future, pin::Pin, time::Duration};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// The oldest server with all that the scripts use.
const MAJOR_VERSION_MIN: u32 = 6;

/// The scripts, in the order in which they are loaded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    ReadOrLease,
    Fill,
    Update,
}

const SCRIPTS: [&str; 3] =
    [include_str!("read_or_lease.lua"), include_str!("fill.lua"), include_str!("update.lua")];

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    pub(super) run_id: String,
    script_hashes: [String; SCRIPTS.len()],
    /// Cancelled when the link is given up: its callers need not wait.
    pub(super) lost: CancellationToken,
}

/// Moves a link's bytes; ends with the connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads `dimsvc.shared.url`.
pub(super) fn parse_url(url: &str) -> Result<ConnectionInfo, SharedError> {
    let server = url.into_connection_info()?;
    if !matches!(server.addr(), ConnectionAddr::Tcp(..)) {
        return Err(SharedError::Unfit(String::from("only redis://HOST:PORT/DB is supported")));
    }
    let settings = server.redis_settings().clone().set_skip_set_lib_name();
    Ok(server.set_redis_settings(settings))
}

impl Link {
    /// Connects, and asks who answers; bound the time from outside.
    pub(super) async fn connect(
        server: &ConnectionInfo,
        timeout: Duration,
    ) -> Result<(Self, Driver), SharedError> {
        let ConnectionAddr::Tcp(host, port) = server.addr() else { return Err(SharedError::Lost) };
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(redis::RedisError::from)?;
        stream.set_nodelay(true).map_err(redis::RedisError::from)?;
        // Each call has its own limit, laid around it by its caller.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(server.redis_settings(), stream, config).await?;
        let mut driver: Driver = Box::pin(driver);
        let lost = CancellationToken::new();
        let mut link = Self { connection, run_id: String::new(), script_hashes: Default::default(), lost };
        tokio::select! {
            () = &mut driver => return Err(SharedError::Lost),
            introduced = link.introduce(timeout) => introduced?,
        }
        Ok((link, driver))
    }

    /// Sends commands together and waits for all answers, at most `timeout`.
    pub(super) async fn call(
        &self,
        commands: &Pipeline,
        timeout: Duration,
    ) -> Result<Vec<Value>, SharedError> {
        let mut connection = self.connection.clone();
        tokio::select! {
            answers = tokio::time::timeout(timeout, commands.query_async(&mut connection)) => {
                Ok(answers.map_err(|_| SharedError::Late(timeout))??)
            }
            () = self.lost.cancelled() => Err(SharedError::Lost),
        }
    }

    /// Loads the scripts again: someone has flushed them.
    pub(super) async fn load_scripts(&self, timeout: Duration) -> Result<(), SharedError> {
        self.call(&load_scripts(), timeout).await.map(drop)
    }

    pub(super) fn hash(&self, script: Script) -> &str {
        let [read_or_lease, fill, update] = &self.script_hashes;
        match script {
            Script::ReadOrLease => read_or_lease,
            Script::Fill => fill,
            Script::Update => update,
        }
    }

    async fn introduce(&mut self, timeout: Duration) -> Result<(), SharedError> {
        let mut commands = load_scripts();
        commands.cmd("INFO").arg("server").cmd("INFO").arg("replication");
        let answers = self.call(&commands, timeout).await?;
        let mut answers = answers.into_iter().map(redis::from_redis_value::<String>);
        let mut next = || answers.next().and_then(Result::ok).ok_or(SharedError::Foreign);
        self.script_hashes = [next()?, next()?, next()?];
        self.run_id = identify(&format!("{}\n{}", next()?, next()?)).map_err(SharedError::Unfit)?;
        Ok(())
    }
}

fn load_scripts() -> Pipeline {
    let mut commands = redis::pipe();
    for script in SCRIPTS {
        commands.cmd("SCRIPT").arg("LOAD").arg(script);
    }
    commands
}

/// The run of the process and of its data set: a replica that took over, or was
/// filled anew from another server, has the same process but other data.
fn identify(info: &str) -> Result<String, String> {
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or_else(|| format!("the server does not say its {name}"))
    };
    let version = field("redis_version")?;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < MAJOR_VERSION_MIN) {
        return Err(format!("the server is version {version}, at least {MAJOR_VERSION_MIN} is needed"));
    }
    if field("redis_mode")? == "cluster" {
        return Err(String::from("the server is a Redis Cluster, which is not supported"));
    }
    if field("role")? != "master" {
        return Err(String::from("the server is a replica: its rows may be old"));
    }
    Ok(format!("{}/{}", field("run_id")?, field("master_replid")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:aa\r\n\
                        # Replication\r\nrole:master\r\nmaster_replid:bb\r\nmaster_replid2:00\r\n";

    #[test]
    fn a_server_is_its_process_and_its_data_set() {
        assert_eq!(identify(INFO).unwrap(), "aa/bb");
    }

    #[test]
    fn servers_that_are_not_fit_are_refused_with_the_reason() {
        let refusals = [
            ("redis_version:7.0.15", "redis_version:5.0.3", "at least 6"),
            ("mode:standalone", "mode:cluster", "Cluster"),
            ("role:master", "role:slave", "replica"),
            ("run_id:aa", "", "run_id"),
        ];
        for (from, to, reason) in refusals {
            let refused = identify(&INFO.replace(from, to)).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        assert!(parse_url("redis://:secret@127.0.0.1:6379/2").is_ok());
        for url in ["rediss://127.0.0.1:6379", "unix:///tmp/redis.sock", "127.0.0.1", "http://a"] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }
}
