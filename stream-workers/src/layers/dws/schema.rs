//! The tables of a dws plan in ClickHouse, and how a group is a row of them.
//!
//! `NAME_prefix` holds one row for each key and source partition: the aggregate
//! of a log prefix, of which the greatest version counts. `NAME` is a view of it
//! with the columns of the plan's SELECT: it adds the partitions up, and hides
//! versions, partitions and groups without rows. Text and bytes only: nothing
//! here talks to the server.

use super::aggregate::{Group, Merge};
use crate::{
    sink::clickhouse::{
        rowbinary::{ColumnType, DoesNotFit, Reader, Scalar},
        sql,
    },
    warehouse::plan::{AggregateFunction, DwsColumn, DwsPlan},
};
use std::{fmt::Write as _, time::Duration};

/// The columns beside those of the plan.
const WINDOW: &str = "window_start";
const PARTITION: &str = "source_partition";
const ROW_COUNT: &str = "row_count";
const VERSION: &str = "version";

/// The type of a group column or an aggregate's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueType {
    pub(crate) column: ColumnType,
    pub(crate) nullable: bool,
}

/// The types of a plan's values, in the plan's order.
#[derive(Clone, Debug)]
pub(crate) struct ValueTypes {
    pub(crate) group: Vec<ValueType>,
    pub(crate) aggregates: Vec<ValueType>,
}

/// A dws table.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    database: String,
    name: String,
    pub(crate) key: Vec<KeyColumn>,
    pub(crate) values: Vec<ValueColumn>,
    /// The view's columns: expression over the stored columns, and name.
    view: Vec<(String, String)>,
}

/// A column of the key; a nullable one has a flag column after it.
#[derive(Clone, Debug)]
pub(crate) struct KeyColumn {
    name: String,
    pub(crate) value: ValueType,
}

/// An aggregate.
#[derive(Clone, Debug)]
pub(crate) struct ValueColumn {
    name: String,
    pub(crate) value: ValueType,
    pub(crate) merge: Merge,
}

/// A SELECT that no table can hold.
#[derive(Debug, thiserror::Error)]
#[error(
    "{table}: the table has a column `{column}` of its own: give the SELECT's column another name with AS"
)]
pub struct NameTaken {
    table: String,
    column: String,
}

impl Schema {
    /// The table of a plan.
    pub(crate) fn try_new(database: &str, plan: &DwsPlan, types: &ValueTypes) -> Result<Self, NameTaken> {
        let window = plan.window.as_ref().map(|_| KeyColumn {
            name: WINDOW.to_owned(),
            value: ValueType { column: ColumnType::DateTime, nullable: false },
        });
        let group = plan.group.iter().zip(&types.group);
        let group = group.map(|(output, value)| KeyColumn { name: output.name.clone(), value: *value });
        let aggregates = plan.aggregates.iter().zip(&types.aggregates);
        let values = aggregates.map(|(aggregate, value)| ValueColumn {
            name: aggregate.name.clone(),
            value: *value,
            merge: merge_of(aggregate.function),
        });
        let mut schema = Self {
            database: database.to_owned(),
            name: plan.name.clone(),
            key: window.into_iter().chain(group).collect(),
            values: values.collect(),
            view: Vec::new(),
        };
        schema.view = plan.columns.iter().filter_map(|column| schema.view_column(plan, column)).collect();
        schema.check_names()?;
        Ok(schema)
    }

    /// The name of the plan, of the view, and of the table without its suffix.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The table's own name.
    pub(crate) fn table_name(&self) -> String {
        format!("{}_prefix", self.name)
    }

    /// The table's columns with their types: what is written down to notice a
    /// table of another form.
    pub(crate) fn columns(&self) -> String {
        self.stored()
            .iter()
            .map(|(name, kind)| format!("{} {kind}", sql::identifier(name)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    pub(crate) fn create_table(&self) -> String {
        let key: Vec<_> = self.key_names().iter().map(|name| sql::identifier(name)).collect();
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = ReplacingMergeTree(version) ORDER BY ({})",
            self.table(),
            self.columns(),
            key.iter().map(String::as_str).chain([PARTITION]).collect::<Vec<_>>().join(", ")
        )
    }

    /// The view's inner query names its columns by number, so that no name of
    /// the SELECT can stand for another stored column.
    pub(crate) fn create_view(&self) -> String {
        let number = |index: usize| sql::identifier(&index.to_string());
        let outer = self.view.iter().enumerate();
        let outer: Vec<_> =
            outer.map(|(i, (_, name))| format!("{} AS {}", number(i), sql::identifier(name))).collect();
        let inner = self.view.iter().enumerate();
        let inner: Vec<_> =
            inner.map(|(i, (expression, _))| format!("{expression} AS {}", number(i))).collect();
        let key: Vec<_> = self.key_names().iter().map(|name| sql::identifier(name)).collect();
        let group_by = if key.is_empty() { String::new() } else { format!(" GROUP BY {}", key.join(", ")) };
        format!(
            "CREATE VIEW IF NOT EXISTS {} AS SELECT {} FROM (SELECT {} FROM {} FINAL{group_by} HAVING sum({ROW_COUNT}) > 0)",
            sql::table(&self.database, &self.name),
            outer.join(", "),
            inner.join(", "),
            self.table(),
        )
    }

    /// What an operator runs to begin the table again.
    pub(crate) fn drop_statements(&self) -> String {
        format!("DROP TABLE {}; DROP TABLE {};", sql::table(&self.database, &self.name), self.table())
    }

    /// Target of an insert of rows from [`Schema::write_row`].
    pub(crate) fn insert_target(&self) -> String {
        let columns: Vec<_> = self.stored().iter().map(|(name, _)| sql::identifier(name)).collect();
        format!("{} ({})", self.table(), columns.join(", "))
    }

    /// Reads the groups of some keys as rows for [`Schema::read_row`].
    pub(crate) fn select_groups(&self, partition: i32, keys: &[&[u8]]) -> Option<String> {
        let columns: Vec<_> = self.stored().iter().map(|(name, _)| sql::identifier(name)).collect();
        let mut query = format!(
            "SELECT {} FROM {} FINAL WHERE {PARTITION} = {partition}",
            columns.join(", "),
            self.table()
        );
        let names: Vec<_> = self.key_names().iter().map(|name| sql::identifier(name)).collect();
        if names.is_empty() {
            return Some(query);
        }
        write!(query, " AND ({}) IN (", names.join(", ")).ok()?;
        for (index, key) in keys.iter().enumerate() {
            let literals = self.key_literals(key)?;
            write!(query, "{}({})", if index > 0 { ", " } else { "" }, literals.join(", ")).ok()?;
        }
        query.push(')');
        Some(query)
    }

    /// The greatest version of the rows of some partition, 0 without rows.
    pub(crate) fn select_version_max(&self, partition: i32) -> String {
        format!("SELECT max({VERSION}) FROM {} WHERE {PARTITION} = {partition}", self.table())
    }

    /// Appends a row: the key as it was encoded, then the group.
    pub(crate) fn write_row(
        &self,
        out: &mut Vec<u8>,
        (key, partition): (&[u8], i32),
        group: &Group,
    ) -> Result<(), DoesNotFit> {
        out.extend_from_slice(key);
        ColumnType::Int32.write(out, &Scalar::Integer(i128::from(partition)))?;
        for (column, value) in self.values.iter().zip(&group.values) {
            match (column.value.nullable, value) {
                (true, value) => column.value.column.write_nullable(out, value.as_ref())?,
                (false, Some(value)) => column.value.column.write(out, value)?,
                (false, None) => column.value.column.write_default(out),
            }
        }
        ColumnType::Int64.write(out, &Scalar::Integer(i128::from(group.row_count)))?;
        ColumnType::UInt64.write(out, &Scalar::Integer(i128::from(group.version)))
    }

    /// Reads a row back: its encoded key and its group.
    pub(crate) fn read_row<'a>(&self, reader: &mut Reader<'a>) -> Option<(&'a [u8], Group)> {
        let start = reader.rest();
        for column in &self.key {
            reader.read(column.value.column)?;
            if column.value.nullable {
                reader.read(ColumnType::UInt8)?;
            }
        }
        let key = start.get(..start.len() - reader.rest().len())?;
        reader.read(ColumnType::Int32)?;
        let mut values = Vec::with_capacity(self.values.len());
        for column in &self.values {
            values.push(match column.value.nullable {
                true => reader.read_nullable(column.value.column)?,
                false => Some(reader.read(column.value.column)?),
            });
        }
        let row_count = i64::try_from(reader.read_integer(ColumnType::Int64)?).ok()?;
        let version = u64::try_from(reader.read_integer(ColumnType::UInt64)?).ok()?;
        Some((key, Group { version, row_count, values: values.into() }))
    }

    /// A key for messages: its values as SQL.
    pub(crate) fn show_key(&self, key: &[u8]) -> String {
        let literals = self.key_literals(key).unwrap_or_default();
        let pairs =
            self.key_names().into_iter().zip(literals).map(|(name, literal)| format!("{name} = {literal}"));
        pairs.collect::<Vec<_>>().join(", ")
    }

    fn table(&self) -> String {
        sql::table(&self.database, &self.table_name())
    }

    fn key_names(&self) -> Vec<String> {
        let name = |column: &KeyColumn| {
            let flag = column.value.nullable.then(|| flag_name(&column.name));
            std::iter::once(column.name.clone()).chain(flag)
        };
        self.key.iter().flat_map(name).collect()
    }

    /// Names and types of all stored columns, in row order.
    fn stored(&self) -> Vec<(String, String)> {
        let mut columns = Vec::new();
        for column in &self.key {
            columns.push((column.name.clone(), column.value.column.to_string()));
            if column.value.nullable {
                columns.push((flag_name(&column.name), ColumnType::UInt8.to_string()));
            }
        }
        columns.push((PARTITION.to_owned(), ColumnType::Int32.to_string()));
        for ValueColumn { name, value, .. } in &self.values {
            let plain = value.column.to_string();
            columns.push((name.clone(), if value.nullable { format!("Nullable({plain})") } else { plain }));
        }
        columns.push((ROW_COUNT.to_owned(), ColumnType::Int64.to_string()));
        columns.push((VERSION.to_owned(), ColumnType::UInt64.to_string()));
        columns
    }

    fn check_names(&self) -> Result<(), NameTaken> {
        let mut seen = std::collections::BTreeSet::new();
        for (column, _) in self.stored() {
            if !seen.insert(column.clone()) {
                return Err(NameTaken { table: self.name.clone(), column });
            }
        }
        Ok(())
    }

    fn view_column(&self, plan: &DwsPlan, column: &DwsColumn) -> Option<(String, String)> {
        Some(match column {
            DwsColumn::WindowStart(name) => (WINDOW.to_owned(), name.clone()),
            DwsColumn::WindowEnd(name) => {
                let size = plan.window.as_ref().map_or(Duration::ZERO, |window| window.size);
                // The sum alone would be shown in the server's time zone.
                (format!("toDateTime({WINDOW} + {}, 'UTC')", size.as_secs()), name.clone())
            }
            DwsColumn::Group(index) => {
                let column = self.key.get(index + usize::from(plan.window.is_some()))?;
                let stored = sql::identifier(&column.name);
                let flag = sql::identifier(&flag_name(&column.name));
                let restored = format!("if({flag} = 1, NULL, {stored})");
                (if column.value.nullable { restored } else { stored }, column.name.clone())
            }
            DwsColumn::Aggregate(index) => {
                let column = self.values.get(*index)?;
                let function = match column.merge {
                    Merge::Add => "sum",
                    Merge::Least => "min",
                    Merge::Greatest => "max",
                };
                (format!("{function}({})", sql::identifier(&column.name)), column.name.clone())
            }
        })
    }

    fn key_literals(&self, key: &[u8]) -> Option<Vec<String>> {
        let mut reader = Reader::new(key);
        let mut literals = Vec::new();
        for column in &self.key {
            literals.push(literal(column.value.column, &reader.read(column.value.column)?));
            if column.value.nullable {
                literals.push(reader.read_integer(ColumnType::UInt8)?.to_string());
            }
        }
        Some(literals)
    }
}

/// Days and seconds are literals of Date and DateTime; a decimal must not pass
/// through a float.
fn literal(column: ColumnType, value: &Scalar) -> String {
    match (column, value) {
        (ColumnType::Decimal64(scale), Scalar::Integer(number)) => {
            format!("toDecimal64('{}', {scale})", decimal(*number, scale))
        }
        (ColumnType::Decimal128(scale), Scalar::Integer(number)) => {
            format!("toDecimal128('{}', {scale})", decimal(*number, scale))
        }
        (_, Scalar::Integer(number)) => number.to_string(),
        (_, Scalar::Float(number)) => format!("{number:?}"),
        (_, Scalar::Text(text)) => sql::string(text),
    }
}

fn decimal(unscaled: i128, scale: u32) -> String {
    crate::warehouse::decimal::Decimal::new(unscaled, scale)
        .map_or_else(|| unscaled.to_string(), |d| d.to_string())
}

fn flag_name(name: &str) -> String {
    format!("{name}_is_null")
}

fn merge_of(function: AggregateFunction) -> Merge {
    match function {
        AggregateFunction::Sum | AggregateFunction::Count => Merge::Add,
        AggregateFunction::Min => Merge::Least,
        AggregateFunction::Max => Merge::Greatest,
    }
}

#[cfg(test)]
mod tests;
