//! A shop that has taken some orders, on the real MySQL; for tests.

use super::{database::Shop, traffic::Traffic};
use tidemark_tests::stack::Stack;

/// Dropping it drops its databases.
pub(crate) struct TradedShop {
    pub(crate) shop: Shop,
    pub(crate) traffic: Traffic,
}

impl TradedShop {
    pub(crate) fn after(orders: u64, name: &str) -> Self {
        let stack = Stack::with(&["mysql"]).unwrap();
        let database = format!("t_{name}_{}", std::process::id());
        let shop = Shop::generate(&stack.mysql, &database, 7).unwrap();
        let mut traffic = Traffic::begin(&shop, 7).unwrap();
        traffic.run(orders, |_| ()).unwrap();
        Self { shop, traffic }
    }

    pub(crate) fn value(&self, sql: &str) -> String {
        self.shop.session().unwrap().value(sql).unwrap().unwrap()
    }
}

impl Drop for TradedShop {
    fn drop(&mut self) {
        let name = &self.shop.database;
        let sql = format!("DROP DATABASE {name}; DROP DATABASE IF EXISTS {name}_truth");
        self.shop.session().unwrap().exec(&sql).unwrap();
    }
}
