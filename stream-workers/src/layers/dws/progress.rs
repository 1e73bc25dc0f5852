//! Where a partition's reading begins, decided without any I/O.
//!
//! Usually at the committed offset. A table that is new has none of the log
//! yet, so its partitions are read again from the beginning: the other tables
//! skip what they have. A log that cannot give all that a table lacks, or that
//! is not the one the table was made from, is refused.

use crate::source::Offsets;

/// What a table knows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableProgress {
    /// Its reading from the beginning has begun, and was committed.
    pub(crate) begun: bool,
    /// The greatest version of its rows; 0 without rows.
    pub(crate) version_max: u64,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Where the group's commit says.
    Committed,
    /// At this offset, which must be committed first: a table is new.
    Beginning(i64),
}

/// A log that does not fit the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogMismatch {
    #[error(
        "the log begins at offset {low}, records from offset {next} on were never counted (retention removed them)"
    )]
    Gap { low: i64, next: i64 },
    #[error(
        "the log ends at offset {high}, but records up to offset {next} were counted (the topic was made anew)"
    )]
    Recreated { high: i64, next: i64 },
}

/// Decides for one partition and all tables that read it.
pub(crate) fn start(offsets: &Offsets, tables: &[TableProgress]) -> Result<Start, LogMismatch> {
    let Offsets { committed, low, high, .. } = *offsets;
    let begun = || tables.iter().filter(|table| table.begun);
    let version_max = tables.iter().map(|table| i64::try_from(table.version_max).unwrap_or(i64::MAX)).max();
    let counted = version_max.unwrap_or(0).max(committed.filter(|_| begun().count() > 0).unwrap_or(0));
    if counted > high {
        return Err(LogMismatch::Recreated { high, next: counted });
    }
    // Without a commit a begun table says itself how far it is at least.
    for table in begun() {
        let next = committed.unwrap_or_else(|| i64::try_from(table.version_max).unwrap_or(i64::MAX));
        if next < low {
            return Err(LogMismatch::Gap { low, next });
        }
    }
    Ok(if tables.iter().all(|table| table.begun) { Start::Committed } else { Start::Beginning(low) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TopicPartition;

    const NEW: TableProgress = TableProgress { begun: false, version_max: 0 };

    fn offsets(committed: impl Into<Option<i64>>, low: i64, high: i64) -> Offsets {
        Offsets { at: TopicPartition { topic: 0, partition: 0 }, committed: committed.into(), low, high }
    }

    fn begun(version_max: u64) -> TableProgress {
        TableProgress { begun: true, version_max }
    }

    #[test]
    fn a_table_that_has_begun_goes_on_at_the_commit() {
        assert_eq!(start(&offsets(7, 0, 10), &[begun(6)]), Ok(Start::Committed));
        assert_eq!(start(&offsets(7, 7, 10), &[begun(9), begun(0)]), Ok(Start::Committed));
    }

    #[test]
    fn a_new_table_begins_where_the_log_does() {
        assert_eq!(start(&offsets(None, 0, 10), &[NEW]), Ok(Start::Beginning(0)));
        assert_eq!(start(&offsets(7, 3, 10), &[begun(6), NEW]), Ok(Start::Beginning(3)));
        assert_eq!(start(&offsets(7, 9, 10), &[NEW]), Ok(Start::Beginning(9)));
    }

    #[test]
    fn records_that_retention_took_are_missed() {
        assert_eq!(start(&offsets(7, 8, 10), &[begun(7)]), Err(LogMismatch::Gap { low: 8, next: 7 }));
        assert_eq!(start(&offsets(7, 8, 10), &[begun(7), NEW]), Err(LogMismatch::Gap { low: 8, next: 7 }));
        assert_eq!(start(&offsets(None, 8, 10), &[begun(7)]), Err(LogMismatch::Gap { low: 8, next: 7 }));
    }

    #[test]
    fn a_lost_commit_is_no_gap_while_the_log_has_all() {
        assert_eq!(start(&offsets(None, 5, 10), &[begun(7)]), Ok(Start::Committed));
    }

    #[test]
    fn a_topic_made_anew_is_noticed() {
        assert_eq!(
            start(&offsets(None, 0, 5), &[begun(7)]),
            Err(LogMismatch::Recreated { high: 5, next: 7 })
        );
        assert_eq!(start(&offsets(9, 0, 5), &[begun(0)]), Err(LogMismatch::Recreated { high: 5, next: 9 }));
    }
}
