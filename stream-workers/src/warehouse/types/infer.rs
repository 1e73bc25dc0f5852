//! The type of an expression, from the types of the columns it reads.

use super::{SqlType, Typed};
use crate::warehouse::{
    expression::{CastTarget, Expression, Literal, Meta, Node, Operation},
    mistake::{Mistakes, Place},
};

/// The columns of a frame with their types; a column that is not there has a
/// mistake of its own already.
pub(super) type Slots = Vec<Vec<Option<Typed>>>;

/// A type that is still open: NULL fits every type.
type Inferred = (Option<SqlType>, bool);

/// Infers types over one plan's slots.
pub(super) struct Inference<'i> {
    pub(super) slots: &'i Slots,
    pub(super) mistakes: &'i mut Mistakes,
}

impl Inference<'_> {
    /// The type of a value that is stored; `None` after a mistake.
    pub(super) fn of_output(&mut self, expression: &Expression) -> Option<Typed> {
        match self.infer(expression)? {
            (Some(sql_type), nullable) => Some((sql_type, nullable)),
            (None, _) => {
                self.mistakes.refuse(expression.place, "NULL alone has no type: write CAST(NULL AS …)")
            }
        }
    }

    /// Checks a condition.
    pub(super) fn check_condition(&mut self, condition: &Expression) {
        if let Some((Some(sql_type), _)) = self.infer(condition)
            && !sql_type.is_number()
        {
            self.mistakes.add(condition.place, format!("a condition is needed, this is {sql_type}"));
        }
    }

    /// Checks that two sides compare; NULL does with everything.
    fn check_comparable(&mut self, left: Inferred, right: Inferred, place: Place) -> Option<()> {
        match (left.0, right.0) {
            (Some(a), Some(b)) if !a.compares_with(b) => self
                .mistakes
                .refuse(place, format!("{a} and {b} do not compare: write CAST(… AS {})", cast_name(b))),
            _ => Some(()),
        }
    }

    /// Checks the value that a join gives for a key column.
    pub(super) fn check_key(&mut self, value: &Expression, column: SqlType) {
        if let Some((Some(given), _)) = self.infer(value)
            && !given.is_key_of(column)
        {
            let message = format!("{given} is no key for {column}: write CAST(… AS {})", cast_name(column));
            self.mistakes.add(value.place, message);
        }
    }

    pub(super) fn infer(&mut self, expression: &Expression) -> Option<Inferred> {
        let place = expression.place;
        match &expression.node {
            Node::Column { slot, column } => {
                let (sql_type, nullable) = self.slots.get(*slot)?.get(*column).copied().flatten()?;
                Some((Some(sql_type), nullable))
            }
            Node::Meta(meta) => Some(match meta {
                Meta::RowKind => (Some(SqlType::Text), false),
                Meta::RowPosition => (Some(SqlType::Integer { unsigned: true, bits: 64 }), true),
                Meta::Ts => (Some(SqlType::BIGINT), false),
            }),
            Node::Literal(literal) => Some(of_literal(literal)),
            Node::Compare { left, right, .. } => {
                let (left, right) = (self.infer(left), self.infer(right));
                let (left, right) = (left?, right?);
                self.check_comparable(left, right, place)?;
                Some((Some(SqlType::Bool), left.1 || right.1))
            }
            Node::Arithmetic { operator, left, right } => self.arithmetic(*operator, (left, right), place),
            Node::And(list) | Node::Or(list) => {
                list.iter().for_each(|part| self.check_condition(part));
                Some((Some(SqlType::Bool), true))
            }
            Node::Not(operand) => {
                self.check_condition(operand);
                Some((Some(SqlType::Bool), true))
            }
            Node::IsNull(operand) => self.infer(operand).map(|_| (Some(SqlType::Bool), false)),
            Node::In { operand, list } => {
                let operand = self.infer(operand)?;
                for candidate in list {
                    let inferred = self.infer(candidate)?;
                    self.check_comparable(operand, inferred, candidate.place)?;
                }
                Some((Some(SqlType::Bool), true))
            }
            Node::Coalesce(list) => {
                let (sql_type, _) = self.unified(list, place)?;
                let nullable =
                    list.iter().map(|part| self.infer(part)).all(|part| part.is_none_or(|(_, null)| null));
                Some((sql_type, nullable))
            }
            Node::NullIf(left, right) => {
                let (left, right) = (self.infer(left)?, self.infer(right)?);
                self.check_comparable(left, right, place)?;
                Some((left.0, true))
            }
            Node::Concat(list) => {
                let parts: Vec<_> = list.iter().map(|part| self.infer(part)).collect();
                let nullable =
                    parts.into_iter().collect::<Option<Vec<_>>>()?.iter().any(|(_, nullable)| *nullable);
                Some((Some(SqlType::Text), nullable))
            }
            Node::Case { branches, otherwise } => self.case(branches, otherwise.as_deref(), place),
            Node::Cast { operand, target } => {
                let (_, nullable) = self.infer(operand)?;
                Some((Some(of_cast(*target)), nullable))
            }
        }
    }

    fn case(
        &mut self,
        branches: &[(Expression, Expression)],
        otherwise: Option<&Expression>,
        place: Place,
    ) -> Option<Inferred> {
        branches.iter().for_each(|(when, _)| self.check_condition(when));
        let (sql_type, nullable) =
            self.unified(branches.iter().map(|(_, then)| then).chain(otherwise), place)?;
        Some((sql_type, nullable || otherwise.is_none()))
    }

    /// The one type that all alternatives fit.
    fn unified<'e>(
        &mut self,
        list: impl IntoIterator<Item = &'e Expression>,
        place: Place,
    ) -> Option<Inferred> {
        let (mut all, mut nullable) = (None, false);
        for part in list {
            let (sql_type, part_nullable) = self.infer(part)?;
            nullable |= part_nullable;
            all = match (all, sql_type) {
                (None, other) | (other, None) => other,
                (Some(a), Some(b)) => match wider(a, b) {
                    Some(wider) => Some(wider),
                    None => {
                        return self
                            .mistakes
                            .refuse(place, format!("the alternatives are {a} and {b}: use CAST"));
                    }
                },
            };
        }
        Some((all, nullable))
    }

    fn arithmetic(
        &mut self,
        operator: Operation,
        sides: (&Expression, &Expression),
        place: Place,
    ) -> Option<Inferred> {
        let (left, right) = (self.infer(sides.0), self.infer(sides.1));
        let ((left, left_null), (right, right_null)) = (left?, right?);
        let mut digits = Vec::new();
        for side in [left, right].into_iter().flatten() {
            match digits_of(side) {
                Some(side) => digits.push(side),
                None => {
                    let message =
                        format!("`{}` needs exact numbers, this is {side}: use CAST", operator.symbol());
                    return self.mistakes.refuse(place, message);
                }
            }
        }
        let integers =
            [left, right].iter().all(|side| matches!(side, Some(SqlType::Integer { .. } | SqlType::Bool)));
        let ((whole_a, scale_a), (whole_b, scale_b)) = match digits.as_slice() {
            [a, b] => (*a, *b),
            _ => return Some((None, true)),
        };
        let (whole, scale) = match operator {
            Operation::Add | Operation::Subtract => (whole_a.max(whole_b) + 1, scale_a.max(scale_b)),
            Operation::Multiply => (whole_a + whole_b, scale_a + scale_b),
        };
        let sql_type = match integers {
            true if whole <= 18 => SqlType::BIGINT,
            _ if scale <= 38 => SqlType::Decimal { precision: (whole + scale).min(38), scale },
            _ => {
                return self
                    .mistakes
                    .refuse(place, format!("the result has {scale} digits after the point: use CAST"));
            }
        };
        Some((Some(sql_type), left_null || right_null))
    }
}

fn of_literal(literal: &Literal) -> Inferred {
    match literal {
        Literal::Null => (None, true),
        Literal::Text(_) => (Some(SqlType::Text), false),
        Literal::Boolean(_) => (Some(SqlType::Bool), false),
        // The narrowest type, so that COALESCE(x, 0) keeps the type of x.
        Literal::Number(number) if number.scale() == 0 && number.whole_digits() <= 18 => {
            let bits = match number.whole_digits() {
                0..=2 => 8,
                3..=4 => 16,
                5..=9 => 32,
                _ => 64,
            };
            (Some(SqlType::Integer { unsigned: false, bits }), false)
        }
        Literal::Number(number) => {
            let precision = (number.whole_digits() + number.scale()).clamp(1, 38);
            (Some(SqlType::Decimal { precision, scale: number.scale() }), false)
        }
    }
}

fn of_cast(target: CastTarget) -> SqlType {
    match target {
        CastTarget::BigInt => SqlType::BIGINT,
        CastTarget::Char => SqlType::Text,
        CastTarget::Decimal { precision, scale } => SqlType::Decimal { precision, scale },
    }
}

/// What to write in a CAST to reach a type.
fn cast_name(sql_type: SqlType) -> String {
    match sql_type {
        SqlType::Integer { .. } | SqlType::Bool => String::from("BIGINT"),
        SqlType::Decimal { .. } => sql_type.to_string(),
        SqlType::Double => String::from("DECIMAL(38, 10)"),
        _ => String::from("CHAR"),
    }
}

/// Digits before and after the point; `None` for what is not exact.
fn digits_of(sql_type: SqlType) -> Option<(u32, u32)> {
    match sql_type {
        SqlType::Bool => Some((1, 0)),
        SqlType::Integer { bits, .. } => Some((
            match bits {
                8 => 3,
                16 => 5,
                24 => 8,
                32 => 10,
                _ => 20,
            },
            0,
        )),
        SqlType::Decimal { precision, scale } => Some((precision.saturating_sub(scale), scale)),
        _ => None,
    }
}

/// The narrowest type that holds all values of both.
fn wider(a: SqlType, b: SqlType) -> Option<SqlType> {
    match (a, b) {
        _ if a == b => Some(a),
        (SqlType::Integer { unsigned: x, bits: a }, SqlType::Integer { unsigned: y, bits: b }) if x == y => {
            Some(SqlType::Integer { unsigned: x, bits: a.max(b) })
        }
        (SqlType::DateTime { fraction: a }, SqlType::DateTime { fraction: b }) => {
            Some(SqlType::DateTime { fraction: a.max(b) })
        }
        (SqlType::Double, number) | (number, SqlType::Double) if number.is_number() => Some(SqlType::Double),
        _ if a.compares_with(b) && !a.is_number() => Some(SqlType::Text),
        _ => {
            let ((whole_a, scale_a), (whole_b, scale_b)) = (digits_of(a)?, digits_of(b)?);
            let (whole, scale) = (whole_a.max(whole_b), scale_a.max(scale_b));
            Some(match scale {
                0 if whole <= 18 => SqlType::BIGINT,
                _ => SqlType::Decimal { precision: (whole + scale).min(38), scale },
            })
        }
    }
}
