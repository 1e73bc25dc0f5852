//! Equal keys are equal bytes.

use super::*;
use proptest::prelude::*;
use tidemark_binlog::Charset;

fn column(kind: ColumnKind) -> KeyColumn {
    KeyColumn { name: "k".into(), kind, fold: Fold::Exact }
}

fn text_column(fold: Fold) -> KeyColumn {
    let kind = ColumnKind::Text { charset: Charset::Utf8, case_insensitive: fold == Fold::Lower };
    KeyColumn { fold, ..column(kind) }
}

fn canonical(columns: &[KeyColumn], text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    write_key(&mut out, columns, text).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn spellings_of_one_key_are_one_key() {
    let int = ColumnKind::Integer { unsigned: false, bits: 64 };
    let decimal = ColumnKind::Decimal { precision: 10, scale: 2 };
    let cases = [
        (column(int.clone()), vec!["[15]", "[ 15 ]", "[\"15\"]", "[015]"], "[15]"),
        (column(decimal), vec!["[1.5]", "[1.50]", "[\"01.5000\"]"], "[1.50]"),
        (text_column(Fold::Lower), vec!["[\"ABC  \"]", "[\"abc\"]", "[\"\\u0041bc\"]"], "[\"abc\"]"),
        (text_column(Fold::Exact), vec!["[\"a/\\u00e9\"]", "[\"a\\/é\"]"], "[\"a/é\"]"),
        (
            column(ColumnKind::DateTime { digits: 3 }),
            vec!["[\"2026-01-02 03:04:05.6\"]"],
            "[\"2026-01-02 03:04:05.600\"]",
        ),
    ];
    for (column, spellings, expect) in cases {
        for spelling in spellings {
            assert_eq!(canonical(std::slice::from_ref(&column), spelling).unwrap(), expect, "{spelling}");
        }
    }
}

#[test]
fn a_key_that_does_not_fit_is_refused_with_its_column() {
    let int = column(ColumnKind::Integer { unsigned: false, bits: 8 });
    for bad in ["", "15", "[]", "[1,2]", "[1", "[null]", "[\"x\"]", "[128]", "[1.5]", "{\"a\":1}"] {
        let error = canonical(std::slice::from_ref(&int), bad).unwrap_err();
        assert!(error.contains('k'), "{bad}: {error}");
    }
    let decimal = column(ColumnKind::Decimal { precision: 10, scale: 2 });
    assert!(canonical(&[decimal], "[1.555]").is_err());
    assert!(canonical(&[text_column(Fold::Exact)], "[5]").is_err());
}

#[test]
fn a_composite_key_keeps_the_order_of_its_columns() {
    let columns = [text_column(Fold::Exact), column(ColumnKind::Integer { unsigned: false, bits: 64 })];
    assert_eq!(canonical(&columns, "[\"a\", 3]").unwrap(), "[\"a\",3]");
}

proptest! {
    // To see it fail: allow one more digit to a kind of `is_canonical_integer`,
    // or a leading zero.
    #[test]
    fn the_short_way_of_integers_is_the_long_way(
        number in prop_oneof![any::<i64>().prop_map(i128::from), -70_000..70_000i128, -300..300i128],
        zeros in 0..2usize,
        bits in prop_oneof![Just(8u8), Just(16), Just(24), Just(32), Just(64)],
        unsigned in any::<bool>(),
    ) {
        let token = format!("{}{number}", "0".repeat(zeros));
        let mut long = vec![b'['];
        let written = write_integer(&mut long, &token, unsigned, bits);
        long.push(b']');
        let short = canonical(&[column(ColumnKind::Integer { unsigned, bits })], &format!("[{token}]"));
        prop_assert_eq!(short.ok(), written.ok().map(|()| String::from_utf8(long).unwrap()));
    }

    #[test]
    fn canonical_text_is_its_own_canonical_form(text in any::<String>(), number in any::<i64>()) {
        let columns = [text_column(Fold::Lower), column(ColumnKind::Integer { unsigned: false, bits: 64 })];
        let mut spelled = vec![b'['];
        write_string(&mut spelled, &text);
        spelled.extend_from_slice(format!(" , {number}]").as_bytes());
        let once = canonical(&columns, std::str::from_utf8(&spelled).unwrap()).unwrap();
        prop_assert_eq!(canonical(&columns, &once).unwrap(), once.clone());
        prop_assert!(once.bytes().all(|byte| byte >= 0x20));
    }
}

#[test]
fn a_time_has_the_digits_of_its_column() {
    let time = column(ColumnKind::Time { digits: 3 });
    for (spelled, expect) in [("-838:59:59", "-838:59:59.000"), ("01:02:03.5000", "01:02:03.500")] {
        let text = canonical(std::slice::from_ref(&time), &format!("[\"{spelled}\"]")).unwrap();
        assert_eq!(text, format!("[\"{expect}\"]"));
    }
}

fn integer_column() -> KeyColumn {
    column(ColumnKind::Integer { unsigned: false, bits: 64 })
}

/// Few letters, and those that a canonical text is made of, so that near keys
/// are tried.
fn near_text() -> impl Strategy<Value = String> {
    "[aAbé\"\\\\,\\[\\] \u{1}中😀]{0,4}"
}

/// A JSON string with each character as it is, or escaped.
fn spelled(text: &str, escape: bool) -> String {
    if !escape {
        return serde_json::to_string(text).unwrap();
    }
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    format!("\"{}\"", units.collect::<String>())
}

fn number(value: i64, zeros: usize, quoted: bool) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let text = format!("{sign}{}{}", "0".repeat(zeros), value.unsigned_abs());
    if quoted { format!("\"{text}\"") } else { text }
}

proptest! {
    #[test]
    fn equal_integers_are_equal_bytes_and_others_are_not(
        a in prop_oneof![-20..20_i64, any::<i64>()], b in prop_oneof![-20..20_i64, any::<i64>()],
        zeros in 0..3_usize, quoted in any::<bool>(),
    ) {
        let columns = [integer_column()];
        let plain = canonical(&columns, &format!("[{a}]")).unwrap();
        prop_assert_eq!(canonical(&columns, &format!(" [ {} ] ", number(a, zeros, quoted))).unwrap(), plain.clone());
        prop_assert_eq!(canonical(&columns, &format!("[{b}]")).unwrap() == plain, a == b);
    }

    #[test]
    fn equal_decimals_are_equal_bytes_and_others_are_not(
        a in (-30..30_i64, 0..4_usize), b in (-30..30_i64, 0..4_usize),
        zeros in 0..3_usize, quoted in any::<bool>(),
    ) {
        let columns = [column(ColumnKind::Decimal { precision: 20, scale: 4 })];
        // The value is mantissa / 10 ^ scale, in as many digits as are said.
        let text = |(mantissa, scale): (i64, usize), zeros: usize, quoted: bool| {
            let size = format!("{:0>width$}", mantissa.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = size.split_at(size.len() - scale);
            let sign = if mantissa < 0 { "-" } else { "" };
            let zeros = "0".repeat(zeros);
            let text = format!("{sign}{zeros}{whole}.{fraction}{zeros}");
            if quoted { format!("[\"{text}\"]") } else { format!("[{text}]") }
        };
        let plain = canonical(&columns, &text(a, 0, false)).unwrap();
        prop_assert_eq!(canonical(&columns, &text(a, zeros, quoted)).unwrap(), plain.clone());
        let equal = a.0 * 10_i64.pow(4 - a.1 as u32) == b.0 * 10_i64.pow(4 - b.1 as u32);
        prop_assert_eq!(canonical(&columns, &text(b, 0, false)).unwrap() == plain, equal);
    }

    #[test]
    fn equal_texts_are_equal_bytes_however_they_are_escaped(
        a in near_text(), b in near_text(), escape in any::<bool>(),
    ) {
        let columns = [text_column(Fold::Exact)];
        let plain = canonical(&columns, &format!("[{}]", spelled(&a, false))).unwrap();
        prop_assert_eq!(canonical(&columns, &format!("[{}]", spelled(&a, escape))).unwrap(), plain.clone());
        prop_assert_eq!(canonical(&columns, &format!("[{}]", spelled(&b, escape))).unwrap() == plain, a == b);
    }

    #[test]
    fn texts_that_differ_in_case_and_trailing_spaces_alone_are_one_folded_key(
        a in near_text(), b in near_text(), upper in any::<bool>(), spaces in 0..3_usize,
    ) {
        let columns = [text_column(Fold::Lower)];
        let key = |text: &str| canonical(&columns, &format!("[{}]", spelled(text, false))).unwrap();
        let cased = if upper { a.to_uppercase() } else { a.to_lowercase() };
        prop_assert_eq!(key(&format!("{cased}{}", " ".repeat(spaces))), key(&a));
        let folded = |text: &str| text.trim_end_matches(' ').to_lowercase();
        prop_assert_eq!(key(&a) == key(&b), folded(&a) == folded(&b));
    }

    #[test]
    fn equal_binaries_are_equal_bytes_and_others_are_not(
        a in "([AB/+]{4}){0,2}([AB]{2}==)?", b in "([AB/+]{4}){0,2}([AB]{2}==)?", escape in any::<bool>(),
    ) {
        let columns = [column(ColumnKind::Binary { fixed: None })];
        let key = |text: &str, escape| canonical(&columns, &format!("[{}]", spelled(text, escape))).unwrap();
        prop_assert_eq!(key(&a, escape) == key(&b, false), a == b);
    }

    /// Lookups by index rest on it. Fails without the comma that `write_prefix`
    /// ends with: 1 would begin 10.
    #[test]
    fn a_key_begins_with_a_prefix_if_its_first_columns_are_equal_and_only_then(
        a in (near_text(), -12..12_i64, near_text()), b in (near_text(), -12..12_i64, near_text()),
        same_text in any::<bool>(),
    ) {
        let columns = [text_column(Fold::Exact), integer_column(), text_column(Fold::Lower)];
        let b = if same_text { (a.0.clone(), b.1, b.2) } else { b };
        let text = |(x, y, z): &(String, i64, String), count: usize| {
            let values = [spelled(x, false), y.to_string(), spelled(z, true)];
            format!("[{}]", values[..count].join(", "))
        };
        let key = canonical(&columns, &text(&b, 3)).unwrap();
        for count in 1..3 {
            let mut prefix = Vec::new();
            write_prefix(&mut prefix, &columns[..count], &text(&a, count)).unwrap();
            let equal = a.0 == b.0 && (count == 1 || a.1 == b.1);
            prop_assert_eq!(key.as_bytes().starts_with(&prefix), equal);
        }
    }
}

#[test]
fn a_prefix_of_the_wrong_columns_is_refused() {
    let columns = [text_column(Fold::Exact), integer_column()];
    let mut out = Vec::new();
    write_prefix(&mut out, &columns, "[\"a\", 3]").unwrap();
    assert_eq!(out, b"[\"a\",3,");
    for bad in ["[\"a\"]", "[\"a\",3,4]", "[3,\"a\"]", "\"a\""] {
        assert!(write_prefix(&mut Vec::new(), &columns, bad).is_err(), "{bad}");
    }
}
