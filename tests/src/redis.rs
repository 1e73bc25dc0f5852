//! A Redis of a test's own, to be killed, frozen, flushed and set back in time.
//!
//! One process on a free port of 127.0.0.1 that keeps its address over
//! restarts; it and its folder are deleted with the value. Commands go over a
//! plain socket, so that no client's reconnects hide what the server does.

use crate::{
    Settings, free_port,
    process::{Launch, Process},
};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

const READY_DEADLINE: Duration = Duration::from_secs(10);
const CALL_DEADLINE: Duration = Duration::from_secs(5);
const DUMP: &str = "dump.rdb";
const OLD_DUMP: &str = "old.rdb";

/// A running `redis-server`, without persistence but for [`RedisServer::save`].
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    program: PathBuf,
    folder: TempDir,
}

impl RedisServer {
    /// Starts an empty one and waits until it answers.
    ///
    /// # Errors
    /// When Redis is not installed (`dev/stack up redis` does it) or not ready
    /// in time.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let program = folder.path().join("redis-server");
        symlink(find_program()?, &program).context("link redis-server")?;
        let port = free_port()?;
        let process = launch(&program, folder.path(), port)?;
        let mut server = Self { process, port, program, folder };
        server.wait_ready().await?;
        Ok(server)
    }

    /// `host:port`; the same after a restart.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// For `dimsvc.shared.url`.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// Runs one command on a connection of its own; the answer as text, the
    /// parts of a list on lines of their own, empty for nil.
    ///
    /// # Errors
    /// What the server says, or when it does not answer within 5 s.
    pub fn execute(&self, command: &[&str]) -> Result<String> {
        call(SocketAddr::from(([127, 0, 0, 1], self.port)), command)
    }

    /// The identity of this run: another one after each restart.
    ///
    /// # Errors
    /// As [`RedisServer::execute`].
    pub fn run_id(&self) -> Result<String> {
        self.fact("server", "run_id")
    }

    /// Keys in all of it.
    ///
    /// # Errors
    /// As [`RedisServer::execute`].
    pub fn keys(&self) -> Result<u64> {
        self.execute(&["DBSIZE"])?.parse().context("read DBSIZE")
    }

    /// How often a key was evicted for want of memory.
    ///
    /// # Errors
    /// As [`RedisServer::execute`].
    pub fn evicted(&self) -> Result<u64> {
        self.fact("stats", "evicted_keys")?.parse().context("read evicted_keys")
    }

    /// FLUSHALL.
    ///
    /// # Errors
    /// As [`RedisServer::execute`].
    pub fn flush(&self) -> Result<()> {
        self.execute(&["FLUSHALL", "SYNC"]).map(drop)
    }

    /// Bounds its memory: beyond it the keys least recently used go.
    ///
    /// # Errors
    /// As [`RedisServer::execute`].
    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        self.execute(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])?;
        self.execute(&["CONFIG", "SET", "maxmemory", &bytes.to_string()]).map(drop)
    }

    /// Keeps what it holds now for [`RedisServer::restart_from_save`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<()> {
        self.execute(&["SAVE"])?;
        let folder = self.folder.path();
        fs::rename(folder.join(DUMP), folder.join(OLD_DUMP)).context("keep the dump")
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Kills it if it runs, and starts it empty.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn restart_empty(&mut self) -> Result<()> {
        self.process.kill()?;
        self.start_again().await
    }

    /// Kills it if it runs, and starts it with what [`RedisServer::save`] kept:
    /// the past comes back, as after a restart from an old dump.
    ///
    /// # Errors
    /// When nothing was kept, or it is not ready in time.
    pub async fn restart_from_save(&mut self) -> Result<()> {
        self.process.kill()?;
        let folder = self.folder.path();
        fs::copy(folder.join(OLD_DUMP), folder.join(DUMP)).context("bring back the dump")?;
        self.start_again().await?;
        fs::remove_file(self.folder.path().join(DUMP)).context("remove the dump")
    }

    /// SIGSTOP: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.signal("STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&mut self) -> Result<()> {
        self.process.signal("CONT")
    }

    async fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.program, self.folder.path(), self.port)?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        self.process.wait_ready(READY_DEADLINE, async || call(address, &["PING"]).map(drop)).await
    }

    fn fact(&self, section: &str, name: &str) -> Result<String> {
        let said = self.execute(&["INFO", section])?;
        let field = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field.map(String::from).with_context(|| format!("Redis does not say its {name}"))
    }
}

/// Debian's `redis-server` is `redis-check-rdb` under another name, and the
/// package with the latter alone adds no system service.
fn find_program() -> Result<PathBuf> {
    let folders = env::var_os("PATH").context("PATH is set")?;
    let find =
        |name: &str| env::split_paths(&folders).map(|folder| folder.join(name)).find(|at| at.is_file());
    find("redis-server")
        .or_else(|| find("redis-check-rdb"))
        .context("Redis is not installed: `dev/stack up redis` does it")
}

fn launch(program: &Path, folder: &Path, port: u16) -> Result<Process> {
    let (port, folder_text) = (port.to_string(), folder.display().to_string());
    let arguments = [
        ["--bind", "127.0.0.1"],
        ["--port", &port],
        ["--save", ""],
        ["--appendonly", "no"],
        ["--dir", &folder_text],
        ["--dbfilename", DUMP],
    ];
    Process::start(&Launch {
        name: "redis",
        program: program.to_owned(),
        arguments: arguments.as_flattened().iter().copied().map(String::from).collect(),
        settings: &Settings::default(),
        folder,
    })
}

fn call(address: SocketAddr, command: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CALL_DEADLINE).context("connect to Redis")?;
    stream.set_read_timeout(Some(CALL_DEADLINE)).context("set a deadline")?;
    let mut request = format!("*{}\r\n", command.len());
    for part in command {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    stream.write_all(request.as_bytes()).context("send to Redis")?;
    read_reply(&mut BufReader::new(stream))
}

fn read_reply(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line).context("read Redis's answer")?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).context("Redis closed the connection")?;
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "-" => bail!("Redis says: {rest}"),
        "$" | "*" if rest == "-1" => Ok(String::new()),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().context("read a length")? + 2];
            reader.read_exact(&mut text).context("read Redis's answer")?;
            text.truncate(text.len() - 2);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        "*" => {
            let parts = rest.parse::<usize>().context("read a length")?;
            let parts: Result<Vec<_>> = (0..parts).map(|_| read_reply(reader)).collect();
            Ok(parts?.join("\n"))
        }
        _ => bail!("not an answer of Redis: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn a_restart_from_a_save_brings_the_past_back() -> Result<()> {
        let mut redis = RedisServer::start().await?;
        let first_run = redis.run_id()?;
        redis.execute(&["SET", "key", "old"])?;
        redis.save()?;
        redis.execute(&["SET", "key", "new"])?;
        redis.restart_from_save().await?;
        assert_eq!(redis.execute(&["GET", "key"])?, "old");
        assert_ne!(redis.run_id()?, first_run);
        redis.restart_empty().await?;
        assert_eq!(redis.keys()?, 0);
        Ok(())
    }

    #[tokio::test]
    async fn a_frozen_server_answers_when_it_is_thawed() -> Result<()> {
        let mut redis = RedisServer::start().await?;
        redis.execute(&["SET", "key", "value"])?;
        redis.freeze()?;
        let address = redis.address();
        let asked = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_millis(100)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read(&mut answer)
        });
        assert!(asked.join().expect("it does not panic").is_err(), "a frozen server answered");
        redis.thaw()?;
        assert_eq!(redis.execute(&["GET", "key"])?, "value");
        redis.flush()?;
        assert_eq!(redis.execute(&["GET", "key"])?, "");
        Ok(())
    }

    #[tokio::test]
    async fn memory_beyond_the_limit_evicts_keys() -> Result<()> {
        let redis = RedisServer::start().await?;
        let value = "x".repeat(1000);
        for key in 0..500 {
            redis.execute(&["SET", &key.to_string(), &value])?;
        }
        redis.limit_memory(1 << 20)?;
        redis.execute(&["SET", "last", &value])?;
        assert!(redis.evicted()? > 0, "nothing was evicted from {} keys", redis.keys()?);
        Ok(())
    }
}
