//! The command-line client against a real dimsvc: what it prints, and its exit
//! codes.

#[path = "client/admin.rs"]
mod admin;

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Output, Stdio},
};
use tidemark_tests::{free_port, isolation::Isolation, programs::Programs, stack::Stack};

const STACK: &[&str] = &["mysql", "kafka", "clickhouse"];

/// Runs `dimsvc` with the words of a line.
fn command(programs: &Programs, line: &str) -> Result<Command> {
    let mut command = Command::new(programs.binaries.join("dimsvc"));
    let server = format!("http://{}", programs.settings.get("dimsvc.listen")?);
    command.args(line.split(' ')).env("TIDEMARK_SERVER", server).stdin(Stdio::null());
    Ok(command)
}

fn run(programs: &Programs, line: &str) -> Result<(i32, String)> {
    ended(command(programs, line)?.output().context("run the client")?)
}

fn ended(output: Output) -> Result<(i32, String)> {
    let text = [output.stdout, output.stderr].map(String::from_utf8);
    let [out, error] = text;
    Ok((output.status.code().context("it ended by itself")?, format!("{}{}", out?, error?)))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_programs_get_answers_and_exit_codes() -> Result<()> {
    let isolation = Isolation::new("client", &Stack::with(STACK)?)?;
    let programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), "[sku]\ncache = \"full\"\n")?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE sku (id BIGINT PRIMARY KEY, name VARCHAR(20) CHARACTER SET utf8mb4)")?;
    session.exec("INSERT INTO sku VALUES (1, '北京'), (-2, NULL)")?;
    let _dimsvc = programs.dimsvc().await?;
    let before = session.binlog_end()?;
    let first = session.transact(&["UPDATE sku SET name = 'x' WHERE id = 1"])?;
    session.transact(&["UPDATE sku SET name = 'y' WHERE id = 1"])?;

    let (code, text) = run(&programs, &format!("lookup sku 1 --at {before}"))?;
    ensure!(code == 0 && text.contains("北京"), "{code}\n{text}");
    let (code, text) = run(&programs, "lookup sku 1 -2 --at now")?;
    ensure!(code == 0 && text.contains("[\"1\"]   found") && text.contains("NULL"), "{code}\n{text}");
    let (code, text) = run(&programs, &format!("lookup sku [1] --at {first} --output json"))?;
    let line: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!((code, &line["row"]["name"]), (0, &"x".into()), "as that transaction left it");
    let (code, text) = run(&programs, "lookup sku 1 3 --columns name --output json --at-least now")?;
    let rows: Vec<_> = text.lines().map(serde_json::from_str::<serde_json::Value>).collect();
    ensure!(code == 1, "one is absent: {code}\n{text}");
    let [Ok(found), Ok(absent)] = &rows[..] else { anyhow::bail!("two lines: {text}") };
    assert_eq!(
        (&found["row"], &absent["row"]),
        (&serde_json::json!({"name": "y"}), &serde_json::Value::Null)
    );

    let mut piped =
        command(&programs, "lookup sku -")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    piped.stdin.take().context("it reads")?.write_all(b"1\n[-2]\n")?;
    let (code, text) = ended(piped.wait_with_output()?)?;
    ensure!(code == 0 && text.contains("2 found, 0 absent"), "{code}\n{text}");

    let (code, text) = run(&programs, "status")?;
    ensure!(code == 0 && text.contains("followed") && text.contains("complete"), "{code}\n{text}");
    let (code, text) = run(&programs, "dimensions sku")?;
    ensure!(code == 0 && text.contains("varchar(20)"), "{code}\n{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_one_line_with_the_cure() -> Result<()> {
    let isolation = Isolation::new("client_wrong", &Stack::with(STACK)?)?;
    let mut programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), "[sku]\ncache = \"full\"\n")?;
    isolation.session(&isolation.name)?.exec("CREATE TABLE sku (id BIGINT PRIMARY KEY, name VARCHAR(20))")?;
    let _dimsvc = programs.dimsvc().await?;
    let cases = [
        ("lookup nope 1", 2, "UNKNOWN_TABLE: "),
        ("lookup sku x", 2, "BAD_KEY: "),
        ("lookup sku 1 --at binlog.900000:4 --timeout 100ms", 69, "NOT_APPLIED_YET: "),
        ("lookup sku 1 --at-least 00000000-0000-0000-0000-000000000000:1 --timeout 100ms", 69, "; "),
        ("watch nope", 2, "`dimsvc dimensions` lists them"),
        ("watch --after 1/000000:4", 2, "TOO_OLD: "),
    ];
    for (line, expect, text) in cases {
        let (code, said) = run(&programs, line)?;
        ensure!(code == expect && said.contains(text), "{line}: {code}\n{said}");
        ensure!(said.starts_with("dimsvc: ") && said.lines().count() == 1, "{line}: {said}");
    }
    programs.settings.set("dimsvc.listen", format!("127.0.0.1:{}", free_port()?));
    let (code, said) = run(&programs, "status")?;
    ensure!(code == 69 && said.contains("cannot reach") && said.lines().count() == 1, "{code}\n{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_changes_until_it_is_interrupted() -> Result<()> {
    let isolation = Isolation::new("client_watch", &Stack::with(STACK)?)?;
    let programs = isolation.programs("examples/gmall")?;
    fs::write(programs.warehouse.join("dimensions.toml"), "[sku]\ncache = \"full\"\n")?;
    let mut session = isolation.session(&isolation.name)?;
    session.exec("CREATE TABLE sku (id BIGINT PRIMARY KEY, name VARCHAR(20))")?;
    let _dimsvc = programs.dimsvc().await?;
    let mut watch = command(&programs, "watch sku --output json")?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("it prints")?).lines();
    // The first mark says that it watches.
    lines.next().context("a mark")??;
    session.exec("INSERT INTO sku VALUES (7, 'a')")?;
    session.exec("DELETE FROM sku WHERE id = 7")?;
    let mut changes = Vec::new();
    while changes.len() < 2 {
        let line: serde_json::Value = serde_json::from_str(&lines.next().context("it goes on")??)?;
        changes.extend(line["changes"].as_array().context("changes")?.iter().cloned());
    }
    assert_eq!((&changes[0]["row"]["name"], &changes[1]["deleted"]), (&"a".into(), &true.into()));
    let sent = Command::new("kill").args(["-INT", &watch.id().to_string()]).status()?;
    ensure!(sent.success() && watch.wait()?.success(), "ctrl-c is a clean end");
    Ok(())
}
