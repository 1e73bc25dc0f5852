//! A reader: batches over both tables with every read point, each answer held
//! against the log.

use crate::{
    feed::{HOT, LENGTH},
    replica::Replica,
    site::{ACCOUNTS, BALANCE, KEYS, Site, TABLES, at, number_of},
};
use std::sync::{Arc, atomic::Ordering};
use tidemark_proto::{
    Position,
    dim::v1::{
        AsOfEach, KeyBlock, Latest, LookupRequest, LookupResponse, ReadPoint, TableAnswers, TableLookup,
        Tier, position::Place, read_point::Point,
    },
};
use tidemark_tests::{
    coherence::{Answered, Check, Tally, Verdict},
    random::Random,
};

/// Keys of each table in a batch: the accounts, hot ones, any.
const BATCH_HOT: usize = 40;
const BATCH: usize = 128;
/// How far back `as_of` asks.
const WINDOW: u64 = 400 * LENGTH;
/// How far ahead `at_least` asks.
const AHEAD: u64 = 3 * LENGTH;

/// See the module.
pub(crate) struct Reader {
    site: Arc<Site>,
    random: Random,
    pub(crate) tally: Tally,
    /// Lookups that failed, loudly.
    pub(crate) failed: u64,
}

/// A batch that is under way.
struct Asked {
    ids: [Vec<usize>; 2],
    /// What had happened to each key before.
    events: [Vec<u64>; 2],
    /// For `as_of_each`.
    positions: [Vec<u64>; 2],
    demanded: Position,
    /// `as_of` one position.
    of: Option<Position>,
}

impl Reader {
    pub(crate) fn new(site: Arc<Site>, seed: u64) -> Self {
        Self { site, random: Random::new(seed), tally: Tally::default(), failed: 0 }
    }

    /// Reads until the site stops.
    pub(crate) async fn run(mut self) -> Self {
        while !self.site.stop.is_cancelled() {
            let replica = self.site.replica(self.random.below(2) as usize);
            let before = self.tally.checks;
            self.read(&replica).await;
            self.site.checks.fetch_add(self.tally.checks - before, Ordering::Relaxed);
            // A batch of hits never waits.
            tokio::task::yield_now().await;
        }
        self
    }

    async fn read(&mut self, replica: &Replica) {
        let (request, asked) = self.ask(replica);
        match replica.lookups.call(request).await {
            Ok(response) => self.judge(&asked, &response),
            Err(_) => self.failed += 1,
        }
    }

    fn ask(&mut self, replica: &Replica) -> (LookupRequest, Asked) {
        let ids = [self.ids(), self.ids()];
        let events = [0, 1].map(|table: usize| {
            let ids = ids.get(table).into_iter().flatten();
            ids.map(|id| self.site.checker.events(number_of(table, *id))).collect()
        });
        let applied = replica.live().applied.get();
        let mut asked =
            Asked { ids, events, positions: [Vec::new(), Vec::new()], demanded: applied, of: None };
        let point = match self.random.below(12) {
            0 => {
                asked.demanded = at(applied.offset() + self.random.below(AHEAD));
                Point::AtLeast(packed(asked.demanded))
            }
            1 => {
                asked.demanded = self.past(applied);
                asked.of = Some(asked.demanded);
                Point::AsOf(packed(asked.demanded))
            }
            2 => {
                let mut each = || (0..BATCH).map(|_| self.past(applied).packed()).collect();
                asked.positions = [each(), each()];
                asked.demanded = Position::ZERO;
                Point::AsOfEach(AsOfEach {})
            }
            _ => Point::Latest(Latest {}),
        };
        let tables = asked.ids.iter().zip(&asked.positions).zip(TABLES);
        let tables = tables.map(|((ids, positions), table)| lookup_of(table, ids, positions)).collect();
        let read_point = Some(ReadPoint { point: Some(point) });
        (LookupRequest { id: 1, tables, read_point, ..Default::default() }, asked)
    }

    fn ids(&mut self) -> Vec<usize> {
        let hot = ACCOUNTS..BATCH_HOT;
        let any =
            |random: &mut Random, keys: usize| ACCOUNTS + random.below((keys - ACCOUNTS) as u64) as usize;
        let mut ids: Vec<usize> = (0..ACCOUNTS).collect();
        ids.extend(hot.map(|_| any(&mut self.random, HOT)));
        ids.extend((BATCH_HOT..BATCH).map(|_| any(&mut self.random, KEYS)));
        ids
    }

    fn past(&mut self, applied: Position) -> Position {
        at(applied.offset() - self.random.below(WINDOW).min(applied.offset() - crate::site::FLOOR))
    }

    fn judge(&mut self, asked: &Asked, response: &LookupResponse) {
        let applied = Position::from_packed(response.applied);
        let (mut sum, mut of_one) = (Vec::new(), asked.positions.iter().all(Vec::is_empty));
        for (table, answers) in response.tables.iter().enumerate() {
            let Some((ids, events)) = asked.ids.get(table).zip(asked.events.get(table)) else { return };
            for (index, (id, events)) in ids.iter().zip(events).enumerate() {
                let key = number_of(table, *id);
                let each = asked.positions.get(table).and_then(|positions| positions.get(index));
                let position = each.map(|packed| Position::from_packed(*packed)).or(asked.of);
                let Some((answered, n, is_resident)) = answer(answers, index) else {
                    of_one = false;
                    self.failed += 1;
                    continue;
                };
                let check = Check {
                    key,
                    at: position.unwrap_or(applied),
                    demanded: asked.demanded,
                    applied,
                    answered,
                    // The past is read from the store, whatever happens to its key.
                    raced: (!is_resident && position.is_none()) || self.site.checker.events(key) != *events,
                };
                self.tally.add_check(self.site.checker.judge(&check), &check);
                if *id < ACCOUNTS {
                    sum.push(n);
                }
            }
        }
        if of_one {
            let expect = BALANCE * (TABLES.len() * ACCOUNTS) as i64;
            self.tally.add(Verdict::of_sum(sum.iter().copied(), expect), || format!("at {applied}: {sum:?}"));
        }
    }
}

fn packed(position: Position) -> tidemark_proto::dim::v1::Position {
    tidemark_proto::dim::v1::Position { place: Some(Place::Packed(position.packed())) }
}

fn lookup_of(table: &str, ids: &[usize], positions: &[u64]) -> TableLookup {
    let (mut text, mut ends) = (Vec::with_capacity(ids.len() * 7), Vec::with_capacity(ids.len()));
    for id in ids {
        text.extend_from_slice(format!("[{id}]").as_bytes());
        ends.push(text.len() as u32);
    }
    let keys = Some(KeyBlock { text: text.into(), ends });
    TableLookup { table: table.into(), keys, positions: positions.to_vec(), ..Default::default() }
}

/// Answer `index`, its amount, and whether memory had it; none when the answers
/// are not of the form that was asked for.
fn answer(answers: &TableAnswers, index: usize) -> Option<(Answered, i64, bool)> {
    let begin = index.checked_sub(1).map_or(Some(0), |before| answers.row_ends.get(before).copied())?;
    let row = answers.rows.get(begin as usize..*answers.row_ends.get(index)? as usize)?;
    let (n, stamp) = if row.is_empty() { (0, None) } else { parse(row)? };
    let to = match *answers.tos.get(index)? {
        0 => Position::MAX,
        packed => Position::from_packed(packed),
    };
    let answered = Answered {
        version: Position::from_packed(*answers.versions.get(index)?),
        from: Position::from_packed(*answers.froms.get(index)?),
        to,
        stamp,
    };
    let tier = i32::from(*answers.tiers.get(index)?);
    Some((answered, n, tier == Tier::Full as i32 || tier == Tier::Lru as i32))
}

/// The amount and the stamp of `{"id":1,"n":2,"stamp":3}`.
fn parse(row: &[u8]) -> Option<(i64, Option<u64>)> {
    let text = std::str::from_utf8(row).ok()?.strip_suffix('}')?;
    let (text, stamp) = text.rsplit_once(':')?;
    let n = text.strip_suffix(r#","stamp""#)?.rsplit_once(':')?.1;
    Some((n.parse().ok()?, Some(stamp.parse().ok()?)))
}
