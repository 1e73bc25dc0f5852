//! The source server, asked through SQL: its settings, the end of its binlog,
//! its tables.
//!
//! Connections come from a small pool, with the time zone at UTC and text in
//! utf8mb4, so that values read here are those of the binlog. Every call has a
//! deadline. Following the binlog is the stream's business.

mod check;
mod describe;

pub use check::Server;
pub use describe::{SourceColumn, SourceTable};

use crate::filter::TableFilter;
use crate::gtid::GtidSet;
use crate::schema::Collations;
use crate::stream::{BinlogStream, StreamError, StreamOptions};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, Row};
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tidemark_proto::{Position, PositionError};

/// Connections that SQL may use at a time; the stream has its own.
const POOL_CONNECTIONS_MAX: usize = 8;
/// The greatest that MySQL allows: a binlog event may be that long.
const PACKET_BYTES_MAX: usize = 1 << 30;
/// Where the first event of a binlog file begins.
const FIRST_EVENT_OFFSET: u64 = 4;

/// How to reach the source server.
#[derive(Clone)]
pub struct SourceOptions {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub connect_timeout: Duration,
    pub query_timeout: Duration,
}

impl fmt::Debug for SourceOptions {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl From<&tidemark_proto::config::Mysql> for SourceOptions {
    fn from(config: &tidemark_proto::config::Mysql) -> Self {
        Self {
            host: config.host.clone(),
            port: config.port,
            user: config.user.clone(),
            password: config.password.clone(),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            query_timeout: Duration::from_millis(config.query_timeout_ms),
        }
    }
}

/// Why the source server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot connect to MySQL at {address}")]
    Connect { address: String, source: mysql_async::Error },
    #[error("cannot {what}")]
    Query { what: &'static str, source: mysql_async::Error },
    #[error("no answer within {limit:?} to: {what}")]
    Deadline { what: &'static str, limit: Duration },
    /// Its settings do not allow to follow it; each with the statement to run.
    #[error("MySQL is not set up to be followed: {}", .0.join("; "))]
    Unfit(Vec<String>),
    #[error("column {column} of table {table} has {what}, which is not supported")]
    Unsupported { table: String, column: String, what: String },
    /// The server's answer cannot be used.
    #[error("cannot {what}: {reason}")]
    Answer { what: &'static str, reason: String },
    #[error("cannot read the binlog")]
    Binlog(#[source] Box<StreamError>),
}

impl SourceError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Query { .. } | Self::Deadline { .. } => true,
            Self::Unfit(_) | Self::Unsupported { .. } | Self::Answer { .. } => false,
            Self::Binlog(error) => error.is_retryable(),
        }
    }
}

/// A place in the binlog, as the server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogPlace {
    pub file: String,
    pub offset: u64,
}

impl BinlogPlace {
    /// The place that a position stands for, given the name that binlog files
    /// have before their number ([`Server::base_name`]).
    pub fn new(base_name: &str, position: Position) -> Self {
        Self { file: format!("{base_name}.{:06}", position.file()), offset: position.offset() }
    }

    /// The place as a position of an epoch.
    ///
    /// # Errors
    /// When the file has no number or a part does not fit.
    pub fn position(&self, epoch: u64) -> Result<Position, PositionError> {
        Position::try_new(epoch, Position::file_number(&self.file)?, self.offset)
    }
}

/// The source server. A clone shares the connections.
#[derive(Clone)]
pub struct Source {
    options: SourceOptions,
    pool: Pool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.options).finish()
    }
}

impl Source {
    /// Connects when first asked.
    pub fn new(options: SourceOptions) -> Self {
        let constraints = PoolConstraints::new(0, POOL_CONNECTIONS_MAX).unwrap_or_default();
        let pool_options = PoolOpts::default().with_constraints(constraints);
        let pool = Pool::new(connection_options(&options).pool_opts(pool_options));
        Self { options, pool }
    }

    /// A connection of the pool, to read with.
    ///
    /// # Errors
    /// When none can be had before the connect timeout.
    pub async fn connect(&self) -> Result<Conn, SourceError> {
        self.connected(self.pool.get_conn()).await
    }

    /// A connection outside of the pool, for a stream or a lock to keep.
    ///
    /// # Errors
    /// When none can be had before the connect timeout.
    pub async fn connect_alone(&self) -> Result<Conn, SourceError> {
        self.connected(Conn::new(Opts::from(connection_options(&self.options)))).await
    }

    async fn connected(
        &self,
        connecting: impl Future<Output = Result<Conn, mysql_async::Error>>,
    ) -> Result<Conn, SourceError> {
        let limit = self.options.connect_timeout;
        match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(source)) => {
                let address = format!("{}:{}", self.options.host, self.options.port);
                Err(SourceError::Connect { address, source })
            }
            Err(_) => Err(SourceError::Deadline { what: "connect to MySQL", limit }),
        }
    }

    /// Runs a query within the query timeout. `what` completes "cannot …".
    pub(crate) async fn within<T>(
        &self,
        what: &'static str,
        query: impl Future<Output = Result<T, mysql_async::Error>>,
    ) -> Result<T, SourceError> {
        let limit = self.options.query_timeout;
        match tokio::time::timeout(limit, query).await {
            Ok(answer) => answer.map_err(|source| SourceError::Query { what, source }),
            Err(_) => Err(SourceError::Deadline { what, limit }),
        }
    }

    /// The end of the binlog as of now. A transaction that ends before it may
    /// not be visible to a SELECT yet: see [`Source::wait_visible`].
    ///
    /// # Errors
    /// When the server cannot be asked or writes no binlog.
    pub async fn binlog_end(&self) -> Result<BinlogPlace, SourceError> {
        self.binlog_end_on(&mut self.connect().await?).await
    }

    /// [`Source::binlog_end`], asked on a connection that the caller has.
    ///
    /// # Errors
    /// As there.
    pub async fn binlog_end_on(&self, conn: &mut Conn) -> Result<BinlogPlace, SourceError> {
        const WHAT: &str = "read the end of the binlog";
        let statement = match conn.server_version() {
            version if version >= (8, 2, 0) => "SHOW BINARY LOG STATUS",
            _ => "SHOW MASTER STATUS",
        };
        let row: Option<Row> = self.within(WHAT, conn.query_first(statement)).await?;
        let place = row.and_then(|mut row| {
            let file = row.take_opt::<String, _>(0)?.ok()?;
            Some(BinlogPlace { file, offset: row.take_opt::<u64, _>(1)?.ok()? })
        });
        place.ok_or_else(|| SourceError::Answer { what: WHAT, reason: String::from("log_bin is OFF") })
    }

    /// Waits until SELECTs see all transactions of the set.
    ///
    /// # Errors
    /// When they do not before the limit, or the server cannot be asked.
    pub async fn wait_visible(&self, set: &GtidSet, limit: Duration) -> Result<(), SourceError> {
        self.wait_visible_on(&mut self.connect().await?, set, limit).await
    }

    /// [`Source::wait_visible`], asked on a connection that the caller has.
    ///
    /// # Errors
    /// As there.
    pub async fn wait_visible_on(
        &self,
        conn: &mut Conn,
        set: &GtidSet,
        limit: Duration,
    ) -> Result<(), SourceError> {
        const WHAT: &str = "wait until transactions are visible";
        let seconds = limit.as_secs_f64();
        let waiting = conn.exec_first("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)", (set.to_string(), seconds));
        let late = || SourceError::Deadline { what: WHAT, limit };
        let grace = limit + self.options.query_timeout;
        let timed_out: Option<Option<i64>> = tokio::time::timeout(grace, waiting)
            .await
            .map_err(|_| late())?
            .map_err(|source| SourceError::Query { what: WHAT, source })?;
        if timed_out.flatten() == Some(0) { Ok(()) } else { Err(late()) }
    }

    /// Whether the server has executed all transactions of the set.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn has_executed(&self, set: &GtidSet) -> Result<bool, SourceError> {
        const WHAT: &str = "compare GTID sets";
        let mut conn = self.connect().await?;
        let query = conn.exec_first("SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)", (set.to_string(),));
        let contained: Option<bool> = self.within(WHAT, query).await?;
        contained.ok_or_else(|| SourceError::Answer { what: WHAT, reason: String::from("no row") })
    }

    /// The GTIDs of all transactions that end at or before the place, which
    /// must be the end of one. They are read from the binlog file that holds
    /// it: what the server says of itself may be ahead of its position.
    ///
    /// # Errors
    /// When the file cannot be read, or the place lies inside a transaction.
    pub async fn gtid_set_at(&self, place: &BinlogPlace, server_id: u32) -> Result<GtidSet, SourceError> {
        const WHAT: &str = "read the GTIDs of a binlog file";
        let limit = self.options.query_timeout;
        let reading = self.read_gtids(place, server_id);
        tokio::time::timeout(limit, reading).await.map_err(|_| SourceError::Deadline { what: WHAT, limit })?
    }

    async fn read_gtids(&self, place: &BinlogPlace, server_id: u32) -> Result<GtidSet, SourceError> {
        let answer = |reason: String| SourceError::Answer { what: "read the GTIDs of a binlog file", reason };
        let target = place.position(0).map_err(|error| answer(error.to_string()))?;
        let options = StreamOptions {
            server_id,
            epoch: 0,
            from: BinlogPlace { file: place.file.clone(), offset: FIRST_EVENT_OFFSET },
            tables: TableFilter::none(),
            transaction_bytes_max: usize::MAX,
            heartbeat: Duration::from_secs(1),
            liveness: self.options.query_timeout,
        };
        let binlog = |error| SourceError::Binlog(Box::new(error));
        let mut stream = BinlogStream::open(self, options).await.map_err(binlog)?;
        let mut set = GtidSet::default();
        loop {
            let event = stream.next().await.map_err(binlog)?;
            let (begin, gtid) = match &event {
                crate::Event::Transaction(transaction) => (transaction.begin, transaction.gtid.as_deref()),
                crate::Event::Statement(statement) => (statement.begin, statement.gtid.as_deref()),
                crate::Event::Progress(position) => (*position, None),
            };
            if begin < target && event.end() > target {
                return Err(answer(format!("{}:{} lies inside a transaction", place.file, place.offset)));
            }
            if let Some(gtid) = gtid.filter(|_| event.end() <= target) {
                set.add(gtid).map_err(|error| answer(error.to_string()))?;
            }
            if let Some(previous) = stream.previous_gtids().filter(|_| event.end() >= target) {
                set.add(&previous.to_string()).map_err(|error| answer(error.to_string()))?;
                return Ok(set);
            }
        }
    }

    /// What the server's collation numbers mean.
    pub(crate) async fn collations(&self, conn: &mut Conn) -> Result<Collations, SourceError> {
        let query = "SELECT ID, COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATIONS";
        let rows: Vec<(u64, String, String)> = self.within("read the collations", conn.query(query)).await?;
        Ok(Collations::new(rows))
    }
}

fn connection_options(options: &SourceOptions) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(options.host.clone())
        .tcp_port(options.port)
        .user(Some(options.user.clone()))
        .pass(Some(options.password.clone()))
        .prefer_socket(Some(false))
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        // PAD_CHAR_TO_FULL_LENGTH would give CHAR values that the binlog lacks.
        // MySQL 8.0 remembers the sizes of tables for a day unless told not to.
        .setup(vec![
            "SET time_zone = '+00:00', sql_mode = '' /*!80000 , information_schema_stats_expiry = 0 */",
        ])
}
