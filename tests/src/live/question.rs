//! What a reader asks, and how an answer is taken apart.

use crate::{
    coherence::Answered,
    ledger::{Shape, TABLES, stamp},
    random::Random,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemark_proto::{
    Position,
    dim::v1::{KeyBlock, TableAnswers, TableLookup},
};

const FOUND: u8 = 1;
const BEFORE_HISTORY: u8 = 2;
/// The greatest tier whose answer needed nothing but memory: others are loads.
const RESIDENT_TIER_MAX: u8 = 2;

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Rows of all tables, the newest.
    Latest,
    /// The same, after the newest commit, by its GTID.
    AtLeast,
    /// The same, after whatever is committed by now.
    Now,
    /// Rows of all tables at one random position.
    AsOf,
    /// Rows of all tables, each at a random position of its own.
    AsOfEach,
    /// All accounts of all tables at once, the newest.
    LatestSum,
    /// The same, after the newest commit.
    AtLeastSum,
    /// The same at one random position.
    AsOfSum,
}

impl Ask {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Latest,
        Self::AtLeast,
        Self::Now,
        Self::AsOf,
        Self::AsOfEach,
        Self::LatestSum,
        Self::AtLeastSum,
        Self::AsOfSum,
    ];

    /// Whether it asks for whole transactions: all accounts.
    pub fn is_sum(self) -> bool {
        matches!(self, Self::LatestSum | Self::AtLeastSum | Self::AsOfSum)
    }

    /// Whether it names a transaction.
    pub fn is_by_gtid(self) -> bool {
        matches!(self, Self::AtLeast | Self::AtLeastSum)
    }

    /// Whether it asks for a place in history.
    pub fn is_as_of(self) -> bool {
        matches!(self, Self::AsOf | Self::AsOfEach | Self::AsOfSum)
    }
}

/// The ids that one lookup asks of each table.
pub(super) fn ids(ask: Ask, shape: Shape, keys: usize, random: &mut Random) -> Vec<Vec<u64>> {
    let of_table = |_| {
        if ask.is_sum() {
            return shape.account_ids().collect();
        }
        (0..keys / TABLES.len()).map(|_| shape.random_id(random)).collect()
    };
    TABLES.iter().map(of_table).collect()
}

/// The columnar form, the one that programs use.
pub(super) fn lookup(table: &str, ids: &[u64], positions: Vec<u64>) -> TableLookup {
    let (mut text, mut ends) = (String::new(), Vec::with_capacity(ids.len()));
    for id in ids {
        text.push_str(&format!("[{id}]"));
        ends.push(text.len() as u32);
    }
    let keys = KeyBlock { text: text.into_bytes().into(), ends };
    TableLookup { table: table.to_owned(), keys: Some(keys), positions, ..Default::default() }
}

/// One row of a response.
pub(super) struct Row<'r> {
    pub(super) answered: Answered,
    pub(super) text: &'r [u8],
    /// Something had to be loaded or read beside the tier in process.
    pub(super) was_loaded: bool,
}

/// The answers for `count` keys of one table.
pub(super) fn rows(answers: &TableAnswers, count: usize) -> Result<Vec<Row<'_>>> {
    (0..count).map(|place| row(answers, place).context("a response lacks an answer")?).collect()
}

fn row(answers: &TableAnswers, place: usize) -> Option<Result<Row<'_>>> {
    let begin = place.checked_sub(1).map_or(Some(0), |before| answers.row_ends.get(before).copied())?;
    let end = *answers.row_ends.get(place)?;
    let text = answers.rows.get(begin as usize..end as usize)?;
    let flags = *answers.flags.get(place)?;
    let to = match *answers.tos.get(place)? {
        0 => Position::MAX,
        to => Position::from_packed(to),
    };
    let answered = Answered {
        version: Position::from_packed(*answers.versions.get(place)?),
        from: Position::from_packed(*answers.froms.get(place)?),
        to,
        stamp: stamp(text),
    };
    let was_loaded = *answers.tiers.get(place)? > RESIDENT_TIER_MAX;
    Some(check_flags(flags, text).map(|()| Row { answered, text, was_loaded }))
}

fn check_flags(flags: u8, text: &[u8]) -> Result<()> {
    ensure!((flags & FOUND != 0) != text.is_empty(), "flags {flags} for a row of {} bytes", text.len());
    ensure!(flags & BEFORE_HISTORY == 0, "a position above the floor is marked before_history");
    Ok(())
}

/// What an account holds; 0 where none is.
pub(super) fn amount(text: &[u8]) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    let row: Value = serde_json::from_slice(text).context("read a row")?;
    row.get("v").and_then(Value::as_i64).context("an account has an amount")
}
