//! Thin Kafka workers that build the layers of a warehouse.

pub mod calendar;
pub mod kafka;
pub mod layers;
pub mod lookup;
pub mod metrics;
pub mod sink;
pub mod source;
pub mod warehouse;
