//! Request in: the gRPC service over the live dimensions.
//!
//! `lookup` is the path of a read: resolve the read point, wait for it, read
//! every table as of one position, encode. `describe` and `server` are the
//! rest of the API and its wiring; `status` is the one place where an error
//! becomes a gRPC status.

mod describe;
mod encode;
mod lookup;
mod point;
mod read;
mod server;
mod status;
#[cfg(test)]
mod tests;

pub use lookup::Lookups;
pub use server::{bind, serve};
