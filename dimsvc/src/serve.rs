//! Request in: the gRPC service over the live dimensions.
//!
//! `lookup` is the path of a read: resolve the read point, wait for it, read
//! every table as of one position, encode. `watch` streams what apply has done;
//! `describe` and `server` are the rest of the API and its wiring, `threads` and
//! `connection` what they are served on; `status` is the one place where an error
//! becomes a gRPC status.

mod admin;
mod connection;
mod describe;
mod encode;
mod explain;
mod lookup;
mod marks;
mod matches;
mod operators;
mod point;
mod read;
mod server;
mod status;
#[cfg(test)]
mod tests;
mod threads;
mod watch;

pub use admin::Admin;
pub use lookup::Lookups;
pub use operators::Operators;
pub use server::{bind, serve};
