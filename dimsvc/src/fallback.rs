//! Rows of the source by key: for lazy dimensions, and while the store is down.
//!
//! A read is a chunk of some rows with watermarks. Low is `applied` when it
//! begins, and all of it is made visible to the SELECT; high is the binlog's end
//! after the SELECT, and the read ends once `applied` has reached it. Who asks
//! has registered the keys in the heart before, so a change between the two
//! reaches the load and wins; a key that did not change has its row from low on.
//!
//! The source is the business database: one budget of queries, a few
//! connections and a breaker stand before it, for the whole process. A read
//! that fails is an error, never an absent row.

mod breaker;
mod budget;
mod connections;

use crate::{
    change::chunk::{ReadError, TableReader},
    dimension::{Image, Key},
    live::{Live, LiveDimension},
    metrics::Metrics,
};
use breaker::Breaker;
use budget::Budget;
use bytes::Bytes;
use connections::Connections;
use hashbrown::HashMap;
use mysql_async::Conn;
use parking_lot::Mutex;
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tidemark_binlog::{Source, SourceError};
use tidemark_proto::{Position, PositionError, config};

/// A question to the source that takes longer counts as failed: by key it takes
/// milliseconds.
const QUESTION_MAX: Duration = Duration::from_secs(2);

/// Who waited this long and then had no more time did not ask too little of it.
const FAIR: Duration = Duration::from_millis(500);

/// Reads rows of the source. Clones share budget, connections and breaker.
#[derive(Clone, Debug)]
pub struct Fallback(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    keys_per_read_max: usize,
    question_max: Duration,
    /// `None` forbids all.
    budget: Option<Budget>,
    breaker: Breaker,
    connections: Connections,
    readers: Mutex<HashMap<Arc<str>, Arc<TableReader>>>,
    /// Packed: SELECTs are known to see all up to here.
    visible: AtomicU64,
}

/// What the source has of some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRead {
    /// A row of a key that did not change since is valid from here on.
    pub low: Position,
    /// Image i is of key i; `None` where the source has no row.
    pub rows: Vec<Image>,
}

/// Why the source gave no rows.
#[derive(Debug, thiserror::Error)]
pub enum FallbackError {
    #[error("dimsvc.fallback.reads_per_second = 0 forbids reads of the source")]
    Forbidden,
    /// Refused to protect the source; the same read may succeed later.
    #[error("reads of the source are limited: {0}")]
    Overloaded(&'static str),
    #[error("the deadline passed while {0}")]
    Late(&'static str),
    #[error("the feed does not reach {0}, which the read may have seen")]
    Behind(Position),
    #[error("cannot read the source: {0}")]
    Read(#[from] ReadError),
    #[error("the source names a place that is none: {0}")]
    Position(#[from] PositionError),
    /// The source tells keys apart that the dimension folds into one.
    #[error("more than one row of dimension {dimension} has the key {key} once it is folded")]
    Ambiguous { dimension: String, key: String },
}

impl FallbackError {
    /// Whether it was refused to protect the source.
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::Overloaded(_))
    }

    /// Whether the same read may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded(_) | Self::Late(_) | Self::Behind(_) => true,
            Self::Read(error) => error.is_retryable(),
            Self::Forbidden | Self::Position(_) | Self::Ambiguous { .. } => false,
        }
    }
}

impl Fallback {
    /// Reads of `source` for the dimensions of `live`. Nothing is asked yet.
    pub fn new(source: Source, live: Arc<Live>, metrics: Arc<Metrics>, config: &config::Config) -> Self {
        let limits = &config.dimsvc.fallback;
        Self(Arc::new(Shared {
            source,
            live,
            metrics,
            keys_per_read_max: limits.keys_per_read_max.max(1),
            question_max: QUESTION_MAX.min(Duration::from_millis(config.mysql.query_timeout_ms)),
            budget: Budget::new(limits.reads_per_second, Instant::now()),
            breaker: Breaker::default(),
            connections: Connections::new(limits.connections.max(1)),
            readers: Mutex::default(),
            visible: AtomicU64::new(0),
        }))
    }

    /// Whether reads are allowed at all.
    pub fn is_allowed(&self) -> bool {
        self.0.budget.is_some()
    }

    /// Reads the keys, which their callers have registered as loads before.
    /// Takes one query of the budget for each `keys_per_read_max` of them.
    ///
    /// # Errors
    /// When the source is not to be asked, does not answer, or the feed does not
    /// reach what was seen; at once when the budget has no place before the
    /// deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time; a connection at work is then closed.
    pub async fn read(
        &self,
        live: &LiveDimension,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<SourceRead, FallbackError> {
        let shared = &self.0;
        if keys.is_empty() {
            return Ok(SourceRead { low: shared.live.applied.get(), rows: Vec::new() });
        }
        let started = Instant::now();
        let read = shared.admit_and_read(live, keys, deadline).await;
        let metrics = &shared.metrics.fallback;
        match &read {
            Ok(_) => metrics.seconds.observe(started.elapsed().as_secs_f64()),
            Err(FallbackError::Forbidden | FallbackError::Overloaded(_)) => metrics.refused.inc(),
            Err(_) => metrics.failed.inc(),
        }
        metrics.breaker_open.set(i64::from(shared.breaker.is_open()));
        read
    }
}

impl Shared {
    async fn admit_and_read(
        &self,
        live: &LiveDimension,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<SourceRead, FallbackError> {
        const LEFT_ALONE: FallbackError =
            FallbackError::Overloaded("MySQL failed and is left alone for a time");
        let budget = self.budget.as_ref().ok_or(FallbackError::Forbidden)?;
        if self.breaker.refuses(Instant::now()) {
            return Err(LEFT_ALONE);
        }
        let queries = keys.len().div_ceil(self.keys_per_read_max);
        let queries = u32::try_from(queries).unwrap_or(u32::MAX);
        let go = budget.reserve(queries, Instant::now(), deadline).ok_or(FallbackError::Overloaded(
            "dimsvc.fallback.reads_per_second leaves no query before the deadline",
        ))?;
        tokio::time::sleep_until(go.into()).await;
        let permit = before(deadline, "waiting for a connection", self.connections.permit()).await?;
        let passage = self.breaker.enter(Instant::now()).ok_or(LEFT_ALONE)?;
        self.metrics.fallback.queries.inc_by(u64::from(queries));
        let began = Instant::now();
        let asked = before(deadline, "MySQL was asked", self.ask(live, keys)).await.flatten();
        let failed = match &asked {
            Ok(_) => {
                passage.succeeded();
                None
            }
            Err(error @ FallbackError::Read(read)) if read.is_retryable() => Some(error),
            Err(error @ FallbackError::Late(_)) if began.elapsed() >= FAIR => Some(error),
            // It answered, or was not given the time to.
            Err(_) => None,
        };
        if let Some(error) = failed.filter(|_| passage.failed(Instant::now())) {
            tracing::warn!(%error, "reads of the source failed, it is left alone for a time");
        }
        drop((passage, permit));
        let Asked { read, high } = asked?;
        // What the SELECT may have seen of changes after low must have reached
        // the loads.
        if self.live.applied.reached(high, deadline).await {
            Ok(read)
        } else {
            Err(FallbackError::Behind(high))
        }
    }

    /// Asks on one connection: until low is visible, for the rows, for high.
    async fn ask(&self, live: &LiveDimension, keys: &[Key]) -> Result<Asked, FallbackError> {
        let mut conn = self.connections.take(&self.source, self.question_max).await?;
        let asked = self.ask_on(&mut conn, live, keys).await;
        match &asked {
            // One that failed may have an answer on its way.
            Err(FallbackError::Read(_)) => Connections::close(conn).await,
            _ => self.connections.give_back(conn),
        }
        asked
    }

    async fn ask_on(
        &self,
        conn: &mut Conn,
        live: &LiveDimension,
        keys: &[Key],
    ) -> Result<Asked, FallbackError> {
        let low = self.live.applied.get();
        self.make_visible(conn, low).await?;
        let mut rows = Vec::with_capacity(keys.len());
        for keys in keys.chunks(self.keys_per_read_max) {
            rows.extend(self.rows_of(conn, (live, low.before()), keys).await?);
        }
        let end = self.question(self.source.binlog_end_on(conn)).await?;
        Ok(Asked { read: SourceRead { low, rows }, high: end.position(self.live.epoch)? })
    }

    /// A server hands out a transaction before its engine shows it: waits until
    /// SELECTs see all that was applied.
    async fn make_visible(&self, conn: &mut Conn, low: Position) -> Result<(), ReadError> {
        if low.packed() <= self.visible.load(Ordering::Acquire) {
            return Ok(());
        }
        // Read after low: it has at least all of it.
        let set = self.live.gtids.seen();
        self.question(self.source.wait_visible_on(conn, &set, self.question_max)).await?;
        self.visible.fetch_max(low.packed(), Ordering::AcqRel);
        Ok(())
    }

    async fn rows_of(
        &self,
        conn: &mut Conn,
        (live, version): (&LiveDimension, Position),
        keys: &[Key],
    ) -> Result<Vec<Image>, FallbackError> {
        let name = &live.dimension.name;
        let known = self.readers.lock().get(name).cloned().filter(|reader| reader.fits(live, version));
        if let Some(reader) = known {
            match reader.rows_of(conn, keys).await {
                // A column may have come since it was described.
                Err(ReadError::Changed(_)) => drop(self.readers.lock().remove(name)),
                rows => return by_key(&reader, live, keys, &rows?),
            }
        }
        let reader = TableReader::open(&self.source, live, (version, self.question_max)).await?;
        let reader = Arc::new(reader);
        self.readers.lock().insert(Arc::clone(name), Arc::clone(&reader));
        let rows = reader.rows_of(conn, keys).await?;
        by_key(&reader, live, keys, &rows)
    }

    async fn question<T>(&self, asked: impl Future<Output = Result<T, SourceError>>) -> Result<T, ReadError> {
        let limit = self.question_max;
        Ok(tokio::time::timeout(limit, asked).await.map_err(|_| ReadError::Slow(limit))??)
    }
}

struct Asked {
    read: SourceRead,
    /// The SELECT may have seen changes up to here.
    high: Position,
}

/// The images of the keys asked for, in their order.
fn by_key(
    reader: &TableReader,
    live: &LiveDimension,
    keys: &[Key],
    rows: &[tidemark_binlog::Row],
) -> Result<Vec<Image>, FallbackError> {
    let mut found = HashMap::<Key, Bytes>::with_capacity(rows.len());
    for row in rows {
        let Some((key, image)) = reader.keyed(&live.dimension, row)? else { continue };
        if found.contains_key(&key) && keys.contains(&key) {
            let dimension = live.dimension.name.to_string();
            return Err(FallbackError::Ambiguous { dimension, key: format!("{key:?}") });
        }
        found.insert(key, image);
    }
    // By key and never by order: a collation may have found other rows too.
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

async fn before<T>(
    deadline: Instant,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, FallbackError> {
    tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| FallbackError::Late(what))
}
