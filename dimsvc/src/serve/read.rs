//! Reading keys of one dimension at their positions: memory first, then one
//! batched read of the store.

use crate::{
    cache::{Answer, Found, Load, LoadStart, Peek, Tier},
    dimension::Key,
    live::LiveDimension,
    metrics::Metrics,
    store::{ReadKey, StoreError, StorePool},
};
use std::{sync::Arc, time::Instant};
use tidemark_proto::Position;

/// Canonical keys laid end to end.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) text: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.text.get(start..end).unwrap_or_default()
    }
}

/// Reads one dimension for one call.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    pub(super) live: &'s LiveDimension,
    pub(super) store: &'s StorePool,
    pub(super) metrics: &'s Metrics,
    /// `applied`, loaded before anything is read.
    pub(super) applied: Position,
}

/// What only the store can answer: which key of the call, and how.
enum Want<'s> {
    /// The newest version, to be made resident.
    Newest { index: usize, load: Load<'s> },
    /// The version at a position.
    Older { index: usize, key: Key },
}

impl Reader<'_> {
    /// Reads every key at its position; answer i is of key i.
    ///
    /// # Errors
    /// When the store fails: then no key is answered.
    pub(super) async fn read(
        &self,
        keys: &Keys,
        at: impl Fn(usize) -> Position,
    ) -> Result<Vec<Found>, StoreError> {
        let mut found: Vec<Option<Found>> = Vec::with_capacity(keys.len());
        let mut wants = Vec::new();
        for index in 0..keys.len() {
            let key = keys.get(index);
            found.push(match self.live.cache.peek(key, at(index)) {
                Peek::Hit(hit) => Some(hit),
                missed => self.beneath(index, key, at(index), matches!(missed, Peek::Miss), &mut wants),
            });
        }
        while !wants.is_empty() {
            wants = self.read_store(wants, &mut found, &at).await?;
        }
        let complete: Option<Vec<_>> = found.into_iter().collect();
        complete.ok_or_else(|| StoreError::Corrupt("a key was left without an answer".into()))
    }

    /// Looks beneath the tier without waiting; what the store must answer goes
    /// to `wants`.
    fn beneath<'s>(
        &'s self,
        index: usize,
        key: &[u8],
        at: Position,
        missed: bool,
        wants: &mut Vec<Want<'s>>,
    ) -> Option<Found> {
        let key = Key::from_canonical(key.to_vec());
        if missed {
            match self.live.cache.begin_load(&key) {
                LoadStart::Known(known) if known.answer.answers(at) => return Some(known),
                LoadStart::Known(_) => {}
                LoadStart::Read(load) => {
                    wants.push(Want::Newest { index, load });
                    return None;
                }
            }
        }
        let older = self.live.cache.older(&key, at);
        if older.is_none() {
            wants.push(Want::Older { index, key });
        }
        older
    }

    /// One batched read; returns what must be read again, because the newest
    /// version turned out to be newer than asked.
    async fn read_store<'s>(
        &'s self,
        wants: Vec<Want<'s>>,
        found: &mut [Option<Found>],
        at: &impl Fn(usize) -> Position,
    ) -> Result<Vec<Want<'s>>, StoreError> {
        let reads = wants.iter().map(|want| match want {
            Want::Newest { load, .. } => ReadKey { key: load.key().clone(), before: Position::MAX },
            Want::Older { index, key } => ReadKey { key: key.clone(), before: at(*index) },
        });
        let started = Instant::now();
        let table = Arc::clone(&self.live.dimension.sink_table);
        let stored =
            self.store.read(table, reads.collect()).await.inspect_err(|_| self.metrics.store_errors.inc())?;
        self.metrics.store_read_seconds.observe(started.elapsed().as_secs_f64());
        let mut again = Vec::new();
        for (want, stored) in wants.into_iter().zip(stored) {
            let stored = stored.map(|row| (row.version, row.image));
            let (index, answer) = match want {
                Want::Newest { index, load } => {
                    let key = load.key().clone();
                    let newest = load.finish(stored);
                    if newest.answer.answers(at(index)) {
                        (index, newest)
                    } else {
                        match self.live.cache.older(&key, at(index)) {
                            Some(older) => (index, older),
                            None => {
                                again.push(Want::Older { index, key });
                                continue;
                            }
                        }
                    }
                }
                Want::Older { index, .. } => (index, self.older_answer(stored, at(index))),
            };
            if let Some(place) = found.get_mut(index) {
                *place = Some(answer);
            }
        }
        Ok(again)
    }

    /// What the store said of a position: valid up to it; what came after it is
    /// not known here.
    fn older_answer(&self, stored: Option<(Position, crate::dimension::Image)>, at: Position) -> Found {
        let answer = match stored {
            Some((version, image)) => Answer::newest(version, image),
            None => Answer::never_existed(self.live.cache.floor()),
        };
        debug_assert!(at <= self.applied, "a position is read only once it is applied");
        Found { answer: answer.until(at), tier: Tier::Store }
    }
}
