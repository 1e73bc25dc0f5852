//! Model checking: the heart in every order that a scheduler can think of.
//!
//! `cargo test -p tidemark-heart --features model --test model`, or `make model`
//! for a long run. The heart's locks and atomics are shuttle's here, and around
//! it stand a store, a shared tier, a writer and replicas that are small, and
//! may lose, delay or restart at any step (`outside`, `world`). Every answer is
//! held against a log that was written before (`log`). `MODEL_SCHEDULES` says how
//! many schedules are run of each random world, `MODEL_SEED` from where. A failing
//! one is printed; `MODEL_REPLAY` runs it again.

mod log;
mod outside;
mod replica;
mod schedules;
mod small;
mod world;
mod worlds;
mod writer;
