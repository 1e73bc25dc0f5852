//! The heart of the dimension service: what memory may answer, and until when.
//!
//! ```text
//!              apply ──► overlay ─┐ forget, once durable
//!                │                │
//!                ├──► flights ◄── begin_load … finish   (misses, single flight)
//!                │        │
//!                └──► tier ◄──────┘   full, or any that may lose rows
//!                      ▲
//!                     peek                              (hits, no lock)
//! ```
//!
//! It is a state machine: no I/O, no clock, no tasks. Stores, Redis, MySQL and
//! the binlog are plugged in around it by the service, which is why a model
//! checker can run it in every order. Read [`cache`] for the rules, [`answer`]
//! for the one type that carries the truth, [`timeline`] for what cuts it.

pub mod answer;
pub mod cache;
mod flights;
pub mod full;
mod noted;
mod overlay;
pub mod resident;
pub mod row;
pub mod shared;
mod sync;
pub mod timeline;

pub use answer::{Answer, Found, Loaded, Tier};
pub use cache::{Change, DimensionCache, Keeps, Load, LoadStart, Peek};
pub use full::FullTier;
pub use overlay::VERSION_OVERHEAD;
pub use resident::{NoTier, Resident, supersedes};
pub use row::{Image, Key, Row, VersionedRow};
pub use timeline::{AddedColumns, Timeline};
