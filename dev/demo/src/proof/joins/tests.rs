//! The expected rows, as MySQL joins them, beside a replay of the log.

use super::*;
use crate::shop::{
    fixture::TradedShop,
    log::{Log, OPEN},
};
use std::collections::HashMap;

/// The row of a dimension's key at a commit, found without SQL.
fn replay<'a>(log: &'a Log, number: u64, (table, id): (&str, &str)) -> Option<&'a Vec<Option<String>>> {
    let until = log.commits().iter().take_while(|commit| commit.number <= number);
    let images = log.initial().iter().chain(until.flat_map(|commit| &commit.images));
    images.filter(|image| image.table == table && image.id == id).last()?.row.as_ref()
}

#[test]
fn expected_rows_are_those_of_the_facts_own_transaction() {
    let traded = TradedShop::after(2000, "joins");
    let mut ground = Ground::prepare(&traded.shop, &traded.traffic).unwrap();

    let (ids, changed) = choose(&mut ground, 1).unwrap();
    let expected = expected_rows(&mut ground, &ids).unwrap();

    let log = &traded.traffic.log;
    let commits: HashMap<u64, u64> = log
        .commits()
        .iter()
        .flat_map(|commit| commit.orders.iter().map(|order| (*order, commit.number)))
        .collect();
    let mut replaced = 0;
    for row in expected.values() {
        let cell = |name: &str| row[name].as_deref();
        let number = commits[&cell("order_id").unwrap().parse().unwrap()];
        let sku = replay(log, number, ("sku_info", cell("sku_id").unwrap()));
        let newest = replay(log, OPEN, ("sku_info", cell("sku_id").unwrap()));
        // id, spu_id, price, sku_name, sku_desc, weight, tm_id, category3_id
        for (name, at) in
            [("spu_id", 1), ("sku_price", 2), ("sku_name", 3), ("tm_id", 6), ("category3_id", 7)]
        {
            assert_eq!(row[name], sku.and_then(|sku| sku[at].clone()), "{name} of {row:?}");
        }
        let province = replay(log, number, ("base_province", cell("province_id").unwrap())).unwrap();
        assert_eq!(row["province_name"], province[1]);
        replaced += usize::from(sku != newest);
    }
    assert_eq!(expected.len(), SAMPLE);
    assert!(changed > SAMPLE / 2 && replaced > 50, "{changed} changed, {replaced} skus");
}

#[test]
fn a_wrong_missing_or_nulled_column_is_a_difference() {
    let row = |price: Option<&str>| Columns::from([("sku_price".to_owned(), price.map(String::from))]);
    assert_eq!(difference(1, &row(Some("10.00")), Some(&row(Some("10")))), None);
    assert_eq!(difference(1, &row(None), Some(&row(None))), None);
    for found in [None, Some(row(None)), Some(row(Some("11"))), Some(Columns::new())] {
        assert!(difference(1, &row(Some("10.00")), found.as_ref()).is_some(), "{found:?}");
    }
}
