//! A place in the binlog, packed so that it compares as an integer.

use std::fmt;

const OFFSET_BITS: u32 = 32;
const FILE_BITS: u32 = 20;
const EPOCH_BITS: u32 = 11;

/// A place in the binlog: `epoch:11 | file number:20 | offset:32`, top bit 0.
///
/// The epoch is one life of one source server, the file number the numeric
/// suffix of the binlog file. Positions of one source compare as integers, and
/// fit a signed 64-bit cell timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

/// A place that cannot be a [`Position`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// The epoch does not fit 11 bits.
    #[error("epoch {0} is over {max}", max = Position::EPOCH_MAX)]
    Epoch(u64),
    /// The file number does not fit 20 bits.
    #[error("binlog file number {0} is over {max}", max = Position::FILE_MAX)]
    File(u64),
    /// The offset does not fit 32 bits: positions stop at 4 GiB.
    #[error("binlog offset {0} is over 4 GiB: keep max_binlog_size at 1 GiB and transactions below 3 GiB")]
    Offset(u64),
    /// Text that is not `file.number:offset`.
    #[error("`{0}` is not a position: write it as binlog.000012:3456")]
    Text(String),
}

impl Position {
    /// The greatest epoch.
    pub const EPOCH_MAX: u64 = (1 << EPOCH_BITS) - 1;
    /// The greatest file number.
    pub const FILE_MAX: u64 = (1 << FILE_BITS) - 1;
    /// The greatest offset.
    pub const OFFSET_MAX: u64 = (1 << OFFSET_BITS) - 1;
    /// Before every position.
    pub const ZERO: Self = Self(0);
    /// After every position.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Packs a place.
    ///
    /// # Errors
    /// When a part does not fit its bits.
    pub const fn try_new(epoch: u64, file: u64, offset: u64) -> Result<Self, PositionError> {
        if epoch > Self::EPOCH_MAX {
            return Err(PositionError::Epoch(epoch));
        }
        if file > Self::FILE_MAX {
            return Err(PositionError::File(file));
        }
        if offset > Self::OFFSET_MAX {
            return Err(PositionError::Offset(offset));
        }
        Ok(Self(epoch << (FILE_BITS + OFFSET_BITS) | file << OFFSET_BITS | offset))
    }

    /// Reads a packed position; the top bit is dropped.
    pub const fn from_packed(packed: u64) -> Self {
        Self(packed & Self::MAX.0)
    }

    /// The packed form.
    pub const fn packed(self) -> u64 {
        self.0
    }

    /// The life of the source server.
    pub const fn epoch(self) -> u64 {
        self.0 >> (FILE_BITS + OFFSET_BITS)
    }

    /// The binlog file's number.
    pub const fn file(self) -> u64 {
        (self.0 >> OFFSET_BITS) & Self::FILE_MAX
    }

    /// The byte offset in that file.
    pub const fn offset(self) -> u64 {
        self.0 & Self::OFFSET_MAX
    }

    /// The greatest position below this one; [`Position::ZERO`] has none below.
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The position just after this one.
    pub const fn after(self) -> Self {
        Self::from_packed(if self.0 == Self::MAX.0 { self.0 } else { self.0 + 1 })
    }

    /// Reads `binlog.000012:3456` (or `000012:3456`, `12:3456`) in an epoch.
    ///
    /// # Errors
    /// When the text has another form or a part does not fit.
    pub fn parse(text: &str, epoch: u64) -> Result<Self, PositionError> {
        let malformed = || PositionError::Text(text.to_owned());
        let (file, offset) = text.rsplit_once(':').ok_or_else(malformed)?;
        let offset = offset.parse().map_err(|_| malformed())?;
        Self::try_new(epoch, Self::file_number(file)?, offset)
    }

    /// The numeric suffix of a binlog file name.
    ///
    /// # Errors
    /// When the name does not end in digits, or they do not fit.
    pub fn file_number(name: &str) -> Result<u64, PositionError> {
        let digits = name.rsplit_once('.').map_or(name, |(_, suffix)| suffix);
        digits.parse().map_err(|_| PositionError::Text(name.to_owned()))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:06}:{}", self.epoch(), self.file(), self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_keeps_every_part_and_the_order(
            a in (0..=Position::EPOCH_MAX, 0..=Position::FILE_MAX, 0..=Position::OFFSET_MAX),
            b in (0..=Position::EPOCH_MAX, 0..=Position::FILE_MAX, 0..=Position::OFFSET_MAX),
        ) {
            let pack = |(e, f, o)| Position::try_new(e, f, o).unwrap();
            let packed = pack(a);
            prop_assert_eq!((packed.epoch(), packed.file(), packed.offset()), a);
            prop_assert_eq!(pack(a).cmp(&pack(b)), a.cmp(&b));
            prop_assert!(i64::try_from(packed.packed()).is_ok());
        }

        #[test]
        fn neighbours_are_one_apart_and_every_form_reads_back(
            packed in prop_oneof![Just(0), Just(Position::MAX.packed()), 0..=Position::MAX.packed()],
        ) {
            let position = Position::from_packed(packed);
            prop_assert_eq!(position.packed(), packed);
            // The top bit is none of a position's.
            prop_assert_eq!(Position::from_packed(packed | 1 << 63), position);
            prop_assert_eq!(position.before().packed(), packed.saturating_sub(1));
            prop_assert_eq!(position.after().packed(), (packed + 1).min(Position::MAX.packed()));
            let text = format!("binlog.{:06}:{}", position.file(), position.offset());
            prop_assert_eq!(Position::parse(&text, position.epoch()), Ok(position));
        }
    }

    #[test]
    fn parses_what_servers_print() {
        let expect = Position::try_new(3, 12, 3456).unwrap();
        for text in ["binlog.000012:3456", "mysql-bin.000012:3456", "12:3456", "a.b.000012:3456"] {
            assert_eq!(Position::parse(text, 3).unwrap(), expect, "{text}");
        }
        for text in ["", "binlog.000012", "binlog.x:1", "binlog.1:-1", "binlog.1:99999999999"] {
            assert!(Position::parse(text, 3).is_err(), "{text}");
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        assert_eq!(Position::try_new(2048, 1, 1), Err(PositionError::Epoch(2048)));
        assert_eq!(Position::try_new(1, 1 << 20, 1), Err(PositionError::File(1 << 20)));
        assert_eq!(Position::try_new(1, 1, 1 << 32), Err(PositionError::Offset(1 << 32)));
    }
}
