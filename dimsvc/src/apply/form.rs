//! What a change of a table's form means to a dimension of it: nothing, columns
//! that come, or that its rows are not known any more. Pure.

use crate::registry::DimensionColumn;
use tidemark_binlog::{Alteration, ColumnDefinition, ColumnKind, Effect};
use tidemark_proto::text::write_string;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Rows stay as they are.
    Untouched,
    Truncated,
    Grown(Growth),
    /// Why its rows are not known after the statement.
    Lost(String),
}

/// Columns that came, and columns that hold more than before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) added: Vec<DimensionColumn>,
    /// What older rows read in the added columns, as it follows their last one.
    pub(super) suffix: String,
    pub(super) widened: Vec<DimensionColumn>,
}

/// What is known of a dimension before the statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'d> {
    pub(super) columns: &'d [DimensionColumn],
    pub(super) key: &'d [&'d str],
    /// It takes columns that come.
    pub(super) all_columns: bool,
}

/// What a statement with this effect on its table means to a dimension.
pub(super) fn verdict(form: Form<'_>, effect: &Effect) -> Verdict {
    let alterations = match effect {
        Effect::None => return Verdict::Untouched,
        Effect::Truncates => return Verdict::Truncated,
        Effect::Replaces => return Verdict::Lost(String::from("the table or rows of it may be others")),
        Effect::Alters(alterations) => alterations,
    };
    let mut growth = Growth::default();
    for alteration in alterations {
        if let Err(why) = alter(form, alteration, &mut growth) {
            return Verdict::Lost(why);
        }
    }
    if growth == Growth::default() { Verdict::Untouched } else { Verdict::Grown(growth) }
}

fn alter(form: Form<'_>, alteration: &Alteration, growth: &mut Growth) -> Result<(), String> {
    let kept = |name: &str| form.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    match alteration {
        Alteration::Harmless => Ok(()),
        Alteration::Unknown => Err(String::from("rows may be others, and the statement does not say how")),
        Alteration::Drop { column } if kept(column).is_some() => Err(format!("column `{column}` went")),
        Alteration::Rename { from, .. } if kept(from).is_some() => {
            Err(format!("column `{from}` was renamed"))
        }
        Alteration::Drop { .. } | Alteration::Rename { .. } => Ok(()),
        Alteration::Change { column, definition } => match kept(column) {
            Some(known) => change(form, known, definition).map(|widened| growth.widened.extend(widened)),
            None => Ok(()),
        },
        Alteration::Add(definition) if kept(&definition.name).is_some() => {
            Err(format!("column `{}` came, which the dimension has", definition.name))
        }
        Alteration::Add(definition) if form.all_columns => add(definition, growth),
        Alteration::Add(_) => Ok(()),
    }
}

fn add(definition: &ColumnDefinition, growth: &mut Growth) -> Result<(), String> {
    let name = &definition.name;
    let unknown = |why: &&str| format!("column `{name}` came: {why}");
    let kind = definition.kind.as_ref().map_err(unknown)?;
    let token = definition.older_rows_read.as_ref().map_err(unknown)?;
    let mut suffix = std::mem::take(&mut growth.suffix).into_bytes();
    suffix.push(b',');
    write_string(&mut suffix, name);
    suffix.push(b':');
    suffix.extend_from_slice(token.as_bytes());
    // Of valid text, of JSON, and of ASCII.
    growth.suffix = String::from_utf8_lossy(&suffix).into_owned();
    growth.added.push(DimensionColumn {
        name: name.clone(),
        kind: kind.clone(),
        mysql_type: definition.column_type.clone(),
        nullable: definition.nullable,
    });
    Ok(())
}

/// A kept column's new definition: the column, when it holds more than before.
fn change(
    form: Form<'_>,
    known: &DimensionColumn,
    definition: &ColumnDefinition,
) -> Result<Option<DimensionColumn>, String> {
    let name = &known.name;
    let refuse = |what: &str| Err(format!("column `{name}` {what}"));
    if !definition.name.eq_ignore_ascii_case(name) {
        return refuse("was renamed");
    }
    let kind = match &definition.kind {
        // A NOT NULL may stand behind what is not understood.
        Err(why) => return refuse(&format!("may have other values: {why}")),
        Ok(kind) => kind,
    };
    if definition.names_charset || (known.nullable && !definition.nullable) {
        return refuse("may have other values");
    }
    let (old, new) = (plain(&known.mysql_type), plain(&definition.column_type));
    let is_key = form.key.iter().any(|key| key.eq_ignore_ascii_case(name));
    if old == new {
        return Ok(None);
    }
    if is_key || !widens(&old, &new) {
        return refuse("changed its type");
    }
    // The character set of a text stays.
    let kind = if matches!(kind, ColumnKind::Text { .. }) { known.kind.clone() } else { kind.clone() };
    let (mysql_type, nullable) = (definition.column_type.clone(), definition.nullable);
    Ok(Some(DimensionColumn { name: name.clone(), kind, mysql_type, nullable }))
}

/// A type without the width in which older servers show integers.
fn plain(mysql_type: &str) -> String {
    let text = mysql_type.trim_end_matches(" zerofill");
    match (text.split_once('('), text.split_once(')')) {
        (Some((name, _)), Some((_, rest))) if name.ends_with("int") => format!("{name}{rest}"),
        _ => text.to_owned(),
    }
}

/// Whether a column of the new type has every value of the old one, written
/// alike.
fn widens(old: &str, new: &str) -> bool {
    const FAMILIES: [&[&str]; 4] = [
        &["tinyint", "smallint", "mediumint", "int", "bigint"],
        &["tinyint unsigned", "smallint unsigned", "mediumint unsigned", "int unsigned", "bigint unsigned"],
        &["tinytext", "text", "mediumtext", "longtext"],
        &["tinyblob", "blob", "mediumblob", "longblob"],
    ];
    let grows = |family: &&[&str]| {
        let place = |wanted: &str| family.iter().position(|name| *name == wanted);
        place(old).zip(place(new)).is_some_and(|(old, new)| old <= new)
    };
    if FAMILIES.iter().any(grows) {
        return true;
    }
    // Labels that come last leave the others as they are.
    if let Some(labels) =
        old.strip_suffix(')').filter(|old| old.starts_with("enum(") || old.starts_with("set("))
    {
        return new.starts_with(&format!("{labels},"));
    }
    let parts = |text: &str| -> Option<(String, u32, String)> {
        let (name, rest) = text.split_once('(')?;
        let end = rest.find([',', ')'])?;
        let (length, rest) = rest.split_at_checked(end)?;
        Some((name.to_owned(), length.parse().ok()?, rest.to_owned()))
    };
    let lengthens = |(old, new): ((String, u32, String), (String, u32, String))| {
        let same = matches!(old.0.as_str(), "varchar" | "char" | "varbinary" | "decimal") && old.0 == new.0;
        same && old.1 <= new.1 && old.2 == new.2
    };
    parts(old).zip(parts(new)).is_some_and(lengthens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_binlog::{Charset, Statement};
    use tidemark_proto::Position;

    fn columns() -> Vec<DimensionColumn> {
        let text = ColumnKind::Text { charset: Charset::Gbk, case_insensitive: false };
        let integer = ColumnKind::Integer { unsigned: false, bits: 32 };
        [
            ("id", integer.clone(), "int(11)", false),
            ("v", integer, "int", true),
            ("s", text, "varchar(20)", true),
        ]
        .map(|(name, kind, mysql_type, nullable)| DimensionColumn {
            name: name.into(),
            kind,
            mysql_type: mysql_type.into(),
            nullable,
        })
        .into()
    }

    fn of(sql: &str, all_columns: bool) -> Verdict {
        let at = Position::ZERO;
        let (database, sql) = (String::from("shop"), sql.to_owned());
        let statement = Statement { begin: at, end: at, gtid: None, database, sql };
        let form = Form { columns: &columns(), key: &["id"], all_columns };
        verdict(form, &statement.effect_on("shop", "t"))
    }

    #[test]
    fn added_columns_come_with_what_older_rows_read() {
        let sql =
            "ALTER TABLE t ADD n DECIMAL(4,2) NOT NULL DEFAULT 1.5 AFTER id, ADD `a\"b` TEXT, ADD KEY (v)";
        let Verdict::Grown(growth) = of(sql, true) else { panic!("it grows") };
        assert_eq!(growth.suffix, r#","n":1.50,"a\"b":null"#);
        let names: Vec<_> = growth.added.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["n", "a\"b"]);
        assert_eq!(of(sql, false), Verdict::Untouched);
    }

    #[test]
    fn what_keeps_every_row_is_nothing() {
        for sql in [
            "ALTER TABLE t ADD INDEX i (v), COMMENT 'x', ENGINE=InnoDB, ALTER COLUMN v SET DEFAULT 3",
            "ALTER TABLE t MODIFY v INT DEFAULT 7 COMMENT 'x' FIRST",
            "ALTER TABLE t CHANGE id ID INTEGER(10) NOT NULL AUTO_INCREMENT FIRST",
            "ALTER TABLE other DROP COLUMN v",
            "CREATE INDEX i ON t (v)",
            "DROP TABLE other",
        ] {
            assert_eq!(of(sql, true), Verdict::Untouched, "{sql}");
        }
        for sql in ["ALTER TABLE t DROP COLUMN x", "ALTER TABLE t RENAME COLUMN x TO y, MODIFY z INT"] {
            assert_eq!(of(sql, false), Verdict::Untouched, "{sql}");
        }
    }

    #[test]
    fn columns_that_hold_more_stay_what_they_are() {
        let Verdict::Grown(growth) = of("ALTER TABLE t MODIFY s VARCHAR(50), MODIFY v BIGINT", true) else {
            panic!("they hold more")
        };
        let types: Vec<_> = growth.widened.iter().map(|column| column.mysql_type.as_str()).collect();
        assert_eq!(types, ["varchar(50)", "bigint"]);
        assert_eq!(growth.widened[0].kind, columns()[2].kind);
        assert_eq!(growth.widened[1].kind, ColumnKind::Integer { unsigned: false, bits: 64 });
        for (old, new, expect) in [
            ("decimal(10,2)", "decimal(12,2)", true),
            ("decimal(10,2)", "decimal(12,3)", false),
            ("enum('a','b')", "enum('a','b','c')", true),
            ("enum('a','b')", "enum('b','a','c')", false),
            ("int", "int unsigned", false),
            ("varchar(20)", "varchar(10)", false),
            ("varchar(20)", "char(30)", false),
            ("datetime", "datetime(3)", false),
            ("text", "longtext", true),
        ] {
            assert_eq!(widens(old, new), expect, "{old} -> {new}");
        }
    }

    /// Take the refusal of `Err` out of `change` to see it fail.
    #[test]
    fn what_may_change_rows_loses_them() {
        for (sql, expect) in [
            ("ALTER TABLE t DROP COLUMN v, ADD COLUMN w INT", "column `v` went"),
            ("ALTER TABLE t RENAME COLUMN v TO w", "column `v` was renamed"),
            ("ALTER TABLE t CHANGE v w INT", "column `v` was renamed"),
            ("ALTER TABLE t MODIFY v VARCHAR(10)", "column `v` changed its type"),
            ("ALTER TABLE t MODIFY id BIGINT NOT NULL", "column `id` changed its type"),
            ("ALTER TABLE t MODIFY v INT NOT NULL DEFAULT (1 + 1)", "column `v` may have other values"),
            ("ALTER TABLE t MODIFY s VARCHAR(20) CHARACTER SET latin1", "column `s` may have other values"),
            ("ALTER TABLE t MODIFY v INT AS (id + 1) STORED", "column `v` may have other values"),
            ("ALTER TABLE t MODIFY v INT CHECK (v > 0) NOT NULL", "column `v` may have other values"),
            ("ALTER TABLE t ADD w VARCHAR(9) DEFAULT 'é'", "column `w` came: the statement does not settle"),
            ("ALTER TABLE t ADD w INT DEFAULT (1 + 1)", "column `w` came: its default is no constant"),
            ("ALTER TABLE t ADD v INT", "column `v` came, which the dimension has"),
            ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", "does not say how"),
            ("ALTER TABLE t DROP PARTITION p", "may be others"),
            ("RENAME TABLE t TO u, x TO t", "may be others"),
            ("DROP TABLE t", "may be others"),
        ] {
            let lost = matches!(of(sql, true), Verdict::Lost(why) if why.contains(expect));
            assert!(lost, "{sql}: {:?}", of(sql, true));
        }
        assert_eq!(of("TRUNCATE t", true), Verdict::Truncated);
    }
}
