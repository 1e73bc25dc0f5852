//! `check FOLDER`: everything that can be wrong with a warehouse, told at once.
//!
//! Without services the folder alone is judged. With them, the plans are held
//! against MySQL's columns and dimsvc's dimensions, and every service must
//! answer. Nothing is created and nothing is changed anywhere.

mod live;
#[cfg(test)]
mod tests;

use crate::warehouse::{Mistake, Warehouse};
use std::{fmt, path::Path};

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// One line each, in the order of the flow.
    pub mistakes: Vec<Mistake>,
    /// What was looked at and what was seen.
    pub checked: Vec<(String, String)>,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.mistakes.is_empty()
    }

    fn note(&mut self, what: impl Into<String>, seen: impl Into<String>) {
        self.checked.push((what.into(), seen.into()));
    }
}

impl fmt::Display for Report {
    /// The mistakes, or the table of what was checked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_good() {
            return self.mistakes.iter().try_for_each(|mistake| writeln!(f, "{mistake}"));
        }
        let width = self.checked.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        self.checked.iter().try_for_each(|(what, seen)| writeln!(f, "{what:width$}  {seen}"))
    }
}

/// Checks a folder, and with `connect` the services that it names.
pub async fn check(folder: &Path, connect: bool) -> Report {
    let mut report = Report::default();
    let warehouse = match Warehouse::load(folder) {
        Ok(warehouse) => warehouse,
        Err(mistakes) => return Report { mistakes, ..report },
    };
    report.note("folder", folder.display().to_string());
    report.note("dimensions", names(warehouse.dimensions.keys()));
    report.note("dwd", names(warehouse.dwd.iter().map(|plan| &plan.name)));
    report.note("dws", names(warehouse.dws.iter().map(|plan| &plan.name)));
    report.note("ads", names(warehouse.ads.iter().map(|indicator| &indicator.name)));
    if connect {
        live::check(&warehouse, &mut report).await;
    } else {
        report.note("services", "not asked: add --connect");
    }
    report
}

fn names<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    format!("{}: {}", names.len(), names.join(", "))
}
