//! Thin Kafka workers that build the layers of a warehouse.

pub mod warehouse;
