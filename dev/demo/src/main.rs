//! The demo: a shop's traffic through the whole line, and the proof of its
//! result. See `--help`; `make demo` builds and runs it.
//!
//! [`shop`] writes to MySQL, [`line`] runs dimsvc and the layers, [`proof`]
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
    proof::{catch_up, indicators, joins, totals, truth},
    screen::{Screen, print},
    shop::{database::Shop, traffic::Traffic},
};
use anyhow::{Context, Result, anyhow};
use clap::Parser;
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
    let screen = Screen::new();
    let mut services = vec!["mysql", "kafka", "clickhouse"];
    if options.store == Store::Hbase {
        services.push("hbase");
    }
    let stack = Stack::with(&services)?;
    screen.step(match &options.data {
        Some(file) => format!("database {DATABASE} from {}", file.display()),
        None => format!("database {DATABASE} with generated dimensions, seed {}", options.seed),
    });
    let shop = match &options.data {
        Some(file) => Shop::load(&stack.mysql, DATABASE, file)?,
        None => Shop::generate(&stack.mysql, DATABASE, options.seed)?,
    };
    let mut line = Line::prepare(&stack, options.store).await?;
    screen.step(format!("dimsvc at {} with the {} store: first load", line.dimsvc_address, options.store));
    line.start_dimsvc().await?;
    screen.step(format!("dimsvc is SERVING; ods, dwd, dws, ads at {}", line.ads_address));
    line.start_layers().await?;
    let traffic = trade(options, (&shop, &mut line, &screen)).await?;
    let equal = prove(options, (&shop, &traffic), (&mut line, &screen)).await?;
    if options.keep {
        let (dimsvc, ads) = (line.dimsvc_address.clone(), line.ads_address.clone());
        print(&how_to_look(&dimsvc, &ads, &line.leave_running()));
    } else {
        screen.step("stopping");
        line.stop().await?;
    }
    Ok(equal)
}

/// The traffic, in thirds; dwd is away for the middle one.
async fn trade(options: &Options, (shop, line, screen): (&Shop, &mut Line, &Screen)) -> Result<Traffic> {
    let mut traffic = Traffic::begin(shop, options.seed)?;
    let third = options.orders / 3;
    let bar = screen.bar(options.orders, "orders");
    for (name, orders) in [("first", third), ("middle", third), ("last", options.orders - 2 * third)] {
        if name == "middle" {
            line.stop_dwd()?;
        }
        if name == "last" {
            line.start_dwd().await?;
        }
        let state = if name == "middle" { "dwd is stopped" } else { "dwd runs" };
        bar.suspend(|| screen.step(format!("{name} third: {orders} orders, {state}")));
        let counted = bar.clone();
        let work = move || {
            let outcome = traffic.run(orders, |placed| counted.inc(placed));
            (traffic, outcome)
        };
        let (back, outcome) = tokio::task::spawn_blocking(work).await.context("the traffic panicked")?;
        traffic = back;
        outcome?;
        line.must_run()?;
    }
    bar.finish_and_clear();
    screen.step(format!("{} orders in {} transactions", options.orders, traffic.log.commits().len()));
    Ok(traffic)
}

/// Compares all results, and prints the tables.
async fn prove(
    options: &Options,
    (shop, traffic): (&Shop, &Traffic),
    (line, screen): (&mut Line, &Screen),
) -> Result<bool> {
    let mut session = truth::write(shop, &traffic.log)?;
    let before = &traffic.before;
    let topics = catch_up::wait(line, &mut session, (before, screen)).await?;
    screen.step("caught up; comparing");
    let date = session.value("SELECT DATE(MAX(create_time)) FROM order_info")?.context("there are orders")?;
    let indicators = indicators::compare(line, shop, (&mut session, &date))?;
    let rows = totals::count_rows(&topics, &mut session, before)?;
    let views = totals::sum_views(&line.stack.clickhouse, &mut session, before)?;
    let sample = joins::compare(line, shop, (&mut session, &topics, options.seed)).await?;
    print(&format!("\nIndicators of {date}\n\n{}", proof::table(&indicators, "HTTP")));
    print(&format!("Rows of the dwd topics\n\n{}", proof::table(&rows, "Kafka")));
    print(&format!("Totals of the dws views\n\n{}", proof::table(&views, "ClickHouse")));
    print(&format!("Joins of {}\n\n{}", joins::TOPIC, sample.table()));
    let all = indicators.iter().chain(&rows).chain(&views).all(proof::Check::is_equal);
    Ok(all && sample.is_proof())
}

fn how_to_look(dimsvc: &str, ads: &str, pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    format!(
        "Everything runs on. To look:\n\n  \
         grpcurl -plaintext {dimsvc} list\n  \
         grpcurl -plaintext -d '{{\"tables\":[{{\"table\":\"sku_info\",\"plain_keys\":[\"[1]\"]}}]}}' {dimsvc} \
         tidemark.dim.v1.DimensionService/Lookup\n  \
         curl http://{ads}/\n  \
         curl 'http://{ads}/indicators/top_categories?limit=5'\n\n\
         To stop: kill {}; dev/stack down",
        pids.join(" ")
    )
}

async fn interrupted() -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Err(anyhow!("stopped by SIGTERM")),
        outcome = tokio::signal::ctrl_c() => outcome.context("listen for Ctrl-C").and(Err(anyhow!("interrupted"))),
    }
}
