//! Bytes in a column's character set to UTF-8, as the server converts them for
//! a SELECT.

use super::Fault;
use crate::change::Charset;
use encoding_rs::{Encoding, GBK, UTF_16BE, WINDOWS_1252};
use std::borrow::Cow;

/// The text in UTF-8.
pub(crate) fn decode(bytes: &[u8], charset: Charset) -> Result<Cow<'_, str>, Fault> {
    let encoding: &'static Encoding = match charset {
        Charset::Utf8 => {
            return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Fault::Charset(charset));
        }
        Charset::Latin1 => WINDOWS_1252,
        Charset::Gbk => GBK,
        Charset::Utf16 => UTF_16BE,
    };
    let text =
        encoding.decode_without_bom_handling_and_without_replacement(bytes).ok_or(Fault::Charset(charset))?;
    if charset == Charset::Gbk && pairs(bytes, &text).any(|pair| !server_knows(pair)) {
        return Ok(pairs(bytes, &text).map(|pair| if server_knows(pair) { pair.1 } else { '?' }).collect());
    }
    Ok(text)
}

/// Each GBK code with its character: a code is one byte below 0x80, else two.
fn pairs<'a>(mut bytes: &'a [u8], text: &'a str) -> impl Iterator<Item = (u16, char)> + 'a {
    text.chars().map(move |character| {
        let (code, rest) = match bytes {
            [lead @ 0x80..=0xff, trail, rest @ ..] => (u16::from_be_bytes([*lead, *trail]), rest),
            [single, rest @ ..] => (u16::from(*single), rest),
            [] => (0, bytes),
        };
        bytes = rest;
        (code, character)
    })
}

/// MySQL's GBK is that of 1995: it stores later codes and those for private
/// use, but has no character for them and shows them as a question mark.
fn server_knows((code, character): (u16, char)) -> bool {
    let private = ('\u{e000}'..='\u{f8ff}').contains(&character);
    let later = matches!(code, 0xa2e3 | 0xa3a0 | 0xa6d9..=0xa6df | 0xa6ec | 0xa6ed | 0xa6f3)
        || matches!(code, 0xa8bc | 0xa8bf | 0xa989..=0xa995 | 0xfe50..);
    !private && !later
}
