//! Rows of dwd_trade_order_detail, column by column, beside the dimension rows
//! that were valid in each fact's own transaction.

use super::{Columns, Ground, catch_up::DwdTopics, columns, latest, number, shown, truth};
use crate::{line::Line, random::Random, screen, shop::database::Shop};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

pub(crate) const TOPIC: &str = "dwd_trade_order_detail";
const SAMPLE: usize = 1_000;
const SHOWN_MAX: usize = 5;

/// A dimension that the enriched row joins.
pub(super) struct Join {
    pub(super) table: &'static str,
    /// The enriched row's column that holds its key.
    pub(super) key: &'static str,
    /// The same as an expression of SQL.
    key_sql: &'static str,
    /// Whether the key is text in JSON.
    pub(super) key_is_text: bool,
    /// (the dimension's column, the enriched row's).
    pub(super) columns: &'static [(&'static str, &'static str)],
}

/// Every joined dimension, those that give keys first.
pub(super) const JOINS: [Join; 8] = [
    Join {
        table: "sku_info",
        key: "sku_id",
        key_sql: "od.sku_id",
        key_is_text: false,
        columns: &[
            ("sku_name", "sku_name"),
            ("price", "sku_price"),
            ("spu_id", "spu_id"),
            ("category3_id", "category3_id"),
            ("tm_id", "tm_id"),
        ],
    },
    Join {
        table: "spu_info",
        key: "spu_id",
        key_sql: "sku_info.spu_id",
        key_is_text: false,
        columns: &[("spu_name", "spu_name")],
    },
    Join {
        table: "base_category3",
        key: "category3_id",
        key_sql: "sku_info.category3_id",
        key_is_text: false,
        columns: &[("name", "category3_name"), ("category2_id", "category2_id")],
    },
    Join {
        table: "base_category2",
        key: "category2_id",
        key_sql: "base_category3.category2_id",
        key_is_text: false,
        columns: &[("name", "category2_name"), ("category1_id", "category1_id")],
    },
    Join {
        table: "base_category1",
        key: "category1_id",
        key_sql: "base_category2.category1_id",
        key_is_text: false,
        columns: &[("name", "category1_name")],
    },
    Join {
        table: "base_trademark",
        key: "tm_id",
        key_sql: "sku_info.tm_id",
        key_is_text: false,
        columns: &[("tm_name", "tm_name")],
    },
    Join {
        table: "base_province",
        key: "province_id",
        key_sql: "oi.province_id",
        key_is_text: false,
        columns: &[("name", "province_name"), ("region_id", "region_id")],
    },
    Join {
        table: "base_region",
        key: "region_id",
        key_sql: "base_province.region_id",
        key_is_text: true,
        columns: &[("region_name", "region_name")],
    },
];

/// Columns of the fact itself and of its order.
const FACT_COLUMNS: [&str; 11] = [
    "od.id",
    "od.order_id",
    "oi.user_id",
    "oi.province_id",
    "od.sku_id",
    "od.order_price",
    "od.sku_num",
    "od.split_total_amount",
    "od.split_activity_amount",
    "od.split_coupon_amount",
    "od.create_time",
];

/// What the comparison of a sample found.
pub(crate) struct Sample {
    rows: usize,
    /// Rows that join something which was replaced later.
    changed: usize,
    /// Rows that join something which was not there.
    absent: usize,
    /// Rows with a wrong column or none at all, in words.
    wrong: Vec<String>,
    /// Rows that a lookup of the newest rows would have got wrong.
    wrong_by_latest: usize,
}

#[derive(Deserialize)]
struct Message {
    data: BTreeMap<String, Box<RawValue>>,
}

/// Compares a sample, rows first whose dimension rows have changed since.
pub(crate) async fn compare(
    line: &Line,
    ground: &mut Ground<'_>,
    topics: &DwdTopics,
    seed: u64,
) -> Result<Sample> {
    let (ids, changed) = choose(ground, seed)?;
    let expected = expected_rows(ground, &ids)?;
    let mut wrong = Vec::new();
    for (id, expected) in &expected {
        let text = topics.details.get(id);
        let found =
            text.map(|text| serde_json::from_str::<Message>(text)).transpose().context("read a dwd row")?;
        let found = found.map(|message| columns(&message.data));
        wrong.extend(difference(*id, expected, found.as_ref()));
    }
    let newest = latest::rows(&line.dimsvc_address, expected.values().cloned().collect()).await?;
    let wrong_by_latest = expected
        .iter()
        .zip(&newest)
        .filter(|((id, expected), newest)| difference(**id, expected, Some(newest)).is_some())
        .count();
    let is_absent = |row: &&Columns| {
        JOINS.iter().any(|join| join.columns.iter().any(|(_, ours)| row.get(*ours) == Some(&None)))
    };
    let absent = expected.values().filter(is_absent).count();
    Ok(Sample { rows: expected.len(), changed, absent, wrong, wrong_by_latest })
}

impl Sample {
    /// Right in every row, and able to be wrong.
    pub(crate) fn is_proof(&self) -> bool {
        self.rows > 0 && self.wrong.is_empty() && self.wrong_by_latest > 0
    }

    pub(crate) fn table(&self) -> String {
        let count = |what: &str, count: usize| vec![what.to_owned(), count.to_string()];
        let mut text = screen::table(
            &["joined rows", "", ""],
            &[
                count("compared with the generator's log", self.rows),
                count("  whose dimension rows have changed since", self.changed),
                count("  that join a row which was not there", self.absent),
                [count("  with a wrong column", self.wrong.len()), vec![verdict(self.wrong.is_empty())]]
                    .concat(),
                [
                    count("  that a `latest` lookup would have got wrong", self.wrong_by_latest),
                    vec![verdict(self.wrong_by_latest > 0)],
                ]
                .concat(),
            ],
        );
        for wrong in self.wrong.iter().take(SHOWN_MAX) {
            text.push_str(&format!("  {wrong}\n"));
        }
        text
    }
}

fn verdict(good: bool) -> String {
    String::from(if good { "good" } else { "FAILED" })
}

/// Ids of the sample, and how many of them have a changed dimension row.
fn choose(ground: &mut Ground<'_>, seed: u64) -> Result<(Vec<u64>, usize)> {
    let replaced: Vec<String> = JOINS.iter().map(|join| truth::was_replaced(join.table)).collect();
    let select = format!("od.id, {}", replaced.join(" OR "));
    let (mut changed, mut same) = (Vec::new(), Vec::new());
    for row in ground.session.rows(&query(ground.shop, &select, "TRUE"))? {
        let [Some(id), Some(flag)] = row.as_slice() else { continue };
        let id: u64 = id.parse().context("ids are numbers")?;
        if flag == "1" { changed.push(id) } else { same.push(id) }
    }
    let mut random = Random::new(seed, u64::MAX);
    random.shuffle(&mut changed);
    random.shuffle(&mut same);
    let count = changed.len().min(SAMPLE);
    Ok((changed.into_iter().chain(same).take(SAMPLE).collect(), count))
}

fn expected_rows(ground: &mut Ground<'_>, ids: &[u64]) -> Result<BTreeMap<u64, Columns>> {
    let joined = JOINS
        .iter()
        .flat_map(|join| join.columns.iter().map(|(theirs, _)| format!("{}.{theirs}", join.table)));
    let select = FACT_COLUMNS.map(String::from).into_iter().chain(joined).collect::<Vec<_>>().join(", ");
    let fact_names = FACT_COLUMNS.iter().map(|column| column.rsplit('.').next().unwrap_or(column));
    let names: Vec<&str> =
        fact_names.chain(JOINS.iter().flat_map(|join| join.columns.iter().map(|(_, ours)| *ours))).collect();
    let list = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut expected = BTreeMap::new();
    for row in ground.session.rows(&query(ground.shop, &select, &format!("od.id IN ({list})")))? {
        let id =
            row.first().cloned().flatten().context("ids are not null")?.parse().context("ids are numbers")?;
        let cells = names.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell));
        expected.insert(id, cells.collect());
    }
    Ok(expected)
}

/// A query over the traffic's order lines with every dimension as it was.
fn query(shop: &Shop, select: &str, filter: &str) -> String {
    let truth = truth::database(shop);
    let joins: Vec<String> = JOINS.iter().map(|join| truth::join(&truth, join.table, join.key_sql)).collect();
    format!(
        "SELECT {select} FROM order_detail od JOIN {truth}.order_commit g ON g.order_id = od.order_id \
         JOIN order_info oi ON oi.id = od.order_id {} WHERE {filter}",
        joins.join(" ")
    )
}

fn difference(id: u64, expected: &Columns, found: Option<&Columns>) -> Option<String> {
    let Some(found) = found else { return Some(format!("order_detail {id} is not in {TOPIC}")) };
    let same = |a: &Option<String>, b: &Option<String>| a.as_deref().map(number) == b.as_deref().map(number);
    let wrong: Vec<String> = expected
        .iter()
        .filter(|(name, value)| !found.get(*name).is_some_and(|found| same(found, value)))
        .map(|(name, value)| {
            let found =
                found.get(name).map_or_else(|| "no such column".to_owned(), |found| shown(found.as_ref()));
            format!("{name} is {found}, not {}", shown(value.as_ref()))
        })
        .collect();
    (!wrong.is_empty()).then(|| format!("order_detail {id}: {}", wrong.join("; ")))
}

#[cfg(test)]
mod tests;
