//! Keys off the wire and answers onto it, columnar or plain.

use super::status::ServeError;
use crate::{cache::Found, registry::Dimension};
use bytes::Bytes;
use tidemark_proto::{
    dim::v1::{Answer, KeyBlock, TableAnswers, TableLookup, Tier},
    text::object_columns,
};

const FOUND: u8 = 1;
const BEFORE_HISTORY: u8 = 2;

/// The form in which keys came, and in which answers go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'r> {
    Columnar(&'r KeyBlock),
    Plain(&'r [String]),
}

impl<'r> Form<'r> {
    pub(super) fn of(table: &'r TableLookup) -> Result<Self, ServeError> {
        match &table.keys {
            Some(_) if !table.plain_keys.is_empty() => {
                Err(ServeError::request("tables", "give `keys` or `plain_keys`, not both"))
            }
            Some(keys) => Ok(Self::Columnar(keys)),
            None => Ok(Self::Plain(&table.plain_keys)),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Columnar(keys) => keys.ends.len(),
            Self::Plain(keys) => keys.len(),
        }
    }

    /// The text of a key; `None` when the block's ends do not rise within it.
    pub(super) fn key(&self, index: usize) -> Option<&'r str> {
        match self {
            Self::Plain(keys) => keys.get(index).map(String::as_str),
            Self::Columnar(keys) => {
                let start = index.checked_sub(1).map_or(Some(0), |before| keys.ends.get(before).copied())?;
                let end = *keys.ends.get(index)?;
                std::str::from_utf8(keys.text.get(start as usize..end as usize)?).ok()
            }
        }
    }
}

/// Which columns of a row to return.
#[derive(Debug)]
pub(super) enum Projection {
    All,
    /// Their places in the dimension, in the order asked, and their labels.
    Columns(Vec<(usize, String)>),
}

impl Projection {
    pub(super) fn of(dimension: &Dimension, columns: &[String]) -> Result<Self, ServeError> {
        let all = dimension.columns.iter().map(|column| &column.name);
        if columns.is_empty() || columns.iter().eq(all) {
            return Ok(Self::All);
        }
        let place = |name: &String| {
            let place = dimension.column(name).ok_or_else(|| ServeError::Invalid {
                reason: "BAD_COLUMN",
                field: "tables.columns".into(),
                message: format!(
                    "dimension `{}` has no column `{name}`; Describe names them",
                    dimension.name
                ),
            })?;
            let mut label = Vec::new();
            tidemark_proto::text::write_string(&mut label, name);
            Ok((place, format!("{}:", String::from_utf8_lossy(&label))))
        };
        columns.iter().map(place).collect::<Result<_, _>>().map(Self::Columns)
    }

    /// Appends the row, or what is asked of it.
    fn write(&self, out: &mut Vec<u8>, row: &Bytes) {
        let Self::Columns(columns) = self else {
            out.extend_from_slice(row);
            return;
        };
        // Images are written by us, columns in the dimension's order.
        let text = std::str::from_utf8(row).unwrap_or("{}");
        let tokens: Vec<&str> = object_columns(text).map(|(_, token)| token).collect();
        for (at, (place, label)) in columns.iter().enumerate() {
            out.push(if at == 0 { b'{' } else { b',' });
            out.extend_from_slice(label.as_bytes());
            out.extend_from_slice(tokens.get(*place).copied().unwrap_or("null").as_bytes());
        }
        out.push(b'}');
    }
}

/// Encodes the answers of one table.
pub(super) fn encode(
    form: &Form<'_>,
    found: &[Found],
    projection: &Projection,
    before_history: impl Fn(usize) -> bool,
) -> TableAnswers {
    match form {
        Form::Columnar(_) => columnar(found, projection, before_history),
        Form::Plain(keys) => plain(keys, found, projection, before_history),
    }
}

fn columnar(
    found: &[Found],
    projection: &Projection,
    before_history: impl Fn(usize) -> bool,
) -> TableAnswers {
    let count = found.len();
    let bytes = found.iter().map(|found| found.answer.image.as_ref().map_or(0, Bytes::len)).sum();
    let mut rows = Vec::with_capacity(bytes);
    let mut flags = Vec::with_capacity(count);
    let mut tiers = Vec::with_capacity(count);
    let mut answers = TableAnswers {
        row_ends: Vec::with_capacity(count),
        versions: Vec::with_capacity(count),
        froms: Vec::with_capacity(count),
        tos: Vec::with_capacity(count),
        ..TableAnswers::default()
    };
    for (index, Found { answer, tier }) in found.iter().enumerate() {
        if let Some(row) = &answer.image {
            projection.write(&mut rows, row);
        }
        answers.row_ends.push(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        answers.versions.push(answer.version.packed());
        answers.froms.push(answer.from.packed());
        answers.tos.push(answer.to.map_or(0, |to| to.packed()));
        let history = if before_history(index) { BEFORE_HISTORY } else { 0 };
        flags.push(history | if answer.image.is_some() { FOUND } else { 0 });
        tiers.push(*tier as u8);
    }
    TableAnswers { rows: rows.into(), flags: flags.into(), tiers: tiers.into(), ..answers }
}

fn plain(
    keys: &[String],
    found: &[Found],
    projection: &Projection,
    before_history: impl Fn(usize) -> bool,
) -> TableAnswers {
    let answer = |(index, (key, Found { answer, tier })): (usize, (&String, &Found))| {
        let mut row = Vec::new();
        if let Some(image) = &answer.image {
            projection.write(&mut row, image);
        }
        Answer {
            key: key.clone(),
            found: answer.image.is_some(),
            row: String::from_utf8_lossy(&row).into_owned(),
            version: answer.version.packed(),
            version_text: answer.version.to_string(),
            from: answer.from.packed(),
            to: answer.to.map_or(0, |to| to.packed()),
            tier: Tier::try_from(i32::from(*tier as u8)).unwrap_or(Tier::Unspecified).into(),
            before_history: before_history(index),
        }
    };
    let answers = keys.iter().zip(found).enumerate().map(answer).collect();
    TableAnswers { answers, ..TableAnswers::default() }
}
