//! Reads of the source: rows by key, first loads and repairs, on real MySQL with the feed
//! at work.

#[path = "source_reads/audit.rs"]
mod audit;
#[path = "source_reads/fallback.rs"]
mod fallback;
#[path = "source_reads/first_load.rs"]
mod first_load;
#[path = "source_reads/followed.rs"]
mod followed;
#[path = "source_reads/interrupted.rs"]
mod interrupted;
#[path = "source_reads/lag.rs"]
mod lag;
#[path = "source_reads/repair.rs"]
mod repair;
#[path = "source_reads/shared.rs"]
mod shared;

use anyhow::Result;
use tidemark_tests::{isolation::Isolation, stack::Stack};

fn isolation(test: &str) -> Result<Isolation> {
    Isolation::new(test, &Stack::with(&["mysql", "kafka", "clickhouse"])?)
}
