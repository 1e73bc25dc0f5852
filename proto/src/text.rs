//! JSON text as the contracts use it: rows and keys travel as text, and a
//! column's value is a *token* of it, cut out and spliced in without parsing.

use std::borrow::Cow;

/// Appends `text` as a JSON string, quoted, with only what JSON demands
/// escaped. Both programs write strings through this function, so equal values
/// are equal bytes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else { break };
        write_escape(out, *special);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// The text of a JSON string token (with its quotes), unescaped; `None` when
/// the token is not a string.
pub fn string_value(token: &str) -> Option<Cow<'_, str>> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(token).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The columns of a JSON object, as (name, token) in the order of the text.
///
/// Made for text that this system wrote or that serde_json has accepted: on
/// anything else the iteration ends early, it never panics.
pub fn object_columns(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = object.trim().strip_prefix('{').unwrap_or("");
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\n', '\t', '\r']);
        let name_end = token_end(rest)?;
        let (name, tail) = rest.split_at_checked(name_end)?;
        let tail = tail.trim_start().strip_prefix(':')?.trim_start();
        let value_end = token_end(tail)?;
        let (value, tail) = tail.split_at_checked(value_end)?;
        rest = tail;
        Some((name.strip_prefix('"')?.strip_suffix('"')?, value))
    })
}

/// The tokens of a JSON array, in order; as lenient as [`object_columns`].
pub fn array_items(array: &str) -> impl Iterator<Item = &str> {
    let mut rest = array.trim().strip_prefix('[').unwrap_or("");
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\n', '\t', '\r']);
        let end = token_end(rest)?;
        let (item, tail) = rest.split_at_checked(end)?;
        rest = tail;
        Some(item)
    })
}

/// Length of the JSON value that the text begins with.
fn token_end(text: &str) -> Option<usize> {
    match text.as_bytes().first()? {
        b'"' => string_end(text.as_bytes()),
        b'{' | b'[' => nested_end(text.as_bytes()),
        b'}' | b']' => None,
        _ => Some(text.find([',', '}', ']', ' ', '\n', '\t', '\r']).unwrap_or(text.len())),
    }
}

fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn nested_end(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += string_end(bytes.get(at..)?)? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_string_reads_back(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            let token = String::from_utf8(out).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&token).unwrap(), text.clone());
            prop_assert_eq!(string_value(&token).unwrap(), text);
        }

        #[test]
        fn garbage_never_panics(text in any::<String>()) {
            object_columns(&text).count();
            array_items(&text).count();
        }
    }

    #[test]
    fn columns_are_cut_out_as_they_stand() {
        let row = r#"{"id":1,"n":"a\"}, b","j":{"x":[1,"]"]}, "z" : null}"#;
        let expect = [("id", "1"), ("n", r#""a\"}, b""#), ("j", r#"{"x":[1,"]"]}"#), ("z", "null")];
        assert_eq!(object_columns(row).collect::<Vec<_>>(), expect);
        assert_eq!(object_columns("{}").count(), 0);
    }

    #[test]
    fn items_are_cut_out_as_they_stand() {
        assert_eq!(array_items(r#"[15, "a,b" ,[1,2]]"#).collect::<Vec<_>>(), ["15", r#""a,b""#, "[1,2]"]);
        assert_eq!(array_items("[]").count(), 0);
    }
}
