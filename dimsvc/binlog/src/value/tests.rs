//! Values and the tokens they become, from the binlog and from SELECT.

use super::json::{write_binary, write_text};
use super::*;
use crate::change::ColumnKind;
use crate::reader::Reader;
use mysql_async::Value;
use proptest::prelude::*;
use std::sync::Arc;

fn stored(kind: &ColumnKind, width: u8, bytes: &[u8]) -> String {
    let (mut out, mut reader) = (Vec::new(), Reader::new(bytes));
    write_stored(&mut out, &mut reader, kind, width).unwrap();
    assert!(reader.is_empty(), "{kind:?} left bytes over");
    String::from_utf8(out).unwrap()
}

fn selected(kind: &ColumnKind, value: &Value) -> String {
    let mut out = Vec::new();
    let column = Column { name: String::from("c"), kind: kind.clone() };
    write_token(&mut out, value, &column).unwrap();
    String::from_utf8(out).unwrap()
}

fn text(value: &str) -> Value {
    Value::Bytes(value.into())
}

fn labels(labels: &[&str]) -> Arc<[String]> {
    labels.iter().map(|label| String::from(*label)).collect()
}

/// A column, the width in its metadata, its bytes in the binlog, its value from
/// SELECT, and the token that both become.
type Case<'b> = (ColumnKind, u8, &'b [u8], Value, &'b str);

fn both_forms_are_the_token(cases: &[Case<'_>]) {
    for (kind, width, bytes, value, token) in cases {
        assert_eq!(stored(kind, *width, bytes), *token, "{kind:?} stored");
        assert_eq!(selected(kind, value), *token, "{kind:?} selected");
        assert_eq!(selected(kind, &Value::NULL), "null");
    }
}

#[test]
fn both_forms_of_a_number_or_time_are_one_token() {
    use ColumnKind as K;
    let int = |unsigned, bits| K::Integer { unsigned, bits };
    both_forms_are_the_token(&[
        (int(false, 8), 1, &[0x80][..], Value::Int(-128), "-128"),
        (int(true, 8), 1, &[0xff], Value::Int(255), "255"),
        (int(false, 24), 3, &[0, 0, 0x80], Value::Int(-8_388_608), "-8388608"),
        (int(false, 64), 8, &[0, 0, 0, 0, 0, 0, 0, 0x80], Value::Int(i64::MIN), "-9223372036854775808"),
        (int(true, 64), 8, &[0xff; 8], Value::UInt(u64::MAX), "18446744073709551615"),
        (K::Float, 4, &1.1f32.to_le_bytes(), Value::Float(1.1), "1.1"),
        (K::Double, 8, &1e20f64.to_le_bytes(), Value::Double(1e20), "1e20"),
        (K::Decimal { precision: 10, scale: 2 }, 0, &[0x80, 0, 0, 12, 50], text("12.50"), "12.50"),
        (
            K::Decimal { precision: 10, scale: 2 },
            0,
            &[0x7f, 0xff, 0xff, 0xf3, 0xcd],
            text("-00012.50"),
            "-12.50",
        ),
        (K::Decimal { precision: 4, scale: 4 }, 0, &[0x80, 1], text("0.0001"), "0.0001"),
        (K::Decimal { precision: 3, scale: 0 }, 0, &[0x80, 0], text("0"), "0"),
        (K::Date, 3, &[0x21, 0xd0, 0x0f], Value::Date(2024, 1, 1, 0, 0, 0, 0), "\"2024-01-01\""),
        (K::Date, 3, &[0, 0, 0], Value::Date(0, 0, 0, 0, 0, 0, 0), "\"0000-00-00\""),
        (
            K::DateTime { digits: 3 },
            0,
            &[0x99, 0xb2, 0x83, 0x6d, 0x38, 0x13, 0x7e],
            Value::Date(2024, 2, 1, 22, 52, 56, 499_000),
            "\"2024-02-01 22:52:56.499\"",
        ),
        (
            K::Timestamp { digits: 0 },
            0,
            &[0, 0, 0, 1],
            Value::Date(1970, 1, 1, 0, 0, 1, 0),
            "\"1970-01-01 00:00:01\"",
        ),
        (
            K::Timestamp { digits: 1 },
            0,
            &[0, 0, 0, 0, 0],
            Value::Date(0, 0, 0, 0, 0, 0, 0),
            "\"0000-00-00 00:00:00.0\"",
        ),
        (
            K::Timestamp { digits: 6 },
            0,
            &[0x7f, 0xff, 0xff, 0xff, 0x0f, 0x42, 0x3f],
            Value::Date(2038, 1, 19, 3, 14, 7, 999_999),
            "\"2038-01-19 03:14:07.999999\"",
        ),
        (
            K::Time { digits: 0 },
            0,
            &[0x4b, 0x91, 0x05],
            Value::Time(true, 34, 22, 59, 59, 0),
            "\"-838:59:59\"",
        ),
        (
            K::Time { digits: 2 },
            0,
            &[0x7f, 0xff, 0xff, 0xf6],
            Value::Time(true, 0, 0, 0, 0, 100_000),
            "\"-00:00:00.10\"",
        ),
        (K::Year, 1, &[124], Value::Int(2024), "2024"),
        (K::Year, 1, &[0], Value::Int(0), "0"),
    ]);
}

#[test]
fn both_forms_of_a_text_are_one_token() {
    use ColumnKind as K;
    let text_kind = |charset| K::Text { charset, case_insensitive: true };
    both_forms_are_the_token(&[
        (K::Bit { bits: 10 }, 2, &[2, 1], Value::Bytes(vec![2, 1]), "513"),
        (text_kind(Charset::Utf8), 1, &[3, 0xe4, 0xbd, 0xa0], text("你"), "\"你\""),
        (text_kind(Charset::Latin1), 1, &[2, 0x80, 0xe9], text("€é"), "\"€é\""),
        (text_kind(Charset::Gbk), 1, &[2, 0xc4, 0xe3], text("你"), "\"你\""),
        (text_kind(Charset::Utf16), 2, &[4, 0, 0xd8, 0x3d, 0xde, 0x00], text("😀"), "\"😀\""),
        (K::Binary { fixed: None }, 1, &[2, 1, 2], Value::Bytes(vec![1, 2]), "\"AQI=\""),
        (K::Binary { fixed: Some(3) }, 1, &[1, 1], Value::Bytes(vec![1, 0, 0]), "\"AQAA\""),
        (K::Enum { labels: labels(&["a", "b"]) }, 1, &[2], text("b"), "\"b\""),
        (K::Enum { labels: labels(&["a", "b"]) }, 1, &[0], text(""), "null"),
        (K::Enum { labels: labels(&["", "b"]) }, 2, &[0, 0], text(""), "\"\""),
        (K::Set { labels: labels(&["a", "b", "c"]) }, 1, &[0b101], text("a,c"), "[\"a\",\"c\"]"),
        (K::Set { labels: labels(&["a"]) }, 1, &[0], text(""), "[]"),
    ]);
}

#[test]
fn doubles_have_the_form_that_the_server_gives_them() {
    for (value, token) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-1.5, "-1.5"),
        (0.1 + 0.2, "0.30000000000000004"),
        (123_456_789_012_345.0, "123456789012345.0"),
        (1e14, "100000000000000.0"),
        (1e15, "1e15"),
        (1.5e300, "1.5e300"),
        (1e-14, "0.00000000000001"),
        (1e-15, "0.000000000000001"),
        (1.25e-16, "1.25e-16"),
        (f64::MAX, "1.7976931348623157e308"),
        (5e-324, "5e-324"),
    ] {
        assert_eq!(selected(&ColumnKind::Double, &Value::Double(value)), token);
    }
}

#[test]
fn documents_lose_their_spaces_and_nothing_else() {
    for (document, expect) in [
        (r#"{"a": [1, 2.50, true], "b c": "x: y, \"z\\"}"#, r#"{"a":[1,2.50,true],"b c":"x: y, \"z\\"}"#),
        (r#""a b""#, r#""a b""#),
        ("[]", "[]"),
        ("1.0", "1.0"),
    ] {
        let mut out = Vec::new();
        write_text(&mut out, document);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
}

#[test]
fn a_binary_document_is_written_as_text() {
    // {"a": [1, "x"], "n": null}: a small object of two entries.
    let document: &[u8] = &[
        0, 2, 0, 32, 0, 18, 0, 1, 0, 19, 0, 1, 0, 2, 20, 0, 4, 0, 0, b'a', b'n', //
        2, 0, 12, 0, 5, 1, 0, 12, 10, 0, 1, b'x',
    ];
    let mut out = Vec::new();
    write_binary(&mut out, document).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":[1,"x"],"n":null}"#);
}

#[test]
fn a_document_that_contains_itself_is_refused() {
    let document: &[u8] = &[2, 1, 0, 7, 0, 2, 0, 0];
    assert_eq!(write_binary(&mut Vec::new(), document), Err(Fault::Form));
}

#[test]
fn a_value_of_another_type_is_refused() {
    let column = Column { name: String::from("c"), kind: ColumnKind::Date };
    let error = write_token(&mut Vec::new(), &Value::Int(1), &column).unwrap_err();
    assert_eq!(error, ValueError { column: String::from("c"), fault: Fault::Form });
}

#[test]
fn text_that_its_charset_lacks_is_refused() {
    assert_eq!(decode(&[0xff], Charset::Utf8), Err(Fault::Charset(Charset::Utf8)));
    assert_eq!(decode(&[0xd8, 0x00], Charset::Utf16), Err(Fault::Charset(Charset::Utf16)));
}

proptest! {
    #[test]
    fn a_double_reads_back_as_itself(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let token = selected(&ColumnKind::Double, &Value::Double(value));
        prop_assert_eq!(token.parse::<f64>().unwrap().to_bits(), bits);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&token).is_ok());
    }

    #[test]
    fn a_moment_of_unix_time_is_the_calendars(days in 0u32..24_855) {
        let token = stored(&ColumnKind::Timestamp { digits: 0 }, 0, &(days * 86_400 + 1).to_be_bytes());
        let [year, month, day] = [1..5, 6..8, 9..11].map(|range| token[range].parse::<u32>().unwrap());
        let leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let lengths = [31, 28 + u32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let years: u32 = (1970..year).map(|year| 365 + u32::from(leap(year))).sum();
        let months: u32 = lengths[..month as usize - 1].iter().sum();
        prop_assert_eq!(years + months + day - 1, days);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), width in 0u8..9) {
        for kind in [
            ColumnKind::Json,
            ColumnKind::Decimal { precision: 65, scale: 30 },
            ColumnKind::Time { digits: 6 },
            ColumnKind::DateTime { digits: 5 },
            ColumnKind::Timestamp { digits: 0 },
            ColumnKind::Set { labels: labels(&["a"]) },
            ColumnKind::Text { charset: Charset::Gbk, case_insensitive: false },
            ColumnKind::Binary { fixed: Some(4) },
        ] {
            let _result = write_stored(&mut Vec::new(), &mut Reader::new(&bytes), &kind, width.min(4));
            let _result = write_binary(&mut Vec::new(), &bytes);
        }
    }

    #[test]
    fn base64_is_that_of_the_standard(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let token = selected(&ColumnKind::Binary { fixed: None }, &Value::Bytes(bytes.clone()));
        let text = token.trim_matches('"');
        prop_assert_eq!(text.len() % 4, 0);
        let digit = |letter: u8| match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
        let mut back = Vec::new();
        for chunk in letters.chunks(4) {
            let word = chunk.iter().fold(0u32, |word, letter| word << 6 | u32::from(digit(*letter))) << (6 * (4 - chunk.len()));
            back.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
        }
        prop_assert_eq!(back, bytes);
    }
}
