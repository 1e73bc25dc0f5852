//! Values of MySQL to JSON tokens.
//!
//! A value reaches this crate in two forms: as the binlog stores it
//! (`stored`) and as a SELECT through the binary protocol returns it
//! (`selected`). Both end in the same writers (`write`, `json`, `charset`), so
//! that one value is the same bytes whichever way it came. Forms are Maxwell's:
//! decimals are bare numbers, bytes are base64, sets are arrays of labels.

mod charset;
mod json;
mod literal;
mod selected;
mod stored;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use charset::decode;
pub(crate) use literal::{Literal, implicit_default, write_literal};
pub(crate) use stored::write_stored;

use crate::change::{Charset, Column, Row, Table};

/// A value that cannot be turned into a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {fault}")]
pub struct ValueError {
    pub column: String,
    pub fault: Fault,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the bytes end before the value does")]
    Short,
    #[error("the value does not have the form of the column's type")]
    Form,
    #[error("the bytes are not {0:?} text")]
    Charset(Charset),
    #[error("the row is over 4 GiB of text")]
    Long,
    #[error("the row has another number of columns than the table")]
    Columns,
}

/// Appends the token of a value that a SELECT returned, equal to the byte to
/// what the binlog gives for the same value.
///
/// The SELECT must use the binary protocol (a prepared statement) on a
/// connection of [`crate::Source::connect`]: there the time zone is UTC and
/// text is utf8mb4.
///
/// # Errors
/// When the value does not have the form of the column's type.
pub fn write_token(out: &mut Vec<u8>, value: &mysql_async::Value, column: &Column) -> Result<(), ValueError> {
    selected::write_selected(out, value, &column.kind)
        .map_err(|fault| ValueError { column: column.name.clone(), fault })
}

/// The row of a SELECT of all columns of the table, in order.
///
/// # Errors
/// When the number of columns or a value does not fit the table.
pub fn select_row(row: mysql_async::Row, table: &Table) -> Result<Row, ValueError> {
    let values = row.unwrap();
    if values.len() != table.columns.len() {
        return Err(ValueError { column: String::from("*"), fault: Fault::Columns });
    }
    let mut builder = RowBuilder::default();
    for (value, column) in values.iter().zip(&table.columns) {
        write_token(builder.token(), value, column)?;
        builder.end_token().map_err(|fault| ValueError { column: column.name.clone(), fault })?;
    }
    Ok(builder.finish())
}

/// Collects the tokens of one row after another in buffers that it keeps.
#[derive(Debug, Default)]
pub(crate) struct RowBuilder {
    text: Vec<u8>,
    ends: Vec<u32>,
}

impl RowBuilder {
    /// Where the next token is appended.
    pub(crate) fn token(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Marks the end of a token.
    pub(crate) fn end_token(&mut self) -> Result<(), Fault> {
        self.ends.push(u32::try_from(self.text.len()).map_err(|_| Fault::Long)?);
        Ok(())
    }

    /// Takes the row out, at its exact size, and starts the next.
    pub(crate) fn finish(&mut self) -> Row {
        let row = Row::new(bytes::Bytes::copy_from_slice(&self.text), self.ends.as_slice().into());
        self.clear();
        row
    }

    /// Forgets a row that was not finished.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}
