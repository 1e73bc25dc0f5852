//! Messages as Maxwell writes them, and as we do.

use super::*;
use crate::Position;

const MAXWELL: &str = r#"{"database":"shop","table":"kk","type":"update","ts":1795359317,"xid":1658,"commit":true,"position":"binlog.000002:562261","server_id":201,"thread_id":81,"primary_key":[1],"primary_key_columns":["id"],"data":{"id":1,"v":"b","n":99.90},"old":{"v":"a"}}"#;

#[test]
fn reads_what_maxwell_writes() {
    let message = Envelope::parse(MAXWELL.as_bytes()).unwrap();
    assert_eq!((message.database.as_ref(), message.table.as_ref()), ("shop", "kk"));
    assert_eq!(message.kind(), Some(RowKind::Update));
    assert_eq!((message.ts, message.xid, message.commit), (1_795_359_317, Some(1658), true));
    assert_eq!(message.position(1).unwrap(), Position::try_new(1, 2, 562_261).unwrap());
    assert_eq!(message.data.get("n"), Some("99.90"), "a number keeps its text");
    assert_eq!(message.data.get("v"), Some("\"b\""));
    assert_eq!(message.old.unwrap().get("v"), Some("\"a\""));
    assert_eq!(message.data.get("w"), None);
}

#[test]
fn reads_what_it_writes() {
    let begin = Position::try_new(1, 2, 100).unwrap();
    let end = Position::try_new(1, 2, 900).unwrap();
    let meta = Meta {
        database: "shop",
        table: "a\"b",
        kind: RowKind::Update,
        ts: 7,
        xid: Some(9),
        commit: true,
        position: Some("binlog.000002:500"),
        gtid: None,
        transaction: Some((begin, end)),
        again: true,
    };
    let mut out = Vec::new();
    let mut writer = EnvelopeWriter::begin(&mut out, &meta);
    writer.column("id", "1");
    writer.column("n\n", "null");
    writer.old();
    writer.column("id", "2");
    writer.end();
    let expect = r#"{"database":"shop","table":"a\"b","type":"update","ts":7,"xid":9,"commit":true,"position":"binlog.000002:500","epoch":1,"tx":TX,"tx_end":END,"again":true,"data":{"id":1,"n\n":null},"old":{"id":2}}"#
        .replace("TX", &begin.packed().to_string())
        .replace("END", &end.packed().to_string());
    assert_eq!(String::from_utf8(out.clone()).unwrap(), expect);
    let read = Envelope::parse(&out).unwrap();
    assert_eq!((read.tx, read.tx_end, read.again), (Some(begin.packed()), Some(end.packed()), true));
    assert_eq!(read.data.get("n\n"), Some("null"));
}

#[test]
fn what_is_not_a_change_is_refused_in_one_line() {
    for bad in [
        "",
        "{",
        "[]",
        "3",
        r#"{"database":"a","table":"b"}"#,
        "{\"database\":\"a\",\"table\":1,\"type\":\"insert\"}",
    ] {
        let error = Envelope::parse(bad.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(Envelope::parse(b"{\"database\":\"\xff\",\"table\":\"b\",\"type\":\"insert\"}").is_err());
    let no_position = r#"{"database":"a","table":"b","type":"bootstrap-insert","data":{}}"#;
    assert!(matches!(
        Envelope::parse(no_position.as_bytes()).unwrap().position(1),
        Err(EnvelopeError::NoPosition)
    ));
}

#[test]
fn rows_that_are_not_rows_have_no_kind() {
    for event in ["bootstrap-start", "bootstrap-complete", "table-alter"] {
        assert_eq!(RowKind::parse(event), None);
    }
}
