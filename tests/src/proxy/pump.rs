//! One direction of one connection: read, delay, write.
//!
//! A reader gives each chunk the time at which it is due and a writer waits for
//! it, so that a delay costs latency and not throughput, as on a long line.

use super::{Mode, State};
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

const CHUNK_BYTES_MAX: usize = 16 << 10;
/// Chunks on their way: when so many wait, the sender waits too.
const CHUNKS_MAX: usize = 64;
/// A throttled line hands on chunks of so much of a second.
const THROTTLED_CHUNKS_A_SECOND: u64 = 50;

/// What one direction does, and where it reports.
pub(super) struct Direction<'c> {
    pub(super) states: watch::Receiver<State>,
    /// Bytes handed on.
    pub(super) count: &'c AtomicU64,
    /// Set when bytes of the connection were swallowed.
    pub(super) lost: &'c AtomicBool,
}

type Chunk = (Instant, Vec<u8>);

/// Hands on until the source ends or either side fails, then ends the target.
pub(super) async fn pump(source: ReadHalf<'_>, target: WriteHalf<'_>, direction: Direction<'_>) {
    let (chunks, due) = mpsc::channel(CHUNKS_MAX);
    let count = direction.count;
    // How a connection ended is seen by its two ends; a proxy has nobody to tell.
    let (_, _) = tokio::join!(read(source, chunks, direction), write(target, due, count));
}

async fn read(
    mut source: ReadHalf<'_>,
    chunks: mpsc::Sender<Chunk>,
    direction: Direction<'_>,
) -> io::Result<()> {
    let mut jitter = direction.count.load(Ordering::Relaxed) | 1;
    let mut last_due = Instant::now();
    loop {
        let mut chunk = vec![0; chunk_bytes(direction.states.borrow().mode)];
        let length = source.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        chunk.truncate(length);
        let mode = direction.states.borrow().mode;
        if mode == Mode::BlackHole {
            direction.lost.store(true, Ordering::Relaxed);
            continue;
        }
        jitter = jitter.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        last_due = due(mode, last_due, length as u64, jitter >> 33);
        if chunks.send((last_due, chunk)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut target: WriteHalf<'_>,
    mut due: mpsc::Receiver<Chunk>,
    count: &AtomicU64,
) -> io::Result<()> {
    while let Some((at, chunk)) = due.recv().await {
        sleep_until(at).await;
        target.write_all(&chunk).await?;
        count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    target.shutdown().await
}

fn chunk_bytes(mode: Mode) -> usize {
    match mode {
        Mode::Throttle { bytes_per_second } => {
            let chunk =
                usize::try_from(bytes_per_second / THROTTLED_CHUNKS_A_SECOND).unwrap_or(CHUNK_BYTES_MAX);
            chunk.clamp(1, CHUNK_BYTES_MAX)
        }
        _ => CHUNK_BYTES_MAX,
    }
}

/// When a chunk is to be handed on; never before the chunk ahead of it.
fn due(mode: Mode, last_due: Instant, length: u64, random: u64) -> Instant {
    let now = Instant::now();
    match mode {
        Mode::Delay { latency, jitter } => {
            let more = random % u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX).max(1);
            last_due.max(now + latency + Duration::from_nanos(more))
        }
        Mode::Throttle { bytes_per_second } => {
            let nanos = length.saturating_mul(1_000_000_000) / bytes_per_second.max(1);
            last_due.max(now) + Duration::from_nanos(nanos)
        }
        Mode::Pass | Mode::Cut | Mode::BlackHole => last_due.max(now),
    }
}
