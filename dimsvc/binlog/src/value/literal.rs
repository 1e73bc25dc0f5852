//! A constant in the text of a statement, as the column's values are written.
//!
//! Only spellings that have one meaning are taken: an answer made of a guess
//! would be wrong for every row at once.

use super::stored::write_set;
use super::write::{write_base64, write_decimal_text, write_double, write_float};
use crate::change::ColumnKind;
use tidemark_proto::text::write_string;

/// A constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literal {
    Null,
    Text(String),
    /// As it is spelled, with its sign.
    Number(String),
    /// Of a hexadecimal or a bit literal.
    Bytes(Vec<u8>),
}

/// Appends the token of a value that a column of the kind has from a constant;
/// `None` when the constant does not settle it.
pub(crate) fn write_literal(out: &mut Vec<u8>, literal: &Literal, kind: &ColumnKind) -> Option<()> {
    match (kind, literal) {
        (_, Literal::Null) => out.extend_from_slice(b"null"),
        (ColumnKind::Bit { .. }, Literal::Bytes(bytes)) if bytes.len() <= 8 => {
            let value = bytes.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
            out.extend_from_slice(value.to_string().as_bytes());
        }
        (ColumnKind::Integer { .. } | ColumnKind::Bit { .. }, literal) => {
            out.extend_from_slice(integer(spelled(literal)?)?.to_string().as_bytes());
        }
        (ColumnKind::Year, literal) => {
            let year = Some(spelled(literal)?).filter(|text| text.len() == 4)?;
            out.extend_from_slice(integer(year)?.to_string().as_bytes());
        }
        (ColumnKind::Float, literal) => write_float(out, real(spelled(literal)?)? as f32),
        (ColumnKind::Double, literal) => write_double(out, real(spelled(literal)?)?),
        (ColumnKind::Decimal { scale, .. }, literal) => {
            let text = decimal(spelled(literal)?, usize::from(*scale))?;
            write_decimal_text(out, text.as_bytes()).ok()?;
        }
        (ColumnKind::Text { .. }, Literal::Text(text)) => write_string(out, text),
        (ColumnKind::Text { .. }, Literal::Number(number)) => {
            write_string(out, &Some(integer(number)?.to_string()).filter(|text| text == number)?);
        }
        (ColumnKind::Binary { fixed }, Literal::Text(text)) if text.is_ascii() => {
            write_padded_base64(out, text.as_bytes(), *fixed)?;
        }
        (ColumnKind::Binary { fixed }, Literal::Bytes(bytes)) => write_padded_base64(out, bytes, *fixed)?,
        (ColumnKind::Enum { labels }, Literal::Text(text)) => {
            write_string(out, labels.iter().find(|label| *label == text)?);
        }
        (ColumnKind::Set { labels }, Literal::Text(text)) => write_members(out, labels, text)?,
        (ColumnKind::Date, Literal::Text(text)) => write_string(out, is_date(text).then_some(text)?),
        (ColumnKind::DateTime { digits }, Literal::Text(text)) => {
            let (date, time) = text.split_once(' ').unwrap_or((text, "00:00:00"));
            let time = time_of_day(time, *digits).filter(|_| is_date(date))?;
            write_string(out, &format!("{date} {time}"));
        }
        (ColumnKind::Time { digits }, Literal::Text(text)) => write_string(out, &time_of_day(text, *digits)?),
        _ => return None,
    }
    Some(())
}

/// Appends what rows have in a column that is NOT NULL and has no default.
pub(crate) fn implicit_default(out: &mut Vec<u8>, kind: &ColumnKind) -> Option<()> {
    let text = match kind {
        ColumnKind::Integer { .. } | ColumnKind::Year | ColumnKind::Bit { .. } => {
            out.push(b'0');
            return Some(());
        }
        ColumnKind::Enum { labels } => {
            write_string(out, labels.first()?);
            return Some(());
        }
        ColumnKind::Float | ColumnKind::Double | ColumnKind::Decimal { .. } => "0",
        ColumnKind::Date => "0000-00-00",
        ColumnKind::DateTime { .. } => "0000-00-00 00:00:00",
        ColumnKind::Time { .. } => "00:00:00",
        ColumnKind::Text { .. } | ColumnKind::Binary { .. } | ColumnKind::Set { .. } => "",
        ColumnKind::Timestamp { .. } | ColumnKind::Json => return None,
    };
    write_literal(out, &Literal::Text(text.to_owned()), kind)
}

/// The spelling of a number, in quotes or not.
fn spelled(literal: &Literal) -> Option<&str> {
    match literal {
        Literal::Text(text) | Literal::Number(text) => Some(text),
        Literal::Null | Literal::Bytes(_) => None,
    }
}

fn integer(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn real(text: &str) -> Option<f64> {
    text.bytes().next_back().filter(u8::is_ascii_digit)?;
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    text.bytes().all(plain).then(|| text.parse().ok()).flatten()
}

/// A decimal with exactly `scale` digits; `None` where it had to be rounded.
fn decimal(text: &str, scale: usize) -> Option<String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || digits.is_empty() {
        return None;
    }
    let (kept, lost) = fraction.split_at_checked(scale).unwrap_or((fraction, ""));
    if lost.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let is_zero = !digits.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    let sign = if text.starts_with('-') && !is_zero { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    Some(format!("{sign}{whole}{point}{kept:0<scale$}"))
}

fn write_padded_base64(out: &mut Vec<u8>, bytes: &[u8], fixed: Option<u16>) -> Option<()> {
    let length = fixed.map_or(bytes.len(), usize::from);
    write_base64(out, bytes, length.checked_sub(bytes.len())?);
    Some(())
}

/// The labels of a SET in the order of its definition.
fn write_members(out: &mut Vec<u8>, labels: &[String], text: &str) -> Option<()> {
    let members: Vec<_> = text.split(',').filter(|member| !member.is_empty()).collect();
    if !members.iter().all(|member| labels.iter().any(|label| label == member)) {
        return None;
    }
    write_set(out, labels.iter().map(String::as_str).filter(|label| members.contains(label)));
    Some(())
}

/// `2024-05-31`; other spellings of a date are left alone.
fn is_date(text: &str) -> bool {
    let form =
        |(at, byte): (usize, u8)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
    text.len() == 10 && text.bytes().enumerate().all(form)
}

/// `23:59:59`, and as many digits of a second as the column has.
fn time_of_day(text: &str, digits: u8) -> Option<String> {
    let (time, fraction) = text.split_once('.').unwrap_or((text, ""));
    let form =
        |(at, byte): (usize, u8)| if at == 2 || at == 5 { byte == b':' } else { byte.is_ascii_digit() };
    let fits = time.len() == 8 && time.bytes().enumerate().all(form);
    let digits = usize::from(digits);
    if !fits || fraction.len() > digits || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(if digits == 0 { time.to_owned() } else { format!("{time}.{fraction:0<digits$}") })
}
