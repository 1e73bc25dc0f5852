//! Reading by index: all rows whose key begins with the asked values, as of a
//! position. What is not durable is laid over a bounded scan of the store.

use super::{
    encode::{BEFORE_HISTORY, Form, Projection, encode},
    read::{Keys, ReadError},
};
use crate::{
    cache::{Found, Tier},
    dimension::Key,
    live::LiveDimension,
    load::Loader,
    store::{PrefixPage, ReadPrefix},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tidemark_proto::{Position, dim::v1::TableAnswers};

/// Reads one index for one call.
#[derive(Debug)]
pub(super) struct IndexReader<'s> {
    /// The index's own dimension.
    pub(super) live: &'s Arc<LiveDimension>,
    pub(super) loader: &'s Loader,
    /// The most rows of one key.
    pub(super) rows_max: usize,
}

impl IndexReader<'_> {
    /// The rows of each prefix at its position, which must be resolved, in key
    /// order.
    pub(super) async fn read(
        &self,
        prefixes: &Keys,
        at: impl Fn(usize) -> Position,
    ) -> Result<Vec<Vec<Found>>, ReadError> {
        let mut reads = Vec::with_capacity(prefixes.len());
        // Before the store is read: what it lacks then was here before.
        let mut undurable = Vec::with_capacity(prefixes.len());
        for index in 0..prefixes.len() {
            let prefix = prefixes.get(index);
            undurable.push(self.live.cache.older_by_prefix(prefix, at(index)));
            reads.push(ReadPrefix { prefix: Bytes::copy_from_slice(prefix), before: at(index) });
        }
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let table = Arc::clone(&self.live.dimension.sink_table);
        let metrics = &self.loader.metrics;
        let pages = self.loader.store.scan_prefixes(table, reads, self.rows_max).await;
        let pages = pages.inspect_err(|_| metrics.store_errors.inc())?;
        metrics.store_read_seconds.observe(started.elapsed().as_secs_f64());
        let mut found = Vec::with_capacity(pages.len());
        for ((index, page), undurable) in pages.into_iter().enumerate().zip(undurable) {
            let mut rows = self.stored(page, at(index))?;
            let newer = |(key, answer)| (key, Found { answer, tier: Tier::Overlay });
            rows.extend(undurable.into_iter().map(newer));
            found.push(rows.into_values().filter(|found| found.answer.image().is_some()).collect());
        }
        Ok(found)
    }

    fn stored(&self, page: PrefixPage, at: Position) -> Result<BTreeMap<Key, Found>, ReadError> {
        if page.more {
            return Err(ReadError::TooManyRows { max: self.rows_max });
        }
        let answer = |row: crate::dimension::VersionedRow| {
            let answer = self.live.cache.stored(row.key.as_bytes(), Some((row.version, row.image)), at);
            (row.key, Found { answer, tier: Tier::Store })
        };
        Ok(page.rows.into_iter().map(answer).collect())
    }
}

/// Encodes the rows of each key, one after the other.
pub(super) fn encode_matches(
    form: &Form<'_>,
    found: Vec<Vec<Found>>,
    projection: &Projection,
    before_history: impl Fn(usize) -> bool,
) -> TableAnswers {
    let matches = found.iter().map(|rows| u32::try_from(rows.len()).unwrap_or(u32::MAX)).collect();
    let owners: Vec<usize> =
        found.iter().enumerate().flat_map(|(key, rows)| std::iter::repeat_n(key, rows.len())).collect();
    // A key without rows has no other place for it.
    let flags = (0..found.len()).map(|key| if before_history(key) { BEFORE_HISTORY } else { 0 });
    let key_flags = flags.collect::<Vec<u8>>().into();
    let rows: Vec<Found> = found.into_iter().flatten().collect();
    let repeated: Vec<String>;
    let form = match form {
        Form::Plain(keys) => {
            repeated = owners.iter().filter_map(|owner| keys.get(*owner).cloned()).collect();
            Form::Plain(&repeated)
        }
        columnar => *columnar,
    };
    let owner = |row: usize| owners.get(row).copied().unwrap_or_default();
    let mut answers = encode(&form, &rows, projection, |row| before_history(owner(row)));
    (answers.matches, answers.key_flags) = (matches, key_flags);
    for (row, answer) in answers.answers.iter_mut().enumerate() {
        answer.of_key = u32::try_from(owner(row)).unwrap_or(u32::MAX);
    }
    answers
}
