//! The statement of a file → a plan: names become slots, joins become levels,
//! WHERE is split by what it needs. Everything that both layers share is here.

mod dwd;
mod dws;
mod scope;
mod tables;

pub use dwd::{Surroundings, compile_dwd};
pub use dws::compile_dws;

use super::mistake::{Mistakes, Place};
use super::parse::InsertSelect;
use sqlparser::ast::{Expr, Ident, SelectItem, Spanned};
use std::{collections::BTreeSet, path::Path};

/// An item of a SELECT under its name.
struct Item<'s> {
    name: &'s Ident,
    expr: &'s Expr,
}

impl Item<'_> {
    fn place(&self) -> Place {
        self.name.span.into()
    }
}

/// The file's name says the target; a topic or table of another name would be
/// found by nobody.
fn check_target(statement: &InsertSelect, file: &str, mistakes: &mut Mistakes) {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if statement.target != stem {
        let message =
            format!("the target is `{}` but the file is `{stem}.sql`: name them alike", statement.target);
        mistakes.add(statement.target_place, message);
    }
    check_name(&statement.target, statement.target_place, mistakes);
}

/// Names travel into topics, JSON and ClickHouse: letters, digits and `_` mean
/// the same everywhere.
fn check_name(name: &str, place: Place, mistakes: &mut Mistakes) {
    let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !plain || name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        mistakes.add(place, format!("`{name}` is no plain name: use letters, digits and _"));
    }
}

/// The items of a SELECT; each has one name, and no two the same.
fn named_items<'s>(projection: &'s [SelectItem], mistakes: &mut Mistakes) -> Vec<Item<'s>> {
    let mut items: Vec<Item<'s>> = Vec::new();
    let mut names = BTreeSet::new();
    for item in projection {
        let Some(item) = named_item(item, mistakes) else { continue };
        check_name(&item.name.value, item.place(), mistakes);
        if !names.insert(item.name.value.as_str()) {
            mistakes.add(
                item.place(),
                format!("column `{}` is there twice: rename one with AS", item.name.value),
            );
        }
        items.push(item);
    }
    items
}

fn named_item<'s>(item: &'s SelectItem, mistakes: &mut Mistakes) -> Option<Item<'s>> {
    match item {
        SelectItem::ExprWithAlias { expr, alias } => Some(Item { name: alias, expr }),
        SelectItem::UnnamedExpr(expr) => match expr {
            Expr::Identifier(name) => Some(Item { name, expr }),
            Expr::CompoundIdentifier(path) => Some(Item { name: path.last()?, expr }),
            other => mistakes.refuse(other.span(), format!("`{other}` needs a name: add AS name")),
        },
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => mistakes.refuse(
            item.span(),
            "* is not supported: a new source column would change the target; name the columns",
        ),
        SelectItem::ExprWithAliases { expr, .. } => mistakes.refuse(expr.span(), "one name a column"),
    }
}

/// The parts of a condition that all must hold.
fn conjuncts(condition: Option<&Expr>) -> Vec<&Expr> {
    use sqlparser::ast::BinaryOperator::And;
    let mut parts = Vec::new();
    let mut rest: Vec<&Expr> = condition.into_iter().collect();
    while let Some(expr) = rest.pop() {
        match expr {
            Expr::Nested(inner) => rest.push(inner),
            Expr::BinaryOp { left, op: And, right } => rest.extend([right, left].map(|side| &**side)),
            other => parts.push(other),
        }
    }
    parts
}
