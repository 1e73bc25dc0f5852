//! A connection that writes a small answer at once.
//!
//! h2 gives a frame of 256 bytes or more to a vectored writer as it is, and
//! flushes it before it encodes the next one: the trailers of a lookup of one
//! row would be a system call, a packet and a wake-up of their own. A writer
//! that is not vectored gets frames of up to a KiB with their trailers in one
//! buffer. What is larger goes out together with what was held back before it,
//! as a vectored writer would send it.

use super::threads::Seat;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Writes up to here wait for what comes after them, or for the flush.
const SMALL: usize = 1 << 10;

/// See the module. Counted on its thread for as long as it lives.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Small writes since the last flush.
    held: Vec<u8>,
    /// Of these are sent.
    sent: usize,
    _seat: Seat,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, seat: Seat) -> Self {
        Self { stream, held: Vec::new(), sent: 0, _seat: seat }
    }

    /// Sends what is held, then `next`; returns how much of `next` is sent.
    fn poll_send(&mut self, cx: &mut Context<'_>, next: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let held = self.held.get(self.sent..).unwrap_or_default();
            let (all, stream) = (held.len(), Pin::new(&mut self.stream));
            let sent = match (held, next) {
                ([], []) => return Poll::Ready(Ok(0)),
                ([], next) => return stream.poll_write(cx, next),
                (held, []) => ready!(stream.poll_write(cx, held))?,
                (held, next) => {
                    ready!(stream.poll_write_vectored(cx, &[IoSlice::new(held), IoSlice::new(next)]))?
                }
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
            if sent >= all {
                self.held.clear();
                self.sent = 0;
            }
            if sent > all {
                return Poll::Ready(Ok(sent - all));
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + buf.len() <= SMALL {
            self.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        self.poll_send(cx, buf)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Connection::new(accepted.unwrap().0, Seat::default()), peer.unwrap())
    }

    /// Writes each run of sizes, flushes it, and lets the peer have just that.
    async fn run(runs: Vec<Vec<usize>>) {
        let (mut connection, mut peer) = pair().await;
        let mut byte = 0_u8;
        for sizes in runs {
            let mut written = Vec::new();
            let parts: Vec<Vec<u8>> = sizes
                .into_iter()
                .map(|size| {
                    byte = byte.wrapping_add(1);
                    vec![byte; size]
                })
                .collect();
            parts.iter().for_each(|part| written.extend_from_slice(part));
            let write = async {
                for part in &parts {
                    connection.write_all(part).await.unwrap();
                }
                connection.flush().await.unwrap();
            };
            let mut received = vec![0; written.len()];
            let ((), read) = tokio::join!(write, peer.read_exact(&mut received));
            read.unwrap();
            assert_eq!(received, written);
        }
        connection.shutdown().await.unwrap();
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0, "nothing comes twice");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Fails when `poll_send` forgets what was sent of what is held, and when
        /// a flush leaves something held.
        #[test]
        fn what_is_written_arrives_once_and_in_order(
            runs in prop::collection::vec(
                prop::collection::vec(prop_oneof![1..40_usize, 200..1_500_usize, 1..1_000_000_usize], 1..6),
                1..4,
            )
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let wait = std::time::Duration::from_secs(30);
            runtime.block_on(async { tokio::time::timeout(wait, run(runs)).await.unwrap() });
        }
    }

    /// Fails when `poll_write` sends by itself what is small.
    #[tokio::test]
    async fn small_writes_go_out_together() {
        let (mut connection, mut peer) = pair().await;
        for part in [&b"headers "[..], b"row ", b"trailers"] {
            connection.write_all(part).await.unwrap();
        }
        assert_eq!(connection.held, b"headers row trailers");
        connection.flush().await.unwrap();
        let mut received = [0; 64];
        let length = peer.read(&mut received).await.unwrap();
        assert_eq!(&received[..length], b"headers row trailers");
    }
}
