//! Reading keys of one dimension at their positions: memory first; then what
//! it misses is loaded, and what it has only newer is read from the store.

use crate::{
    cache::{Answer, Found, Peek, Tier},
    dimension::Key,
    live::LiveDimension,
    load::{Batch, Begun, LoadError, Loader, Waiter},
    store::{ReadKey, StoreError},
};
use futures_util::future::try_join;
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
    pub(super) live: &'s Arc<LiveDimension>,
    pub(super) loader: &'s Loader,
    /// Whether the newest rows are asked for.
    pub(super) latest: bool,
    /// Whether the call can be read again at a newer `applied`.
    pub(super) may_move: bool,
}

/// Why keys could not be read: then none is answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A row was read from the source after the position: read all again at the
    /// newest.
    #[error("a row is newer than the call")]
    Moved,
    #[error(
        "a key of the index has more than {max} rows, as many as dimsvc.limits.index_rows_max allows, or far more \
         deleted ones"
    )]
    TooManyRows { max: usize },
    /// A dimension without a store was asked for the past.
    #[error(
        "position {at} is older than what is known of key {key}: the dimension is lazy, it has no history"
    )]
    NoHistory { key: String, at: Position },
}

/// What memory could not answer, by place in the call.
#[derive(Default)]
struct Missed {
    batch: Option<Batch>,
    awaited: Vec<(usize, Key, Waiter)>,
    older: Vec<(usize, Key)>,
}

impl Reader<'_> {
    /// Reads every key at its position, which must be resolved; answer i is of
    /// key i.
    pub(super) async fn read(
        &self,
        keys: &Keys,
        at: impl Fn(usize) -> Position,
    ) -> Result<Vec<Found>, ReadError> {
        let mut found = Vec::with_capacity(keys.len());
        for index in 0..keys.len() {
            match self.live.cache.peek(keys.get(index), at(index)) {
                Peek::Hit(hit) => found.push(hit),
                // Boxed, so that a hit does not carry the room of a miss.
                peek => return Box::pin(self.read_on(keys, found, peek, at)).await,
            }
        }
        Ok(found)
    }

    /// Reads on from the first key that memory did not answer by `peek`.
    async fn read_on(
        &self,
        keys: &Keys,
        hits: Vec<Found>,
        mut peek: Peek,
        at: impl Fn(usize) -> Position,
    ) -> Result<Vec<Found>, ReadError> {
        let mut found: Vec<_> = hits.into_iter().map(Some).collect();
        let mut missed = Missed::default();
        while found.len() < keys.len() {
            let index = found.len();
            found.push(match peek {
                Peek::Hit(hit) => Some(hit),
                peek => self.beneath(index, keys.get(index), (at(index), &peek), &mut missed)?,
            });
            let next = index + 1;
            if next == keys.len() {
                break;
            }
            peek = self.live.cache.peek(keys.get(next), at(next));
        }
        if !missed.awaited.is_empty() || !missed.older.is_empty() {
            self.fetch(missed, &mut found, &at).await?;
        }
        let complete: Option<Vec<_>> = found.into_iter().collect();
        Ok(complete.ok_or(LoadError::GivenUp)?)
    }

    /// Looks beneath the tier without waiting.
    fn beneath(
        &self,
        index: usize,
        key: &[u8],
        (at, peek): (Position, &Peek),
        missed: &mut Missed,
    ) -> Result<Option<Found>, ReadError> {
        let key = Key::from_canonical(key.to_vec());
        if matches!(peek, Peek::Miss) {
            match missed.batch.get_or_insert_default().begin(self.live, &key) {
                Begun::Known(known) if known.answer.answers(at) => return Ok(Some(known)),
                Begun::Known(_) => {}
                Begun::Awaited(waiter) => {
                    missed.awaited.push((index, key, waiter));
                    return Ok(None);
                }
            }
        }
        let older = self.live.cache.older(key.as_bytes(), at);
        if older.is_none() {
            self.check_history(&key, at)?;
            missed.older.push((index, key));
        }
        Ok(older)
    }

    /// Waits for loads and reads the past at the same time; then the past of
    /// what turned out to be newer than asked.
    async fn fetch(
        &self,
        missed: Missed,
        found: &mut [Option<Found>],
        at: &impl Fn(usize) -> Position,
    ) -> Result<(), ReadError> {
        if let Some(batch) = missed.batch {
            self.loader.start(self.live, batch);
        }
        let (older, loaded) =
            try_join(self.read_past(missed.older, at), wait_for_all(missed.awaited)).await?;
        let mut newer = Vec::new();
        let mut put = |index: usize, answer: Found| {
            if let Some(place) = found.get_mut(index) {
                *place = Some(answer);
            }
        };
        older.into_iter().for_each(|(index, answer)| put(index, answer));
        for (index, key, loaded) in loaded {
            if loaded.answer.answers(at(index)) {
                put(index, loaded);
                continue;
            }
            if loaded.tier == Tier::Source && self.may_move {
                return Err(ReadError::Moved);
            }
            match self.live.cache.older(key.as_bytes(), at(index)) {
                Some(older) => put(index, older),
                None => {
                    self.check_history(&key, at(index))?;
                    newer.push((index, key));
                }
            }
        }
        self.read_past(newer, at).await?.into_iter().for_each(|(index, answer)| put(index, answer));
        Ok(())
    }

    /// A dimension without a store knows only what is resident.
    fn check_history(&self, key: &Key, at: Position) -> Result<(), ReadError> {
        if !self.live.dimension.lazy {
            return Ok(());
        }
        // Not even a second time: but the next call may find it.
        if self.latest {
            return Err(ReadError::Moved);
        }
        Err(ReadError::NoHistory { key: String::from_utf8_lossy(key.as_bytes()).into_owned(), at })
    }

    /// One batched read of the store, each key at its position.
    async fn read_past(
        &self,
        wanted: Vec<(usize, Key)>,
        at: &impl Fn(usize) -> Position,
    ) -> Result<Vec<(usize, Found)>, ReadError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let reads = wanted.iter().map(|(index, key)| ReadKey { key: key.clone(), before: at(*index) });
        let started = Instant::now();
        let table = Arc::clone(&self.live.dimension.sink_table);
        let metrics = &self.loader.metrics;
        let stored = self.loader.store.read(table, reads.collect()).await;
        let stored = stored.inspect_err(|_| metrics.store_errors.inc())?;
        metrics.store_read_seconds.observe(started.elapsed().as_secs_f64());
        let answer = |((index, key), stored): ((usize, Key), Option<crate::store::StoredRow>)| {
            let version = stored.map(|row| (row.version, row.image));
            let answer: Answer = self.live.cache.stored(key.as_bytes(), version, at(index));
            (index, Found { answer, tier: Tier::Store })
        };
        Ok(wanted.into_iter().zip(stored).map(answer).collect())
    }
}

async fn wait_for_all(awaited: Vec<(usize, Key, Waiter)>) -> Result<Vec<(usize, Key, Found)>, ReadError> {
    let mut found = Vec::with_capacity(awaited.len());
    for (index, key, waiter) in awaited {
        found.push((index, key, waiter.wait().await?));
    }
    Ok(found)
}
