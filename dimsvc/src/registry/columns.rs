//! Which columns of a table a dimension has, and which of them are its key.

use super::{DimensionColumn, KeyColumn, can_be_key};
use tidemark_binlog::{Column, ColumnKind, SourceColumn, SourceTable};
use tidemark_proto::config::{DimensionConfig, Fold};

pub(super) fn choose_columns(
    config: &DimensionConfig,
    table: &SourceTable,
) -> Result<Vec<DimensionColumn>, String> {
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

pub(super) fn choose_key(
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

pub(super) fn key_column(
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
