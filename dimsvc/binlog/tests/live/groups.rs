//! Where transactions begin and end, and what is in them.

use crate::server::{Database, EPOCH, PATIENCE, database, read_to, transactions, unique_server_id};
use mysql_async::prelude::Queryable;
use tidemark_binlog::{BinlogPlace, Event, GtidSet, StreamError, TableFilter, Transaction};
use tidemark_proto::envelope::RowKind;

/// `i:1` is an insert of 1, `u:1>2` an update, `d:2` a delete.
fn story(transaction: &Transaction) -> String {
    let rows = transaction.rows.iter().map(|change| {
        let token = |row: &Option<tidemark_binlog::Row>| row.as_ref().unwrap().token(0).unwrap().to_owned();
        let text = match change.kind {
            RowKind::Update => format!("u:{}>{}", token(&change.before), token(&change.after)),
            RowKind::Delete => format!("d:{}", token(&change.before)),
            _ => format!("i:{}", token(&change.after)),
        };
        format!("{} {text}", change.table.name)
    });
    rows.collect::<Vec<_>>().join(", ")
}

fn stories(transactions: &[Transaction]) -> Vec<String> {
    transactions.iter().map(story).collect()
}

/// A bit of everything that makes groups.
async fn make_history(database: &mut Database) {
    database
        .run(&[
            "CREATE TABLE a (id int PRIMARY KEY, v varchar(20))",
            "CREATE TABLE b (id int PRIMARY KEY, v varchar(20))",
            "INSERT INTO a VALUES (1, 'x'), (2, 'y')",
            "BEGIN",
            "INSERT INTO b VALUES (1, 'x')",
            "UPDATE a SET id = 3 WHERE id = 2",
            "DELETE FROM a WHERE id = 1",
            "COMMIT",
            "FLUSH LOGS",
            "BEGIN",
            "INSERT INTO a VALUES (9, 'rolled back')",
            "ROLLBACK",
            "BEGIN",
            "INSERT INTO a VALUES (4, 'kept')",
            "SAVEPOINT s",
            "INSERT INTO a VALUES (5, 'undone')",
            "ROLLBACK TO s",
            "INSERT INTO a VALUES (6, 'kept')",
            "COMMIT",
            "ALTER TABLE a ADD COLUMN w int DEFAULT 5 FIRST, DROP COLUMN v",
            "INSERT INTO a VALUES (7, 7)",
            "TRUNCATE TABLE b",
            "FLUSH LOGS",
            "CREATE TABLE c AS SELECT id FROM a WHERE id = 3",
            "INSERT INTO b VALUES (8, 'z')",
        ])
        .await;
}

#[tokio::test]
async fn transactions_are_whole_and_in_order() {
    let mut database = database("order").await;
    let from = database.end().await;
    make_history(&mut database).await;
    let to = database.end().await;
    let transactions = database.transactions(from, &to).await;
    let expect = ["a i:1, a i:2", "b i:1, a u:2>3, a d:1", "a i:4, a i:6", "a i:7", "c i:3", "b i:8"]
        .map(String::from);
    assert_eq!(stories(&transactions), expect);
    for transaction in &transactions {
        assert!(transaction.xid.is_some() && transaction.gtid.is_some() && transaction.ts > 1_600_000_000);
        assert!(
            transaction
                .rows
                .iter()
                .all(|row| transaction.begin < row.position && row.position < transaction.end)
        );
        assert_eq!(
            transaction.file.rsplit_once('.').unwrap().1.parse::<u64>().unwrap(),
            transaction.end.file()
        );
    }
    let altered = &transactions[3].rows[0].table;
    assert_eq!(altered.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["w", "id"]);
    assert_eq!(altered.primary_key, [1]);
    database.drop().await;
}

#[tokio::test]
async fn begins_and_ends_are_those_that_the_server_prints() {
    let mut database = database("offsets").await;
    let from = database.end().await;
    make_history(&mut database).await;
    let to = database.end().await;
    let events = database.events(from.clone(), &to).await;
    for event in events {
        let (begin, end, gtid) = match event {
            Event::Transaction(transaction) => (transaction.begin, transaction.end, transaction.gtid),
            Event::Statement(statement) => (statement.begin, statement.end, statement.gtid),
            Event::Progress(_) => continue,
        };
        let base = from.file.rsplit_once('.').unwrap().0;
        let place = BinlogPlace::new(base, begin);
        let query = format!("SHOW BINLOG EVENTS IN '{}' FROM {}", place.file, place.offset);
        let printed: Vec<(String, u64, String, u32, u64, String)> = database.conn.query(query).await.unwrap();
        let (_, first_offset, first_type, _, _, first_text) = printed.first().unwrap();
        assert_eq!((*first_offset, first_type.as_str()), (begin.offset(), "Gtid"));
        assert!(first_text.contains(&*gtid.unwrap()), "{first_text}");
        let group_end = printed.iter().skip(1).find(|event| event.2 == "Gtid" || event.2 == "Rotate");
        let group_end = group_end.map_or(printed.last().unwrap().4, |next| next.1);
        assert_eq!(group_end, end.offset());
    }
    database.drop().await;
}

#[tokio::test]
async fn statements_come_between_transactions() {
    let mut database = database("ddl").await;
    let from = database.end().await;
    make_history(&mut database).await;
    let to = database.end().await;
    let events = database.events(from, &to).await;
    let own = events.iter().filter_map(|event| match event {
        Event::Statement(statement) if statement.database == database.name => Some(statement.sql.as_str()),
        _ => None,
    });
    let own: Vec<&str> = own.collect();
    assert_eq!(own.len(), 4, "{own:?}");
    assert!(own[2].starts_with("ALTER TABLE a") && own[3].starts_with("TRUNCATE TABLE b"), "{own:?}");
    let ends: Vec<_> = events.iter().map(Event::end).collect();
    assert!(ends.is_sorted(), "ends never go back");
    database.drop().await;
}

#[tokio::test]
async fn a_resume_from_any_end_gives_the_identical_rest() {
    let mut database = database("resume").await;
    let from = database.end().await;
    make_history(&mut database).await;
    let to = database.end().await;
    let base = from.file.rsplit_once('.').unwrap().0.to_owned();
    let last = to.position(EPOCH).unwrap();
    let groups = |events: &[Event]| {
        let groups =
            events.iter().filter(|event| event.end() <= last && !matches!(event, Event::Progress(_)));
        groups.map(|group| format!("{group:?}")).collect::<Vec<_>>()
    };
    let whole = database.events(from, &to).await;
    for (at, event) in whole.iter().enumerate() {
        let rest = database.events(BinlogPlace::new(&base, event.end()), &to).await;
        assert_eq!(groups(&rest), groups(&whole[at + 1..]), "after {}", event.end());
    }
    database.drop().await;
}

#[tokio::test]
async fn tables_that_nobody_asked_for_give_no_rows() {
    let mut database = database("filter").await;
    let from = database.end().await;
    make_history(&mut database).await;
    let to = database.end().await;
    let mut options = database.stream_options(from);
    options.tables = TableFilter::of([(database.name.clone(), String::from("b"))]);
    let mut stream = tidemark_binlog::BinlogStream::open(&database.source, options).await.unwrap();
    let events = read_to(&mut stream, to.position(EPOCH).unwrap()).await.unwrap();
    assert_eq!(stories(&transactions(events)), ["b i:1", "b i:8"]);
    database.drop().await;
}

#[tokio::test]
async fn a_compressed_transaction_reads_like_any_other() {
    let mut database = database("compressed").await;
    database
        .run(&["CREATE TABLE a (id int PRIMARY KEY, v text)", "SET binlog_transaction_compression = ON"])
        .await;
    let from = database.end().await;
    database
        .run(&[
            "INSERT INTO a VALUES (1, REPEAT('x', 5000)), (2, REPEAT('y', 90000))",
            "UPDATE a SET v = 'z' WHERE id = 2",
            "SET binlog_transaction_compression = OFF",
            "INSERT INTO a VALUES (3, '')",
        ])
        .await;
    let to = database.end().await;
    let transactions = database.transactions(from, &to).await;
    assert_eq!(stories(&transactions), ["a i:1, a i:2", "a u:2>2", "a i:3"]);
    let [packed, second, plain] = transactions.as_slice() else { panic!() };
    assert!(packed.rows.iter().all(|row| row.position == packed.end && row.ts > 1_600_000_000));
    assert!(packed.end <= second.begin && second.end <= plain.begin && packed.xid.is_some());
    assert!(plain.rows[0].position < plain.end, "only rows of a payload share its end");
    database.drop().await;
}

#[tokio::test]
async fn an_idle_server_makes_progress_by_heartbeat() {
    let database = database("idle").await;
    let end = database.end().await;
    let mut stream = database.stream(end.clone()).await;
    let event = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
    assert!(event.end() >= end.position(EPOCH).unwrap());
    database.drop().await;
}

#[tokio::test]
async fn the_gtids_at_every_end_are_those_that_went_before() {
    let mut database = database("gtids").await;
    let from = database.end().await;
    make_history(&mut database).await;
    let to = database.end().await;
    let mut expect = database.source.gtid_set_at(&from, unique_server_id()).await.unwrap();
    let base = from.file.rsplit_once('.').unwrap().0.to_owned();
    for event in database.events(from, &to).await {
        match &event {
            Event::Transaction(transaction) => expect.add(transaction.gtid.as_ref().unwrap()).unwrap(),
            Event::Statement(statement) => expect.add(statement.gtid.as_ref().unwrap()).unwrap(),
            Event::Progress(_) => {}
        }
        let set = database
            .source
            .gtid_set_at(&BinlogPlace::new(&base, event.end()), unique_server_id())
            .await
            .unwrap();
        assert_eq!(set, expect, "at {}", event.end());
    }
    let executed: String = database.conn.query_first("SELECT @@GLOBAL.gtid_executed").await.unwrap().unwrap();
    assert!(executed.parse::<GtidSet>().unwrap().contains(&expect));
    database.source.wait_visible(&expect, PATIENCE).await.unwrap();
    database.drop().await;
}

async fn failure(database: &Database, from: BinlogPlace) -> StreamError {
    let mut stream = database.stream(from).await;
    let failing = async {
        loop {
            if let Err(error) = stream.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(PATIENCE, failing).await.expect("the stream fails")
}

#[tokio::test]
async fn changes_that_cannot_be_followed_are_loud() {
    for (test, statements, expect) in [
        (
            "minimal",
            &["SET binlog_row_image = MINIMAL", "UPDATE a SET v = 'y' WHERE id = 1"][..],
            "binlog_row_image = 'FULL'",
        ),
        (
            "statement",
            &["SET binlog_format = STATEMENT", "UPDATE a SET v = 'y' WHERE id = 1"],
            "binlog_format = 'ROW'",
        ),
        (
            "partial",
            &[
                "SET binlog_row_value_options = PARTIAL_JSON",
                "UPDATE a SET j = JSON_SET(j, '$.x', 1) WHERE id = 1",
            ],
            "binlog_row_value_options = ''",
        ),
        (
            "xa",
            &[
                "XA START 'tidemark'",
                "INSERT INTO a VALUES (2, '', NULL)",
                "XA END 'tidemark'",
                "XA PREPARE 'tidemark'",
                "XA ROLLBACK 'tidemark'",
            ],
            "XA",
        ),
    ] {
        let mut database = database(test).await;
        let document = "JSON_OBJECT('x', 0, 'pad', REPEAT('p', 500))";
        database.run(&["CREATE TABLE a (id int PRIMARY KEY, v text, j json)"]).await;
        database.run(&[&format!("INSERT INTO a VALUES (1, 'x', {document})")]).await;
        let from = database.end().await;
        database.run(statements).await;
        let error = failure(&database, from).await;
        assert!(matches!(error, StreamError::Unfit { .. }) && !error.is_retryable(), "{test}: {error}");
        assert!(error.to_string().contains(expect), "{test}: {error}");
        assert!(
            test == "statement" || error.to_string().contains(&format!("{}.a", database.name)),
            "{error}"
        );
        database.drop().await;
    }
}

#[tokio::test]
async fn a_place_that_the_server_does_not_have_is_a_gap() {
    let database = database("purged").await;
    let end = database.end().await;
    let gone = BinlogPlace { file: String::from("binlog.999998"), offset: 4 };
    let beyond = BinlogPlace { offset: end.offset + 1_000_000_000, ..end };
    for place in [gone, beyond] {
        let error = failure(&database, place).await;
        assert!(matches!(error, StreamError::Purged { .. }) && !error.is_retryable(), "{error}");
    }
    database.drop().await;
}

#[tokio::test]
async fn a_second_reader_with_the_same_id_ends_the_first() {
    let mut database = database("twin").await;
    let end = database.end().await;
    let options = database.stream_options(end);
    let mut first = tidemark_binlog::BinlogStream::open(&database.source, options.clone()).await.unwrap();
    tokio::time::timeout(PATIENCE, first.next()).await.unwrap().unwrap();
    let mut second = tidemark_binlog::BinlogStream::open(&database.source, options).await.unwrap();
    tokio::time::timeout(PATIENCE, second.next()).await.unwrap().unwrap();
    database.run(&["CREATE TABLE t (id int)"]).await;
    let failing = async {
        loop {
            if let Err(error) = first.next().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, failing).await.unwrap();
    assert_eq!(error, StreamError::DuplicateServerId);
    database.drop().await;
}

#[tokio::test]
async fn a_transaction_over_the_bound_ends_the_stream() {
    let mut database = database("large").await;
    database.run(&["CREATE TABLE a (id int PRIMARY KEY, v text)"]).await;
    let from = database.end().await;
    database.run(&["INSERT INTO a VALUES (1, REPEAT('x', 60000)), (2, REPEAT('x', 60000))"]).await;
    let mut options = database.stream_options(from);
    options.transaction_bytes_max = 100_000;
    let mut stream = tidemark_binlog::BinlogStream::open(&database.source, options).await.unwrap();
    let to = database.end().await.position(EPOCH).unwrap();
    let error = read_to(&mut stream, to).await.unwrap_err();
    assert!(matches!(error, StreamError::TransactionTooLarge { bytes_max: 100_000, .. }), "{error}");
    database.drop().await;
}

#[tokio::test]
async fn a_dropped_stream_leaves_the_server() {
    let mut database = database("leave").await;
    let options = database.stream_options(database.end().await);
    let id = options.server_id;
    let mut stream = tidemark_binlog::BinlogStream::open(&database.source, options).await.unwrap();
    stream.next().await.unwrap();
    assert!(database.readers().await.contains(&id));
    drop(stream);
    let leaving = async {
        while database.readers().await.contains(&id) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, leaving).await.expect("the server forgets the reader");
    database.drop().await;
}
