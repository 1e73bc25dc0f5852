//! The dimensions of a running service, and what all parts share of them.

use crate::{
    cache::DimensionCache,
    clock::{Freshness, Watermark},
    gtids::RecentGtids,
    registry::Dimension,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tidemark_proto::Position;

/// A dimension that is served: its definition, its memory, how far it is.
#[derive(Debug)]
pub struct LiveDimension {
    pub dimension: Dimension,
    pub cache: DimensionCache,
    /// Rows that the first load has written so far.
    pub snapshot_rows: AtomicU64,
    complete: AtomicBool,
}

impl LiveDimension {
    /// A dimension whose history begins at `floor`. It answers nothing yet.
    pub fn new(dimension: Dimension, floor: Position) -> Self {
        let cache = DimensionCache::new(dimension.tier, floor);
        Self { dimension, cache, snapshot_rows: AtomicU64::new(0), complete: AtomicBool::new(false) }
    }

    /// Whether every row is known: only then is a missing row an absent one.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// From here on lookups are answered.
    pub fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }
}

/// What the two flows of the program share: lookups read it, the feed moves it.
#[derive(Debug)]
pub struct Live {
    dimensions: BTreeMap<Arc<str>, Arc<LiveDimension>>,
    pub applied: Watermark,
    pub durable: Watermark,
    pub freshness: Freshness,
    pub gtids: RecentGtids,
    pub feed: FeedHealth,
    pub epoch: u64,
    pub server_uuid: String,
    pub store_id: String,
}

/// Whether the binlog is followed, and why not.
#[derive(Debug, Default)]
pub struct FeedHealth {
    following: AtomicBool,
    error: Mutex<Option<String>>,
}

impl FeedHealth {
    /// The stream delivers.
    pub fn follow(&self) {
        if !self.following.swap(true, Ordering::AcqRel) {
            *self.error.lock() = None;
        }
    }

    /// The stream is lost.
    pub fn lose(&self, why: &str) {
        *self.error.lock() = Some(why.to_owned());
        self.following.store(false, Ordering::Release);
    }

    /// Whether the binlog is followed at this moment.
    pub fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// Why it is not.
    pub fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }
}

/// Who the service is and where it begins.
#[derive(Clone, Debug)]
pub struct Identity {
    pub start: Position,
    pub epoch: u64,
    pub server_uuid: String,
    pub store_id: String,
}

impl Live {
    /// Dimensions that follow the binlog from `identity.start` on.
    pub fn new(dimensions: Vec<Arc<LiveDimension>>, identity: Identity, gtids: RecentGtids) -> Self {
        Self {
            dimensions: dimensions.into_iter().map(|live| (Arc::clone(&live.dimension.name), live)).collect(),
            applied: Watermark::new(identity.start),
            durable: Watermark::new(identity.start),
            freshness: Freshness::default(),
            gtids,
            feed: FeedHealth::default(),
            epoch: identity.epoch,
            server_uuid: identity.server_uuid,
            store_id: identity.store_id,
        }
    }

    /// A dimension by name.
    pub fn dimension(&self, name: &str) -> Option<&Arc<LiveDimension>> {
        self.dimensions.get(name)
    }

    /// Every dimension, in the order of names.
    pub fn dimensions(&self) -> impl Iterator<Item = &Arc<LiveDimension>> {
        self.dimensions.values()
    }

    /// Whether lookups of every dimension are answered from a followed binlog.
    pub fn is_serving(&self) -> bool {
        self.feed.is_following() && self.dimensions().all(|live| live.is_complete())
    }
}
