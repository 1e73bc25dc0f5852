//! The columns of MySQL's tables, from `information_schema`.

use super::{SqlType, Typed};
use mysql_async::{Conn, OptsBuilder, Params, Value, params, prelude::Queryable};
use std::{collections::BTreeMap, future::Future, time::Duration};
use tidemark_proto::config;

/// Column types by table.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    tables: BTreeMap<String, Vec<(String, Typed)>>,
}

/// Why the columns of the tables are not known.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{0}")]
    Mysql(#[from] mysql_async::Error),
    #[error("column {table}.{column} has type {column_type}, which is not supported")]
    UnknownType { table: String, column: String, column_type: String },
}

impl Catalog {
    /// Adds a table by hand: columns as (name, type as MySQL writes it, nullable).
    ///
    /// # Errors
    /// When a type is not known.
    pub fn insert(&mut self, table: &str, columns: &[(&str, &str, bool)]) -> Result<(), CatalogError> {
        for (column, column_type, nullable) in columns {
            self.push(table, column, (column_type, *nullable))?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        table: &str,
        column: &str,
        (column_type, nullable): (&str, bool),
    ) -> Result<(), CatalogError> {
        let sql_type = SqlType::parse(column_type).ok_or_else(|| CatalogError::UnknownType {
            table: table.to_owned(),
            column: column.to_owned(),
            column_type: column_type.to_owned(),
        })?;
        self.tables.entry(table.to_owned()).or_default().push((column.to_owned(), (sql_type, nullable)));
        Ok(())
    }

    /// Connects, reads the columns of those tables that exist, and
    /// disconnects, within the config's deadlines.
    ///
    /// # Errors
    /// When MySQL does not answer or a column has an unknown type.
    pub async fn fetch<'t>(
        mysql: &config::Mysql,
        tables: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, CatalogError> {
        let options = OptsBuilder::default()
            .ip_or_hostname(mysql.host.clone())
            .tcp_port(mysql.port)
            .user(Some(mysql.user.clone()))
            .pass(Some(mysql.password.clone()));
        let mut conn = within(mysql.connect_timeout_ms, async { Ok(Conn::new(options).await?) }).await?;
        let catalog = within(mysql.query_timeout_ms, Self::load(&mut conn, &mysql.database, tables)).await?;
        // The columns are read; a connection that ends badly takes nothing away.
        conn.disconnect().await.ok();
        Ok(catalog)
    }

    /// Reads the columns of those tables that exist. The caller sets the
    /// deadline.
    ///
    /// # Errors
    /// When the query fails or a column has an unknown type.
    pub async fn load<'t>(
        conn: &mut Conn,
        database: &str,
        tables: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, CatalogError> {
        const QUERY: &str = "SELECT column_name, column_type, is_nullable FROM information_schema.columns \
                             WHERE table_schema = :database AND table_name = :table ORDER BY ordinal_position";
        let mut catalog = Self::default();
        for table in tables {
            let of_table: Params =
                params! { "database" => Value::from(database), "table" => Value::from(table) };
            let columns: Vec<(String, String, String)> = conn.exec(QUERY, of_table).await?;
            for (column, column_type, nullable) in columns {
                catalog.push(table, &column, (&column_type, nullable == "YES"))?;
            }
        }
        Ok(catalog)
    }

    /// The columns of a table in their order; `None` for an unknown table.
    pub fn columns(&self, table: &str) -> Option<&[(String, Typed)]> {
        self.tables.get(table).map(Vec::as_slice)
    }

    /// The names of all tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }
}

async fn within<T>(
    limit_ms: u64,
    call: impl Future<Output = Result<T, CatalogError>>,
) -> Result<T, CatalogError> {
    let limit = Duration::from_millis(limit_ms);
    tokio::time::timeout(limit, call).await.unwrap_or(Err(CatalogError::Deadline(limit)))
}
