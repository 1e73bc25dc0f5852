//! The types of plans, from the types of MySQL's columns.
//!
//! [`Catalog`] knows the real tables; the plans' columns are looked up in it,
//! and every expression gets a type. ClickHouse tables are made from these,
//! and `check --connect` finds here what the folder alone cannot tell: unknown
//! tables and columns, joins and comparisons of unlike types.

mod catalog;
mod derive;
mod infer;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, CatalogError};
pub use derive::{DwsTypes, WarehouseTypes, dwd_types, dws_types};

use std::fmt;

/// A type, as the warehouse sees it: what a JSON token of it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlType {
    Integer {
        unsigned: bool,
        bits: u8,
    },
    Decimal {
        precision: u32,
        scale: u32,
    },
    Double,
    Date,
    Time,
    /// DATETIME and TIMESTAMP, with so many digits of a second's fraction.
    DateTime {
        fraction: u8,
    },
    /// Characters, ENUM and geometry, as text.
    Text,
    /// Binary columns, which travel in base64.
    Bytes,
    /// JSON and SET: an object or an array.
    Json,
    Bool,
}

/// A type and whether it can be NULL.
pub type Typed = (SqlType, bool);

impl SqlType {
    /// Signed 64 bits: the type of row counts and of CAST AS BIGINT.
    pub const BIGINT: Self = Self::Integer { unsigned: false, bits: 64 };

    /// Reads a type as `information_schema.columns.column_type` writes it:
    /// `bigint unsigned`, `decimal(16,2)`, `datetime(3)`. `None` when MySQL
    /// has a type that this does not know.
    pub fn parse(column_type: &str) -> Option<Self> {
        let lower = column_type.to_lowercase();
        let (head, unsigned) =
            (lower.split([' ', '(']).next().unwrap_or_default(), lower.contains("unsigned"));
        let inner =
            lower.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inner, _)| inner);
        let mut numbers = inner.split(',').map(|number| number.trim().parse::<u32>().ok());
        let first = numbers.next().flatten();
        let integer = |bits| Some(Self::Integer { unsigned, bits });
        match head {
            "tinyint" => integer(8),
            "smallint" => integer(16),
            "mediumint" => integer(24),
            "int" | "integer" => integer(32),
            "bigint" => integer(64),
            "year" => Some(Self::Integer { unsigned: true, bits: 16 }),
            "bit" => Some(Self::Integer { unsigned: true, bits: 64 }),
            "decimal" | "numeric" => {
                let (precision, scale) = (first.unwrap_or(10), numbers.next().flatten().unwrap_or(0));
                Some(Self::Decimal { precision, scale })
            }
            "float" | "double" | "real" => Some(Self::Double),
            "date" => Some(Self::Date),
            "time" => Some(Self::Time),
            "datetime" | "timestamp" => Some(Self::DateTime {
                fraction: first.and_then(|digits| u8::try_from(digits).ok()).unwrap_or(0),
            }),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" => Some(Self::Text),
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" | "uuid" | "inet4" | "inet6" => {
                Some(Self::Text)
            }
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Some(Self::Bytes),
            "json" | "set" => Some(Self::Json),
            _ => None,
        }
    }

    pub(crate) const fn is_number(self) -> bool {
        matches!(self, Self::Integer { .. } | Self::Decimal { .. } | Self::Double | Self::Bool)
    }

    /// Whether values of the two types compare: as numbers, or as text of one
    /// form. Base64 compares only with base64, a date only with a date or text.
    pub(crate) fn compares_with(self, other: Self) -> bool {
        let text = |side| matches!(side, Self::Text | Self::Date | Self::Time | Self::DateTime { .. });
        match (self, other) {
            (Self::Json, _) | (_, Self::Json) => false,
            (Self::Text, other) | (other, Self::Text) => text(other),
            _ => self == other || self.is_number() && other.is_number(),
        }
    }

    /// Whether a value of this type can be a key column of the other: besides
    /// comparing, numbers must be written alike.
    pub(crate) fn is_key_of(self, column: Self) -> bool {
        match (self, column) {
            (Self::Integer { .. }, Self::Integer { .. }) => true,
            (Self::Decimal { scale, .. }, Self::Decimal { scale: wanted, .. }) => scale == wanted,
            _ => self == column || !self.is_number() && self.compares_with(column),
        }
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { unsigned, bits } => {
                let name = match bits {
                    8 => "TINYINT",
                    16 => "SMALLINT",
                    24 => "MEDIUMINT",
                    32 => "INT",
                    _ => "BIGINT",
                };
                write!(f, "{name}{}", if *unsigned { " UNSIGNED" } else { "" })
            }
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Date => f.write_str("DATE"),
            Self::Time => f.write_str("TIME"),
            Self::DateTime { fraction: 0 } => f.write_str("DATETIME"),
            Self::DateTime { fraction } => write!(f, "DATETIME({fraction})"),
            Self::Text => f.write_str("VARCHAR"),
            Self::Bytes => f.write_str("VARBINARY"),
            Self::Json => f.write_str("JSON"),
            Self::Bool => f.write_str("BOOLEAN"),
        }
    }
}
