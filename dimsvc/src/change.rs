//! Change in: following the binlog, and the first load of a dimension.
//!
//! [`feed`] follows, [`snapshot`] loads while it follows, [`fill`] makes a
//! loaded dimension resident. All three end in the caches; none of them knows
//! of lookups.

pub mod feed;
pub mod fill;
pub mod snapshot;
