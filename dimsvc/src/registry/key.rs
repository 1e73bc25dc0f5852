//! Canonical keys: the same key is the same bytes, whoever spells it.
//!
//! On the wire a key is a JSON array of its columns' values. `[15]`, `[ 15 ]`
//! and `["15"]` are one key of a BIGINT column, `[1.5]` and `[1.50]` one of a
//! DECIMAL(10,2). Rows of the binlog and of SELECT go through the same
//! function, so that lookups and rows cannot disagree.

use std::{borrow::Cow, ops::RangeInclusive};
use tidemark_binlog::ColumnKind;
use tidemark_proto::{
    config::Fold,
    text::{array_items, string_value, write_string},
};

/// A column of a key: how its values compare.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    pub name: String,
    pub kind: ColumnKind,
    pub fold: Fold,
}

/// A key that is none of the dimension's. The text names the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key is a JSON array of {expected} value(s) ({columns}), got `{got}`")]
    Shape { expected: usize, columns: String, got: String },
    #[error("key column `{column}` takes {expected}, got `{got}`")]
    Value { column: String, expected: &'static str, got: String },
}

/// Appends the canonical form of a key given as a JSON array.
///
/// # Errors
/// When the text is no array of the right length, or a value does not fit its
/// column. `out` then holds a part of the key.
pub fn write_key(out: &mut Vec<u8>, columns: &[KeyColumn], text: &str) -> Result<(), KeyError> {
    if let [column] = columns
        && is_canonical_integer(&column.kind, text)
    {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let shape = || KeyError::Shape {
        expected: columns.len(),
        columns: columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
        got: text.chars().take(80).collect(),
    };
    let mut items = array_items(text);
    write_values(out, columns, |_| items.next()).map_err(|error| error.unwrap_or_else(shape))?;
    let ended = text.trim_end().ends_with(']') && items.next().is_none();
    if ended { Ok(()) } else { Err(shape()) }
}

/// Appends the text that keys with these values in their first columns begin
/// with, and no others; the values are given as a JSON array. `["a", 3]` gives
/// `["a",3,`: values end where their JSON does, so no comma is part of one, and
/// `["a",3]` of a longer key is no other spelling of a shorter one.
///
/// # Errors
/// As [`write_key`], for a key of these columns.
pub fn write_prefix(out: &mut Vec<u8>, columns: &[KeyColumn], text: &str) -> Result<(), KeyError> {
    write_key(out, columns, text)?;
    if let Some(end) = out.last_mut() {
        *end = b',';
    }
    Ok(())
}

/// Whether a key is one natural number as we write it, of so few digits that any
/// column of its kind holds it. Most keys are: they are copied as they are.
fn is_canonical_integer(kind: &ColumnKind, text: &str) -> bool {
    let ColumnKind::Integer { bits, .. } = kind else { return false };
    let digits_max = match bits {
        0..16 => 2,
        16..24 => 4,
        24..32 => 6,
        32..64 => 9,
        _ => 18,
    };
    match text.as_bytes() {
        [b'[', digits @ .., b']'] => {
            matches!(digits, [b'0'] | [b'1'..=b'9', ..])
                && digits.len() <= digits_max
                && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

/// Appends the canonical form of a key given as the tokens of its columns.
///
/// # Errors
/// As [`write_key`]; `None` when a token is missing.
pub fn write_values<'t>(
    out: &mut Vec<u8>,
    columns: &[KeyColumn],
    mut token: impl FnMut(usize) -> Option<&'t str>,
) -> Result<(), Option<KeyError>> {
    out.push(b'[');
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let token = token(place).ok_or(None)?;
        write_value(out, column, token).map_err(|expected| {
            Some(KeyError::Value {
                column: column.name.clone(),
                expected,
                got: token.chars().take(80).collect(),
            })
        })?;
    }
    out.push(b']');
    Ok(())
}

/// Whether values of this kind can be keys: those whose equality and order
/// are plain.
pub fn can_be_key(kind: &ColumnKind) -> bool {
    use ColumnKind::{Double, Enum, Float, Json, Set};
    // An ENUM is ordered by its number and compared by its label: a first load
    // could not page over it.
    !matches!(kind, Float | Double | Enum { .. } | Set { .. } | Json)
}

fn write_value(out: &mut Vec<u8>, column: &KeyColumn, token: &str) -> Result<(), &'static str> {
    match &column.kind {
        ColumnKind::Integer { unsigned, bits } => write_integer(out, token, *unsigned, *bits),
        ColumnKind::Year => write_integer(out, token, true, 16),
        ColumnKind::Bit { bits } => write_integer(out, token, true, *bits),
        ColumnKind::Decimal { scale, .. } => write_decimal(out, token, usize::from(*scale)),
        ColumnKind::Text { .. } => write_text(out, token, column.fold),
        ColumnKind::Binary { .. } => write_text(out, token, Fold::Exact).map_err(|_| "base64 text"),
        ColumnKind::Date => write_time(out, token, 10..=10, 0).ok_or("text as 2026-02-28"),
        ColumnKind::DateTime { digits } | ColumnKind::Timestamp { digits } => {
            write_time(out, token, 19..=19, *digits).ok_or("text as 2026-02-28 23:59:59")
        }
        // From 00:00:00 to -838:59:59.
        ColumnKind::Time { digits } => write_time(out, token, 8..=10, *digits).ok_or("text as 23:59:59"),
        ColumnKind::Float
        | ColumnKind::Double
        | ColumnKind::Enum { .. }
        | ColumnKind::Set { .. }
        | ColumnKind::Json => Err("no value: this type cannot be a key"),
    }
}

fn write_integer(out: &mut Vec<u8>, token: &str, unsigned: bool, bits: u8) -> Result<(), &'static str> {
    let text = unquoted(token);
    let value: i128 = text.parse().map_err(|_| "a whole number")?;
    let bits = u32::from(bits.min(64));
    let range =
        if unsigned { 0..=(1i128 << bits) - 1 } else { -(1i128 << (bits - 1))..=(1i128 << (bits - 1)) - 1 };
    if !range.contains(&value) {
        return Err("a whole number within the column's range");
    }
    out.extend_from_slice(value.to_string().as_bytes());
    Ok(())
}

/// A decimal with exactly `scale` digits after the point.
fn write_decimal(out: &mut Vec<u8>, token: &str, scale: usize) -> Result<(), &'static str> {
    const EXPECTED: &str = "a decimal number within the column's scale";
    let text = unquoted(token);
    let (negative, digits) = text.strip_prefix('-').map_or((false, text.as_ref()), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > scale {
        return Err(EXPECTED);
    }
    let whole = whole.trim_start_matches('0');
    if negative && !(whole.is_empty() && fraction.is_empty()) {
        out.push(b'-');
    }
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
        out.resize(out.len() + scale - fraction.len(), b'0');
    }
    Ok(())
}

fn write_text(out: &mut Vec<u8>, token: &str, fold: Fold) -> Result<(), &'static str> {
    let text = string_value(token).ok_or("text")?;
    match fold {
        Fold::Exact => write_string(out, &text),
        Fold::Lower => write_string(out, &text.trim_end_matches(' ').to_lowercase()),
    }
    Ok(())
}

/// Date or time text of `plain` characters and `digits` fractional ones; a
/// shorter fraction is padded.
fn write_time(out: &mut Vec<u8>, token: &str, plain: RangeInclusive<usize>, digits: u8) -> Option<()> {
    let text = string_value(token)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    if !plain.contains(&whole.len()) || fraction.len() > usize::from(digits) {
        return None;
    }
    let padded = if digits == 0 {
        Cow::Borrowed(whole)
    } else {
        Cow::Owned(format!("{whole}.{fraction:0<width$}", width = usize::from(digits)))
    };
    write_string(out, &padded);
    Some(())
}

fn unquoted(token: &str) -> Cow<'_, str> {
    string_value(token).unwrap_or(Cow::Borrowed(token))
}

#[cfg(test)]
mod tests;
