//! The keys that a batch asks of one table, each once.
//!
//! Facts of a batch share keys but not positions. A key is asked at the greatest
//! position of its facts: the answer's interval mostly covers the others too,
//! because dimensions change slowly. Only a position outside of it costs another
//! question.

use super::{Answer, request::Wanted};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::{hash::BuildHasher as _, ops::Range, sync::Arc};
use tidemark_proto::Position;

/// What is asked of one table.
#[derive(Clone, Debug)]
pub struct TableQuery {
    pub(super) table: Arc<str>,
    pub(super) columns: Arc<[String]>,
    /// Distinct keys, end to end.
    text: Vec<u8>,
    keys: Vec<Key>,
    asks: Vec<Ask>,
    index: HashTable<u32>,
    hasher: FixedState,
}

#[derive(Clone, Debug)]
struct Key {
    text: Range<u32>,
    newest: Position,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    key: u32,
    position: Position,
}

impl TableQuery {
    /// Asks nothing yet. `columns` are those to return, in this order.
    pub fn new(table: Arc<str>, columns: Arc<[String]>) -> Self {
        Self {
            table,
            columns,
            text: Vec::new(),
            keys: Vec::new(),
            asks: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::default(),
        }
    }

    /// Asks for a key (a JSON array of its columns' values) as of a position.
    /// Returns the number of the question, for [`TableAnswers::get`].
    pub fn ask(&mut self, key: &[u8], position: Position) -> usize {
        let hash = self.hasher.hash_one(key);
        let same =
            |at: &u32| self.keys.get(*at as usize).is_some_and(|known| slice(&self.text, &known.text) == key);
        let found = self.index.find(hash, same).copied();
        let number = found.unwrap_or_else(|| self.add(key, hash));
        if let Some(known) = self.keys.get_mut(number as usize) {
            known.newest = known.newest.max(position);
        }
        self.asks.push(Ask { key: number, position });
        self.asks.len() - 1
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// How many distinct keys are asked for.
    pub fn distinct_keys(&self) -> usize {
        self.keys.len()
    }

    /// The text of a distinct key.
    pub(super) fn key_text(&self, key: u32) -> &[u8] {
        self.keys.get(key as usize).map(|known| slice(&self.text, &known.text)).unwrap_or_default()
    }

    /// Every distinct key at the greatest position asked.
    pub(super) fn newest(&self, table: usize) -> impl Iterator<Item = Wanted> {
        self.keys.iter().zip(0..).map(move |(known, key)| Wanted { table, key, position: known.newest })
    }

    /// What the answers so far, one a distinct key, do not cover. Remembers in
    /// `answers` where the coming answer of each will be.
    pub(super) fn not_covered(&self, table: usize, answers: &mut TableAnswers) -> Vec<Wanted> {
        let mut rest: Vec<Wanted> = Vec::new();
        let mut asked: hashbrown::HashMap<(u32, Position), u32> = hashbrown::HashMap::new();
        let first_new = answers.answers.len();
        for (ask, place) in self.asks.iter().zip(&mut answers.places) {
            if answers.answers.get(ask.key as usize).is_some_and(|answer| answer.holds_at(ask.position)) {
                continue;
            }
            *place = *asked.entry((ask.key, ask.position)).or_insert_with(|| {
                rest.push(Wanted { table, key: ask.key, position: ask.position });
                u32::try_from(first_new + rest.len() - 1).unwrap_or(u32::MAX)
            });
        }
        rest
    }

    fn add(&mut self, key: &[u8], hash: u64) -> u32 {
        // Batches are bounded by bytes: far below 4 GiB of keys.
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.extend_from_slice(key);
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let number = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.keys.push(Key { text: start..end, newest: Position::ZERO });
        let (keys, text, hasher) = (&self.keys, &self.text, &self.hasher);
        let hash_of = |at: &u32| {
            let known = keys.get(*at as usize).map(|known| slice(text, &known.text));
            hasher.hash_one(known.unwrap_or_default())
        };
        self.index.insert_unique(hash, number, hash_of);
        number
    }
}

fn slice<'t>(text: &'t [u8], range: &Range<u32>) -> &'t [u8] {
    text.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// What one table answered.
#[derive(Clone, Debug, Default)]
pub struct TableAnswers {
    /// For every question, its answer's place in `answers`.
    places: Vec<u32>,
    /// First one a distinct key, then those that had to be asked again.
    answers: Vec<Answer>,
}

impl TableAnswers {
    pub(super) fn new(query: &TableQuery) -> Self {
        let places = query.asks.iter().map(|ask| ask.key).collect();
        Self { places, answers: Vec::with_capacity(query.keys.len()) }
    }

    pub(super) fn push(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// The distinct answers.
    pub fn distinct(&self) -> &[Answer] {
        &self.answers
    }

    /// The place in [`TableAnswers::distinct`] of a question's answer.
    pub fn place(&self, ask: usize) -> usize {
        self.places.get(ask).map_or(usize::MAX, |place| *place as usize)
    }

    /// The answer of a question.
    pub fn get(&self, ask: usize) -> Option<&Answer> {
        self.answers.get(self.place(ask))
    }
}
