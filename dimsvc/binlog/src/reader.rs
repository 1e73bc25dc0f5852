//! A cursor over bytes that never reads past their end.
//!
//! Events, rows and JSON documents are all read through it, so that bytes that
//! are not what they seem end in an error and never in a panic.

use crate::value::Fault;

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Starts over at an offset of other bytes.
    pub(crate) fn at(bytes: &'a [u8], offset: usize) -> Result<Self, Fault> {
        bytes.get(offset..).map(Self::new).ok_or(Fault::Short)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.rest.split_first().ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A little-endian number of at most 8 bytes.
    pub(crate) fn uint_le(&mut self, width: usize) -> Result<u64, Fault> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A big-endian number of at most 8 bytes.
    pub(crate) fn uint_be(&mut self, width: usize) -> Result<u64, Fault> {
        Ok(self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A little-endian two's complement number of 1 to 8 bytes.
    pub(crate) fn int_le(&mut self, width: usize) -> Result<i64, Fault> {
        let shift = 64 - 8 * width.clamp(1, 8);
        Ok((self.uint_le(width)?.cast_signed() << shift) >> shift)
    }

    /// MySQL's length-encoded integer.
    pub(crate) fn packed_uint(&mut self) -> Result<u64, Fault> {
        match self.byte()? {
            small @ 0..=0xfa => Ok(u64::from(small)),
            0xfc => self.uint_le(2),
            0xfd => self.uint_le(3),
            0xfe => self.uint_le(8),
            _ => Err(Fault::Form),
        }
    }

    /// Bytes after their own length, which is `width` bytes wide.
    pub(crate) fn prefixed(&mut self, width: usize) -> Result<&'a [u8], Fault> {
        let length = usize::try_from(self.uint_le(width)?).map_err(|_| Fault::Short)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_orders() {
        let bytes = [0x01, 0x02, 0xff];
        assert_eq!(Reader::new(&bytes).uint_le(3).unwrap(), 0xff_0201);
        assert_eq!(Reader::new(&bytes).uint_be(3).unwrap(), 0x01_02ff);
        assert_eq!(Reader::new(&bytes).int_le(3).unwrap(), -65023);
        assert_eq!(Reader::new(&[0xff; 8]).int_le(8).unwrap(), -1);
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let mut reader = Reader::new(&[3, 1, 2]);
        assert!(matches!(reader.prefixed(1), Err(Fault::Short)));
        assert!(matches!(Reader::at(&[1], 2), Err(Fault::Short)));
    }
}
