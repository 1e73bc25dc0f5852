//! RowBinary, ClickHouse's plainest format: values one after another in column
//! order, little-endian, nothing between them.
//!
//! Only the types that servers since 18.16 have and the layers store. A value
//! has one encoding, so equal values are equal bytes: encoded keys serve as
//! keys of hash maps.

use std::fmt;

/// The type of a column that is not Nullable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    UInt8,
    Int32,
    Int64,
    UInt64,
    Float64,
    /// At most 18 digits, the given number of them after the point.
    Decimal64(u32),
    /// At most 38 digits.
    Decimal128(u32),
    String,
    Date,
    /// Seconds, shown in UTC.
    DateTime,
}

/// A value, in the form that comparing and adding need.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Also unscaled decimals, days of a Date and seconds of a DateTime.
    Integer(i128),
    Float(f64),
    Text(Box<str>),
}

/// A value that its column cannot hold.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{value} does not fit {column}")]
pub struct DoesNotFit {
    value: String,
    column: ColumnType,
}

const DECIMAL_64_MAX: i128 = 10i128.pow(18) - 1;
const DECIMAL_128_MAX: i128 = 10i128.pow(38) - 1;

impl ColumnType {
    /// Whether the value can be stored.
    pub fn holds(self, value: &Scalar) -> bool {
        let (low, high) = match (self, value) {
            (Self::Float64, Scalar::Float(_)) | (Self::String, Scalar::Text(_)) => return true,
            (Self::UInt8, Scalar::Integer(_)) => (0, i128::from(u8::MAX)),
            (Self::Int32, Scalar::Integer(_)) => (i128::from(i32::MIN), i128::from(i32::MAX)),
            (Self::Int64, Scalar::Integer(_)) => (i128::from(i64::MIN), i128::from(i64::MAX)),
            (Self::UInt64, Scalar::Integer(_)) => (0, i128::from(u64::MAX)),
            (Self::Decimal64(_), Scalar::Integer(_)) => (-DECIMAL_64_MAX, DECIMAL_64_MAX),
            (Self::Decimal128(_), Scalar::Integer(_)) => (-DECIMAL_128_MAX, DECIMAL_128_MAX),
            (Self::Date, Scalar::Integer(_)) => (0, i128::from(u16::MAX)),
            (Self::DateTime, Scalar::Integer(_)) => (0, i128::from(u32::MAX)),
            _ => return false,
        };
        matches!(value, Scalar::Integer(number) if (low..=high).contains(number))
    }

    /// Appends the value.
    ///
    /// # Errors
    /// When the column cannot hold it.
    pub fn write(self, out: &mut Vec<u8>, value: &Scalar) -> Result<(), DoesNotFit> {
        if !self.holds(value) {
            return Err(DoesNotFit { value: value.to_string(), column: self });
        }
        match value {
            Scalar::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
            Scalar::Text(text) => {
                write_length(out, text.len());
                out.extend_from_slice(text.as_bytes());
            }
            Scalar::Integer(number) => {
                // Two's complement: the low bytes of the number are the number,
                // as it is within the column's bounds.
                let bytes = number.to_le_bytes();
                out.extend_from_slice(bytes.get(..self.width()).unwrap_or(&bytes));
            }
        }
        Ok(())
    }

    /// Appends a value of a Nullable column.
    ///
    /// # Errors
    /// When the column cannot hold it.
    pub fn write_nullable(self, out: &mut Vec<u8>, value: Option<&Scalar>) -> Result<(), DoesNotFit> {
        let Some(value) = value else {
            out.push(1);
            return Ok(());
        };
        out.push(0);
        self.write(out, value)
    }

    /// Appends the value that stands for nothing: zero or the empty text.
    pub fn write_default(self, out: &mut Vec<u8>) {
        // The length of an empty text is one zero byte.
        let width = if self == Self::String { 1 } else { self.width() };
        out.extend(std::iter::repeat_n(0, width));
    }

    fn width(self) -> usize {
        match self {
            Self::UInt8 => 1,
            Self::Date => 2,
            Self::Int32 | Self::DateTime => 4,
            Self::Int64 | Self::UInt64 | Self::Float64 | Self::Decimal64(_) => 8,
            Self::Decimal128(_) => 16,
            Self::String => 0,
        }
    }

    const fn is_signed(self) -> bool {
        matches!(self, Self::Int32 | Self::Int64 | Self::Decimal64(_) | Self::Decimal128(_))
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal64(scale) => write!(f, "Decimal(18, {scale})"),
            Self::Decimal128(scale) => write!(f, "Decimal(38, {scale})"),
            Self::DateTime => f.write_str("DateTime('UTC')"),
            plain => write!(f, "{plain:?}"),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Reads values back. `None` is the end, or bytes that are no such value.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads a value.
    pub fn read(&mut self, column: ColumnType) -> Option<Scalar> {
        match column {
            ColumnType::Float64 => Some(Scalar::Float(f64::from_le_bytes(self.take(8)?.try_into().ok()?))),
            ColumnType::String => {
                let length = self.read_length()?;
                Some(Scalar::Text(std::str::from_utf8(self.take(length)?).ok()?.into()))
            }
            _ => {
                let bytes = self.take(column.width())?;
                let negative = column.is_signed() && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 16];
                wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
                Some(Scalar::Integer(i128::from_le_bytes(wide)))
            }
        }
    }

    /// Reads a value of a Nullable column.
    pub fn read_nullable(&mut self, column: ColumnType) -> Option<Option<Scalar>> {
        match self.take(1)? {
            [0] => self.read(column).map(Some),
            _ => Some(None),
        }
    }

    /// Reads a value that is a whole number.
    pub fn read_integer(&mut self, column: ColumnType) -> Option<i128> {
        match self.read(column)? {
            Scalar::Integer(number) => Some(number),
            Scalar::Float(_) | Scalar::Text(_) => None,
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn read_length(&mut self) -> Option<usize> {
        let mut length = 0usize;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = *self.take(1)?.first()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }
}

/// A length as LEB128: seven bits a byte, the low ones first.
fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(column: ColumnType, value: &Scalar) -> Vec<u8> {
        let mut out = Vec::new();
        column.write(&mut out, value).unwrap();
        out
    }

    #[test]
    fn bytes_are_clickhouses() {
        use ColumnType::*;
        // From `SELECT … FORMAT RowBinary` of a server.
        let cases: [(ColumnType, i128, &[u8]); 10] = [
            (UInt8, 200, &[200]),
            (Int32, -2, &[0xfe, 0xff, 0xff, 0xff]),
            (Int64, -5, &[0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (UInt64, i128::from(u64::MAX), &[0xff; 8]),
            (Decimal64(2), 1230, &[0xce, 4, 0, 0, 0, 0, 0, 0]),
            (Decimal128(2), 1230, &[0xce, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Decimal128(0), -1, &[0xff; 16]),
            (Date, 19_724, &[0x0c, 0x4d]),
            (DateTime, 1_704_067_200, &[0x80, 0x00, 0x92, 0x65]),
            (DateTime, 0, &[0, 0, 0, 0]),
        ];
        for (column, number, expect) in cases {
            assert_eq!(encoded(column, &Scalar::Integer(number)), expect, "{column} {number}");
        }
        assert_eq!(encoded(String, &Scalar::Text("añ".into())), [3, b'a', 0xc3, 0xb1]);
        assert_eq!(encoded(Float64, &Scalar::Float(1.5)), [0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
    }

    #[test]
    fn a_nullable_value_has_a_flag_before_it() {
        let mut out = Vec::new();
        ColumnType::UInt8.write_nullable(&mut out, Some(&Scalar::Integer(7))).unwrap();
        ColumnType::UInt8.write_nullable(&mut out, None).unwrap();
        assert_eq!(out, [0, 7, 1]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_column() {
        use ColumnType::*;
        let number = Scalar::Integer;
        let cases = [
            (Date, number(65_536)),
            (DateTime, number(-1)),
            (Int64, number(1 << 63)),
            (UInt64, number(-1)),
            (Decimal64(4), number(10i128.pow(18))),
            (Decimal128(2), number(10i128.pow(38))),
            (Int64, Scalar::Text("1".into())),
            (String, number(1)),
        ];
        for (column, value) in cases {
            let mut out = Vec::new();
            let error = column.write(&mut out, &value).unwrap_err().to_string();
            assert!(error.ends_with(&format!("does not fit {column}")), "{error}");
            assert!(out.is_empty());
        }
    }

    #[test]
    fn the_default_reads_as_nothing() {
        for (column, expect) in
            [(ColumnType::String, Scalar::Text("".into())), (ColumnType::Date, Scalar::Integer(0))]
        {
            let mut out = Vec::new();
            column.write_default(&mut out);
            assert_eq!(Reader::new(&out).read(column), Some(expect));
        }
    }

    proptest! {
        #[test]
        fn values_read_back(number in any::<i128>(), text in any::<std::string::String>(), float in -1e300..1e300f64) {
            use ColumnType::*;
            let columns = [UInt8, Int32, Int64, UInt64, Decimal64(3), Decimal128(9), Date, DateTime, String, Float64];
            let narrow = [number, i128::from(number as i64), i128::from(number as u32), i128::from(number as u8)];
            let values = narrow.map(Scalar::Integer).into_iter().chain([Scalar::Text(text.into()), Scalar::Float(float)]);
            for value in values {
                for column in columns.into_iter().filter(|column| column.holds(&value)) {
                    let bytes = encoded(column, &value);
                    let mut reader = Reader::new(&bytes);
                    prop_assert_eq!(reader.read(column), Some(value.clone()));
                    prop_assert!(reader.is_empty());
                }
            }
        }

        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new(&bytes);
            while reader.read_nullable(ColumnType::String).is_some() && reader.read(ColumnType::Decimal128(0)).is_some() {}
        }
    }
}
