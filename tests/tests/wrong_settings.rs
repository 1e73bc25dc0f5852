//! Wrong settings: each gives one clear line that names the place and the fix,
//! and a non-zero exit at once.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tidemark_tests::{
    isolation::Isolation,
    programs::Programs,
    stack::{Instance, Stack},
};

/// Far above what any case takes: a program that waits instead of refusing.
const PATIENCE: Duration = Duration::from_secs(5);

/// One mistake: how it is made, and what the line about it must say.
struct Case {
    name: &'static str,
    tidemark: &'static str,
    dimensions: &'static str,
    settings: &'static [(&'static str, &'static str)],
    expect: &'static [&'static str],
}

const GOOD: &str = "[good]\n";

const CASES: &[Case] = &[
    case(
        "unknown key",
        "[mysql]\nhots = \"x\"\n",
        GOOD,
        &["tidemark.toml:2:1", "unknown field `hots`", "`host`"],
    ),
    case(
        "unknown section",
        "[mysqld]\nport = 1\n",
        GOOD,
        &["tidemark.toml:1:2", "unknown field `mysqld`", "`mysql`"],
    ),
    case("wrong type", "[mysql]\nport = \"x\"\n", GOOD, &["tidemark.toml:2:8", "expected u16"]),
    case("number out of range", "[mysql]\nport = 70000\n", GOOD, &["tidemark.toml:2:8", "70000"]),
    case("not TOML", "[mysql\n", GOOD, &["tidemark.toml:1:"]),
    case(
        "unknown store",
        "[dimsvc]\nstore = \"disk\"\n",
        GOOD,
        &["tidemark.toml:2:9", "`embedded` or `hbase`"],
    ),
    case("unknown key of a dimension", "", "[good]\ncahce = \"full\"\n", &["dimensions.toml:2:1", "`cache`"]),
    case("unknown tier", "", "[good]\ncache = \"all\"\n", &["dimensions.toml:2:9", "`full`, `lru`, `auto`"]),
    case("no dimension", "", "", &["dimensions.toml", "add a section"]),
    case("unknown table", "", "[nope]\n", &["dimensions.toml: [nope]", "no table", "set `source`"]),
    case(
        "unknown column",
        "",
        "[good]\ncolumns = [\"id\", \"nmae\"]\n",
        &["[good]", "no column `nmae`", "name"],
    ),
    case("unknown key column", "", "[good]\nkey = [\"idd\"]\n", &["[good]", "idd"]),
    case("no primary key", "", "[no_key]\n", &["[no_key]", "no primary key", "add one"]),
    case(
        "key that is not unique",
        "",
        "[good]\nkey = [\"name\"]\n",
        &["[good]", "neither the primary key", "ALTER TABLE"],
    ),
    case(
        "collation that ignores case",
        "",
        "[by_name]\n",
        &["[by_name]", "ignores case", "fold = \"lower\""],
    ),
    case("engine without transactions", "", "[flat]\n", &["[flat]", "MyISAM", "ENGINE=InnoDB"]),
    case("cascading foreign key", "", "[child]\n", &["[child]", "cascades", "drop it"]),
    case("enum key", "", "[by_label]\n", &["[by_label]", "enum", "cannot be keys"]),
    case("float key", "", "[by_float]\n", &["[by_float]", "float", "cannot be keys"]),
    case(
        "shared sink",
        "",
        "[good]\nsink_table = \"s\"\n[again]\nsource = \"good\"\nsink_table = \"s\"\n",
        &["`sink_table` s", "again, good"],
    ),
    case("kept name", "", "[\"a@b\"]\nsource = \"good\"\n", &["[a@b]", "`@` is kept", "set `source`"]),
    case(
        "lazy and full",
        "",
        "[good]\nload = \"lazy\"\ncache = \"full\"\n",
        &["[good]", "cache = \"full\"", "take out"],
    ),
    case(
        "lazy with an index",
        "",
        "[good]\nload = \"lazy\"\nindexes = { by_name = [\"name\"] }\n",
        &["[good]", "`indexes`", "take out"],
    ),
    case(
        "lazy with history",
        "",
        "[good]\nload = \"lazy\"\nhistory_days = 1\n",
        &["[good]", "`history_days`", "take out"],
    ),
    case(
        "lazy and shared",
        "[dimsvc.shared]\nurl = \"redis://127.0.0.1:1\"\n",
        "[good]\nload = \"lazy\"\nshared = true\n",
        &["[good]", "shared = true", "take out"],
    ),
    case(
        "lazy that keeps deleted rows",
        "",
        "[good]\nload = \"lazy\"\ndeleted = \"mark\"\n",
        &["[good]", "`deleted`", "take out"],
    ),
    case("full with a time", "", "[good]\ncache = \"full\"\nttl_seconds = 1\n", &["[good]", "`ttl_seconds`"]),
    case("full with a bound", "", "[good]\ncache = \"full\"\ncache_mib = 1\n", &["[good]", "`cache_mib`"]),
    case("refresh without a time", "", "[good]\nrefresh_ahead = true\n", &["[good]", "set `ttl_seconds`"]),
    case("no time", "", "[good]\nttl_seconds = 0\n", &["[good]", "`ttl_seconds` = 0", "leave it out"]),
    case("shared with nobody", "", "[good]\nshared = true\n", &["[good]", "set dimsvc.shared.url"]),
    case("removed, but when", "", "[good]\ndeleted = \"remove\"\n", &["[good]", "`deleted_after_days`"]),
    case(
        "kept, but until when",
        "",
        "[good]\ndeleted_after_days = 1\n",
        &["[good]", "set deleted = \"remove\""],
    ),
    case(
        "deleted rows removed within history",
        "",
        "[good]\nhistory_days = 9\ndeleted = \"remove\"\ndeleted_after_days = 8\n",
        &["[good]", "`history_days`", "raise `deleted_after_days`"],
    ),
    case("stale after what", "", "[good]\non_stale = \"mark\"\n", &["[good]", "`max_staleness_seconds`"]),
    case(
        "unknown index column",
        "",
        "[good]\nindexes = { by_nmae = [\"nmae\"] }\n",
        &["[good]: index `by_nmae`", "`nmae`", "id, name"],
    ),
    case("empty index", "", "[good]\nindexes = { by = [] }\n", &["[good]: index `by`", "no column"]),
    case(
        "index of the key",
        "",
        "[good]\nindexes = { by_id = [\"id\"] }\n",
        &["[good]: index `by_id`", "whole key", "take it out"],
    ),
    case(
        "index in another's sink",
        "",
        "[by_id]\nsource = \"good\"\nsink_table = \"dim_good__x\"\n\
         [good]\nfold = \"exact\"\nindexes = { x = [\"name\"] }\n",
        &["`sink_table` dim_good__x", "by_id, good@x"],
    ),
    case("bad sink name", "", "[good]\nsink_table = \"a b\"\n", &["[good]", "letters, digits"]),
    with("nobody at mysql.port", &[("mysql.port", "1")], &["[mysql]", "127.0.0.1:1"]),
    with("wrong password", &[("mysql.password", "\"no\"")], &["[mysql]", "Access denied"]),
    with("unknown variable", &[("mysql.prot", "1")], &["TIDEMARK__MYSQL__PROT", "unknown field `prot`"]),
    with("malformed address", &[("dimsvc.listen", "nowhere")], &["dimsvc.listen", "127.0.0.1:7400"]),
    with(
        "nobody at the gateway",
        &[("dimsvc.store", "hbase"), ("dimsvc.hbase.address", "127.0.0.1:1")],
        &["127.0.0.1:1"],
    ),
];

const fn case(
    name: &'static str,
    tidemark: &'static str,
    dimensions: &'static str,
    expect: &'static [&'static str],
) -> Case {
    Case { name, tidemark, dimensions, settings: &[], expect }
}

const fn with(
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
    expect: &'static [&'static str],
) -> Case {
    Case { name, tidemark: "", dimensions: GOOD, settings, expect }
}

const SCHEMA: &str = "
    CREATE TABLE good (id BIGINT PRIMARY KEY, name VARCHAR(20));
    CREATE TABLE no_key (id BIGINT);
    CREATE TABLE by_name (name VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY);
    CREATE TABLE by_float (id FLOAT PRIMARY KEY);
    CREATE TABLE by_label (id ENUM('a', 'b') PRIMARY KEY);
    CREATE TABLE flat (id BIGINT PRIMARY KEY) ENGINE=MyISAM;
    CREATE TABLE child (id BIGINT PRIMARY KEY, good BIGINT,
        FOREIGN KEY (good) REFERENCES good (id) ON DELETE CASCADE)";

fn make_schema(isolation: &Isolation) -> Result<()> {
    let mut session = isolation.session(&isolation.name)?;
    SCHEMA.split(';').try_for_each(|statement| session.exec(statement.trim()))
}

/// Runs dimsvc until it ends by itself; its last line.
fn refusal(programs: &Programs) -> Result<String> {
    let mut child = Command::new(programs.binaries.join("dimsvc"))
        .arg("serve")
        .arg(&programs.warehouse)
        .envs(programs.settings.variables())
        .current_dir(&programs.folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start dimsvc")?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            break;
        }
        std::thread::yield_now();
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(begun.elapsed() <= PATIENCE, "it did not end by itself:\n{text}");
    ensure!(!output.status.success(), "it was content:\n{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("dimsvc: ")).collect();
    let [line] = lines[..] else { anyhow::bail!("not one line about it:\n{text}") };
    ensure!(text.ends_with(&format!("{line}\n")), "more follows the line:\n{text}");
    Ok(line.to_owned())
}

fn write(folder: &Path, tidemark: &str, dimensions: &str) -> Result<()> {
    fs::write(folder.join("tidemark.toml"), tidemark)?;
    fs::write(folder.join("dimensions.toml"), dimensions)?;
    Ok(())
}

fn expect(name: &str, line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{name}: `{part}` is not in: {line}");
    }
}

#[test]
fn each_mistake_is_one_line_with_its_place_and_fix() -> Result<()> {
    let isolation = Isolation::new("wrong", &Stack::with(&["mysql", "kafka", "clickhouse"])?)?;
    make_schema(&isolation)?;
    let programs = isolation.programs("examples/gmall")?;
    for case in CASES {
        write(&programs.warehouse, case.tidemark, case.dimensions)?;
        let mut programs = programs.clone();
        for (key, value) in case.settings {
            programs.settings.set(key, value);
        }
        expect(case.name, &refusal(&programs).context(case.name)?, case.expect);
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let isolation = Isolation::new("inuse", &Stack::with(&["mysql", "kafka", "clickhouse"])?)?;
    make_schema(&isolation)?;
    let mut programs = isolation.programs("examples/gmall")?;
    write(&programs.warehouse, "", GOOD)?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    programs.settings.set("dimsvc.listen", taken.local_addr()?);
    expect("in use", &refusal(&programs)?, &["dimsvc.listen", "in use"]);
    Ok(())
}

#[test]
fn a_source_that_is_not_set_up_is_told_the_statement() -> Result<()> {
    let instance = Instance::start("mysql", "unfit")?;
    let isolation = Isolation::new("unfit", &instance.stack)?;
    make_schema(&isolation)?;
    let programs = isolation.programs("examples/gmall")?;
    write(&programs.warehouse, "", GOOD)?;
    for (setting, wrong, right) in [
        ("binlog_row_image", "'MINIMAL'", "SET PERSIST binlog_row_image"),
        ("binlog_row_metadata", "'MINIMAL'", "SET PERSIST binlog_row_metadata"),
        ("binlog_format", "'STATEMENT'", "SET PERSIST binlog_format"),
    ] {
        let mut session = isolation.session("")?;
        let before =
            session.value(&format!("SELECT @@GLOBAL.{setting}"))?.context("a setting has a value")?;
        session.exec(&format!("SET GLOBAL {setting} = {wrong}"))?;
        expect(setting, &refusal(&programs)?, &["[mysql]", setting, right]);
        session.exec(&format!("SET GLOBAL {setting} = '{before}'"))?;
    }
    Ok(())
}

#[test]
fn a_server_without_a_binlog_is_refused() -> Result<()> {
    let options =
        [("TIDEMARK_MYSQL_OPTIONS", "--skip-log-bin --gtid-mode=OFF --enforce-gtid-consistency=OFF")];
    let instance = Instance::start_with("mysql", "nobinlog", &options)?;
    let isolation = Isolation::new("nobinlog", &instance.stack)?;
    make_schema(&isolation)?;
    let programs = isolation.programs("examples/gmall")?;
    write(&programs.warehouse, "", GOOD)?;
    expect("no binlog", &refusal(&programs)?, &["[mysql]", "log_bin", "--log-bin"]);
    Ok(())
}
