//! Wrong files, and what is said about each: `line:column: message`.

use super::example::gmall;
use crate::warehouse::{Mistake, Surroundings, Warehouse, compile_dwd, compile_dws, read_indicator};
use std::{fs, path::Path};
use tidemark_proto::config::{Config, DEFAULT_TOML, Dimensions};

/// The mistakes without their file's name, ` | ` between them.
fn told<T>(result: Result<T, Vec<Mistake>>, file: &str) -> String {
    let mistakes = result.err().unwrap_or_default();
    let lines = mistakes.iter().map(|mistake| mistake.to_string().replace(&format!("{file}:"), ""));
    lines.collect::<Vec<_>>().join(" | ")
}

fn dwd(sql: &str) -> String {
    let dimensions: Dimensions = toml::from_str(
        "[sku_info]\nkey = ['id']\ncolumns = ['sku_name', 'tm_id']\n[base_trademark]\n\
         [base_dic]\n[price]\nkey = ['sku_id', 'day']",
    )
    .unwrap();
    let around = Surroundings { config: &Config::default(), dimensions: &dimensions };
    told(compile_dwd("dwd/dwd_t.sql", sql, around), "dwd/dwd_t.sql")
}

fn check(cases: &[(&str, &str)], told: impl Fn(&str) -> String) {
    for (sql, expect) in cases {
        assert_eq!(told(sql), *expect, "of {sql}");
    }
}

#[test]
fn statements_that_are_none() {
    check(
        &[
            ("", "1:1: the file is empty: write INSERT INTO … SELECT …"),
            ("SELECT 1", "1:1: only INSERT INTO … SELECT … is supported"),
            ("UPDATE x SET a = 1", "1:1: only INSERT INTO … SELECT … is supported"),
            ("INSERT INTO dwd_t SELECT a FRM o", "1:32: expected end of statement, found: o"),
            ("INSERT INTO dwd_t\nSELECT 'a", "2:8: Unterminated string literal"),
            (
                "INSERT INTO dwd_x SELECT a FROM o WHERE row_kind = 'insert'",
                "1:13: the target is `dwd_x` but the file is `dwd_t.sql`: name them alike",
            ),
            (
                "INSERT INTO shop.dwd_t SELECT a FROM o WHERE row_kind = 'insert'",
                "1:13: `shop.dwd_t`: write the table without its database",
            ),
            (
                "INSERT INTO dwd_t (a) SELECT a FROM o WHERE row_kind = 'insert'",
                "1:13: INSERT cannot have a column list: name the columns with AS in the SELECT",
            ),
            (
                "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert';\nSELECT 2",
                "2:1: one statement a file: move this one to a file named as its table",
            ),
        ],
        dwd,
    );
}

#[test]
fn clauses_that_a_stream_has_not() {
    let clauses =
        |tail: &str| dwd(&format!("INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert' {tail}"));
    check(
        &[
            ("GROUP BY a", "1:70: dwd tables are not aggregated: GROUP BY belongs to a file of dws/"),
            ("ORDER BY a", "1:70: a stream cannot have ORDER BY"),
            ("LIMIT 3", "1:67: a stream cannot have LIMIT"),
            ("HAVING a > 1", "1:68: SELECT cannot have HAVING"),
            ("UNION SELECT b FROM p", "1:13: UNION is not supported: write a file each"),
        ],
        clauses,
    );
    check(
        &[
            (
                "INSERT INTO dwd_t SELECT DISTINCT a FROM o WHERE row_kind = 'insert'",
                "1:19: SELECT cannot have DISTINCT",
            ),
            (
                "INSERT INTO dwd_t SELECT o.a FROM o, p WHERE row_kind = 'insert'",
                "1:19: FROM one fact table, and JOIN for the others",
            ),
            (
                "INSERT INTO dwd_t SELECT a FROM (SELECT 1) o WHERE row_kind = 'insert'",
                "1:34: only tables can be read here, no subquery and no function",
            ),
        ],
        dwd,
    );
}

#[test]
fn plans_that_would_have_to_retract() {
    let filter = |filter: &str| dwd(&format!("INSERT INTO dwd_t\nSELECT a FROM o\n{filter}"));
    const RETRACT: &str =
        "add WHERE … row_kind = 'insert': retraction of updates and deletes is not supported yet";
    for (sql, place) in [
        ("", "2:15"),
        ("WHERE a = 1", "3:7"),
        ("WHERE row_kind <> 'delete'", "3:7"),
        ("WHERE row_kind IN ('insert', 'update')", "3:7"),
        ("WHERE row_kind = 'insert' OR a = 1", "3:7"),
    ] {
        assert_eq!(filter(sql), format!("{place}: {RETRACT}"));
    }
    for sql in ["WHERE 'insert' = o.row_kind AND a = 1", "WHERE row_kind IN ('insert', 'bootstrap-insert')"] {
        assert_eq!(filter(sql), "");
    }
}

#[test]
fn items_of_a_select() {
    let select =
        |items: &str| dwd(&format!("INSERT INTO dwd_t\nSELECT {items} FROM o WHERE row_kind = 'insert'"));
    check(
        &[
            ("a, a", "2:11: column `a` is there twice: rename one with AS"),
            ("a + 1", "2:8: `a + 1` needs a name: add AS name"),
            ("*", "2:8: * is not supported: a new source column would change the target; name the columns"),
            ("o.*", "2:8: * is not supported: a new source column would change the target; name the columns"),
            ("a AS `größe x`", "2:13: `größe x` is no plain name: use letters, digits and _"),
            ("COALESC(a, b) AS a", "2:8: function COALESC is not supported; did you mean `COALESCE`?"),
            (
                "LOWER(a) AS a",
                "2:8: function LOWER is not supported; there is COALESCE, NULLIF, CONCAT, CAST, CASE",
            ),
            (
                "SUM(a) AS a",
                "2:8: SUM is an aggregate: it can only be a SELECT item of its own in a file of dws/",
            ),
            ("a / b AS a", "2:8: operator `/` is not supported"),
            ("a LIKE 'x%' AS a", "2:8: `a LIKE 'x%'` is not supported here"),
            ("EXISTS (SELECT 1) AS a", "2:16: `EXISTS (SELECT 1)` is not supported here"),
            (
                "CAST(a AS DATE) AS a",
                "2:13: CAST AS DATE is not supported; there is BIGINT, CHAR, DECIMAL(p, s)",
            ),
            ("CAST(a AS DECIMAL(50, 2)) AS a", "2:13: DECIMAL(p, s) needs 1 <= p <= 38 and 0 <= s <= p"),
            ("\"text\" AS a", "2:8: write text in single quotes: 'text'"),
            ("NULLIF(a) AS b", "2:8: NULLIF cannot take 1 arguments"),
            ("CONCAT(DISTINCT a) AS a", "2:8: `CONCAT(DISTINCT a)`: DISTINCT is not supported"),
            ("shop.o.a", "2:8: write columns as table.column, without the database"),
            (
                "CASE WHEN a THEN TRIM(b) ELSE x.c END AS a, a / 2 AS b",
                "2:30: `TRIM(b)` is not supported here | 2:38: there is no table `x` here; did you mean `o`? \
                 | 2:52: operator `/` is not supported",
            ),
        ],
        select,
    );
}

#[test]
fn joins() {
    let join = |join: &str| {
        let join = join.replace("AS OF ROW", "FOR SYSTEM_TIME AS OF o.row_position");
        dwd(&format!("INSERT INTO dwd_t\nSELECT o.a FROM o\n{join}\nWHERE row_kind = 'insert'"))
    };
    check(
        &[
            (
                "JOIN sku_info AS s ON s.id = o.sku_id",
                "3:6: a join without a time would have to keep both tables for ever: \
                 write sku_info FOR SYSTEM_TIME AS OF o.row_position AS …",
            ),
            (
                "JOIN sku_info FOR SYSTEM_TIME AS OF o.ts AS s ON s.id = o.sku_id",
                "3:37: only FOR SYSTEM_TIME AS OF o.row_position is possible",
            ),
            (
                "JOIN skuinfo AS OF ROW AS s ON s.id = o.sku_id",
                "3:6: `skuinfo` is no dimension: add [skuinfo] to dimensions.toml; did you mean `sku_info`?",
            ),
            (
                "RIGHT JOIN sku_info AS OF ROW AS s ON s.id = o.a",
                "3:12: only JOIN and LEFT JOIN are supported",
            ),
            ("JOIN sku_info AS OF ROW AS s USING (id)", "3:6: write JOIN sku_info … ON s.key = …"),
            (
                "JOIN sku_info AS OF ROW AS s ON s.id > o.sku_id",
                "3:60: ON can only say s.key_column = value, joined by AND: put other conditions into WHERE",
            ),
            (
                "JOIN sku_info AS OF ROW AS s ON s.tm_id = o.sku_id",
                "3:6: ON lacks key column `id` of sku_info | \
                 3:62: `tm_id` is not in the key of sku_info (id): lookups are by key",
            ),
            ("JOIN price AS OF ROW AS p ON p.sku_id = o.a", "3:6: ON lacks key column `day` of price"),
            (
                "JOIN base_dic AS OF ROW AS d ON d.a = o.a AND d.b = o.b",
                "3:6: say the order of the key: key = […] in [base_dic] of dimensions.toml",
            ),
            (
                "JOIN base_trademark AS OF ROW AS t ON t.id = s.tm_id\nJOIN sku_info AS OF ROW AS s ON s.id = o.a",
                "3:73: `s` is joined only further down: move its JOIN up",
            ),
            (
                "JOIN base_dic AS OF ROW AS o ON o.dic_code = o.a",
                "3:6: alias `o` is there twice: rename one with AS",
            ),
            (
                "JOIN sku_info AS OF ROW AS s ON s.id = o.a AND s.sku_nam = 'x' LEFT JOIN base_dic AS OF ROW d ON d.c = s.sku_nam",
                "3:77: `sku_nam` is not in the key of sku_info (id): lookups are by key | \
                 3:160: sku_info has no column `sku_nam`; did you mean `sku_name`?",
            ),
        ],
        join,
    );
    assert_eq!(
        dwd(
            "INSERT INTO dwd_t SELECT id FROM o JOIN sku_info FOR SYSTEM_TIME AS OF PROCTIME() AS s ON s.id = o.a \
             WHERE row_kind = 'insert'"
        ),
        "1:26: say which table `id` is of, as in `o.id`"
    );
}

/// What is told of a dws file; `users` and `USERS(` stand for its FROM.
fn dws(sql: &str) -> String {
    let sql = sql
        .replace("USERS(", "FROM TABLE(TUMBLE(TABLE dwd_user_register, ")
        .replace("users", "FROM dwd_user_register");
    let sql = format!("INSERT INTO dws_t\n{sql}");
    told(compile_dws("dws/dws_t.sql", &sql, &gmall().dwd), "dws/dws_t.sql")
}

#[test]
fn aggregates() {
    check(
        &[
            (
                "SELECT gender, COUNT(*) AS n FROM dwd_user_registr GROUP BY gender",
                "2:35: there is no dwd table `dwd_user_registr`; did you mean `dwd_user_register`?",
            ),
            (
                "SELECT MAX(gendr) AS n users",
                "2:12: dwd_user_register has no column `gendr`; did you mean `gender`?",
            ),
            ("SELECT COUNT(*) users", "2:8: `COUNT(*)` needs a name: add AS name"),
            (
                "SELECT gender, COUNT(*) AS n users",
                "2:8: `gender` is neither an aggregate nor in GROUP BY: add it there",
            ),
            (
                "SELECT COUNT(*) AS n users GROUP BY gender",
                "2:54: GROUP BY has what SELECT has not: add it to SELECT",
            ),
            ("SELECT gender users GROUP BY gender", "2:20: SELECT at least one of SUM, COUNT, MIN, MAX"),
            (
                "SELECT COUNT(DISTINCT user_id) AS n users",
                "2:8: `COUNT(DISTINCT user_id)`: DISTINCT is not supported",
            ),
            (
                "SELECT AVG(user_id) AS n users",
                "2:8: AVG is not supported: select SUM and COUNT, and divide in ads/",
            ),
            (
                "SELECT SUM(user_id) + 1 AS n users",
                "2:8: SUM is an aggregate: it can only be a SELECT item of its own in a file of dws/",
            ),
            ("SELECT SUM(user_id, 1) AS n users", "2:8: SUM takes one argument"),
            (
                "SELECT SUM(user_id) OVER () AS n users",
                "2:8: `SUM(user_id) OVER ()`: only plain arguments are supported",
            ),
            (
                "SELECT COUNT(*) AS version users",
                "2:20: every dws table has a column `version` of its own: take another name",
            ),
            (
                "SELECT COUNT(*) AS n users AS a JOIN dwd_trade_order AS b ON a.x = b.y",
                "2:55: dws tables only aggregate: JOIN belongs to a file of dwd/",
            ),
        ],
        dws,
    );
}

#[test]
fn windows() {
    const SIZE: &str =
        "the size of a window is written INTERVAL '10' SECOND (or MINUTE, HOUR, DAY), a whole number";
    check(
        &[
            (
                "SELECT COUNT(*) AS n FROM TABLE(HOP(TABLE a, b, c)) GROUP BY window_start",
                "2:33: window function HOP is not supported: \
                 write TABLE(TUMBLE(TABLE t, DESCRIPTOR(time_column), INTERVAL '10' SECOND))",
            ),
            (
                "SELECT COUNT(*) AS n USERS(DESCRIPTOR(create_time), INTERVAL '10' SECOND)) GROUP BY window_start",
                "2:46: SELECT window_start, or windows cannot be told apart",
            ),
            (
                "SELECT gender, COUNT(*) AS n USERS(DESCRIPTOR(create_time), INTERVAL '10' SECOND)) GROUP BY gender",
                "2:130: the table has windows: add window_start to GROUP BY",
            ),
            (
                "SELECT window_start, COUNT(*) AS n USERS(create_time, INTERVAL '10' SECOND)) GROUP BY window_start",
                "2:79: the time column of a window is written DESCRIPTOR(column)",
            ),
            (
                "SELECT window_start, COUNT(*) AS n \
                 USERS(DESCRIPTOR(create_time), INTERVAL '10' MONTH)) GROUP BY window_start",
                &format!("2:113: {SIZE}"),
            ),
        ],
        dws,
    );
}

#[test]
fn indicators() {
    let ads = |sql: &str| told(read_indicator("ads/users.sql", sql, &["dws_users"]), "ads/users.sql");
    check(
        &[
            ("-- a\n", "2:1: an indicator is one SELECT after its comment"),
            ("DROP TABLE x", "1:1: an indicator is one SELECT after its comment"),
            ("SELECT 1; SELECT 2;", "1:1: one statement a file"),
            (
                "-- param date Date = today\nSELECT 1",
                "1:1: parameter `date` is not used in the SQL: remove it, or write {date:…}",
            ),
            ("SELECT {date:Date}", "1:8: `date` is not declared: add a line -- param date Date = …"),
            (
                "-- param date Date\nSELECT {date:Integer}",
                "2:8: `date` is declared as Date: write {date:Date}",
            ),
            (
                "-- param d Dat = today\nSELECT {d:Date}",
                "1:1: parameter type `Dat` is not known; did you mean `Date`?",
            ),
            (
                "-- param n Integer = x\nSELECT {n:Integer}",
                "1:1: default `x` is no Integer: write a whole number",
            ),
            (
                "-- param d Date = 2024-13-01\nSELECT {d:Date}",
                "1:1: default `2024-13-01` is no Date: write today or 2024-06-30",
            ),
            ("-- param n\nSELECT 1", "1:1: a parameter is declared as: -- param NAME TYPE = DEFAULT"),
            ("-- param n Text\n-- param n Text\nSELECT {n:Text}", "2:1: parameter `n` is declared twice"),
            ("SELECT '{x}', -- {y}\n {x}", "2:2: a parameter is written {name:Type}"),
            ("SELECT 1 FROM dws_user", "1:15: there is no dws table `dws_user`; did you mean `dws_users`?"),
        ],
        ads,
    );
}

#[test]
fn one_run_tells_the_mistakes_of_all_files() {
    // given
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("tidemark.toml", DEFAULT_TOML);
    write("dimensions.toml", "");
    write(
        "dwd/dwd_a.sql",
        "INSERT INTO dwd_a SELECT o.x FROM o JOIN p FOR SYSTEM_TIME AS OF o.row_position ON p.a = o.a",
    );
    write("dwd/dwd_b.sql", "INSERT INTO dwd_b SELECT y FROM o WHERE row_kind = 'insert'");
    write("dws/dws_a.sql", "INSERT INTO dws_a SELECT COUNT(*) AS n FROM dwd_a");
    write("dws/dws_b.sql", "INSERT INTO dws_b SELECT SUM(z) AS n FROM dwd_b");
    write("ads/c.sql", "SELECT n FROM dws_c");
    // when
    let mistakes = Warehouse::load(folder.path()).unwrap_err();
    // then
    let root = format!("{}/", folder.path().display());
    let told: Vec<String> = mistakes.iter().map(|mistake| mistake.to_string().replace(&root, "")).collect();
    assert_eq!(
        told,
        [
            "dwd/dwd_a.sql:1:35: add WHERE … row_kind = 'insert': retraction of updates and deletes is not supported yet",
            "dwd/dwd_a.sql:1:42: `p` is no dimension: add [p] to dimensions.toml",
            "dws/dws_b.sql:1:30: dwd_b has no column `z`; did you mean `y`?",
            "ads/c.sql:1:15: there is no dws table `dws_c`; did you mean `dws_a`?",
        ]
    );
}

#[test]
fn a_settings_mistake_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let said = |folder: &Path| {
        let root = format!("{}/", folder.display());
        Warehouse::load(folder)
            .unwrap_err()
            .iter()
            .map(|m| m.to_string().replace(&root, ""))
            .collect::<Vec<_>>()
    };
    fs::write(folder.path().join("tidemark.toml"), "[mysql]\nport = 'x'\n").unwrap();
    let told = said(folder.path());
    assert!(told[0].starts_with("tidemark.toml:2:8: invalid type"), "{told:?}");
    assert!(told[1].starts_with("dimensions.toml: cannot read the file"), "{told:?}");
}
