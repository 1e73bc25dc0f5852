//! Row counts of the dwd topics and grand totals of the dws views.

use super::{Check, Ground, catch_up::DwdTopics, number, shown};
use crate::{line::DATABASE, shop::worker::LastIds};
use anyhow::{Context, Result};
use tidemark_tests::{clickhouse, stack::ClickhouseServer};

/// A dwd topic, and the facts in MySQL that it is made of.
pub(crate) struct Fact {
    pub(crate) topic: &'static str,
    table: &'static str,
    /// Facts up to this id were there before ods began.
    before: u64,
    /// Whether a dws view reads it.
    pub(crate) is_aggregated: bool,
}

impl Fact {
    /// How many facts the traffic made.
    pub(crate) fn count_sql(&self) -> String {
        format!("SELECT COUNT(*) FROM {} WHERE id > {}", self.table, self.before)
    }
}

/// Every dwd topic of the example.
pub(crate) fn facts(before: &LastIds) -> [Fact; 4] {
    let fact =
        |topic, table, before| Fact { topic, table, before, is_aggregated: topic != "dwd_trade_payment" };
    [
        fact("dwd_trade_order_detail", "order_detail", before.detail),
        fact("dwd_trade_order", "order_info", before.order),
        fact("dwd_trade_payment", "payment_info", before.payment),
        fact("dwd_user_register", "user_info", before.user),
    ]
}

/// A view, its measures, and the same from MySQL's facts.
const VIEWS: [(&str, &str, usize, &str); 5] = [
    (
        "dws_trade_category_window",
        "sum(order_amount), sum(sku_count), sum(line_count)",
        0,
        "SUM(split_total_amount), SUM(sku_num), COUNT(*)",
    ),
    (
        "dws_trade_province_window",
        "sum(order_amount), sum(line_count)",
        0,
        "SUM(split_total_amount), COUNT(*)",
    ),
    (
        "dws_trade_trademark_window",
        "sum(order_amount), sum(line_count), max(price_max)",
        0,
        "SUM(split_total_amount), COUNT(*), MAX(order_price)",
    ),
    ("dws_trade_order_window", "sum(order_amount), sum(order_count)", 1, "SUM(total_amount), COUNT(*)"),
    ("dws_user_register_window", "sum(user_count)", 3, "COUNT(*)"),
];

/// Messages of each dwd topic beside the facts of MySQL.
pub(crate) fn count_rows(topics: &DwdTopics, ground: &mut Ground<'_>) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for fact in facts(&ground.traffic.before) {
        let count = ground.session.value(&fact.count_sql())?;
        let rows = topics.rows.get(fact.topic).copied().unwrap_or_default();
        checks.push(Check::new(fact.topic, rows.to_string(), shown(count.as_ref())));
    }
    Ok(checks)
}

/// Grand totals of each dws view beside sums over the facts of MySQL.
pub(crate) fn sum_views(server: &ClickhouseServer, ground: &mut Ground<'_>) -> Result<Vec<Check>> {
    let facts = facts(&ground.traffic.before);
    let mut checks = Vec::new();
    for (view, measures, fact, sums) in VIEWS {
        let fact = facts.get(fact).context("every view names its fact")?;
        let ours = clickhouse::query(server, &format!("SELECT {measures} FROM {DATABASE}.{view}"))?;
        let theirs =
            ground.session.rows(&format!("SELECT {sums} FROM {} WHERE id > {}", fact.table, fact.before))?;
        checks.push(Check::new(format!("{view}: {measures}"), first_row(&ours), first_row(&theirs)));
    }
    Ok(checks)
}

fn first_row(rows: &[Vec<Option<String>>]) -> String {
    let values = rows.iter().take(1).flatten();
    values
        .map(|value| value.as_deref().map_or_else(|| "null".to_owned(), number))
        .collect::<Vec<_>>()
        .join(" ")
}
