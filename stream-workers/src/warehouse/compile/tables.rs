//! The tables after FROM and JOIN: plain, as of a position, or windowed.

use crate::warehouse::{
    expression::plain_arguments,
    mistake::{Mistakes, Place},
    parse::single_name,
    plan::JoinRead,
};
use sqlparser::ast::{
    DateTimeField, Expr, Function, Ident, Interval, Spanned, TableFactor, TableVersion, Value, ValueWithSpan,
};
use std::time::Duration;

/// A table by its name.
#[derive(Debug, Clone)]
pub(super) struct NamedTable {
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) place: Place,
    /// `FOR SYSTEM_TIME AS OF …`, as it is written.
    pub(super) version: Option<TableVersion>,
}

/// `TABLE(TUMBLE(TABLE t, DESCRIPTOR(c), INTERVAL '10' SECOND))`.
#[derive(Debug)]
pub(super) struct WindowedTable {
    pub(super) table: NamedTable,
    pub(super) time: Ident,
    pub(super) size: Duration,
}

/// A plain or versioned table; anything else is refused.
pub(super) fn named_table(factor: &TableFactor, mistakes: &mut Mistakes) -> Option<NamedTable> {
    let TableFactor::Table {
        name,
        alias,
        args,
        with_hints,
        version,
        with_ordinality,
        partitions,
        json_path,
        ..
    } = factor
    else {
        return mistakes.refuse(factor.span(), "only tables can be read here, no subquery and no function");
    };
    let TableFactor::Table { sample, index_hints, .. } = factor else { return None };
    let plain = args.is_none() && with_hints.is_empty() && !with_ordinality && partitions.is_empty();
    if !plain || json_path.is_some() || sample.is_some() || !index_hints.is_empty() {
        return mistakes.refuse(name.span(), format!("`{factor}`: only a plain table is supported"));
    }
    let name = single_name(name, mistakes)?;
    if let Some(columns) = alias.as_ref().filter(|alias| !alias.columns.is_empty()) {
        return mistakes.refuse(columns.name.span, "an alias cannot rename columns here");
    }
    let alias = alias.as_ref().map_or(name, |alias| &alias.name);
    let (name, alias, place) = (name.value.clone(), alias.value.clone(), name.span.into());
    Some(NamedTable { name, alias, place, version: version.clone() })
}

/// At which point a join reads; `fact` is the alias whose position counts.
pub(super) fn join_read(table: &NamedTable, fact: &str, mistakes: &mut Mistakes) -> Option<JoinRead> {
    let wanted = format!("FOR SYSTEM_TIME AS OF {fact}.row_position");
    match &table.version {
        Some(TableVersion::ForSystemTimeAsOf(Expr::CompoundIdentifier(path))) => match path.as_slice() {
            [alias, column] if alias.value == fact && column.value == "row_position" => {
                Some(JoinRead::AsOfRow)
            }
            _ => mistakes
                .refuse(Expr::CompoundIdentifier(path.clone()).span(), format!("only {wanted} is possible")),
        },
        Some(TableVersion::ForSystemTimeAsOf(Expr::Function(function)))
            if function.name.to_string().eq_ignore_ascii_case("PROCTIME") =>
        {
            Some(JoinRead::Latest)
        }
        Some(TableVersion::ForSystemTimeAsOf(other)) => {
            mistakes.refuse(other.span(), format!("write {wanted}, or AS OF PROCTIME() for the newest row"))
        }
        Some(_) | None => mistakes.refuse(
            table.place,
            format!(
                "a join without a time would have to keep both tables for ever: write {} {wanted} AS …",
                table.name
            ),
        ),
    }
}

/// A windowed table; `None` without a mistake when the factor is no function.
pub(super) fn windowed_table(expr: &Expr, mistakes: &mut Mistakes) -> Option<WindowedTable> {
    const FORM: &str = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(time_column), INTERVAL '10' SECOND))";
    let Expr::Function(function) = expr else {
        return mistakes.refuse(expr.span(), format!("write {FORM}"));
    };
    let name = function.name.to_string();
    if !name.eq_ignore_ascii_case("TUMBLE") {
        return mistakes
            .refuse(function.name.span(), format!("window function {name} is not supported: write {FORM}"));
    }
    let arguments = plain_arguments(function, mistakes)?;
    let [table, descriptor, size] = arguments.as_slice() else {
        return mistakes.refuse(function.name.span(), format!("TUMBLE takes three arguments: write {FORM}"));
    };
    let table = match table {
        Expr::Prefixed { prefix, value } if prefix.value == "TABLE" => match value.as_ref() {
            Expr::Identifier(name) => name,
            other => return mistakes.refuse(other.span(), format!("write {FORM}")),
        },
        other => return mistakes.refuse(other.span(), format!("write `TABLE {other}` in {FORM}")),
    };
    let (time, size) = (descriptor_column(descriptor, mistakes), interval(size, mistakes));
    let (name, place) = (table.value.clone(), table.span.into());
    let table = NamedTable { alias: name.clone(), name, place, version: None };
    Some(WindowedTable { table, time: time?, size: size? })
}

fn descriptor_column(expr: &Expr, mistakes: &mut Mistakes) -> Option<Ident> {
    let column = match expr {
        Expr::Function(function) if is_descriptor(function) => {
            match plain_arguments(function, mistakes)?.as_slice() {
                [Expr::Identifier(column)] => Some(column.clone()),
                _ => None,
            }
        }
        _ => None,
    };
    match column {
        Some(column) => Some(column),
        None => mistakes.refuse(expr.span(), "the time column of a window is written DESCRIPTOR(column)"),
    }
}

fn is_descriptor(function: &Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
}

/// `INTERVAL '10' SECOND`, and `MINUTE`, `HOUR`, `DAY`.
fn interval(expr: &Expr, mistakes: &mut Mistakes) -> Option<Duration> {
    const FORM: &str =
        "the size of a window is written INTERVAL '10' SECOND (or MINUTE, HOUR, DAY), a whole number";
    let Expr::Interval(Interval { value, leading_field, last_field: None, .. }) = expr else {
        return mistakes.refuse(expr.span(), FORM);
    };
    let count = match value.as_ref() {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::Number(text, _),
            ..
        }) => text.trim().parse::<u32>().ok().filter(|count| *count > 0),
        _ => None,
    };
    let unit = match leading_field {
        Some(DateTimeField::Second | DateTimeField::Seconds) => Some(1),
        Some(DateTimeField::Minute | DateTimeField::Minutes) => Some(60),
        Some(DateTimeField::Hour | DateTimeField::Hours) => Some(3_600),
        Some(DateTimeField::Day | DateTimeField::Days) => Some(86_400),
        _ => None,
    };
    match count.zip(unit) {
        Some((count, unit)) => Some(Duration::from_secs(u64::from(count) * unit)),
        None => mistakes.refuse(value.span(), FORM),
    }
}
