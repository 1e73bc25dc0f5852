//! The type of a column in an ALTER: what its values mean, and the type as
//! MySQL shows it.

use super::{column::Cursor, tokens::Token};
use crate::change::{Charset, ColumnKind};
use std::sync::Arc;

/// A column's type; the error says why its values are not known.
pub(super) fn column_type(cursor: &mut Cursor<'_>) -> Result<(ColumnKind, String), &'static str> {
    const UNKNOWN: &str = "its type is not supported";
    let word = cursor.name().ok_or(UNKNOWN)?.to_ascii_uppercase();
    cursor.take(&["PRECISION"]);
    let arguments = cursor.bracketed().ok_or(UNKNOWN)?;
    // Their bytes are of the session's character set.
    if arguments.iter().any(|token| matches!(token, Token::Text(label) if !label.is_ascii())) {
        return Err("the statement does not settle its labels");
    }
    let unsigned = sign(cursor);
    let numbers = arguments.iter().filter_map(|token| match token {
        Token::Number(number) => number.parse::<u16>().ok(),
        _ => None,
    });
    let numbers: Vec<u16> = numbers.collect();
    let (first, second) = (numbers.first().copied(), numbers.get(1).copied());
    let (kind, shown) = number_type(&word, unsigned, (first, second))
        .or_else(|| time_type(&word, first.unwrap_or(0)))
        .or_else(|| string_type(&word, first))
        .or_else(|| label_type(&word, arguments))
        .ok_or(UNKNOWN)?;
    Ok((kind, shown))
}

fn sign(cursor: &mut Cursor<'_>) -> bool {
    let mut unsigned = false;
    loop {
        if cursor.take(&["UNSIGNED"]) || cursor.take(&["ZEROFILL"]) {
            unsigned = true;
        } else if !cursor.take(&["SIGNED"]) {
            return unsigned;
        }
    }
}

fn number_type(
    word: &str,
    unsigned: bool,
    (first, second): (Option<u16>, Option<u16>),
) -> Option<(ColumnKind, String)> {
    let integer = |bits, name: &str| {
        let shown = if unsigned { format!("{name} unsigned") } else { name.to_owned() };
        (ColumnKind::Integer { unsigned, bits }, shown)
    };
    Some(match word {
        "BOOL" | "BOOLEAN" => integer(8, "tinyint(1)"),
        "TINYINT" if first == Some(1) => integer(8, "tinyint(1)"),
        "TINYINT" => integer(8, "tinyint"),
        "SMALLINT" => integer(16, "smallint"),
        "MEDIUMINT" => integer(24, "mediumint"),
        "INT" | "INTEGER" => integer(32, "int"),
        "BIGINT" => integer(64, "bigint"),
        "FLOAT" if first.is_none() => (ColumnKind::Float, String::from("float")),
        "DOUBLE" if first.is_none() => (ColumnKind::Double, String::from("double")),
        "DECIMAL" | "NUMERIC" | "DEC" | "FIXED" => {
            let (precision, scale) = (first.unwrap_or(10), second.unwrap_or(0));
            let kind = ColumnKind::Decimal {
                precision: u8::try_from(precision).ok()?,
                scale: u8::try_from(scale).ok()?,
            };
            let shown = format!("decimal({precision},{scale}){}", if unsigned { " unsigned" } else { "" });
            (kind, shown)
        }
        "BIT" => {
            let bits = u8::try_from(first.unwrap_or(1)).ok()?;
            (ColumnKind::Bit { bits }, format!("bit({bits})"))
        }
        _ => return None,
    })
}

fn time_type(word: &str, digits: u16) -> Option<(ColumnKind, String)> {
    let fine = u8::try_from(digits).ok()?;
    let shown = |name: &str| if digits == 0 { name.to_owned() } else { format!("{name}({digits})") };
    Some(match word {
        "DATE" => (ColumnKind::Date, shown("date")),
        "DATETIME" => (ColumnKind::DateTime { digits: fine }, shown("datetime")),
        "TIMESTAMP" => (ColumnKind::Timestamp { digits: fine }, shown("timestamp")),
        "TIME" => (ColumnKind::Time { digits: fine }, shown("time")),
        "YEAR" => (ColumnKind::Year, String::from("year")),
        _ => return None,
    })
}

fn string_type(word: &str, length: Option<u16>) -> Option<(ColumnKind, String)> {
    // How it compares matters to keys alone, which no added column is of.
    let text = ColumnKind::Text { charset: Charset::Utf8, case_insensitive: true };
    let name = word.to_ascii_lowercase();
    Some(match word {
        "CHAR" | "CHARACTER" => (text, format!("char({})", length.unwrap_or(1))),
        "VARCHAR" => (text, format!("varchar({})", length?)),
        "TINYTEXT" | "MEDIUMTEXT" | "LONGTEXT" => (text, name),
        "TEXT" if length.is_none() => (text, name),
        "BINARY" => {
            let fixed = length.unwrap_or(1);
            (ColumnKind::Binary { fixed: Some(fixed) }, format!("binary({fixed})"))
        }
        "VARBINARY" => (ColumnKind::Binary { fixed: None }, format!("varbinary({})", length?)),
        "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" => (ColumnKind::Binary { fixed: None }, name),
        "BLOB" if length.is_none() => (ColumnKind::Binary { fixed: None }, name),
        "JSON" => (ColumnKind::Json, name),
        _ => return None,
    })
}

fn label_type(word: &str, arguments: &[Token]) -> Option<(ColumnKind, String)> {
    let mut labels = Vec::new();
    for (at, token) in arguments.iter().enumerate() {
        match token {
            Token::Text(label) if at % 2 == 0 => labels.push(label.trim_end_matches(' ').to_owned()),
            Token::Symbol(',') if at % 2 == 1 => {}
            _ => return None,
        }
    }
    let quoted: Vec<_> = labels.iter().map(|label| format!("'{}'", label.replace('\'', "''"))).collect();
    let shown = format!("{}({})", word.to_ascii_lowercase(), quoted.join(","));
    let labels: Arc<[String]> = labels.into();
    match word {
        _ if labels.is_empty() => None,
        "ENUM" => Some((ColumnKind::Enum { labels }, shown)),
        "SET" => Some((ColumnKind::Set { labels }, shown)),
        _ => None,
    }
}
