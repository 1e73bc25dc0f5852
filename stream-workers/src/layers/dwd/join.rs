//! Facts + dimensions: one batched lookup a level, for all facts of a batch.
//!
//! What a level has found is kept until the batch is written: facts borrow the
//! columns of their rows, and every distinct row is taken apart once.

use super::{
    DwdError, Worker,
    fact::{Fact, Fate},
    route::Target,
};
use crate::{
    lookup::{Answer, Lookup, LookupError, TableAnswers, TableQuery},
    sink::dead_letter::Reason,
    warehouse::{
        EvaluateError, Frame,
        plan::{Join, JoinRead},
    },
};
use futures_util::future::try_join;
use std::sync::OnceLock;
use tidemark_proto::{Position, text::object_columns};

/// Room for what each level finds; facts borrow from it while later levels are
/// still empty.
#[derive(Clone, Copy)]
pub(super) struct Levels<'c, 'r> {
    pub(super) answers: &'r [OnceLock<Vec<TableAnswers>>],
    pub(super) cells: &'c [OnceLock<Vec<Cells<'r>>>],
}

/// Empty room for a number of levels.
pub(super) fn room<T>(levels: usize) -> Vec<OnceLock<T>> {
    (0..levels).map(|_| OnceLock::new()).collect()
}

/// The columns of the distinct rows of one target.
pub(super) struct Cells<'r> {
    width: usize,
    /// Row after row; a row that does not exist has NULLs.
    cells: Vec<Option<&'r str>>,
}

/// A join of a fact, and the question it asked.
struct Asked<'p> {
    /// Index into the facts.
    fact: usize,
    join: &'p Join,
    target: usize,
    /// `None` when a key column is NULL: that equals no row.
    question: Option<usize>,
}

/// Joins all facts, level by level.
pub(super) async fn join_all<'c, 'r: 'c>(
    facts: &mut [Fact<'c>],
    levels: Levels<'c, 'r>,
    worker: &'c Worker,
) -> Result<(), DwdError> {
    let rooms = levels.answers.iter().zip(levels.cells);
    for (level, (targets, (answers, cells))) in worker.routes.levels.iter().zip(rooms).enumerate() {
        let (queries, asked) = ask(facts, level, worker);
        let got = read(queries, targets, &worker.services.lookup).await?;
        let answers = answers.get_or_init(|| got);
        let found = targets.iter().zip(answers).map(|(target, answers)| cells_of(target, answers));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let cells = cells.get_or_init(|| found);
        for asked in asked {
            if let Some(fact) = facts.get_mut(asked.fact) {
                place(fact, &asked, answers, cells);
            }
        }
    }
    Ok(())
}

/// The questions of a level, a query for each of its targets.
fn ask<'p>(facts: &mut [Fact<'_>], level: usize, worker: &'p Worker) -> (Vec<TableQuery>, Vec<Asked<'p>>) {
    let targets = worker.routes.levels.get(level).map_or(&[][..], Vec::as_slice);
    let query = |target: &Target| TableQuery::new(target.table.clone(), target.columns.clone());
    let mut queries: Vec<TableQuery> = targets.iter().map(query).collect();
    let mut asked = Vec::with_capacity(facts.len());
    let mut key = Vec::new();
    for (number, fact) in facts.iter_mut().enumerate() {
        if !matches!(fact.fate, Fate::Alive) {
            continue;
        }
        let position = fact.change.read_position().unwrap_or(Position::ZERO);
        for (join, target) in worker.routes.joins(fact.plan, level) {
            match write_key(join, &fact.frame, &mut key) {
                Ok(complete) => {
                    let query = queries.get_mut(target).filter(|_| complete);
                    let question = query.map(|query| query.ask(&key, position));
                    asked.push(Asked { fact: number, join, target, question });
                }
                Err(error) => {
                    fact.fate =
                        Fate::Dead(Reason::new("evaluate", format!("key of {}: {error}", join.dimension)));
                    break;
                }
            }
        }
    }
    (queries, asked)
}

/// Writes the key as a JSON array; false when a column of it is NULL.
fn write_key(join: &Join, frame: &Frame<'_>, key: &mut Vec<u8>) -> Result<bool, EvaluateError> {
    key.clear();
    key.push(b'[');
    for (number, part) in join.key.iter().enumerate() {
        let value = part.evaluate(frame)?;
        if value.is_null() {
            return Ok(false);
        }
        if number > 0 {
            key.push(b',');
        }
        value.write_token(key);
    }
    key.push(b']');
    Ok(true)
}

/// Reads all queries; a call has one read point, so those of the two kinds go
/// apart.
async fn read(
    queries: Vec<TableQuery>,
    targets: &[Target],
    lookup: &Lookup,
) -> Result<Vec<TableAnswers>, LookupError> {
    let mut answers: Vec<TableAnswers> = queries.iter().map(|_| TableAnswers::default()).collect();
    let (mut exact, mut latest) = (Vec::new(), Vec::new());
    for (number, (query, target)) in queries.into_iter().zip(targets).enumerate() {
        match target.read {
            _ if query.is_empty() => {}
            JoinRead::AsOfRow => exact.push((number, query)),
            JoinRead::Latest => latest.push((number, query)),
        }
    }
    let call = |part: Vec<(usize, TableQuery)>, read: JoinRead| async move {
        let (numbers, queries): (Vec<_>, Vec<_>) = part.into_iter().unzip();
        let answers = if queries.is_empty() { Vec::new() } else { lookup.read(queries, read).await? };
        Ok::<_, LookupError>(numbers.into_iter().zip(answers))
    };
    let (exact, latest) = try_join(call(exact, JoinRead::AsOfRow), call(latest, JoinRead::Latest)).await?;
    for (number, answer) in exact.chain(latest) {
        if let Some(place) = answers.get_mut(number) {
            *place = answer;
        }
    }
    Ok(answers)
}

/// Takes the distinct rows of a target apart.
fn cells_of<'r>(target: &Target, answers: &'r TableAnswers) -> Result<Cells<'r>, DwdError> {
    let width = target.columns.len();
    let mut cells = Vec::with_capacity(width * answers.distinct().len());
    for answer in answers.distinct() {
        let start = cells.len();
        cells.resize(start + width, None);
        let Answer::Row { row: Some(row), .. } = answer else { continue };
        let row = std::str::from_utf8(row)
            .map_err(|_| DwdError::Row { table: target.table.as_ref().to_owned() })?;
        for (number, (name, token)) in object_columns(row).enumerate() {
            // The service returns the columns in the order asked.
            let in_order = target.columns.get(number).is_some_and(|column| column == name);
            let column = if in_order { Some(number) } else { target.columns.iter().position(|c| c == name) };
            if let Some(cell) = column.and_then(|column| cells.get_mut(start + column)) {
                *cell = Some(token);
            }
        }
    }
    Ok(Cells { width, cells })
}

/// Gives a fact the row of one of its joins.
fn place<'c, 'r: 'c>(
    fact: &mut Fact<'c>,
    asked: &Asked<'_>,
    answers: &[TableAnswers],
    cells: &'c [Cells<'r>],
) {
    if !matches!(fact.fate, Fate::Alive) {
        return;
    }
    let answers = answers.get(asked.target);
    let number = asked.question.and_then(|question| Some(answers?.place(question)));
    match number.and_then(|number| answers?.distinct().get(number)) {
        Some(Answer::Row { row: Some(_), .. }) => {
            let row = cells.get(asked.target).zip(number).and_then(|(cells, number)| cells.row(number));
            if let Some((slot, row)) = fact.frame.slots.get_mut(asked.join.slot).zip(row) {
                *slot = row;
            }
        }
        Some(Answer::Refused(reason)) => {
            let text = format!("key of {}: {reason}", asked.join.dimension);
            fact.fate = Fate::Dead(Reason::new("lookup", text));
        }
        Some(Answer::Row { row: None, .. }) | None if asked.join.inner => fact.fate = Fate::Dropped,
        Some(Answer::Row { row: None, .. }) | None => {}
    }
}

impl<'r> Cells<'r> {
    fn row(&self, number: usize) -> Option<&[Option<&'r str>]> {
        let start = number.checked_mul(self.width)?;
        self.cells.get(start..start + self.width)
    }
}
