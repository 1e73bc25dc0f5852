//! The threads that serve: one runtime each, one a core.
//!
//! A connection lives on one thread for all its life, so that what it shares
//! with no other costs no atomic and no wake-up of another core: a third of the
//! CPU time a request of a work-stealing runtime. The feed and the writer stay
//! on the program's own runtime. Knows nothing of gRPC: what to run over a
//! thread's connections is handed in.

use super::connection::Connection;
use anyhow::Context as _;
use futures_util::{Stream, stream};
use std::{
    future::Future, io, net::TcpStream as StdTcpStream, pin::Pin, sync::Arc, thread::available_parallelism,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Connections on their way to a thread: more wait in the listener.
const HAND_OVER: usize = 16;
/// After a failed accept, which is most often a lack of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Clones are the connections of a thread.
pub(super) type Seat = Arc<()>;

/// A thread, seen from the listener.
struct Thread {
    seat: Seat,
    connections: mpsc::Sender<(StdTcpStream, Seat)>,
}

/// Runs `serve` over the connections of each thread, and gives every connection
/// of `listener` to the thread that has the fewest, until `stop`; then waits for
/// all threads to end. They end at once when this future is dropped.
///
/// # Errors
/// When a thread cannot be started, or what it serves fails.
pub(super) async fn serve_on_threads<S, F>(
    listener: TcpListener,
    stop: &CancellationToken,
    serve: S,
) -> anyhow::Result<()>
where
    S: Fn(Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>) -> F,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (mut tasks, mut threads) = (JoinSet::new(), Vec::new());
    let abandoned = CancellationToken::new();
    let _abandon = abandoned.clone().drop_guard();
    for _ in 0..available_parallelism().map_or(1, usize::from) {
        let (connections, handed) = mpsc::channel(HAND_OVER);
        threads.push(Thread { seat: Seat::default(), connections });
        let serving = serve(Box::pin(incoming(handed)));
        let abandoned = abandoned.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("start a serving thread")?;
        tasks.spawn_blocking(move || {
            runtime.block_on(abandoned.run_until_cancelled(serving)).unwrap_or(Ok(()))
        });
    }
    stop.run_until_cancelled(accept(listener, threads)).await;
    while let Some(ended) = tasks.join_next().await {
        ended.context("a serving thread panicked")??;
    }
    Ok(())
}

/// Never ends. Threads that have ended are passed over.
async fn accept(listener: TcpListener, threads: Vec<Thread>) {
    loop {
        let accepted = listener.accept().await.and_then(|(stream, _)| {
            // An answer is written whole: nothing is gained by waiting for more.
            stream.set_nodelay(true)?;
            stream.into_std()
        });
        match (accepted, threads.iter().min_by_key(|thread| Arc::strong_count(&thread.seat))) {
            (Ok(stream), Some(thread)) => {
                let handed = thread.connections.send((stream, Arc::clone(&thread.seat))).await;
                if handed.is_err() {
                    tracing::warn!("a connection was dropped: its serving thread has ended");
                }
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Connections as they are handed over, on the runtime that polls this.
fn incoming(mut handed: mpsc::Receiver<(StdTcpStream, Seat)>) -> impl Stream<Item = io::Result<Connection>> {
    stream::poll_fn(move |cx| {
        handed.poll_recv(cx).map(|handed| {
            let (stream, seat) = handed?;
            Some(TcpStream::from_std(stream).map(|stream| Connection::new(stream, seat)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers each connection with the name of the thread that it is on, and
    /// keeps it until it is closed; ends with `stop` alone.
    async fn name_thread(
        mut connections: Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut open = JoinSet::new();
        while let Some(Some(connection)) = stop.run_until_cancelled(connections.next()).await {
            let mut connection = connection?;
            open.spawn(async move {
                let thread = format!("{:?}", std::thread::current().id());
                connection.write_all(format!("{thread:<32}").as_bytes()).await.unwrap();
                connection.flush().await.unwrap();
                connection.read_u8().await.ok();
            });
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn ask(address: std::net::SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut name = [0; 32];
        stream.read_exact(&mut name).await.unwrap();
        (stream, String::from_utf8_lossy(&name).trim_end().to_owned())
    }

    // To see it fail: take `min_by_key` for `first` in `accept`.
    #[tokio::test]
    async fn connections_are_spread_over_the_threads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serve = serve_on_threads(listener, &stop, |all| name_thread(all, stop.clone()));
        let threads = available_parallelism().unwrap().get();
        let client = async {
            let mut names = std::collections::BTreeSet::new();
            let mut open = Vec::new();
            for _ in 0..threads {
                let (stream, name) = ask(address).await;
                open.push(stream);
                names.insert(name);
            }
            stop.cancel();
            names.len()
        };
        let (served, distinct) = tokio::join!(serve, client);
        served.unwrap();
        assert_eq!(distinct, threads);
    }

    // To see it fail: take away the drop guard.
    #[tokio::test]
    async fn threads_end_when_they_are_no_longer_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serve = serve_on_threads(listener, &stop, |all| name_thread(all, stop.clone()));
        let (mut stream, _) = tokio::select! {
            _ = serve => panic!("it serves until it is stopped"),
            asked = ask(address) => asked,
        };
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 1])).await;
        // Only now, so that a thread that goes on does not hold up the failure.
        stop.cancel();
        assert_eq!(closed.expect("the connection ends with its thread").unwrap_or(0), 0);
    }
}
