//! Expressions of plans: a small tree over the columns of a [`Frame`].
//!
//! A column is a raw JSON token that borrows the message it came in; an
//! expression that only copies one hands the token on unread. Everything else
//! is computed with exact decimals, by the rules of SQL's three-valued logic.

mod compile;
mod evaluate;
mod show;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use compile::{Resolve, compile, plain_arguments};
pub use value::{EvaluateError, Value};

use super::{decimal::Decimal, mistake::Place};
use tidemark_proto::{Position, envelope::RowKind};

/// What one row's expressions see: the columns of the row and of its joins,
/// and the change's own fields.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// `slots[slot][column]`: the JSON token of a column, as the plan numbers
    /// them. A missing slot, column or `None` is NULL, so an empty slice is a
    /// join without a row.
    pub slots: Vec<&'a [Option<&'a str>]>,
    pub kind: RowKind,
    /// Where the change stands in the binlog; bootstrap rows have no place.
    pub position: Option<Position>,
    /// Seconds since 1970, of the change.
    pub ts: i64,
}

/// A compiled expression and where it was written.
#[derive(Debug, Clone)]
pub struct Expression {
    pub(crate) node: Node,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Column { slot: usize, column: usize },
    Meta(Meta),
    Literal(Literal),
    Compare { operator: Comparison, left: Box<Expression>, right: Box<Expression> },
    Arithmetic { operator: Operation, left: Box<Expression>, right: Box<Expression> },
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    IsNull(Box<Expression>),
    In { operand: Box<Expression>, list: Vec<Expression> },
    Coalesce(Vec<Expression>),
    NullIf(Box<Expression>, Box<Expression>),
    Concat(Vec<Expression>),
    Case { branches: Vec<(Expression, Expression)>, otherwise: Option<Box<Expression>> },
    Cast { operand: Box<Expression>, target: CastTarget },
}

/// A field of the change itself, which SQL names like a column of the fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    RowKind,
    RowPosition,
    Ts,
}

#[derive(Debug, Clone)]
pub(crate) enum Literal {
    Null,
    Text(String),
    Number(Decimal),
    Boolean(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Subtract,
    Multiply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastTarget {
    /// Drops the fraction, as Flink does.
    BigInt,
    Char,
    /// Rounds half away from zero to the scale.
    Decimal {
        precision: u32,
        scale: u32,
    },
}

impl Expression {
    pub(crate) fn new(node: Node, place: Place) -> Self {
        Self { node, place }
    }

    /// A copy of a column.
    pub fn column(slot: usize, column: usize) -> Self {
        Self::new(Node::Column { slot, column }, Place::default())
    }

    /// The slot and column, when the expression only copies one.
    pub fn as_column(&self) -> Option<(usize, usize)> {
        match self.node {
            Node::Column { slot, column } => Some((slot, column)),
            _ => None,
        }
    }

    /// The greatest slot that the expression reads; 0 when it reads none.
    pub(crate) fn slots_max(&self) -> usize {
        match self.node {
            Node::Column { slot, .. } => slot,
            _ => self.parts().into_iter().map(Self::slots_max).max().unwrap_or(0),
        }
    }

    /// Visits every slot that the expression reads.
    pub(crate) fn visit_slots(&self, visit: &mut impl FnMut(usize)) {
        if let Node::Column { slot, .. } = self.node {
            visit(slot);
        }
        for part in self.parts() {
            part.visit_slots(visit);
        }
    }

    /// The expressions that this one is made of.
    pub(crate) fn parts(&self) -> Vec<&Self> {
        match &self.node {
            Node::Column { .. } | Node::Meta(_) | Node::Literal(_) => Vec::new(),
            Node::Compare { left, right, .. } | Node::Arithmetic { left, right, .. } => vec![left, right],
            Node::NullIf(left, right) => vec![left, right],
            Node::And(list) | Node::Or(list) | Node::Coalesce(list) | Node::Concat(list) => {
                list.iter().collect()
            }
            Node::Not(operand) | Node::IsNull(operand) | Node::Cast { operand, .. } => vec![operand],
            Node::In { operand, list } => std::iter::once(&**operand).chain(list).collect(),
            Node::Case { branches, otherwise } => {
                let branches = branches.iter().flat_map(|(when, then)| [when, then]);
                branches.chain(otherwise.as_deref()).collect()
            }
        }
    }
}
