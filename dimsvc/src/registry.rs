//! Which tables are dimensions, checked against the source.
//!
//! [`resolve`] turns `dimensions.toml` into [`Dimension`]s that cannot be
//! wrong: columns exist, the key is a unique key that cannot be NULL, options do
//! not contradict each other, and every change of the table is in the binlog.
//! It refuses with a reason what it cannot keep exactly. An index is a dimension
//! of its own beside its table's.

mod columns;
mod index;
mod key;
mod options;
mod shape;

pub use index::IndexOf;
pub use key::{KeyColumn, KeyError, can_be_key, write_key, write_prefix, write_values};
pub use shape::{RowShape, ShapeError};

use crate::cache::TierKind;
use columns::{choose_columns, choose_key, key_column};
use serde::{Deserialize, Serialize};
use shape::same_form;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tidemark_binlog::{ColumnKind, Source, SourceError, SourceTable};
use tidemark_proto::config::{Config, Deleted, DimensionConfig, Dimensions, Dimsvc, OnStale};

/// The longest name of a table in the store, whichever it is.
const SINK_BYTES_MAX: usize = 128;

/// A dimension: a MySQL table, or some of its columns, that the service keeps;
/// or an index of one.
#[derive(Clone, Debug)]
pub struct Dimension {
    /// `TABLE@INDEX` for an index.
    pub name: Arc<str>,
    pub database: String,
    /// The table in MySQL.
    pub source: String,
    /// The table in the store.
    pub sink_table: Arc<str>,
    pub columns: Vec<DimensionColumn>,
    /// It keeps every column of its table, those to come too.
    pub all_columns: bool,
    /// Places in `columns`, in key order.
    pub key: Vec<usize>,
    /// The same columns, as keys compare.
    pub key_columns: Vec<KeyColumn>,
    /// Places in `columns` of a key of the source by which it is read in
    /// chunks.
    pub order_key: Vec<usize>,
    pub index_of: Option<IndexOf>,
    /// Rows are read from the source when they are asked for; no store.
    pub lazy: bool,
    pub tier: TierKind,
    /// Why the tier is what it is, in words.
    pub tier_reason: String,
    /// Hot rows of an `lru` tier are loaded anew before their time is over.
    pub refresh_ahead: bool,
    /// Lookups use the shared tier.
    pub shared: bool,
    /// The age of the feed from which on `on_stale` decides.
    pub max_staleness: Option<Duration>,
    pub on_stale: OnStale,
    /// How long a version is kept after it was replaced; `None` is for ever.
    pub history: Option<Duration>,
    pub deleted: Deleted,
    /// With [`Deleted::Remove`]: how long a deleted row's versions are kept.
    pub deleted_after: Option<Duration>,
    /// The source's own estimate.
    pub rows_estimate: u64,
}

/// A column of a dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimensionColumn {
    pub name: String,
    pub kind: ColumnKind,
    /// As MySQL writes it: `decimal(16,2)`.
    pub mysql_type: String,
    pub nullable: bool,
}

impl Dimension {
    /// A dimension of the table of its name, without columns yet and with every
    /// option at its default.
    pub fn new(name: &str, tier: TierKind) -> Self {
        Self {
            name: name.into(),
            database: String::new(),
            source: name.to_owned(),
            sink_table: format!("dim_{name}").into(),
            columns: Vec::new(),
            all_columns: false,
            key: Vec::new(),
            key_columns: Vec::new(),
            order_key: Vec::new(),
            index_of: None,
            lazy: false,
            tier,
            tier_reason: String::from("configured"),
            refresh_ahead: false,
            shared: false,
            max_staleness: None,
            on_stale: OnStale::Error,
            history: None,
            deleted: Deleted::Keep,
            deleted_after: None,
            rows_estimate: 0,
        }
    }

    /// `full`, `lru` or `none`.
    pub fn cache_name(&self) -> &'static str {
        match self.tier {
            TierKind::Full => "full",
            TierKind::Lru { .. } => "lru",
            TierKind::None => "none",
        }
    }

    /// The columns by which the source is read in chunks.
    pub fn order_columns(&self) -> impl Iterator<Item = &DimensionColumn> {
        self.order_key.iter().filter_map(|place| self.columns.get(*place))
    }

    /// The same dimension with columns as they became while it was followed.
    ///
    /// # Errors
    /// The key column that is not among them, or has other values.
    pub fn with_columns(mut self, columns: &[DimensionColumn]) -> Result<Self, String> {
        let place = |name: &str, kind: &ColumnKind| {
            let place = columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
            let same = place.and_then(|place| columns.get(place)).is_some_and(|c| same_form(&c.kind, kind));
            place.filter(|_| same).ok_or_else(|| format!("key column `{name}` is another one now"))
        };
        let key = self.key_columns.iter().map(|column| place(&column.name, &column.kind));
        let key = key.collect::<Result<_, _>>()?;
        let order_key = self.order_columns().map(|column| place(&column.name, &column.kind));
        self.order_key = order_key.collect::<Result<_, _>>()?;
        (self.key, self.columns) = (key, columns.to_vec());
        Ok(self)
    }

    /// Names of the key columns.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key_columns.iter().map(|column| column.name.as_str())
    }
}

/// Checks every dimension against the source. Each is followed by its indexes.
///
/// # Errors
/// All mistakes, one line each; or the first failure to ask the source.
pub async fn resolve(
    source: &Source,
    config: &Config,
    dimensions: &Dimensions,
) -> Result<Vec<Dimension>, ResolveError> {
    let mut resolved = Vec::with_capacity(dimensions.len());
    let mut mistakes = Vec::new();
    let database = &config.mysql.database;
    for (name, wanted) in dimensions {
        let from = wanted.source_table(name);
        let table = source.describe(database, from).await?.ok_or_else(|| no_table(database, from));
        match table.and_then(|table| resolve_one(name, wanted, &table, &config.dimsvc)) {
            Ok(with_indexes) => resolved.extend(with_indexes),
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

fn no_table(database: &str, source: &str) -> String {
    format!("there is no table {database}.{source}; set `source` to the table in MySQL, or create it")
}

/// The dimension, and one for each of its indexes.
fn resolve_one(
    name: &str,
    config: &DimensionConfig,
    table: &SourceTable,
    dimsvc: &Dimsvc,
) -> Result<Vec<Dimension>, String> {
    if name.contains('@') {
        return Err(String::from("`@` is kept for indexes; name the section otherwise and set `source`"));
    }
    refuse_unfit(table)?;
    let columns = choose_columns(config, table)?;
    let key = choose_key(config, table, &columns)?;
    let key_columns =
        key.iter().map(|place| key_column(config, &columns, *place)).collect::<Result<_, _>>()?;
    let sink_table = config.sink_table(name);
    check_sink(&sink_table)?;
    let mut dimension = Dimension {
        database: table.table.database.clone(),
        source: table.table.name.clone(),
        sink_table: sink_table.into(),
        columns,
        all_columns: config.columns.is_empty(),
        order_key: key.clone(),
        key,
        key_columns,
        rows_estimate: table.rows_estimate,
        ..Dimension::new(name, TierKind::None)
    };
    options::set(&mut dimension, config, table.data_bytes, dimsvc)?;
    let mut with_indexes = index::indexes(config, &dimension)?;
    with_indexes.insert(0, dimension);
    Ok(with_indexes)
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

fn check_sink(sink: &str) -> Result<(), String> {
    let fits = !sink.is_empty()
        && sink.len() <= SINK_BYTES_MAX
        && sink.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let refusal = || format!("`sink_table` {sink} must be letters, digits and `_`, {SINK_BYTES_MAX} at most");
    if fits { Ok(()) } else { Err(refusal()) }
}
