//! Calls to Redis under one generation, for one load or one batch of the writer.
//!
//! A call is one round trip for a few thousand keys, one script for each few
//! hundred of them (a script stops the server for its time), and waits at most
//! the configured limit a round. Any error is the end of the link.

use super::{
    Inner, SharedError, codec,
    link::{Link, Script},
};
use redis::{ErrorKind, Pipeline, ServerErrorKind, Value};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Instant,
};
use tidemark_heart::{
    Key, VersionedRow,
    shared::{Newest, SharedRead},
};

/// A script over so many keys takes well under a millisecond.
const KEYS_PER_SCRIPT: usize = 256;
const KEYS_PER_ROUND: usize = 16 * KEYS_PER_SCRIPT;
/// Of the rows sent in one round.
const BYTES_PER_ROUND: usize = 4 << 20;
/// Greater rows are left to the store: a batch of them would hold up everyone.
const ROW_BYTES_MAX: usize = 64 << 10;

/// The tier under one generation, on one connection.
///
/// # Cancel safety
/// Dropping a call leaves at most leases, which expire.
#[derive(Clone, Debug)]
pub struct Session {
    tier: Arc<Inner>,
    link: Arc<Link>,
    generation: u64,
}

impl Session {
    pub(super) fn new(tier: Arc<Inner>, link: Arc<Link>, generation: u64) -> Self {
        Self { tier, link, generation }
    }

    /// Which generation's keys it reads and writes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The run of the server that it talks to.
    pub fn run_id(&self) -> &str {
        &self.link.run_id
    }

    /// Proves that a lease is one's own: random, one for each load.
    pub fn new_token(&self) -> u64 {
        RandomState::new().hash_one(())
    }

    /// Reads keys; leaves a lease for `token` where nothing is held. What a load
    /// reads of the store after that, it may [`Session::fill`].
    ///
    /// # Errors
    /// When Redis fails or is late.
    pub async fn read_or_lease(
        &self,
        table: &str,
        keys: &[Key],
        token: u64,
    ) -> Result<Vec<SharedRead>, SharedError> {
        let lease = codec::lease(token);
        let mut reads = Vec::with_capacity(keys.len());
        for round in keys.chunks(KEYS_PER_ROUND) {
            let mut commands = redis::pipe();
            for keys in round.chunks(KEYS_PER_SCRIPT) {
                self.script(&mut commands, Script::ReadOrLease, self.names(table, keys));
                commands.arg(&lease).arg(self.tier.lease_ms);
            }
            let answers = self.call(&commands).await?;
            reads.extend(answers_of(answers, round.len())?.map(codec::read).collect::<Result<Vec<_>, _>>()?);
        }
        let hits = reads.iter().filter(|read| matches!(read, SharedRead::Hit { .. } | SharedRead::Absent));
        self.tier.metrics.read(reads.len(), hits.count());
        Ok(reads)
    }

    /// Reads keys and leaves nothing: `None` where nothing is held, `Busy` for
    /// a lease.
    ///
    /// # Errors
    /// When Redis fails or is late.
    pub async fn peek(&self, table: &str, keys: &[Key]) -> Result<Vec<Option<SharedRead>>, SharedError> {
        let mut held = Vec::with_capacity(keys.len());
        for round in keys.chunks(KEYS_PER_ROUND) {
            let mut commands = redis::pipe();
            for keys in round.chunks(KEYS_PER_SCRIPT) {
                commands.cmd("MGET").arg(self.names(table, keys));
            }
            let answers = self.call(&commands).await?;
            held.extend(answers_of(answers, round.len())?.map(codec::held).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(held)
    }

    /// Puts what a load has read of the store in the place of its own leases,
    /// and nowhere else. Returns how many rows it has put.
    ///
    /// # Errors
    /// When Redis fails or is late: some may be filled.
    pub async fn fill(&self, table: &str, rows: &[(Key, Newest)], token: u64) -> Result<usize, SharedError> {
        let lease = codec::lease(token);
        let small: Vec<_> = rows.iter().filter(|(_, newest)| row_bytes(newest) <= ROW_BYTES_MAX).collect();
        let mut filled = 0;
        for round in rounds(&small, |(_, newest)| row_bytes(newest)) {
            let mut commands = redis::pipe();
            for rows in round.chunks(KEYS_PER_SCRIPT) {
                self.script(&mut commands, Script::Fill, self.names(table, rows.iter().map(|(key, _)| key)));
                commands.arg(&lease);
                for (key, newest) in rows {
                    self.value(&mut commands, key, newest);
                }
            }
            let answers = self.call(&commands).await?;
            filled += answers_of(answers, round.len())?.filter(|answer| *answer == Value::Int(1)).count();
        }
        self.tier.metrics.filled(rows.len(), filled);
        Ok(filled)
    }

    /// Tells of versions that are durable in the store: voids leases, replaces
    /// older versions, makes no key.
    ///
    /// # Errors
    /// When Redis fails or is late: then this generation must not be used once
    /// these versions are forgotten elsewhere.
    pub async fn update(&self, table: &str, rows: &[VersionedRow]) -> Result<(), SharedError> {
        let (small, large): (Vec<_>, Vec<_>) = rows
            .iter()
            .map(|row| (&row.key, Some((row.version, row.image.clone()))))
            .partition(|(_, newest)| row_bytes(newest) <= ROW_BYTES_MAX);
        for round in rounds(&small, |(_, newest)| row_bytes(newest)) {
            let mut commands = redis::pipe();
            for rows in round.chunks(KEYS_PER_SCRIPT) {
                let names = self.names(table, rows.iter().map(|(key, _)| *key));
                self.script(&mut commands, Script::Update, names);
                for (key, newest) in rows {
                    self.value(&mut commands, key, newest);
                }
            }
            self.call(&commands).await?;
        }
        self.drop_all(table, large.into_iter().map(|(key, _)| key)).await
    }

    /// Removes keys and their leases.
    ///
    /// # Errors
    /// When Redis fails or is late: some may be left.
    pub async fn drop_keys(&self, table: &str, keys: &[Key]) -> Result<(), SharedError> {
        self.drop_all(table, keys).await
    }

    async fn drop_all(&self, table: &str, keys: impl IntoIterator<Item = &Key>) -> Result<(), SharedError> {
        for round in self.names(table, keys).chunks(KEYS_PER_ROUND) {
            let mut commands = redis::pipe();
            for names in round.chunks(KEYS_PER_SCRIPT) {
                commands.cmd("UNLINK").arg(names);
            }
            self.call(&commands).await?;
        }
        Ok(())
    }

    fn names<'k>(&self, table: &str, keys: impl IntoIterator<Item = &'k Key>) -> Vec<Vec<u8>> {
        let table = format!("{}:{}:{table}:", self.tier.space, self.generation);
        keys.into_iter().map(|key| codec::name(&table, key)).collect()
    }

    fn script(&self, commands: &mut Pipeline, script: Script, names: Vec<Vec<u8>>) {
        commands.cmd("EVALSHA").arg(self.link.hash(script)).arg(names.len()).arg(names);
    }

    fn value(&self, commands: &mut Pipeline, key: &Key, newest: &Newest) {
        commands.arg(codec::value(newest)).arg(codec::time_to_live(key, self.tier.ttl_ms));
    }

    async fn call(&self, commands: &Pipeline) -> Result<Vec<Value>, SharedError> {
        let begun = Instant::now();
        let answers = self.call_with_scripts(commands).await;
        self.tier.called(&self.link, begun.elapsed(), answers.as_ref().err());
        answers
    }

    /// Every script may run twice.
    async fn call_with_scripts(&self, commands: &Pipeline) -> Result<Vec<Value>, SharedError> {
        let answers = self.link.call(commands, self.tier.timeout).await;
        match answers {
            Err(SharedError::Redis(error))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                self.link.load_scripts(self.tier.timeout).await?;
                self.link.call(commands, self.tier.timeout).await
            }
            answers => answers,
        }
    }
}

/// The answers for single keys of commands that each answer with a list.
fn answers_of(answers: Vec<Value>, expected: usize) -> Result<impl Iterator<Item = Value>, SharedError> {
    let mut flat = Vec::with_capacity(expected);
    for answer in answers {
        match answer {
            Value::Array(answers) => flat.extend(answers),
            _ => return Err(SharedError::Foreign),
        }
    }
    if flat.len() == expected { Ok(flat.into_iter()) } else { Err(SharedError::Foreign) }
}

/// Cuts rows into what one round may carry.
fn rounds<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |row: &&T| {
            sum += bytes(row);
            sum <= BYTES_PER_ROUND
        };
        let count = rest.iter().take(KEYS_PER_ROUND).take_while(fits).count();
        // A row greater than a whole round goes alone.
        let (round, after) = rest.split_at(count.max(1).min(rest.len()));
        rest = after;
        (!round.is_empty()).then_some(round)
    })
}

fn row_bytes(newest: &Newest) -> usize {
    newest.as_ref().and_then(|(_, image)| image.as_ref()).map_or(0, |row| row.len())
}
