//! A TABLE_MAP event to the table that it describes.
//!
//! The event names a table and tells how its rows are stored; with
//! `binlog_row_metadata=FULL` it also has column names, signs, character sets,
//! labels and the primary key, so that rows need no other source to be read.

use crate::change::{Charset, Column, ColumnKind, Table};
use crate::value::decode;
use mysql_async::binlog::events::{OptionalMetaExtractor, OptionalMetadataField, TableMapEvent};
use mysql_async::consts::ColumnType;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A table, and what only the binlog needs to know of its columns.
#[derive(Debug)]
pub(crate) struct MappedTable {
    pub(crate) table: Arc<Table>,
    /// Of each column, as `write_stored` takes it.
    pub(crate) widths: Box<[u8]>,
}

/// Why a table cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SchemaFault {
    /// The event does not have the metadata that `binlog_row_metadata=FULL` adds.
    NoMetadata,
    /// The column has a type or a character set that is not supported.
    Unsupported { column: String, what: String },
    /// The event contradicts itself.
    Malformed(String),
}

/// What the server's collation numbers mean.
#[derive(Debug, Default)]
pub(crate) struct Collations {
    by_id: HashMap<u16, Collation>,
}

#[derive(Debug)]
struct Collation {
    charset: String,
    case_insensitive: bool,
}

const BINARY_COLLATION: u16 = 63;

impl Collations {
    /// From rows of `information_schema.COLLATIONS`: id, name, character set.
    pub(crate) fn new(rows: impl IntoIterator<Item = (u64, String, String)>) -> Self {
        let by_id = rows.into_iter().filter_map(|(id, name, charset)| {
            let case_insensitive = is_case_insensitive(&name);
            Some((u16::try_from(id).ok()?, Collation { charset, case_insensitive }))
        });
        Self { by_id: by_id.collect() }
    }

    fn text(&self, id: u16) -> Result<(Charset, bool), String> {
        let collation = self.by_id.get(&id).ok_or_else(|| format!("collation {id}"))?;
        Ok((supported_charset(&collation.charset)?, collation.case_insensitive))
    }
}

/// Whether a collation takes `a` and `A` for equal.
pub(crate) fn is_case_insensitive(collation: &str) -> bool {
    !collation.split('_').any(|part| part == "bin" || part == "cs")
}

/// The character set of that MySQL name; the error says what is not supported.
pub(crate) fn supported_charset(name: &str) -> Result<Charset, String> {
    Ok(match name {
        "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Charset::Utf8,
        "latin1" => Charset::Latin1,
        "gbk" => Charset::Gbk,
        "utf16" => Charset::Utf16,
        _ => return Err(format!("character set {name}")),
    })
}

impl MappedTable {
    pub(crate) fn new(event: &TableMapEvent<'_>, collations: &Collations) -> Result<Self, SchemaFault> {
        let mut metadata = Metadata::read(event)?;
        let count = usize::try_from(event.columns_count())?;
        if metadata.names.len() != count {
            return Err(SchemaFault::NoMetadata);
        }
        let names = std::mem::take(&mut metadata.names);
        let mut parts = ColumnParts { metadata, collations };
        let (mut columns, mut widths) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (at, name) in names.into_iter().enumerate() {
            let stored = event.get_column_type(at).ok().flatten();
            let settings = event.get_column_metadata(at).unwrap_or_default();
            let (kind, width) = stored
                .ok_or_else(|| String::from("type"))
                .and_then(|stored| parts.next_kind(stored, settings))
                .map_err(|what| SchemaFault::Unsupported { column: name.clone(), what })?;
            columns.push(Column { name, kind });
            widths.push(width);
        }
        let table = Table {
            database: event.database_name().into_owned(),
            name: event.table_name().into_owned(),
            columns,
            primary_key: parts.metadata.primary_key,
        };
        Ok(Self { table: Arc::new(table), widths: widths.into() })
    }
}

impl From<std::io::Error> for SchemaFault {
    fn from(error: std::io::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<std::num::TryFromIntError> for SchemaFault {
    fn from(error: std::num::TryFromIntError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The optional metadata. Columns draw on each list in their own order.
#[derive(Default)]
struct Metadata {
    names: Vec<String>,
    unsigned: VecDeque<bool>,
    text_collations: VecDeque<u16>,
    label_collations: VecDeque<u16>,
    enum_labels: VecDeque<Vec<Vec<u8>>>,
    set_labels: VecDeque<Vec<Vec<u8>>>,
    primary_key: Vec<usize>,
}

impl Metadata {
    fn read(event: &TableMapEvent<'_>) -> Result<Self, SchemaFault> {
        let parts = OptionalMetaExtractor::new(event.iter_optional_meta())?;
        // Default character sets are without end: there is one a column at most.
        let count = usize::try_from(event.columns_count())?;
        let mut metadata = Self { unsigned: parts.iter_signedness().collect(), ..Self::default() };
        for name in parts.iter_column_name() {
            metadata.names.push(name?.name().into_owned());
        }
        for id in parts.iter_charset().take(count) {
            metadata.text_collations.push_back(id?);
        }
        for id in parts.iter_enum_and_set_charset().take(count) {
            metadata.label_collations.push_back(id?);
        }
        for index in parts.iter_primary_key() {
            metadata.primary_key.push(usize::try_from(index?)?);
        }
        metadata.read_labels(event)?;
        Ok(metadata)
    }

    fn read_labels(&mut self, event: &TableMapEvent<'_>) -> Result<(), SchemaFault> {
        for field in event.iter_optional_meta() {
            match field? {
                OptionalMetadataField::EnumStrValue(columns) => {
                    for column in columns.iter_values() {
                        let labels = column?;
                        self.enum_labels.push_back(
                            labels.values().iter().map(|label| label.value_raw().to_vec()).collect(),
                        );
                    }
                }
                OptionalMetadataField::SetStrValue(columns) => {
                    for column in columns.iter_values() {
                        let labels = column?;
                        self.set_labels.push_back(
                            labels.values().iter().map(|label| label.value_raw().to_vec()).collect(),
                        );
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Puts kinds of columns together, column by column.
struct ColumnParts<'a> {
    metadata: Metadata,
    collations: &'a Collations,
}

impl ColumnParts<'_> {
    /// The kind and width of the next column; the error says what of it is not
    /// supported.
    fn next_kind(&mut self, stored: ColumnType, settings: &[u8]) -> Result<(ColumnKind, u8), String> {
        use ColumnType as T;
        let unsigned = stored.is_numeric_type() && self.metadata.unsigned.pop_front().unwrap_or(false);
        let setting = |at: usize| settings.get(at).copied().unwrap_or(0);
        let digits = setting(0);
        let integer = |bits| (ColumnKind::Integer { unsigned, bits }, bits / 8);
        Ok(match stored {
            T::MYSQL_TYPE_TINY => integer(8),
            T::MYSQL_TYPE_SHORT => integer(16),
            T::MYSQL_TYPE_INT24 => integer(24),
            T::MYSQL_TYPE_LONG => integer(32),
            T::MYSQL_TYPE_LONGLONG => integer(64),
            T::MYSQL_TYPE_FLOAT => (ColumnKind::Float, 4),
            T::MYSQL_TYPE_DOUBLE => (ColumnKind::Double, 8),
            T::MYSQL_TYPE_NEWDECIMAL => (ColumnKind::Decimal { precision: setting(0), scale: setting(1) }, 0),
            T::MYSQL_TYPE_NEWDATE => (ColumnKind::Date, 3),
            T::MYSQL_TYPE_DATETIME2 => (ColumnKind::DateTime { digits }, 0),
            T::MYSQL_TYPE_TIMESTAMP2 => (ColumnKind::Timestamp { digits }, 0),
            T::MYSQL_TYPE_TIME2 => (ColumnKind::Time { digits }, 0),
            T::MYSQL_TYPE_YEAR => (ColumnKind::Year, 1),
            T::MYSQL_TYPE_JSON => (ColumnKind::Json, setting(0)),
            T::MYSQL_TYPE_BIT => {
                let bits = setting(1).saturating_mul(8).saturating_add(setting(0));
                (ColumnKind::Bit { bits }, bits.div_ceil(8))
            }
            T::MYSQL_TYPE_VARCHAR | T::MYSQL_TYPE_VAR_STRING => {
                let length = u16::from_le_bytes([setting(0), setting(1)]);
                (self.text(None)?, prefix_width(length))
            }
            T::MYSQL_TYPE_STRING => {
                let length = fixed_length(setting(0), setting(1));
                (self.text(Some(length))?, prefix_width(length))
            }
            T::MYSQL_TYPE_BLOB => (self.text(None)?, setting(0)),
            T::MYSQL_TYPE_ENUM => (ColumnKind::Enum { labels: self.labels(stored)? }, setting(1)),
            T::MYSQL_TYPE_SET => (ColumnKind::Set { labels: self.labels(stored)? }, setting(1)),
            other => return Err(format!("type {other:?}").replace("MYSQL_TYPE_", "")),
        })
    }

    /// Text, or bytes where the collation is `binary`.
    fn text(&mut self, fixed: Option<u16>) -> Result<ColumnKind, String> {
        match self.metadata.text_collations.pop_front() {
            Some(BINARY_COLLATION) => Ok(ColumnKind::Binary { fixed }),
            Some(id) => {
                let (charset, case_insensitive) = self.collations.text(id)?;
                Ok(ColumnKind::Text { charset, case_insensitive })
            }
            None => Err(String::from("unknown character set")),
        }
    }

    fn labels(&mut self, stored: ColumnType) -> Result<Arc<[String]>, String> {
        let lists = match stored {
            ColumnType::MYSQL_TYPE_ENUM => &mut self.metadata.enum_labels,
            _ => &mut self.metadata.set_labels,
        };
        let labels = lists.pop_front().ok_or("unknown labels")?;
        let charset = match self.metadata.label_collations.pop_front() {
            Some(BINARY_COLLATION) => Charset::Utf8,
            Some(id) => self.collations.text(id)?.0,
            None => return Err(String::from("unknown character set")),
        };
        let decoded = labels.iter().map(|label| decode(label, charset).map(|text| text.into_owned()));
        decoded.collect::<Result<_, _>>().map_err(|fault| format!("label: {fault}"))
    }
}

/// CHAR and BINARY keep two high bits of their length, inverted, in the byte
/// that holds their type.
fn fixed_length(first: u8, second: u8) -> u16 {
    let high = u16::from((first & 0x30) ^ 0x30) << 4;
    high | u16::from(second)
}

/// Lengths up to 255 bytes are stored before the value in one byte.
fn prefix_width(length: u16) -> u8 {
    if length < 256 { 1 } else { 2 }
}
