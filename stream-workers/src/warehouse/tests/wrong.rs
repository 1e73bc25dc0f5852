//! Wrong files, and what is said about them: `line:column: message`.

use super::example::gmall;
use crate::warehouse::{Mistake, Surroundings, Warehouse, compile_dwd, compile_dws, read_indicator};
use tidemark_proto::config::{Config, Dimensions};

/// The mistakes without their file's name.
fn told<T>(result: Result<T, Vec<Mistake>>, file: &str) -> Vec<String> {
    let mistakes = result.err().unwrap_or_default();
    mistakes.iter().map(|mistake| mistake.to_string().replace(&format!("{file}:"), "")).collect()
}

fn dwd(sql: &str) -> Vec<String> {
    let dimensions: Dimensions = toml::from_str(
        "[sku_info]\nkey = ['id']\ncolumns = ['sku_name', 'tm_id']\n[base_trademark]\n\
         [base_dic]\n[price]\nkey = ['sku_id', 'day']",
    )
    .unwrap();
    let around = Surroundings { config: &Config::default(), dimensions: &dimensions };
    told(compile_dwd("dwd/dwd_t.sql", sql, around), "dwd/dwd_t.sql")
}

#[test]
fn print() {
    let sku = "JOIN sku_info FOR SYSTEM_TIME AS OF o.row_position AS s ON s.id = o.sku_id";
    for (sql) in [
        "".to_owned(),
        "SELECT 1".into(),
        "INSERT INTO dwd_t SELECT a FRM o".into(),
        "INSERT INTO dwd_t\nSELECT 'a".into(),
        "INSERT INTO dwd_x SELECT a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t (a) SELECT a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO db.dwd_t SELECT a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a FROM o".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE a = 1".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind IN ('insert', 'update')".into(),
        "INSERT INTO dwd_t SELECT a, a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a + 1 FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT * FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.* FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT LOWER(a) AS a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT COALESC(a, b) AS a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT SUM(a) AS a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a / b AS a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT CAST(a AS DATE) AS a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT CAST(a AS DECIMAL(50, 2)) AS a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert' AND a LIKE 'x%'".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = \"insert\"".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert' GROUP BY a".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert' ORDER BY a".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert' LIMIT 3".into(),
        "INSERT INTO dwd_t SELECT DISTINCT a FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert' HAVING a > 1".into(),
        "INSERT INTO dwd_t SELECT a FROM o, p WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a FROM (SELECT 1) o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert'; SELECT 2".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE row_kind = 'insert' UNION SELECT b FROM p".into(),
        "INSERT INTO dwd_t SELECT a FROM o WHERE EXISTS (SELECT 1) AND row_kind = 'insert'".into(),
        format!("INSERT INTO dwd_t\nSELECT id FROM o\n{sku}\nWHERE row_kind = 'insert'"),
        format!("INSERT INTO dwd_t\nSELECT sk.id FROM o\n{sku}\nWHERE row_kind = 'insert'"),
        format!("INSERT INTO dwd_t\nSELECT s.sku_nam FROM o\n{sku}\nWHERE row_kind = 'insert'"),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN sku_info AS s ON s.id = o.sku_id WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN sku_info FOR SYSTEM_TIME AS OF o.ts AS s ON s.id = o.sku_id WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN skuinfo FOR SYSTEM_TIME AS OF o.row_position AS s ON s.id = o.sku_id WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o RIGHT JOIN sku_info FOR SYSTEM_TIME AS OF o.row_position AS s ON s.id = o.sku_id WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN sku_info FOR SYSTEM_TIME AS OF o.row_position AS s USING (id) WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN sku_info FOR SYSTEM_TIME AS OF o.row_position AS s ON s.tm_id = o.sku_id WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN sku_info FOR SYSTEM_TIME AS OF o.row_position AS s ON s.id > o.sku_id WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN price FOR SYSTEM_TIME AS OF o.row_position AS p ON p.sku_id = o.sku_id WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN base_dic FOR SYSTEM_TIME AS OF o.row_position AS d ON d.a = o.a AND d.b = o.b WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN base_trademark FOR SYSTEM_TIME AS OF o.row_position AS t ON t.id = s.tm_id JOIN sku_info FOR SYSTEM_TIME AS OF o.row_position AS s ON s.id = o.sku_id WHERE row_kind = 'insert'".into(),
        format!("INSERT INTO dwd_t SELECT o.a FROM o {sku} {sku} WHERE row_kind = 'insert'"),
        "INSERT INTO dwd_t SELECT o.a FROM o JOIN sku_info FOR SYSTEM_TIME AS OF o.row_position AS s ON s.id = o.sku_id AND s.tm_id = 3 WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT a, b c d FROM o".into(),
        "INSERT INTO dwd_t SELECT CASE WHEN a = 1 THEN ROUND(b) ELSE FLOR(c) END AS x, d.e.f FROM o WHERE row_kind = 'insert'".into(),
        "UPDATE x SET a = 1".into(),
        "INSERT INTO dwd_t SELECT a AS `größe x` FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT INTERVAL '1' DAY AS a, o.a.b.c FROM o WHERE row_kind = 'insert'".into(),
        "INSERT INTO dwd_t SELECT CONCAT(DISTINCT a) AS a, NULLIF(a) AS b FROM o WHERE row_kind = 'insert'".into(),
    ] {
        println!("{sql}\n    => {:#?}", dwd(&sql));
    }
    let warehouse = gmall();
    let dws = |sql: &str| told(compile_dws("dws/dws_t.sql", sql, &warehouse.dwd), "dws/dws_t.sql");
    for sql in [
        "INSERT INTO dws_t SELECT gender, COUNT(*) AS n FROM dwd_user_registr GROUP BY gender",
        "INSERT INTO dws_t SELECT gendr, COUNT(*) AS n FROM dwd_user_register GROUP BY gendr",
        "INSERT INTO dws_t SELECT gender, COUNT(*) FROM dwd_user_register GROUP BY gender",
        "INSERT INTO dws_t SELECT gender, COUNT(*) AS n FROM dwd_user_register",
        "INSERT INTO dws_t SELECT COUNT(*) AS n FROM dwd_user_register GROUP BY gender",
        "INSERT INTO dws_t SELECT gender FROM dwd_user_register GROUP BY gender",
        "INSERT INTO dws_t SELECT COUNT(DISTINCT user_id) AS n FROM dwd_user_register",
        "INSERT INTO dws_t SELECT AVG(user_id) AS n FROM dwd_user_register",
        "INSERT INTO dws_t SELECT SUM(user_id) + 1 AS n FROM dwd_user_register",
        "INSERT INTO dws_t SELECT SUM(user_id, 1) AS n FROM dwd_user_register",
        "INSERT INTO dws_t SELECT gender AS version, COUNT(*) AS n FROM dwd_user_register GROUP BY gender",
        "INSERT INTO dws_t SELECT COUNT(*) AS n FROM TABLE(HOP(TABLE dwd_user_register, DESCRIPTOR(create_time), INTERVAL '10' SECOND)) GROUP BY window_start",
        "INSERT INTO dws_t SELECT COUNT(*) AS n FROM TABLE(TUMBLE(TABLE dwd_user_register, DESCRIPTOR(create_time), INTERVAL '10' SECOND)) GROUP BY window_start",
        "INSERT INTO dws_t SELECT gender, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE dwd_user_register, DESCRIPTOR(create_time), INTERVAL '10' SECOND)) GROUP BY gender",
        "INSERT INTO dws_t SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE dwd_user_register, DESCRIPTOR(create_tim), INTERVAL '10' SECOND)) GROUP BY window_start",
        "INSERT INTO dws_t SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE dwd_user_register, create_time, INTERVAL '10' SECOND)) GROUP BY window_start",
        "INSERT INTO dws_t SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE dwd_user_register, DESCRIPTOR(create_time), INTERVAL '0' SECOND)) GROUP BY window_start",
        "INSERT INTO dws_t SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(dwd_user_register, DESCRIPTOR(create_time), INTERVAL '10' SECOND)) GROUP BY window_start",
        "INSERT INTO dws_t SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE dwd_user_register, DESCRIPTOR(create_time), INTERVAL '10' MONTH)) GROUP BY window_start",
        "INSERT INTO dws_t SELECT window_start, COUNT(*) AS n FROM dwd_user_register GROUP BY window_start",
        "INSERT INTO dws_t SELECT COUNT(*) AS n FROM dwd_user_register AS a JOIN dwd_trade_order AS b ON a.x = b.y",
        "INSERT INTO dws_t SELECT COUNT(*) AS n FROM dwd_user_register WHERE row_kind = 'insert'",
        "INSERT INTO dws_t SELECT gender, COUNT(*) AS n FROM dwd_user_register GROUP BY ROLLUP(gender)",
        "INSERT INTO dws_t SELECT gender, COUNT(*) AS n FROM dwd_user_register GROUP BY gender HAVING COUNT(*) > 1",
        "INSERT INTO dws_t SELECT gender, COUNT(*) AS n, SUM(o) OVER () AS x FROM dwd_user_register GROUP BY gender",
    ] {
        println!("{sql}\n    => {:#?}", dws(sql));
    }
    let tables = ["dws_user_register_window"];
    let ads = |sql: &str| told(read_indicator("ads/users.sql", sql, &tables), "ads/users.sql");
    for sql in [
        "-- a\n",
        "-- param date Date = today\nSELECT 1",
        "SELECT {date:Date}",
        "-- param date Date = today\nSELECT {date:Integer}",
        "-- param date Date = today\nSELECT {dat:Date}, {date:Date}",
        "-- param date Dat = today\nSELECT {date:Date}",
        "-- param n Integer = x\nSELECT {n:Integer}",
        "-- param n\nSELECT {n:Integer}",
        "-- param d Date = 2024-13-01\nSELECT {d:Date}",
        "SELECT sum(n) FROM dws_user_registr_window",
        "SELECT '{x}', {x}",
        "SELECT 1; SELECT 2;",
        "DROP TABLE x",
        "-- param n Integer\n-- param n Integer\nSELECT {n:Integer}",
    ] {
        println!("{sql}\n    => {:#?}", ads(sql));
    }
}
