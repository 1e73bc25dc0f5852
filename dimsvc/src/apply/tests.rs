//! What the applier promises: when `applied` moves, and what changes nothing.

use super::*;
use crate::{
    cache::{TierKind, Timeline},
    gtids::RecentGtids,
    live::Identity,
    registry::{Dimension, DimensionColumn, KeyColumn},
};
use futures_util::poll;
use std::time::{Duration, Instant};
use tidemark_binlog::{Column, ColumnKind, GtidSet, Row, Table};
use tidemark_proto::{config::Fold, envelope::RowKind};
use tokio::{sync::oneshot, task::JoinSet};

const PATIENCE: Duration = Duration::from_secs(20);
const INT: ColumnKind = ColumnKind::Integer { unsigned: false, bits: 32 };
const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).unwrap()
}

/// A loaded dimension of table `shop.SOURCE`.
fn dimension(name: &str, source: &str, timeline: Timeline) -> Arc<LiveDimension> {
    let id = DimensionColumn { name: "id".into(), kind: INT, mysql_type: "int".into(), nullable: false };
    let dimension = Dimension {
        database: "shop".into(),
        source: source.into(),
        columns: vec![id],
        key: vec![0],
        key_columns: vec![KeyColumn { name: "id".into(), kind: INT, fold: Fold::Exact }],
        ..Dimension::new(name, TierKind::Full)
    };
    let live = LiveDimension::with_timeline(dimension, timeline);
    live.set_loaded();
    Arc::new(live)
}

/// What applies from 10 on, and what the writer gets.
fn applying(dimensions: Vec<Arc<LiveDimension>>) -> (Arc<Live>, Applier, mpsc::Receiver<Pending>) {
    let identity = Identity { start: at(10), epoch: 1, server_uuid: String::new(), store_id: String::new() };
    let live = Live::new(dimensions, identity, RecentGtids::new(GtidSet::default())).sampling(8);
    let (live, metrics) = (Arc::new(live), Arc::new(Metrics::try_new().unwrap()));
    let (writer, pending) = mpsc::channel(8);
    (Arc::clone(&live), Applier::new(live, metrics, Room::new(1 << 20), writer), pending)
}

/// A transaction that inserts one row into each table.
fn inserts(begin: u64, number: u64, tables: &[&str]) -> Event {
    let insert = |name: &&str| RowChange {
        table: Arc::new(Table {
            database: "shop".into(),
            name: String::from(*name),
            columns: vec![Column { name: "id".into(), kind: INT }],
            primary_key: vec![0],
        }),
        kind: RowKind::Insert,
        position: at(begin + 1),
        ts: 0,
        before: None,
        after: Some(Row::from_iter(["1"])),
    };
    Event::Transaction(Transaction {
        begin: at(begin),
        end: at(begin + 1),
        gtid: Some(format!("{SERVER}:{number}").into()),
        xid: None,
        ts: 0,
        file: "binlog.000001".into(),
        rows: tables.iter().map(insert).collect(),
    })
}

fn truncates(begin: u64, table: &str) -> Event {
    let sql = format!("TRUNCATE {table}");
    Event::Statement(Statement {
        begin: at(begin),
        end: at(begin + 1),
        gtid: None,
        database: "shop".into(),
        sql,
    })
}

/// Fails when `apply_transaction` calls `advance` before `cache.apply`: a
/// reader would see one dimension's half of the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applied_moves_after_every_dimension_has_the_transaction() {
    let of = |name| dimension(name, name, Timeline::new(at(10)));
    let (sku, spu) = (of("sku"), of("spu"));
    let (live, mut applier, _pending) = applying(vec![Arc::clone(&sku), Arc::clone(&spu)]);
    // Without room it stops where it has looked at both dimensions.
    let all_room = applier.room.take(applier.room.bytes_max()).await;
    let mut apply = Box::pin(async move { applier.apply(inserts(100, 1, &["sku", "spu"])).await.unwrap() });
    assert!(poll!(&mut apply).is_pending());
    let mut tasks = JoinSet::new();
    let (holds, held) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let holder = Arc::clone(&spu);
    tasks.spawn_blocking(move || {
        holder.cache.with_tier(|_, _| {
            holds.send(()).unwrap();
            drop(released.blocking_recv());
        });
    });
    held.await.unwrap();
    drop(all_room);
    tasks.spawn(apply);
    let deadline = Instant::now() + PATIENCE;
    // It is noted just before it enters memory.
    while !live.recent.take(8, Position::MAX).iter().any(|noted| *noted.dimension == *"spu") {
        assert!(Instant::now() < deadline, "the second dimension's turn did not come in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!((live.applied.get(), sku.cache.overlay_versions()), (at(10), 1));
    release.send(()).unwrap();
    assert!(live.applied.reached(at(101), deadline).await, "it is applied in time");
    assert_eq!(spu.cache.overlay_versions(), 1);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Fails without the error in `note_gtid`, and when `apply` notes the GTID
/// after it has applied the event.
#[tokio::test]
async fn a_transaction_that_comes_again_is_refused_and_changes_nothing() {
    let sku = dimension("sku", "sku", Timeline::new(at(10)));
    let (live, mut applier, mut pending) = applying(vec![Arc::clone(&sku)]);
    applier.apply(inserts(100, 1, &["sku"])).await.unwrap();
    assert_eq!(pending.recv().await.unwrap().end, at(101));
    let error = applier.apply(inserts(200, 1, &["sku"])).await.unwrap_err();
    assert!(matches!(error, ApplyError::SeenBefore { at: end, .. } if end == at(201)), "{error}");
    assert_eq!((live.applied.get(), sku.cache.overlay_versions()), (at(101), 1));
    assert!(pending.try_recv().is_err());
    applier.apply(inserts(300, 2, &["sku"])).await.unwrap();
    assert_eq!((live.applied.get(), sku.cache.overlay_versions()), (at(301), 2));
}

/// A restart repeats the binlog from before what the store has of a dimension.
/// Fails without `source.from` in `collapse` (the row), and in
/// `apply_statement` (the truncation).
#[tokio::test]
async fn what_comes_before_all_is_settled_changes_nothing() {
    let mut repaired = Timeline::new(at(10));
    repaired.add_unknown(at(20), at(100));
    let settled = dimension("settled", "t", repaired);
    let other = dimension("other", "t", Timeline::new(at(10)));
    let (live, mut applier, mut pending) = applying(vec![Arc::clone(&settled), Arc::clone(&other)]);
    let versions = || (settled.cache.overlay_versions(), other.cache.overlay_versions());
    let truncated = |live: &LiveDimension| live.cache.timeline().truncated().collect::<Vec<_>>();

    applier.apply(inserts(98, 1, &["t"])).await.unwrap();
    let rows = pending.recv().await.unwrap().rows;
    assert_eq!((versions(), rows.len()), ((0, 1), 1));
    assert_eq!(&*rows[0].table, "dim_other");
    applier.apply(truncates(99, "t")).await.unwrap();
    let timelines = pending.recv().await.unwrap().timelines;
    assert_eq!((truncated(&settled), truncated(&other)), (vec![], vec![at(99)]));
    assert!(matches!(&timelines[..], [changed] if Arc::ptr_eq(changed, &other)));
    assert_eq!(live.applied.get(), at(100));

    applier.apply(inserts(100, 2, &["t"])).await.unwrap();
    applier.apply(truncates(101, "t")).await.unwrap();
    assert_eq!((versions(), truncated(&settled)), ((1, 2), vec![at(101)]));
}
