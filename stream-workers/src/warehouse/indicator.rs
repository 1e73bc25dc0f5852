//! The files of `ads/`: a query with `{name:Type}` parameters, described and
//! declared in the comment that the file begins with.
//!
//! The SQL is ClickHouse's own and stays as it is written; only what would
//! fail at every request is refused here.

use super::{
    mistake::{Mistake, Mistakes, Place, hint},
    plan::{Indicator, Parameter, ParameterKind},
};
use std::path::Path;

const KINDS: [(&str, ParameterKind); 3] =
    [("Date", ParameterKind::Date), ("Integer", ParameterKind::Integer), ("Text", ParameterKind::Text)];

/// Reads a file of `ads/`. `tables` are the dws tables that there are.
///
/// # Errors
/// All mistakes of the file.
pub fn read_indicator(file: &str, text: &str, tables: &[&str]) -> Result<Indicator, Vec<Mistake>> {
    let mut mistakes = Mistakes::of(file);
    let (description, parameters, body) = read_head(text, &mut mistakes);
    check_name(file, &mut mistakes);
    // A wrong declaration would make its uses look undeclared.
    if mistakes.count() == 0 {
        check_uses(text, body, &parameters, &mut mistakes);
    }
    check_tables(text, body, tables, &mut mistakes);
    let sql = text.get(body..).unwrap_or_default().trim().trim_end_matches(';').trim_end().to_owned();
    let first = sql.split_whitespace().next().unwrap_or_default().to_uppercase();
    if first != "SELECT" && first != "WITH" {
        mistakes.add(place_of(text, body), "an indicator is one SELECT after its comment");
    } else if outside_quotes(&sql).any(|(_, letter)| letter == ';') {
        mistakes.add(place_of(text, body), "one statement a file");
    }
    let name = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let parameters = parameters.into_iter().map(|(_, parameter)| parameter).collect();
    mistakes.finish(Some(Indicator { name, description, parameters, sql }))
}

/// The leading comment: description and parameters; and where the SQL begins.
fn read_head(text: &str, mistakes: &mut Mistakes) -> (String, Vec<(Place, Parameter)>, usize) {
    let (mut description, mut parameters, mut at) = (Vec::new(), Vec::<(Place, Parameter)>::new(), 0);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let Some(comment) = trimmed.strip_prefix("--").map(str::trim) else {
            if trimmed.is_empty() {
                at += line.len();
                continue;
            }
            break;
        };
        match comment.strip_prefix("param ") {
            None => description.push(comment),
            Some(declaration) => {
                let place = place_of(text, at);
                match read_parameter(declaration) {
                    Ok(parameter) if parameters.iter().any(|(_, other)| other.name == parameter.name) => {
                        mistakes.add(place, format!("parameter `{}` is declared twice", parameter.name));
                    }
                    Ok(parameter) => parameters.push((place, parameter)),
                    Err(message) => mistakes.add(place, message),
                }
            }
        }
        at += line.len();
    }
    (description.join(" ").trim().to_owned(), parameters, at)
}

/// `NAME TYPE = DEFAULT`, or `NAME TYPE` for one that every request must give.
fn read_parameter(declaration: &str) -> Result<Parameter, String> {
    let (head, default) = match declaration.split_once('=') {
        Some((head, default)) => (head, Some(default.trim())),
        None => (declaration, None),
    };
    let [name, kind] = head.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(String::from("a parameter is declared as: -- param NAME TYPE = DEFAULT"));
    };
    if !is_name(name) {
        return Err(format!("`{name}` is no parameter name: use letters, digits and _"));
    }
    let kind = kind_of(kind)?;
    let default = default.map(|default| default.trim_matches('\'').to_owned());
    if let Some(default) = default.as_deref().filter(|default| !fits(kind, default)) {
        return Err(format!("default `{default}` is no {kind:?}: write {}", form_of(kind)));
    }
    Ok(Parameter { name: name.to_owned(), kind, default })
}

fn kind_of(name: &str) -> Result<ParameterKind, String> {
    let kind = KINDS.iter().find(|(kind, _)| kind.eq_ignore_ascii_case(name));
    kind.map(|(_, kind)| *kind).ok_or_else(|| {
        format!("parameter type `{name}` is not known{}", hint(name, KINDS.iter().map(|(kind, _)| *kind)))
    })
}

fn form_of(kind: ParameterKind) -> &'static str {
    match kind {
        ParameterKind::Date => "today or 2024-06-30",
        ParameterKind::Integer => "a whole number",
        ParameterKind::Text => "text",
    }
}

fn fits(kind: ParameterKind, text: &str) -> bool {
    match kind {
        ParameterKind::Date => text == "today" || is_date(text),
        ParameterKind::Integer => text.parse::<i64>().is_ok(),
        ParameterKind::Text => true,
    }
}

/// `YYYY-MM-DD`, a month and a day that there can be.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |part: &str, width: usize| {
        let digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<u32>().ok()).flatten()
    };
    match parts.as_slice() {
        [year, month, day] => {
            number(year, 4).is_some()
                && number(month, 2).is_some_and(|month| (1..=12).contains(&month))
                && number(day, 2).is_some_and(|day| (1..=31).contains(&day))
        }
        _ => false,
    }
}

fn check_name(file: &str, mistakes: &mut Mistakes) {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if !is_name(stem) {
        mistakes.add(Place::START, format!("`{stem}` becomes part of a URL: use letters, digits and _"));
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Every `{name:Type}` is declared alike, and every declaration is used.
fn check_uses(text: &str, body: usize, parameters: &[(Place, Parameter)], mistakes: &mut Mistakes) {
    let sql = text.get(body..).unwrap_or_default();
    let mut used = Vec::new();
    for (open, _) in outside_quotes(sql).filter(|(_, letter)| *letter == '{') {
        let place = place_of(text, body + open);
        let inner = sql.get(open + 1..).and_then(|rest| rest.split_once('}')).map(|(inner, _)| inner);
        let Some((name, kind)) = inner.and_then(|inner| inner.split_once(':')) else {
            mistakes.add(place, "a parameter is written {name:Type}");
            continue;
        };
        used.push(name);
        let declared = parameters.iter().find(|(_, parameter)| parameter.name == name);
        match (declared, kind_of(kind)) {
            (_, Err(message)) => mistakes.add(place, message),
            (Some((_, parameter)), Ok(kind)) if parameter.kind == kind => {}
            (Some((_, parameter)), Ok(_)) => {
                mistakes.add(
                    place,
                    format!("`{name}` is declared as {:?}: write {{{name}:{0:?}}}", parameter.kind),
                );
            }
            (None, Ok(kind)) => {
                let nearest = hint(name, parameters.iter().map(|(_, parameter)| parameter.name.as_str()));
                mistakes.add(
                    place,
                    format!("`{name}` is not declared: add a line -- param {name} {kind:?} = …{nearest}"),
                );
            }
        }
    }
    for (place, Parameter { name, .. }) in
        parameters.iter().filter(|(_, parameter)| !used.contains(&parameter.name.as_str()))
    {
        mistakes.add(
            *place,
            format!("parameter `{name}` is not used in the SQL: remove it, or write {{{name}:…}}"),
        );
    }
}

/// Every name that begins as a dws table is one.
fn check_tables(text: &str, body: usize, tables: &[&str], mistakes: &mut Mistakes) {
    let sql = text.get(body..).unwrap_or_default();
    let mut rest = 0;
    for word in sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
        let at = rest;
        rest = at
            + word.len()
            + sql.get(at + word.len()..).and_then(|tail| tail.chars().next()).map_or(0, char::len_utf8);
        if word.starts_with("dws_") && !tables.contains(&word) {
            let message = format!("there is no dws table `{word}`{}", hint(word, tables.iter().copied()));
            mistakes.add(place_of(text, body + at), message);
        }
    }
}

/// The letters of SQL that are not in quotes nor in comments.
pub(crate) fn outside_quotes(sql: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quote, mut comment, mut escaped, mut previous) = (None, false, false, ' ');
    sql.char_indices().filter(move |(_, letter)| {
        let before = std::mem::replace(&mut previous, *letter);
        match (quote, *letter) {
            _ if std::mem::take(&mut escaped) => {}
            (None, '\n') => comment = false,
            _ if comment => {}
            (None, '-') if before == '-' => comment = true,
            (None, '\'' | '`' | '"') => quote = Some(*letter),
            (Some(_), '\\') => escaped = true,
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
        quote.is_none() && !comment
    })
}

fn place_of(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Place { line: narrow(before.matches('\n').count() + 1), column: narrow(column) }
}
