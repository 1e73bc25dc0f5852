//! From a message of a dwd topic to what it adds to a table: filter, window,
//! group columns and arguments of the aggregates, in the types that ClickHouse
//! stores. Reads one message at a time and knows nothing of groups.

use super::{
    aggregate::Contributions,
    aggregate::Draft,
    schema::{Schema, ValueType, ValueTypes},
};
use crate::{
    calendar,
    sink::clickhouse::rowbinary::{ColumnType, DoesNotFit, Scalar},
    warehouse::{
        EvaluateError, Frame, Value,
        plan::{Aggregate, AggregateFunction, DwsPlan, Tumble},
        types::{DwsTypes, SqlType},
    },
};
use tidemark_proto::envelope::{Envelope, RowKind};

/// Why a message cannot be counted. Texts are one line, for dead-letter headers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    #[error("{column}: {source}")]
    Evaluate { column: String, source: EvaluateError },
    #[error("{column}: {source}")]
    DoesNotFit { column: String, source: DoesNotFit },
    #[error("{column}: {value} is not a {kind}")]
    NotOfType { column: String, value: String, kind: ColumnType },
    #[error("the event time is NULL: the row is in no window")]
    NoTime,
}

/// A plan ready to run: what it computes, and the table that it fills.
#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) plan: DwsPlan,
    pub(crate) schema: Schema,
}

impl Measure {
    /// Writes what a row adds; false when the filter drops it.
    pub(crate) fn contribute(
        &self,
        row: &Envelope<'_>,
        offset: u64,
        contributions: &mut Contributions,
    ) -> Result<bool, MeasureError> {
        let columns: Vec<_> = self.plan.source_columns.iter().map(|column| row.data.get(column)).collect();
        let kind = row.kind().unwrap_or(RowKind::Insert);
        let frame = Frame { slots: vec![&columns], kind, position: None, ts: row.ts };
        contributions.add(offset, |draft| self.write(&frame, draft))
    }

    fn write(&self, frame: &Frame<'_>, draft: &mut Draft<'_>) -> Result<bool, MeasureError> {
        if let Some(filter) = &self.plan.filter
            && !filter.is_true(frame).map_err(|source| evaluate_error("WHERE", source))?
        {
            return Ok(false);
        }
        let mut key = self.schema.key.iter();
        if let Some(window) = &self.plan.window {
            let start = Scalar::Integer(i128::from(window_start(window, frame)?));
            let column = key.next().map_or(ColumnType::DateTime, |column| column.value.column);
            column.write(draft.key, &start).map_err(|source| does_not_fit("window_start", source))?;
        }
        for (column, output) in key.zip(&self.plan.group) {
            let value =
                output.expression.evaluate(frame).map_err(|source| evaluate_error(&output.name, source))?;
            write_key(draft.key, column.value, &value).map_err(|error| error.of(&output.name))?;
        }
        for (column, aggregate) in self.schema.values.iter().zip(&self.plan.aggregates) {
            draft.arguments.push(argument(aggregate, column.value.column, frame)?);
        }
        Ok(true)
    }
}

/// The types that ClickHouse stores a plan's values in.
pub(crate) fn value_types(types: &DwsTypes, plan: &DwsPlan) -> ValueTypes {
    let group = types
        .group
        .iter()
        .map(|(kind, nullable)| ValueType { column: column_type(*kind), nullable: *nullable });
    let aggregates = types.aggregates.iter().zip(&plan.aggregates).map(|(kind, aggregate)| ValueType {
        column: column_type(*kind),
        // A count is never NULL; other aggregates are while a group has no value.
        nullable: aggregate.function != AggregateFunction::Count,
    });
    ValueTypes { group: group.collect(), aggregates: aggregates.collect() }
}

/// Fractions of a second and times of day have no type in old servers: they
/// stay text, which has their order.
fn column_type(kind: SqlType) -> ColumnType {
    match kind {
        SqlType::Bool => ColumnType::UInt8,
        SqlType::Integer { unsigned: true, bits: 64 } => ColumnType::UInt64,
        SqlType::Integer { .. } => ColumnType::Int64,
        SqlType::Decimal { precision: 0..=18, scale } => ColumnType::Decimal64(scale),
        SqlType::Decimal { scale, .. } => ColumnType::Decimal128(scale),
        SqlType::Double => ColumnType::Float64,
        SqlType::Date => ColumnType::Date,
        SqlType::DateTime { fraction: 0 } => ColumnType::DateTime,
        SqlType::DateTime { .. } | SqlType::Time | SqlType::Text | SqlType::Bytes | SqlType::Json => {
            ColumnType::String
        }
    }
}

/// The first second of the window that the row's event time is in.
fn window_start(window: &Tumble, frame: &Frame<'_>) -> Result<i64, MeasureError> {
    let value = window.time.evaluate(frame).map_err(|source| evaluate_error("event time", source))?;
    let time = scalar(&value, ColumnType::DateTime).map_err(|error| error.of("event time"))?;
    let Some(Scalar::Integer(second)) = time else { return Err(MeasureError::NoTime) };
    let second = i64::try_from(second).map_err(|_| MeasureError::NoTime)?;
    let size = i64::try_from(window.size.as_secs()).unwrap_or(i64::MAX).max(1);
    Ok(second - second.rem_euclid(size))
}

/// A nullable column is its value and a flag; NULL is the default value and 1.
fn write_key(out: &mut Vec<u8>, column: ValueType, value: &Value<'_>) -> Result<(), Unfit> {
    match scalar(value, column.column)? {
        Some(value) => {
            column.column.write(out, &value).map_err(Unfit::Range)?;
            if column.nullable {
                out.push(0);
            }
        }
        None if column.nullable => {
            column.column.write_default(out);
            out.push(1);
        }
        None => return Err(Unfit::Kind(String::from("NULL"), column.column)),
    }
    Ok(())
}

fn argument(
    aggregate: &Aggregate,
    column: ColumnType,
    frame: &Frame<'_>,
) -> Result<Option<Scalar>, MeasureError> {
    let one = Some(Scalar::Integer(1));
    let Some(argument) = &aggregate.argument else { return Ok(one) };
    let value = argument.evaluate(frame).map_err(|source| evaluate_error(&aggregate.name, source))?;
    if aggregate.function == AggregateFunction::Count {
        return Ok(if value.is_null() { None } else { one });
    }
    let scalar = scalar(&value, column).map_err(|error| error.of(&aggregate.name))?;
    match scalar {
        Some(scalar) if !column.holds(&scalar) => {
            Err(Unfit::Kind(scalar.to_string(), column).of(&aggregate.name))
        }
        scalar => Ok(scalar),
    }
}

/// A value that is not what its column stores, before the column has a name.
enum Unfit {
    Evaluate(EvaluateError),
    Range(DoesNotFit),
    Kind(String, ColumnType),
}

impl Unfit {
    fn of(self, column: &str) -> MeasureError {
        match self {
            Self::Evaluate(source) => evaluate_error(column, source),
            Self::Range(source) => does_not_fit(column, source),
            Self::Kind(value, kind) => MeasureError::NotOfType { column: column.to_owned(), value, kind },
        }
    }
}

/// The value in a column's form; `None` is NULL.
fn scalar(value: &Value<'_>, column: ColumnType) -> Result<Option<Scalar>, Unfit> {
    let unfit = || Unfit::Kind(value.text().ok().flatten().unwrap_or_default().into_owned(), column);
    let integer = |number: i64| Scalar::Integer(i128::from(number));
    Ok(match column {
        ColumnType::Decimal64(scale) | ColumnType::Decimal128(scale) => match exact(value, scale)? {
            Some(number) => Some(Scalar::Integer(number.ok_or_else(unfit)?)),
            None => None,
        },
        ColumnType::UInt8 | ColumnType::Int32 | ColumnType::Int64 | ColumnType::UInt64 => {
            match exact(value, 0)? {
                Some(number) => Some(Scalar::Integer(number.ok_or_else(unfit)?)),
                None => None,
            }
        }
        _ => match value.text().map_err(Unfit::Evaluate)? {
            None => None,
            Some(text) => Some(match column {
                ColumnType::Float64 => {
                    let number: f64 = text.parse().map_err(|_| unfit())?;
                    // Both zeros are one group.
                    Scalar::Float(if number == 0.0 { 0.0 } else { number })
                }
                ColumnType::Date => integer(calendar::parse_date(&text).ok_or_else(unfit)?),
                ColumnType::DateTime => {
                    integer(calendar::parse_datetime(&text).or_else(|| text.parse().ok()).ok_or_else(unfit)?)
                }
                _ => Scalar::Text(text.into()),
            }),
        },
    })
}

/// The unscaled number at a scale; `Some(None)` when digits would be lost.
fn exact(value: &Value<'_>, scale: u32) -> Result<Option<Option<i128>>, Unfit> {
    let number = value.number().map_err(Unfit::Evaluate)?;
    Ok(number.map(|number| {
        let rounded = number.rounded(scale)?;
        (rounded == number).then_some(rounded.unscaled())
    }))
}

fn evaluate_error(column: &str, source: EvaluateError) -> MeasureError {
    MeasureError::Evaluate { column: column.to_owned(), source }
}

fn does_not_fit(column: &str, source: DoesNotFit) -> MeasureError {
    MeasureError::DoesNotFit { column: column.to_owned(), source }
}

#[cfg(test)]
mod tests;
