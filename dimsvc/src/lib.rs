//! The dimension service.

pub mod dimension;
pub mod store;
