//! Evaluating an expression for one row.

use super::{
    CastTarget, Comparison, EvaluateError, Expression, Frame, Literal, Meta, Node, Operation, Value,
};
use crate::warehouse::decimal::Decimal;
use std::{borrow::Cow, cmp::Ordering};
use tidemark_proto::envelope::RowKind;

impl Expression {
    /// The value for a row.
    ///
    /// # Errors
    /// When numbers overflow 38 digits, or a value is not of the kind that an
    /// operation needs.
    pub fn evaluate<'a>(&'a self, frame: &Frame<'a>) -> Result<Value<'a>, EvaluateError> {
        Ok(match &self.node {
            Node::Column { slot, column } => column_of(frame, *slot, *column),
            Node::Meta(meta) => meta_of(frame, *meta),
            Node::Literal(literal) => literal_of(literal),
            Node::Arithmetic { operator, left, right } => {
                arithmetic(*operator, &left.evaluate(frame)?, &right.evaluate(frame)?)?
            }
            Node::Coalesce(list) => coalesce(list, frame)?,
            Node::NullIf(left, right) => null_if(left.evaluate(frame)?, &right.evaluate(frame)?)?,
            Node::Concat(list) => concat(list, frame)?,
            Node::Case { branches, otherwise } => match chosen(branches, otherwise.as_deref(), frame)? {
                Some(branch) => branch.evaluate(frame)?,
                None => Value::Null,
            },
            Node::Cast { operand, target } => cast(operand.evaluate(frame)?, *target)?,
            Node::Compare { .. }
            | Node::And(_)
            | Node::Or(_)
            | Node::Not(_)
            | Node::IsNull(_)
            | Node::In { .. } => self.truth(frame)?.map_or(Value::Null, Value::Boolean),
        })
    }

    /// Whether the row passes: an unknown condition does not.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn is_true(&self, frame: &Frame<'_>) -> Result<bool, EvaluateError> {
        Ok(self.truth(frame)? == Some(true))
    }

    /// TRUE, FALSE or unknown.
    fn truth(&self, frame: &Frame<'_>) -> Result<Option<bool>, EvaluateError> {
        match &self.node {
            Node::Compare { operator, left, right } => {
                let ordering = left.evaluate(frame)?.compare(&right.evaluate(frame)?)?;
                Ok(ordering.map(|ordering| operator.holds(ordering)))
            }
            Node::And(list) => decided(list, false, frame),
            Node::Or(list) => decided(list, true, frame),
            Node::Not(operand) => Ok(operand.truth(frame)?.map(|truth| !truth)),
            Node::IsNull(operand) => Ok(Some(operand.evaluate(frame)?.is_null())),
            Node::In { operand, list } => is_in(&operand.evaluate(frame)?, list, frame),
            _ => self.evaluate(frame)?.truth(),
        }
    }
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

fn column_of<'a>(frame: &Frame<'a>, slot: usize, column: usize) -> Value<'a> {
    Value::of_token(frame.slots.get(slot).and_then(|slot| slot.get(column)).copied().flatten())
}

fn meta_of<'a>(frame: &Frame<'a>, meta: Meta) -> Value<'a> {
    match meta {
        // A row of a first full load is an insert to SQL.
        Meta::RowKind if frame.kind == RowKind::BootstrapInsert => Value::Text(Cow::Borrowed("insert")),
        Meta::RowKind => Value::Text(Cow::Borrowed(frame.kind.as_str())),
        Meta::RowPosition => match frame.position {
            Some(position) => Value::Number(Decimal::from(position.packed())),
            None => Value::Null,
        },
        Meta::Ts => Value::Number(Decimal::from(frame.ts)),
    }
}

fn literal_of(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
        Literal::Number(number) => Value::Number(*number),
        Literal::Boolean(truth) => Value::Boolean(*truth),
    }
}

fn arithmetic<'a>(
    operator: Operation,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<Value<'a>, EvaluateError> {
    let (Some(left), Some(right)) = (left.number()?, right.number()?) else { return Ok(Value::Null) };
    let (result, name) = match operator {
        Operation::Add => (left.checked_add(right), "a sum"),
        Operation::Subtract => (left.checked_sub(right), "a difference"),
        Operation::Multiply => (left.checked_mul(right), "a product"),
    };
    result.map(Value::Number).ok_or(EvaluateError::Overflow(name))
}

/// AND is decided by the first FALSE, OR by the first TRUE; else one unknown
/// makes the whole unknown.
fn decided(list: &[Expression], decisive: bool, frame: &Frame<'_>) -> Result<Option<bool>, EvaluateError> {
    let mut result = Some(!decisive);
    for part in list {
        match part.truth(frame)? {
            Some(truth) if truth == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => result = None,
        }
    }
    Ok(result)
}

/// As SQL has it: unknown when nothing matched and there was a NULL.
fn is_in(operand: &Value<'_>, list: &[Expression], frame: &Frame<'_>) -> Result<Option<bool>, EvaluateError> {
    let mut result = Some(false);
    for candidate in list {
        match operand.compare(&candidate.evaluate(frame)?)? {
            Some(Ordering::Equal) => return Ok(Some(true)),
            Some(_) => {}
            None => result = None,
        }
    }
    Ok(result)
}

fn coalesce<'a>(list: &'a [Expression], frame: &Frame<'a>) -> Result<Value<'a>, EvaluateError> {
    for candidate in list {
        let value = candidate.evaluate(frame)?;
        if !value.is_null() {
            return Ok(value);
        }
    }
    Ok(Value::Null)
}

fn null_if<'a>(left: Value<'a>, right: &Value<'a>) -> Result<Value<'a>, EvaluateError> {
    Ok(if left.compare(right)? == Some(Ordering::Equal) { Value::Null } else { left })
}

fn concat<'a>(list: &'a [Expression], frame: &Frame<'a>) -> Result<Value<'a>, EvaluateError> {
    let mut joined = String::new();
    for part in list {
        match part.evaluate(frame)?.text()? {
            Some(text) => joined.push_str(&text),
            None => return Ok(Value::Null),
        }
    }
    Ok(Value::Text(Cow::Owned(joined)))
}

fn chosen<'a>(
    branches: &'a [(Expression, Expression)],
    otherwise: Option<&'a Expression>,
    frame: &Frame<'a>,
) -> Result<Option<&'a Expression>, EvaluateError> {
    for (when, then) in branches {
        if when.is_true(frame)? {
            return Ok(Some(then));
        }
    }
    Ok(otherwise)
}

fn cast<'a>(value: Value<'a>, target: CastTarget) -> Result<Value<'a>, EvaluateError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match target {
        CastTarget::Char => Ok(match value {
            Value::Token(token) if token.starts_with('"') => value,
            Value::Token(token) => Value::Text(Cow::Borrowed(token)),
            Value::Text(_) => value,
            Value::Null | Value::Number(_) | Value::Boolean(_) => {
                value.text()?.map_or(Value::Null, |text| Value::Text(Cow::Owned(text.into_owned())))
            }
        }),
        CastTarget::BigInt => {
            let number = lenient_number(&value)?.truncated();
            match i64::try_from(number.unscaled()) {
                Ok(_) => Ok(Value::Number(number)),
                Err(_) => Err(EvaluateError::TooWide(value.shown(), String::from("BIGINT"))),
            }
        }
        CastTarget::Decimal { precision, scale } => {
            let too_wide = || EvaluateError::TooWide(value.shown(), format!("DECIMAL({precision}, {scale})"));
            let number = lenient_number(&value)?.rounded(scale).ok_or_else(too_wide)?;
            if number.whole_digits() + scale > precision {
                return Err(too_wide());
            }
            Ok(Value::Number(number))
        }
    }
}

/// A number from a number, a truth value, or text that is one.
fn lenient_number(value: &Value<'_>) -> Result<Decimal, EvaluateError> {
    let text = value.text()?.unwrap_or(Cow::Borrowed(""));
    match text.as_ref() {
        "true" => Ok(Decimal::from(1i64)),
        "false" => Ok(Decimal::ZERO),
        text => Decimal::parse(text.trim()).ok_or_else(|| EvaluateError::NotANumber(value.shown())),
    }
}
