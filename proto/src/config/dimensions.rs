//! `dimensions.toml`: which MySQL tables are dimensions, one table a section.

use serde::Deserialize;
use std::collections::BTreeMap;

/// All of `dimensions.toml`: settings by dimension name.
pub type Dimensions = BTreeMap<String, DimensionConfig>;

/// One dimension. The section's name is the dimension's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DimensionConfig {
    /// Source table in `mysql.database`; the dimension's name when not set.
    pub source: Option<String>,
    /// Key columns, a primary or unique NOT NULL key; the primary key when
    /// empty.
    pub key: Vec<String>,
    /// Columns to keep; all when empty.
    pub columns: Vec<String>,
    /// When rows come into the service.
    pub load: Load,
    /// Tier in process.
    pub cache: Cache,
    /// Bound of the `lru` tier, our overhead included.
    pub cache_mib: Option<u64>,
    /// Time after the load at which a row leaves the `lru` tier; never when
    /// not set. It bounds memory: freshness comes from the binlog.
    pub ttl_seconds: Option<u64>,
    /// Load a hot row anew before its time is over, so that nobody waits for it.
    pub refresh_ahead: bool,
    /// Use the shared tier, where there is one.
    pub shared: Option<bool>,
    /// How old the feed may be before `latest` answers are no longer given.
    pub max_staleness_seconds: Option<u64>,
    /// What happens to answers past `max_staleness_seconds`.
    pub on_stale: OnStale,
    /// How long versions are kept after they were replaced; for ever when not
    /// set.
    pub history_days: Option<u64>,
    /// What remains of a deleted row.
    pub deleted: Deleted,
    /// With `deleted = "remove"`: how long its tombstone and versions stay.
    pub deleted_after_days: Option<u64>,
    /// Columns by which rows are looked up beside the key, by index name.
    pub indexes: BTreeMap<String, Vec<String>>,
    /// How string keys compare; must be said for columns whose collation
    /// ignores case.
    pub fold: Option<Fold>,
    /// Table in the store; `dim_NAME` when not set.
    pub sink_table: Option<String>,
}

/// When rows come into the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// All of them, before the first lookup is answered; every version is kept
    /// in the store.
    #[default]
    Snapshot,
    /// When they are first asked for, from the source. Nothing is stored: a
    /// cache in front of MySQL, without history and indexes.
    Lazy,
}

/// What happens to answers of a feed that is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStale {
    #[default]
    Error,
    /// They are given, marked as stale.
    Mark,
}

/// What remains of a deleted row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deleted {
    /// Its versions and the tombstone, for ever.
    #[default]
    Keep,
    /// Nothing, after `deleted_after_days`.
    Remove,
    /// As `keep`; and `latest` still gives the last image, marked as deleted.
    Mark,
}

/// Tier in process of a dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Every row resident.
    Full,
    /// The most used rows, bounded by bytes.
    #[default]
    Lru,
    /// `full` if the table's measured size allows, else `lru`.
    Auto,
}

/// How string keys compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fold {
    /// Byte by byte: facts spell keys as the dimension does.
    Exact,
    /// Without case and trailing spaces, in columns whose collation ignores
    /// case. Keys that differ in these alone are one key.
    Lower,
}

impl DimensionConfig {
    /// The source table's name.
    pub fn source_table<'a>(&'a self, name: &'a str) -> &'a str {
        self.source.as_deref().unwrap_or(name)
    }

    /// The table's name in the store.
    pub fn sink_table(&self, name: &str) -> String {
        self.sink_table.clone().unwrap_or_else(|| format!("dim_{name}"))
    }
}
