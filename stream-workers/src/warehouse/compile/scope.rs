//! Which tables and columns the expressions of one statement may name.

use crate::warehouse::{
    expression::{Meta, Node, Resolve},
    mistake::{Mistakes, hint},
};
use sqlparser::ast::Ident;

/// The fields of the change that a fact has beside its columns. A column of
/// the same name is reached in backticks.
const META: [(&str, Meta); 3] =
    [("row_kind", Meta::RowKind), ("row_position", Meta::RowPosition), ("ts", Meta::Ts)];

/// A table of the statement and the columns of it that were asked for.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) alias: String,
    /// The columns in the order of their first use: a slot of the frame.
    pub(super) columns: Vec<String>,
    /// What the table has, where the folder tells.
    pub(super) known: Option<Vec<String>>,
    /// What a message calls it.
    pub(super) name: String,
}

/// The tables that are in reach, the fact first.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) tables: Vec<Table>,
    /// Aliases that come further down.
    pub(super) later: Vec<String>,
    /// Whether the first table has [`META`].
    pub(super) meta: bool,
}

impl Scope {
    pub(super) fn slot_of(&self, alias: &Ident, mistakes: &mut Mistakes) -> Option<usize> {
        if let Some(slot) = self.tables.iter().position(|table| table.alias == alias.value) {
            return Some(slot);
        }
        if self.later.contains(&alias.value) {
            let message = format!("`{}` is joined only further down: move its JOIN up", alias.value);
            return mistakes.refuse(alias.span, message);
        }
        let aliases = self.tables.iter().map(|table| table.alias.as_str());
        mistakes.refuse(
            alias.span,
            format!("there is no table `{}` here{}", alias.value, hint(&alias.value, aliases)),
        )
    }

    fn column(&mut self, slot: usize, name: &Ident, mistakes: &mut Mistakes) -> Option<Node> {
        let bare = slot == 0 && self.meta && name.quote_style.is_none();
        if let Some((_, meta)) = META.iter().find(|(meta, _)| bare && *meta == name.value) {
            return Some(Node::Meta(*meta));
        }
        let table = self.tables.get_mut(slot)?;
        if let Some(known) = table.known.as_ref().filter(|known| !known.contains(&name.value)) {
            let nearest = hint(&name.value, known.iter().map(String::as_str));
            return mistakes
                .refuse(name.span, format!("{} has no column `{}`{nearest}", table.name, name.value));
        }
        let place = table.columns.iter().position(|column| *column == name.value);
        let column = place.unwrap_or_else(|| {
            table.columns.push(name.value.clone());
            table.columns.len() - 1
        });
        Some(Node::Column { slot, column })
    }

    /// A name without its table: the fact's own fields, or the only table's
    /// columns.
    fn bare(&mut self, name: &Ident, mistakes: &mut Mistakes) -> Option<Node> {
        let of_change = self.meta && META.iter().any(|(meta, _)| *meta == name.value);
        if self.tables.len() == 1 && self.later.is_empty() || of_change {
            return self.column(0, name, mistakes);
        }
        let fact = self.tables.first().map_or("t", |fact| fact.alias.as_str());
        let message = format!("say which table `{0}` is of, as in `{fact}.{0}`", name.value);
        mistakes.refuse(name.span, message)
    }
}

impl Resolve for Scope {
    fn resolve(&mut self, path: &[Ident], mistakes: &mut Mistakes) -> Option<Node> {
        match path {
            [name] => self.bare(name, mistakes),
            [alias, name] => {
                let slot = self.slot_of(alias, mistakes)?;
                self.column(slot, name, mistakes)
            }
            [first, ..] => mistakes.refuse(first.span, "write columns as table.column, without the database"),
            [] => None,
        }
    }
}
