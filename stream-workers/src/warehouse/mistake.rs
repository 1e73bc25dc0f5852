//! Mistakes in what people write: where, what, and how to mend it.
//!
//! Every stage of reading a warehouse adds to one [`Mistakes`] and goes on, so
//! that one run reports all of a folder's mistakes. Nothing here knows SQL.

use sqlparser::tokenizer::Span;
use std::fmt;

/// A line and a column of a file, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Place {
    /// Where most mistakes about a whole file are shown.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl From<Span> for Place {
    /// Parts of the tree that keep no place of their own are at the start.
    fn from(span: Span) -> Self {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        match span.start.line {
            0 => Self::START,
            line => Self { line: narrow(line), column: narrow(span.start.column) },
        }
    }
}

/// A mistake in a warehouse folder, told in one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file as it was opened; a service's name for a live check.
    pub file: String,
    pub place: Option<Place>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// The mistakes of one file, as they are found.
#[derive(Debug)]
pub(crate) struct Mistakes {
    file: String,
    found: Vec<Mistake>,
}

impl Mistakes {
    pub(crate) fn of(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new() }
    }

    pub(crate) fn add(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        let (file, place) = (self.file.clone(), Some(place.into()));
        self.found.push(Mistake { file, place, message: message.into() });
    }

    /// Adds the mistake and gives what a caller in search of a value returns.
    pub(crate) fn refuse<T>(&mut self, place: impl Into<Place>, message: impl Into<String>) -> Option<T> {
        self.add(place, message);
        None
    }

    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// The value when there was no mistake, else the mistakes in file order.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Mistake>> {
        self.found.sort();
        self.found.dedup();
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.found),
        }
    }
}

/// `; did you mean …?` for the candidate that is a slip of the keyboard away;
/// else the candidates themselves when they are few.
pub(crate) fn hint<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    const LISTED_MAX: usize = 8;
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let near = candidates.iter().map(|name| (distance(wanted, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + wanted.len() / 4 => format!("; did you mean `{name}`?"),
        Some(_) if candidates.len() <= LISTED_MAX => format!("; there is {}", candidates.join(", ")),
        _ => String::new(),
    }
}

/// Insertions, deletions and replacements between two words, letters' case aside.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            before = replaced.min(before + 1).min(*cell + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_levenshteins() {
        for (a, b, expect) in
            [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("Ab", "aB", 0)]
        {
            assert_eq!(distance(a, b), expect, "{a} {b}");
        }
    }

    #[test]
    fn a_hint_names_the_nearest_else_the_few() {
        assert_eq!(hint("skuinfo", ["sku_info", "spu_info"]), "; did you mean `sku_info`?");
        assert_eq!(hint("coupon", ["sku_info", "spu_info"]), "; there is sku_info, spu_info");
        assert_eq!(hint("coupon", ["aaaaaaaaaa"; 20]), "");
    }
}
