//! SQL over ClickHouse's HTTP interface, rows as text.

use crate::{http, stack::ClickhouseServer};
use anyhow::{Context, Result};

/// Runs one statement and returns the rows of its result; NULL is `None`.
///
/// # Errors
/// When the server cannot be reached or refuses the statement.
pub fn query(server: &ClickhouseServer, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let headers = [
        ("X-ClickHouse-User", server.user.as_str()),
        ("X-ClickHouse-Key", server.password.as_str()),
        ("X-ClickHouse-Format", "TabSeparated"),
    ];
    let body = http::post(&format!("{}/", server.url.trim_end_matches('/')), &headers, sql)
        .and_then(http::Response::success)
        .with_context(|| format!("ask ClickHouse: {sql}"))?;
    Ok(body.lines().map(|line| line.split('\t').map(unescape).collect()).collect())
}

fn unescape(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut text = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, false) => text.push(letter),
            (_, true) => text.push(match letters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            }),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unescaped() {
        for (field, expect) in [("\\N", None), ("", Some("")), ("a\\tb\\\\c\\'", Some("a\tb\\c'"))] {
            assert_eq!(unescape(field).as_deref(), expect, "{field}");
        }
    }
}
