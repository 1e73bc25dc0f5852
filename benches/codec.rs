//! Codecs: the change envelope beside `serde_json::Value`, rows of the binlog
//! beside the driver's own decoder, rows to images and keys of a dimension.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dimsvc::{
    cache::TierKind,
    registry::{Dimension, DimensionColumn, KeyColumn, RowShape, write_key},
};
use mysql_async::binlog::{
    BinlogVersion,
    events::{Event, FormatDescriptionEvent, TableMapEvent, WriteRowsEvent},
};
use std::hint::black_box;
use tidemark_benches::{OrderDetail, key, write_order_detail};
use tidemark_binlog::{CapturedRows, Row, Table};
use tidemark_proto::{Position, config::Fold, envelope::Envelope};

/// A TABLE_MAP event and a WRITE_ROWS event of 16 rows of `sku_info`, as a
/// MySQL 8 server wrote them, without checksums.
const EVENTS: &str = include_str!("codec/events.hex");
/// Wire keys of one measured pass.
const KEYS: u64 = 256;

fn line() -> OrderDetail {
    let at = |offset| Position::try_new(1, 12, offset).expect("the offset fits");
    OrderDetail {
        id: 1_234_567,
        order: 345_678,
        sku: 23_456,
        user: 34_567,
        begin: at(7_654_000),
        end: at(7_654_321),
        commit: false,
    }
}

fn envelope(criterion: &mut Criterion) {
    let mut message = Vec::new();
    write_order_detail(&mut message, "gmall", &line());
    let mut group = criterion.benchmark_group("envelope");
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("read", |b| {
        b.iter(|| Envelope::parse(black_box(&message)).expect("it is an envelope").data.len());
    });
    group.bench_function("read with serde_json::Value", |b| {
        b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&message)).expect("it is JSON"));
    });
    let (line, mut out) = (line(), Vec::with_capacity(1_024));
    group.bench_function("write", |b| {
        b.iter(|| {
            out.clear();
            write_order_detail(&mut out, "gmall", black_box(&line));
            out.len()
        });
    });
    group.finish();
}

/// The two events of [`EVENTS`].
fn events() -> (Vec<u8>, Vec<u8>) {
    let bytes = |block: &str| {
        let digits: Vec<u32> = block.chars().filter_map(|c| c.to_digit(16)).collect();
        digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
            .collect()
    };
    let (table_map, rows) = EVENTS.split_once("\n\n").expect("there are two events");
    (bytes(table_map), bytes(rows))
}

fn captured() -> CapturedRows {
    let (table_map, rows) = events();
    let collation = (255, String::from("utf8mb4_0900_ai_ci"), String::from("utf8mb4"));
    CapturedRows::try_new(&table_map, &rows, [collation]).expect("the events are whole")
}

fn inserted(captured: &CapturedRows) -> Vec<Row> {
    let rows = captured.decode().expect("the rows are whole");
    let rows: Vec<Row> = rows.into_iter().filter_map(|(_, after)| after).collect();
    assert_eq!(rows.len(), 16, "rates are counted in rows");
    rows
}

fn binlog(criterion: &mut Criterion) {
    let captured = captured();
    let mut group = criterion.benchmark_group("binlog rows");
    group.throughput(Throughput::Elements(inserted(&captured).len() as u64));
    group.bench_function("to JSON tokens", |b| {
        b.iter(|| captured.decode().expect("the rows are whole").len())
    });
    let (table_map, rows) = events();
    let format = FormatDescriptionEvent::new(BinlogVersion::Version4);
    let read = |packet: &[u8]| Event::read(&format, packet).expect("the events are whole");
    let (table_map, rows) = (read(&table_map), read(&rows));
    let table_map: TableMapEvent<'_> = table_map.read_event().expect("it is a table map");
    // To the driver's values: no text is written yet.
    group.bench_function("to mysql_async's values", |b| {
        b.iter(|| {
            let rows: WriteRowsEvent<'_> = rows.read_event().expect("it is a rows event");
            for row in rows.rows(&table_map) {
                black_box(row.expect("the rows are whole"));
            }
        });
    });
    group.finish();
}

/// All columns of the table, with its first one as the key.
fn dimension(table: &Table) -> Dimension {
    let column = |column: &tidemark_binlog::Column| DimensionColumn {
        name: column.name.clone(),
        kind: column.kind.clone(),
        mysql_type: String::new(),
        nullable: true,
    };
    let columns: Vec<DimensionColumn> = table.columns.iter().map(column).collect();
    let id = columns.first().expect("the table has columns").clone();
    Dimension {
        database: table.database.clone(),
        columns,
        key: vec![0],
        key_columns: vec![KeyColumn { name: id.name, kind: id.kind, fold: Fold::Exact }],
        ..Dimension::new(&table.name, TierKind::Full)
    }
}

fn shape(criterion: &mut Criterion) {
    let captured = captured();
    let dimension = dimension(captured.table());
    let shape = RowShape::new(&dimension, captured.table()).expect("the columns are the table's");
    let rows = inserted(&captured);
    let mut group = criterion.benchmark_group("dimension row");
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("image", |b| {
        b.iter(|| {
            rows.iter().map(|row| shape.image(&dimension, row).expect("a whole row").len()).sum::<usize>()
        });
    });
    group.bench_function("key", |b| {
        b.iter(|| {
            for row in &rows {
                black_box(shape.key(&dimension, row).expect("a key"));
            }
        });
    });
    let wire: Vec<String> =
        (0..KEYS).map(|id| String::from_utf8_lossy(&key(id * 389)).into_owned()).collect();
    let mut canonical = Vec::new();
    group.throughput(Throughput::Elements(KEYS));
    group.bench_function("key off the wire", |b| {
        b.iter(|| {
            canonical.clear();
            for text in &wire {
                write_key(&mut canonical, &dimension.key_columns, text).expect("it is a key");
            }
            canonical.len()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = envelope, binlog, shape
}
criterion_main!(benches);
