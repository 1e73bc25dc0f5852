//! A value as a SELECT through the binary protocol returns it.

use super::stored::{write_no_label, write_set};
use super::write::{
    Moment, Span, write_base64, write_decimal_text, write_double, write_float, write_int, write_uint,
};
use super::{Fault, json};
use crate::change::{Charset, ColumnKind};
use mysql_async::Value;
use tidemark_proto::text::write_string;

/// Appends the token of one value.
pub(super) fn write_selected(out: &mut Vec<u8>, value: &Value, kind: &ColumnKind) -> Result<(), Fault> {
    match (kind, value) {
        (_, Value::NULL) => out.extend_from_slice(b"null"),
        (ColumnKind::Integer { .. } | ColumnKind::Year, Value::Int(number)) => write_int(out, *number),
        (ColumnKind::Integer { .. } | ColumnKind::Year, Value::UInt(number)) => write_uint(out, *number),
        (ColumnKind::Float, Value::Float(number)) => write_float(out, *number),
        (ColumnKind::Double, Value::Double(number)) => write_double(out, *number),
        (kind, Value::Date(year, month, day, hour, minute, second, micros)) => {
            let [month, day, hour, minute, second] = [*month, *day, *hour, *minute, *second].map(u32::from);
            let moment = Moment { year: u32::from(*year), month, day, hour, minute, second, micros: *micros };
            write_moment(out, moment, kind)?;
        }
        (ColumnKind::Time { digits }, Value::Time(negative, days, hours, minutes, seconds, micros)) => {
            let [hours, minutes, seconds] = [*hours, *minutes, *seconds].map(u32::from);
            let span =
                Span { negative: *negative, hours: days * 24 + hours, minutes, seconds, micros: *micros };
            out.push(b'"');
            span.write(out, *digits);
            out.push(b'"');
        }
        (kind, Value::Bytes(bytes)) => write_bytes(out, bytes, kind)?,
        _ => return Err(Fault::Form),
    }
    Ok(())
}

fn write_moment(out: &mut Vec<u8>, moment: Moment, kind: &ColumnKind) -> Result<(), Fault> {
    out.push(b'"');
    match kind {
        ColumnKind::Date => moment.write_date(out),
        ColumnKind::DateTime { digits } | ColumnKind::Timestamp { digits } => moment.write(out, *digits),
        _ => return Err(Fault::Form),
    }
    out.push(b'"');
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8], kind: &ColumnKind) -> Result<(), Fault> {
    let text = || std::str::from_utf8(bytes).map_err(|_| Fault::Charset(Charset::Utf8));
    match kind {
        ColumnKind::Decimal { .. } => write_decimal_text(out, bytes)?,
        ColumnKind::Bit { .. } if bytes.len() <= 8 => {
            write_uint(out, bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        }
        ColumnKind::Text { .. } => write_string(out, text()?),
        ColumnKind::Binary { .. } => write_base64(out, bytes, 0),
        ColumnKind::Enum { labels } if bytes.is_empty() => write_no_label(out, labels),
        ColumnKind::Enum { .. } => write_string(out, text()?),
        ColumnKind::Set { .. } => write_set(out, text()?.split(',')),
        ColumnKind::Json => json::write_text(out, text()?),
        _ => return Err(Fault::Form),
    }
    Ok(())
}
