//! What the server says of itself and of its tables.

use crate::server::{PATIENCE, database, options, unique_server_id};
use mysql_async::prelude::Queryable;
use std::time::Duration;
use tidemark_binlog::{Charset, ColumnKind, GtidSet, Source, SourceError, SourceOptions};

#[tokio::test]
async fn the_stacks_server_is_fit() {
    let source = Source::new(options());
    let server = source.check().await.unwrap();
    assert_eq!(server.uuid.len(), 36);
    assert!(server.version.starts_with('8') || server.version.starts_with('9'), "{}", server.version);
    assert!(source.binlog_end().await.unwrap().file.starts_with(&format!("{}.", server.base_name)));
}

#[tokio::test]
async fn missing_rights_are_problems_with_their_fix() {
    let mut database = database("rights").await;
    let user = database.name.clone();
    database
        .run(&[
            &format!("DROP USER IF EXISTS {user}"),
            &format!("CREATE USER {user} IDENTIFIED WITH mysql_native_password BY 'p'"),
            &format!("GRANT SELECT ON *.* TO {user}"),
        ])
        .await;
    let source = Source::new(SourceOptions { user: user.clone(), password: String::from("p"), ..options() });
    let error = source.check().await.unwrap_err();
    let SourceError::Unfit(problems) = &error else { panic!("{error}") };
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains(&format!("GRANT REPLICATION SLAVE ON *.* TO '{user}'")), "{problems:?}");
    assert!(problems[1].contains("GRANT REPLICATION CLIENT"), "{problems:?}");
    database.run(&[&format!("DROP USER {user}")]).await;
    database.drop().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_with_its_address() {
    let source = Source::new(SourceOptions { port: 1, ..options() });
    let error = source.check().await.unwrap_err();
    assert!(matches!(error, SourceError::Connect { .. }) && error.is_retryable(), "{error}");
    assert_eq!(error.to_string(), "cannot connect to MySQL at 127.0.0.1:1");
}

#[tokio::test]
async fn a_table_is_described() {
    let mut database = database("describe").await;
    database
        .run(&[
            "CREATE TABLE parent (id int PRIMARY KEY) ENGINE = InnoDB",
            "CREATE TABLE child (b varchar(10) COLLATE utf8mb4_0900_as_cs NOT NULL, a bigint unsigned NOT NULL, \
             c enum('x','it''s') CHARACTER SET latin1, d int, price decimal(16,2) NOT NULL, e char(3) NOT NULL, \
             PRIMARY KEY (a, b), UNIQUE KEY e (e), UNIQUE KEY prefix (b(3)), UNIQUE KEY nullable (d), \
             FOREIGN KEY (d) REFERENCES parent (id) ON DELETE CASCADE)",
            "CREATE TABLE plain (id int, FOREIGN KEY (id) REFERENCES parent (id)) ENGINE = InnoDB",
            "CREATE TABLE old (id int) ENGINE = MyISAM",
            "CREATE VIEW v AS SELECT * FROM parent",
        ])
        .await;
    let describe = async |table| database.source.describe(&database.name, table).await.unwrap();
    let child = describe("child").await.unwrap();
    let names: Vec<&str> = child.table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "c", "d", "price", "e"]);
    assert_eq!(child.table.primary_key, [1, 0]);
    assert_eq!(child.unique_keys, [vec![1, 0], vec![5]]);
    assert_eq!(child.engine, "InnoDB");
    assert!(child.is_cascade_child);
    assert_eq!(child.columns[4].column_type, "decimal(16,2)");
    assert_eq!(
        child.columns.iter().map(|column| column.nullable).collect::<Vec<_>>(),
        [false, false, true, true, false, false]
    );
    assert_eq!(
        child.table.columns[0].kind,
        ColumnKind::Text { charset: Charset::Utf8, case_insensitive: false }
    );
    assert_eq!(
        child.table.columns[5].kind,
        ColumnKind::Text { charset: Charset::Utf8, case_insensitive: true }
    );
    assert_eq!(child.table.columns[1].kind, ColumnKind::Integer { unsigned: true, bits: 64 });
    assert!(!describe("plain").await.unwrap().is_cascade_child);
    assert_eq!(describe("old").await.unwrap().engine, "MyISAM");
    assert_eq!(describe("v").await, None);
    assert_eq!(describe("nothing").await, None);
    database.drop().await;
}

#[tokio::test]
async fn waiting_for_a_transaction_that_never_comes_ends_at_the_limit() {
    let source = Source::new(options());
    let mut future = GtidSet::default();
    future.add(&format!("{}:1", "f".repeat(8) + "-0000-0000-0000-000000000001")).unwrap();
    let error = source.wait_visible(&future, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, SourceError::Deadline { .. }), "{error}");
    source.wait_visible(&GtidSet::default(), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_place_inside_a_transaction_has_no_gtid_set() {
    let mut database = database("inside").await;
    let begin = database.end().await;
    database.run(&["CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)"]).await;
    let inside = tidemark_binlog::BinlogPlace { offset: begin.offset + 1, ..begin };
    let error = database.source.gtid_set_at(&inside, unique_server_id()).await.unwrap_err();
    assert!(error.to_string().contains("inside a transaction"), "{error}");
    database.drop().await;
}

#[tokio::test]
async fn connections_read_in_utc() {
    let mut conn = Source::new(options()).connect().await.unwrap();
    let zone: String = conn.query_first("SELECT @@time_zone").await.unwrap().unwrap();
    assert_eq!(zone, "+00:00");
}
