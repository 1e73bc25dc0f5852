//! `INSERT INTO dws_… SELECT … FROM dwd_… GROUP BY …` → [`DwsPlan`].

use super::{
    Item, check_target, named_items,
    scope::{Scope, Table},
    tables::{NamedTable, WindowedTable, named_table, windowed_table},
};
use crate::warehouse::{
    expression::{Expression, Resolve, compile, plain_arguments},
    mistake::{Mistake, Mistakes, Place, hint},
    parse::{InsertSelect, parse},
    plan::{Aggregate, AggregateFunction, DwdPlan, DwsColumn, DwsPlan, Origin, Output, Tumble},
};
use sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Spanned, TableFactor,
};
use std::fmt::Write as _;

/// Columns that every dws table has beside the SELECT's.
const RESERVED: [&str; 3] = ["source_partition", "row_count", "version"];

/// Compiles the SQL of a file in `dws/`, which reads one of the dwd tables.
///
/// # Errors
/// All mistakes of the file.
pub fn compile_dws(file: &str, sql: &str, sources: &[DwdPlan]) -> Result<DwsPlan, Vec<Mistake>> {
    let mut mistakes = Mistakes::of(file);
    let plan = parse(sql, &mut mistakes).and_then(|statement| {
        check_target(&statement, file, &mut mistakes);
        plan(&statement, file, sources, &mut mistakes)
    });
    mistakes.finish(plan)
}

/// What a GROUP BY element or a SELECT item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowColumn {
    Start,
    End,
}

fn plan(
    statement: &InsertSelect,
    file: &str,
    sources: &[DwdPlan],
    mistakes: &mut Mistakes,
) -> Option<DwsPlan> {
    let select = &statement.select;
    let (table, window) = source_table(select, mistakes)?;
    let Some(source) = sources.iter().find(|source| source.name == table.name) else {
        let nearest = hint(&table.name, sources.iter().map(|source| source.name.as_str()));
        return mistakes.refuse(table.place, format!("there is no dwd table `{}`{nearest}", table.name));
    };
    let mut compiler = Compiler::new(&table, source, window.is_some(), mistakes);
    let window = window.map(|window| compiler.tumble(&window));
    let filter = select.selection.as_ref().map(|condition| compiler.compile(condition));
    let keys = compiler.group_keys(&select.group_by, table.place);
    compiler.columns(&select.projection, &keys?, table.place);
    if compiler.aggregates.is_empty() && compiler.mistakes.count() == 0 {
        compiler.mistakes.add(table.place, "SELECT at least one of SUM, COUNT, MIN, MAX");
    }
    let Compiler { mut scope, group, aggregates, columns, .. } = compiler;
    let mut plan = DwsPlan {
        origin: Origin { file: file.to_owned(), place: table.place },
        name: statement.target.clone(),
        source: source.name.clone(),
        topic: source.topic.clone(),
        source_columns: scope.tables.pop()?.columns,
        window: flattened(window)?,
        filter: flattened(filter)?,
        group,
        aggregates,
        columns,
        hash: 0,
    };
    plan.hash = fnv1a(canonical(&plan).as_bytes());
    Some(plan)
}

/// What was not asked for is no failure; what was and has a mistake is.
#[expect(clippy::option_option, reason = "the outer is whether it was asked for")]
fn flattened<T>(compiled: Option<Option<T>>) -> Option<Option<T>> {
    match compiled {
        None => Some(None),
        Some(compiled) => compiled.map(Some),
    }
}

/// The one table after FROM, windowed or not.
fn source_table(
    select: &ast::Select,
    mistakes: &mut Mistakes,
) -> Option<(NamedTable, Option<WindowedTable>)> {
    let [from] = select.from.as_slice() else {
        return mistakes.refuse(select.span(), "FROM one dwd table");
    };
    if let Some(join) = from.joins.first() {
        mistakes.add(join.relation.span(), "dws tables only aggregate: JOIN belongs to a file of dwd/");
    }
    let TableFactor::TableFunction { expr, alias } = &from.relation else {
        let table = named_table(&from.relation, mistakes)?;
        if table.version.is_some() {
            mistakes.add(table.place, "a dwd table is a stream: FOR SYSTEM_TIME cannot be said of it");
        }
        return Some((table, None));
    };
    let mut window = windowed_table(expr, mistakes)?;
    if let Some(alias) = alias {
        window.table.alias.clone_from(&alias.name.value);
    }
    Some((window.table.clone(), Some(window)))
}

struct Compiler<'c> {
    scope: Scope,
    windowed: bool,
    mistakes: &'c mut Mistakes,
    group: Vec<Output>,
    aggregates: Vec<Aggregate>,
    columns: Vec<DwsColumn>,
}

/// A GROUP BY element.
enum Key {
    Window(WindowColumn),
    Value(Expression),
}

impl<'c> Compiler<'c> {
    fn new(table: &NamedTable, source: &DwdPlan, windowed: bool, mistakes: &'c mut Mistakes) -> Self {
        let known = source.outputs.iter().map(|output| output.name.clone()).collect();
        let (alias, name) = (table.alias.clone(), table.name.clone());
        let table = Table { alias, columns: Vec::new(), known: Some(known), name };
        let scope = Scope { tables: vec![table], ..Scope::default() };
        Self { scope, windowed, mistakes, group: Vec::new(), aggregates: Vec::new(), columns: Vec::new() }
    }

    fn compile(&mut self, expr: &Expr) -> Option<Expression> {
        compile(expr, &mut self.scope, self.mistakes)
    }

    fn tumble(&mut self, window: &WindowedTable) -> Option<Tumble> {
        let path = std::slice::from_ref(&window.time);
        let node = self.scope.resolve(path, self.mistakes)?;
        Some(Tumble { time: Expression::new(node, window.time.span.into()), size: window.size })
    }

    /// `window_start` and `window_end`, where there is a window.
    fn window_column(&self, expr: &Expr) -> Option<WindowColumn> {
        let name = match expr {
            Expr::Identifier(name) => name,
            Expr::CompoundIdentifier(path) => path.last()?,
            _ => return None,
        };
        match name.value.as_str() {
            "window_start" if self.windowed => Some(WindowColumn::Start),
            "window_end" if self.windowed => Some(WindowColumn::End),
            _ => None,
        }
    }

    fn group_keys(&mut self, group_by: &GroupByExpr, place: Place) -> Option<Vec<Key>> {
        let list = match group_by {
            GroupByExpr::Expressions(list, modifiers) if modifiers.is_empty() => list,
            _ => return self.mistakes.refuse(place, "GROUP BY takes a list of columns"),
        };
        let mut keys = Vec::new();
        for expr in list {
            if let Some(column) = self.window_column(expr) {
                keys.push(Key::Window(column));
            } else if let Some(value) = self.compile(expr) {
                keys.push(Key::Value(value));
            }
        }
        if self.windowed && !keys.iter().any(|key| matches!(key, Key::Window(_))) {
            let place = list.first().map_or(place, |first| first.span().into());
            self.mistakes.add(place, "the table has windows: add window_start to GROUP BY");
        }
        Some(keys)
    }

    /// The SELECT's items: each is an aggregate or one of the keys, and each
    /// key is among them, or rows of the target could not be told apart.
    fn columns(&mut self, projection: &[ast::SelectItem], keys: &[Key], place: Place) {
        let mut selected = vec![false; keys.len()];
        for item in named_items(projection, self.mistakes) {
            if RESERVED.contains(&item.name.value.as_str()) {
                let message = format!(
                    "every dws table has a column `{}` of its own: take another name",
                    item.name.value
                );
                self.mistakes.add(item.place(), message);
            }
            if let Some((function, call)) = aggregate_call(item.expr) {
                self.aggregate(&item, function, call);
            } else if let Some(at) = self.key_column(&item, keys) {
                selected.iter_mut().skip(at).take(1).for_each(|selected| *selected = true);
            }
        }
        for (key, _) in keys.iter().zip(selected).filter(|(_, selected)| !selected) {
            match key {
                // Either of a window's ends tells it.
                Key::Window(_) if self.has_window_column() => {}
                Key::Window(_) => {
                    self.mistakes.add(place, "SELECT window_start, or windows cannot be told apart")
                }
                Key::Value(value) => {
                    self.mistakes.add(value.place, "GROUP BY has what SELECT has not: add it to SELECT")
                }
            }
        }
    }

    fn has_window_column(&self) -> bool {
        self.columns
            .iter()
            .any(|column| matches!(column, DwsColumn::WindowStart(_) | DwsColumn::WindowEnd(_)))
    }

    /// Adds an item that is one of the keys; gives which.
    fn key_column(&mut self, item: &Item<'_>, keys: &[Key]) -> Option<usize> {
        let name = item.name.value.clone();
        if let Some(column) = self.window_column(item.expr) {
            self.columns.push(match column {
                WindowColumn::Start => DwsColumn::WindowStart(name),
                WindowColumn::End => DwsColumn::WindowEnd(name),
            });
            let at = keys.iter().position(|key| matches!(key, Key::Window(grouped) if *grouped == column));
            return at.or_else(|| self.refuse_ungrouped(item));
        }
        let expression = self.compile(item.expr)?;
        let text = expression.to_string();
        let at = keys.iter().position(|key| matches!(key, Key::Value(value) if value.to_string() == text));
        let at = at.or_else(|| self.refuse_ungrouped(item))?;
        self.columns.push(DwsColumn::Group(self.group.len()));
        self.group.push(Output { name, expression });
        Some(at)
    }

    fn refuse_ungrouped<T>(&mut self, item: &Item<'_>) -> Option<T> {
        let message = format!("`{}` is neither an aggregate nor in GROUP BY: add it there", item.expr);
        self.mistakes.refuse(item.expr.span(), message)
    }

    fn aggregate(&mut self, item: &Item<'_>, function: AggregateFunction, call: &Function) {
        let argument = if function == AggregateFunction::Count && counts_rows(call) {
            Some(None)
        } else {
            self.argument(call).map(Some)
        };
        if let Some(argument) = argument {
            self.columns.push(DwsColumn::Aggregate(self.aggregates.len()));
            self.aggregates.push(Aggregate { name: item.name.value.clone(), function, argument });
        }
    }

    fn argument(&mut self, call: &Function) -> Option<Expression> {
        match plain_arguments(call, self.mistakes)?.as_slice() {
            [argument] => self.compile(argument),
            _ => self.mistakes.refuse(call.name.span(), format!("{} takes one argument", call.name)),
        }
    }
}

fn aggregate_call(expr: &Expr) -> Option<(AggregateFunction, &Function)> {
    let Expr::Function(call) = expr else { return None };
    let function = match call.name.to_string().to_uppercase().as_str() {
        "SUM" => AggregateFunction::Sum,
        "COUNT" => AggregateFunction::Count,
        "MIN" => AggregateFunction::Min,
        "MAX" => AggregateFunction::Max,
        _ => return None,
    };
    Some((function, call))
}

/// Whether the call is exactly `COUNT(*)`.
fn counts_rows(call: &Function) -> bool {
    match &call.args {
        FunctionArguments::List(list) => {
            let star = matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
            star && list.duplicate_treatment.is_none() && call.over.is_none() && call.filter.is_none()
        }
        _ => false,
    }
}

/// The plan's meaning as text. A change of this text's form changes every
/// hash, and tables written before would be refused.
fn canonical(plan: &DwsPlan) -> String {
    let mut text = format!("{} <- {}({})", plan.name, plan.source, plan.source_columns.join(","));
    let mut add = |part: std::fmt::Arguments<'_>| text.write_fmt(part).unwrap_or_default();
    if let Some(window) = &plan.window {
        add(format_args!("|tumble {} {}", window.time, window.size.as_secs()));
    }
    if let Some(filter) = &plan.filter {
        add(format_args!("|where {filter}"));
    }
    for Output { name, expression } in &plan.group {
        add(format_args!("|group {name} {expression}"));
    }
    for Aggregate { name, function, argument } in &plan.aggregates {
        match argument {
            Some(argument) => add(format_args!("|{} {name} {argument}", function.name())),
            None => add(format_args!("|{} {name} *", function.name())),
        }
    }
    for column in &plan.columns {
        match column {
            DwsColumn::WindowStart(name) => add(format_args!("|start {name}")),
            DwsColumn::WindowEnd(name) => add(format_args!("|end {name}")),
            DwsColumn::Group(at) => add(format_args!("|group {at}")),
            DwsColumn::Aggregate(at) => add(format_args!("|aggregate {at}")),
        }
    }
    text
}

/// FNV-1a: the same number in every build and on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
