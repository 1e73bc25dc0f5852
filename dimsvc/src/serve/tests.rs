//! Lookups over a dimension in memory: what the wire promises.

mod indexes;
mod loads;

use super::{Lookups, read::ReadError, status::ServeError};
use crate::{
    apply::Room,
    cache::{Change, Filling, TierKind},
    dimension::{Image, Key, Row, TableRows, VersionedRow},
    fallback::Fallback,
    gtids::RecentGtids,
    live::{Identity, Live, LiveDimension},
    load::{LoadError, Loader},
    metrics::Metrics,
    registry::{Dimension, DimensionColumn, KeyColumn},
    shared::SharedTier,
    store::{Store, StorePool, memory::MemoryStore},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tidemark_binlog::{ColumnKind, GtidSet, Source, SourceOptions};
use tidemark_proto::{
    Position,
    config::{Config, Fold, Limits, Mysql, Shared},
    dim::v1::{self, KeyBlock, LookupRequest, TableLookup, read_point::Point},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const BIGINT: ColumnKind = ColumnKind::Integer { unsigned: false, bits: 64 };

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

fn image(text: &str) -> Image {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn dimension(tier: TierKind) -> Dimension {
    let column = |name: &str| DimensionColumn {
        name: name.into(),
        kind: BIGINT,
        mysql_type: "bigint".into(),
        nullable: name != "id",
    };
    Dimension {
        database: "shop".into(),
        columns: vec![column("id"), column("n")],
        key: vec![0],
        key_columns: vec![KeyColumn { name: "id".into(), kind: BIGINT, fold: Fold::Exact }],
        ..Dimension::new("sku", tier)
    }
}

fn lookups(dimensions: Vec<Arc<LiveDimension>>, store: Arc<dyn Store>) -> Lookups {
    let identity = Identity { start: at(10), epoch: 1, server_uuid: String::new(), store_id: "0".repeat(32) };
    let live = Arc::new(Live::new(dimensions, identity, RecentGtids::new(GtidSet::default())));
    let source = Source::new(SourceOptions::from(&Mysql::default()));
    let metrics = Arc::new(Metrics::try_new().unwrap());
    let mut config = Config::default();
    config.dimsvc.fallback.reads_per_second = 0;
    let loader = Loader {
        store: StorePool::new(store, 1, 64, Duration::from_secs(5)),
        shared: SharedTier::try_new(&Shared::default(), &live.store_id, metrics.shared.clone()).unwrap(),
        fallback: Fallback::new(source.clone(), Arc::clone(&live), Arc::clone(&metrics), &config),
        metrics: Arc::clone(&metrics),
        timeout: Duration::from_secs(5),
        tasks: TaskTracker::new(),
    };
    let limits = Limits { wait_max_ms: 50, keys_per_lookup_max: 3, ..Limits::default() };
    Lookups {
        live,
        loader,
        source,
        metrics,
        limits,
        room: Room::new(1 << 20),
        stop: CancellationToken::new(),
    }
}

struct Service {
    lookups: Lookups,
    live: Arc<LiveDimension>,
    store: Arc<MemoryStore>,
}

impl Service {
    /// A complete dimension with history from 10 on, in which nothing happened.
    fn new(tier: TierKind) -> Self {
        Self::of(vec![dimension(tier)])
    }

    /// Complete dimensions; the first is the one that [`Self::commit`] changes.
    fn of(dimensions: Vec<Dimension>) -> Self {
        let store = Arc::new(MemoryStore::default());
        let complete = |dimension: Dimension| {
            store.create_table(&dimension.sink_table).unwrap();
            let live = Arc::new(LiveDimension::new(dimension, at(10)));
            if let Some(filling) = Filling::begin(&live.cache) {
                filling.end();
            }
            live.set_complete();
            live
        };
        let dimensions: Vec<_> = dimensions.into_iter().map(complete).collect();
        let live = Arc::clone(&dimensions[0]);
        let lookups = lookups(dimensions, Arc::clone(&store) as Arc<dyn Store>);
        lookups.live.feed.follow();
        Self { lookups, live, store }
    }

    /// The same over another store.
    fn over(self, store: Arc<dyn Store>) -> Self {
        let dimensions = self.lookups.live.dimensions().cloned().collect();
        let lookups = lookups(dimensions, store);
        lookups.live.applied.advance(self.lookups.live.applied.get());
        Self { lookups, ..self }
    }

    fn lru() -> Self {
        Self::new(TierKind::Lru { bytes_max: 1 << 20, time_to_live: None })
    }

    /// A transaction of one row, applied and durable.
    fn commit(&self, begin: u64, id: u32, after: Image) {
        let key = Key::from_canonical(format!("[{id}]"));
        self.live.cache.apply(at(begin), &[Change { key: key.clone(), before: None, after: after.clone() }]);
        let rows = vec![VersionedRow { key, version: at(begin), image: after }];
        self.store.write(&[TableRows { table: "dim_sku".into(), rows }]).unwrap();
        self.lookups.live.applied.advance(at(begin + 1));
        self.live.cache.forget(at(begin + 1));
    }

    async fn plain(&self, keys: &[&str], point: Point) -> Result<Vec<v1::Answer>, ServeError> {
        let plain_keys = keys.iter().map(|key| String::from(*key)).collect();
        let table = TableLookup { table: "sku".into(), plain_keys, ..Default::default() };
        let answers = self.lookup(table, point).await?;
        Ok(answers.answers)
    }

    async fn lookup(&self, table: TableLookup, point: Point) -> Result<v1::TableAnswers, ServeError> {
        let read_point = Some(v1::ReadPoint { point: Some(point) });
        let request = LookupRequest { id: 7, tables: vec![table], read_point, ..Default::default() };
        let response = self.lookups.lookup(request, None).await?;
        assert_eq!(response.id, 7);
        Ok(response.tables.into_iter().next().unwrap())
    }
}

fn latest() -> Point {
    Point::Latest(v1::Latest {})
}

fn packed(position: Position) -> v1::Position {
    v1::Position { place: Some(v1::position::Place::Packed(position.packed())) }
}

fn as_of(offset: u64) -> Point {
    Point::AsOf(packed(at(offset)))
}

#[tokio::test]
async fn each_position_reads_the_row_that_its_transaction_saw() {
    for service in [Service::lru(), Service::new(TierKind::Full)] {
        service.commit(100, 1, image(r#"{"id":1,"n":1}"#));
        service.commit(200, 1, image(r#"{"id":1,"n":2}"#));
        service.commit(300, 1, None);
        let expect = [
            (100, ""),
            (101, r#"{"id":1,"n":1}"#),
            (200, r#"{"id":1,"n":1}"#),
            (201, r#"{"id":1,"n":2}"#),
            (301, ""),
        ];
        for (position, row) in expect {
            let answer = service.plain(&["[1]"], as_of(position)).await.unwrap().remove(0);
            assert_eq!((answer.row.as_str(), answer.found), (row, !row.is_empty()), "as of {position}");
            assert!(answer.from < at(position).packed());
            assert!(answer.to == 0 || answer.to >= at(position).packed());
        }
        assert!(!service.plain(&["[1]"], latest()).await.unwrap().remove(0).found);
    }
}

#[tokio::test]
async fn columnar_keys_get_columnar_answers_with_a_position_each() {
    let service = Service::lru();
    service.commit(100, 1, image(r#"{"id":1,"n":1}"#));
    service.commit(200, 1, image(r#"{"id":1,"n":2}"#));
    let table = TableLookup {
        table: "sku".into(),
        keys: Some(KeyBlock { text: Bytes::from_static(b"[1][1][ 2 ]"), ends: vec![3, 6, 11] }),
        positions: vec![at(150).packed(), at(201).packed(), at(201).packed()],
        columns: vec!["n".into()],
        ..Default::default()
    };
    let answers = service.lookup(table, Point::AsOfEach(v1::AsOfEach {})).await.unwrap();
    assert_eq!(answers.rows.as_ref(), br#"{"n":1}{"n":2}"#);
    assert_eq!(answers.row_ends, [7, 14, 14]);
    assert_eq!(answers.flags.as_ref(), [1, 1, 0]);
    assert_eq!(answers.versions, [at(100).packed(), at(200).packed(), 0]);
}

/// Fails when `Timeline::resolve` gives positions up to the floor back as they
/// are, or without the mark.
#[tokio::test]
async fn positions_before_history_answer_as_of_the_floor_and_say_so() {
    let service = Service::new(TierKind::Full);
    let filling = Filling::begin(&service.live.cache).unwrap();
    filling.add([Row::new(b"[1]", at(9), Some(br#"{"id":1,"n":0}"#))].into_iter());
    filling.end();
    let old = service.plain(&["[1]", "[2]"], as_of(5)).await.unwrap();
    assert!(old.iter().all(|answer| answer.before_history));
    assert_eq!((old[0].row.as_str(), old[1].found), (r#"{"id":1,"n":0}"#, false));
    let newest = service.plain(&["[1]"], latest()).await.unwrap();
    assert!(!newest[0].before_history);
}

/// A client reads both positions from the error.
fn assert_not_applied(error: ServeError, wanted: Position, applied: Position) {
    let status = tonic::Status::from(error);
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let details = tonic_types::StatusExt::get_error_details(&status);
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "NOT_APPLIED_YET");
    let told = [&info.metadata["wanted"], &info.metadata["applied"]];
    assert_eq!(told, [&wanted.to_string(), &applied.to_string()]);
}

#[tokio::test]
async fn a_position_that_is_not_applied_in_time_is_an_error_with_both_positions() {
    let service = Service::lru();
    let error = service.plain(&["[1]"], Point::AtLeast(packed(at(500)))).await.unwrap_err();
    assert_not_applied(error, at(500), at(10));
}

/// Fails without the wait for `greatest` in `settle`, or when `answer` takes the
/// least of the positions for it.
#[tokio::test]
async fn of_positions_a_key_none_is_read_before_all_are_applied() {
    let service = Service::lru();
    service.commit(100, 1, image(r#"{"id":1,"n":1}"#));
    service.commit(200, 1, image(r#"{"id":1,"n":2}"#));
    let table = TableLookup {
        table: "sku".into(),
        plain_keys: vec!["[1]".into(), "[1]".into()],
        positions: vec![at(150).packed(), at(500).packed()],
        ..Default::default()
    };
    let error = service.lookup(table, Point::AsOfEach(v1::AsOfEach {})).await.unwrap_err();
    assert_not_applied(error, at(500), at(201));
}

#[tokio::test]
async fn a_lookup_waits_for_its_position() {
    let service = Service::lru();
    let lookup = service.plain(&["[1]"], Point::AtLeast(packed(at(101))));
    let (answers, ()) = tokio::join!(lookup, async {
        tokio::task::yield_now().await;
        service.commit(100, 1, image(r#"{"id":1,"n":1}"#));
    });
    assert!(answers.unwrap()[0].found);
}

/// Fails when a store error becomes an empty answer.
#[tokio::test]
async fn a_store_that_fails_is_never_an_absent_row() {
    let service = Service::lru();
    let failing = Arc::new(crate::store::memory::Failing::new(Arc::clone(&service.store) as Arc<dyn Store>));
    failing.set_failing(true);
    let service = service.over(failing);
    let error = service.plain(&["[1]"], latest()).await.unwrap_err();
    assert!(matches!(error, ServeError::Read(ReadError::Load(LoadError::Store(_)))), "{error}");
}

#[tokio::test]
async fn an_incomplete_dimension_answers_nothing() {
    let service = Service::lru();
    let loading = Arc::new(LiveDimension::new(dimension(TierKind::Full), at(10)));
    let identity = Identity { start: at(10), epoch: 1, server_uuid: String::new(), store_id: String::new() };
    let live = Arc::new(Live::new(vec![loading], identity, RecentGtids::new(GtidSet::default())));
    let service = Service { lookups: Lookups { live, ..service.lookups }, ..service };
    assert!(matches!(service.plain(&["[1]"], latest()).await.unwrap_err(), ServeError::Loading(_)));
}

#[tokio::test]
async fn wrong_requests_are_refused_by_name() {
    let service = Service::lru();
    let table = |table: TableLookup| TableLookup { table: "sku".into(), ..table };
    let plain = |keys: &[&str]| {
        table(TableLookup {
            plain_keys: keys.iter().map(|key| String::from(*key)).collect(),
            ..Default::default()
        })
    };
    let cases = [
        (TableLookup { table: "nope".into(), ..Default::default() }, "no dimension `nope`"),
        (plain(&["[\"x\"]"]), "key column `id` takes a whole number"),
        (plain(&["[1]", "[2]", "[3]", "[4]"]), "4 keys in one lookup, at most 3"),
        (TableLookup { columns: vec!["m".into()], ..plain(&["[1]"]) }, "no column `m`"),
        (TableLookup { positions: vec![1, 2], ..plain(&["[1]"]) }, "2 positions for 1 keys"),
        (TableLookup { positions: vec![1], ..plain(&["[1]"]) }, "`as_of_each` alone"),
        (
            table(TableLookup {
                keys: Some(KeyBlock { text: Bytes::from_static(b"[1]"), ends: vec![9] }),
                ..Default::default()
            }),
            "not within `text`",
        ),
    ];
    for (table, expect) in cases {
        let error = service.lookup(table, latest()).await.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    let future = Point::AsOf(packed(Position::try_new(2, 1, 1).unwrap()));
    let error = service.plain(&["[1]"], future).await.unwrap_err();
    assert!(matches!(error, ServeError::Unresolved(_)), "{error}");
}
