//! What was measured: one table for people, one file for programs.

use anyhow::{Context, Result};
use serde::Serialize;
use std::{fmt::Write as _, fs, path::Path, time::Duration};

/// One line of the table.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Line {
    pub(crate) part: &'static str,
    pub(crate) name: String,
    /// Units a second.
    pub(crate) rate: f64,
    pub(crate) unit: &'static str,
    pub(crate) requests_per_second: Option<f64>,
    pub(crate) latency: Option<Latency>,
    /// CPU-seconds of the service under test, per million units.
    pub(crate) server_cpu: Option<f64>,
    /// CPU-seconds of what calls it, per million units.
    pub(crate) client_cpu: Option<f64>,
    pub(crate) floor: Option<Floor>,
    /// Answers that were not right: one is a failure of the run.
    pub(crate) wrong: usize,
    pub(crate) note: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What a line has to reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Floor {
    RateAtLeast(f64),
    P99AtMostMs(f64),
    /// A share of what a peer did in the same run: (measured, wanted).
    ShareAtLeast(f64, f64),
    ShareAtMost(f64, f64),
    /// Of what `note` says.
    CountIs(u64, u64),
}

impl Latency {
    /// Of at least one call.
    pub(crate) fn of(mut took: Vec<Duration>) -> Option<Self> {
        took.sort_unstable();
        let last = took.len().checked_sub(1)?;
        let ms = |share: f64| {
            took.get((last as f64 * share).round() as usize).map(|took| took.as_secs_f64() * 1e3)
        };
        Some(Self { p50_ms: ms(0.5)?, p99_ms: ms(0.99)?, max_ms: ms(1.0)? })
    }
}

impl Line {
    /// Whether the floor is reached; a line without one has nothing to reach.
    pub(crate) fn reaches_floor(&self) -> bool {
        match self.floor {
            None => true,
            Some(Floor::RateAtLeast(floor)) => self.rate >= floor,
            Some(Floor::P99AtMostMs(floor)) => self.latency.is_some_and(|latency| latency.p99_ms <= floor),
            Some(Floor::ShareAtLeast(share, floor)) => share >= floor,
            Some(Floor::ShareAtMost(share, bound)) => share <= bound,
            Some(Floor::CountIs(count, wanted)) => count == wanted,
        }
    }

    fn floor_text(&self) -> String {
        let verdict = if self.reaches_floor() { "ok" } else { "MISSED" };
        match self.floor {
            None => String::new(),
            Some(Floor::RateAtLeast(floor)) => format!(">= {} {verdict}", grouped(floor)),
            Some(Floor::P99AtMostMs(floor)) => format!("p99 <= {floor} ms {verdict}"),
            Some(Floor::ShareAtLeast(share, floor)) => format!("{share:.2}x >= {floor}x {verdict}"),
            Some(Floor::ShareAtMost(share, bound)) => format!("{share:.2}x <= {bound}x {verdict}"),
            Some(Floor::CountIs(count, wanted)) => format!("{count} = {wanted} {verdict}"),
        }
    }

    fn cells(&self) -> [String; 10] {
        let ms =
            |pick: fn(Latency) -> f64| self.latency.map_or_else(String::new, |of| format!("{:.2}", pick(of)));
        let cpu = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{seconds:.2}"));
        [
            format!("{} {}", self.part, self.name),
            format!("{} {}/s", grouped(self.rate), self.unit),
            self.requests_per_second.map_or_else(String::new, grouped),
            ms(|of| of.p50_ms),
            ms(|of| of.p99_ms),
            ms(|of| of.max_ms),
            cpu(self.server_cpu),
            cpu(self.client_cpu),
            self.floor_text(),
            self.note.clone(),
        ]
    }
}

const HEADS: [&str; 10] = [
    "what",
    "rate",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "max ms",
    "server CPU-s/M",
    "client CPU-s/M",
    "floor",
    "note",
];

/// The lines as a table, columns aligned.
pub(crate) fn table(lines: &[Line]) -> String {
    let rows: Vec<[String; 10]> =
        std::iter::once(HEADS.map(String::from)).chain(lines.iter().map(Line::cells)).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            // Names and notes begin at the left, numbers end at the right.
            let padded = if matches!(column, 0 | 8 | 9) {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            };
            line.push_str(&padded);
            line.push_str("  ");
        }
        // Writing to a string cannot fail.
        writeln!(text, "{}", line.trim_end()).ok();
    }
    text
}

#[derive(Serialize)]
struct File<'l> {
    /// Short measurements: not to be quoted.
    quick: bool,
    cores: usize,
    lines: &'l [Line],
}

/// Writes the lines as JSON.
pub(crate) fn save(path: &Path, lines: &[Line], quick: bool) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = serde_json::to_string_pretty(&File { quick, cores, lines }).context("write the report")?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// `1234567.8` as `1,234,568`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(["1", "1,000", "1,234,568"], [1.0, 999.6, 1_234_567.8].map(grouped));
    }

    #[test]
    fn a_floor_is_missed_or_reached() {
        let latency = Latency::of((1..=100).map(Duration::from_millis).collect());
        let line = Line { rate: 10.0, latency, ..Line::default() };
        let with = |floor| Line { floor: Some(floor), ..line.clone() }.reaches_floor();
        assert!(with(Floor::RateAtLeast(10.0)) && !with(Floor::RateAtLeast(11.0)));
        assert!(with(Floor::P99AtMostMs(99.0)) && !with(Floor::P99AtMostMs(98.0)));
        assert!(with(Floor::ShareAtLeast(0.95, 0.95)) && !with(Floor::ShareAtLeast(0.94, 0.95)));
        assert!(with(Floor::ShareAtMost(0.6, 0.6)) && !with(Floor::ShareAtMost(0.61, 0.6)));
        assert!(with(Floor::CountIs(1, 1)) && !with(Floor::CountIs(2, 1)));
    }
}
