//! A server that crashes, on a private instance.

use crate::server::{EPOCH, PATIENCE, database_on, read_to, settings_of, transactions, unique_server_id};
use std::process::Command;
use tidemark_binlog::{BinlogPlace, BinlogStream, Event, TableFilter};

const INSTANCE: &str = "binlog-restart";

/// Connections that were dropped are closed meanwhile.
async fn stack(arguments: &'static [&'static str]) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let running = tokio::task::spawn_blocking(move || {
        Command::new("dev/stack").args(arguments).current_dir(root).status().expect("dev/stack runs")
    });
    assert!(running.await.unwrap().success(), "dev/stack {arguments:?}");
}

#[tokio::test]
async fn a_stream_goes_on_after_a_crash_of_the_server() {
    stack(&["up", "mysql", "--instance", INSTANCE]).await;
    let settings = || settings_of(&["env", "mysql", "--instance", INSTANCE]);
    let mut database = database_on(&settings(), "restart").await;
    database.run(&["CREATE TABLE a (id int PRIMARY KEY)"]).await;
    let from = database.end().await;
    database.run(&["INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)"]).await;

    // when the server is killed while a stream follows it
    let mut stream = database.stream(from.clone()).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(stream.next().await.unwrap());
        seen.retain(|event| matches!(event, Event::Transaction(_)));
    }
    let killed = Command::new("kill").args(["-9", &settings()["TIDEMARK_MYSQL_PID"]]).status();
    assert!(killed.unwrap().success());
    let failing = async {
        loop {
            if let Err(error) = stream.next().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, failing).await.unwrap();
    assert!(error.is_retryable(), "{error}");
    stack(&["up", "mysql", "--instance", INSTANCE]).await;

    // then another stream goes on in the next file, and one from the start sees all
    let mut database = database_on(&settings(), "restart_again").await;
    database.run(&["CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (3)"]).await;
    let to = database.end().await;
    let last = seen.last().unwrap().end();
    let base = from.file.rsplit_once('.').unwrap().0;
    let resumed = database.transactions(BinlogPlace::new(base, last), &to).await;
    assert_eq!(resumed.len(), 1);
    assert!(resumed[0].begin.file() > last.file(), "the crash began a new file");
    let mut all = database.stream_options(from);
    all.tables = TableFilter::new(|_, table| table == "a");
    let mut stream = BinlogStream::open(&database.source, all).await.unwrap();
    let whole = transactions(read_to(&mut stream, to.position(EPOCH).unwrap()).await.unwrap());
    let ids = whole.iter().map(|transaction| transaction.rows[0].after.as_ref().unwrap().token(0).unwrap());
    assert_eq!(ids.collect::<Vec<_>>(), ["1", "2", "3"]);
    let set = database.source.gtid_set_at(&to, unique_server_id()).await.unwrap();
    database.source.wait_visible(&set, PATIENCE).await.unwrap();

    // a clean stop takes 10 s while the server has readers
    drop(stream);
    let leaving = async {
        while !database.readers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, leaving).await.expect("the server forgets its readers");
    stack(&["remove", "--instance", INSTANCE]).await;
    assert_eq!(to.position(EPOCH).unwrap().file(), resumed[0].end.file());
}
