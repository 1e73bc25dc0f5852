//! A TCP proxy that breaks on demand.
//!
//! A test puts it between a program and a service and switches its [`Mode`]
//! while both run. It knows nothing of what flows through it: only bytes, their
//! delay and their loss. Its address stays the same in every mode.

mod pump;

use anyhow::{Context, Result};
use pump::{Direction, pump};
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hands them on.
    Pass,
    /// Resets every connection, and each new one as soon as it is accepted:
    /// the port stays ours.
    Cut,
    /// Hands them on later, in order: by `latency` and up to `jitter` more.
    Delay { latency: Duration, jitter: Duration },
    /// Accepts connections and swallows what comes, both ways. A connection
    /// that lost bytes is reset when the mode ends.
    BlackHole,
    /// Hands on so many bytes a second in each direction of a connection.
    Throttle { bytes_per_second: u64 },
}

/// A running proxy. Dropping it cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    line: Arc<Line>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What connections are told.
#[derive(Clone, Copy, Debug)]
struct State {
    mode: Mode,
    /// Grows when the connections of that moment are to be reset: a watch shows
    /// its last value alone, and a cut may be shorter than a look.
    resets: u64,
}

/// What all connections share.
#[derive(Debug)]
struct Line {
    upstream: String,
    connections: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What went through a proxy since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Accepted connections, those that were reset at once too.
    pub connections: u64,
    /// Bytes handed on to the service.
    pub sent: u64,
    /// Bytes handed back from it.
    pub received: u64,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, sent, received } = self;
        write!(f, "{connections} connections, {sent} bytes there, {received} back")
    }
}

impl Proxy {
    /// Listens on a free port and hands on to `upstream` (`host:port`).
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for a proxy")?;
        let address = listener.local_addr().context("read the port")?;
        let line = Arc::new(Line {
            upstream: upstream.to_owned(),
            connections: AtomicU64::default(),
            sent: AtomicU64::default(),
            received: AtomicU64::default(),
        });
        let (state, states) = watch::channel(State { mode: Mode::Pass, resets: 0 });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let acceptor =
            Acceptor { listener, line: Arc::clone(&line), states, stop: stop.clone(), tasks: tasks.clone() };
        tasks.spawn(acceptor.run());
        Ok(Self { address, state, line, stop, tasks })
    }

    /// Where programs connect to, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port of that.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Switches; bytes that are on their way keep the delay they got.
    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.resets += u64::from(mode == Mode::Cut);
        });
    }

    /// Resets the connections of this moment; new ones pass as before.
    pub fn cut_once(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// What went through so far.
    pub fn traffic(&self) -> Traffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            connections: read(&self.line.connections),
            sent: read(&self.line.sent),
            received: read(&self.line.received),
        }
    }

    /// Resets its connections and gives the port back.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Acceptor {
    listener: TcpListener,
    line: Arc<Line>,
    states: watch::Receiver<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self) {
        loop {
            let Some(accepted) = self.stop.run_until_cancelled(self.listener.accept()).await else { return };
            // A client that is gone again is no reason to stop.
            let Ok((client, _)) = accepted else { continue };
            self.line.connections.fetch_add(1, Ordering::Relaxed);
            let (line, states, stop) = (Arc::clone(&self.line), self.states.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                stop.run_until_cancelled(carry(client, &line, states)).await;
            });
        }
    }
}

/// Carries one connection to its end. However it ends but by itself, both sides
/// see a reset.
async fn carry(mut client: TcpStream, line: &Line, mut states: watch::Receiver<State>) {
    let first = *states.borrow_and_update();
    if client.set_zero_linger().is_err() || first.mode == Mode::Cut {
        return;
    }
    let connecting = timeout(CONNECT_DEADLINE, TcpStream::connect(&line.upstream)).await;
    let Ok(Ok(mut service)) = connecting else { return };
    let delays = [client.set_nodelay(true), service.set_nodelay(true), service.set_zero_linger()];
    if delays.iter().any(Result::is_err) {
        return;
    }
    let lost = AtomicBool::new(false);
    let (client_read, client_write) = client.split();
    let (service_read, service_write) = service.split();
    let direction = |count| Direction { states: states.clone(), count, lost: &lost };
    let there = pump(client_read, service_write, direction(&line.sent));
    let back = pump(service_read, client_write, direction(&line.received));
    tokio::select! {
        _ = async { tokio::join!(there, back) } => {}
        () = broken(states, first.resets, &lost) => {}
    }
}

/// Returns when a connection that began at `resets` is to be reset.
async fn broken(mut states: watch::Receiver<State>, resets: u64, lost: &AtomicBool) {
    let is_over = |state: &State| {
        state.resets != resets || (state.mode != Mode::BlackHole && lost.load(Ordering::Relaxed))
    };
    // An error means that the proxy is gone.
    states.wait_for(is_over).await.map(drop).unwrap_or_default();
}

#[cfg(test)]
mod tests;
