//! What joining with the newest rows would have given: asked of dimsvc.

use super::{
    Columns, columns,
    joins::{JOINS, Join},
};
use anyhow::{Context, Result};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};
use tidemark_proto::{
    dim::v1::{
        Latest, LookupRequest, ReadPoint, TableLookup, dimension_service_client::DimensionServiceClient,
        read_point::Point,
    },
    text,
};
use tonic::transport::{Channel, Endpoint};

const DEADLINE: Duration = Duration::from_secs(10);

/// The rows with every joined column taken from the newest dimension rows.
pub(super) async fn rows(address: &str, mut rows: Vec<Columns>) -> Result<Vec<Columns>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .context("read dimsvc's address")?
        .timeout(DEADLINE)
        .connect()
        .await
        .context("connect to dimsvc")?;
    let mut client = DimensionServiceClient::new(channel);
    for join in &JOINS {
        lay_over(&mut client, join, &mut rows).await?;
    }
    Ok(rows)
}

/// Sets a join's columns in every row; keys come from joins before it.
async fn lay_over(
    client: &mut DimensionServiceClient<Channel>,
    join: &Join,
    rows: &mut [Columns],
) -> Result<()> {
    let mut keys: Vec<String> = rows.iter().filter_map(|row| key(join, row)).collect();
    keys.sort();
    keys.dedup();
    let lookup =
        TableLookup { table: join.table.to_owned(), plain_keys: keys.clone(), ..TableLookup::default() };
    let read_point = Some(ReadPoint { point: Some(Point::Latest(Latest {})) });
    let request = LookupRequest { id: 0, tables: vec![lookup], read_point };
    let response =
        client.lookup(request).await.with_context(|| format!("look up {}", join.table))?.into_inner();
    let answers = response.tables.into_iter().next().context("an answer for each table")?.answers;
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
