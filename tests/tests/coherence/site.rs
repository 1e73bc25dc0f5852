//! What the replicas share: the store and its faults, Redis, the transactions
//! that the source has committed, and the checker that knows them all.

use crate::{late::Late, replica::Replica};
use anyhow::{Context as _, Result};
use dimsvc::{
    cache::{TierKind, Timeline},
    dimension::{Key, TableRows, VersionedRow},
    registry::{Dimension, DimensionColumn, KeyColumn},
    state::{Checkpoint, Definition, DimensionState, State, StateCells},
    store::{
        Store, StorePool,
        memory::{Failing, MemoryStore, Slow},
    },
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tidemark_binlog::{BinlogPlace, Column, ColumnKind, Table, Transaction};
use tidemark_proto::{Position, config::Fold};
use tidemark_tests::{coherence::Checker, redis::RedisServer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Keys of each table; the first [`ACCOUNTS`] hold a sum that no transaction
/// changes.
pub(crate) const KEYS: usize = 4_096;
pub(crate) const ACCOUNTS: usize = 4;
pub(crate) const BALANCE: i64 = 1_000;
/// One with rows that come and go, one with every row resident.
pub(crate) const TABLES: [&str; 2] = ["sku", "shop"];
/// A part of the first table: its rows come and go all the time.
const LRU_BYTES: u64 = 1_250_000;
const TIME_TO_LIVE: Duration = Duration::from_secs(5);
/// Where history begins.
pub(crate) const FLOOR: u64 = 1_000;
/// More than a reader's window back has.
const VERSIONS_MAX: usize = 512;
const BIGINT: ColumnKind = ColumnKind::Integer { unsigned: false, bits: 64 };
const FILE: &str = "binlog.000001";
const STORE_CALL: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Site {
    memory: Arc<MemoryStore>,
    pub(crate) failing: Arc<Failing>,
    pub(crate) slow: Arc<Slow>,
    pub(crate) late: Arc<Late>,
    pub(crate) redis: tokio::sync::Mutex<RedisServer>,
    pub(crate) redis_url: String,
    pub(crate) checker: Checker,
    /// Judged so far.
    pub(crate) checks: AtomicU64,
    pub(crate) stop: CancellationToken,
    replicas: RwLock<Vec<Arc<Replica>>>,
    log: Mutex<VecDeque<Transaction>>,
    /// The log or a replica has moved.
    pub(crate) moved: Notify,
    pub(crate) tables: [Arc<Table>; 2],
}

pub(crate) fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).expect("a run is shorter than 4 GiB of log")
}

/// The checker's number of a key.
pub(crate) fn number_of(table: usize, id: usize) -> usize {
    table * KEYS + id
}

pub(crate) fn row_text(id: usize, n: i64, stamp: u64) -> String {
    format!(r#"{{"id":{id},"n":{n},"stamp":{stamp}}}"#)
}

impl Site {
    /// A loaded store and two replicas of which the first writes.
    pub(crate) async fn start() -> Result<Arc<Self>> {
        let memory = Arc::new(MemoryStore::default());
        let failing = Arc::new(Failing::new(Arc::clone(&memory) as Arc<dyn Store>));
        failing.set_failing(false);
        let slow = Arc::new(Slow::new(Arc::clone(&failing) as Arc<dyn Store>));
        slow.release();
        let late = Arc::new(Late::new(Arc::clone(&slow) as Arc<dyn Store>));
        let redis = RedisServer::start().await?;
        let checker = Checker::new(TABLES.len() * KEYS, VERSIONS_MAX, at(FLOOR));
        let site = Self {
            redis_url: redis.url(),
            redis: tokio::sync::Mutex::new(redis),
            memory,
            failing,
            slow,
            late,
            checker,
            checks: AtomicU64::new(0),
            stop: CancellationToken::new(),
            replicas: RwLock::default(),
            log: Mutex::default(),
            moved: Notify::new(),
            tables: TABLES.map(binlog_table),
        };
        site.load().await?;
        let site = Arc::new(site);
        for (number, writes) in [true, false].into_iter().enumerate() {
            let replica = Replica::start(&site, &name_of(number), writes).await?;
            site.replicas.write().push(Arc::new(replica));
        }
        Ok(site)
    }

    /// First rows and the cells of a finished first load.
    async fn load(&self) -> Result<()> {
        let pool = self.pool();
        let checkpoint = Checkpoint { file: FILE.into(), offset: FLOOR, gtid_set: String::new() };
        StateCells::create(&pool, State::new(String::new(), checkpoint, at(FLOOR))).await?;
        let mut cells = StateCells::read(&pool).await?.context("the cells were made")?;
        cells.take_over("loader").await?;
        let mut added = Vec::new();
        for (table, dimension) in self.dimensions().into_iter().enumerate() {
            pool.create_table(Arc::clone(&dimension.sink_table)).await?;
            self.load_rows(table, &dimension).await?;
            added.push((dimension.name.to_string(), loaded(&dimension)));
        }
        cells.add(added).await?;
        Ok(())
    }

    async fn load_rows(&self, table: usize, dimension: &Dimension) -> Result<()> {
        let row = |id: usize| {
            let there = id < ACCOUNTS || !id.is_multiple_of(8);
            self.checker.begins_with(number_of(table, id), there.then_some(id as u64));
            let image = there.then(|| row_text(id, first_value(id), id as u64).into());
            let key = Key::from_canonical(format!("[{id}]"));
            VersionedRow { key, version: at(FLOOR).before(), image }
        };
        let rows: Vec<_> = (0..KEYS).map(row).filter(|row| row.image.is_some()).collect();
        for rows in rows.chunks(1_000) {
            let rows = TableRows { table: Arc::clone(&dimension.sink_table), rows: rows.to_vec() };
            self.pool().write(vec![rows]).await?;
        }
        Ok(())
    }

    /// The store as a replica sees it: it may fail, hang, or answer late.
    pub(crate) fn pool(&self) -> StorePool {
        StorePool::new(Arc::clone(&self.late) as Arc<dyn Store>, 4, 256, STORE_CALL)
    }

    pub(crate) fn dimensions(&self) -> [Dimension; 2] {
        let lru = TierKind::Lru { bytes_max: LRU_BYTES, time_to_live: Some(TIME_TO_LIVE) };
        [dimension("sku", lru, true), dimension("shop", TierKind::Full, false)]
    }

    pub(crate) fn replica(&self, number: usize) -> Arc<Replica> {
        let replicas = self.replicas.read();
        Arc::clone(replicas.get(number % replicas.len()).expect("a number below the length"))
    }

    /// Kills a replica and starts it again.
    pub(crate) async fn restart(self: &Arc<Self>, number: usize) -> Result<()> {
        let writes = *self.replica(number).may_write.borrow();
        self.replica(number).kill();
        let replica = Arc::new(Replica::start(self, &name_of(number), writes).await?);
        if let Some(place) = self.replicas.write().get_mut(number) {
            *place = replica;
        }
        Ok(())
    }

    /// What the slowest replica has applied.
    pub(crate) fn applied(&self) -> Position {
        let applied = |replica: &Arc<Replica>| replica.live().applied.get();
        self.replicas.read().iter().map(applied).min().unwrap_or(at(FLOOR))
    }

    /// Commits at the source: replicas will follow.
    pub(crate) fn commit(&self, transaction: Transaction) {
        self.log.lock().push_back(transaction);
        self.moved.notify_waiters();
    }

    /// The transaction that begins at or after a position.
    pub(crate) fn committed_after(&self, position: Position) -> Option<Transaction> {
        let log = self.log.lock();
        let place = log.partition_point(|transaction| transaction.begin < position);
        log.get(place).cloned()
    }

    /// Lets go of what no replica will follow again.
    pub(crate) async fn trim(&self) -> Result<()> {
        let pool = StorePool::new(Arc::clone(&self.memory) as Arc<dyn Store>, 1, 4, STORE_CALL);
        let checkpoint = place(&StateCells::peek(&pool).await?.checkpoint.place())?.min(self.applied());
        let mut log = self.log.lock();
        let kept = log.partition_point(|transaction| transaction.end <= checkpoint);
        log.drain(..kept);
        Ok(())
    }
}

fn name_of(replica: usize) -> String {
    format!("replica-{replica}")
}

/// The position of a place of the only file.
pub(crate) fn place(place: &BinlogPlace) -> Result<Position> {
    Ok(Position::try_new(1, Position::file_number(&place.file)?, place.offset)?)
}

pub(crate) fn first_value(id: usize) -> i64 {
    if id < ACCOUNTS { BALANCE } else { 0 }
}

fn loaded(dimension: &Dimension) -> DimensionState {
    DimensionState {
        term: 0,
        definition: Definition::of(dimension),
        timeline: Timeline::new(at(FLOOR)),
        floor_place: (FILE.into(), FLOOR),
        complete: true,
        loaded_rows: KEYS as u64,
        loaded_to: None,
        repairing: None,
    }
}

fn dimension(name: &str, tier: TierKind, shared: bool) -> Dimension {
    let column = |name: &str| DimensionColumn {
        name: name.into(),
        kind: BIGINT,
        mysql_type: "bigint".into(),
        nullable: false,
    };
    Dimension {
        database: "shop".into(),
        columns: ["id", "n", "stamp"].map(column).into(),
        key: vec![0],
        key_columns: vec![KeyColumn { name: "id".into(), kind: BIGINT, fold: Fold::Exact }],
        order_key: vec![0],
        shared,
        ..Dimension::new(name, tier)
    }
}

fn binlog_table(name: &str) -> Arc<Table> {
    let columns = ["id", "n", "stamp"].map(|name| Column { name: name.into(), kind: BIGINT });
    Arc::new(Table {
        database: "shop".into(),
        name: name.into(),
        columns: columns.into(),
        primary_key: vec![0],
    })
}
