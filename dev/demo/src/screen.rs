//! What the demo prints: one line a step, a bar while orders are placed, tables
//! at the end. A result that cannot be printed is not an error of the demo's.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

/// Prints lines with the time since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen(Instant);

impl Screen {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// One line of progress.
    pub(crate) fn step(&self, text: impl AsRef<str>) {
        print(&format!("[{:6.1} s] {}", self.0.elapsed().as_secs_f64(), text.as_ref()));
    }

    /// A bar that counts to `length`; it draws nothing when nobody watches.
    pub(crate) fn bar(&self, length: u64, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::new(length).with_message(what);
        match ProgressStyle::with_template("           {bar:40} {pos}/{len} {msg}, {per_sec}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// A table with a line of headings, columns as wide as their widest cell.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&headings]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
    [&headings, &rule].into_iter().chain(rows).map(line).collect()
}

/// Prints a line as it is.
#[expect(clippy::print_stdout, reason = "a demo shows its result")]
pub(crate) fn print(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["x", "value"], &rows), "  x     value\n  ----  -----\n  a     1\n  long  22\n");
    }
}
