//! The generator against a real MySQL: its log is what the binlog says.

use super::{
    super::{
        fixture::TradedShop,
        log::{OPEN, Version},
    },
    *,
};
use std::collections::{BTreeMap, BTreeSet};
use tidemark_tests::mysql::TextRow;

fn is_open(version: &Version) -> bool {
    version.to == OPEN
}

#[test]
fn the_log_ends_at_the_rows_that_are_in_the_tables() {
    let traded = TradedShop::after(1500, "log_end");

    let logged: BTreeSet<(&str, TextRow)> = traded
        .traffic
        .log
        .versions()
        .into_iter()
        .filter(is_open)
        .map(|version| (version.table, version.row))
        .collect();

    let mut session = traded.shop.session().unwrap();
    let present: BTreeSet<(&str, TextRow)> = read_images(&mut session)
        .unwrap()
        .into_iter()
        .map(|image| (image.table, image.row.unwrap()))
        .collect();
    assert_eq!(logged, present);
    let changed = traded.traffic.log.versions().len() - logged.len();
    assert!(changed > 100, "only {changed} versions were replaced");
}

/// Replays the binlog's own order of the commits: the positions of their GTID
/// events, as the server lists them.
#[test]
fn the_order_of_the_log_is_the_order_of_the_binlog() {
    let traded = TradedShop::after(300, "log_order");

    let mut session = traded.shop.session().unwrap();
    let mut numbers = BTreeMap::new();
    for file in session.rows("SHOW BINARY LOGS").unwrap() {
        let file = file[0].clone().unwrap();
        for event in session.rows(&format!("SHOW BINLOG EVENTS IN '{file}'")).unwrap() {
            if event[2].as_deref() == Some("Gtid") {
                let gtid = event[5].clone().unwrap();
                let number: u64 = gtid.trim_end_matches('\'').rsplit(':').next().unwrap().parse().unwrap();
                let offset: u64 = event[1].as_deref().unwrap().parse().unwrap();
                numbers.insert(number, (file.clone(), offset));
            }
        }
    }

    let places: Vec<_> = traded.traffic.log.commits().iter().map(|commit| &numbers[&commit.number]).collect();
    assert!(places.len() > 50);
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "a later commit lies earlier in the binlog");
}

#[test]
fn every_order_is_placed_once_and_its_lines_add_up() {
    let traded = TradedShop::after(2000, "orders");

    let logged: BTreeSet<u64> =
        traded.traffic.log.commits().iter().flat_map(|commit| commit.orders.iter().copied()).collect();
    assert_eq!(logged.len(), 2000);
    assert_eq!(traded.value("SELECT COUNT(*) FROM order_info"), "2000");
    let wrong = "SELECT COUNT(*) FROM order_info o WHERE total_amount <> \
                 (SELECT SUM(split_total_amount) FROM order_detail d WHERE d.order_id = o.id)";
    assert_eq!(traded.value(wrong), "0");
    for table in ["payment_info", "order_status_log", "order_refund_info"] {
        assert_ne!(traded.value(&format!("SELECT COUNT(*) FROM {table}")), "0", "{table}");
    }
}

#[test]
fn the_same_seed_plans_the_same_transactions() {
    let stock = Stock { skus: vec![1, 2], users: vec![1], provinces: vec![1], ..Stock::default() };
    let plan = |seed| {
        let mut worker = Worker::new(&stock, Random::new(seed, 1), (0, 6));
        (0..50).map(|_| format!("{:?}", worker.next(5))).collect::<Vec<_>>()
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
}
