//! Where this replica stands in the binlog: `applied` and `durable`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tidemark_proto::Position;
use tokio::sync::watch;

/// A position that only rises, with waiters.
///
/// A reader loads it before it reads anything that it vouches for; who moves it
/// has finished all of that before.
#[derive(Debug)]
pub struct Watermark {
    packed: AtomicU64,
    moved: watch::Sender<Position>,
}

impl Watermark {
    /// A watermark that stands at `start`.
    pub fn new(start: Position) -> Self {
        Self { packed: AtomicU64::new(start.packed()), moved: watch::Sender::new(start) }
    }

    /// Where it stands.
    pub fn get(&self) -> Position {
        Position::from_packed(self.packed.load(Ordering::Acquire))
    }

    /// Moves it, never back.
    pub fn advance(&self, to: Position) {
        if self.packed.fetch_max(to.packed(), Ordering::AcqRel) < to.packed() {
            self.moved.send_replace(to);
        }
    }

    /// How many wait for it at this moment.
    pub fn waiters(&self) -> usize {
        self.moved.receiver_count()
    }

    /// Waits until it has moved past `seen`; false when the deadline came
    /// first.
    ///
    /// # Cancel safety
    /// Holds no state: may be dropped at any time.
    pub async fn moved_past(&self, seen: Position, deadline: Instant) -> bool {
        self.reached(seen.after(), deadline).await
    }

    /// Waits until it has reached `target`; false when the deadline came first.
    ///
    /// # Cancel safety
    /// Holds no state: may be dropped at any time.
    pub async fn reached(&self, target: Position, deadline: Instant) -> bool {
        if self.get() >= target {
            return true;
        }
        let mut moved = self.moved.subscribe();
        let wait = moved.wait_for(|position| *position >= target);
        matches!(tokio::time::timeout_at(deadline.into(), wait).await, Ok(Ok(_))) || self.get() >= target
    }
}

/// When something was last known to be as new as it can be.
#[derive(Debug)]
pub struct Freshness {
    started: Instant,
    /// Milliseconds after `started`.
    heard_ms: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { started: Instant::now(), heard_ms: AtomicU64::new(0) }
    }
}

impl Freshness {
    /// All that there was at `asked` is known.
    pub fn heard(&self, asked: Instant) {
        let heard = asked.saturating_duration_since(self.started).as_millis();
        self.heard_ms.fetch_max(u64::try_from(heard).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Time since then; since the start before the first time.
    pub fn age(&self) -> Duration {
        let heard = self.started + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        heard.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position::try_new(1, 1, offset).unwrap()
    }

    #[tokio::test]
    async fn a_waiter_wakes_when_its_position_is_reached() {
        let mark = Watermark::new(at(10));
        let deadline = Instant::now() + Duration::from_secs(5);
        let (reached, ()) = tokio::join!(mark.reached(at(30), deadline), async {
            mark.advance(at(20));
            tokio::task::yield_now().await;
            mark.advance(at(30));
        });
        assert!(reached);
    }

    #[tokio::test]
    async fn a_waiter_gives_up_at_its_deadline() {
        let mark = Watermark::new(at(10));
        assert!(!mark.reached(at(30), Instant::now() + Duration::from_millis(50)).await);
    }

    #[test]
    fn it_never_moves_back() {
        let mark = Watermark::new(at(10));
        mark.advance(at(30));
        mark.advance(at(20));
        assert_eq!(mark.get(), at(30));
    }
}
