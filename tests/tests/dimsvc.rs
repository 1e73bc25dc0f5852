//! dimsvc over real MySQL and its stores: exact history, fences, kills.

use anyhow::{Context as _, Result, ensure};
use std::{collections::BTreeMap, fs, time::Duration};
use tidemark_proto::dim::v1::{LookupRequest, TableLookup};
use tidemark_tests::{
    dim::{Dim, as_of_gtid, as_of_offset, at_least_gtid, latest, now},
    eventually,
    isolation::Isolation,
    ledger::{self, Ledger, Shape, TABLES},
    programs::Programs,
    stack::{Instance, Stack},
};

const STACK: &[&str] = &["mysql", "kafka", "clickhouse"];
const PATIENCE: Duration = Duration::from_secs(60);
const SHAPE: Shape = Shape { keys: 12, accounts: 4 };

const DIMENSIONS: &str = "
    [a]\ncache = \"full\"\n
    [b]\ncache = \"lru\"\n
    [c]\ncache = \"lru\"\ncolumns = [\"id\", \"v\"]\n";

fn programs(isolation: &Isolation) -> Result<Programs> {
    let programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
    Ok(programs)
}

async fn connect(programs: &Programs) -> Result<Dim> {
    Dim::connect(programs.settings.get("dimsvc.listen")?).await
}

/// Random transactions over three tables on three connections; then every key
/// as of every transaction equals a replay of the log.
async fn history_is_exact(store: &str) -> Result<()> {
    let isolation = Isolation::new("history", &Stack::with(STACK)?)?;
    let mut programs = programs(&isolation)?;
    programs.settings.set("dimsvc.store", store);
    let mut ledger = Ledger::create(&isolation, SHAPE, 42)?;
    ledger.run(&isolation, 200)?;
    let _dimsvc = programs.dimsvc().await?;
    let mut dim = connect(&programs).await?;
    let before = ledger.last()?;
    ledger.run(&isolation, 400)?;
    dim.lookup("a", &[], at_least_gtid(&ledger.last()?.to_string())).await?;
    let (mut checks, mut changed) = (0, 0);
    for commit in ledger.commits_after(&before) {
        let gtid = &commit.gtid;
        for (number, table) in TABLES.into_iter().enumerate() {
            let keys = ledger.keys();
            let answers = dim.lookup(table, &keys, as_of_gtid(&gtid.to_string())).await?;
            for (id, answer) in (0..).zip(answers) {
                let expect = ledger.row_as_of((number, id), gtid);
                let newest = ledger.newest((number, id));
                assert_eq!(answer.row, expect, "{table} {id} as of {gtid}, seed 42");
                assert!(!answer.before_history);
                checks += 1;
                changed += usize::from(expect != newest);
            }
        }
    }
    ensure!(checks > 10_000 && changed > checks / 4, "{changed} of {checks} checks could have failed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_reads_its_own_past_from_the_embedded_store() -> Result<()> {
    history_is_exact("embedded").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_reads_its_own_past_from_hbase() -> Result<()> {
    history_is_exact("hbase").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_change_is_seen_by_the_next_fenced_lookup() -> Result<()> {
    let isolation = Isolation::new("fence", &Stack::with(STACK)?)?;
    let programs = programs(&isolation)?;
    let _ledger = Ledger::create(&isolation, SHAPE, 1)?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("INSERT INTO a VALUES (1000, 0, 's')")?;
    let _dimsvc = programs.dimsvc().await?;
    let mut dim = connect(&programs).await?;
    let key = ["[1000]".to_owned()];
    for value in 1..=200 {
        let update = format!("UPDATE a SET v = {value} WHERE id = 1000");
        let gtid = session.transact(&[&update])?.to_string();
        let point = if value % 2 == 0 { now() } else { at_least_gtid(&gtid) };
        let answer = dim.lookup("a", &key, point).await?.remove(0);
        assert_eq!(answer.row, format!("{{\"id\":1000,\"v\":{value},\"s\":\"s\"}}"));
    }
    Ok(())
}

/// Every row of every table, as MySQL has it now.
async fn equals_mysql(isolation: &Isolation, dim: &mut Dim) -> Result<()> {
    let mut session = isolation.session(&isolation.name)?;
    for table in TABLES {
        let rows = ledger::rows_of(&mut session, table)?;
        let mut keys: Vec<_> = rows.keys().cloned().collect();
        keys.push("[99999999]".into());
        for keys in keys.chunks(10_000) {
            let answers = dim.lookup(table, keys, now()).await?;
            for (key, answer) in keys.iter().zip(answers) {
                assert_eq!(answer.row, rows.get(key).cloned().unwrap_or_default(), "{table} {key}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_that_was_killed_goes_on_where_it_was() -> Result<()> {
    let isolation = Isolation::new("killed_load", &Stack::with(STACK)?)?;
    let mut programs = programs(&isolation)?;
    programs.settings.set("dimsvc.snapshot.chunk_rows", 64);
    let mut ledger = Ledger::create(&isolation, SHAPE, 7)?;
    ledger.fill(&isolation, 30_000)?;
    ledger.run(&isolation, 20)?;
    let mut dimsvc = programs.start_dimsvc()?;
    for loaded in [2_000, 12_000] {
        let address = programs.settings.get("dimsvc.listen")?;
        eventually("rows are loaded", PATIENCE, async || {
            let status = Dim::connect(address).await?.status().await?;
            let rows: u64 = status.dimensions.iter().map(|dimension| dimension.snapshot_rows).sum();
            ensure!(rows >= loaded, "{rows} rows");
            ensure!(status.dimensions.iter().any(|dimension| !dimension.complete), "complete already");
            Ok(())
        })
        .await?;
        ledger.run(&isolation, 20)?;
        dimsvc.kill()?;
        ledger.run(&isolation, 20)?;
        dimsvc = programs.start_dimsvc()?;
    }
    programs.wait_serving(&mut dimsvc).await?;
    let log = dimsvc.log()?;
    let resumed = log.lines().any(|line| line.contains("first load begins") && !line.ends_with("rows=0"));
    assert!(resumed, "no load went on where it was:\n{log}");
    equals_mysql(&isolation, &mut connect(&programs).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_under_load_resumes_without_another_first_load() -> Result<()> {
    let isolation = Isolation::new("killed", &Stack::with(STACK)?)?;
    let programs = programs(&isolation)?;
    let mut ledger = Ledger::create(&isolation, SHAPE, 9)?;
    ledger.run(&isolation, 50)?;
    let mut dimsvc = programs.dimsvc().await?;
    let loads = dimsvc.log()?.matches("first load begins").count();
    for _ in 0..3 {
        ledger.run(&isolation, 60)?;
        let mut dim = connect(&programs).await?;
        dim.lookup("a", &ledger.keys(), latest()).await?;
        dimsvc.kill()?;
        ledger.run(&isolation, 30)?;
        dimsvc = programs.dimsvc().await?;
    }
    let log = dimsvc.log()?;
    assert_eq!(log.matches("first load begins").count(), loads, "loaded again:\n{log}");
    assert!(log.contains("resuming from the checkpoint"), "{log}");
    let mut dim = connect(&programs).await?;
    equals_mysql(&isolation, &mut dim).await?;
    // History from before the kills is there too.
    let gtid = ledger.last()?.to_string();
    dim.lookup("b", &ledger.keys(), at_least_gtid(&gtid)).await.context("the last transaction")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_writes_what_was_applied() -> Result<()> {
    let isolation = Isolation::new("stopped", &Stack::with(STACK)?)?;
    let programs = programs(&isolation)?;
    let mut ledger = Ledger::create(&isolation, SHAPE, 11)?;
    let mut dimsvc = programs.dimsvc().await?;
    ledger.run(&isolation, 50)?;
    let mut dim = connect(&programs).await?;
    dim.lookup("a", &ledger.keys(), now()).await?;
    // A lookup that waits must not hold up the stop, nor be answered wrongly.
    let mut waiting = connect(&programs).await?;
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    let fenced = tokio::spawn(async move { waiting.lookup("a", &[], as_of_offset("binlog.900000:4")).await });
    let status = dimsvc.stop(Duration::from_secs(10)).await?;
    ensure!(status.success(), "ended with {status}");
    ensure!(fenced.await?.is_err(), "the position was never applied");
    ensure!(dimsvc.log()?.contains("checkpoint written"), "{}", dimsvc.log()?);
    Ok(())
}

/// Fails without `retire`: what happened meanwhile would be missing for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_dimension_that_was_not_followed_is_not_served_again() -> Result<()> {
    let isolation = Isolation::new("retired", &Stack::with(STACK)?)?;
    let programs = programs(&isolation)?;
    let _ledger = Ledger::create(&isolation, SHAPE, 13)?;
    let file = programs.warehouse.join("dimensions.toml");
    programs.dimsvc().await?.stop(Duration::from_secs(10)).await?;
    fs::write(&file, "[a]\ncache = \"full\"\n")?;
    programs.dimsvc().await?.stop(Duration::from_secs(10)).await?;
    fs::write(&file, DIMENSIONS)?;
    let refused = programs.dimsvc().await.err().context("it must not start")?.to_string();
    ensure!(refused.contains("was taken out before"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lost_its_binlog_is_refused() -> Result<()> {
    let instance = Instance::start("mysql", "reset")?;
    let isolation = Isolation::new("reset", &instance.stack)?;
    let programs = programs(&isolation)?;
    let mut ledger = Ledger::create(&isolation, SHAPE, 17)?;
    ledger.run(&isolation, 20)?;
    programs.dimsvc().await?.stop(Duration::from_secs(10)).await?;
    isolation.session("")?.exec("RESET MASTER")?;
    let refused = programs.dimsvc().await.err().context("it must not start")?.to_string();
    ensure!(refused.contains("no longer has all transactions"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_each_lookup_by_its_id() -> Result<()> {
    let isolation = Isolation::new("stream", &Stack::with(STACK)?)?;
    let programs = programs(&isolation)?;
    let ledger = Ledger::create(&isolation, SHAPE, 19)?;
    ledger.fill(&isolation, 100)?;
    let _dimsvc = programs.dimsvc().await?;
    let mut dim = connect(&programs).await?;
    let lookup = |id: u64| LookupRequest {
        id,
        tables: vec![TableLookup {
            table: if id == 50 { "nope".into() } else { "a".into() },
            plain_keys: vec![format!("[{}]", 1_000 + id)],
            ..Default::default()
        }],
        ..Default::default()
    };
    let requests: Vec<_> = (0..100).map(lookup).collect();
    let mut answers = dim.0.lookup_stream(futures_util::stream::iter(requests)).await?.into_inner();
    let mut rows = BTreeMap::new();
    while let Some(answer) = answers.message().await? {
        let row =
            answer.tables.first().and_then(|table| table.answers.first()).map(|answer| answer.row.clone());
        rows.insert(answer.id, row.ok_or(answer.error.map(|error| error.reason)));
    }
    for id in 0..100 {
        let expect = format!("{{\"id\":{},\"v\":{id},\"s\":\"filled\"}}", 1_000 + id);
        let expect = if id == 50 { Err(Some("UNKNOWN_TABLE".to_owned())) } else { Ok(expect) };
        assert_eq!(rows.get(&id), Some(&expect), "{id}");
    }
    Ok(())
}
