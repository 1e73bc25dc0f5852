//! From rows of the source to keys and images of a dimension.

use super::{Dimension, DimensionColumn, KeyError, write_values};
use crate::dimension::Key;
use bytes::Bytes;
use std::{mem, sync::Arc};
use tidemark_binlog::{ColumnKind, Row, Table};
use tidemark_proto::text::write_string;

/// Where a dimension's columns stand in the rows of one version of its table.
#[derive(Clone, Debug)]
pub struct RowShape {
    table: Arc<Table>,
    /// For each column of the dimension, its place in the table.
    places: Vec<usize>,
    /// For each column of its key.
    key: Vec<usize>,
    /// For each column, `"name":` with the comma before it.
    labels: Vec<Vec<u8>>,
}

/// A table whose rows are no longer the dimension's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("column `{column}` of dimension {dimension} is no longer in its table")]
    ColumnGone { dimension: String, column: String },
    #[error("column `{column}` of dimension {dimension} changed its type: rows are written in another form")]
    TypeChanged { dimension: String, column: String },
    #[error("a row of dimension {dimension} has no usable key: {source}")]
    Key { dimension: String, source: KeyError },
    #[error("a row of dimension {dimension} is shorter than its table")]
    Short { dimension: String },
}

impl RowShape {
    /// Places a dimension's columns in a table.
    ///
    /// # Errors
    /// When a column is gone or its values have another form now.
    pub fn new(dimension: &Dimension, table: &Arc<Table>) -> Result<Self, ShapeError> {
        Self::of(dimension, &dimension.columns, table)
    }

    /// The same with the columns that the dimension has at some place.
    ///
    /// # Errors
    /// As [`RowShape::new`].
    pub fn of(
        dimension: &Dimension,
        columns: &[DimensionColumn],
        table: &Arc<Table>,
    ) -> Result<Self, ShapeError> {
        let gone = |column: &str| {
            let (dimension, column) = (dimension.name.to_string(), column.to_owned());
            ShapeError::ColumnGone { dimension, column }
        };
        let key = dimension.key_names().map(|name| table.column(name).ok_or_else(|| gone(name)));
        let key = key.collect::<Result<_, _>>()?;
        let mut places = Vec::with_capacity(columns.len());
        let mut labels = Vec::with_capacity(columns.len());
        for column in columns {
            let named = || (dimension.name.to_string(), column.name.clone());
            let place = table.column(&column.name);
            let found = place.and_then(|place| table.columns.get(place).map(|found| (place, found)));
            let (place, found) = found.ok_or_else(|| gone(&column.name))?;
            if !same_form(&column.kind, &found.kind) {
                let (dimension, column) = named();
                return Err(ShapeError::TypeChanged { dimension, column });
            }
            let mut label = if places.is_empty() { Vec::new() } else { vec![b','] };
            write_string(&mut label, &column.name);
            label.push(b':');
            places.push(place);
            labels.push(label);
        }
        Ok(Self { table: Arc::clone(table), places, key, labels })
    }

    /// Whether rows of `table` have this shape.
    pub fn is_of(&self, table: &Arc<Table>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    /// The row as a JSON object of the dimension's columns.
    ///
    /// # Errors
    /// When the row is shorter than its table.
    pub fn image(&self, dimension: &Dimension, row: &Row) -> Result<Bytes, ShapeError> {
        let mut object = Vec::with_capacity(row.size() + 16 * self.places.len());
        object.push(b'{');
        for (place, label) in self.places.iter().zip(&self.labels) {
            let short = || ShapeError::Short { dimension: dimension.name.to_string() };
            object.extend_from_slice(label);
            object.extend_from_slice(row.token(*place).ok_or_else(short)?.as_bytes());
        }
        object.push(b'}');
        Ok(object.into())
    }

    /// The row's key and image; `None` where it has no key.
    ///
    /// # Errors
    /// As [`RowShape::key`] and [`RowShape::image`].
    pub fn keyed(&self, dimension: &Dimension, row: &Row) -> Result<Option<(Key, Bytes)>, ShapeError> {
        let Some(key) = self.key(dimension, row)? else { return Ok(None) };
        Ok(Some((key, self.image(dimension, row)?)))
    }

    /// The row's canonical key; `None` where the dimension is an index and the
    /// row is NULL in one of its columns, so that it has no such row.
    ///
    /// # Errors
    /// When a value does not fit its column, or the row is too short.
    pub fn key(&self, dimension: &Dimension, row: &Row) -> Result<Option<Key>, ShapeError> {
        let mut text = Vec::with_capacity(32);
        let token = |place: usize| row.token(*self.key.get(place)?);
        let indexed = dimension.index_of.as_ref().map_or(0, |index| index.prefix_columns);
        if (0..indexed).any(|place| token(place) == Some("null")) {
            return Ok(None);
        }
        write_values(&mut text, &dimension.key_columns, token).map_err(|error| match error {
            Some(source) => ShapeError::Key { dimension: dimension.name.to_string(), source },
            None => ShapeError::Short { dimension: dimension.name.to_string() },
        })?;
        Ok(Some(Key::from_canonical(text)))
    }
}

/// Whether values of both kinds are written alike. A wider integer or a longer
/// text is the same form; another scale or another count of digits is not.
pub(crate) fn same_form(known: &ColumnKind, found: &ColumnKind) -> bool {
    match (known, found) {
        (ColumnKind::Decimal { scale: a, .. }, ColumnKind::Decimal { scale: b, .. }) => a == b,
        (ColumnKind::DateTime { digits: a }, ColumnKind::DateTime { digits: b })
        | (ColumnKind::Timestamp { digits: a }, ColumnKind::Timestamp { digits: b })
        | (ColumnKind::Time { digits: a }, ColumnKind::Time { digits: b }) => a == b,
        _ => mem::discriminant(known) == mem::discriminant(found),
    }
}

#[cfg(test)]
mod tests;
