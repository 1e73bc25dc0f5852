//! JSON documents: from MySQL's binary format and from MySQL's text to the same
//! minified text.
//!
//! The text is MySQL's own, without the spaces after `:` and `,`. Number forms
//! and key order are the server's, so nothing here parses a number or sorts.

use super::Fault;
use super::write::{Moment, Span, push_base64, write_binary_decimal, write_double, write_int, write_uint};
use crate::reader::Reader;
use tidemark_proto::text::write_string;

/// MySQL refuses documents nested deeper than 100.
const DEPTH_MAX: usize = 100;

/// MySQL breaks base64 in documents into lines of 76 characters.
const BASE64_LINE_BYTES: usize = 57;

const TYPE_DATE: u8 = 10;
const TYPE_TIME: u8 = 11;
const TYPE_DATETIME: u8 = 12;
const TYPE_TIMESTAMP: u8 = 7;
const TYPE_DECIMAL: u8 = 246;

/// Appends a document of the server's text form, without spaces between tokens.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(quote) = rest.iter().position(|byte| *byte == b'"') {
        let (between, tail) = rest.split_at(quote);
        push_without_spaces(out, between);
        let end = string_end(tail);
        let (string, tail) = tail.split_at(end);
        out.extend_from_slice(string);
        rest = tail;
    }
    push_without_spaces(out, rest);
}

fn push_without_spaces(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
}

/// Length of the string that the text begins with.
fn string_end(text: &[u8]) -> usize {
    let mut escaped = true; // the opening quote does not end it
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Appends a document of the binary format. No bytes at all is what a server
/// without strict mode stores for a missing value, and reads as null.
pub(super) fn write_binary(out: &mut Vec<u8>, document: &[u8]) -> Result<(), Fault> {
    let Some((kind, payload)) = document.split_first() else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    write_value(out, *kind, payload, 0)
}

fn write_value(out: &mut Vec<u8>, kind: u8, payload: &[u8], depth: usize) -> Result<(), Fault> {
    if depth > DEPTH_MAX {
        return Err(Fault::Form);
    }
    let mut reader = Reader::new(payload);
    match kind {
        0..=3 => {
            let large = kind & 1 == 1;
            Container { payload, width: if large { 4 } else { 2 }, object: kind < 2 }.write(out, depth)?;
        }
        4 => out.extend_from_slice(match reader.byte()? {
            0 => b"null",
            1 => b"true",
            2 => b"false",
            _ => return Err(Fault::Form),
        }),
        5 => write_int(out, reader.int_le(2)?),
        6 => write_uint(out, reader.uint_le(2)?),
        7 => write_int(out, reader.int_le(4)?),
        8 => write_uint(out, reader.uint_le(4)?),
        9 => write_int(out, reader.int_le(8)?),
        10 => write_uint(out, reader.uint_le(8)?),
        11 => write_double(out, f64::from_bits(reader.uint_le(8)?)),
        12 => write_string(out, utf8(sized(&mut reader)?)?),
        15 => {
            let field_type = reader.byte()?;
            write_opaque(out, field_type, sized(&mut reader)?)?;
        }
        _ => return Err(Fault::Form),
    }
    Ok(())
}

/// An array or an object; all offsets in it count from its payload's start.
struct Container<'a> {
    payload: &'a [u8],
    /// Of counts, sizes and offsets.
    width: usize,
    object: bool,
}

impl Container<'_> {
    fn write(&self, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
        let mut header = Reader::new(self.payload);
        let count = header.uint_le(self.width)?;
        header.take(self.width)?; // the size in bytes
        let keys_width = if self.object { (self.width as u64 + 2) * count } else { 0 };
        let keys_width = usize::try_from(keys_width).map_err(|_| Fault::Short)?;
        let mut keys = Reader::new(header.take(keys_width)?);
        out.push(if self.object { b'{' } else { b'[' });
        for at in 0..count {
            if at > 0 {
                out.push(b',');
            }
            if self.object {
                self.write_key(out, &mut keys)?;
            }
            self.write_entry(out, &mut header, depth)?;
        }
        out.push(if self.object { b'}' } else { b']' });
        Ok(())
    }

    fn write_key(&self, out: &mut Vec<u8>, keys: &mut Reader<'_>) -> Result<(), Fault> {
        let offset = keys.uint_le(self.width)? as usize;
        let length = keys.uint_le(2)? as usize;
        write_string(out, utf8(Reader::at(self.payload, offset)?.take(length)?)?);
        out.push(b':');
        Ok(())
    }

    /// A value stands in its entry where it fits there, else at an offset.
    fn write_entry(&self, out: &mut Vec<u8>, entries: &mut Reader<'_>, depth: usize) -> Result<(), Fault> {
        let kind = entries.byte()?;
        let slot = entries.take(self.width)?;
        let inline = matches!(kind, 4..=6) || (self.width == 4 && matches!(kind, 7 | 8));
        if inline {
            return write_value(out, kind, slot, depth + 1);
        }
        let offset = Reader::new(slot).uint_le(self.width)? as usize;
        write_value(out, kind, self.payload.get(offset..).ok_or(Fault::Short)?, depth + 1)
    }
}

/// Values of SQL types that JSON lacks.
fn write_opaque(out: &mut Vec<u8>, field_type: u8, bytes: &[u8]) -> Result<(), Fault> {
    let mut reader = Reader::new(bytes);
    if field_type == TYPE_DECIMAL {
        let (precision, scale) = (usize::from(reader.byte()?), usize::from(reader.byte()?));
        return write_binary_decimal(out, bytes.get(2..).ok_or(Fault::Short)?, scale, precision);
    }
    out.push(b'"');
    match field_type {
        TYPE_DATE => Moment::from_packed(reader.uint_le(8)?).write_date(out),
        TYPE_DATETIME | TYPE_TIMESTAMP => Moment::from_packed(reader.uint_le(8)?).write(out, 6),
        TYPE_TIME => Span::from_packed(reader.int_le(8)?).write(out, 6),
        _ => {
            out.extend_from_slice(b"base64:type");
            write_uint(out, u64::from(field_type));
            out.push(b':');
            for (at, line) in bytes.chunks(BASE64_LINE_BYTES).enumerate() {
                out.extend_from_slice(if at > 0 { b"\\n" } else { b"" });
                push_base64(out, line);
            }
        }
    }
    out.push(b'"');
    Ok(())
}

/// Bytes after a length of 7 bits a byte, low ones first.
fn sized<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
    let mut length = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = reader.byte()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return reader.take(length);
        }
    }
    Err(Fault::Form)
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Charset(crate::change::Charset::Utf8))
}
