//! A value as the binlog's row events store it.

use super::write::{
    Moment, Span, binary_decimal_width, write_base64, write_binary_decimal, write_double, write_float,
    write_int, write_uint,
};
use super::{Fault, charset, json};
use crate::change::ColumnKind;
use crate::reader::Reader;
use tidemark_proto::text::write_string;

/// Reads one value of a row image and appends its token.
///
/// `width` is what the table map adds to the kind: how many bytes the value
/// takes (ENUM, SET, BIT), or its length prefix (text, bytes, JSON).
pub(crate) fn write_stored(
    out: &mut Vec<u8>,
    row: &mut Reader<'_>,
    kind: &ColumnKind,
    width: u8,
) -> Result<(), Fault> {
    let width = usize::from(width);
    match kind {
        ColumnKind::Integer { unsigned: true, bits } => write_uint(out, row.uint_le(usize::from(*bits / 8))?),
        ColumnKind::Integer { unsigned: false, bits } => write_int(out, row.int_le(usize::from(*bits / 8))?),
        ColumnKind::Float => write_float(out, f32::from_bits(row.uint_le(4)? as u32)),
        ColumnKind::Double => write_double(out, f64::from_bits(row.uint_le(8)?)),
        ColumnKind::Decimal { precision, scale } => {
            let (precision, scale) = (usize::from(*precision), usize::from(*scale));
            let bytes = row.take(binary_decimal_width(precision, scale))?;
            write_binary_decimal(out, bytes, scale, precision)?;
        }
        ColumnKind::Year => {
            let year = u64::from(row.byte()?);
            write_uint(out, if year == 0 { 0 } else { 1900 + year });
        }
        ColumnKind::Bit { .. } => write_uint(out, row.uint_be(width)?),
        ColumnKind::Text { charset, .. } => {
            write_string(out, &charset::decode(row.prefixed(width)?, *charset)?)
        }
        ColumnKind::Binary { fixed } => {
            let bytes = row.prefixed(width)?;
            let zeros = fixed.map_or(0, |length| usize::from(length).saturating_sub(bytes.len()));
            write_base64(out, bytes, zeros);
        }
        ColumnKind::Enum { labels } => write_label(out, row.uint_le(width)?, labels)?,
        ColumnKind::Set { labels } => write_labels(out, row.uint_le(width)?, labels),
        ColumnKind::Json => json::write_binary(out, row.prefixed(width)?)?,
        ColumnKind::Date
        | ColumnKind::DateTime { .. }
        | ColumnKind::Timestamp { .. }
        | ColumnKind::Time { .. } => {
            write_time(out, row, kind)?;
        }
    }
    Ok(())
}

fn write_time(out: &mut Vec<u8>, row: &mut Reader<'_>, kind: &ColumnKind) -> Result<(), Fault> {
    out.push(b'"');
    match kind {
        ColumnKind::Date => {
            let packed = row.uint_le(3)? as u32;
            let moment =
                Moment { year: packed >> 9, month: packed >> 5 & 15, day: packed & 31, ..Moment::default() };
            moment.write_date(out);
        }
        ColumnKind::DateTime { digits } => {
            let seconds = row.uint_be(5)?.wrapping_sub(0x80_0000_0000);
            let micros = fraction(row, *digits)?;
            Moment::from_packed((seconds & 0xff_ffff_ffff) << 24 | u64::from(micros)).write(out, *digits);
        }
        ColumnKind::Timestamp { digits } => {
            let seconds = row.uint_be(4)? as u32;
            Moment::from_unix(seconds, fraction(row, *digits)?).write(out, *digits);
        }
        ColumnKind::Time { digits } => Span::from_packed(packed_time(row, *digits)?).write(out, *digits),
        _ => return Err(Fault::Form),
    }
    out.push(b'"');
    Ok(())
}

/// Microseconds of a fraction that is stored in as many bytes as it needs.
fn fraction(row: &mut Reader<'_>, digits: u8) -> Result<u32, Fault> {
    let width = usize::from(digits.div_ceil(2));
    Ok(row.uint_be(width)? as u32 * 100u32.pow(3u32.saturating_sub(width as u32)))
}

/// A TIME is stored so that its bytes sort: as one big-endian number, whole and
/// fraction, offset by half its range.
fn packed_time(row: &mut Reader<'_>, digits: u8) -> Result<i64, Fault> {
    let width = usize::from(digits.div_ceil(2)).min(3);
    let offset = 0x80_0000i64 << (8 * width);
    let stored = row.uint_be(3 + width)?.cast_signed() - offset;
    let scale = 1i64 << (8 * width);
    let size = stored.abs();
    let micros = (size % scale) * 100i64.pow(3 - width as u32);
    let packed = (size / scale) << 24 | micros;
    Ok(if stored < 0 { -packed } else { packed })
}

/// Index 0 is the error value: the empty string, or null as Maxwell has it
/// unless the empty string is also a label.
fn write_label(out: &mut Vec<u8>, index: u64, labels: &[String]) -> Result<(), Fault> {
    if index == 0 {
        write_no_label(out, labels);
        return Ok(());
    }
    let index = usize::try_from(index - 1).map_err(|_| Fault::Form)?;
    write_string(out, labels.get(index).ok_or(Fault::Form)?);
    Ok(())
}

/// The value of an ENUM that has none of its labels. A SELECT cannot tell it
/// from an empty label, so neither form does.
pub(super) fn write_no_label(out: &mut Vec<u8>, labels: &[String]) {
    let token: &[u8] = if labels.iter().any(String::is_empty) { b"\"\"" } else { b"null" };
    out.extend_from_slice(token);
}

fn write_labels(out: &mut Vec<u8>, bits: u64, labels: &[String]) {
    let chosen = labels.iter().enumerate().filter(|(at, _)| *at < 64 && bits >> at & 1 == 1);
    write_set(out, chosen.map(|(_, label)| label.as_str()));
}

/// The labels of a SET as an array; an empty label is left out, because a
/// SELECT cannot show it.
pub(super) fn write_set<'a>(out: &mut Vec<u8>, labels: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (at, label) in labels.filter(|label| !label.is_empty()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, label);
    }
    out.push(b']');
}
