//! The few connections that reads of the source may use.
//!
//! Kept by us and not by the client's pool, which asks the server to reset each
//! one that comes back and waits for the rest of an answer that nobody wants.

use crate::change::chunk::ReadError;
use mysql_async::{Conn, prelude::Queryable as _};
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tidemark_binlog::Source;
use tokio::sync::{Semaphore, SemaphorePermit};

/// One that rested longer is asked whether the server still has it.
const RESTED: Duration = Duration::from_secs(1);
/// How long a connection that failed may take to say so to the server.
const FAREWELL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Connections {
    permits: Semaphore,
    resting: Mutex<Vec<(Conn, Instant)>>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self { permits: Semaphore::new(max.min(Semaphore::MAX_PERMITS)), resting: Mutex::default() }
    }

    /// The right to use one connection.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// A connection that answers, made anew if none rests.
    pub(super) async fn take(&self, source: &Source, limit: Duration) -> Result<Conn, ReadError> {
        while let Some((mut conn, since)) = self.pop() {
            if since.elapsed() < RESTED
                || matches!(tokio::time::timeout(limit, conn.ping()).await, Ok(Ok(())))
            {
                return Ok(conn);
            }
            Self::close(conn).await;
        }
        let connecting = tokio::time::timeout(limit, source.connect_alone()).await;
        Ok(connecting.map_err(|_| ReadError::Slow(limit))??)
    }

    /// Takes back one whose answers were all read.
    pub(super) fn give_back(&self, conn: Conn) {
        self.resting.lock().push((conn, Instant::now()));
    }

    /// Closes one that failed, without waiting for what it still owes.
    pub(super) async fn close(conn: Conn) {
        // It failed: that it also cannot say good-bye changes nothing.
        drop(tokio::time::timeout(FAREWELL, conn.disconnect()).await);
    }

    fn pop(&self) -> Option<(Conn, Instant)> {
        self.resting.lock().pop()
    }
}
