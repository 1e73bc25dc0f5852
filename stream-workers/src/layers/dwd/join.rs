//! Facts + dimensions: one batched lookup a level for all facts of a batch.

use super::{
    DwdError, Worker,
    fact::{Fact, Fate},
    route::Target,
};
use crate::{
    lookup::{Answer, TableAnswers, TableQuery},
    sink::dead_letter::Reason,
    warehouse::{
        EvaluateError, Frame,
        plan::{Join, JoinRead},
    },
};
use std::sync::OnceLock;
use tidemark_proto::text::object_columns;

/// The rows that a batch has looked up, level by level. Facts borrow them until
/// the batch is written.
pub(super) struct Arena {
    levels: Vec<OnceLock<LevelRows>>,
}

/// The answers of a level, one entry a target.
struct LevelRows {
    answers: Vec<TableAnswers>,
}

/// The columns of the distinct rows of one target, end to end.
pub(super) struct Cells<'r> {
    width: usize,
    cells: Vec<Option<&'r str>>,
}

/// The cells of all levels.
pub(super) type LevelCells<'r> = Vec<OnceLock<Vec<Cells<'r>>>>;

impl Arena {
    pub(super) fn new(levels: usize) -> Self {
        Self { levels: (0..levels).map(|_| OnceLock::new()).collect() }
    }
}
