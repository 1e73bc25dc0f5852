//! Where recent transactions ended, by GTID, for lookups that are fenced by
//! one.

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tidemark_binlog::{GtidError, GtidSet};
use tidemark_proto::Position;

/// How many transactions are remembered: about 10 MiB.
const RECENT_MAX: usize = 100_000;

/// The ends of the newest transactions, and the set of all that were seen.
#[derive(Debug)]
pub struct RecentGtids {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    seen: GtidSet,
    ends: HashMap<Arc<str>, Position, foldhash::fast::RandomState>,
    order: VecDeque<Arc<str>>,
}

/// What is known of a GTID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GtidPlace {
    /// The end of its transaction.
    At(Position),
    /// Applied, but too long ago to know where.
    Forgotten,
    /// Not applied yet.
    Unseen,
}

impl RecentGtids {
    /// Begins with the transactions that were applied before.
    pub fn new(seen: GtidSet) -> Self {
        Self { inner: Mutex::new(Inner { seen, ends: HashMap::default(), order: VecDeque::new() }) }
    }

    /// Notes a transaction that is about to be applied; false when it was seen
    /// before.
    ///
    /// # Errors
    /// When the text is not a GTID.
    pub fn add(&self, gtid: &Arc<str>, end: Position) -> Result<bool, GtidError> {
        let mut inner = self.inner.lock();
        if inner.seen.contains(&gtid.parse()?) {
            return Ok(false);
        }
        inner.seen.add(gtid)?;
        inner.ends.insert(Arc::clone(gtid), end);
        inner.order.push_back(Arc::clone(gtid));
        if inner.order.len() > RECENT_MAX
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.ends.remove(&oldest);
        }
        Ok(true)
    }

    /// Where the transaction ended.
    ///
    /// # Errors
    /// When the text is not a GTID.
    pub fn place(&self, gtid: &str) -> Result<GtidPlace, GtidError> {
        let inner = self.inner.lock();
        if let Some(end) = inner.ends.get(gtid) {
            return Ok(GtidPlace::At(*end));
        }
        let known = inner.seen.contains(&gtid.parse()?);
        Ok(if known { GtidPlace::Forgotten } else { GtidPlace::Unseen })
    }

    /// All transactions that were applied, and perhaps the one at work.
    pub fn seen(&self) -> GtidSet {
        self.inner.lock().seen.clone()
    }

    /// The set of all applied transactions, as MySQL writes it.
    pub fn set(&self) -> String {
        self.inner.lock().seen.to_string()
    }
}
