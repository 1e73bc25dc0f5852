//! Changes of dimension rows: renamed, repriced, moved, added, deleted.
//!
//! Rows that were there at the start are changed by every worker and never
//! deleted; rows that a worker added are its own, to delete and bring back.

use super::{transaction::Transaction, worker::Worker};
use tidemark_tests::mysql::literal;

impl Worker {
    /// Adds one change somewhere in the shop.
    pub(super) fn change_something(&mut self, transaction: &mut Transaction) {
        match self.random.below(100) {
            0..20 => self.change_sku(transaction, None),
            20..32 => self.change_place(transaction, None),
            32..50 => self.rename_one(transaction, "base_trademark", "tm_name"),
            50..64 => self.rename_one(transaction, "base_category3", "name"),
            64..68 => self.rename_one(transaction, "base_category2", "name"),
            68..70 => self.rename_one(transaction, "base_category1", "name"),
            70..76 => self.rename_one(transaction, "spu_info", "spu_name"),
            76..80 => self.move_category(transaction),
            80..90 => self.add_sku(transaction),
            90..96 => self.delete_sku(transaction),
            96..98 => self.renumber_sku(transaction),
            _ => self.delete_trademark(transaction),
        }
    }

    /// Changes a sku: the given one, or any.
    pub(super) fn change_sku(&mut self, transaction: &mut Transaction, sku: Option<u64>) {
        let Some(sku) = sku.or_else(|| self.random.pick(&self.skus)) else { return };
        let set = match self.random.below(5) {
            0 | 1 => format!("price = {}", self.random.between(10, 9_999)),
            2 => self.renamed("sku_name", 30),
            3 => format!("category3_id = {}", self.random.pick(&self.category3s).unwrap_or(1)),
            _ => format!("tm_id = {}", self.random.pick(&self.trademarks).unwrap_or(1)),
        };
        transaction.change("sku_info", sku, update("sku_info", sku, &set));
    }

    /// Changes where orders go to: the given province, or any, or a region.
    pub(super) fn change_place(&mut self, transaction: &mut Transaction, province: Option<u64>) {
        if province.is_none() && self.random.chance(25) {
            return self.rename_one(transaction, "base_region", "region_name");
        }
        let Some(province) = province.or_else(|| self.random.pick(&self.provinces)) else { return };
        let set = match self.random.pick(&self.regions) {
            Some(region) if self.random.chance(10) => format!("region_id = '{region}'"),
            _ => self.renamed("name", 5),
        };
        transaction.change("base_province", province, update("base_province", province, &set));
    }

    fn rename_one(&mut self, transaction: &mut Transaction, table: &'static str, column: &str) {
        let ids = match table {
            "base_trademark" => &self.trademarks,
            "base_category1" => &self.category1s,
            "base_category2" => &self.category2s,
            "base_category3" => &self.category3s,
            "base_region" => &self.regions,
            _ => &self.spus,
        };
        let Some(id) = self.random.pick(ids) else { return };
        let set = self.renamed(column, 5);
        transaction.change(table, id, update(table, id, &set));
    }

    fn move_category(&mut self, transaction: &mut Transaction) {
        let (category, parent) = (self.random.pick(&self.category3s), self.random.pick(&self.category2s));
        if let (Some(category), Some(parent)) = (category, parent) {
            let set = format!("category2_id = {parent}");
            transaction.change("base_category3", category, update("base_category3", category, &set));
        }
    }

    /// A new sku, now and then with a trademark and a category of its own, or
    /// one of the deleted skus again.
    fn add_sku(&mut self, transaction: &mut Transaction) {
        let deleted = if self.random.chance(50) { self.deleted_skus.pop() } else { None };
        let sku = deleted.unwrap_or_else(|| self.ids.sku.take());
        let new_parents = self.random.chance(30);
        let (trademark, category) = if new_parents {
            (self.add_trademark(transaction), self.add_category(transaction))
        } else {
            let trademark = self.random.pick(&self.trademarks).unwrap_or(1);
            (trademark, self.random.pick(&self.category3s).unwrap_or(1))
        };
        self.insert_sku(transaction, sku, (trademark, category));
        self.skus.push(sku);
        self.own_skus.push(sku);
    }

    fn insert_sku(&mut self, transaction: &mut Transaction, sku: u64, (trademark, category): (u64, u64)) {
        let spu = self.random.pick(&self.spus).unwrap_or(1);
        let price = self.random.between(10, 9_999);
        let name = literal(&format!("sku {sku} \"new\" {}", self.random.below(1000)));
        transaction.change(
            "sku_info",
            sku,
            format!(
                "INSERT INTO sku_info (id, spu_id, price, sku_name, sku_desc, weight, tm_id, category3_id, is_sale, \
                 create_time) VALUES ({sku}, {spu}, {price}, {name}, 'it''s new', 1.50, {trademark}, {category}, 1, \
                 NOW())"
            ),
        );
    }

    fn add_trademark(&mut self, transaction: &mut Transaction) -> u64 {
        let id = self.ids.trademark.take();
        let statement = format!(
            "INSERT INTO base_trademark (id, tm_name, create_time) VALUES ({id}, '新品牌 {id}', NOW())"
        );
        transaction.change("base_trademark", id, statement);
        self.trademarks.push(id);
        self.own_trademarks.push(id);
        id
    }

    fn add_category(&mut self, transaction: &mut Transaction) -> u64 {
        let id = self.ids.category3.take();
        let parent = self.random.pick(&self.category2s).unwrap_or(1);
        let statement = format!(
            "INSERT INTO base_category3 (id, name, category2_id, create_time) VALUES ({id}, '新类 {id}', {parent}, NOW())"
        );
        transaction.change("base_category3", id, statement);
        self.category3s.push(id);
        id
    }

    /// Deletes a sku of this worker's. It may still be ordered: the shop does
    /// not check. Now and then it comes back in the same transaction.
    fn delete_sku(&mut self, transaction: &mut Transaction) {
        let Some(sku) = self.take_own_sku() else { return };
        transaction.change("sku_info", sku, format!("DELETE FROM sku_info WHERE id = {sku}"));
        if self.random.chance(20) {
            let trademark = self.random.pick(&self.trademarks).unwrap_or(1);
            let category = self.random.pick(&self.category3s).unwrap_or(1);
            self.insert_sku(transaction, sku, (trademark, category));
            self.own_skus.push(sku);
        } else {
            self.deleted_skus.push(sku);
        }
    }

    /// Gives a sku another id: the old key ends, the new one begins.
    fn renumber_sku(&mut self, transaction: &mut Transaction) {
        let Some(old) = self.take_own_sku() else { return };
        let new = self.ids.sku.take();
        transaction.change("sku_info", old, format!("UPDATE sku_info SET id = {new} WHERE id = {old}"));
        transaction.change("sku_info", new, update("sku_info", new, "weight = 2.25"));
        self.skus.push(new);
        self.own_skus.push(new);
    }

    fn delete_trademark(&mut self, transaction: &mut Transaction) {
        if let Some(id) = self.own_trademarks.pop() {
            transaction.change("base_trademark", id, format!("DELETE FROM base_trademark WHERE id = {id}"));
        }
    }

    fn take_own_sku(&mut self) -> Option<u64> {
        let sku = self.random.pick(&self.own_skus)?;
        self.own_skus.retain(|own| *own != sku);
        Some(sku)
    }

    /// A name that fits the shortest column: its old beginning and a number.
    fn renamed(&mut self, column: &str, kept: u64) -> String {
        format!("{column} = CONCAT(LEFT({column}, {kept}), '·', {})", self.random.below(1000))
    }
}

fn update(table: &str, id: u64, set: &str) -> String {
    format!("UPDATE {table} SET {set}, operate_time = NOW() WHERE id = '{id}'")
}
