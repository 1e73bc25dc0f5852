//! What expressions promise: three-valued logic, exact numbers, borrowed
//! columns.

use super::{EvaluateError, Expression, Frame, Value};
use crate::warehouse::{Surroundings, compile_dwd};
use proptest::prelude::*;
use tidemark_proto::{
    Position,
    config::{Config, Dimensions},
    envelope::RowKind,
};

/// Compiles an expression over columns of a fact; gives the columns' names too.
fn compiled(sql: &str) -> (Expression, Vec<String>) {
    let around = Surroundings { config: &Config::default(), dimensions: &Dimensions::new() };
    let sql = format!("INSERT INTO dwd_t SELECT {sql} AS x FROM o WHERE row_kind = 'insert'");
    let plan = compile_dwd("dwd_t.sql", &sql, around).unwrap();
    (plan.outputs[0].expression.clone(), plan.source_columns)
}

/// Columns of every test: `name` → JSON token.
const ROW: [(&str, &str); 9] = [
    ("one", "1"),
    ("two", "2.00"),
    ("price", "12.50"),
    ("big", "99999999999999999999999999999999999999"),
    ("word", "\"b\\u0061r\""),
    ("yes", "true"),
    ("nil", "null"),
    ("list", "[1,2]"),
    ("digits", "\" 7.5 \""),
];

fn evaluated(sql: &str) -> Result<String, EvaluateError> {
    let (expression, columns) = compiled(sql);
    let token = |name: &String| ROW.iter().find(|(column, _)| column == name).map(|(_, token)| *token);
    let slot: Vec<Option<&str>> = columns.iter().map(token).collect();
    let position = Position::try_new(1, 2, 3).ok();
    let frame = Frame { slots: vec![&slot], kind: RowKind::Insert, position, ts: 1_700_000_000 };
    let mut out = Vec::new();
    expression.evaluate(&frame)?.write_token(&mut out);
    Ok(String::from_utf8(out).unwrap())
}

fn check(cases: &[(&str, &str)]) {
    for (sql, expect) in cases {
        assert_eq!(evaluated(sql).as_deref(), Ok(*expect), "{sql}");
    }
}

#[test]
fn a_column_is_the_messages_own_token() {
    let (expression, _) = compiled("word");
    let token = String::from("\"b\\u0061r\"");
    let slot = [Some(token.as_str())];
    let frame = Frame { slots: vec![&slot], kind: RowKind::Insert, position: None, ts: 0 };
    let Ok(Value::Token(copied)) = expression.evaluate(&frame) else { panic!("no token") };
    assert!(std::ptr::eq(copied, token.as_str()));
    assert_eq!(expression.as_column(), Some((0, 0)));
}

#[test]
fn what_is_not_there_is_null() {
    let (expression, _) = compiled("a");
    let slots: [&[Option<&str>]; 3] = [&[], &[None], &[Some("null")]];
    for slot in slots {
        let frame = Frame { slots: vec![slot], kind: RowKind::Insert, position: None, ts: 0 };
        assert!(expression.evaluate(&frame).unwrap().is_null());
    }
    let frame = Frame { slots: Vec::new(), kind: RowKind::Insert, position: None, ts: 0 };
    assert!(expression.evaluate(&frame).unwrap().is_null());
}

#[test]
fn logic_is_three_valued() {
    let (t, f, n) = ("(1 = 1)", "(1 = 2)", "(NULL = 1)");
    for (a, b, and, or) in [
        (t, t, "true", "true"),
        (t, f, "false", "true"),
        (t, n, "null", "true"),
        (f, f, "false", "false"),
        (f, n, "false", "null"),
        (n, n, "null", "null"),
    ] {
        for (a, b) in [(a, b), (b, a)] {
            check(&[(&format!("{a} AND {b}"), and), (&format!("{a} OR {b}"), or)]);
        }
    }
    check(&[
        (&format!("NOT {t}"), "false"),
        (&format!("NOT {n}"), "null"),
        ("nil IS NULL", "true"),
        ("nil IS NOT NULL", "false"),
        ("one IS NOT NULL", "true"),
        ("one IN (2, NULL)", "null"),
        ("one IN (1, NULL)", "true"),
        ("one NOT IN (2, 3)", "true"),
        ("one NOT IN (2, NULL)", "null"),
        ("nil BETWEEN 1 AND 2", "null"),
        ("two BETWEEN 1 AND 2", "true"),
        ("two NOT BETWEEN 1 AND 2", "false"),
        ("yes AND one", "true"),
        ("yes = 1", "true"),
    ]);
}

#[test]
fn only_true_passes_a_filter() {
    for (sql, expect) in [("one = 1", true), ("one = 2", false), ("nil = 1", false), ("NOT (nil = 1)", false)]
    {
        let (expression, columns) = compiled(sql);
        let token = |name: &String| ROW.iter().find(|(column, _)| column == name).map(|(_, token)| *token);
        let slot: Vec<Option<&str>> = columns.iter().map(token).collect();
        let frame = Frame { slots: vec![&slot], kind: RowKind::Insert, position: None, ts: 0 };
        assert_eq!(expression.is_true(&frame), Ok(expect), "{sql}");
    }
}

#[test]
fn numbers_are_exact() {
    check(&[
        ("0.1 + 0.2", "0.3"),
        ("one + two", "3.00"),
        ("price * 3", "37.50"),
        ("price - 13", "-0.50"),
        ("-price", "-12.50"),
        ("- 1.5", "-1.5"),
        ("one + nil", "null"),
        ("two = 2", "true"),
        ("0.1 = 0.10000000000000000000000000000000000001", "false"),
        ("9007199254740993 = 9007199254740992", "false"),
        ("price > 12.499", "true"),
        ("price <= 12.5", "true"),
        ("one <> 1", "false"),
    ]);
}

#[test]
fn text_compares_by_bytes_unescaped() {
    check(&[
        ("word = 'bar'", "true"),
        ("word < 'baz'", "true"),
        ("'B' < 'b'", "true"),
        ("word IN ('x', 'bar')", "true"),
    ]);
}

#[test]
fn functions_are_those_of_sql() {
    check(&[
        ("COALESCE(nil, price, 1)", "12.50"),
        ("COALESCE(nil, nil)", "null"),
        ("NULLIF(one, 1)", "null"),
        ("NULLIF(one, 2)", "1"),
        ("CONCAT(word, '-', price, '-', yes)", "\"bar-12.50-true\""),
        ("CONCAT(word, nil)", "null"),
        ("word || '\"'", "\"bar\\\"\""),
        ("CASE WHEN nil = 1 THEN 'a' WHEN one = 1 THEN 'b' ELSE 'c' END", "\"b\""),
        ("CASE one WHEN 2 THEN 'a' END", "null"),
        ("CASE nil WHEN NULL THEN 'a' ELSE 'b' END", "\"b\""),
        ("CAST(price AS BIGINT)", "12"),
        ("CAST(-12.9 AS BIGINT)", "-12"),
        ("CAST(digits AS DECIMAL(5, 2))", "7.50"),
        ("CAST(1.005 AS DECIMAL(5, 2))", "1.01"),
        ("CAST(price AS CHAR)", "\"12.50\""),
        ("CAST(word AS VARCHAR)", "\"b\\u0061r\""),
        ("CAST(nil AS BIGINT)", "null"),
        ("CAST(TRUE AS BIGINT)", "1"),
        ("row_kind", "\"insert\""),
        ("ts", "1700000000"),
        ("row_position", "4503608217305091"),
        ("'it''s'", "\"it's\""),
    ]);
}

#[test]
fn what_has_no_value_says_why() {
    for (sql, expect) in [
        ("big + big", "a sum does not fit 38 digits"),
        ("big * 10", "a product does not fit 38 digits"),
        ("word + 1", "\"b\\u0061r\" is not a number"),
        ("word = 1", "\"b\\u0061r\" and 1 cannot be compared: use CAST"),
        ("list = list", "[1,2] and [1,2] cannot be compared: use CAST"),
        ("NOT word", "\"b\\u0061r\" is not a truth value"),
        ("CAST(word AS BIGINT)", "\"b\\u0061r\" is not a number"),
        ("CAST(18446744073709551615 AS BIGINT)", "18446744073709551615 does not fit BIGINT"),
        ("CAST(price AS DECIMAL(3, 2))", "12.50 does not fit DECIMAL(3, 2)"),
    ] {
        assert_eq!(evaluated(sql).unwrap_err().to_string(), expect, "{sql}");
    }
}

#[test]
fn a_bootstrap_row_is_an_insert() {
    let (expression, _) = compiled("row_kind = 'insert'");
    let frame = |kind| Frame { slots: vec![&[]], kind, position: None, ts: 0 };
    assert_eq!(expression.is_true(&frame(RowKind::BootstrapInsert)), Ok(true));
    assert_eq!(expression.is_true(&frame(RowKind::Update)), Ok(false));
}

proptest! {
    #[test]
    fn integers_compute_as_integers(a in any::<i64>(), b in any::<i64>()) {
        let (sum, columns) = compiled("a + b");
        prop_assert_eq!(columns, ["a", "b"]);
        let tokens = [a.to_string(), b.to_string()];
        let slot = [Some(tokens[0].as_str()), Some(tokens[1].as_str())];
        let frame = Frame { slots: vec![&slot], kind: RowKind::Insert, position: None, ts: 0 };
        let value = sum.evaluate(&frame).unwrap().number().unwrap().unwrap();
        prop_assert_eq!(value.unscaled(), i128::from(a) + i128::from(b));
    }
}
