//! Rows of an `lru` dimension leave when their time is over, however often they
//! are read.

use dimsvc::cache::{LruTier, Resident as _, Row};
use std::time::{Duration, Instant};
use tidemark_proto::Position;

const TIME_TO_LIVE: Duration = Duration::from_secs(1);
/// A row that lives for so long is one that reads keep alive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Return the whole time instead of `left` in `expire_after_read` to see it
/// fail.
#[test]
fn reads_do_not_lengthen_the_life_of_a_row() {
    let tier = LruTier::new(1 << 20, Some(TIME_TO_LIVE));
    let version = Position::try_new(1, 1, 4).unwrap();
    tier.install(&Row::new(b"[1]", version, Some(b"{}")));
    assert!(tier.get(b"[1]").is_some());
    let begun = Instant::now();
    while tier.get(b"[1]").is_some() {
        assert!(begun.elapsed() < PATIENCE, "still there after {:?}", begun.elapsed());
        std::thread::yield_now();
    }
}
