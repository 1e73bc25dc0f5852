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
    /// Tier in process.
    pub cache: Cache,
    /// Bound of the `lru` tier, our overhead included.
    pub cache_mib: Option<u64>,
    /// Time after the load at which a row leaves the `lru` tier; never when
    /// not set. It bounds memory: freshness comes from the binlog.
    pub ttl_seconds: Option<u64>,
    /// How string keys compare; must be said for columns whose collation
    /// ignores case.
    pub fold: Option<Fold>,
    /// Table in the store; `dim_NAME` when not set.
    pub sink_table: Option<String>,
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
