//! The demo: a shop's traffic through the whole line, and the proof of its
//! result. See `--help`; `make demo` builds and runs it.
//!
//! [`shop`] writes to MySQL, [`mod@line`] runs dimsvc and the layers, [`proof`]
//! compares what came out with what SQL says in MySQL.

mod line;
mod options;
mod proof;
mod random;
mod screen;
mod shop;

use crate::{
    line::{DATABASE, Line},
    options::{Options, Store},
    proof::{Ground, catch_up, indicators, joins, totals},
    screen::{Screen, print},
    shop::{database::Shop, traffic::Traffic},
};
use anyhow::{Context, Result, anyhow};
use clap::Parser;
use indicatif::ProgressBar;
use std::process::ExitCode;
use tidemark_tests::stack::Stack;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = tokio::select! {
        outcome = run(&options) => outcome,
        outcome = interrupted() => outcome,
    };
    let code = match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            print("not all is equal: the logs are in .demo/");
            ExitCode::FAILURE
        }
        Err(error) => {
            print(&format!("the demo failed: {error:#}"));
            ExitCode::FAILURE
        }
    };
    // By now every child is stopped; the traffic's threads may still be at
    // work after Ctrl-C and would hold back a return.
    std::process::exit(i32::from(code != ExitCode::SUCCESS))
}

/// Runs the demo; true when all is equal.
async fn run(options: &Options) -> Result<bool> {
    let mut demo = Demo::start(options).await?;
    let traffic = demo.trade().await?;
    let equal = demo.prove(&traffic).await?;
    demo.end().await?;
    Ok(equal)
}

/// A run: the shop and the line that follows it.
struct Demo<'a> {
    options: &'a Options,
    screen: Screen,
    shop: Shop,
    line: Line,
}

impl<'a> Demo<'a> {
    /// A new database, and every process ready.
    async fn start(options: &'a Options) -> Result<Self> {
        let screen = Screen::new();
        let mut services = vec!["mysql", "kafka", "clickhouse"];
        if options.store == Store::Hbase {
            services.push("hbase");
        }
        let stack = Stack::with(&services)?;
        let shop = match &options.data {
            Some(file) => {
                screen.step(format!("database {DATABASE} from {}", file.display()));
                Shop::load(&stack.mysql, DATABASE, file)?
            }
            None => {
                screen.step(format!("database {DATABASE} with generated dimensions, seed {}", options.seed));
                Shop::generate(&stack.mysql, DATABASE, options.seed)?
            }
        };
        let mut line = Line::prepare(&stack, options.store).await?;
        screen.step(format!("dimsvc at {}, {} store: first load", line.dimsvc_address, options.store));
        line.start_dimsvc().await?;
        screen.step(format!("dimsvc is SERVING; starting ods, dwd, dws, and ads at {}", line.ads_address));
        line.start_layers().await?;
        Ok(Self { options, screen, shop, line })
    }

    /// The traffic, in thirds; dwd is away for the middle one.
    async fn trade(&mut self) -> Result<Traffic> {
        let mut traffic = Traffic::begin(&self.shop, self.options.seed)?;
        let orders = self.options.orders;
        let bar = self.screen.bar(orders, "orders");
        traffic = self.third(traffic, &bar, ("first third, dwd at work", orders / 3)).await?;
        self.line.stop_dwd().await?;
        traffic = self.third(traffic, &bar, ("middle third, dwd stopped", orders / 3)).await?;
        self.line.start_dwd().await?;
        traffic =
            self.third(traffic, &bar, ("last third, dwd at work again", orders - 2 * (orders / 3))).await?;
        bar.finish_and_clear();
        self.screen.step(format!("{orders} orders in {} transactions", traffic.log.commits().len()));
        Ok(traffic)
    }

    async fn third(
        &mut self,
        mut traffic: Traffic,
        bar: &ProgressBar,
        (name, orders): (&str, u64),
    ) -> Result<Traffic> {
        bar.suspend(|| self.screen.step(format!("{name}: {orders} orders")));
        let counted = bar.clone();
        let work = tokio::task::spawn_blocking(move || {
            traffic.run(orders, |placed| counted.inc(placed))?;
            Ok(traffic)
        });
        let outcome = work.await.context("the traffic panicked")?;
        self.line.must_run()?;
        outcome
    }

    /// Compares all results, and prints the tables.
    async fn prove(&mut self, traffic: &Traffic) -> Result<bool> {
        let line = &mut self.line;
        let mut ground = Ground::prepare(&self.shop, traffic)?;
        let topics = catch_up::wait(line, &mut ground, &self.screen).await?;
        self.screen.step("caught up; comparing");
        let date =
            ground.session.value("SELECT DATE(MAX(create_time)) FROM order_info")?.context("no orders")?;
        let indicators = indicators::compare(line, &mut ground, &date)?;
        let rows = totals::count_rows(&topics, &mut ground)?;
        let views = totals::sum_views(&line.stack.clickhouse, &mut ground)?;
        let sample = joins::compare(line, &mut ground, &topics, self.options.seed).await?;
        print(&format!("\nIndicators of {date}\n\n{}", proof::table(&indicators, "HTTP")));
        print(&format!("Rows of the dwd topics\n\n{}", proof::table(&rows, "Kafka")));
        print(&format!("Totals of the dws views\n\n{}", proof::table(&views, "ClickHouse")));
        print(&format!("Joins of {}\n\n{}", joins::TOPIC, sample.table()));
        let all = indicators.iter().chain(&rows).chain(&views).all(proof::Check::is_equal);
        Ok(all && sample.is_proof())
    }

    /// Stops all, or says how to look at what runs on.
    async fn end(self) -> Result<()> {
        if !self.options.keep {
            self.screen.step("stopping");
            return self.line.stop().await;
        }
        let (dimsvc, ads) = (self.line.dimsvc_address.clone(), self.line.ads_address.clone());
        print(&how_to_look(&dimsvc, &ads, &self.line.leave_running()?));
        Ok(())
    }
}

fn how_to_look(dimsvc: &str, ads: &str, pids: &str) -> String {
    format!(
        "Everything runs on. To look:\n\n  \
         grpcurl -plaintext {dimsvc} list\n  \
         grpcurl -plaintext -d '{{\"tables\":[{{\"table\":\"sku_info\",\"plain_keys\":[\"[1]\"]}}]}}' {dimsvc} \
         tidemark.dim.v1.DimensionService/Lookup\n  \
         curl http://{ads}/\n  \
         curl 'http://{ads}/indicators/top_categories?limit=5'\n\n\
         To stop: kill {pids}; dev/stack down"
    )
}

async fn interrupted() -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Err(anyhow!("stopped by SIGTERM")),
        outcome = tokio::signal::ctrl_c() => outcome.context("listen for Ctrl-C").and(Err(anyhow!("interrupted"))),
    }
}
