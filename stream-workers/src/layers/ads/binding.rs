//! Parameters of a request into the SQL of an indicator.
//!
//! A parameter is replaced by a literal of its type, made anew from the value
//! that was read: no text of a request reaches the SQL unquoted. Only what
//! stands outside of quotes and comments is a parameter.

use crate::{
    calendar,
    sink::clickhouse::sql,
    warehouse::{
        hint, outside_quotes,
        plan::{Indicator, Parameter, ParameterKind},
    },
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A query that is ready to run, and the parameters it was made with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub(super) sql: String,
    /// By name, as JSON shows them.
    pub(super) parameters: Map<String, Value>,
}

/// A parameter's value.
struct Bind {
    literal: String,
    shown: Value,
}

/// Binds the parameters of a request; `today` is a day since 1970. The error is
/// for the caller: it names the parameter and the form that is expected.
pub(super) fn bind(indicator: &Indicator, given: &[(String, String)], today: i64) -> Result<Bound, String> {
    let mut texts = BTreeMap::new();
    for (name, text) in given {
        if !indicator.parameters.iter().any(|parameter| parameter.name == *name) {
            let nearest = hint(name, indicator.parameters.iter().map(|parameter| parameter.name.as_str()));
            return Err(format!("indicator `{}` has no parameter `{name}`{nearest}", indicator.name));
        }
        if texts.insert(name.as_str(), text.as_str()).is_some() {
            return Err(format!("parameter `{name}` is given twice"));
        }
    }
    let mut binds = BTreeMap::new();
    for parameter in &indicator.parameters {
        let form = form_of(parameter.kind);
        let text = texts.get(parameter.name.as_str()).copied().or(parameter.default.as_deref());
        let text = text.ok_or_else(|| format!("parameter `{}` is missing: give {form}", parameter.name))?;
        let bind = read(parameter, text, today);
        let bind = bind.ok_or_else(|| format!("parameter `{}` is `{text}`: give {form}", parameter.name))?;
        binds.insert(parameter.name.as_str(), bind);
    }
    let sql = replace(&indicator.sql, &binds);
    let parameters = binds.into_iter().map(|(name, bind)| (name.to_owned(), bind.shown)).collect();
    Ok(Bound { sql, parameters })
}

/// What a value of the kind looks like.
pub(super) const fn form_of(kind: ParameterKind) -> &'static str {
    match kind {
        ParameterKind::Date => "a date as 2024-06-30, or today",
        ParameterKind::Integer => "a whole number of 64 bits",
        ParameterKind::Text => "text",
    }
}

fn read(parameter: &Parameter, text: &str, today: i64) -> Option<Bind> {
    Some(match parameter.kind {
        ParameterKind::Date => {
            let day = if text == "today" { today } else { calendar::parse_date(text)? };
            // ClickHouse keeps days in 16 bits.
            u16::try_from(day).ok()?;
            let date = calendar::format_date(day);
            Bind { literal: format!("toDate({})", sql::string(&date)), shown: Value::from(date) }
        }
        ParameterKind::Integer => {
            let number: i64 = text.parse().ok()?;
            // A sign in brackets cannot begin a comment with a minus before it.
            let literal = if number < 0 { format!("({number})") } else { number.to_string() };
            Bind { literal, shown: Value::from(number) }
        }
        ParameterKind::Text => Bind { literal: sql::string(text), shown: Value::from(text) },
    })
}

fn replace(template: &str, binds: &BTreeMap<&str, Bind>) -> String {
    let mut bound = String::with_capacity(template.len() + 64);
    let mut copied = 0;
    for (open, _) in outside_quotes(template).filter(|(_, letter)| *letter == '{') {
        let Some((before, inner)) = template.get(copied..open).zip(template.get(open + 1..)) else {
            continue;
        };
        let Some((inner, _)) = inner.split_once('}') else { continue };
        let name = inner.split_once(':').map_or(inner, |(name, _)| name);
        if let Some(bind) = binds.get(name) {
            bound.push_str(before);
            bound.push_str(&bind.literal);
            copied = open + inner.len() + 2;
        }
    }
    bound.push_str(template.get(copied..).unwrap_or_default());
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indicator(sql: &str) -> Indicator {
        let parameter = |name: &str, kind, default: Option<&str>| Parameter {
            name: name.to_owned(),
            kind,
            default: default.map(str::to_owned),
        };
        Indicator {
            name: String::from("top"),
            description: String::new(),
            parameters: vec![
                parameter("date", ParameterKind::Date, Some("today")),
                parameter("limit", ParameterKind::Integer, Some("10")),
                parameter("name", ParameterKind::Text, None),
            ],
            sql: sql.to_owned(),
        }
    }

    fn bound(sql: &str, given: &[(&str, &str)]) -> Result<String, String> {
        let given: Vec<_> =
            given.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        bind(&indicator(sql), &given, 19_724).map(|bound| bound.sql)
    }

    #[test]
    fn values_become_literals_of_their_type() {
        let sql = "SELECT {limit:Integer}-{limit:Integer} WHERE d = {date:Date} AND n = {name:Text}";
        assert_eq!(
            bound(sql, &[("name", "a")]).unwrap(),
            "SELECT 10-10 WHERE d = toDate('2024-01-02') AND n = 'a'"
        );
        assert_eq!(
            bound(sql, &[("name", "a"), ("limit", "-3"), ("date", "2024-02-29")]).unwrap(),
            "SELECT (-3)-(-3) WHERE d = toDate('2024-02-29') AND n = 'a'"
        );
    }

    #[test]
    fn text_cannot_leave_its_quotes() {
        for (text, literal) in [
            ("' OR 1=1 --", r"'\' OR 1=1 --'"),
            (r"\", r"'\\'"),
            (r"\' OR 1", r"'\\\' OR 1'"),
            ("{limit:Integer}", "'{limit:Integer}'"),
            ("a\nb\0", r"'a\nb\0'"),
            ("''", r"'\'\''"),
        ] {
            assert_eq!(bound("n = {name:Text};", &[("name", text)]).unwrap(), format!("n = {literal};"));
        }
    }

    #[test]
    fn only_what_is_outside_of_quotes_is_a_parameter() {
        for sql in ["'{name:Text}'", r"'\'{name:Text}'", "-- {name:Text}", "`{name:Text}`"] {
            assert_eq!(bound(sql, &[("name", "x")]).unwrap(), sql);
        }
        assert_eq!(bound(r"'\\'{name:Text}", &[("name", "x")]).unwrap(), r"'\\''x'");
    }

    #[test]
    fn what_does_not_fit_names_the_parameter_and_the_form() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], "parameter `name` is missing: give text"),
            (
                &[("name", "a"), ("date", "2024-2-1")],
                "parameter `date` is `2024-2-1`: give a date as 2024-06-30, or today",
            ),
            (&[("name", "a"), ("date", "1969-12-31")], "parameter `date` is `1969-12-31`: give a date"),
            (&[("name", "a"), ("limit", "1; DROP")], "parameter `limit` is `1; DROP`: give a whole number"),
            (&[("name", "a"), ("limit", "99999999999999999999")], "parameter `limit` is"),
            (
                &[("name", "a"), ("limti", "1")],
                "indicator `top` has no parameter `limti`; did you mean `limit`?",
            ),
            (&[("name", "a"), ("name", "b")], "parameter `name` is given twice"),
        ];
        for (given, expect) in cases {
            let error = bound("SELECT 1", given).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        }
    }
}
