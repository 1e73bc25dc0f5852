//! The operators' commands against a real dimsvc.

use super::{STACK, run};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tidemark_tests::{
    eventually, isolation::Isolation, mysql::Session, process::Process, programs::Programs, stack::Stack,
};

const PATIENCE: Duration = Duration::from_secs(30);
const DIMENSIONS: &str = "[full]\ncache = \"full\"\n[lru]\ncache = \"lru\"\n[lazy]\nload = \"lazy\"\n";
const TABLES: [&str; 3] = ["full", "lru", "lazy"];

/// A dimsvc with a table of each kind, all with the same three rows. The first
/// fields end first.
struct Scene {
    _dimsvc: Process,
    programs: Programs,
    session: Session,
    _isolation: Isolation,
}

impl Scene {
    async fn begin(test: &str) -> Result<Self> {
        let isolation = Isolation::new(test, &Stack::with(STACK)?)?;
        let programs = isolation.programs("examples/gmall")?;
        fs::write(programs.warehouse.join("dimensions.toml"), DIMENSIONS)?;
        let mut session = isolation.session(&isolation.name)?;
        for table in TABLES {
            session.exec(&format!("CREATE TABLE `{table}` (id BIGINT PRIMARY KEY, v INT)"))?;
            session.exec(&format!("INSERT INTO `{table}` VALUES (1, 10), (2, 20), (3, 30)"))?;
        }
        let dimsvc = programs.dimsvc().await?;
        Ok(Self { _dimsvc: dimsvc, programs, session, _isolation: isolation })
    }

    /// Runs a command that must end with this code.
    fn text(&self, line: &str, expect: i32) -> Result<String> {
        let (code, text) = run(&self.programs, line)?;
        ensure!(code == expect, "{line}: {code}, not {expect}\n{text}");
        Ok(text)
    }

    /// The lines of a command that must succeed.
    fn json(&self, line: &str) -> Result<Vec<Value>> {
        let text = self.text(&format!("{line} --output json"), 0)?;
        text.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
    }

    fn one(&self, line: &str) -> Result<Value> {
        self.json(line)?.pop().context("a line")
    }

    fn resident_rows(&self, table: &str) -> Result<u64> {
        let status = self.one("status")?;
        let dimensions = status.get("dimensions").and_then(Value::as_array).context("dimensions")?;
        let is_asked = |dimension: &&Value| dimension.get("name").is_some_and(|name| name == table);
        let dimension = dimensions.iter().find(is_asked).context("it is one")?;
        dimension.get("resident_rows").and_then(Value::as_u64).context("rows")
    }

    async fn has_resident(&self, table: &str, expect: u64) -> Result<()> {
        eventually(&format!("{expect} rows of {table} are resident"), PATIENCE, async || {
            let rows = self.resident_rows(table)?;
            ensure!(rows == expect, "{rows} are");
            Ok(())
        })
        .await
    }

    /// A change that the binlog does not tell of.
    fn exec_unseen(&mut self, sql: &str) -> Result<()> {
        self.session.exec("SET sql_log_bin = 0")?;
        self.session.exec(sql)?;
        self.session.exec("SET sql_log_bin = 1")
    }
}

/// Each tier that is told of, with the rows that it holds.
fn tiers(explained: &Value) -> Result<Vec<(&str, Vec<&Value>)>> {
    let mut tiers = Vec::new();
    for tier in explained.get("tiers").and_then(Value::as_array).context("tiers")? {
        let versions = tier.get("versions").and_then(Value::as_array).context("versions")?;
        let rows = versions.iter().filter_map(|held| held.get("row")).collect();
        tiers.push((tier.get("tier").and_then(Value::as_str).context("a name")?, rows));
    }
    Ok(tiers)
}

/// Fails without a tier of `Views::all`, and when `Views::answer` reads at
/// another place than a lookup does.
#[tokio::test(flavor = "multi_thread")]
async fn explain_names_each_tier_and_answers_as_a_lookup_does() -> Result<()> {
    let mut scene = Scene::begin("client_explain").await?;
    let before = scene.session.binlog_end()?;
    for table in TABLES {
        scene.session.exec(&format!("UPDATE `{table}` SET v = 11 WHERE id = 1"))?;
    }
    let (old, new) = (json!({"id": 1, "v": 10}), json!({"id": 1, "v": 11}));
    for table in TABLES {
        let lookup = scene.one(&format!("lookup {table} 1 --at-least now"))?;
        let explained = scene.one(&format!("explain {table} 1 --at-least now --source"))?;
        for part in ["found", "row", "version", "from", "to", "deleted", "before_history", "stale"] {
            assert_eq!(explained["answer"][part], lookup[part], "{part} of {table}: {explained}");
        }
        let is_resident = table == "full" || lookup["tier"] != "source";
        ensure!(
            is_resident || explained["answer"]["tier"] == "lru",
            "the lookup made it resident: {explained}"
        );
        let resident = if table == "full" { "full" } else { "lru" };
        let beneath: &[&str] = if table == "lazy" { &["source"] } else { &["store", "source"] };
        let told = tiers(&explained)?;
        let names: Vec<_> = told.iter().map(|(tier, _)| *tier).collect();
        assert_eq!(names, [&[resident, "overlay"], beneath].concat(), "{explained}");
        for (tier, rows) in told.iter().filter(|(tier, _)| *tier != "overlay") {
            let expect: &[&Value] = if *tier == "store" { &[&new, &old] } else { &[&new] };
            assert_eq!(rows, expect, "{tier} of {table}: {explained}");
        }
        let text = scene.text(&format!("explain {table} 1 --source"), 0)?;
        for tier in names {
            ensure!(text.lines().any(|line| line.starts_with(tier)), "no line of {tier}:\n{text}");
        }
        ensure!(text.contains("answer   {\"id\":1,\"v\":11}"), "{text}");
    }
    let past = scene.one(&format!("explain full 1 --at {before}"))?;
    assert_eq!(past["answer"]["row"], old, "{past}");
    // An absent row is an answer like any other: 1 is for lookups.
    let absent = scene.text("explain full 9", 0)?;
    ensure!(absent.contains("answer   absent"), "{absent}");
    for (line, expect) in [("nope 1", "UNKNOWN_TABLE"), ("full x", "BAD_KEY"), ("lru [1", "JSON array")] {
        let refused = scene.text(&format!("explain {line}"), 2)?;
        ensure!(refused.contains(expect) && refused.lines().count() == 1, "{line}: {refused}");
    }
    Ok(())
}

/// Fails without `cache.invalidate` in `Admin::drop_keys`, and without
/// `invalidate_all` in `Admin::drop_all`.
#[tokio::test(flavor = "multi_thread")]
async fn invalidate_lets_go_of_what_is_resident() -> Result<()> {
    let scene = Scene::begin("client_invalidate").await?;
    let tier = |table: &str, key: &str| -> Result<Value> {
        Ok(scene.one(&format!("lookup {table} {key} --at-least now"))?["tier"].take())
    };
    for (table, beneath) in [("lru", "store"), ("lazy", "source")] {
        scene.json(&format!("lookup {table} 1 2 3 --at-least now"))?;
        scene.has_resident(table, 3).await?;

        let said = scene.text(&format!("invalidate {table} 1"), 0)?;
        assert_eq!(said, "1 dropped; the next lookups load them again\n");
        scene.has_resident(table, 2).await?;
        assert_eq!(tier(table, "2")?, "lru", "{table}");
        assert_eq!(tier(table, "1")?, beneath, "{table}");
        scene.has_resident(table, 3).await?;

        assert_eq!(scene.one(&format!("invalidate {table} 1 9"))?, json!({"dropped": 1}), "9 was not there");
        scene.has_resident(table, 2).await?;
        assert_eq!(scene.one(&format!("invalidate {table}"))?, json!({"dropped": 2}));
        scene.has_resident(table, 0).await?;
        for key in ["1", "2", "3"] {
            assert_eq!(tier(table, key)?, beneath, "{table} {key}");
        }
    }
    let cases = [
        ("full 1", "stays resident"),
        ("nope", "UNKNOWN_TABLE"),
        ("lru x", "BAD_KEY"),
        ("lru -", "has no key"),
    ];
    for (line, expect) in cases {
        let refused = scene.text(&format!("invalidate {line}"), 2)?;
        ensure!(refused.contains(expect) && refused.lines().count() == 1, "{line}: {refused}");
    }
    scene.has_resident("lru", 3).await
}

/// Fails without `compare_store` in `Run::compare_table` (the row that is gone
/// stays), and without `of` in `Repair::keys` (all keys are counted).
#[tokio::test(flavor = "multi_thread")]
async fn repair_mends_what_differs_and_says_what_it_did() -> Result<()> {
    let mut scene = Scene::begin("client_repair").await?;
    for table in ["full", "lru"] {
        let nothing = scene.text(&format!("repair {table}"), 0)?;
        let last = nothing.lines().last().context("progress")?;
        // Each row of the source, then each of the store.
        ensure!(last.starts_with("6 compared done: 0 written, 0 deleted, at 1/"), "{nothing}");

        scene.exec_unseen(&format!("UPDATE `{table}` SET v = 12 WHERE id = 1"))?;
        scene.exec_unseen(&format!("DELETE FROM `{table}` WHERE id = 3"))?;
        let keys = scene.json(&format!("repair {table} 1 2"))?;
        let (last, before) = keys.split_last().context("progress")?;
        ensure!(before.iter().all(|step| step["done"] == false), "{keys:?}");
        let counts = ["done", "compared", "estimate", "written", "deleted"].map(|part| last[part].clone());
        assert_eq!(counts, [json!(true), json!(2), json!(2), json!(1), json!(0)], "{last}");
        let rest = scene.one(&format!("repair {table}"))?;
        assert_eq!([&rest["done"], &rest["written"], &rest["deleted"]], [&json!(true), &json!(0), &json!(1)]);

        let rows = scene.text(&format!("lookup {table} 1 2 3 --at-least now --output json"), 1)?;
        let rows: Vec<Value> = rows.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let values: Vec<_> = rows.iter().map(|line| &line["row"]["v"]).collect();
        assert_eq!(values, [&json!(12), &json!(20), &Value::Null], "{table}");
    }
    for (line, expect) in [("lazy", "REPAIR_REFUSED"), ("nope", "UNKNOWN_TABLE"), ("full x", "BAD_KEY")] {
        let refused = scene.text(&format!("repair {line}"), 2)?;
        ensure!(refused.contains(expect) && refused.lines().count() == 1, "{line}: {refused}");
    }
    Ok(())
}

/// Fails without `findings.count` of what was compared: no check is told of; and
/// when `AuditLine` leaves a count out.
#[tokio::test(flavor = "multi_thread")]
async fn audit_prints_what_was_compared_and_what_differed() -> Result<()> {
    let mut scene = Scene::begin("client_audit").await?;
    scene.session.exec("UPDATE `full` SET v = v + 1")?;
    let audit = eventually("rows are compared", PATIENCE, async || {
        let audit = scene.one("audit")?;
        ensure!(audit["checks"].as_u64() >= Some(3), "{audit}");
        Ok(audit)
    })
    .await?;
    assert_eq!((&audit["mismatches"], &audit["last"]), (&json!(0), &json!([])), "{audit}");
    let text = scene.text("audit", 0)?;
    for line in ["checks", "mismatches             0", "overtaken by a change", "nines", "worst staleness"] {
        ensure!(text.lines().any(|printed| printed.starts_with(line)), "no {line}:\n{text}");
    }

    let audit = eventually("a row that differs is found", PATIENCE, async || {
        scene.session.exec("UPDATE `full` SET v = 40 WHERE id = 2")?;
        scene.exec_unseen("UPDATE `full` SET v = 41 WHERE id = 2")?;
        let audit = scene.one("audit")?;
        ensure!(audit["mismatches"].as_u64() > Some(0), "{audit}");
        Ok(audit)
    })
    .await?;
    let last = audit["last"].as_array().and_then(|last| last.last()).context("the last mismatch")?;
    let parts = ["table", "key", "held", "expected"].map(|part| last[part].clone());
    let (held, expected) = ("{\"id\":2,\"v\":40}", "{\"id\":2,\"v\":41}");
    assert_eq!(parts, [json!("full"), json!([2]), json!(held), json!(expected)], "{audit}");
    let text = scene.text("audit", 0)?;
    let mut printed = text.lines().filter(|line| line.starts_with("full "));
    ensure!(
        printed.next_back().is_some_and(|line| line.contains(held) && line.ends_with(expected)),
        "{text}"
    );
    Ok(())
}
