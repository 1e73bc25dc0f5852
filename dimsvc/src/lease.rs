//! The writer's lease: a named lock of the source server, held by one session.
//!
//! The server frees it when the session ends: at once when the process dies,
//! after ten idle seconds when the network does. The holder asks every three
//! seconds whether it still has it, so it knows of a loss before another can
//! have the lock. The lease only keeps writers from meeting; what keeps them
//! from harm is the term in the store's cells.

use mysql_async::{Conn, prelude::Queryable as _};
use std::time::Duration;
use tidemark_binlog::{Source, SourceError};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tracing::{info, warn};

/// How long the server lets one call wait for the lock.
const WAIT_SECONDS: u64 = 1;
/// The server ends a session that is idle for so long.
const SESSION_IDLE_SECONDS: u64 = 10;
/// How often the holder asks. With [`CALL_DEADLINE`] well below the idle time,
/// or two processes may believe to hold the lock.
const ASK_EVERY: Duration = Duration::from_secs(3);
const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// Between attempts when the server cannot be asked.
const RETRY: Duration = Duration::from_millis(500);
/// How long giving the lock back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// The lease as the writer sees it. Dropping it gives the lock back.
#[derive(Debug)]
pub struct Lease {
    held: watch::Receiver<bool>,
    wanted: watch::Sender<bool>,
    /// Keeps the session.
    _keeper: JoinSet<()>,
}

/// What keeps the lease has ended, which it never does by itself.
#[derive(Debug, thiserror::Error)]
#[error("what keeps the writer's lease has ended")]
pub struct KeeperGone;

/// Why the lock is not or no more held.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot ask for the lock: {0}")]
    Query(#[from] mysql_async::Error),
    #[error("no answer within {CALL_DEADLINE:?}")]
    Deadline,
    #[error("the server gave the lock to another session")]
    Taken,
}

impl Lease {
    /// Wants the lease of a store from now on.
    pub fn of_store(source: Source, store_id: &str) -> Self {
        let keeper = Keeper { source, lock: format!("tidemark:{store_id}") };
        let (holds, held) = watch::channel(false);
        let (wanted, wants) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run(holds, wants));
        Self { held, wanted, _keeper: tasks }
    }

    /// The lease of a store that only one process can open.
    pub fn of_only_process() -> Self {
        let (_, always) = watch::channel(true);
        Self::while_allowed(always)
    }

    /// A lease that is held whenever it is wanted and allowed.
    pub fn while_allowed(mut allowed: watch::Receiver<bool>) -> Self {
        let (holds, held) = watch::channel(*allowed.borrow());
        let (wanted, mut wants) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let hold = *allowed.borrow_and_update() && *wants.borrow_and_update();
                holds.send_if_modified(|held| std::mem::replace(held, hold) != hold);
                tokio::select! {
                    // Who allowed it may be gone: it stays as it is.
                    Ok(()) = allowed.changed() => {}
                    changed = wants.changed() => if changed.is_err() { return },
                }
            }
        });
        Self { held, wanted, _keeper: tasks }
    }

    /// Whether this process holds it, as far as is known.
    pub fn is_held(&self) -> bool {
        *self.held.borrow() && *self.wanted.borrow()
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// When nothing will change any more.
    ///
    /// # Cancel safety
    /// A change that is not seen is seen by the next call.
    pub async fn changed(&mut self) -> Result<(), KeeperGone> {
        self.held.changed().await.map_err(|_| KeeperGone)
    }

    /// Whether to try for it, or to stop trying.
    pub fn want(&self, wanted: bool) {
        self.wanted.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
    }

    /// Gives it back, and waits until the server's session is closed.
    pub async fn release(&mut self) {
        self.want(false);
        let released = timeout(RELEASE, self.held.wait_for(|held| !held)).await;
        if released.is_err() {
            warn!("the lease was not given back in time");
        }
    }
}

struct Keeper {
    source: Source,
    lock: String,
}

impl Keeper {
    async fn run(self, holds: watch::Sender<bool>, mut wants: watch::Receiver<bool>) {
        let mut told = false;
        while wants.wait_for(|wanted| *wanted).await.is_ok() {
            match self.acquire(&wants).await {
                Ok(None) => {}
                Ok(Some(mut conn)) => {
                    told = false;
                    info!(lock = self.lock, "holds the writer's lease");
                    holds.send_replace(true);
                    let lost = tokio::select! {
                        lost = self.hold(&mut conn) => Some(lost),
                        _ = wants.wait_for(|wanted| !wanted) => None,
                    };
                    if let Some(error) = &lost {
                        warn!(%error, lock = self.lock, "lost the writer's lease");
                    } else {
                        close(conn).await;
                    }
                    holds.send_replace(false);
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(%error, lock = self.lock, "cannot ask for the writer's lease, will go on trying");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Waits in the server's queue for the lock; `None` when it is no longer
    /// wanted.
    async fn acquire(&self, wants: &watch::Receiver<bool>) -> Result<Option<Conn>, LeaseError> {
        let mut conn = self.source.connect_alone().await?;
        let session = format!("SET SESSION wait_timeout = {SESSION_IDLE_SECONDS}");
        within(conn.query_drop(session)).await?;
        let lock = format!("SELECT GET_LOCK('{}', {WAIT_SECONDS})", self.lock);
        while *wants.borrow() {
            let got: Option<Option<u8>> = within(conn.query_first(&lock)).await?;
            if got.flatten() == Some(1) {
                return Ok(Some(conn));
            }
        }
        close(conn).await;
        Ok(None)
    }

    /// Asks whether the lock is still there until it is not.
    async fn hold(&self, conn: &mut Conn) -> LeaseError {
        let ask = format!("SELECT IS_USED_LOCK('{}') = CONNECTION_ID()", self.lock);
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let own: Result<Option<Option<u8>>, _> = within(conn.query_first(&ask)).await;
            match own.map(Option::flatten) {
                Ok(Some(1)) => {}
                Ok(_) => return LeaseError::Taken,
                Err(error) => return error,
            }
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, mysql_async::Error>>) -> Result<T, LeaseError> {
    Ok(timeout(CALL_DEADLINE, call).await.map_err(|_| LeaseError::Deadline)??)
}

/// Ends the session, so that the lock is free when this returns.
async fn close(conn: Conn) {
    if !matches!(timeout(CALL_DEADLINE, conn.disconnect()).await, Ok(Ok(()))) {
        warn!("the lease's session was not closed in time; the server ends it when it is idle");
    }
}
