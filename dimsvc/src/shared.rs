//! The shared tier: rows in Redis, between memory and store, for all replicas.
//!
//! Redis may evict a key, restart from an old dump, or fail over to a replica
//! that is behind: an older row then looks alive. What keeps it from being
//! believed:
//!
//! 1. A miss leaves a lease; only what is read of the store after that is filled,
//!    and only while the lease stands. An update voids leases, replaces older
//!    rows and never makes a key. The scripts in `shared/` are these rules;
//!    [`tidemark_heart::shared::SharedModel`] is the same without a server.
//! 2. The writer makes rows durable, updates Redis, publishes `durable`, and only
//!    then are overlays shortened. Keys carry a generation, published in one with
//!    `durable` and the server's run id, and raised whenever Redis may lack a
//!    row; a [`Session`] is given only on a connection to the published run.
//! 3. Whatever goes wrong, the tier is skipped: nobody waits for a connection,
//!    and the time limit of a call is waited for a few times, not more.
//!
//! A script reads and writes many keys at once: Redis Cluster is not supported.

mod breaker;
mod codec;
mod link;
mod session;
mod update;

pub use session::Session;

use crate::{metrics::SharedMetrics, state::SharedState};
use breaker::Breaker;
use link::Link;
use parking_lot::Mutex;
use redis::ConnectionInfo;
use std::{sync::Arc, time::Duration};
use tidemark_proto::config::Shared;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Why the shared tier gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    #[error("redis failed")]
    Redis(#[from] redis::RedisError),
    #[error("redis did not answer within {0:?}")]
    Late(Duration),
    #[error("the connection to redis is lost")]
    Lost,
    #[error("redis holds what this service does not write")]
    Foreign,
    #[error("redis cannot be used: {0}")]
    Unfit(String),
}

/// Whether lookups use the tier, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStatus {
    pub in_use: bool,
    /// Why not.
    pub reason: String,
    pub generation: u64,
    /// Of the server that is connected; empty when none is.
    pub run_id: String,
}

/// See the module. Clones share the connection.
#[derive(Clone, Debug)]
pub struct SharedTier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None`: no tier is configured.
    server: Option<ConnectionInfo>,
    /// What all keys of this store begin with.
    space: String,
    timeout: Duration,
    retry: Duration,
    ttl_ms: u64,
    lease_ms: u64,
    metrics: SharedMetrics,
    state: Mutex<State>,
}

/// Who may be asked.
enum Standing {
    Usable(Session),
    /// Another run than the published one is connected.
    OtherRun {
        run_id: String,
        generation: u64,
    },
    Unusable,
}

#[derive(Debug, Default)]
struct State {
    published: Option<SharedState>,
    link: Option<Arc<Link>>,
    breaker: Breaker,
    /// The last failure.
    reason: String,
    /// The log has it that the server is left alone.
    told: bool,
}

impl SharedTier {
    /// A tier that is used once [`SharedTier::run`] runs and something is
    /// published.
    ///
    /// # Errors
    /// When the configured address is none.
    pub fn try_new(config: &Shared, store_id: &str, metrics: SharedMetrics) -> Result<Self, SharedError> {
        let server = (!config.url.is_empty()).then(|| link::parse_url(&config.url)).transpose()?;
        let inner = Inner {
            server,
            space: codec::space(&config.prefix, store_id),
            timeout: Duration::from_millis(config.timeout_ms),
            retry: Duration::from_millis(config.retry_ms),
            ttl_ms: config.ttl_seconds.saturating_mul(1_000),
            lease_ms: config.lease_ms,
            metrics,
            state: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether there is an address to connect to.
    pub fn is_configured(&self) -> bool {
        self.inner.server.is_some()
    }

    /// Takes what was read or written of the cell. Call it before anything that
    /// the `durable` beside it allows to forget is forgotten. An older
    /// generation than the known one changes nothing.
    pub fn publish(&self, published: &SharedState) {
        let mut state = self.inner.state.lock();
        // Who polls the cell may come late with what he has read.
        if state.published.as_ref().is_none_or(|known| known.generation <= published.generation) {
            state.published = Some(published.clone());
        }
    }

    /// The tier as it may be used now: `None` while it is not connected, left
    /// alone, or connected to another run than the published one. A load takes
    /// its session after it was registered, else it may miss a row that was
    /// forgotten under a later generation.
    pub fn usable(&self) -> Option<Session> {
        match self.standing() {
            Standing::Usable(session) => return Some(session),
            _ if self.is_configured() => self.inner.metrics.called("skipped"),
            _ => {}
        }
        None
    }

    /// What is published and who is connected, looked at once.
    fn standing(&self) -> Standing {
        let state = self.inner.state.lock();
        match (&state.published, &state.link) {
            (Some(published), Some(link)) if published.run_id == link.run_id => {
                let tier = Arc::clone(&self.inner);
                Standing::Usable(Session::new(tier, Arc::clone(link), published.generation))
            }
            (Some(published), Some(link)) => {
                Standing::OtherRun { run_id: link.run_id.clone(), generation: published.generation }
            }
            _ => Standing::Unusable,
        }
    }

    /// How it stands.
    pub fn status(&self) -> SharedStatus {
        let state = self.inner.state.lock();
        let run_id = state.link.as_ref().map(|link| link.run_id.clone()).unwrap_or_default();
        let reason = match (&self.inner.server, &state.link, &state.published) {
            (None, ..) => String::from("dimsvc.shared.url is empty"),
            (_, None, _) if state.breaker.is_open() => format!("left alone for a while: {}", state.reason),
            (_, None, _) => format!("not connected: {}", state.reason),
            (.., None) => String::from("nothing is published yet"),
            (.., Some(published)) if published.run_id != run_id => {
                String::from("the connected server is not the published one")
            }
            _ => String::new(),
        };
        let generation = state.published.as_ref().map_or(0, |published| published.generation);
        SharedStatus { in_use: reason.is_empty(), reason, generation, run_id }
    }

    /// Keeps a connection until `stop`: connects, and connects anew after an
    /// error, at once or, once failures have opened the breaker, after the time
    /// to leave the server alone.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(server) = &self.inner.server else { return };
        let keep = async {
            loop {
                self.inner.serve(server).await;
                if self.inner.is_left_alone() {
                    tokio::time::sleep(self.inner.retry).await;
                    self.inner.state.lock().breaker.half_open();
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keep => {}
        }
        self.inner.state.lock().link = None;
    }
}

impl Inner {
    /// Connects and moves bytes until the link is lost.
    async fn serve(&self, server: &ConnectionInfo) {
        // Nobody waits for this, so it may take as long as the pause between two.
        let patience = self.retry.max(self.timeout);
        let connect = tokio::time::timeout(patience, Link::connect(server, self.timeout));
        let connected = connect.await.unwrap_or(Err(SharedError::Late(patience)));
        let (link, driver) = match connected {
            Ok((link, driver)) => (Arc::new(link), driver),
            Err(error) => return self.fail(&mut self.state.lock(), &error),
        };
        info!(run_id = link.run_id, "connected to the shared tier");
        {
            let mut state = self.state.lock();
            state.link = Some(Arc::clone(&link));
            state.told = false;
        }
        self.metrics.breaker_open.set(0);
        tokio::select! {
            () = driver => self.lose(&link, &SharedError::Lost),
            () = link.lost.cancelled() => {}
        }
    }

    /// Notes how a call on a link ended.
    fn called(&self, link: &Arc<Link>, took: Duration, error: Option<&SharedError>) {
        self.metrics.seconds.observe(took.as_secs_f64());
        self.metrics.called(match error {
            None => "ok",
            Some(SharedError::Late(_)) => "late",
            Some(_) => "error",
        });
        match error {
            None => self.state.lock().breaker.succeeded(),
            Some(error) => self.lose(link, error),
        }
    }

    /// A failure on a link. Late answers are still those of the same server: the
    /// link is given up when the breaker opens. After any other error nobody
    /// knows who would answer.
    fn lose(&self, link: &Arc<Link>, error: &SharedError) {
        let mut state = self.state.lock();
        if !state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            return;
        }
        self.fail(&mut state, error);
        if !matches!(error, SharedError::Late(_)) || state.breaker.is_open() {
            state.link = None;
            link.lost.cancel();
        }
    }

    fn fail(&self, state: &mut State, error: &SharedError) {
        state.breaker.failed();
        state.reason = describe(error);
        if state.breaker.is_open() && !std::mem::replace(&mut state.told, true) {
            warn!(reason = state.reason, "the shared tier is left alone for a while");
            self.metrics.breaker_open.set(1);
            self.metrics.breaker_opened.inc();
        }
    }

    fn is_left_alone(&self) -> bool {
        self.state.lock().breaker.is_open()
    }
}

fn describe(error: &SharedError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
