//! Where the layers put their rows: Kafka topics, the dead-letter topic and
//! ClickHouse. A sink returns when its rows are safe, never earlier.

pub mod clickhouse;
pub mod dead_letter;
pub mod kafka;
