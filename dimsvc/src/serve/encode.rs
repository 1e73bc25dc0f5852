//! Keys off the wire and answers onto it, columnar or plain.

use super::status::ServeError;
use crate::{cache::Found, live::LiveDimension};
use tidemark_proto::{
    dim::v1::{Answer, KeyBlock, TableAnswers, TableLookup, Tier},
    text::object_columns,
};

const FOUND: u8 = 1;
pub(super) const BEFORE_HISTORY: u8 = 2;

/// The form in which keys came, and in which answers go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'r> {
    /// The text of all keys, and where each of them ends.
    Columnar(&'r str, &'r [u32]),
    Plain(&'r [String]),
}

impl<'r> Form<'r> {
    pub(super) fn of(table: &'r TableLookup) -> Result<Self, ServeError> {
        match &table.keys {
            Some(_) if !table.plain_keys.is_empty() => {
                Err(ServeError::request("tables", "give `keys` or `plain_keys`, not both"))
            }
            Some(KeyBlock { text, ends }) => match std::str::from_utf8(text) {
                Ok(text) => Ok(Self::Columnar(text, ends)),
                Err(_) => Err(ServeError::request("tables.keys", "`text` is not UTF-8")),
            },
            None => Ok(Self::Plain(&table.plain_keys)),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Columnar(_, ends) => ends.len(),
            Self::Plain(keys) => keys.len(),
        }
    }

    /// The text of a key; `None` when the block's ends do not rise within it.
    pub(super) fn key(&self, index: usize) -> Option<&'r str> {
        match self {
            Self::Plain(keys) => keys.get(index).map(String::as_str),
            Self::Columnar(text, ends) => {
                let start = index.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
                let end = *ends.get(index)?;
                text.get(start as usize..end as usize)
            }
        }
    }
}

/// Which columns of a row to return.
#[derive(Debug)]
pub(super) enum Projection {
    All,
    /// In the order asked.
    Columns(Vec<Wanted>),
}

/// A column that is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Its place in the dimension now; rows of another time may differ.
    place: usize,
    /// `"name":`
    label: String,
}

impl Wanted {
    /// Its token in a row; rows from before the column came have none.
    fn token<'r>(&self, columns: &[(&str, &'r str)]) -> &'r str {
        let is_it = |name: &str| self.label.get(1..self.label.len() - 2) == Some(name);
        let there = columns.get(self.place).filter(|(name, _)| is_it(name));
        let token = there.or_else(|| columns.iter().find(|(name, _)| is_it(name)));
        token.map_or("null", |(_, token)| token)
    }
}

impl Projection {
    pub(super) fn of(live: &LiveDimension, columns: &[String]) -> Result<Self, ServeError> {
        let (dimension, kept) = (&live.dimension, live.columns());
        let all = kept.iter().map(|column| &column.name);
        if columns.is_empty() || columns.iter().eq(all) {
            return Ok(Self::All);
        }
        let place = |name: &String| {
            let place =
                kept.iter().position(|column| column.name == *name).ok_or_else(|| ServeError::Invalid {
                    reason: "BAD_COLUMN",
                    field: "tables.columns".into(),
                    message: format!(
                        "dimension `{}` has no column `{name}`; Describe names them",
                        dimension.name
                    ),
                })?;
            let mut label = Vec::new();
            tidemark_proto::text::write_string(&mut label, name);
            Ok(Wanted { place, label: format!("{}:", String::from_utf8_lossy(&label)) })
        };
        columns.iter().map(place).collect::<Result<_, _>>().map(Self::Columns)
    }

    /// Appends the row, or what is asked of it.
    fn write(&self, out: &mut Vec<u8>, row: &[u8]) {
        let Self::Columns(columns) = self else {
            out.extend_from_slice(row);
            return;
        };
        // Images are written by us.
        let text = std::str::from_utf8(row).unwrap_or("{}");
        let held: Vec<_> = object_columns(text).collect();
        for (at, wanted) in columns.iter().enumerate() {
            out.push(if at == 0 { b'{' } else { b',' });
            out.extend_from_slice(wanted.label.as_bytes());
            out.extend_from_slice(wanted.token(&held).as_bytes());
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
        Form::Columnar(..) => columnar(found, projection, before_history),
        Form::Plain(keys) => plain(keys, found, projection, before_history),
    }
}

fn columnar(
    found: &[Found],
    projection: &Projection,
    before_history: impl Fn(usize) -> bool,
) -> TableAnswers {
    let count = found.len();
    let bytes = found.iter().filter_map(|found| found.answer.image()).map(<[u8]>::len).sum();
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
        let image = answer.image();
        if let Some(row) = image {
            projection.write(&mut rows, row);
        }
        answers.row_ends.push(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        answers.versions.push(answer.version().packed());
        answers.froms.push(answer.from.packed());
        answers.tos.push(to(answer));
        let history = if before_history(index) { BEFORE_HISTORY } else { 0 };
        flags.push(history | if image.is_some() { FOUND } else { 0 });
        tiers.push(*tier as u8);
    }
    TableAnswers { rows: rows.into(), flags: flags.into(), tiers: tiers.into(), ..answers }
}

/// An open end is 0 on the wire.
fn to(answer: &crate::cache::Answer) -> u64 {
    if answer.is_open() { 0 } else { answer.to.packed() }
}

fn plain(
    keys: &[String],
    found: &[Found],
    projection: &Projection,
    before_history: impl Fn(usize) -> bool,
) -> TableAnswers {
    let answer = |(index, (key, Found { answer, tier })): (usize, (&String, &Found))| {
        let mut row = Vec::new();
        if let Some(image) = answer.image() {
            projection.write(&mut row, image);
        }
        Answer {
            key: key.clone(),
            found: answer.image().is_some(),
            // Images are JSON that this service wrote.
            row: String::from_utf8(row)
                .unwrap_or_else(|other| String::from_utf8_lossy(other.as_bytes()).into_owned()),
            version: answer.version().packed(),
            version_text: answer.version().to_string(),
            from: answer.from.packed(),
            to: to(answer),
            tier: Tier::try_from(i32::from(*tier as u8)).unwrap_or(Tier::Unspecified).into(),
            before_history: before_history(index),
            ..Answer::default()
        }
    };
    let answers = keys.iter().zip(found).enumerate().map(answer).collect();
    TableAnswers { answers, ..TableAnswers::default() }
}
