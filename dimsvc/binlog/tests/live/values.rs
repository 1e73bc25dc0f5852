//! Values of every type, from both sides.

use crate::server::{Database, database};
use mysql_async::Row as SqlRow;
use mysql_async::prelude::Queryable;
use std::sync::Arc;
use tidemark_binlog::{BinlogPlace, Row, StreamError, Table, select_row};

/// The rows that the binlog and a SELECT give, which must be equal, and so must
/// the tables; the binlog's are returned.
async fn rows_of_both(database: &mut Database, table: &str, from: BinlogPlace) -> (Arc<Table>, Vec<Row>) {
    let to = database.end().await;
    let transactions = database.transactions(from, &to).await;
    let changes: Vec<_> = transactions.into_iter().flat_map(|transaction| transaction.rows).collect();
    let described = database.source.describe(&database.name, table).await.unwrap().unwrap();
    let names: Vec<String> =
        described.table.columns.iter().map(|column| format!("`{}`", column.name)).collect();
    let query = format!("SELECT {} FROM `{}`.`{table}` ORDER BY id", names.join(","), database.name);
    let mut reader = database.source.connect().await.unwrap();
    let selected: Vec<SqlRow> = reader.exec(query, ()).await.unwrap();
    assert_eq!(changes.len(), selected.len());
    let mut rows = Vec::new();
    for (change, row) in changes.into_iter().zip(selected) {
        assert_eq!(change.table, described.table, "the two descriptions of a table");
        let (stored, selected) = (change.after.unwrap(), select_row(row, &described.table).unwrap());
        for (column, (stored, selected)) in
            described.table.columns.iter().zip(stored.tokens().zip(selected.tokens()))
        {
            assert_eq!(stored, selected, "column {} of {}", column.name, selected);
            let parsed = serde_json::from_str::<&serde_json::value::RawValue>(stored);
            assert!(parsed.is_ok(), "column {}: {stored} is not JSON", column.name);
        }
        assert_eq!(stored, selected);
        rows.push(stored);
    }
    (described.table, rows)
}

/// One line a row: `column=token` of all columns but the key.
fn golden(table: &Table, row: &Row) -> String {
    let cells = table
        .columns
        .iter()
        .zip(row.tokens())
        .skip(1)
        .map(|(column, token)| format!("{}={token}", column.name));
    cells.collect::<Vec<_>>().join(" ")
}

async fn check(name: &str, columns: &str, cases: &[(&str, &str)]) {
    let mut database = database(name).await;
    database.run(&[&format!("CREATE TABLE t (id int PRIMARY KEY, {columns})"), "SET sql_mode = ''"]).await;
    let from = database.end().await;
    for (at, (values, _)) in cases.iter().enumerate() {
        database.run(&[&format!("INSERT INTO t VALUES ({at}, {values})")]).await;
    }
    let (table, rows) = rows_of_both(&mut database, "t", from).await;
    for (row, (values, expect)) in rows.iter().zip(cases) {
        assert_eq!(golden(&table, row), *expect, "{values}");
    }
    database.drop().await;
}

#[tokio::test]
async fn numbers() {
    check(
        "numbers",
        "a tinyint, b tinyint unsigned, c smallint, d smallint unsigned, e mediumint, f mediumint unsigned, \
         g int, h int unsigned zerofill, i bigint, j bigint unsigned, k year, l bit(1), m bit(64), n bool",
        &[
            (
                "-128,0,-32768,0,-8388608,0,-2147483648,0,-9223372036854775808,0,1901,b'0',0,false",
                "a=-128 b=0 c=-32768 d=0 e=-8388608 f=0 g=-2147483648 h=0 i=-9223372036854775808 j=0 k=1901 l=0 \
                 m=0 n=0",
            ),
            (
                "127,255,32767,65535,8388607,16777215,2147483647,4294967295,9223372036854775807,\
                 18446744073709551615,2155,b'1',18446744073709551615,true",
                "a=127 b=255 c=32767 d=65535 e=8388607 f=16777215 g=2147483647 h=4294967295 i=9223372036854775807 \
                 j=18446744073709551615 k=2155 l=1 m=18446744073709551615 n=1",
            ),
            (
                "-1,1,-1,1,-1,1,-1,1,-1,1,0,0,258,NULL",
                "a=-1 b=1 c=-1 d=1 e=-1 f=1 g=-1 h=1 i=-1 j=1 k=0 l=0 m=258 n=null",
            ),
            (
                "NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL",
                "a=null b=null c=null d=null e=null f=null g=null h=null i=null j=null k=null l=null m=null n=null",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn decimals_and_floats() {
    check(
        "decimals",
        "a decimal(10,2), b decimal(65,30), c decimal(5,5), d decimal(20,0) unsigned, e decimal(9,3) zerofill, \
         f float, g double",
        &[
            (
                "12.5, 1.000000000000000000000000000001, 0.5, 0, 1.5, 1.1, 1.1",
                "a=12.50 b=1.000000000000000000000000000001 c=0.50000 d=0 e=1.500 f=1.1 g=1.1",
            ),
            (
                "-99999999.99, -99999999999999999999999999999999999.999999999999999999999999999999, -0.00001, \
                 99999999999999999999, 999999.999, 3.402823466e38, 1.7976931348623157e308",
                "a=-99999999.99 b=-99999999999999999999999999999999999.999999999999999999999999999999 c=-0.00001 \
                 d=99999999999999999999 e=999999.999 f=3.4028235e38 g=1.7976931348623157e308",
            ),
            ("-0.00, -0, 0, 10, 0, -0e0, -0e0", "a=0.00 b=0.000000000000000000000000000000 c=0.00000 d=10 e=0.000 f=-0.0 g=-0.0"),
            ("0.01, 1e-30, -0.1, 1, 0.001, 1e-38, 5e-324", "a=0.01 b=0.000000000000000000000000000001 c=-0.10000 d=1 e=0.001 f=1e-38 g=5e-324"),
            ("1, 1, 0, 1, 1, 16777216, 123456789012345", "a=1.00 b=1.000000000000000000000000000000 c=0.00000 d=1 e=1.000 f=16777216.0 g=123456789012345.0"),
        ],
    )
    .await;
}

#[tokio::test]
async fn times() {
    check(
        "times",
        "a date, b datetime, c datetime(1), d datetime(6), e timestamp NULL, f timestamp(3) NULL, g time, h time(4), i time(6)",
        &[
            (
                "'2024-02-29','2024-02-29 23:59:58','2024-02-29 23:59:58.9','1000-01-01 00:00:00.000001', \
                 '1970-01-01 00:00:01','2038-01-19 03:14:07.499','838:59:59','-838:59:58.9999','-00:00:00.000001'",
                "a=\"2024-02-29\" b=\"2024-02-29 23:59:58\" c=\"2024-02-29 23:59:58.9\" \
                 d=\"1000-01-01 00:00:00.000001\" e=\"1970-01-01 00:00:01\" f=\"2038-01-19 03:14:07.499\" \
                 g=\"838:59:59\" h=\"-838:59:58.9999\" i=\"-00:00:00.000001\"",
            ),
            (
                "'0000-00-00','0000-00-00 00:00:00','0000-00-00 00:00:00','0000-00-00 00:00:00', \
                 '0000-00-00 00:00:00','0000-00-00 00:00:00','00:00:00','00:00:00','00:00:00'",
                "a=\"0000-00-00\" b=\"0000-00-00 00:00:00\" c=\"0000-00-00 00:00:00.0\" \
                 d=\"0000-00-00 00:00:00.000000\" e=\"0000-00-00 00:00:00\" f=\"0000-00-00 00:00:00.000\" \
                 g=\"00:00:00\" h=\"00:00:00.0000\" i=\"00:00:00.000000\"",
            ),
            (
                "'2024-00-00','2024-12-00 10:00:00','9999-12-31 23:59:59.9','9999-12-31 23:59:59.999999', \
                 '2000-02-29 12:00:00','2024-10-27 01:30:00.001','-01:00:00','-00:00:01.5','24:00:00.25'",
                "a=\"2024-00-00\" b=\"2024-12-00 10:00:00\" c=\"9999-12-31 23:59:59.9\" \
                 d=\"9999-12-31 23:59:59.999999\" e=\"2000-02-29 12:00:00\" f=\"2024-10-27 01:30:00.001\" \
                 g=\"-01:00:00\" h=\"-00:00:01.5000\" i=\"24:00:00.250000\"",
            ),
            (
                "'9999-12-31',NULL,'2024-01-01','2024-01-01 00:00:00.1',NULL,NULL,'-00:00:01','-00:00:00.0001','-100:00:00'",
                "a=\"9999-12-31\" b=null c=\"2024-01-01 00:00:00.0\" d=\"2024-01-01 00:00:00.100000\" e=null f=null \
                 g=\"-00:00:01\" h=\"-00:00:00.0001\" i=\"-100:00:00.000000\"",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn text_and_bytes() {
    check(
        "text",
        "a char(5), b varchar(300), c tinytext, d text, e mediumtext, f longtext, g binary(4), h varbinary(300), \
         i tinyblob, j blob, k longblob, l enum('a','it''s','ü'), m set('x','y','z'), n char(200) CHARACTER SET utf16, \
         o varchar(9) COLLATE utf8mb4_bin, p char(255), q varchar(5) CHARACTER SET ascii",
        &[
            (
                "'ab  ','a\"b\\\\c\\n\\0','é','你好','😀','','ab','\\0','ab','','abc','it''s','x,z','a😀 ','A ','p','x'",
                "a=\"ab\" b=\"a\\\"b\\\\c\\n\\u0000\" c=\"é\" d=\"你好\" e=\"😀\" f=\"\" g=\"YWIAAA==\" h=\"AA==\" \
                 i=\"YWI=\" j=\"\" k=\"YWJj\" l=\"it's\" m=[\"x\",\"z\"] n=\"a😀\" o=\"A \" p=\"p\" q=\"x\"",
            ),
            (
                "'',' x ','','','','','','','','','','zzz','','','','',''",
                "a=\"\" b=\" x \" c=\"\" d=\"\" e=\"\" f=\"\" g=\"AAAAAA==\" h=\"\" i=\"\" j=\"\" k=\"\" l=null m=[] n=\"\" \
                 o=\"\" p=\"\" q=\"\"",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn long_values() {
    let mut database = database("long").await;
    database.run(&["CREATE TABLE t (id int PRIMARY KEY, a varchar(16000), b mediumtext, c longblob, d json, e binary(255))"]).await;
    let from = database.end().await;
    for length in [255, 256, 4000, 16000] {
        let insert = format!(
            "INSERT INTO t VALUES ({length}, REPEAT('é', {length}), REPEAT('x', {length} * 100), \
             REPEAT('y', {length} * 101), JSON_ARRAY(REPEAT('z', {length} * 10), JSON_OBJECT(REPEAT('k', {length}), 1)), 0x0102)"
        );
        database.run(&[&insert]).await;
    }
    let (_, rows) = rows_of_both(&mut database, "t", from).await;
    assert_eq!(rows[3].token(2).unwrap().len(), 1_600_002);
    database.drop().await;
}

#[tokio::test]
async fn json_documents() {
    let documents = [
        (
            "'{\"b\": [1, 2.5, -3, true, false, null], \"aa\": {\"x\": \"y z, \\\\\"q\\\\\": \\\\u0001\\\\t/\"}}'",
            None,
        ),
        ("'[]'", Some("[]")),
        ("'{}'", Some("{}")),
        ("'null'", Some("null")),
        ("'\"\\\\u00e9 \\\\ud83d\\\\ude00 \\\\u007f\"'", Some("\"é 😀 \u{7f}\"")),
        (
            "'[1.0, -0.0, 1e20, 1e15, 1e14, 1.5e-7, 1e-14, 1e-15, 1.25e-15, 1e-16, 123456789012345678, 1e300, 5e-324]'",
            None,
        ),
        (
            "'[32767, 32768, -32768, -32769, 65535, 65536, 2147483647, 2147483648, -2147483648, -2147483649]'",
            None,
        ),
        (
            "'[4294967295, 4294967296, 9223372036854775807, -9223372036854775808, 18446744073709551615, 18446744073709551616]'",
            None,
        ),
        (
            "JSON_ARRAY(CAST(1.50 AS DECIMAL(10,2)), CAST(-0.001 AS DECIMAL(65,30)), CAST(12345678901234567890123 AS DECIMAL(40,0)))",
            None,
        ),
        (
            "JSON_ARRAY(CAST('2024-02-29' AS DATE), CAST('2024-02-29 01:02:03.45' AS DATETIME(2)), CAST('-01:02:03.5' AS TIME(1)), CAST('31:59:59' AS TIME))",
            Some("[\"2024-02-29\",\"2024-02-29 01:02:03.450000\",\"-01:02:03.500000\",\"31:59:59.000000\"]"),
        ),
        ("JSON_ARRAY(TIMESTAMP '2024-02-29 01:02:03', YEAR('2024-01-01'), b'101', x'0102ff')", None),
        ("JSON_OBJECT('blob', CAST(REPEAT('x', 100) AS BINARY))", None),
        (
            "JSON_OBJECT('', 1, 'é', 2, 'a b', 3, 'ab', JSON_OBJECT('deep', JSON_ARRAY(JSON_ARRAY(JSON_ARRAY()))))",
            None,
        ),
        (
            "(SELECT JSON_ARRAYAGG(n * 1000) FROM (WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 900) SELECT n FROM s) x)",
            None,
        ),
        (
            "JSON_OBJECT('large', REPEAT('v', 70000), 'n', 1, 'i', 70000, 'neg', -70000, 'u', 3000000000, 't', true)",
            None,
        ),
        ("JSON_ARRAY('\\b\\f\\n\\r\\t\\0\\Z', CHAR(1,2,3,4,5,6,7,11,14,15,16,26,27,31 USING utf8mb4))", None),
        ("NULL", Some("null")),
    ];
    let mut database = database("json").await;
    database.run(&["CREATE TABLE t (id int PRIMARY KEY, j json)"]).await;
    let from = database.end().await;
    for (at, (document, _)) in documents.iter().enumerate() {
        database.run(&[&format!("INSERT INTO t VALUES ({at}, {document})")]).await;
    }
    let (_, rows) = rows_of_both(&mut database, "t", from).await;
    for (row, (document, expect)) in rows.iter().zip(documents) {
        if let Some(expect) = expect {
            assert_eq!(row.token(1).unwrap(), expect, "{document}");
        }
    }
    database.drop().await;
}

#[tokio::test]
async fn columns_that_the_server_computes_or_hides() {
    let mut database = database("computed").await;
    database
        .run(&[
            "CREATE TABLE t (a int, v int AS (a + 1) VIRTUAL, s varchar(9) AS (CONCAT('s', a)) STORED, id int, \
             hidden int INVISIBLE DEFAULT 7, j json, PRIMARY KEY (id, a), INDEX ((a * 2)), \
             INDEX ((CAST(j->'$.x' AS UNSIGNED ARRAY))), UNIQUE (s))",
        ])
        .await;
    let from = database.end().await;
    database.run(&["INSERT INTO t (a, id, j) VALUES (1, 2, '{\"x\": [1, 2]}'), (3, 4, NULL)"]).await;
    let (table, rows) = rows_of_both(&mut database, "t", from).await;
    assert_eq!(rows[0].tokens().collect::<Vec<_>>(), ["1", "2", "\"s1\"", "2", "7", "{\"x\":[1,2]}"]);
    assert_eq!(table.primary_key, [3, 0]);
    database.drop().await;
}

#[tokio::test]
async fn a_type_that_is_not_supported_names_its_column() {
    let mut database = database("geometry").await;
    database.run(&["CREATE TABLE t (id int PRIMARY KEY, place point)"]).await;
    let from = database.end().await;
    database.run(&["INSERT INTO t VALUES (1, POINT(1, 2))"]).await;
    let mut stream = database.stream(from).await;
    let error = loop {
        match tokio::time::timeout(crate::server::PATIENCE, stream.next()).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let StreamError::Unreadable { table, column, .. } = &error else { panic!("{error}") };
    assert_eq!((table.as_str(), column.as_str()), (&*format!("{}.t", database.name), "place"));
    let described = database.source.describe(&database.name, "t").await.unwrap_err();
    assert!(described.to_string().contains("column place"), "{described}");
    database.drop().await;
}
