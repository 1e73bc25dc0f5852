//! Reading a change message without copying it.

use super::RowKind;
use crate::{Position, PositionError};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// One change message. Columns borrow the message's text.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow)]
    pub database: Cow<'a, str>,
    #[serde(borrow)]
    pub table: Cow<'a, str>,
    /// Maxwell's `type`; see [`Envelope::kind`].
    #[serde(borrow, rename = "type")]
    pub event: Cow<'a, str>,
    /// Seconds since 1970, of the event.
    #[serde(default)]
    pub ts: i64,
    #[serde(default)]
    pub xid: Option<u64>,
    /// True on the last row of a transaction.
    #[serde(default)]
    pub commit: bool,
    /// `file:offset`; absent on bootstrap rows.
    #[serde(borrow, default)]
    pub position: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub gtid: Option<Cow<'a, str>>,
    /// The source's life; Maxwell writes none.
    #[serde(default)]
    pub epoch: Option<u64>,
    /// Begin of the transaction, packed.
    #[serde(default)]
    pub tx: Option<u64>,
    /// End of the transaction, packed.
    #[serde(default)]
    pub tx_end: Option<u64>,
    /// This transaction already wrote this key.
    #[serde(default)]
    pub again: bool,
    /// The row after the change; before it for a delete.
    #[serde(borrow, default)]
    pub data: Object<'a>,
    /// Changed columns of an update, with their old values.
    #[serde(borrow, default)]
    pub old: Option<Object<'a>>,
}

/// Why a message cannot be used. Texts are one line, for dead-letter headers.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("not a change message: {0}")]
    Json(#[from] serde_json::Error),
    #[error("bad `position`: {0}")]
    Position(#[from] PositionError),
    #[error("the message has no `position`")]
    NoPosition,
}

impl<'a> Envelope<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is not JSON in UTF-8, or lacks `database`, `table` or `type`.
    pub fn parse(message: &'a [u8]) -> Result<Self, EnvelopeError> {
        Ok(serde_json::from_slice(message)?)
    }

    /// What happened to the row; `None` when the message is not a row.
    pub fn kind(&self) -> Option<RowKind> {
        RowKind::parse(&self.event)
    }

    /// Where the change stands in the binlog, within (begin, end] of its
    /// transaction. A message without `epoch` (Maxwell's) is of `epoch`.
    ///
    /// # Errors
    /// When there is no position (bootstrap rows), or it is malformed.
    pub fn position(&self, epoch: u64) -> Result<Position, EnvelopeError> {
        let text = self.position.as_deref().ok_or(EnvelopeError::NoPosition)?;
        Ok(Position::parse(text, self.epoch.unwrap_or(epoch))?)
    }
}

/// The columns of a row: (name, JSON token) in the order of the message.
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    columns: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Object<'a> {
    /// The column's JSON token (`12.50`, `"abc"`, `null`); `None` when the
    /// message lacks it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.columns.iter().find(|(column, _)| column == name).map(|(_, token)| *token)
    }

    /// All columns.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.columns.iter().map(|(name, token)| (name.as_ref(), *token))
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

/// A name that borrows when it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut columns = Vec::with_capacity(16);
                while let Some((Name(name), token)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    columns.push((name, token.get()));
                }
                Ok(Object { columns })
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Object::default())
            }
        }
        deserializer.deserialize_any(Columns)
    }
}
