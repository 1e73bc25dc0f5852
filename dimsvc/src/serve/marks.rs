//! What a dimension's policies add to answers: rows that are deleted but still
//! shown, and rows that may be stale.

use crate::{
    cache::{Found, Row},
    dimension::marked_deleted,
};
use bytes::Bytes;
use tidemark_proto::dim::v1::TableAnswers;

const DELETED: u8 = 4;
const STALE: u8 = 8;

/// Takes the marks off rows that were deleted in a dimension which keeps what
/// they were. They are absent, but for `latest`: then their places are
/// returned, in rising order.
pub(super) fn unmark_deleted(found: &mut [Found], latest: bool) -> Vec<usize> {
    let mut deleted = Vec::new();
    for (place, found) in found.iter_mut().enumerate() {
        let Some(row) = &found.answer.row else { continue };
        let Some(image) = row.image().and_then(marked_deleted) else { continue };
        let shown = latest.then_some(image.as_slice());
        found.answer.row = Some(Row::new(row.key(), row.version(), shown));
        deleted.extend(latest.then_some(place));
    }
    deleted
}

/// Marks rows as deleted.
pub(super) fn mark_deleted(answers: &mut TableAnswers, places: &[usize]) {
    answers.flags = marked(&answers.flags, DELETED, |place| places.binary_search(&place).is_ok());
    for place in places {
        if let Some(answer) = answers.answers.get_mut(*place) {
            answer.deleted = true;
        }
    }
}

/// Marks every answer as stale.
pub(super) fn mark_stale(answers: &mut TableAnswers) {
    answers.flags = marked(&answers.flags, STALE, |_| true);
    answers.key_flags = marked(&answers.key_flags, STALE, |_| true);
    answers.answers.iter_mut().for_each(|answer| answer.stale = true);
}

fn marked(flags: &[u8], flag: u8, wanted: impl Fn(usize) -> bool) -> Bytes {
    let flags = flags.iter().enumerate();
    flags.map(|(place, set)| if wanted(place) { set | flag } else { *set }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{Answer, Tier},
        dimension,
    };
    use tidemark_proto::Position;

    fn deleted() -> Found {
        let version = Position::try_new(1, 1, 7).unwrap();
        let row = Row::new(b"[1]", version, Some(&dimension::mark_deleted(br#"{"id":1}"#)));
        Found { answer: Answer::newest(row), tier: Tier::Full }
    }

    #[test]
    fn the_past_does_not_see_a_deleted_row() {
        let mut found = [deleted()];
        assert!(unmark_deleted(&mut found, false).is_empty());
        assert_eq!(found[0].answer.image(), None);
    }

    #[test]
    fn latest_sees_what_a_deleted_row_was() {
        let mut found = [deleted()];
        assert_eq!(unmark_deleted(&mut found, true), [0]);
        assert_eq!(found[0].answer.image(), Some(&br#"{"id":1}"#[..]));
        let mut answers = TableAnswers { flags: vec![1].into(), ..TableAnswers::default() };
        mark_deleted(&mut answers, &[0]);
        assert_eq!(answers.flags[0], 5);
    }
}
