//! A ROWS event to row images.

use crate::change::Row;
use crate::reader::Reader;
use crate::schema::MappedTable;
use crate::value::{Fault, RowBuilder, write_stored};
use tidemark_proto::envelope::RowKind;

/// A row before and after its change.
pub type Images = (Option<Row>, Option<Row>);

/// Why the rows of an event cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RowsFault {
    /// The images lack columns: `binlog_row_image` is not FULL.
    Partial,
    /// The event has another number of columns than its table map.
    Columns,
    Value {
        column: String,
        fault: Fault,
    },
    Event(Fault),
}

impl From<Fault> for RowsFault {
    fn from(fault: Fault) -> Self {
        Self::Event(fault)
    }
}

/// The number that ties a ROWS event to its TABLE_MAP; both begin with it.
pub(crate) fn table_id(event: &[u8]) -> Option<u64> {
    Reader::new(event).uint_le(6).ok()
}

/// Decodes the rows of an event of version 2 (MySQL 5.6 and later).
pub(crate) fn decode_rows(
    event: &[u8],
    kind: RowKind,
    mapped: &MappedTable,
) -> Result<Vec<Images>, RowsFault> {
    let mut reader = Reader::new(event);
    reader.take(8)?; // table id, flags
    let extra = usize::try_from(reader.uint_le(2)?).map_err(|_| Fault::Short)?;
    reader.take(extra.saturating_sub(2))?;
    let count = mapped.table.columns.len();
    if reader.packed_uint()? != count as u64 {
        return Err(RowsFault::Columns);
    }
    let image_count = if kind == RowKind::Update { 2 } else { 1 };
    for _ in 0..image_count {
        if !all_set(reader.take(count.div_ceil(8))?, count) {
            return Err(RowsFault::Partial);
        }
    }
    let mut builder = RowBuilder::default();
    let mut rows = Vec::new();
    while !reader.is_empty() {
        let first = read_image(&mut reader, mapped, &mut builder)?;
        rows.push(match kind {
            RowKind::Update => (Some(first), Some(read_image(&mut reader, mapped, &mut builder)?)),
            RowKind::Delete => (Some(first), None),
            RowKind::Insert | RowKind::BootstrapInsert => (None, Some(first)),
        });
    }
    Ok(rows)
}

fn read_image(
    reader: &mut Reader<'_>,
    mapped: &MappedTable,
    builder: &mut RowBuilder,
) -> Result<Row, RowsFault> {
    let columns = &mapped.table.columns;
    let nulls = reader.take(columns.len().div_ceil(8))?;
    for (at, (column, width)) in columns.iter().zip(&mapped.widths).enumerate() {
        let result = if is_set(nulls, at) {
            builder.token().extend_from_slice(b"null");
            Ok(())
        } else {
            write_stored(builder.token(), reader, &column.kind, *width)
        };
        result
            .and_then(|()| builder.end_token())
            .map_err(|fault| RowsFault::Value { column: column.name.clone(), fault })?;
    }
    Ok(builder.finish())
}

fn is_set(bitmap: &[u8], at: usize) -> bool {
    bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

fn all_set(bitmap: &[u8], count: usize) -> bool {
    (0..count).all(|at| is_set(bitmap, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Charset, Column, ColumnKind, Table};
    use std::sync::Arc;

    fn mapped() -> MappedTable {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind };
        let columns = vec![
            column("id", ColumnKind::Integer { unsigned: false, bits: 32 }),
            column("name", ColumnKind::Text { charset: Charset::Utf8, case_insensitive: true }),
        ];
        let table = Table { database: "d".into(), name: "t".into(), columns, primary_key: vec![0] };
        MappedTable { table: Arc::new(table), widths: [4, 1].into() }
    }

    fn event(bitmaps: &[u8], rows: &[u8]) -> Vec<u8> {
        let head: &[u8] = &[9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2];
        [head, bitmaps, rows].concat()
    }

    fn tokens(row: &Row) -> Vec<&str> {
        row.tokens().collect()
    }

    #[test]
    fn an_update_has_both_images() {
        let rows = [0b00, 7, 0, 0, 0, 1, b'a', 0b10, 7, 0, 0, 0];
        let images = decode_rows(&event(&[3, 3], &rows), RowKind::Update, &mapped()).unwrap();
        let [(Some(before), Some(after))] = images.as_slice() else { panic!("{images:?}") };
        assert_eq!(tokens(before), ["7", "\"a\""]);
        assert_eq!(tokens(after), ["7", "null"]);
    }

    #[test]
    fn a_partial_image_is_refused() {
        let result = decode_rows(&event(&[1], &[0, 7, 0, 0, 0]), RowKind::Insert, &mapped());
        assert_eq!(result.unwrap_err(), RowsFault::Partial);
    }

    #[test]
    fn a_torn_row_names_its_column() {
        let result = decode_rows(&event(&[3], &[0, 7, 0, 0, 0, 5, b'a']), RowKind::Delete, &mapped());
        assert_eq!(result.unwrap_err(), RowsFault::Value { column: "name".into(), fault: Fault::Short });
    }

    #[test]
    fn the_table_id_leads_the_event() {
        assert_eq!(table_id(&event(&[3], &[])), Some(9));
        assert_eq!(table_id(&[1, 2]), None);
    }
}
