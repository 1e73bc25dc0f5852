//! Rows that are read from the source while they change: every answer is one
//! that its read point allows.
//!
//! One writer counts, and writes each number into a row; of a row that comes and
//! goes, even numbers alone. Readers hold what they get against what was begun
//! and committed.

use super::{Scene, ask, plain};
use anyhow::{Context as _, Result, bail, ensure};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tidemark_proto::dim::v1::{
    Answer, InvalidateRequest, Tier, admin_service_client::AdminServiceClient, read_point::Point,
};
use tidemark_tests::{
    dim::{Dim, latest, now},
    mysql::Session,
    random::Random,
};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// 1 and 2 change in one transaction, 4 comes and goes.
const IDS: [&str; 4] = ["1", "2", "3", "4"];
/// The number that each of them has.
const NUMBERS: [usize; 4] = [0, 0, 1, 2];
const COMES_AND_GOES: usize = 2;

const READERS: u64 = 6;
/// Lookups of one reader that are answered.
const LOOKUPS: u64 = 100;
/// Lookups that fail for each that is answered.
const FAILURES_MAX: u64 = 20;
/// Numbers that the writer may be ahead of the lookups: a service that is left
/// behind for good would only be seen to be late.
const AHEAD_MAX: u64 = 200;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);
/// A row is let go of before every so many lookups.
const LET_GO_EVERY: u64 = 3;

/// How far the writer has counted.
#[derive(Default)]
struct Number {
    begun: AtomicU64,
    committed: AtomicU64,
}

#[derive(Default)]
struct Counted {
    numbers: [Number; 3],
    lookups: AtomicU64,
    is_over: AtomicBool,
}

impl Counted {
    fn begun(&self) -> [u64; 3] {
        self.numbers.each_ref().map(|number| number.begun.load(Ordering::SeqCst))
    }

    fn committed(&self) -> [u64; 3] {
        self.numbers.each_ref().map(|number| number.committed.load(Ordering::SeqCst))
    }
}

fn write(mut session: Session, counted: &Counted) -> Result<()> {
    for number in 1_u64.. {
        let is_ahead = || number > AHEAD_MAX + counted.lookups.load(Ordering::SeqCst);
        while is_ahead() && !counted.is_over.load(Ordering::SeqCst) {
            std::thread::park_timeout(PAUSE);
        }
        let comes_and_goes = match number % 2 {
            0 => format!("INSERT INTO item VALUES (4, {number}, {number})"),
            _ => String::from("DELETE FROM item WHERE id = 4"),
        };
        let update = |ids| format!("UPDATE item SET v = {number}, w = {number} WHERE id IN ({ids})");
        for (count, sql) in counted.numbers.iter().zip([update("1, 2"), update("3"), comes_and_goes]) {
            if counted.is_over.load(Ordering::SeqCst) {
                return Ok(());
            }
            count.begun.store(number, Ordering::SeqCst);
            session.exec(&sql)?;
            count.committed.store(number, Ordering::SeqCst);
        }
    }
    Ok(())
}

/// Asks one question again and again, on a connection of its own.
struct Reader {
    dim: Dim,
    admin: AdminServiceClient<Channel>,
    counted: Arc<Counted>,
    point: Point,
    /// The numbers of the last answer: no later one is older.
    seen: [u64; 3],
    read_from_source: u64,
}

impl Reader {
    async fn new(scene: &Scene, counted: &Arc<Counted>, point: Point) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{}", scene.address()?))?.connect().await?;
        let admin = AdminServiceClient::new(channel);
        let (dim, counted) = (scene.connect().await?, Arc::clone(counted));
        Ok(Self { dim, admin, counted, point, seen: [0; 3], read_from_source: 0 })
    }

    /// Asks until enough is answered, and tells how many answers took a read of
    /// the source.
    async fn run(mut self, seed: u64) -> Result<u64> {
        let (mut answered, mut failed, mut random) = (0, 0, Random::new(seed));
        while answered < LOOKUPS {
            if (seed + answered).is_multiple_of(LET_GO_EVERY) {
                let id: &&str = random.pick(&IDS);
                self.let_go(id).await?;
            }
            let is_answered = self.lookup().await?;
            self.counted.lookups.fetch_add(1, Ordering::SeqCst);
            if is_answered {
                answered += 1;
            } else {
                failed += 1;
                ensure!(failed < LOOKUPS * FAILURES_MAX, "{failed} lookups failed, {answered} did not");
            }
        }
        Ok(self.read_from_source)
    }

    async fn let_go(&mut self, id: &str) -> Result<()> {
        let request = InvalidateRequest { table: "item".into(), keys: super::keys(&[id]) };
        self.admin.invalidate(request).await.context("invalidate a row")?;
        Ok(())
    }

    /// False for a failure that may be tried again.
    async fn lookup(&mut self) -> Result<bool> {
        let committed = self.counted.committed();
        let answers = match ask(&mut self.dim, plain(&IDS), self.point.clone()).await? {
            Ok(answers) => answers,
            Err(error) if error.reason == "MOVED" => return Ok(false),
            Err(error) => bail!("{:?}: {error:?}", self.point),
        };
        let begun = self.counted.begun();
        let mut least = self.seen;
        if self.point != latest() {
            least.iter_mut().zip(committed).for_each(|(least, committed)| *least = committed.max(*least));
        }
        let told = told(&answers, least)?;
        for (least, (told, begun)) in least.iter().zip(told.iter().zip(begun)) {
            ensure!(
                least <= told && *told <= begun,
                "{:?}: {told} is not from {least} to {begun}: {answers:?}",
                self.point
            );
        }
        self.seen = told;
        self.read_from_source += u64::from(answers.iter().any(|answer| answer.tier() == Tier::Source));
        Ok(true)
    }
}

/// The numbers that answers tell of. A row that is not there tells of an odd
/// one, the least that it may.
#[expect(clippy::indexing_slicing, reason = "places are of three numbers, and a row has its columns")]
fn told(answers: &[Answer], least: [u64; 3]) -> Result<[u64; 3]> {
    ensure!(answers.len() == IDS.len(), "{answers:?}");
    let mut told: [Option<u64>; 3] = [None; 3];
    for (answer, place) in answers.iter().zip(NUMBERS) {
        let number = if answer.found || place != COMES_AND_GOES {
            let row: serde_json::Value = serde_json::from_str(&answer.row).context("read a row")?;
            ensure!(row["v"] == row["w"], "half of a change: {row}");
            row["v"].as_u64().context("a row has a number")?
        } else {
            least[place] | 1
        };
        let other = told[place].replace(number).unwrap_or(number);
        ensure!(other == number, "half of a transaction: {answers:?}");
    }
    Ok(told.map(Option::unwrap_or_default))
}

/// Fails without `flights.hand_over` in `DimensionCache::apply`, and without the
/// wait for `high` in `Shared::admit_and_read`: what is read while it changes
/// stays older than it is.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_read_while_they_change_are_right() -> Result<()> {
    let scene = Scene::begin("lazy_raced", "").await?;
    let counted = Arc::new(Counted::default());
    let mut readers = JoinSet::new();
    for seed in 0..READERS {
        let point = if seed % 2 == 0 { latest() } else { now() };
        readers.spawn(Reader::new(&scene, &counted, point).await?.run(seed));
    }
    let (session, count) = (scene.another_session()?, Arc::clone(&counted));
    let mut writers = JoinSet::new();
    writers.spawn_blocking(move || write(session, &count));
    let mut read_from_source = 0;
    let mut outcome = Ok(());
    while let Some(reader) = readers.join_next().await {
        match reader? {
            Ok(reads) => read_from_source += reads,
            Err(error) => outcome = Err(error),
        }
    }
    counted.is_over.store(true, Ordering::SeqCst);
    writers.join_next().await.context("there is a writer")???;
    outcome?;
    let changes = counted.committed()[0];
    ensure!(
        changes > 0 && read_from_source > 0,
        "{changes} changes, {read_from_source} answers of the source"
    );
    Ok(())
}
