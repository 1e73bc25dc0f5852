//! Every form of an ALTER that matters to rows.

use super::*;
use crate::change::ColumnKind;

/// `c DECIMAL(…)` → what older rows read in it.
fn older_rows_read(definition: &str) -> Result<String, &'static str> {
    let found = alterations(&format!("ADD COLUMN c {definition}"));
    let [Alteration::Add(column)] = &found[..] else { panic!("{definition}: {found:?}") };
    assert_eq!(column.name, "c");
    column.older_rows_read.clone()
}

#[test]
fn older_rows_read_the_constant_as_the_column_writes_it() {
    for (definition, expect) in [
        ("INT", "null"),
        ("INT NULL DEFAULT NULL COMMENT 'a, b' AFTER `x`", "null"),
        ("INT NOT NULL", "0"),
        ("INT DEFAULT '007'", "7"),
        ("BIGINT UNSIGNED NOT NULL DEFAULT +18446744073709551615", "18446744073709551615"),
        ("TINYINT(1) DEFAULT TRUE", "1"),
        ("SMALLINT DEFAULT -5 UNIQUE KEY", "-5"),
        ("DECIMAL(16,2) NOT NULL DEFAULT 1.5", "1.50"),
        ("DECIMAL(16,2) DEFAULT '-0.000'", "0.00"),
        ("NUMERIC(5) DEFAULT 010", "10"),
        ("FLOAT DEFAULT 0.1", "0.1"),
        ("DOUBLE PRECISION DEFAULT 1e3", "1000.0"),
        (
            "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci DEFAULT 'it''s \"x\"'",
            r#""it's \"x\"""#,
        ),
        ("VARCHAR(20) DEFAULT 5", "\"5\""),
        ("CHAR(5) DEFAULT 'a '", "\"a\""),
        ("VARCHAR(5) DEFAULT 'a '", "\"a \""),
        ("TEXT NOT NULL", "\"\""),
        ("DATE DEFAULT '2024-05-31'", "\"2024-05-31\""),
        ("DATETIME(3) DEFAULT '2024-05-31 01:02:03.5'", "\"2024-05-31 01:02:03.500\""),
        ("DATETIME DEFAULT '2024-05-31' ON UPDATE CURRENT_TIMESTAMP()", "\"2024-05-31 00:00:00\""),
        ("DATETIME NOT NULL", "\"0000-00-00 00:00:00\""),
        ("TIME(1) DEFAULT '01:02:03'", "\"01:02:03.0\""),
        ("TIMESTAMP NULL", "null"),
        ("YEAR DEFAULT 1999", "1999"),
        ("BIT(4) DEFAULT b'101'", "5"),
        ("BINARY(3) DEFAULT 'a'", "\"YQAA\""),
        ("VARBINARY(3) DEFAULT 0x4D", "\"TQ==\""),
        ("ENUM('a','b') NOT NULL", "\"a\""),
        ("SET('a','b','c') DEFAULT 'c,a'", "[\"a\",\"c\"]"),
        ("JSON", "null"),
        ("INT DEFAULT 3 INVISIBLE FIRST", "3"),
    ] {
        assert_eq!(older_rows_read(definition).as_deref(), Ok(expect), "{definition}");
    }
}

/// Take the questions for ASCII out of `column::older_rows_read` and
/// `types::column_type` to see it fail.
#[test]
fn what_the_text_does_not_settle_is_refused() {
    for definition in [
        "VARCHAR(9) DEFAULT 'é'",
        "VARCHAR(9) DEFAULT '\u{FFFD}'",
        "CHAR(9) DEFAULT N'é'",
        "ENUM('a','é')",
        "SET('é') NOT NULL",
        "INT AUTO_INCREMENT UNIQUE",
        "INT AS (a + 1)",
        "INT GENERATED ALWAYS AS (a + 1) STORED",
        "INT DEFAULT (1 + 1)",
        "DATETIME DEFAULT CURRENT_TIMESTAMP",
        "DATETIME DEFAULT '2024-05-31 01:02:03.5'",
        "DATE DEFAULT '24-5-31'",
        "DATE DEFAULT 20240531",
        "TIMESTAMP",
        "TIMESTAMP NOT NULL DEFAULT '2024-05-31 00:00:00'",
        "INT DEFAULT 1.5",
        "DECIMAL(5,2) DEFAULT 1.555",
        "YEAR DEFAULT '0'",
        "VARCHAR(5) DEFAULT 'a\\'b'",
        "VARCHAR(5) DEFAULT \"a\"",
        "VARCHAR(5) CHARACTER SET binary DEFAULT 'a'",
        "VARCHAR(5) DEFAULT _latin1'a'",
        "ENUM('a','b') DEFAULT 'A'",
        "JSON NOT NULL",
        "FLOAT(7,3) DEFAULT 1",
        "POINT",
        "SERIAL",
        "INT REFERENCES x (id)",
    ] {
        assert!(older_rows_read(definition).is_err(), "{definition}");
    }
}

#[test]
fn specifications_are_told_apart() {
    let rename = |from: &str, to: &str| Alteration::Rename { from: from.into(), to: to.into() };
    let drop = |column: &str| Alteration::Drop { column: column.into() };
    for (specifications, expect) in [
        ("ADD INDEX i (a, b), ADD UNIQUE KEY (c), ADD KEY k (d)", vec![Alteration::Harmless; 3]),
        ("ALGORITHM=INPLACE, LOCK=NONE, FORCE", vec![Alteration::Harmless; 3]),
        ("COMMENT = 'a, b', ENGINE InnoDB ROW_FORMAT=DYNAMIC", vec![Alteration::Harmless; 2]),
        (
            "ALTER COLUMN a SET DEFAULT 5, ALTER a DROP DEFAULT, ALTER INDEX i INVISIBLE",
            vec![Alteration::Harmless; 3],
        ),
        ("ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES x (id)", vec![Alteration::Harmless]),
        ("DROP INDEX i, DROP FOREIGN KEY f, RENAME INDEX a TO b", vec![Alteration::Harmless; 3]),
        ("DROP COLUMN a, DROP `b`", vec![drop("a"), drop("b")]),
        ("RENAME COLUMN a TO `b c`", vec![rename("a", "b c")]),
        ("ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES x (id) ON DELETE CASCADE", vec![Alteration::Unknown]),
        ("DROP PRIMARY KEY, ADD PRIMARY KEY (b)", vec![Alteration::Unknown; 2]),
        ("CONVERT TO CHARACTER SET utf8mb4", vec![Alteration::Unknown]),
        ("ENGINE=MyISAM", vec![Alteration::Unknown]),
        ("/*!80000 ADD COLUMN a INT */", vec![Alteration::Unknown]),
        ("SOMETHING NEW", vec![Alteration::Unknown]),
        // Names whose bytes are lost.
        ("DROP `\u{FFFD}`, ADD `\u{FFFD}` INT, MODIFY `\u{FFFD}` INT", vec![Alteration::Unknown; 3]),
        ("DROP `é`", vec![drop("é")]),
    ] {
        assert_eq!(alterations(specifications), expect, "{specifications}");
    }
}

#[test]
fn columns_come_alone_and_together() {
    let specifications =
        "ADD a INT DEFAULT 1 FIRST, ADD COLUMN (b INT, `c d` DECIMAL(4,1)), ALGORITHM=INSTANT";
    let found = alterations(specifications);
    let [Alteration::Add(a), Alteration::Add(b), Alteration::Add(c), Alteration::Harmless] = &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!([&*a.name, &*b.name, &*c.name], ["a", "b", "c d"]);
    assert_eq!(c.column_type, "decimal(4,1)");
    let decimal = ColumnKind::Decimal { precision: 4, scale: 1 };
    assert_eq!(c.column().map(|column| column.kind), Some(decimal));
}

#[test]
fn a_changed_column_is_known_with_its_new_type() {
    let found = alterations("CHANGE a b VARCHAR(30) NOT NULL, MODIFY COLUMN c INT UNSIGNED");
    let [Alteration::Change { column: a, definition: b }, Alteration::Change { column: c, definition: d }] =
        &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!((&**a, &*b.name, &*b.column_type, b.nullable), ("a", "b", "varchar(30)", false));
    assert_eq!((&**c, &*d.name, &*d.column_type, d.nullable), ("c", "c", "int unsigned", true));
}

/// Its kind is known although what older rows would read in it is not: they are
/// not new to it. Take `attributes` out of `column_definition` to see it fail.
#[test]
fn a_definition_is_understood_to_its_end_or_not_at_all() {
    let kind = |definition: &str| {
        let found = alterations(&format!("MODIFY c {definition}"));
        let [Alteration::Change { definition, .. }] = &found[..] else { panic!("{found:?}") };
        definition.kind.clone()
    };
    for understood in ["INT DEFAULT (1 + 1)", "INT AUTO_INCREMENT", "INT DEFAULT 'é' COMMENT 'é'"] {
        assert_eq!(kind(understood), Ok(ColumnKind::Integer { unsigned: false, bits: 32 }), "{understood}");
    }
    for not_understood in ["INT CHECK (c > 0) NOT NULL", "INT AS (a + 1)", "INT NOT NULL REFERENCES x (id)"] {
        assert!(kind(not_understood).is_err(), "{not_understood}");
    }
}
