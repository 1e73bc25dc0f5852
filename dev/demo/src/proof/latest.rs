//! What joining with the newest rows would have given: asked of dimsvc.

use super::{
    Columns, columns,
    joins::{JOINS, Join},
};
use anyhow::{Context, Result};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tidemark_proto::text;
use tidemark_tests::dim::{Dim, latest};

/// The rows with every joined column taken from the newest dimension rows.
pub(super) async fn rows(address: &str, mut rows: Vec<Columns>) -> Result<Vec<Columns>> {
    let mut dim = Dim::connect(address).await?;
    for join in &JOINS {
        lay_over(&mut dim, join, &mut rows).await?;
    }
    Ok(rows)
}

/// Sets a join's columns in every row; keys come from joins before it.
async fn lay_over(dim: &mut Dim, join: &Join, rows: &mut [Columns]) -> Result<()> {
    let mut keys: Vec<String> = rows.iter().filter_map(|row| key(join, row)).collect();
    keys.sort();
    keys.dedup();
    let answers = dim.lookup(join.table, &keys, latest()).await?;
    let mut newest: BTreeMap<String, Columns> = BTreeMap::new();
    for (key, answer) in keys.into_iter().zip(answers) {
        if answer.found {
            let row: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(&answer.row).with_context(|| format!("read a row of {}", join.table))?;
            newest.insert(key, columns(&row));
        }
    }
    for row in rows {
        let found = key(join, row).and_then(|key| newest.get(&key));
        for (theirs, ours) in join.columns {
            let value = found.and_then(|found| found.get(*theirs)).cloned().flatten();
            row.insert((*ours).to_owned(), value);
        }
    }
    Ok(())
}

/// The key of a row's dimension row, as the service takes it.
fn key(join: &Join, row: &Columns) -> Option<String> {
    let value = row.get(join.key)?.as_deref()?;
    if !join.key_is_text {
        return Some(format!("[{value}]"));
    }
    let mut token = Vec::new();
    text::write_string(&mut token, value);
    Some(format!("[{}]", String::from_utf8_lossy(&token)))
}
