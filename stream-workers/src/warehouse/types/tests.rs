//! Types of the example over the tables it is written for, and the mistakes
//! that only real tables show.

use super::{Catalog, SqlType, dwd_types, dws_types};
use crate::warehouse::{Mistake, Surroundings, compile_dwd, compile_dws};
use tidemark_proto::config::{Config, Dimensions};

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let order: [(&str, &str, bool); 8] = [
        ("id", "bigint", false),
        ("sku_id", "bigint unsigned", true),
        ("amount", "decimal(16,2)", true),
        ("ratio", "double", true),
        ("status", "varchar(20)", true),
        ("create_time", "datetime", true),
        ("number", "int", false),
        ("extra", "json", true),
    ];
    catalog.insert("orders", &order).unwrap();
    catalog.insert("sku_info", &[("id", "bigint", false), ("name", "varchar(200)", false)]).unwrap();
    catalog
        .insert("base_dic", &[("dic_code", "varchar(10)", false), ("dic_name", "varchar(100)", true)])
        .unwrap();
    catalog
}

fn dimensions() -> Dimensions {
    toml::from_str(
        "[sku_info]\nkey = ['id']\n[dic]\nsource = 'base_dic'\nkey = ['dic_code']\n[ghost]\nkey = ['id']",
    )
    .unwrap()
}

/// A dwd plan's types, as text.
fn types(sql: &str) -> Result<String, String> {
    let (config, dimensions) = (Config::default(), dimensions());
    let sql = format!(
        "INSERT INTO dwd_t\n{}\nWHERE row_kind = 'insert'",
        sql.replace("ROW", "FOR SYSTEM_TIME AS OF o.row_position")
    );
    let plan =
        compile_dwd("dwd_t.sql", &sql, Surroundings { config: &config, dimensions: &dimensions }).unwrap();
    let shown =
        |(sql_type, nullable): &(SqlType, bool)| format!("{sql_type}{}", if *nullable { "?" } else { "" });
    let types = dwd_types(&plan, &dimensions, &catalog()).map_err(|found| lines(&found))?;
    Ok(types.iter().map(shown).collect::<Vec<_>>().join(", "))
}

fn lines(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> =
        mistakes.iter().map(|m| m.to_string().replace("dwd_t.sql:", "").replace("dws_t.sql:", "")).collect();
    lines.join(" | ")
}

#[test]
fn columns_have_their_tables_types() {
    assert_eq!(
        types("SELECT id, sku_id, amount, ratio, status, create_time, extra, row_kind, ts FROM orders AS o")
            .unwrap(),
        "BIGINT, BIGINT UNSIGNED?, DECIMAL(16, 2)?, DOUBLE?, VARCHAR?, DATETIME?, JSON?, VARCHAR, BIGINT"
    );
}

#[test]
fn a_left_join_can_be_null_and_an_inner_one_not() {
    let left = "SELECT s.name, o.id FROM orders AS o LEFT JOIN sku_info ROW AS s ON s.id = o.sku_id";
    assert_eq!(types(left).unwrap(), "VARCHAR?, BIGINT");
    assert_eq!(types(&left.replace("LEFT ", "")).unwrap(), "VARCHAR, BIGINT");
}

#[test]
fn expressions_have_the_types_of_their_parts() {
    for (sql, expect) in [
        ("number + 1", "BIGINT"),
        ("number * number", "DECIMAL(20, 0)"),
        ("amount * number", "DECIMAL(26, 2)?"),
        ("amount - 0.125", "DECIMAL(18, 3)?"),
        ("COALESCE(amount, 0)", "DECIMAL(16, 2)"),
        ("COALESCE(sku_id, 0)", "DECIMAL(20, 0)"),
        ("COALESCE(number, 0)", "INT"),
        ("COALESCE(amount, ratio)", "DOUBLE?"),
        ("CASE WHEN id = 1 THEN 'a' ELSE status END", "VARCHAR?"),
        ("CASE WHEN id = 1 THEN create_time END", "DATETIME?"),
        ("CAST(status AS BIGINT)", "BIGINT?"),
        ("CAST(id AS CHAR)", "VARCHAR"),
        ("CAST(status AS DECIMAL(9, 3))", "DECIMAL(9, 3)?"),
        ("NULLIF(id, 3)", "BIGINT?"),
        ("CONCAT(id, status)", "VARCHAR?"),
        ("status = '1001'", "BOOLEAN?"),
        ("create_time >= '2024-01-01'", "BOOLEAN?"),
        ("id IS NULL", "BOOLEAN"),
    ] {
        assert_eq!(types(&format!("SELECT {sql} AS x FROM orders AS o")).as_deref(), Ok(expect), "{sql}");
    }
}

#[test]
fn what_only_the_tables_tell() {
    for (sql, expect) in [
        ("SELECT id FROM order AS o", "2:16: MySQL has no table `order`; did you mean `orders`?"),
        ("SELECT id, amont FROM orders AS o", "2:12: orders has no column `amont`; did you mean `amount`?"),
        (
            "SELECT o.id FROM orders AS o JOIN ghost ROW AS g ON g.id = o.id",
            "2:35: MySQL has no table `ghost`; there is base_dic, orders, sku_info",
        ),
        (
            "SELECT o.id FROM orders AS o JOIN sku_info ROW AS s ON s.id = o.status",
            "2:98: VARCHAR is no key for BIGINT: write CAST(… AS BIGINT)",
        ),
        (
            "SELECT o.id FROM orders AS o JOIN dic ROW AS d ON d.dic_code = o.id",
            "2:99: BIGINT is no key for VARCHAR: write CAST(… AS CHAR)",
        ),
        (
            "SELECT o.id FROM orders AS o JOIN sku_info ROW AS s ON s.id = o.amount",
            "2:98: DECIMAL(16, 2) is no key for BIGINT: write CAST(… AS BIGINT)",
        ),
        (
            "SELECT create_time = extra AS x FROM orders AS o",
            "2:8: DATETIME and JSON do not compare: write CAST(… AS CHAR)",
        ),
        (
            "SELECT d.dic_nam FROM orders AS o JOIN dic ROW AS d ON d.dic_code = o.status",
            "2:10: base_dic has no column `dic_nam`; did you mean `dic_name`?",
        ),
        (
            "SELECT status + 1 AS x FROM orders AS o",
            "2:8: `+` needs exact numbers, this is VARCHAR: use CAST",
        ),
        ("SELECT ratio * 2 AS x FROM orders AS o", "2:8: `*` needs exact numbers, this is DOUBLE: use CAST"),
        (
            "SELECT status = 1001 AS x FROM orders AS o",
            "2:8: VARCHAR and SMALLINT do not compare: write CAST(… AS BIGINT)",
        ),
        (
            "SELECT id IN (1, 'a') AS x FROM orders AS o",
            "2:18: BIGINT and VARCHAR do not compare: write CAST(… AS CHAR)",
        ),
        (
            "SELECT COALESCE(id, status) AS x FROM orders AS o",
            "2:8: the alternatives are BIGINT and VARCHAR: use CAST",
        ),
        ("SELECT NULL AS x FROM orders AS o", "2:8: NULL alone has no type: write CAST(NULL AS …)"),
        ("SELECT NOT status AS x FROM orders AS o", "2:12: a condition is needed, this is VARCHAR"),
    ] {
        assert_eq!(types(sql).unwrap_err(), expect, "{sql}");
    }
}

#[test]
fn a_cast_makes_unlike_keys_alike() {
    let sql = "SELECT d.dic_name FROM orders AS o JOIN dic ROW AS d ON d.dic_code = CAST(o.number AS CHAR)";
    assert_eq!(types(sql).unwrap(), "VARCHAR?");
}

#[test]
fn aggregates_are_wide_enough_for_any_sum() {
    let (config, dimensions) = (Config::default(), dimensions());
    let around = Surroundings { config: &config, dimensions: &dimensions };
    let sql = "INSERT INTO dwd_t SELECT id, amount, ratio, number, status, create_time, extra FROM orders WHERE row_kind = 'insert'";
    let source = compile_dwd("dwd_t.sql", sql, around).unwrap();
    let columns = dwd_types(&source, &dimensions, &catalog()).unwrap();
    let aggregated = |select: &str| {
        let sql = format!("INSERT INTO dws_t SELECT {select} FROM dwd_t GROUP BY status");
        let plan = compile_dws("dws_t.sql", &sql, std::slice::from_ref(&source)).unwrap();
        dws_types(&plan, &source, &columns).map_err(|found| lines(&found))
    };
    let types = aggregated(
        "status, SUM(amount) AS a, SUM(number) AS b, COUNT(*) AS c, MAX(create_time) AS d, MIN(id) AS e",
    )
    .unwrap();
    assert_eq!(types.group, [(SqlType::Text, true)]);
    assert_eq!(
        types.aggregates,
        [
            SqlType::Decimal { precision: 38, scale: 2 },
            SqlType::Decimal { precision: 38, scale: 0 },
            SqlType::BIGINT,
            SqlType::DateTime { fraction: 0 },
            SqlType::BIGINT,
        ]
    );
    for (select, expect) in [
        ("status, SUM(ratio) AS a", "1:38: SUM of a DOUBLE is not exact: CAST it AS DECIMAL(p, s)"),
        ("status, SUM(status) AS a", "1:38: SUM needs numbers, this is VARCHAR"),
        ("status, MAX(extra) AS a", "1:38: MIN and MAX have no order for JSON"),
    ] {
        assert_eq!(aggregated(select).unwrap_err(), expect);
    }
    let windowed = "INSERT INTO dws_t SELECT window_start, COUNT(*) AS n \
                    FROM TABLE(TUMBLE(TABLE dwd_t, DESCRIPTOR(status), INTERVAL '1' DAY)) GROUP BY window_start";
    let plan = compile_dws("dws_t.sql", windowed, std::slice::from_ref(&source)).unwrap();
    assert_eq!(
        dws_types(&plan, &source, &columns).map_err(|found| lines(&found)).unwrap_err(),
        "1:96: a window needs a DATETIME or whole seconds, this is VARCHAR"
    );
}

#[test]
fn mysqls_types_are_read() {
    for (text, expect) in [
        ("bigint(20) unsigned", "BIGINT UNSIGNED"),
        ("tinyint(1)", "TINYINT"),
        ("mediumint", "MEDIUMINT"),
        ("decimal(16,2)", "DECIMAL(16, 2)"),
        ("decimal(10,0) unsigned zerofill", "DECIMAL(10, 0)"),
        ("datetime(3)", "DATETIME(3)"),
        ("timestamp", "DATETIME"),
        ("enum('a','b')", "VARCHAR"),
        ("set('a','b')", "JSON"),
        ("varbinary(16)", "VARBINARY"),
        ("double", "DOUBLE"),
        ("year", "SMALLINT UNSIGNED"),
    ] {
        assert_eq!(
            SqlType::parse(text).map(|sql_type| sql_type.to_string()).as_deref(),
            Some(expect),
            "{text}"
        );
    }
    assert_eq!(SqlType::parse("vector(3)"), None);
    let unknown = Catalog::default().insert("t", &[("v", "vector(3)", true)]).unwrap_err();
    assert_eq!(unknown.to_string(), "column t.v has type vector(3), which is not supported");
}
