//! Every character of the character sets that are not UTF-8.

use crate::server::{Database, database};
use mysql_async::Row as SqlRow;
use mysql_async::prelude::Queryable;
use tidemark_binlog::select_row;

/// Stores each code as bytes, and compares what the server makes of it.
async fn compare(mut database: Database, charset: &str, codes: Vec<Vec<u8>>) {
    database
        .run(&[&format!("CREATE TABLE t (id int PRIMARY KEY, c varchar(8) CHARACTER SET {charset})")])
        .await;
    let from = database.end().await;
    for (part, chunk) in codes.chunks(1000).enumerate() {
        let rows = chunk.iter().enumerate().map(|(at, code)| {
            let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("({}, x'{hex}')", part * 1000 + at)
        });
        database.run(&[&format!("INSERT INTO t VALUES {}", rows.collect::<Vec<_>>().join(","))]).await;
    }
    let to = database.end().await;
    let stored: Vec<_> = database.transactions(from, &to).await.into_iter().flat_map(|t| t.rows).collect();
    let table = database.source.describe(&database.name, "t").await.unwrap().unwrap().table;
    let selected: Vec<SqlRow> = database.conn.exec("SELECT id, c FROM t ORDER BY id", ()).await.unwrap();
    assert_eq!((stored.len(), selected.len()), (codes.len(), codes.len()));
    let mut differences = Vec::new();
    for ((change, row), code) in stored.into_iter().zip(selected).zip(&codes) {
        let (stored, selected) = (change.after.unwrap(), select_row(row, &table).unwrap());
        if stored != selected {
            differences.push(format!("{code:02x?}: {:?} {:?}", stored.token(1), selected.token(1)));
        }
    }
    assert!(differences.is_empty(), "{} differences: {:#?}", differences.len(), differences);
    database.drop().await;
}

#[tokio::test]
async fn latin1() {
    compare(database("latin1").await, "latin1", (1..=255u8).map(|byte| vec![byte]).collect()).await;
}

#[tokio::test]
async fn gbk() {
    let single = (1..=127u8).map(|byte| vec![byte]);
    let trails = (0x40..=0x7eu8).chain(0x80..=0xfe);
    let double = (0x81..=0xfeu8).flat_map(|lead| trails.clone().map(move |trail| vec![lead, trail]));
    compare(database("gbk").await, "gbk", single.chain(double).collect()).await;
}

#[tokio::test]
async fn utf16() {
    let characters = (1..=0xffffu32).chain((0x1_0000..0x11_0000).step_by(97)).filter_map(char::from_u32);
    let codes =
        characters.map(|c| c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()).collect());
    compare(database("utf16").await, "utf16", codes.collect()).await;
}
