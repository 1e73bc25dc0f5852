//! Each indicator over HTTP beside the same value by SQL in MySQL.
//!
//! A category or a province may be renamed within a window: the indicators
//! then show one of the window's names, so names are compared with all that
//! the last window has.

use super::{Check, Columns, Ground, columns, number, shown, truth};
use crate::{line::Line, shop::database::Shop};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_tests::{http, mysql::Session};

/// More than the example has categories.
const LIMIT: u32 = 10_000;

/// An indicator that lists groups.
struct Listing {
    indicator: &'static str,
    parameters: String,
    id: &'static str,
    name: &'static str,
    measures: [&'static str; 2],
    /// MySQL's facts of the day, as `id, name, amount, create_time`.
    facts: String,
}

#[derive(Deserialize)]
struct Answer {
    rows: Vec<BTreeMap<String, Box<RawValue>>>,
}

/// Compares every indicator for a day.
pub(crate) fn compare(line: &Line, ground: &mut Ground<'_>, date: &str) -> Result<Vec<Check>> {
    let session = &mut ground.session;
    let mut checks = gmv(line, session, date)?;
    for listing in [categories(ground.shop, date), provinces(ground.shop, date)] {
        checks.push(compare_list(line, session, &listing)?);
    }
    checks.push(registrations(line, session, date)?);
    Ok(checks)
}

fn gmv(line: &Line, session: &mut Session, date: &str) -> Result<Vec<Check>> {
    let ours = ask(line, "gmv", &format!("date={date}"))?;
    let sql = format!("SELECT SUM(total_amount), COUNT(*) FROM order_info WHERE {}", on("create_time", date));
    let theirs = session.rows(&sql)?.into_iter().next().unwrap_or_default();
    let check = |name: &str, at: usize| {
        let mysql = theirs.get(at).and_then(Option::as_ref);
        Check::new(format!("gmv: {name}"), first(&ours, name), shown(mysql))
    };
    Ok(vec![check("gmv", 0), check("order_count", 1)])
}

fn registrations(line: &Line, session: &mut Session, date: &str) -> Result<Check> {
    let ours = ask(line, "user_registrations", &format!("date={date}"))?;
    let theirs =
        session.value(&format!("SELECT COUNT(*) FROM user_info WHERE {}", on("create_time", date)))?;
    Ok(Check::new("user_registrations", first(&ours, "users"), shown(theirs.as_ref())))
}

fn categories(shop: &Shop, date: &str) -> Listing {
    let truth = truth::database(shop);
    Listing {
        indicator: "top_categories",
        parameters: format!("date={date}&limit={LIMIT}"),
        id: "category3_id",
        name: "category",
        measures: ["amount", "lines"],
        facts: format!(
            "SELECT sku_info.category3_id AS id, base_category3.name AS name, od.split_total_amount AS amount, \
             od.create_time FROM order_detail od JOIN {truth}.order_commit g ON g.order_id = od.order_id {} {} \
             WHERE {}",
            truth::join(&truth, "sku_info", "od.sku_id"),
            truth::join(&truth, "base_category3", "sku_info.category3_id"),
            on("od.create_time", date)
        ),
    }
}

fn provinces(shop: &Shop, date: &str) -> Listing {
    let truth = truth::database(shop);
    Listing {
        indicator: "gmv_by_province",
        parameters: format!("date={date}"),
        id: "province_id",
        name: "province",
        measures: ["gmv", "orders"],
        facts: format!(
            "SELECT oi.province_id AS id, base_province.name AS name, oi.total_amount AS amount, oi.create_time \
             FROM order_info oi JOIN {truth}.order_commit g ON g.order_id = oi.id {} WHERE {}",
            truth::join(&truth, "base_province", "oi.province_id"),
            on("oi.create_time", date)
        ),
    }
}

fn compare_list(line: &Line, session: &mut Session, listing: &Listing) -> Result<Check> {
    let rows = ask(line, listing.indicator, &listing.parameters)?;
    let ours: Vec<[String; 3]> = rows
        .iter()
        .map(|row| {
            let cell = |name: &str| shown(row.get(name).and_then(Option::as_ref));
            let [amount, count] = listing.measures;
            [cell(listing.id), cell(amount), cell(count)]
        })
        .collect();
    let sql = format!(
        "SELECT id, SUM(amount) AS total, COUNT(*) FROM ({}) AS fact GROUP BY id ORDER BY total DESC, id",
        listing.facts
    );
    let theirs: Vec<Vec<String>> =
        session.rows(&sql)?.iter().map(|row| row.iter().map(|cell| shown(cell.as_ref())).collect()).collect();
    let different = (0..ours.len().max(theirs.len()))
        .filter(|at| ours.get(*at).map(<[String; 3]>::as_slice) != theirs.get(*at).map(Vec::as_slice))
        .count();
    let misnamed = misnamed(session, listing, &rows)?;
    let total = |rows: usize| format!("{rows} rows, 0 different, 0 misnamed");
    let line = format!("{} rows, {different} different, {misnamed} misnamed", ours.len());
    Ok(Check::new(listing.indicator, line, total(theirs.len())))
}

/// Groups that are shown under a name which no fact of their last window has.
fn misnamed(session: &mut Session, listing: &Listing, rows: &[Columns]) -> Result<usize> {
    let sql = format!(
        "SELECT DISTINCT id, name FROM (SELECT id, name, RANK() OVER (PARTITION BY id ORDER BY \
         FLOOR(UNIX_TIMESTAMP(create_time) / 10) DESC) AS age FROM ({}) AS fact WHERE name IS NOT NULL) AS named \
         WHERE age = 1",
        listing.facts
    );
    let mut names: BTreeMap<Option<String>, BTreeSet<String>> = BTreeMap::new();
    for row in session.rows(&sql)? {
        let mut cells = row.into_iter();
        let id = cells.next().flatten();
        names.entry(id).or_default().extend(cells.next().flatten());
    }
    let is_right = |row: &&Columns| {
        let allowed = names.get(&row.get(listing.id).cloned().flatten());
        match (row.get(listing.name).cloned().flatten(), allowed) {
            (Some(name), Some(allowed)) => allowed.contains(&name),
            (name, allowed) => name.is_none() && allowed.is_none(),
        }
    };
    Ok(rows.len() - rows.iter().filter(is_right).count())
}

fn ask(line: &Line, indicator: &str, parameters: &str) -> Result<Vec<Columns>> {
    let url = format!("http://{}/indicators/{indicator}?{parameters}", line.ads_address);
    let body = http::get(&url).and_then(http::Response::success).with_context(|| format!("GET {url}"))?;
    let answer: Answer = serde_json::from_str(&body).with_context(|| format!("read the answer of {url}"))?;
    Ok(answer.rows.iter().map(columns).collect())
}

fn first(rows: &[Columns], name: &str) -> String {
    let value = rows.first().and_then(|row| row.get(name)).and_then(Option::as_deref);
    value.map_or_else(|| "null".to_owned(), number)
}

/// The times of a day, without a function around the column.
fn on(column: &str, date: &str) -> String {
    format!("{column} >= '{date}' AND {column} < '{date}' + INTERVAL 1 DAY")
}
