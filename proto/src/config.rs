//! The settings of a warehouse folder, as both programs read them.
//!
//! `tidemark.toml` holds connections and limits ([`Config`]), `dimensions.toml`
//! names the dimension tables ([`Dimensions`]). Every key has a default and
//! `TIDEMARK__SECTION__KEY` in the environment overrides it. This module knows
//! the files, not the services: nothing here connects anywhere.

mod dimensions;
mod load;
#[cfg(test)]
mod tests;

pub use dimensions::{Cache, Deleted, DimensionConfig, Dimensions, Fold, Load, OnStale};
pub use load::{ConfigError, load, load_with_env};

use serde::Deserialize;

/// The default `tidemark.toml`, every key with its comment.
pub const DEFAULT_TOML: &str = include_str!("config/default.toml");

/// All of `tidemark.toml`. The keys are documented in [`DEFAULT_TOML`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub mysql: Mysql,
    pub kafka: Kafka,
    pub clickhouse: Clickhouse,
    pub dimsvc: Dimsvc,
    pub ods: Ods,
    pub dwd: Dwd,
    pub dws: Dws,
    pub ads: Ads,
    pub workers: Workers,
}

macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $(pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// `[mysql]`: the source server.
    Mysql {
        host: String = "127.0.0.1".into(),
        port: u16 = 3306,
        user: String = "root".into(),
        password: String = String::new(),
        database: String = "gmall".into(),
        connect_timeout_ms: u64 = 5_000,
        query_timeout_ms: u64 = 60_000,
    }
}

section! {
    /// `[kafka]`: the brokers and the names of the shared topics.
    Kafka {
        brokers: String = "127.0.0.1:9092".into(),
        topic_db: String = "topic_db".into(),
        dead_letter_topic: String = "tidemark_dead_letter".into(),
        topic_prefix: String = String::new(),
        partitions: i32 = 2,
        replication_factor: i32 = 1,
        group_prefix: String = "tidemark".into(),
        message_bytes_max: usize = 8 << 20,
        timeout_ms: u64 = 30_000,
    }
}

section! {
    /// `[clickhouse]`: where dws tables live.
    Clickhouse {
        url: String = "http://127.0.0.1:8123".into(),
        user: String = "default".into(),
        password: String = String::new(),
        database: String = "gmall".into(),
        timeout_ms: u64 = 30_000,
    }
}

section! {
    /// `[dimsvc]`: the dimension service.
    Dimsvc {
        listen: String = "127.0.0.1:7400".into(),
        metrics_listen: String = "127.0.0.1:7401".into(),
        server_id: u32 = 0,
        store: StoreKind = StoreKind::Embedded,
        embedded: Embedded = Embedded::default(),
        hbase: Hbase = Hbase::default(),
        shared: Shared = Shared::default(),
        fallback: Fallback = Fallback::default(),
        audit: Audit = Audit::default(),
        limits: Limits = Limits::default(),
        snapshot: Snapshot = Snapshot::default(),
    }
}

/// Which store holds the permanent truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// An LSM tree in a local folder: one process.
    Embedded,
    /// HBase through its Thrift gateway: any number of replicas.
    Hbase,
}

section! {
    /// `[dimsvc.embedded]`: the store of a single machine.
    Embedded {
        path: String = "data/dimsvc".into(),
        cache_bytes_max: u64 = 64 << 20,
    }
}

section! {
    /// `[dimsvc.hbase]`: the Thrift gateway.
    Hbase {
        address: String = "127.0.0.1:9090".into(),
        namespace: String = "tidemark".into(),
        connections: usize = 4,
        connect_timeout_ms: u64 = 2_000,
        timeout_ms: u64 = 10_000,
        salt_buckets: u8 = 16,
    }
}

section! {
    /// `[dimsvc.shared]`: Redis between memory and store, shared by replicas.
    Shared {
        url: String = String::new(),
        prefix: String = "tidemark".into(),
        timeout_ms: u64 = 50,
        ttl_seconds: u64 = 86_400,
        lease_ms: u64 = 5_000,
        retry_ms: u64 = 1_000,
    }
}

section! {
    /// `[dimsvc.fallback]`: rows read from the source itself.
    Fallback {
        reads_per_second: u32 = 200,
        keys_per_read_max: usize = 256,
        connections: usize = 2,
    }
}

section! {
    /// `[dimsvc.audit]`: comparing all tiers in the background.
    Audit {
        keys_per_second: u32 = 20,
    }
}

section! {
    /// `[dimsvc.limits]`: what bounds memory and time.
    Limits {
        keys_per_lookup_max: usize = 100_000,
        index_rows_max: usize = 10_000,
        message_bytes_max: usize = 32 << 20,
        wait_max_ms: u64 = 10_000,
        lookups_in_flight_max: usize = 1_024,
        overlay_bytes_max: usize = 256 << 20,
        watch_bytes_max: usize = 32 << 20,
        watchers_max: usize = 64,
        auto_full_mib_max: u64 = 64,
        transaction_bytes_max: usize = 256 << 20,
        store_threads: usize = 4,
        store_timeout_ms: u64 = 10_000,
        drain_timeout_ms: u64 = 5_000,
    }
}

section! {
    /// `[dimsvc.snapshot]`: the first load of a dimension.
    Snapshot {
        chunk_rows: usize = 4_096,
    }
}

section! {
    /// `[ods]`: binlog to Kafka.
    Ods {
        server_id: u32 = 7500,
        start: String = "now".into(),
        partition_by: PartitionBy = PartitionBy::Database,
        tables: Vec<String> = Vec::new(),
        output_gtid: bool = false,
        transaction_bytes_max: usize = 256 << 20,
    }
}

/// What the key of a row in `topic_db` is hashed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionBy {
    Database,
    Table,
    PrimaryKey,
}

section! {
    /// `[dwd]`: enrichment.
    Dwd {
        batch_rows_max: usize = 4_096,
        batch_wait_ms: u64 = 20,
        lookup_timeout_ms: u64 = 30_000,
        connections: usize = 2,
    }
}

section! {
    /// `[dws]`: aggregation.
    Dws {
        flush_ms: u64 = 500,
        batch_rows_max: usize = 16_384,
        groups_max: usize = 200_000,
    }
}

section! {
    /// `[ads]`: indicators over HTTP.
    Ads {
        listen: String = "127.0.0.1:7600".into(),
        cache_ms: u64 = 1_000,
        rows_max: usize = 10_000,
    }
}

section! {
    /// `[workers]`: what all layers share.
    Workers {
        metrics_listen: String = "127.0.0.1:7501".into(),
        dimsvc: String = "http://127.0.0.1:7400".into(),
        drain_timeout_ms: u64 = 10_000,
    }
}
