//! The wire form of a lookup: columnar keys out, columnar rows in.

use super::{Answer, LookupError, TableQuery};
use crate::warehouse::plan::JoinRead;
use tidemark_proto::{Position, dim::v1};

/// Bits of `TableAnswers.flags`.
const FOUND: u8 = 1;
const BEFORE_HISTORY: u8 = 2;

/// One key of one table at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Index into the batch's queries.
    pub(super) table: usize,
    pub(super) key: u32,
    pub(super) position: Position,
}

/// The request for a run of keys; those of a table stand together.
pub(super) fn build(tables: &[TableQuery], part: &[Wanted], read: JoinRead) -> v1::LookupRequest {
    let mut lookups: Vec<v1::TableLookup> = Vec::new();
    for of_table in part.chunk_by(|a, b| a.table == b.table) {
        let Some(query) = of_table.first().and_then(|wanted| tables.get(wanted.table)) else { continue };
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(of_table.len());
        for wanted in of_table {
            text.extend_from_slice(query.key_text(wanted.key));
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        let positions = match read {
            JoinRead::AsOfRow => of_table.iter().map(|wanted| wanted.position.packed()).collect(),
            JoinRead::Latest => Vec::new(),
        };
        lookups.push(v1::TableLookup {
            table: query.table.as_ref().to_owned(),
            keys: Some(v1::KeyBlock { text: text.into(), ends }),
            plain_keys: Vec::new(),
            positions,
            columns: query.columns.to_vec(),
            index: String::new(),
        });
    }
    let point = match read {
        JoinRead::AsOfRow => v1::read_point::Point::AsOfEach(v1::AsOfEach {}),
        JoinRead::Latest => v1::read_point::Point::Latest(v1::Latest {}),
    };
    v1::LookupRequest {
        id: 0,
        tables: lookups,
        read_point: Some(v1::ReadPoint { point: Some(point) }),
        ..Default::default()
    }
}

/// The place in `part` of a key that the service named by its table and its
/// index there; `None` when that leaves a doubt.
pub(super) fn place(tables: &[TableQuery], part: &[Wanted], named: (&str, usize)) -> Option<usize> {
    let (name, index) = named;
    let mut start = 0;
    let mut found = None;
    for of_table in part.chunk_by(|a, b| a.table == b.table) {
        let query = of_table.first().and_then(|wanted| tables.get(wanted.table))?;
        if query.table.as_ref() == name {
            // The same table may be asked twice, for other columns.
            if found.is_some() || index >= of_table.len() {
                return None;
            }
            found = Some(start + index);
        }
        start += of_table.len();
    }
    found
}

/// Answers of one call, in the order of its keys.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) answers: Vec<Answer>,
    pub(super) before_history: u64,
}

/// Takes a response apart. Nothing is believed that does not fit the question.
pub(super) fn decode(response: v1::LookupResponse, part: &[Wanted]) -> Result<Decoded, LookupError> {
    let applied = Position::from_packed(response.applied);
    let mut decoded = Decoded { answers: Vec::with_capacity(part.len()), before_history: 0 };
    let mut tables = response.tables.into_iter();
    for of_table in part.chunk_by(|a, b| a.table == b.table) {
        let table = tables.next().ok_or(LookupError::Malformed("a table is missing"))?;
        decode_table(&table, of_table.len(), applied, &mut decoded)?;
    }
    match tables.next() {
        Some(_) => Err(LookupError::Malformed("there are more tables than were asked")),
        None => Ok(decoded),
    }
}

fn decode_table(
    table: &v1::TableAnswers,
    keys: usize,
    applied: Position,
    decoded: &mut Decoded,
) -> Result<(), LookupError> {
    let counts = [table.row_ends.len(), table.froms.len(), table.tos.len(), table.flags.len()];
    if counts.iter().any(|count| *count != keys) {
        return Err(LookupError::Malformed("there are more or fewer answers than keys"));
    }
    let mut start = 0;
    let spans = table.froms.iter().zip(&table.tos);
    for ((end, flags), (from, to)) in table.row_ends.iter().zip(table.flags.iter()).zip(spans) {
        let end = *end as usize;
        if end < start || end > table.rows.len() {
            return Err(LookupError::Malformed("a row lies outside of the answer"));
        }
        let row = (flags & FOUND != 0).then(|| table.rows.slice(start..end));
        start = end;
        decoded.before_history += u64::from(flags & BEFORE_HISTORY != 0);
        // An open end is right up to what the service had applied, no further.
        let to = if *to == 0 { applied } else { Position::from_packed(*to) };
        decoded.answers.push(Answer::Row { row, from: Position::from_packed(*from), to });
    }
    Ok(())
}
