//! Connections to the Thrift gateway: few, with timeouts, thrown away when in
//! doubt.
//!
//! The Thrift runtime sets no timeout and its pool asks the master before each
//! use, so the sockets are opened here. A reply that comes late would answer
//! the next call: any error below the call itself ends the connection.

use crate::store::StoreError;
use hbase_thrift::hbase::{HbaseSyncClient, IOError, IllegalArgument};
use parking_lot::{Condvar, Mutex};
use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};
use thrift::{
    TransportErrorKind,
    protocol::{TBinaryInputProtocol, TBinaryOutputProtocol},
    transport::{
        ReadHalf, TBufferedReadTransport, TBufferedWriteTransport, TIoChannel, TTcpChannel, WriteHalf,
    },
};
use tidemark_proto::config::Hbase;

const BUFFER_BYTES: usize = 64 << 10;

type Input = TBinaryInputProtocol<TBufferedReadTransport<ReadHalf<TTcpChannel>>>;
type Output = TBinaryOutputProtocol<TBufferedWriteTransport<WriteHalf<TTcpChannel>>>;
pub(super) type Client = HbaseSyncClient<Input, Output>;

/// At most `connections` of them; a caller waits for one at most `timeout_ms`.
pub(super) struct Connections {
    address: String,
    max: usize,
    connect_timeout: Duration,
    timeout: Duration,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    /// Idle or lent.
    open: usize,
}

struct Connection {
    client: Client,
    socket: TcpStream,
}

impl Connections {
    /// Connects to nothing yet.
    pub(super) fn new(config: &Hbase) -> Self {
        Self {
            address: config.address.clone(),
            max: config.connections.max(1),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms.max(1)),
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// How many calls may run at once.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How long one call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a call that may be made twice: it is tried again when a connection
    /// that had been idle turns out to be closed.
    pub(super) fn call<T>(
        &self,
        mut call: impl FnMut(&mut Client) -> thrift::Result<T>,
    ) -> Result<T, CallError> {
        let slot = self.slot()?;
        match slot.run(&mut call) {
            Err(Attempt { error, stale: true }) => {
                tracing::debug!(%error, "idle hbase connection was closed, connecting again");
                self.slot()?.run(&mut call).map_err(|attempt| CallError::Thrift(attempt.error))
            }
            result => result.map_err(|attempt| CallError::Thrift(attempt.error)),
        }
    }

    /// Makes a call that must not be made twice.
    pub(super) fn call_once<T>(
        &self,
        mut call: impl FnMut(&mut Client) -> thrift::Result<T>,
    ) -> Result<T, CallError> {
        self.slot()?.run(&mut call).map_err(|attempt| CallError::Thrift(attempt.error))
    }

    /// What a failed call means to a caller of the store.
    pub(super) fn store_error(&self, error: CallError) -> StoreError {
        match error {
            CallError::Busy => StoreError::Overloaded("every hbase connection is in use"),
            CallError::Thrift(thrift::Error::User(error)) => user_error(&*error),
            CallError::Thrift(thrift::Error::Application(error)) => {
                StoreError::Refused(format!("hbase gateway: {}", error.message))
            }
            CallError::Thrift(error) => {
                StoreError::Unavailable(format!("hbase gateway {}: {error}", self.address))
            }
        }
    }

    fn slot(&self) -> Result<Slot<'_>, CallError> {
        let deadline = Instant::now() + self.timeout;
        let mut state = self.state.lock();
        loop {
            if let Some(connection) = state.idle.pop() {
                if connection.is_quiet() {
                    return Ok(Slot { connections: self, idle: Some(connection) });
                }
                state.open -= 1;
            } else if state.open < self.max {
                state.open += 1;
                return Ok(Slot { connections: self, idle: None });
            } else if self.returned.wait_until(&mut state, deadline).timed_out() {
                return Err(CallError::Busy);
            }
        }
    }

    fn connect(&self) -> io::Result<Connection> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the address names no host");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.connect_timeout) {
                Ok(socket) => return self.client(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn client(&self, socket: TcpStream) -> io::Result<Connection> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(self.timeout))?;
        socket.set_write_timeout(Some(self.timeout))?;
        let channel = TTcpChannel::with_stream(socket.try_clone()?);
        let (read, write) = channel.split().map_err(io::Error::other)?;
        let read = TBufferedReadTransport::with_capacity(BUFFER_BYTES, read);
        let write = TBufferedWriteTransport::with_capacity(BUFFER_BYTES, write);
        let (input, output) =
            (TBinaryInputProtocol::new(read, true), TBinaryOutputProtocol::new(write, true));
        Ok(Connection { client: HbaseSyncClient::new(input, output), socket })
    }
}

impl Connection {
    /// Whether the gateway has neither closed it (it does after a minute) nor
    /// sent what nobody asked for. Asks the kernel alone.
    fn is_quiet(&self) -> bool {
        let peek = || {
            self.socket.set_nonblocking(true)?;
            let peeked = self.socket.peek(&mut [0]);
            self.socket.set_nonblocking(false)?;
            peeked
        };
        peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The right to one connection; given back on drop, also by a panic.
struct Slot<'a> {
    connections: &'a Connections,
    idle: Option<Connection>,
}

struct Attempt {
    error: thrift::Error,
    /// A connection that had been idle was closed before it answered.
    stale: bool,
}

impl Slot<'_> {
    fn run<T>(mut self, call: &mut impl FnMut(&mut Client) -> thrift::Result<T>) -> Result<T, Attempt> {
        let idle = self.idle.take();
        let reused = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                self.connections.connect().map_err(|error| Attempt { error: error.into(), stale: false })?
            }
        };
        let result = call(&mut connection.client);
        match &result {
            Ok(_) | Err(thrift::Error::User(_) | thrift::Error::Application(_)) => {
                self.idle = Some(connection)
            }
            Err(_) => {}
        }
        result.map_err(|error| Attempt { stale: reused && is_closed(&error), error })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.connections.state.lock();
        match self.idle.take() {
            Some(connection) => state.idle.push(connection),
            None => state.open -= 1,
        }
        self.connections.returned.notify_one();
    }
}

fn is_closed(error: &thrift::Error) -> bool {
    use TransportErrorKind::{EndOfFile, NotOpen};
    matches!(error, thrift::Error::Transport(error) if matches!(error.kind, EndOfFile | NotOpen))
}

/// Why a call gave no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// No connection became free in time.
    Busy,
    Thrift(thrift::Error),
}

impl CallError {
    /// The exception of HBase, when it is of this kind.
    pub(super) fn user<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Thrift(thrift::Error::User(error)) => error.downcast_ref(),
            _ => None,
        }
    }
}

/// The gateway sends a Java stack trace as the message: its first line says it.
fn user_error(error: &(dyn std::error::Error + Send + Sync + 'static)) -> StoreError {
    let first_line = |message: &Option<String>| {
        let message = message.as_deref().unwrap_or("no message");
        format!("hbase: {}", message.lines().next().unwrap_or(message))
    };
    if let Some(error) = error.downcast_ref::<IOError>() {
        let text = first_line(&error.message);
        // Absent from gateways before 2.3: then what HBase says may pass.
        return if error.can_retry == Some(false) {
            StoreError::Refused(text)
        } else {
            StoreError::Unavailable(text)
        };
    }
    match error.downcast_ref::<IllegalArgument>() {
        Some(error) => StoreError::Refused(first_line(&error.message)),
        None => StoreError::Refused(format!("hbase: {error}")),
    }
}
