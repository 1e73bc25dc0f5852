//! The tables of the dws layer on the server: created, recognised, read and
//! written. One call is one try; who retries is the worker.
//!
//! `tidemark_tables` says of each table which plan and topic fill it, and which
//! partitions it has begun to read. Its rows are of one incarnation of the
//! table: after a DROP TABLE they say nothing any more.

use super::{
    aggregate::{Group, Groups},
    measure::Measure,
    progress::TableProgress,
    schema::Schema,
};
use crate::sink::clickhouse::{
    Clickhouse, ClickhouseError,
    rowbinary::{DoesNotFit, Reader},
    sql,
};
use std::sync::Arc;

const STATE_TABLE: &str = "tidemark_tables";

/// The partition number of the row about the table itself.
const WHOLE_TABLE: i32 = -1;

/// Bounds of one query for groups: servers take 256 KiB of SQL and 50,000 nodes
/// by default.
const KEYS_PER_QUERY: usize = 1_000;
const KEY_BYTES_PER_QUERY: usize = 32 << 10;

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error(transparent)]
    Clickhouse(#[from] ClickhouseError),
    /// It holds something else. The text says what to do.
    #[error("{0}")]
    Foreign(String),
    #[error("{table}: {source}")]
    DoesNotFit { table: String, source: DoesNotFit },
}

impl TableError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Clickhouse(error) if error.is_retryable())
    }
}

/// A dws table that is there and is the plan's.
#[derive(Clone)]
pub(crate) struct Table {
    clickhouse: Clickhouse,
    pub(crate) measure: Arc<Measure>,
    incarnation: u64,
}

/// The row of `tidemark_tables` about a table.
#[derive(Debug, serde::Deserialize)]
struct State {
    incarnation: u64,
    hash: String,
    topic: String,
    columns: String,
}

impl Table {
    /// Creates the table and its view unless they are there.
    ///
    /// # Errors
    /// [`TableError::Foreign`] when there is a table of another plan, topic or
    /// form.
    pub(crate) async fn open(clickhouse: &Clickhouse, measure: Arc<Measure>) -> Result<Self, TableError> {
        let mut table = Self { clickhouse: clickhouse.clone(), measure, incarnation: 0 };
        let database = sql::identifier(clickhouse.database());
        clickhouse.execute(&format!("CREATE DATABASE IF NOT EXISTS {database}")).await?;
        clickhouse.execute(&table.create_state_table()).await?;
        if !table.exists().await? {
            // The state comes first: a table without one is somebody else's.
            table.incarnation = table.next_incarnation().await?;
            table.write_state(WHOLE_TABLE).await?;
            clickhouse.execute(&table.measure.schema.create_table()).await?;
            tracing::info!(table = table.measure.schema.name(), "dws table created");
        }
        table.incarnation = table.recognise().await?;
        clickhouse.execute(&table.measure.schema.create_view()).await?;
        Ok(table)
    }

    /// What the table knows of a partition.
    pub(crate) async fn progress(&self, partition: i32) -> Result<TableProgress, TableError> {
        let marks = format!(
            "SELECT count() FROM {} WHERE name = {} AND source_partition = {partition} AND incarnation = {}",
            self.state_table(),
            sql::string(self.measure.schema.name()),
            self.incarnation
        );
        let begun = self.number(&marks).await? > 0;
        let version_max = self.number(&self.measure.schema.select_version_max(partition)).await?;
        Ok(TableProgress { begun, version_max })
    }

    /// Notes that the partition is read from its beginning.
    pub(crate) async fn mark_begun(&self, partition: i32) -> Result<(), TableError> {
        self.write_state(partition).await
    }

    /// Reads the groups of keys; one without a row is not in the answer.
    pub(crate) async fn load(
        &self,
        partition: i32,
        keys: &[&[u8]],
    ) -> Result<Vec<(Box<[u8]>, Group)>, TableError> {
        let mut loaded = Vec::new();
        for chunk in chunks(keys) {
            let schema = &self.measure.schema;
            let query = schema
                .select_groups(partition, chunk)
                .ok_or_else(|| self.unusable("a key that is not its own"))?;
            let answer = self.clickhouse.query(&query, "RowBinary").await?;
            let mut reader = Reader::new(&answer);
            while !reader.is_empty() {
                let (key, group) =
                    schema.read_row(&mut reader).ok_or_else(|| self.unusable("rows of another form"))?;
                loaded.push((key.into(), group));
            }
        }
        Ok(loaded)
    }

    /// Writes the changed groups of partitions in one insert, and returns how
    /// many. On return they are in the table.
    pub(crate) async fn write<'g>(
        &self,
        partitions: impl Iterator<Item = (i32, &'g Groups)>,
    ) -> Result<usize, TableError> {
        let (mut rows, mut count) = (Vec::new(), 0);
        for (partition, groups) in partitions {
            for (key, group) in groups.changed() {
                let written = self.measure.schema.write_row(&mut rows, (key, partition), group);
                written.map_err(|source| TableError::DoesNotFit {
                    table: self.measure.schema.name().to_owned(),
                    source,
                })?;
                count += 1;
            }
        }
        if count > 0 {
            self.clickhouse.insert(&self.measure.schema.insert_target(), rows.into()).await?;
        }
        Ok(count)
    }

    async fn exists(&self) -> Result<bool, TableError> {
        let query = format!(
            "SELECT count() FROM system.tables WHERE database = {} AND name = {}",
            sql::string(self.clickhouse.database()),
            sql::string(&self.measure.schema.table_name())
        );
        Ok(self.number(&query).await? > 0)
    }

    /// The incarnation of the table, if it is the plan's.
    async fn recognise(&self) -> Result<u64, TableError> {
        let query = format!(
            "SELECT incarnation, toString(plan_hash) AS hash, topic, columns FROM {} FINAL WHERE name = {} AND source_partition = {WHOLE_TABLE}",
            self.state_table(),
            sql::string(self.measure.schema.name())
        );
        let answer = self.clickhouse.query(&query, "JSONEachRow").await?;
        if answer.is_empty() {
            return Err(self.foreign("it was not made by this layer"));
        }
        let State { incarnation, hash, topic, columns } =
            serde_json::from_slice(&answer).map_err(|error| ClickhouseError::Answer(error.to_string()))?;
        let plan = &self.measure.plan;
        if topic != plan.topic {
            return Err(
                self.foreign(&format!("it was filled from topic {topic}, the plan reads {}", plan.topic))
            );
        }
        if hash != plan.hash.to_string() {
            return Err(self.foreign("it was filled by another plan: the SQL has changed"));
        }
        if columns != self.measure.schema.columns() {
            return Err(self.foreign(&format!("column types of the source have changed: it has {columns}")));
        }
        Ok(incarnation)
    }

    /// Greater than that of any table of the name before; workers that create
    /// the table together find the same.
    async fn next_incarnation(&self) -> Result<u64, TableError> {
        let name = sql::string(self.measure.schema.name());
        self.number(&format!("SELECT max(incarnation) + 1 FROM {} WHERE name = {name}", self.state_table()))
            .await
    }

    async fn write_state(&self, partition: i32) -> Result<(), TableError> {
        let plan = &self.measure.plan;
        let statement = format!(
            "INSERT INTO {} (name, source_partition, incarnation, plan_hash, topic, columns) VALUES ({}, {partition}, {}, {}, {}, {})",
            self.state_table(),
            sql::string(self.measure.schema.name()),
            self.incarnation,
            plan.hash,
            sql::string(&plan.topic),
            sql::string(&self.measure.schema.columns())
        );
        Ok(self.clickhouse.execute(&statement).await?)
    }

    fn create_state_table(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (name String, source_partition Int32, incarnation UInt64, plan_hash UInt64, \
             topic String, columns String) ENGINE = ReplacingMergeTree(incarnation) ORDER BY (name, source_partition)",
            self.state_table()
        )
    }

    fn state_table(&self) -> String {
        sql::table(self.clickhouse.database(), STATE_TABLE)
    }

    /// The one number of a query's answer.
    async fn number(&self, query: &str) -> Result<u64, TableError> {
        let answer = self.clickhouse.query(query, "TabSeparated").await?;
        let text = std::str::from_utf8(&answer).unwrap_or_default().trim();
        Ok(text.parse().map_err(|_| ClickhouseError::Answer(format!("{text:?} is not a number")))?)
    }

    fn unusable(&self, what: &str) -> ClickhouseError {
        ClickhouseError::Answer(format!("{}: {what}", self.measure.schema.table_name()))
    }

    fn foreign(&self, what: &str) -> TableError {
        foreign(std::slice::from_ref(self), what)
    }
}

/// What is wrong with tables of one topic, and how to begin them again.
pub(super) fn foreign(tables: &[Table], what: &str) -> TableError {
    let schemas = || tables.iter().map(|table| &table.measure.schema);
    let names: Vec<_> = schemas().map(Schema::table_name).collect();
    let drops: Vec<_> = schemas().map(Schema::drop_statements).collect();
    let topic = tables.first().map_or("", |table| table.measure.plan.topic.as_str());
    TableError::Foreign(format!(
        "ClickHouse table {}: {what}. To build it again from what topic {topic} still has, stop all dws workers, run: \
         {} and start them",
        names.join(", "),
        drops.join(" "),
    ))
}

/// Cuts keys into parts of bounded count and size; a part has one key at least.
fn chunks<'k>(keys: &'k [&'k [u8]]) -> impl Iterator<Item = &'k [&'k [u8]]> {
    let mut rest = keys;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |key: &&&[u8]| {
            bytes += key.len();
            bytes <= KEY_BYTES_PER_QUERY
        };
        let count = rest.iter().take(KEYS_PER_QUERY).take_while(fits).count().max(1).min(rest.len());
        let (chunk, tail) = rest.split_at_checked(count)?;
        rest = tail;
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_and_lose_no_key() {
        let long = vec![b'x'; KEY_BYTES_PER_QUERY + 1];
        let mut keys: Vec<&[u8]> = vec![b"k"; 2_500];
        keys.insert(1_200, &long);

        let parts: Vec<_> = chunks(&keys).map(<[&[u8]]>::len).collect();

        assert_eq!(parts, [1_000, 200, 1, 1_000, 300]);
        assert_eq!(chunks(&[]).count(), 0);
    }
}
