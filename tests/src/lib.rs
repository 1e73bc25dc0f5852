//! The harness of the end-to-end tests, used by the demo too.
//!
//! [`stack`] finds the real services, [`isolation`] gives a test its own
//! database, topics, tables and ports on them, [`process`] and [`programs`] run
//! the two programs as children, and [`mysql`], [`kafka`], [`clickhouse`],
//! [`hbase`] and [`http`] are thin clients for writing and looking. [`contract`]
//! is the suite that every store passes. Nothing else here knows what a test
//! promises.

pub mod clickhouse;
pub mod coherence;
pub mod contract;
pub mod dim;
mod eventually;
pub mod hbase;
pub mod http;
pub mod isolation;
pub mod kafka;
pub mod ledger;
pub mod live;
pub mod mysql;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod random;
pub mod redis;
mod settings;
pub mod stack;

pub use eventually::eventually;
pub use settings::{Settings, free_port};
