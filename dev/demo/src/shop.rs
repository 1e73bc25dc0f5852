//! The shop: a business database and the traffic on it.
//!
//! [`database`] makes it, [`catalog`] fills its dimensions, [`traffic`] runs
//! the workers' transactions on connections of their own. What a worker does
//! next is decided without the database ([`worker`], [`changes`]), and every
//! commit lands in the [`log`] under its GTID. Nothing here knows that anybody
//! reads the binlog.

mod catalog;
mod changes;
pub(crate) mod database;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod log;
pub(crate) mod traffic;
mod transaction;
pub(crate) mod worker;

/// The dimension tables whose every version the log keeps; each has the key
/// `id`.
pub(crate) const DIMENSIONS: [&str; 8] = [
    "base_region",
    "base_province",
    "base_category1",
    "base_category2",
    "base_category3",
    "base_trademark",
    "spu_info",
    "sku_info",
];
