//! HBase's Thrift gateway is a process of its own: a test may kill it and start
//! it again while HBase runs on. So dimsvc is seen to go on without it.
//!
//! OUTAGE_SECONDS= sets for how long at least it is gone.

use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeMap,
    env, fs,
    time::{Duration, Instant},
};
use tidemark_tests::{
    dim::{Dim, now},
    eventually, free_port, hbase,
    isolation::Isolation,
    mysql::Session,
    programs::Programs,
    stack::{Instance, Stack},
};

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: u64 = 50;
const TABLES: [&str; 2] = ["a", "b"];
const DIMENSIONS: &str = "[a]\ncache = \"full\"\n\n[b]\ncache = \"lru\"\n";
/// Changes while it is gone, however short that is.
const CHANGES: u64 = 100;

fn instance(name: &str) -> Result<Instance> {
    Instance::start("hbase", &format!("{name}-{}", std::process::id()))
}

#[tokio::test]
async fn a_killed_gateway_comes_back_at_its_address_with_what_hbase_holds() -> Result<()> {
    let instance = instance("gateway")?;
    let address = instance.stack.hbase.clone();
    let server = instance.pid("hbase")?;
    instance.kill("hbase_thrift").await?;
    assert!(!instance.stack.is_up("hbase"), "nobody may listen at {address}");
    instance.up()?;
    hbase::drop_tables(&address, "no_such_table")?;
    assert_eq!(instance.pid("hbase")?, server, "HBase itself ran on");
    Ok(())
}

/// Changes one row of each table, and sees both in what is resident at once.
async fn change(session: &mut Session, dim: &mut Dim, number: u64) -> Result<()> {
    let id = number % ROWS;
    for table in TABLES {
        session.exec(&format!("UPDATE {table} SET v = {number} WHERE id = {id}"))?;
    }
    for table in TABLES {
        let answer = dim.lookup(table, &[format!("[{id}]")], now()).await?;
        let row = &answer.first().context("one key was asked")?.row;
        ensure!(*row == format!(r#"{{"id":{id},"v":{number}}}"#), "{table}: {row} at change {number}");
    }
    Ok(())
}

/// A process with a folder and ports of its own, over the instance's store.
fn programs(isolation: &Isolation, instance: &Instance, name: &str) -> Result<Programs> {
    let mut programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
    programs.folder = programs.folder.join(name);
    let port = || free_port().map(|port| format!("127.0.0.1:{port}"));
    let settings = &mut programs.settings;
    settings.set("dimsvc.store", "hbase").set("dimsvc.server_id", 0);
    settings.set("dimsvc.hbase.address", &instance.stack.hbase);
    settings.set("dimsvc.listen", port()?).set("dimsvc.metrics_listen", port()?);
    Ok(programs)
}

async fn connect(programs: &Programs) -> Result<Dim> {
    Dim::connect(programs.settings.get("dimsvc.listen")?).await
}

/// Fails when the feed waits for the store as long as the overlay has room, or
/// when what was not durable is forgotten.
#[tokio::test]
async fn without_its_gateway_hits_and_changes_go_on_and_nothing_is_lost() -> Result<()> {
    let outage = env::var("OUTAGE_SECONDS").map_or(Ok(2), |text| text.parse())?;
    let isolation = Isolation::new("gateway", &Stack::with(&["mysql", "kafka", "clickhouse"])?)?;
    let instance = instance("outage")?;
    let mut session = isolation.session(&isolation.name)?;
    for table in TABLES {
        session.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v BIGINT)"))?;
        for id in 0..ROWS {
            session.exec(&format!("INSERT INTO {table} VALUES ({id}, 0)"))?;
        }
    }
    let writer = programs(&isolation, &instance, "writer")?;
    let running = writer.dimsvc().await?;
    let mut dim = connect(&writer).await?;
    let mut number = 0;
    // Every row of both tables is resident after this.
    for _ in 0..ROWS {
        number += 1;
        change(&mut session, &mut dim, number).await?;
    }

    instance.kill("hbase_thrift").await?;
    let (begun, before) = (Instant::now(), number);
    while begun.elapsed() < Duration::from_secs(outage) || number < before + CHANGES {
        number += 1;
        change(&mut session, &mut dim, number).await?;
    }
    let held = dim.status().await?;
    ensure!(held.durable < held.applied && held.overlay_bytes > 0, "nothing was held: {held:?}");
    println!("{} changes seen at once while the gateway was gone, {outage} s", number - before);

    instance.up()?;
    let applied = held.applied;
    let durable = async || {
        let status = dim.status().await?;
        ensure!(status.durable >= applied, "durable is {}", status.durable_text);
        Ok(())
    };
    eventually("all is durable", PATIENCE, durable).await?;
    drop(running);

    // Nothing of the first process's memory is left: this is what the store has.
    let fresh = programs(&isolation, &instance, "fresh")?;
    let _fresh = fresh.dimsvc().await?;
    let mut dim = connect(&fresh).await?;
    let keys: Vec<_> = (0..ROWS).map(|id| format!("[{id}]")).collect();
    for table in TABLES {
        let answers = dim.lookup(table, &keys, now()).await?;
        let held: BTreeMap<_, _> = answers.into_iter().map(|answer| (answer.key, answer.row)).collect();
        let mut expect = BTreeMap::new();
        for row in session.rows(&format!("SELECT id, v FROM {table}"))? {
            let [Some(id), Some(v)] = &row[..] else { anyhow::bail!("no NULL was written: {row:?}") };
            expect.insert(format!("[{id}]"), format!(r#"{{"id":{id},"v":{v}}}"#));
        }
        ensure!(held == expect, "{table} differs: {held:?}, {expect:?}");
    }
    hbase::drop_tables(&instance.stack.hbase, &isolation.name)?;
    Ok(())
}
