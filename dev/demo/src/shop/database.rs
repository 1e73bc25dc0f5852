//! The business database: made anew for each run.

use super::catalog;
use anyhow::Result;
use std::path::Path;
use tidemark_tests::{
    mysql::Session,
    stack::{MysqlServer, repository},
};

/// Where the shop keeps its data.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) server: MysqlServer,
    pub(crate) database: String,
}

impl Shop {
    /// A new database, with the project's schema and generated dimensions.
    pub(crate) fn generate(server: &MysqlServer, database: &str, seed: u64) -> Result<Self> {
        let shop = Self::recreate(server, database)?;
        let mut session = shop.session()?;
        session.load_file(database, &repository().join("examples/gmall/schema.sql"))?;
        catalog::fill(&mut session, seed)?;
        Ok(shop)
    }

    /// A new database, loaded from a dump.
    pub(crate) fn load(server: &MysqlServer, database: &str, dump: &Path) -> Result<Self> {
        let shop = Self::recreate(server, database)?;
        let mut session = shop.session()?;
        session.load_file(database, dump)?;
        key_regions(&mut session)?;
        Ok(shop)
    }

    fn recreate(server: &MysqlServer, database: &str) -> Result<Self> {
        let mut session = Session::open(server, "")?;
        session.exec(&format!("DROP DATABASE IF EXISTS {database}"))?;
        session.exec(&format!("CREATE DATABASE {database} DEFAULT CHARACTER SET utf8mb4"))?;
        Ok(Self { server: server.clone(), database: database.to_owned() })
    }

    /// A session in this database.
    pub(crate) fn session(&self) -> Result<Session> {
        Session::open(&self.server, &self.database)
    }
}

/// Dumps of the course leave `base_region` without a key, and a dimension
/// needs one.
fn key_regions(session: &mut Session) -> Result<()> {
    let keys = session.value(
        "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = DATABASE() \
         AND table_name = 'base_region' AND index_name = 'PRIMARY'",
    )?;
    if keys.as_deref() == Some("0") {
        session.exec("ALTER TABLE base_region MODIFY id varchar(20) NOT NULL, ADD PRIMARY KEY (id)")?;
    }
    Ok(())
}
