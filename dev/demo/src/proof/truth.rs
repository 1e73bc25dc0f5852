//! The generator's log as tables in MySQL.
//!
//! Each dimension's table of versions has the source's columns and
//! `valid_from <= n < valid_to`, n being the number of a commit's GTID;
//! `order_commit` says in which commit an order was placed.

use crate::shop::{
    DIMENSIONS,
    database::Shop,
    log::{Log, OPEN, Version},
};
use anyhow::Result;
use tidemark_tests::mysql::{Session, literal};

const ROWS_MAX: usize = 1_000;

/// The database of the versions, beside the shop's.
pub(crate) fn database(shop: &Shop) -> String {
    format!("{}_truth", shop.database)
}

/// Writes the log, and returns a session in the shop's database. None of it
/// goes through the binlog: the line must not see it.
pub(crate) fn write(shop: &Shop, log: &Log) -> Result<Session> {
    let mut session = shop.session()?;
    let truth = database(shop);
    session.exec("SET sql_log_bin = 0")?;
    session.exec(&format!("DROP DATABASE IF EXISTS {truth}; CREATE DATABASE {truth}"))?;
    let versions = log.versions();
    for table in DIMENSIONS {
        session.exec(&format!(
            "CREATE TABLE {truth}.{table} AS SELECT *, CAST(0 AS SIGNED) AS valid_from, \
             CAST(0 AS SIGNED) AS valid_to FROM {table} LIMIT 0"
        ))?;
        let of_table = versions.iter().filter(|version| version.table == table);
        insert(&mut session, &format!("{truth}.{table}"), of_table.map(version_row))?;
        session.exec(&format!("ALTER TABLE {truth}.{table} ADD PRIMARY KEY (id, valid_from)"))?;
    }
    session.exec(&format!(
        "CREATE TABLE {truth}.order_commit (order_id bigint PRIMARY KEY, number bigint NOT NULL)"
    ))?;
    let orders = log
        .commits()
        .iter()
        .flat_map(|commit| commit.orders.iter().map(|order| format!("({order}, {})", commit.number)));
    insert(&mut session, &format!("{truth}.order_commit"), orders)?;
    Ok(session)
}

/// A join with the version of `table` that was valid in the order's commit `g`.
pub(crate) fn join(truth: &str, table: &str, key: &str) -> String {
    format!(
        "LEFT JOIN {truth}.{table} ON {table}.id = {key} AND g.number >= {table}.valid_from \
         AND g.number < {table}.valid_to"
    )
}

/// Whether the joined version was replaced later.
pub(crate) fn was_replaced(table: &str) -> String {
    format!("COALESCE({table}.valid_to < {OPEN}, FALSE)")
}

fn version_row(version: &Version) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    let columns: Vec<String> = version.row.iter().map(value).collect();
    format!("({}, {}, {})", columns.join(", "), version.from, version.to)
}

fn insert(session: &mut Session, table: &str, rows: impl Iterator<Item = String>) -> Result<()> {
    let rows: Vec<String> = rows.collect();
    for chunk in rows.chunks(ROWS_MAX) {
        session.exec(&format!("INSERT INTO {table} VALUES {}", chunk.join(", ")))?;
    }
    Ok(())
}
