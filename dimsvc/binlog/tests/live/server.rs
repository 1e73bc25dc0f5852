//! The server under test, and a database of one's own on it.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tidemark_binlog::{
    BinlogPlace, BinlogStream, Event, Source, SourceOptions, StreamError, StreamOptions, TableFilter,
    Transaction,
};
use tidemark_proto::Position;

/// The longest that a test waits for the server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The epoch of all positions in these tests.
pub(crate) const EPOCH: u64 = 5;

/// A database that only one test uses.
pub(crate) struct Database {
    pub(crate) source: Source,
    pub(crate) name: String,
    pub(crate) conn: Conn,
}

pub(crate) fn options() -> SourceOptions {
    options_of(&settings())
}

fn options_of(settings: &HashMap<String, String>) -> SourceOptions {
    let setting = |name: &str| settings.get(name).cloned().unwrap_or_default();
    SourceOptions {
        host: setting("TIDEMARK_MYSQL_HOST"),
        port: setting("TIDEMARK_MYSQL_PORT")
            .parse()
            .expect("TIDEMARK_MYSQL_PORT is a port: run dev/stack up mysql"),
        user: setting("TIDEMARK_MYSQL_USER"),
        password: setting("TIDEMARK_MYSQL_PASSWORD"),
        connect_timeout: PATIENCE,
        query_timeout: PATIENCE,
    }
}

/// From the environment, else from the stack of this repository.
fn settings() -> HashMap<String, String> {
    if std::env::var("TIDEMARK_MYSQL_PORT").is_ok() {
        return std::env::vars().collect();
    }
    settings_of(&["env", "mysql"])
}

/// The settings that a command of `dev/stack` prints.
pub(crate) fn settings_of(arguments: &[&str]) -> HashMap<String, String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new("dev/stack").args(arguments).current_dir(root).output();
    let output = output.expect("dev/stack runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.trim_start_matches("export ").split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(crate) async fn database(test: &str) -> Database {
    database_on(&settings(), test).await
}

/// A database on another server than the shared one.
pub(crate) async fn database_on(settings: &HashMap<String, String>, test: &str) -> Database {
    let source = Source::new(options_of(settings));
    let name = format!("binlog_{test}_{}", std::process::id());
    let mut conn = source.connect().await.expect("MySQL answers: run dev/stack up mysql");
    conn.query_drop(format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
    conn.query_drop(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await.unwrap();
    conn.query_drop(format!("USE {name}")).await.unwrap();
    Database { source, name, conn }
}

impl Database {
    pub(crate) async fn run(&mut self, statements: &[&str]) {
        for statement in statements {
            self.conn.query_drop(*statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    pub(crate) async fn end(&self) -> BinlogPlace {
        self.source.binlog_end().await.unwrap()
    }

    /// Options of a stream of all tables of this database.
    pub(crate) fn stream_options(&self, from: BinlogPlace) -> StreamOptions {
        let own = self.name.clone();
        StreamOptions {
            server_id: unique_server_id(),
            epoch: EPOCH,
            from,
            tables: TableFilter::new(move |database, _| database == own),
            transaction_bytes_max: 64 << 20,
            heartbeat: Duration::from_millis(200),
            liveness: Duration::from_secs(10),
        }
    }

    pub(crate) async fn stream(&self, from: BinlogPlace) -> BinlogStream {
        BinlogStream::open(&self.source, self.stream_options(from)).await.unwrap()
    }

    /// All events from one place to the other.
    pub(crate) async fn events(&self, from: BinlogPlace, to: &BinlogPlace) -> Vec<Event> {
        let mut stream = self.stream(from).await;
        read_to(&mut stream, to.position(EPOCH).unwrap()).await.unwrap()
    }

    /// The transactions with rows of this database from one place to the other.
    pub(crate) async fn transactions(&self, from: BinlogPlace, to: &BinlogPlace) -> Vec<Transaction> {
        transactions(self.events(from, to).await)
    }

    /// The server ids of all readers of the binlog.
    pub(crate) async fn readers(&mut self) -> Vec<u32> {
        let rows: Vec<mysql_async::Row> = self.conn.query("SHOW REPLICAS").await.unwrap();
        rows.into_iter().map(|mut row| row.take::<u32, _>(0).unwrap()).collect()
    }

    pub(crate) async fn drop(mut self) {
        self.conn.query_drop(format!("DROP DATABASE {}", self.name)).await.unwrap();
    }
}

pub(crate) async fn read_to(stream: &mut BinlogStream, to: Position) -> Result<Vec<Event>, StreamError> {
    let reading = async {
        let mut events = Vec::new();
        loop {
            let event = stream.next().await?;
            let end = event.end();
            events.push(event);
            if end >= to {
                return Ok(events);
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("the stream does not reach {to}"))
}

pub(crate) fn transactions(events: Vec<Event>) -> Vec<Transaction> {
    let transactions = events.into_iter().filter_map(|event| match event {
        Event::Transaction(transaction) if !transaction.rows.is_empty() => Some(transaction),
        _ => None,
    });
    transactions.collect()
}

/// No two readers of a server may share one.
pub(crate) fn unique_server_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    2_000_000_000 + std::process::id() % 1_000_000 * 1_000 + NEXT.fetch_add(1, Ordering::Relaxed)
}
