//! SQL text → the one `INSERT INTO … SELECT …` that a file holds.
//!
//! The dialect is the part of Flink SQL that a warehouse needs. Clauses that
//! the plans do not have are refused here, each by its name.

use super::mistake::{Mistakes, Place};
use sqlparser::{
    ast::{
        Expr, Ident, Insert, ObjectName, ObjectNamePart, Query, Select, SelectFlavor, SetExpr, Spanned,
        Statement, TableObject,
    },
    dialect::Dialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
};

/// Flink SQL as far as warehouses need it: temporal joins
/// (`FOR SYSTEM_TIME AS OF`), window functions (`TABLE(TUMBLE(TABLE t, …))`),
/// names in backticks, text in single quotes without backslash escapes.
#[derive(Debug)]
struct WarehouseDialect;

impl Dialect for WarehouseDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    /// `TABLE t` as an argument: a prefix of its own, so that the window
    /// function can tell it from a column.
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        if !parser.parse_keyword(Keyword::TABLE) {
            return None;
        }
        let prefix = Ident::with_span(parser.get_current_token().span, "TABLE");
        let named = parser.parse_identifier();
        Some(named.map(|name| Expr::Prefixed { prefix, value: Box::new(Expr::Identifier(name)) }))
    }
}

/// `INSERT INTO target SELECT …`.
#[derive(Debug)]
pub(crate) struct InsertSelect {
    pub(crate) target: String,
    pub(crate) target_place: Place,
    pub(crate) select: Box<Select>,
}

/// Reads a file's statement; `None` after a mistake that leaves nothing to
/// look at.
pub(crate) fn parse(sql: &str, mistakes: &mut Mistakes) -> Option<InsertSelect> {
    let parsed =
        Parser::new(&WarehouseDialect).try_with_sql(sql).and_then(|mut parser| parser.parse_statements());
    let mut statements = match parsed {
        Ok(statements) => statements.into_iter(),
        Err(error) => return refuse_syntax(&error, sql, mistakes),
    };
    let Some(statement) = statements.next() else {
        return mistakes.refuse(Place::START, "the file is empty: write INSERT INTO … SELECT …");
    };
    if let Some(second) = statements.next() {
        mistakes.add(second.span(), "one statement a file: move this one to a file named as its table");
    }
    match statement {
        Statement::Insert(insert) => insert_select(insert, mistakes),
        other => mistakes.refuse(other.span(), "only INSERT INTO … SELECT … is supported"),
    }
}

/// The parser ends its messages with ` at Line: 3, Column: 5`; without one the
/// end of the text is meant.
fn refuse_syntax(error: &ParserError, sql: &str, mistakes: &mut Mistakes) -> Option<InsertSelect> {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the expressions are nested too deeply",
    };
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, read_place(place)),
        None => (text, None),
    };
    let message = message
        .strip_prefix("Expected: ")
        .map_or_else(|| message.to_owned(), |rest| format!("expected {rest}"));
    mistakes.refuse(place.unwrap_or_else(|| end_of(sql)), message)
}

fn read_place(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Place { line: line.parse().ok()?, column: column.parse().ok()? })
}

fn end_of(sql: &str) -> Place {
    let text = sql.trim_end();
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or(text).chars().count() + 1;
    let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: narrow(line), column: narrow(column) }
}

fn insert_select(insert: Insert, mistakes: &mut Mistakes) -> Option<InsertSelect> {
    let place = Place::from(insert.table.span());
    let TableObject::TableName(name) = &insert.table else {
        return mistakes.refuse(place, "INSERT INTO needs the name of a table");
    };
    let target = single_name(name, mistakes)?;
    refuse_insert_clauses(&insert, place, mistakes);
    let Some(query) = insert.source else {
        return mistakes.refuse(place, "INSERT INTO … needs a SELECT");
    };
    refuse_query_clauses(&query, place, mistakes);
    match *query.body {
        SetExpr::Select(select) => {
            refuse_select_clauses(&select, mistakes);
            Some(InsertSelect { target: target.value.clone(), target_place: place, select })
        }
        SetExpr::SetOperation { op, .. } => {
            mistakes.refuse(place, format!("{op} is not supported: write a file each"))
        }
        other => mistakes.refuse(other.span(), "INSERT INTO … needs a SELECT"),
    }
}

/// The only part of a name without a database.
pub(crate) fn single_name<'n>(name: &'n ObjectName, mistakes: &mut Mistakes) -> Option<&'n Ident> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(name),
        _ => mistakes.refuse(name.span(), format!("`{name}`: write the table without its database")),
    }
}

fn refuse_insert_clauses(insert: &Insert, place: Place, mistakes: &mut Mistakes) {
    let present = [
        (!insert.columns.is_empty(), "a column list: name the columns with AS in the SELECT"),
        (insert.overwrite, "OVERWRITE"),
        (insert.ignore, "IGNORE"),
        (insert.replace_into, "REPLACE"),
        (insert.or.is_some(), "OR"),
        (insert.table_alias.is_some(), "an alias of the target"),
        (!insert.assignments.is_empty(), "SET"),
        (insert.partitioned.is_some() || !insert.after_columns.is_empty(), "PARTITION"),
        (insert.on.is_some(), "ON"),
        (insert.returning.is_some() || insert.output.is_some(), "RETURNING"),
        (insert.settings.is_some() || insert.format_clause.is_some(), "SETTINGS or FORMAT"),
        (insert.multi_table_insert_type.is_some(), "INSERT ALL"),
        (insert.priority.is_some() || insert.insert_alias.is_some(), "a modifier"),
        (insert.has_table_keyword, "the word TABLE"),
    ];
    refuse_present(&present, "INSERT", place, mistakes);
}

fn refuse_query_clauses(query: &Query, place: Place, mistakes: &mut Mistakes) {
    let present = [
        (query.with.is_some(), "WITH"),
        (query.order_by.is_some(), "ORDER BY"),
        (query.limit_clause.is_some() || query.fetch.is_some(), "LIMIT"),
        (!query.locks.is_empty() || query.for_clause.is_some(), "FOR"),
        (query.settings.is_some() || query.format_clause.is_some(), "SETTINGS or FORMAT"),
        (!query.pipe_operators.is_empty(), "a pipe"),
    ];
    let span =
        query.order_by.as_ref().map(Spanned::span).or_else(|| query.limit_clause.as_ref().map(Spanned::span));
    refuse_present(&present, "a stream", span.map_or(place, Place::from), mistakes);
}

fn refuse_select_clauses(select: &Select, mistakes: &mut Mistakes) {
    let place = Place::from(select.select_token.0.span);
    let present = [
        (select.distinct.is_some(), "DISTINCT"),
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "INTO"),
        (select.exclude.is_some(), "EXCLUDE"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (
            !select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty(),
            "SORT BY",
        ),
        (select.having.is_some(), "HAVING"),
        (!select.named_window.is_empty() || select.qualify.is_some(), "WINDOW"),
        (select.value_table_mode.is_some() || select.select_modifiers.is_some(), "a modifier"),
        (!matches!(select.flavor, SelectFlavor::Standard), "FROM before SELECT"),
    ];
    let place = select.having.as_ref().map_or(place, |having| having.span().into());
    refuse_present(&present, "SELECT", place, mistakes);
}

fn refuse_present(present: &[(bool, &str)], of: &str, place: Place, mistakes: &mut Mistakes) {
    for (_, clause) in present.iter().filter(|(present, _)| *present) {
        mistakes.add(place, format!("{of} cannot have {clause}"));
    }
}
