//! The crate against a real MySQL: that of `dev/stack`, or the one that
//! TIDEMARK_MYSQL_HOST, _PORT, _USER and _PASSWORD name.
//!
//! Each test has a database of its own and drops it at the end. The server is
//! shared: transactions of others show up in every stream, without rows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod charsets;
mod groups;
mod restart;
mod server;
mod source;
mod values;
