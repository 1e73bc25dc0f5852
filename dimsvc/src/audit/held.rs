//! What each tier would answer of some keys as of one position.

use super::findings::visible;
use crate::{
    cache::{Answer, Peek, Tier},
    dimension::{Image, Key},
    live::LiveDimension,
    load::Loader,
    store::{ReadKey, StoreError},
};
use bytes::Bytes;
use std::sync::Arc;
use tidemark_heart::shared::SharedRead;
use tidemark_proto::Position;

/// What a tier holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) tier: Tier,
    pub(super) version: Position,
    /// A row that lookups would find, or none.
    pub(super) image: Image,
}

impl Held {
    fn new(tier: Tier, answer: &Answer) -> Self {
        let image = visible(answer.image().map(Bytes::copy_from_slice));
        Self { tier, version: answer.version(), image }
    }
}

/// Reads the tiers of one dimension.
#[derive(Clone, Copy)]
pub(super) struct Tiers<'t> {
    pub(super) live: &'t LiveDimension,
    pub(super) loader: &'t Loader,
    /// Must be applied.
    pub(super) at: Position,
}

impl Tiers<'_> {
    /// What every tier holds that has an answer; list i is of key i. The shared
    /// tier is skipped when it cannot be used, as by a lookup.
    ///
    /// # Errors
    /// When the store cannot be read: then nothing can be said.
    pub(super) async fn read(self, keys: &[Key]) -> Result<Vec<Vec<Held>>, StoreError> {
        let mut held: Vec<Vec<Held>> =
            keys.iter().map(|key| self.memory(key).into_iter().collect()).collect();
        // What the overlay holds is not asked of the tiers beneath, which may not
        // have it yet. What it does not hold they have, from here on.
        let overlay_lacks = |key: &Key| self.live.cache.overlay_of(key.as_bytes()).is_empty();
        let beneath: Vec<(usize, Key)> =
            keys.iter().cloned().enumerate().filter(|(_, key)| overlay_lacks(key)).collect();
        if beneath.is_empty() || self.live.dimension.lazy {
            return Ok(held);
        }
        let (places, keys): (Vec<usize>, Vec<Key>) = beneath.into_iter().unzip();
        let shared = self.shared(&keys).await;
        let stored = self.store(&keys).await?;
        for ((place, shared), stored) in places.into_iter().zip(shared).zip(stored) {
            if let Some(held) = held.get_mut(place) {
                held.extend(shared.into_iter().chain([stored]));
            }
        }
        Ok(held)
    }

    fn memory(self, key: &Key) -> Option<Held> {
        let (cache, key) = (&self.live.cache, key.as_bytes());
        let found = match cache.peek(key, self.at) {
            Peek::Hit(found) => Some(found),
            Peek::Older => cache.older(key, self.at),
            Peek::Miss => None,
        };
        found.map(|found| Held::new(found.tier, &found.answer))
    }

    /// A failure is no verdict, and neither is a version past the position: the
    /// writer is ahead of this process.
    async fn shared(self, keys: &[Key]) -> Vec<Option<Held>> {
        let nothing = vec![None; keys.len()];
        let session = self.loader.shared.usable().filter(|_| self.live.dimension.shared);
        let Some(session) = session else { return nothing };
        let Ok(reads) = session.peek(&self.live.dimension.sink_table, keys).await else { return nothing };
        let held = |(key, read): (&Key, Option<SharedRead>)| {
            let version = match read? {
                SharedRead::Hit { version, image } if version < self.at => Some((version, image)),
                SharedRead::Absent => None,
                SharedRead::Hit { .. } | SharedRead::Leased | SharedRead::Busy => return None,
            };
            Some(Held::new(Tier::Shared, &self.live.cache.stored(key.as_bytes(), version, self.at)))
        };
        keys.iter().zip(reads).map(held).collect()
    }

    async fn store(self, keys: &[Key]) -> Result<Vec<Held>, StoreError> {
        let reads = keys.iter().map(|key| ReadKey { key: key.clone(), before: self.at }).collect();
        let table = Arc::clone(&self.live.dimension.sink_table);
        let stored = self.loader.store.read(table, reads).await?;
        let held = |(key, row): (&Key, Option<crate::store::StoredRow>)| {
            let version = row.map(|row| (row.version, row.image));
            Held::new(Tier::Store, &self.live.cache.stored(key.as_bytes(), version, self.at))
        };
        Ok(keys.iter().zip(stored).map(held).collect())
    }
}
