//! The workers' transactions, on one connection each, all at once.

use super::{
    DIMENSIONS,
    database::Shop,
    log::{Commit, Image, Log},
    worker::{LastIds, Stock, Worker},
};
use crate::random::Random;
use anyhow::{Context, Result, anyhow};
use std::thread;
use tidemark_tests::mysql::Session;

/// Connections that write at the same time.
const WORKERS: u64 = 6;

/// The shop at work.
pub(crate) struct Traffic {
    shop: Shop,
    workers: Vec<Worker>,
    pub(crate) log: Log,
    /// The greatest ids before the first order.
    pub(crate) before: LastIds,
}

impl Traffic {
    /// Looks at what is there, and writes nothing yet.
    pub(crate) fn begin(shop: &Shop, seed: u64) -> Result<Self> {
        let mut session = shop.session()?;
        let stock = read_stock(&mut session)?;
        let worker = |number| Worker::new(&stock, Random::new(seed, number + 1), (number, WORKERS));
        Ok(Self {
            shop: shop.clone(),
            workers: (0..WORKERS).map(worker).collect(),
            log: Log::begin(read_images(&mut session)?),
            before: stock.last,
        })
    }

    /// Places that many orders, with all that goes on beside them, and calls
    /// `placed` with the number of each transaction's. Blocks.
    pub(crate) fn run(&mut self, orders: u64, placed: impl Fn(u64) + Sync) -> Result<()> {
        let (shop, placed) = (&self.shop, &placed);
        let outcomes: Vec<Result<Vec<Commit>>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(&mut self.workers)
                .map(|(number, worker)| {
                    let share = orders / WORKERS + u64::from(number < orders % WORKERS);
                    scope.spawn(move || work(shop, worker, share, placed))
                })
                .collect();
            threads.into_iter().map(join).collect()
        });
        for commits in outcomes {
            self.log.extend(commits?);
        }
        Ok(())
    }
}

fn join(thread: thread::ScopedJoinHandle<'_, Result<Vec<Commit>>>) -> Result<Vec<Commit>> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a worker of the shop panicked")))
}

fn work(shop: &Shop, worker: &mut Worker, orders: u64, placed: impl Fn(u64)) -> Result<Vec<Commit>> {
    let mut session = shop.session()?;
    // Without gap locks the workers hardly ever wait for each other.
    session.exec("SET transaction_isolation = 'READ-COMMITTED'")?;
    let mut commits = Vec::new();
    let mut left = orders;
    while left > 0 {
        let transaction = worker.next(left);
        commits.extend(transaction.run(&mut session)?);
        let count = transaction.orders().len() as u64;
        left -= count;
        placed(count);
    }
    Ok(commits)
}

fn read_stock(session: &mut Session) -> Result<Stock> {
    let mut ids = |table: &str| -> Result<Vec<u64>> {
        let rows = session.rows(&format!("SELECT id FROM {table} ORDER BY id"))?;
        rows.iter().flatten().flatten().map(|id| id.parse().context("ids are numbers")).collect()
    };
    let stock = Stock {
        skus: ids("sku_info")?,
        spus: ids("spu_info")?,
        trademarks: ids("base_trademark")?,
        category1s: ids("base_category1")?,
        category2s: ids("base_category2")?,
        category3s: ids("base_category3")?,
        provinces: ids("base_province")?,
        regions: ids("base_region")?,
        users: ids("user_info")?,
        last: LastIds::default(),
    };
    Ok(Stock { last: read_last_ids(session)?, ..stock })
}

fn read_last_ids(session: &mut Session) -> Result<LastIds> {
    let mut last = |table: &str| -> Result<u64> {
        let value = session.value(&format!("SELECT COALESCE(MAX(id), 0) FROM {table}"))?;
        value.context("MAX gives a row")?.parse().context("ids are numbers")
    };
    Ok(LastIds {
        sku: last("sku_info")?,
        trademark: last("base_trademark")?,
        category3: last("base_category3")?,
        user: last("user_info")?,
        order: last("order_info")?,
        detail: last("order_detail")?,
        payment: last("payment_info")?,
    })
}

/// The present rows of every dimension.
pub(crate) fn read_images(session: &mut Session) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for table in DIMENSIONS {
        for row in session.rows(&format!("SELECT * FROM {table} ORDER BY id"))? {
            let id = row.first().cloned().flatten().with_context(|| format!("a row of {table} has no id"))?;
            images.push(Image { table, id, row: Some(row) });
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests;
