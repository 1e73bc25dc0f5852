//! Tables of text whose columns line up, also with wide characters.

use std::borrow::Cow;
use tidemark_proto::text::string_value;
use unicode_width::UnicodeWidthStr as _;

/// Cells wider than this end in `…`: JSON output has all of them.
const CELL_WIDTH_MAX: usize = 48;

/// Rows under headings.
#[derive(Debug, Default)]
pub(super) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(super) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| shortened(cell.into())).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, a line a row.
    pub(super) fn render(&self) -> String {
        let all = || std::iter::once(&self.headings).chain(&self.rows);
        let columns = all().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| all().filter_map(|row| row.get(column)?.width().into()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        all().map(|row| line(row, &widths)).collect()
    }
}

/// Names and values, one a line, values in one column.
pub(super) fn pairs<'p>(pairs: impl IntoIterator<Item = (&'p str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {}\n", one_line(value))).collect()
}

/// The value of a JSON token for people: strings without quotes.
pub(super) fn cell(token: &str) -> String {
    match token {
        "null" => "NULL".to_owned(),
        _ => one_line(&string_value(token).unwrap_or(Cow::Borrowed(token))),
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let padded = row.iter().zip(widths).map(|(cell, width)| {
        let spaces = width.saturating_sub(cell.width());
        format!("{cell}{:spaces$}", "")
    });
    format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
}

/// What would break a line or move the cursor is escaped.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    line
}

fn shortened(text: String) -> String {
    if text.width() <= CELL_WIDTH_MAX {
        return text;
    }
    let mut short = String::new();
    for letter in text.chars() {
        if short.width() + 2 >= CELL_WIDTH_MAX {
            break;
        }
        short.push(letter);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut table = Table::new(["KEY", "NAME", "STATE"]);
        table.row(["[1]", "北京", "found"]);
        table.row(["[22222]", "x", ""]);
        let expect = "\
KEY      NAME  STATE
[1]      北京  found
[22222]  x
";
        assert_eq!(table.render(), expect);
    }

    #[test]
    fn a_long_cell_is_cut_within_its_width() {
        let mut table = Table::new(["A"]);
        table.row(["省".repeat(100)]);
        let text = table.render();
        let cell = text.lines().nth(1).unwrap();
        assert!(cell.width() <= CELL_WIDTH_MAX && cell.ends_with('…'), "{cell}");
    }

    #[test]
    fn values_stay_on_their_line() {
        assert_eq!(cell(r#""a\nb\u001b[31m""#), "a\\nb\\u{1b}[31m");
        assert_eq!(cell("null"), "NULL");
        assert_eq!(cell(r#""null""#), "null");
        assert_eq!(cell("1.50"), "1.50");
        assert_eq!(pairs([("a", "1".to_owned()), ("long", "2\n3".to_owned())]), "a     1\nlong  2\\n3\n");
    }
}
