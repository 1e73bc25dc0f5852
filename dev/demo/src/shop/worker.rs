//! What one worker of the shop does next.
//!
//! A worker knows the ids it may use and the orders it has placed; nothing here
//! touches the database. Ids of new rows are interleaved between the workers,
//! so what a worker does follows from the seed and its own past alone.

use super::transaction::Transaction;
use crate::random::Random;
use std::collections::VecDeque;

/// Ids of the rows that are there at the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stock {
    pub(crate) skus: Vec<u64>,
    pub(crate) spus: Vec<u64>,
    pub(crate) trademarks: Vec<u64>,
    pub(crate) category1s: Vec<u64>,
    pub(crate) category2s: Vec<u64>,
    pub(crate) category3s: Vec<u64>,
    pub(crate) provinces: Vec<u64>,
    pub(crate) regions: Vec<u64>,
    pub(crate) users: Vec<u64>,
    /// The greatest id of each table that gets new rows.
    pub(crate) last: LastIds,
}

/// The greatest ids at the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastIds {
    pub(crate) sku: u64,
    pub(crate) trademark: u64,
    pub(crate) category3: u64,
    pub(crate) user: u64,
    pub(crate) order: u64,
    pub(crate) detail: u64,
    pub(crate) payment: u64,
}

/// Every `step`th id.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    next: u64,
    step: u64,
}

impl Ids {
    pub(super) fn take(&mut self) -> u64 {
        self.next += self.step;
        self.next - self.step
    }
}

/// The ids that are one worker's to give.
#[derive(Clone, Debug)]
pub(super) struct NewIds {
    pub(super) sku: Ids,
    pub(super) trademark: Ids,
    pub(super) category3: Ids,
    user: Ids,
    order: Ids,
    detail: Ids,
    payment: Ids,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    id: u64,
    user: u64,
    total_cents: u64,
}

/// One worker.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(super) random: Random,
    pub(super) ids: NewIds,
    pub(super) skus: Vec<u64>,
    pub(super) own_skus: Vec<u64>,
    pub(super) deleted_skus: Vec<u64>,
    pub(super) trademarks: Vec<u64>,
    pub(super) own_trademarks: Vec<u64>,
    pub(super) spus: Vec<u64>,
    pub(super) category1s: Vec<u64>,
    pub(super) category2s: Vec<u64>,
    pub(super) category3s: Vec<u64>,
    pub(super) provinces: Vec<u64>,
    pub(super) regions: Vec<u64>,
    users: Vec<u64>,
    unpaid: VecDeque<Order>,
    paid: VecDeque<Order>,
}

impl Worker {
    /// Worker `number` of `workers`.
    pub(crate) fn new(stock: &Stock, random: Random, (number, workers): (u64, u64)) -> Self {
        let ids = |last: u64| Ids { next: last + 1 + number, step: workers };
        let last = stock.last;
        Self {
            random,
            ids: NewIds {
                sku: ids(last.sku),
                trademark: ids(last.trademark),
                category3: ids(last.category3),
                user: ids(last.user),
                order: ids(last.order),
                detail: ids(last.detail),
                payment: ids(last.payment),
            },
            skus: stock.skus.clone(),
            own_skus: Vec::new(),
            deleted_skus: Vec::new(),
            trademarks: stock.trademarks.clone(),
            own_trademarks: Vec::new(),
            spus: stock.spus.clone(),
            category1s: stock.category1s.clone(),
            category2s: stock.category2s.clone(),
            category3s: stock.category3s.clone(),
            provinces: stock.provinces.clone(),
            regions: stock.regions.clone(),
            users: stock.users.clone(),
            unpaid: VecDeque::new(),
            paid: VecDeque::new(),
        }
    }

    /// The next transaction, with at most `orders_max` new orders.
    pub(crate) fn next(&mut self, orders_max: u64) -> Transaction {
        let mut transaction = Transaction::default();
        match self.random.below(100) {
            0..60 => self.place_orders(&mut transaction, orders_max),
            60..76 => self.pay(&mut transaction),
            76..79 => self.cancel(&mut transaction),
            79..84 => self.finish(&mut transaction),
            84..87 => self.register(&mut transaction),
            _ => {
                for _ in 0..self.random.between(1, 3) {
                    self.change_something(&mut transaction);
                }
            }
        }
        // A worker with nothing to pay or to delete looks after its prices.
        if transaction.is_empty() {
            self.change_sku(&mut transaction, None);
        }
        transaction
    }

    /// Orders with their lines, and dimension changes before and after them in
    /// the same transaction, often of the very rows that the orders name.
    fn place_orders(&mut self, transaction: &mut Transaction, orders_max: u64) {
        let (mut orders, mut details) = (Vec::new(), Vec::new());
        let mut first = (None, None);
        let (before, after) = (self.random.chance(25), self.random.chance(20));
        for _ in 0..self.random.between(1, 8).min(orders_max) {
            let province = self.random.pick(&self.provinces).unwrap_or(1);
            let lines = self.lines();
            first = (Some(province), lines.first().map(|line| line.sku));
            let order = self.order_row(&mut orders, province, &lines);
            transaction.places(order);
            details.extend(lines.iter().map(|line| self.detail_row(order, line)));
        }
        if before {
            self.change_named(transaction, first);
        }
        transaction.push(format!(
            "INSERT INTO order_info (id, consignee, consignee_tel, total_amount, order_status, user_id, payment_way, \
             out_trade_no, create_time, province_id, original_total_amount, feight_fee) VALUES {}",
            orders.join(", ")
        ));
        transaction.push(format!(
            "INSERT INTO order_detail (id, order_id, sku_id, sku_name, order_price, sku_num, create_time, \
             split_total_amount, split_activity_amount, split_coupon_amount) VALUES {}",
            details.join(", ")
        ));
        if after {
            self.change_named(transaction, first);
        }
    }

    fn change_named(&mut self, transaction: &mut Transaction, named: (Option<u64>, Option<u64>)) {
        match self.random.below(4) {
            0 => self.change_place(transaction, named.0),
            1 | 2 => self.change_sku(transaction, named.1.filter(|sku| !self.deleted_skus.contains(sku))),
            _ => self.change_something(transaction),
        }
    }

    fn lines(&mut self) -> Vec<Line> {
        let count = self.random.between(1, 5);
        let mut lines = Vec::new();
        for _ in 0..count {
            let (price_cents, number) = (self.random.between(100, 999_999), self.random.between(1, 3));
            let full = price_cents * number;
            lines.push(Line {
                sku: self.random.pick(&self.skus).unwrap_or(1),
                price_cents,
                number,
                reduced_cents: if self.random.chance(30) { self.random.below(full / 4) } else { 0 },
            });
        }
        lines
    }

    fn order_row(&mut self, rows: &mut Vec<String>, province: u64, lines: &[Line]) -> u64 {
        let id = self.ids.order.take();
        let user = self.random.pick(&self.users).unwrap_or(1);
        let total_cents = lines.iter().map(Line::total_cents).sum();
        let original: u64 = lines.iter().map(|line| line.price_cents * line.number).sum();
        rows.push(format!(
            "({id}, '收货人 {user}', '139{user:08}', {}, '1001', {user}, '3501', 'trade-{id}', NOW(), {province}, {}, 0)",
            money(total_cents),
            money(original)
        ));
        self.unpaid.push_back(Order { id, user, total_cents });
        id
    }

    fn detail_row(&mut self, order: u64, line: &Line) -> String {
        let (id, sku) = (self.ids.detail.take(), line.sku);
        format!(
            "({id}, {order}, {sku}, 'sku {sku}', {}, {}, NOW(), {}, {}, 0.00)",
            money(line.price_cents),
            line.number,
            money(line.total_cents()),
            money(line.reduced_cents)
        )
    }

    fn pay(&mut self, transaction: &mut Transaction) {
        let orders: Vec<Order> = self.take_unpaid();
        let mut rows = Vec::new();
        for order in &orders {
            let (id, kind) = (self.ids.payment.take(), self.random.between(1101, 1103));
            rows.push(format!(
                "({id}, 'trade-{}', {}, {}, '{kind}', {}, '订单 {}', '1602', NOW(), NOW())",
                order.id,
                order.id,
                order.user,
                money(order.total_cents),
                order.id
            ));
        }
        if rows.is_empty() {
            return;
        }
        transaction.push(format!(
            "INSERT INTO payment_info (id, out_trade_no, order_id, user_id, payment_type, total_amount, subject, \
             payment_status, create_time, callback_time) VALUES {}",
            rows.join(", ")
        ));
        set_status(transaction, &orders, "1002");
        self.paid.extend(orders);
    }

    fn cancel(&mut self, transaction: &mut Transaction) {
        if let Some(order) = self.unpaid.pop_back() {
            set_status(transaction, &[order], "1003");
        }
    }

    /// An order is received, or some of it sent back.
    fn finish(&mut self, transaction: &mut Transaction) {
        let Some(order) = self.paid.pop_front() else { return };
        if self.random.chance(70) {
            return set_status(transaction, &[order], "1004");
        }
        transaction.push(format!(
            "INSERT INTO order_refund_info (user_id, order_id, refund_type, refund_num, refund_amount, refund_status, \
             create_time) VALUES ({}, {}, '1502', 1, {}, '0701', NOW())",
            order.user,
            order.id,
            money(order.total_cents)
        ));
        set_status(transaction, &[order], "1005");
    }

    /// New users, who order from now on, and a better level for an old one.
    fn register(&mut self, transaction: &mut Transaction) {
        let mut rows = Vec::new();
        for _ in 0..self.random.between(1, 5) {
            let (id, level) = (self.ids.user.take(), self.random.between(1, 3));
            rows.push(format!(
                "({id}, 'user{id}', '用户 {id}', '新用户 {id}', '{level}', '1990-02-03', 'F', NOW())"
            ));
            self.users.push(id);
        }
        transaction.push(format!(
            "INSERT INTO user_info (id, login_name, nick_name, name, user_level, birthday, gender, create_time) \
             VALUES {}",
            rows.join(", ")
        ));
        if let Some(user) = self.random.pick(&self.users) {
            let level = self.random.between(1, 3);
            transaction.push(format!(
                "UPDATE user_info SET user_level = '{level}', operate_time = NOW() WHERE id = {user}"
            ));
        }
    }

    fn take_unpaid(&mut self) -> Vec<Order> {
        let count = self.random.between(4, 16).min(self.unpaid.len() as u64);
        (0..count).filter_map(|_| self.unpaid.pop_front()).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    sku: u64,
    price_cents: u64,
    number: u64,
    reduced_cents: u64,
}

impl Line {
    fn total_cents(&self) -> u64 {
        self.price_cents * self.number - self.reduced_cents
    }
}

fn set_status(transaction: &mut Transaction, orders: &[Order], status: &str) {
    let ids: Vec<String> = orders.iter().map(|order| order.id.to_string()).collect();
    transaction.push(format!(
        "UPDATE order_info SET order_status = '{status}', operate_time = NOW() WHERE id IN ({})",
        ids.join(", ")
    ));
    let rows: Vec<String> = ids.iter().map(|id| format!("({id}, '{status}', NOW())")).collect();
    transaction.push(format!(
        "INSERT INTO order_status_log (order_id, order_status, create_time) VALUES {}",
        rows.join(", ")
    ));
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
