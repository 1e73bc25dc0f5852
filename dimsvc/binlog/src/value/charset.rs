//! Bytes in a column's character set to UTF-8.

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
    encoding.decode_without_bom_handling_and_without_replacement(bytes).ok_or(Fault::Charset(charset))
}
