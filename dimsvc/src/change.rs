//! Change in: following the binlog, and the first load of a dimension.
//!
//! [`feed`] follows, [`snapshot`] loads while it follows, [`fill`] makes a
//! loaded dimension resident, [`mend`] brings back one whose table was changed
//! beyond what the binlog tells, [`first_load`] says which of them a dimension
//! needs, [`lag`] how old its rows may be. All end in the caches; none of them knows of lookups.

pub mod chunk;
pub mod feed;
pub mod fill;
pub mod first_load;
pub mod lag;
pub mod mend;
pub mod repair;
pub mod snapshot;
