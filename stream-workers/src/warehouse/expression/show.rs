//! The canonical text of an expression: equal meaning as written, equal text,
//! whatever the spaces, comments and letters' case of the file were.

use super::{CastTarget, Comparison, Expression, Literal, Meta, Node, Operation};
use std::fmt;

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Column { slot, column } => write!(f, "${slot}.{column}"),
            Node::Meta(Meta::RowKind) => f.write_str("row_kind"),
            Node::Meta(Meta::RowPosition) => f.write_str("row_position"),
            Node::Meta(Meta::Ts) => f.write_str("ts"),
            Node::Literal(literal) => show_literal(literal, f),
            Node::Compare { operator, left, right } => write!(f, "({left} {} {right})", operator.symbol()),
            Node::Arithmetic { operator, left, right } => write!(f, "({left} {} {right})", operator.symbol()),
            Node::And(list) => call("AND", list, f),
            Node::Or(list) => call("OR", list, f),
            Node::Not(operand) => write!(f, "NOT({operand})"),
            Node::IsNull(operand) => write!(f, "ISNULL({operand})"),
            Node::In { operand, list } => {
                write!(f, "{operand} ")?;
                call("IN", list, f)
            }
            Node::Coalesce(list) => call("COALESCE", list, f),
            Node::NullIf(left, right) => write!(f, "NULLIF({left},{right})"),
            Node::Concat(list) => call("CONCAT", list, f),
            Node::Case { branches, otherwise } => {
                f.write_str("CASE")?;
                for (when, then) in branches {
                    write!(f, " WHEN {when} THEN {then}")?;
                }
                match otherwise {
                    Some(otherwise) => write!(f, " ELSE {otherwise} END"),
                    None => f.write_str(" END"),
                }
            }
            Node::Cast { operand, target: CastTarget::BigInt } => write!(f, "BIGINT({operand})"),
            Node::Cast { operand, target: CastTarget::Char } => write!(f, "CHAR({operand})"),
            Node::Cast { operand, target: CastTarget::Decimal { precision, scale } } => {
                write!(f, "DECIMAL({operand},{precision},{scale})")
            }
        }
    }
}

fn show_literal(literal: &Literal, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match literal {
        Literal::Null => f.write_str("NULL"),
        Literal::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
        Literal::Number(number) => write!(f, "{number}"),
        Literal::Boolean(truth) => write!(f, "{truth}"),
    }
}

fn call(name: &str, list: &[Expression], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{name}(")?;
    for (at, part) in list.iter().enumerate() {
        write!(f, "{}{part}", if at == 0 { "" } else { "," })?;
    }
    f.write_str(")")
}

impl Comparison {
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Operation {
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
        }
    }
}
