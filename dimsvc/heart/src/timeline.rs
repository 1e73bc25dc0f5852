//! What is known of a dimension's past as a whole: where history begins, where
//! it has holes, where all rows went at once, where columns came.
//!
//! Rows know nothing of this. An answer is cut to it on its way out
//! ([`Timeline::clip`]), so that truncating a table or adding a column costs
//! the same for ten rows and for a billion.

use crate::{
    answer::Answer,
    row::{Image, Row},
};
use serde::{Deserialize, Serialize};
use tidemark_proto::{Position, text::object_columns};

/// The past of a dimension. Lists are in rising order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// From here on every version of every key is known.
    floor: u64,
    /// Begins of statements that removed all rows.
    #[serde(default)]
    truncated: Vec<u64>,
    /// Ranges `(from, to]` in which versions may be missing; `to` is known.
    #[serde(default)]
    unknown: Vec<(u64, u64)>,
    #[serde(default)]
    columns: Vec<AddedColumns>,
    /// The begin of a statement after which nothing is known (yet).
    #[serde(default)]
    lost: Option<u64>,
}

/// Columns that rows before `at` do not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedColumns {
    /// Begin of the statement that added them.
    pub at: u64,
    /// What older rows read instead, as it follows their last column:
    /// `,"grade":0`.
    pub suffix: String,
}

impl AddedColumns {
    fn count(&self) -> usize {
        object_columns(&format!("{{{}}}", self.suffix)).count()
    }
}

impl Timeline {
    /// History that begins at `floor`.
    pub fn new(floor: Position) -> Self {
        Self {
            floor: floor.packed(),
            truncated: Vec::new(),
            unknown: Vec::new(),
            columns: Vec::new(),
            lost: None,
        }
    }

    /// From here on every version of every key is known, outside
    /// [`Self::unknown`].
    pub fn floor(&self) -> Position {
        Position::from_packed(self.floor)
    }

    /// Where all rows were removed at once.
    pub fn truncated(&self) -> impl Iterator<Item = Position> {
        self.truncated.iter().copied().map(Position::from_packed)
    }

    /// Ranges `(from, to]` of which nothing is known.
    pub fn unknown(&self) -> impl Iterator<Item = (Position, Position)> {
        let place = Position::from_packed;
        self.unknown.iter().map(move |(from, to)| (place(*from), place(*to)))
    }

    /// All rows so far were removed at `at`. Told again, it changes nothing.
    pub fn truncate(&mut self, at: Position) {
        if self.truncated.last().is_none_or(|last| *last < at.packed()) {
            self.truncated.push(at.packed());
        }
    }

    /// Versions in `(from, to]` may be missing; the state at `to` is known.
    /// Ranges that touch become one.
    pub fn add_unknown(&mut self, from: Position, to: Position) {
        let (mut from, mut to) = (from.packed(), to.packed());
        while let Some((begin, end)) = self.unknown.pop_if(|(_, end)| *end >= from) {
            (from, to) = (from.min(begin), to.max(end));
        }
        self.unknown.push((from, to));
    }

    /// Rows written before `at` lack columns. Told again, it changes nothing.
    pub fn add_columns(&mut self, added: AddedColumns) {
        if self.columns.last().is_none_or(|last| last.at < added.at) {
            self.columns.push(added);
        }
    }

    /// How many columns rows of this version lack, because they came later.
    pub fn columns_after(&self, version: Position) -> usize {
        let later = self.columns.iter().rev().take_while(|added| added.at > version.packed());
        later.map(AddedColumns::count).sum()
    }

    /// Whether columns were added at exactly this place.
    pub fn adds_columns_at(&self, at: Position) -> bool {
        self.columns.iter().any(|added| added.at == at.packed())
    }

    /// The image without the columns that came after `version`: as a row of that
    /// version is kept.
    pub fn as_of_version(&self, image: &Image, version: Position) -> Image {
        let later = self.columns_after(version);
        let text = image.as_ref().filter(|_| later > 0).map(|image| std::str::from_utf8(image));
        let Some(Ok(text)) = text else { return image.clone() };
        let count = object_columns(text).count().saturating_sub(later);
        let kept = object_columns(text).take(count).map(|(name, token)| format!("\"{name}\":{token}"));
        Some(format!("{{{}}}", kept.collect::<Vec<_>>().join(",")).into())
    }

    /// Nothing is known after `at` from here on, until [`Self::regain`]. The
    /// first such place stands.
    pub fn lose(&mut self, at: Position) {
        self.lost = Some(self.lost.map_or(at.packed(), |lost| lost.min(at.packed())));
    }

    /// After which position nothing is known.
    pub fn lost(&self) -> Option<Position> {
        self.lost.map(Position::from_packed)
    }

    /// Everything is known again from `at` on; what was lost before it is
    /// unknown for ever.
    pub fn regain(&mut self, at: Position) {
        if let Some(lost) = self.lost.take() {
            self.add_unknown(Position::from_packed(lost), at);
        }
    }

    /// Takes what another replica knows of the same past.
    pub fn merge(&mut self, other: &Self) {
        self.truncated.extend(&other.truncated);
        self.truncated.sort_unstable();
        self.truncated.dedup();
        self.columns.extend(other.columns.iter().cloned());
        self.columns.sort_by_key(|added| added.at);
        self.columns.dedup_by_key(|added| added.at);
        let mut unknown = std::mem::take(&mut self.unknown);
        unknown.extend(&other.unknown);
        unknown.sort_unstable();
        for (from, to) in unknown {
            self.add_unknown(Position::from_packed(from), Position::from_packed(to));
        }
        // What one has regained is not lost to the other.
        let regained = |lost: &u64| self.unknown.iter().any(|(from, to)| from <= lost && lost < to);
        self.lost = [self.lost, other.lost].into_iter().flatten().filter(|lost| !regained(lost)).min();
        self.raise_floor(other.floor());
    }

    /// Versions that a later one replaced before `floor` may be gone.
    pub fn raise_floor(&mut self, floor: Position) {
        self.floor = self.floor.max(floor.packed());
        self.unknown.retain(|(_, to)| *to > self.floor);
    }

    /// Where to read for a caller who asks for `at`; true when history does not
    /// reach it and the next known position answers.
    pub fn resolve(&self, at: Position) -> (Position, bool) {
        // The floor itself may lie in a hole.
        let reached = at.packed().max(self.floor);
        match self.unknown.iter().find(|(from, to)| *from < reached && reached <= *to) {
            Some((_, to)) => (Position::from_packed(*to), true),
            None => (Position::from_packed(reached), at.packed() <= self.floor),
        }
    }

    /// The greatest position that [`Self::resolve`] would change.
    pub fn settled(&self) -> Position {
        let unknown = self.unknown.last().map_or(0, |(_, to)| *to);
        Position::from_packed(self.floor.max(unknown))
    }

    /// The last place that it tells of. Who has applied less does not know what
    /// the rows were just before it.
    pub fn latest(&self) -> Position {
        let points = [self.truncated.last().copied(), self.columns.last().map(|added| added.at), self.lost];
        let latest = points.into_iter().flatten().max().unwrap_or(0);
        self.settled().max(Position::from_packed(latest))
    }

    /// An answer that begins at or after this is not cut by anything.
    pub(crate) fn cut(&self) -> Position {
        if self.lost.is_some() {
            return Position::MAX;
        }
        let truncated = self.truncated.last().copied().unwrap_or(0);
        let columns = self.columns.last().map_or(0, |added| added.at);
        let known = self.settled().before();
        known.max(Position::from_packed(truncated.max(columns)))
    }

    /// The answer at `at`, made of the greatest version below it. No interval
    /// spans a hole or a change of the table as a whole.
    ///
    /// `at` must be one that [`Self::resolve`] leaves alone, and the answer one
    /// that is right for it but for what this timeline knows.
    pub fn clip(&self, answer: Answer, at: Position) -> Answer {
        let packed = at.packed();
        let answer = self.hide(answer, packed);
        let holes = self.unknown.iter().map(|(from, to)| (*to - 1, *from));
        let points = self.truncated.iter().chain(self.columns.iter().map(|added| &added.at));
        // A floor that was raised past `at` since it was resolved leaves it that
        // one place.
        let bounds = holes.chain(points.map(|at| (*at, *at))).chain([(self.floor - 1, packed)]);
        let (mut from, mut to) = (answer.from.packed(), answer.to.packed());
        to = to.min(self.lost.unwrap_or(to));
        for (after, until) in bounds {
            if after < packed {
                from = from.max(after);
            } else {
                to = to.min(until);
            }
        }
        let row = answer.row.map(|row| self.complete(row, packed, from));
        Answer { row, from: Position::from_packed(from), to: Position::from_packed(to) }
    }

    /// What a truncation below `at` removed is absent after it.
    fn hide(&self, answer: Answer, at: u64) -> Answer {
        let last = self.truncated.iter().rev().find(|truncated| **truncated < at);
        match last.map(|packed| Position::from_packed(*packed)) {
            Some(truncated) if answer.from < truncated => {
                let row = answer.row.map(|row| Row::absent(row.key(), truncated));
                Answer { row, from: truncated, to: answer.to }
            }
            _ => answer,
        }
    }

    /// A row with the columns that were added since it was made (or made up to
    /// date) and before `at`, as one that is valid after `from`.
    fn complete(&self, row: Row, at: u64, from: u64) -> Row {
        let has = row.from().packed();
        let mut missing = self.columns.iter().filter(|added| has < added.at && added.at < at).peekable();
        let from = Position::from_packed(from);
        match row.image() {
            Some(image) if missing.peek().is_some() => {
                let mut completed = image.strip_suffix(b"}").unwrap_or(image).to_vec();
                missing.for_each(|added| completed.extend_from_slice(added.suffix.as_bytes()));
                completed.push(b'}');
                row.rewritten(from, Some(&completed))
            }
            image if row.from() < from => row.rewritten(from, image),
            _ => row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut timeline = Timeline::new(at(10));
        timeline.add_unknown(at(20), at(30));
        timeline.add_unknown(at(40), at(50));
        timeline.add_unknown(at(25), at(45));
        assert_eq!(timeline.unknown().collect::<Vec<_>>(), [(at(20), at(50))]);
        assert_eq!(timeline.resolve(at(33)), (at(50), true));
    }

    #[test]
    fn what_two_replicas_know_is_the_sum() {
        let (mut one, mut other) = (Timeline::new(at(10)), Timeline::new(at(10)));
        one.truncate(at(100));
        one.add_unknown(at(20), at(40));
        other.truncate(at(90));
        other.add_unknown(at(30), at(50));
        other.raise_floor(at(15));
        one.merge(&other);
        assert_eq!(one.truncated().collect::<Vec<_>>(), [at(90), at(100)]);
        assert_eq!(one.unknown().collect::<Vec<_>>(), [(at(20), at(50))]);
        assert_eq!(one.floor(), at(15));
    }

    /// Fails when `resolve` takes the floor as it is: what a repair found wrong
    /// would be read below it.
    #[test]
    fn a_floor_within_a_hole_is_read_where_the_hole_ends() {
        let mut timeline = Timeline::new(at(10));
        timeline.add_unknown(at(20), at(40));
        timeline.raise_floor(at(30));
        for place in [5, 30, 31, 40] {
            assert_eq!(timeline.resolve(at(place)), (at(40), true), "{place}");
        }
        assert_eq!(timeline.resolve(at(41)), (at(41), false));
    }

    /// Fails when the floor ends an answer anywhere below: 0 is open on the wire.
    #[test]
    fn a_floor_that_overtakes_a_read_leaves_it_its_own_place() {
        let mut timeline = Timeline::new(at(10));
        timeline.raise_floor(at(50));
        let clipped = timeline.clip(Answer::newest(Row::new(b"[1]", at(20), Some(b"{}"))), at(30));
        assert_eq!((clipped.from, clipped.to), (at(20), at(30)));
    }

    #[test]
    fn positions_before_history_are_read_where_it_begins() {
        let timeline = Timeline::new(at(10));
        assert_eq!(timeline.resolve(at(5)), (at(10), true));
        assert_eq!(timeline.resolve(at(10)), (at(10), true));
        assert_eq!(timeline.resolve(at(11)), (at(11), false));
    }

    #[test]
    fn a_row_of_a_version_has_the_columns_of_its_time() {
        let mut timeline = Timeline::new(at(10));
        timeline.add_columns(AddedColumns { at: at(20).packed(), suffix: r#","n":0"#.into() });
        timeline.add_columns(AddedColumns { at: at(30).packed(), suffix: r#","m":"a,b","o":null"#.into() });
        assert_eq!([9, 20, 29, 30].map(|place| timeline.columns_after(at(place))), [3, 2, 2, 0]);
        let image = Some(r#"{"id":1,"n":5,"m":"{","o":[1]}"#.into());
        for (version, expect) in
            [(15, r#"{"id":1}"#), (25, r#"{"id":1,"n":5}"#), (35, r#"{"id":1,"n":5,"m":"{","o":[1]}"#)]
        {
            let cut = timeline.as_of_version(&image, at(version));
            assert_eq!(cut.as_deref(), Some(expect.as_bytes()), "{version}");
        }
        assert_eq!(timeline.as_of_version(&None, at(15)), None);
    }

    /// Fails without the bound `lost` in `clip`: what is newest would be taken
    /// for valid past the statement.
    #[test]
    fn what_is_lost_bounds_answers_until_it_is_regained() {
        let mut timeline = Timeline::new(at(10));
        timeline.lose(at(50));
        timeline.lose(at(60));
        let newest = || Answer::newest(Row::new(b"[1]", at(20), Some(b"{}")));
        assert_eq!(timeline.clip(newest(), at(30)).to, at(50));
        assert_eq!(timeline.cut(), Position::MAX);
        timeline.regain(at(80));
        assert_eq!((timeline.lost(), timeline.resolve(at(70))), (None, (at(80), true)));
        assert_eq!(timeline.clip(newest(), at(30)).to, at(50));
        let after = timeline.clip(newest(), at(90));
        assert_eq!((after.from, after.is_open()), (at(79), true));
    }

    #[test]
    fn what_a_replica_has_regained_is_not_lost_again() {
        let (mut regained, mut behind) = (Timeline::new(at(10)), Timeline::new(at(10)));
        behind.lose(at(50));
        regained.lose(at(50));
        regained.regain(at(80));
        let both = [(&regained, &behind), (&behind, &regained)].map(|(one, other)| {
            let mut one = one.clone();
            one.merge(other);
            one
        });
        assert_eq!(both, [regained.clone(), regained.clone()]);
        behind = regained.clone();
        behind.lose(at(90));
        regained.merge(&behind);
        assert_eq!(regained.lost(), Some(at(90)));
    }

    /// Of every pair of boundaries: an answer of a row, whatever its interval,
    /// ends where something happens to the table as a whole.
    #[test]
    fn an_answer_never_spans_a_boundary() {
        let mut timeline = Timeline::new(at(10));
        timeline.truncate(at(20));
        timeline.add_unknown(at(30), at(40));
        timeline.add_columns(AddedColumns { at: at(50).packed(), suffix: r#","n":0"#.into() });
        for place in (11..=30).chain(41..60) {
            let answer = Answer::newest(Row::new(b"[1]", at(9), Some(b"{}")));
            let clipped = timeline.clip(answer, at(place));
            assert!(clipped.answers(at(place)), "{place}: {clipped:?}");
            let expect = match place {
                11..=20 => (at(9), at(20), true),
                21..=30 => (at(20), at(30), false),
                41..=50 => (at(39), at(50), false),
                _ => (at(50), Position::MAX, false),
            };
            assert_eq!((clipped.from, clipped.to, clipped.image().is_some()), expect, "{place}");
        }
    }
}
