//! The proof: every result of the line beside what SQL says in MySQL.
//!
//! [`catch_up`] waits until the line has taken in all traffic. [`truth`] writes
//! the generator's log into MySQL as tables of row versions, so that MySQL can
//! join each fact with the rows valid in its own transaction. [`indicators`],
//! [`totals`] and [`joins`] compare.

pub(crate) mod catch_up;
pub(crate) mod indicators;
pub(crate) mod joins;
mod latest;
pub(crate) mod totals;
pub(crate) mod truth;

use crate::{
    screen,
    shop::{database::Shop, traffic::Traffic},
};
use anyhow::Result;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tidemark_proto::text;
use tidemark_tests::mysql::Session;

/// MySQL's side: the facts, and the rows that were valid for each of them.
pub(crate) struct Ground<'a> {
    pub(crate) shop: &'a Shop,
    pub(crate) traffic: &'a Traffic,
    /// A session in the shop's database.
    pub(crate) session: Session,
}

impl<'a> Ground<'a> {
    /// Writes the traffic's log into MySQL.
    pub(crate) fn prepare(shop: &'a Shop, traffic: &'a Traffic) -> Result<Self> {
        Ok(Self { shop, traffic, session: truth::write(shop, &traffic.log)? })
    }
}

/// One comparison.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    what: String,
    line: String,
    mysql: String,
}

impl Check {
    pub(crate) fn new(what: impl Into<String>, line: impl Into<String>, mysql: impl Into<String>) -> Self {
        Self { what: what.into(), line: line.into(), mysql: mysql.into() }
    }

    pub(crate) fn is_equal(&self) -> bool {
        self.line == self.mysql
    }
}

/// Shows comparisons as a table, `line` being the heading of our side.
pub(crate) fn table(checks: &[Check], line: &str) -> String {
    let verdict = |check: &Check| if check.is_equal() { "equal" } else { "NOT EQUAL" }.to_owned();
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| vec![check.what.clone(), check.line.clone(), check.mysql.clone(), verdict(check)])
        .collect();
    screen::table(&["", line, "SQL in MySQL", ""], &rows)
}

/// Columns of a row as text; NULL is `None`.
pub(crate) type Columns = BTreeMap<String, Option<String>>;

/// A JSON object's columns, numbers exactly as they stand there.
fn columns(object: &BTreeMap<String, Box<RawValue>>) -> Columns {
    object.iter().map(|(name, token)| (name.clone(), value(token.get()))).collect()
}

fn value(token: &str) -> Option<String> {
    match text::string_value(token) {
        Some(string) => Some(string.into_owned()),
        None if token == "null" => None,
        None => Some(number(token)),
    }
}

/// A decimal in one form: without zeros at the end of its fraction.
fn number(text: &str) -> String {
    if !text.contains('.') || text.contains(['e', 'E']) {
        return text.to_owned();
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text of a result for a table; NULL is `null`.
fn shown(value: Option<&String>) -> String {
    value.map_or_else(|| "null".to_owned(), |text| number(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_form() {
        for (text, expect) in
            [("1.50", "1.5"), ("10", "10"), ("10.00", "10"), ("0.05", "0.05"), ("100", "100")]
        {
            assert_eq!(number(text), expect, "{text}");
        }
    }

    #[test]
    fn a_difference_shows() {
        let checks = [Check::new("gmv", "1.5", "1.5"), Check::new("orders", "1", "2")];
        let table = table(&checks, "HTTP");
        assert!(table.contains("orders  1     2             NOT EQUAL"), "{table}");
    }
}
