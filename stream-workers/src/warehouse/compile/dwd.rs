//! `INSERT INTO dwd_… SELECT … FROM fact JOIN dimension …` → [`DwdPlan`].

use super::{
    check_target, conjuncts, named_items,
    scope::{Scope, Table},
    tables::{NamedTable, join_read, named_table},
};
use crate::warehouse::{
    expression::{Comparison, Expression, Literal, Meta, Node, compile},
    mistake::{Mistake, Mistakes, Place, hint},
    parse::{InsertSelect, parse},
    plan::{DwdPlan, Join, Origin, Output},
};
use sqlparser::ast::{self, BinaryOperator, Expr, Ident, JoinConstraint, JoinOperator, Spanned};
use tidemark_proto::config::{Config, DimensionConfig, Dimensions};

/// What the rest of the folder says about a plan.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'w> {
    pub config: &'w Config,
    pub dimensions: &'w Dimensions,
}

/// Compiles the SQL of a file in `dwd/`.
///
/// # Errors
/// All mistakes of the file.
pub fn compile_dwd(file: &str, sql: &str, around: Surroundings<'_>) -> Result<DwdPlan, Vec<Mistake>> {
    let mut mistakes = Mistakes::of(file);
    let plan = parse(sql, &mut mistakes).and_then(|statement| {
        check_target(&statement, file, &mut mistakes);
        Compiler { around, scope: Scope { meta: true, ..Scope::default() }, mistakes: &mut mistakes }
            .plan(&statement, file)
    });
    mistakes.finish(plan)
}

struct Compiler<'c> {
    around: Surroundings<'c>,
    scope: Scope,
    mistakes: &'c mut Mistakes,
}

impl Compiler<'_> {
    fn plan(mut self, statement: &InsertSelect, file: &str) -> Option<DwdPlan> {
        let select = &statement.select;
        self.refuse_grouping(select);
        let [from] = select.from.as_slice() else {
            return self.mistakes.refuse(select.span(), "FROM one fact table, and JOIN for the others");
        };
        let fact = named_table(&from.relation, self.mistakes)?;
        if fact.version.is_some() {
            self.mistakes
                .add(fact.place, "the fact is a stream: FOR SYSTEM_TIME belongs to the tables that it joins");
        }
        let joins = self.joins(&fact, &from.joins);
        let (fact_filter, joined_filter) = self.filters(select, fact.place);
        let outputs = self.outputs(&select.projection);
        let levels = levels(joins?);
        let mut tables = self.scope.tables.into_iter().map(|table| table.columns);
        let source_columns = tables.next()?;
        Some(DwdPlan {
            origin: Origin { file: file.to_owned(), place: fact.place },
            topic: format!("{}{}", self.around.config.kafka.topic_prefix, statement.target),
            name: statement.target.clone(),
            source: fact.name,
            source_columns,
            fact_filter,
            levels: with_columns(levels, &tables.collect::<Vec<_>>()),
            joined_filter,
            outputs: outputs?,
            key: Vec::new(),
        })
    }

    fn refuse_grouping(&mut self, select: &ast::Select) {
        if let ast::GroupByExpr::Expressions(list, _) = &select.group_by
            && let Some(first) = list.first()
        {
            self.mistakes
                .add(first.span(), "dwd tables are not aggregated: GROUP BY belongs to a file of dws/");
        }
    }

    /// Compiles the joins in the order of the text: a key reads only tables
    /// above its own.
    fn joins(&mut self, fact: &NamedTable, joins: &[ast::Join]) -> Option<Vec<Join>> {
        let tables: Vec<_> = joins.iter().map(|join| named_table(&join.relation, self.mistakes)).collect();
        self.scope.later = tables.iter().flatten().map(|table| table.alias.clone()).collect();
        self.enter(fact, None, &[]);
        let mut compiled = Some(Vec::new());
        for (join, table) in joins.iter().zip(tables) {
            let join = table.and_then(|table| self.join(join, &table, &fact.alias));
            match (&mut compiled, join) {
                (Some(list), Some(join)) => list.push(join),
                _ => compiled = None,
            }
        }
        compiled
    }

    fn join(&mut self, join: &ast::Join, table: &NamedTable, fact: &str) -> Option<Join> {
        let slot = self.scope.tables.len();
        let (inner, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (true, Some(constraint)),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (false, Some(constraint)),
            _ => (true, None),
        };
        let dimension = self.around.dimensions.get(&table.name);
        if dimension.is_none() {
            let nearest = hint(&table.name, self.around.dimensions.keys().map(String::as_str));
            let message = format!("`{0}` is no dimension: add [{0}] to dimensions.toml{nearest}", table.name);
            self.mistakes.add(table.place, message);
        }
        let read = join_read(table, fact, self.mistakes);
        let pairs = match constraint {
            Some(JoinConstraint::On(on)) if !join.global => self.key_pairs(on, &table.alias),
            Some(_) => self
                .mistakes
                .refuse(table.place, format!("write JOIN {} … ON {}.key = …", table.name, table.alias)),
            None => self.mistakes.refuse(table.place, "only JOIN and LEFT JOIN are supported"),
        };
        self.enter(table, dimension, pairs.as_deref().unwrap_or_default());
        let (key_columns, key) = self.ordered_key(pairs?, dimension?, table)?.into_iter().unzip();
        let (dimension, place) = (table.name.clone(), table.place);
        Some(Join { slot, dimension, place, inner, key_columns, key, columns: Vec::new(), read: read? })
    }

    /// Puts a table within reach of what comes after it. A dimension always
    /// keeps its key, also where `columns` does not list it.
    fn enter(
        &mut self,
        table: &NamedTable,
        dimension: Option<&DimensionConfig>,
        key: &[(Ident, Expression)],
    ) {
        self.scope.later.retain(|alias| *alias != table.alias || self.scope.tables.is_empty());
        if self.scope.tables.iter().any(|other| other.alias == table.alias) {
            self.mistakes
                .add(table.place, format!("alias `{}` is there twice: rename one with AS", table.alias));
        }
        let known = dimension.filter(|dimension| !dimension.columns.is_empty());
        let known = known.map(|dimension| {
            let key = key.iter().map(|(column, _)| &column.value).filter(|_| dimension.key.is_empty());
            dimension.columns.iter().chain(&dimension.key).chain(key).cloned().collect()
        });
        let (alias, name) = (table.alias.clone(), table.name.clone());
        self.scope.tables.push(Table { alias, columns: Vec::new(), known, name });
    }

    /// ON as (key column, value) pairs. It cannot say anything else: a lookup
    /// is by key.
    fn key_pairs(&mut self, on: &Expr, alias: &str) -> Option<Vec<(Ident, Expression)>> {
        let mut pairs = Some(Vec::new());
        for part in conjuncts(Some(on)) {
            let sides = match part {
                Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => own_column(left, alias)
                    .map(|column| (column, &**right))
                    .or_else(|| own_column(right, alias).map(|column| (column, &**left))),
                _ => None,
            };
            let pair = match sides {
                Some((column, value)) => {
                    compile(value, &mut self.scope, self.mistakes).map(|value| (column.clone(), value))
                }
                None => self.mistakes.refuse(
                    part.span(),
                    format!("ON can only say {alias}.key_column = value, joined by AND: put other conditions into WHERE"),
                ),
            };
            match (&mut pairs, pair) {
                (Some(pairs), Some(pair)) => pairs.push(pair),
                _ => pairs = None,
            }
        }
        pairs
    }

    /// The pairs in the order of the dimension's key columns, exactly those.
    fn ordered_key(
        &mut self,
        pairs: Vec<(Ident, Expression)>,
        dimension: &DimensionConfig,
        table: &NamedTable,
    ) -> Option<Vec<(String, Expression)>> {
        let name = &table.name;
        for (at, (column, _)) in pairs.iter().enumerate() {
            if pairs.iter().take(at).any(|(other, _)| other.value == column.value) {
                self.mistakes.add(column.span, format!("key column `{}` is there twice in ON", column.value));
            } else if !dimension.key.is_empty() && !dimension.key.contains(&column.value) {
                let key = dimension.key.join(", ");
                let message =
                    format!("`{}` is not in the key of {name} ({key}): lookups are by key", column.value);
                self.mistakes.add(column.span, message);
            }
        }
        if dimension.key.is_empty() {
            return match pairs.as_slice() {
                [_] => Some(pairs.into_iter().map(|(column, value)| (column.value, value)).collect()),
                _ => self.mistakes.refuse(
                    table.place,
                    format!("say the order of the key: key = […] in [{name}] of dimensions.toml"),
                ),
            };
        }
        let mut ordered = Vec::new();
        for wanted in &dimension.key {
            match pairs.iter().find(|(column, _)| column.value == *wanted) {
                Some((_, value)) => ordered.push((wanted.clone(), value.clone())),
                None => self.mistakes.add(table.place, format!("ON lacks key column `{wanted}` of {name}")),
            }
        }
        (ordered.len() == dimension.key.len()).then_some(ordered)
    }

    /// WHERE, as the part that the fact alone decides and the rest.
    fn filters(&mut self, select: &ast::Select, fact: Place) -> (Option<Expression>, Option<Expression>) {
        let (mut of_fact, mut of_joins) = (Vec::new(), Vec::new());
        let parts = conjuncts(select.selection.as_ref());
        let failed = self.mistakes_in(|compiler| {
            for part in &parts {
                if let Some(condition) = compile(part, &mut compiler.scope, compiler.mistakes) {
                    let filter = if condition.slots_max() == 0 { &mut of_fact } else { &mut of_joins };
                    filter.push(condition);
                }
            }
        });
        if !failed && !of_fact.iter().any(keeps_only_inserts) {
            let place = select.selection.as_ref().map_or(fact, |selection| selection.span().into());
            let message =
                "add WHERE … row_kind = 'insert': retraction of updates and deletes is not supported yet";
            self.mistakes.add(place, message);
        }
        (all_of(of_fact), all_of(of_joins))
    }

    /// Whether the step added mistakes.
    fn mistakes_in(&mut self, step: impl FnOnce(&mut Self)) -> bool {
        let before = self.mistakes.count();
        step(self);
        self.mistakes.count() > before
    }

    fn outputs(&mut self, projection: &[ast::SelectItem]) -> Option<Vec<Output>> {
        let items = named_items(projection, self.mistakes);
        let outputs: Vec<_> = items
            .into_iter()
            .map(|item| {
                let expression = compile(item.expr, &mut self.scope, self.mistakes)?;
                Some(Output { name: item.name.value.clone(), expression })
            })
            .collect();
        outputs.into_iter().collect()
    }
}

fn own_column<'e>(expr: &'e Expr, alias: &str) -> Option<&'e Ident> {
    match expr {
        Expr::CompoundIdentifier(path) => match path.as_slice() {
            [table, column] if table.value == alias => Some(column),
            _ => None,
        },
        Expr::Nested(inner) => own_column(inner, alias),
        _ => None,
    }
}

/// `row_kind = 'insert'`, or IN a list of inserts.
fn keeps_only_inserts(condition: &Expression) -> bool {
    let is_kind = |side: &Expression| matches!(side.node, Node::Meta(Meta::RowKind));
    let is_insert =
        |side: &Expression| matches!(&side.node, Node::Literal(Literal::Text(kind)) if kind == "insert");
    let is_bootstrap = |side: &Expression| matches!(&side.node, Node::Literal(Literal::Text(kind)) if kind == "bootstrap-insert");
    match &condition.node {
        Node::Compare { operator: Comparison::Equal, left, right } => {
            is_kind(left) && is_insert(right) || is_kind(right) && is_insert(left)
        }
        Node::In { operand, list } => {
            is_kind(operand)
                && list.iter().any(is_insert)
                && list.iter().all(|kind| is_insert(kind) || is_bootstrap(kind))
        }
        _ => false,
    }
}

fn all_of(mut conditions: Vec<Expression>) -> Option<Expression> {
    match conditions.len() {
        0 | 1 => conditions.pop(),
        _ => {
            let place = conditions.first().map(|first| first.place).unwrap_or_default();
            Some(Expression::new(Node::And(conditions), place))
        }
    }
}

/// A join stands one level below the deepest join that its key reads.
fn levels(joins: Vec<Join>) -> Vec<Vec<Join>> {
    let mut level_of_slot = vec![0];
    let mut levels: Vec<Vec<Join>> = Vec::new();
    for join in joins {
        let mut level = 0;
        for value in &join.key {
            value.visit_slots(&mut |slot| level = level.max(level_of_slot.get(slot).copied().unwrap_or(0)));
        }
        level_of_slot.push(level + 1);
        if levels.len() <= level {
            levels.resize_with(level + 1, Vec::new);
        }
        if let Some(joins) = levels.get_mut(level) {
            joins.push(join);
        }
    }
    levels
}

/// Gives each join the columns that were asked of it, once all are known. One
/// that only asks whether there is a row reads its key: no columns would mean
/// all of them.
fn with_columns(mut levels: Vec<Vec<Join>>, columns: &[Vec<String>]) -> Vec<Vec<Join>> {
    for join in levels.iter_mut().flatten() {
        let asked = columns.get(join.slot - 1).filter(|columns| !columns.is_empty());
        join.columns = asked.unwrap_or(&join.key_columns).clone();
    }
    levels
}
