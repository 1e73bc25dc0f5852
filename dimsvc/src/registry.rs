//! Which tables are dimensions, checked against the source.
//!
//! [`resolve`] turns `dimensions.toml` into [`Dimension`]s that cannot be
//! wrong: columns exist, the key is a unique key that cannot be NULL, and every
//! change of the table is in the binlog. It refuses with a reason what it
//! cannot keep exactly.

mod key;
mod shape;

pub use key::{KeyColumn, KeyError, can_be_key, write_key, write_values};
pub use shape::{RowShape, ShapeError};

use crate::cache::TierKind;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tidemark_binlog::{Column, ColumnKind, Source, SourceColumn, SourceError, SourceTable};
use tidemark_proto::config::{Cache, DimensionConfig, Dimensions, Fold};

/// The bound of an `lru` tier that names none.
const CACHE_MIB_DEFAULT: u64 = 64;

/// A dimension: a MySQL table, or some of its columns, that the service keeps.
#[derive(Clone, Debug)]
pub struct Dimension {
    pub name: Arc<str>,
    pub database: String,
    /// The table in MySQL.
    pub source: String,
    /// The table in the store.
    pub sink_table: Arc<str>,
    pub columns: Vec<DimensionColumn>,
    /// Places in `columns`, in key order.
    pub key: Vec<usize>,
    /// The same columns, as keys compare.
    pub key_columns: Vec<KeyColumn>,
    pub tier: TierKind,
    /// The source's own estimate.
    pub rows_estimate: u64,
}

/// A column of a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimensionColumn {
    pub name: String,
    pub kind: ColumnKind,
    /// As MySQL writes it: `decimal(16,2)`.
    pub mysql_type: String,
    pub nullable: bool,
}

impl Dimension {
    /// `full` or `lru`.
    pub fn cache_name(&self) -> &'static str {
        match self.tier {
            TierKind::Full => "full",
            TierKind::Lru { .. } => "lru",
        }
    }

    /// Place of a column by its exact name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Names of the key columns.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key_columns.iter().map(|column| column.name.as_str())
    }
}

/// Checks every dimension against the source.
///
/// # Errors
/// All mistakes, one line each; or the first failure to ask the source.
pub async fn resolve(
    source: &Source,
    database: &str,
    dimensions: &Dimensions,
) -> Result<Vec<Dimension>, ResolveError> {
    let mut resolved = Vec::with_capacity(dimensions.len());
    let mut mistakes = Vec::new();
    for (name, config) in dimensions {
        let table = source.describe(database, config.source_table(name)).await?;
        match resolve_one(name, config, database, table.as_ref()) {
            Ok(dimension) => resolved.push(dimension),
            Err(mistake) => mistakes.push(format!("dimensions.toml: [{name}]: {mistake}")),
        }
    }
    mistakes.extend(shared_sinks(&resolved));
    if mistakes.is_empty() { Ok(resolved) } else { Err(ResolveError::Mistakes(mistakes)) }
}

/// Why the dimensions could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
    #[error(transparent)]
    Source(#[from] SourceError),
}

fn shared_sinks(dimensions: &[Dimension]) -> Vec<String> {
    let mut users = BTreeMap::<&str, Vec<&str>>::new();
    for dimension in dimensions {
        users.entry(&dimension.sink_table).or_default().push(&dimension.name);
    }
    let shared = users.into_iter().filter(|(_, users)| users.len() > 1);
    shared
        .map(|(sink, users)| {
            format!("dimensions.toml: `sink_table` {sink} is shared by {}", users.join(", "))
        })
        .collect()
}

fn resolve_one(
    name: &str,
    config: &DimensionConfig,
    database: &str,
    table: Option<&SourceTable>,
) -> Result<Dimension, String> {
    let source = config.source_table(name);
    let table = table.ok_or_else(|| {
        format!("there is no table {database}.{source}; set `source` to the table in MySQL, or create it")
    })?;
    refuse_unfit(table)?;
    let columns = choose_columns(config, table)?;
    let key = choose_key(config, table, &columns)?;
    let key_columns =
        key.iter().map(|place| key_column(config, &columns, *place)).collect::<Result<_, _>>()?;
    Ok(Dimension {
        name: name.into(),
        database: table.table.database.clone(),
        source: table.table.name.clone(),
        sink_table: sink_table(config, name)?.into(),
        columns,
        key,
        key_columns,
        tier: tier(config),
        rows_estimate: table.rows_estimate,
    })
}

/// Tables whose changes are not all in the binlog as rows.
fn refuse_unfit(table: &SourceTable) -> Result<(), String> {
    if !table.engine.eq_ignore_ascii_case("InnoDB") {
        return Err(format!(
            "engine {} is not transactional; run ALTER TABLE {} ENGINE=InnoDB",
            table.engine, table.table.name
        ));
    }
    if table.is_cascade_child {
        return Err("a foreign key of the table cascades: MySQL does not write such changes to the binlog; \
                    drop it, or let the application change the children itself"
            .into());
    }
    Ok(())
}

fn choose_columns(config: &DimensionConfig, table: &SourceTable) -> Result<Vec<DimensionColumn>, String> {
    let all: Vec<DimensionColumn> =
        table.table.columns.iter().zip(&table.columns).map(describe_column).collect();
    if config.columns.is_empty() {
        return Ok(all);
    }
    let mut chosen = Vec::with_capacity(config.columns.len());
    for name in config.key.iter().chain(&config.columns) {
        let column = all.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let column = column.ok_or_else(|| no_such_column(name, &all))?;
        if !chosen.contains(column) {
            chosen.push(column.clone());
        }
    }
    Ok(chosen)
}

fn describe_column((column, detail): (&Column, &SourceColumn)) -> DimensionColumn {
    DimensionColumn {
        name: column.name.clone(),
        kind: column.kind.clone(),
        mysql_type: detail.column_type.clone(),
        nullable: detail.nullable,
    }
}

fn no_such_column(name: &str, all: &[DimensionColumn]) -> String {
    let names: Vec<_> = all.iter().map(|column| column.name.as_str()).collect();
    format!("there is no column `{name}`; the table has {}", names.join(", "))
}

fn choose_key(
    config: &DimensionConfig,
    table: &SourceTable,
    columns: &[DimensionColumn],
) -> Result<Vec<usize>, String> {
    let primary: Vec<&str> = names_of(table, &table.table.primary_key);
    let wanted: Vec<&str> =
        if config.key.is_empty() { primary } else { config.key.iter().map(String::as_str).collect() };
    if wanted.is_empty() {
        return Err("the table has no primary key; add one, or name a unique NOT NULL key in `key`".into());
    }
    let same = |unique: &Vec<&str>| {
        unique.len() == wanted.len()
            && wanted.iter().all(|name| unique.iter().any(|u| u.eq_ignore_ascii_case(name)))
    };
    let mut unique_keys = table.unique_keys.iter().map(|key| names_of(table, key));
    if !unique_keys.any(|unique| same(&unique)) {
        return Err(format!(
            "key ({0}) is neither the primary key nor a unique key without NULL: rows could not be told \
             apart; name another `key`, or run ALTER TABLE {1} ADD PRIMARY KEY ({0})",
            wanted.join(", "),
            table.table.name
        ));
    }
    let place = |name: &&str| columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
    let missing = |name: &str| format!("key column `{name}` is not in `columns`; add it");
    wanted.iter().map(|name| place(name).ok_or_else(|| missing(name))).collect()
}

fn names_of<'t>(table: &'t SourceTable, places: &[usize]) -> Vec<&'t str> {
    places
        .iter()
        .filter_map(|place| table.table.columns.get(*place))
        .map(|column| column.name.as_str())
        .collect()
}

fn key_column(
    config: &DimensionConfig,
    columns: &[DimensionColumn],
    place: usize,
) -> Result<KeyColumn, String> {
    let column = columns.get(place).ok_or("key column is not a column")?;
    if !can_be_key(&column.kind) {
        return Err(format!(
            "key column `{}` is {}, whose values cannot be keys",
            column.name, column.mysql_type
        ));
    }
    let ignores_case = matches!(column.kind, ColumnKind::Text { case_insensitive: true, .. });
    if ignores_case && config.fold.is_none() {
        return Err(format!(
            "the collation of key column `{}` ignores case: say how keys are spelled with \
             fold = \"exact\" (facts spell them as the dimension does) or fold = \"lower\"",
            column.name
        ));
    }
    // Where the collation tells case apart, so do keys.
    let fold = config.fold.filter(|_| ignores_case).unwrap_or(Fold::Exact);
    Ok(KeyColumn { name: column.name.clone(), kind: column.kind.clone(), fold })
}

fn sink_table(config: &DimensionConfig, name: &str) -> Result<String, String> {
    let sink = config.sink_table(name);
    let fits = !sink.is_empty() && sink.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits { Ok(sink) } else { Err(format!("`sink_table` {sink} must be letters, digits and `_`")) }
}

fn tier(config: &DimensionConfig) -> TierKind {
    match config.cache {
        Cache::Full => TierKind::Full,
        Cache::Lru => TierKind::Lru {
            bytes_max: config.cache_mib.unwrap_or(CACHE_MIB_DEFAULT) << 20,
            time_to_live: config.ttl_seconds.map(Duration::from_secs),
        },
    }
}
