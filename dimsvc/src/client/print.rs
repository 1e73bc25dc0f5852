//! Writes what a command has found: text for people, or JSON lines.

use super::args::Output;
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::{self, Write};
use tidemark_proto::{Position, dim::v1::Tier};

/// The output of a command, in one of both forms.
pub(super) struct Printer {
    out: Box<dyn Write>,
    form: Output,
}

impl Printer {
    pub(super) fn new(out: impl Write + 'static, form: Output) -> Self {
        Self { out: Box::new(out), form }
    }

    pub(super) fn is_json(&self) -> bool {
        self.form == Output::Json
    }

    /// Writes text as it is, at once.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes one JSON line, at once.
    pub(super) fn json(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.text("\n")
    }
}

/// JSON text as a part of other JSON; as a string when it is none.
pub(super) fn raw(text: &str) -> Option<Box<RawValue>> {
    let quoted = || serde_json::value::to_raw_value(text);
    RawValue::from_string(text.to_owned()).or_else(|_| quoted()).ok()
}

/// The same, nothing for empty text.
pub(super) fn raw_row(text: &str) -> Option<Box<RawValue>> {
    if text.is_empty() { None } else { raw(text) }
}

/// `1/000012:3456`; nothing for 0.
pub(super) fn position(packed: u64) -> Option<String> {
    (packed != 0).then(|| Position::from_packed(packed).to_string())
}

/// The same for people.
pub(super) fn shown(packed: u64) -> String {
    position(packed).unwrap_or_else(|| "-".to_owned())
}

/// `(from, to]`, the end open for 0.
pub(super) fn interval(from: u64, to: u64) -> String {
    let to = position(to).map_or_else(|| "open)".to_owned(), |to| format!("{to}]"));
    format!("({}, {to}", Position::from_packed(from))
}

/// `full` for TIER_FULL.
pub(super) fn tier(number: i32) -> String {
    let tier = Tier::try_from(number).unwrap_or(Tier::Unspecified);
    tier.as_str_name().trim_start_matches("TIER_").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_interval_says_so() {
        let at = |offset| Position::try_new(1, 1, offset).unwrap().packed();
        assert_eq!(interval(at(5), 0), "(1/000001:5, open)");
        assert_eq!(interval(at(5), at(9)), "(1/000001:5, 1/000001:9]");
    }

    #[test]
    fn text_that_is_no_json_becomes_a_string() {
        let text = |value: Option<Box<RawValue>>| value.map(|value| value.get().to_owned());
        assert_eq!(text(raw("[1]")).as_deref(), Some("[1]"));
        assert_eq!(text(raw("a\"")).as_deref(), Some(r#""a\"""#));
        assert_eq!(text(raw_row("")), None);
    }
}
