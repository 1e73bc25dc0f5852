//! A MySQL session for writing and looking, rows as text.
//!
//! Blocking, on a client that can ask the server to report the GTID of each
//! commit: that is how a test knows the binlog order of what it wrote.

use crate::stack::MysqlServer;
use anyhow::{Context, Result, bail};
use mysql::{
    Conn, OptsBuilder, Value,
    consts::{CapabilityFlags, SessionStateType},
    prelude::Queryable,
};
use std::{fmt, fs::File, path::Path, process::Command, time::Duration};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const QUERY_DEADLINE: Duration = Duration::from_secs(120);
const DEADLOCK: u16 = 1213;
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// A row as text, in the order of its columns; NULL is `None`.
pub type TextRow = Vec<Option<String>>;

/// One connection. Times are UTC, commits report their GTID.
pub struct Session {
    connection: Conn,
    server: MysqlServer,
}

/// The GTID of one transaction. On one server the numbers grow in binlog order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gtid {
    pub server_uuid: String,
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server_uuid, self.number)
    }
}

impl Session {
    /// Connects; `database` may be empty.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the account.
    pub fn open(server: &MysqlServer, database: &str) -> Result<Self> {
        let options = OptsBuilder::new()
            .ip_or_hostname(Some(server.host.clone()))
            .tcp_port(server.port)
            .user(Some(server.user.clone()))
            .pass(Some(server.password.clone()))
            .db_name((!database.is_empty()).then(|| database.to_owned()))
            .prefer_socket(false)
            .tcp_connect_timeout(Some(CONNECT_DEADLINE))
            .read_timeout(Some(QUERY_DEADLINE))
            .write_timeout(Some(QUERY_DEADLINE))
            .additional_capabilities(CapabilityFlags::CLIENT_SESSION_TRACK)
            .init(vec!["SET time_zone = '+00:00', session_track_gtids = 'OWN_GTID'"]);
        let connection = Conn::new(options).context("connect to MySQL")?;
        Ok(Self { connection, server: server.clone() })
    }

    /// Runs a statement, or several with semicolons between.
    ///
    /// # Errors
    /// What the server says, with the statement's beginning.
    pub fn exec(&mut self, sql: &str) -> Result<()> {
        self.connection.query_drop(sql).with_context(|| beginning(sql))
    }

    /// Runs one statement, and tells how many rows it changed.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub fn change(&mut self, sql: &str) -> Result<u64> {
        self.exec(sql)?;
        Ok(self.connection.affected_rows())
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        let rows: Vec<mysql::Row> = self.connection.query(sql).with_context(|| beginning(sql))?;
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    /// The first column of the first row; `None` for NULL or no row.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub fn value(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.rows(sql)?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// COMMIT, and the GTID that the transaction got; `None` when it wrote
    /// nothing.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub fn commit(&mut self) -> Result<Option<Gtid>> {
        self.exec("COMMIT")?;
        self.last_gtid()
    }

    /// Runs the statements as one transaction and returns its GTID.
    ///
    /// # Errors
    /// As [`Session::exec`], or when the transaction wrote nothing.
    pub fn transact(&mut self, statements: &[&str]) -> Result<Gtid> {
        self.exec("BEGIN")?;
        for statement in statements {
            self.exec(statement)?;
        }
        self.commit()?.context("the transaction wrote nothing: it has no GTID")
    }

    /// The end of the binlog, as `binlog.000012:3456`.
    ///
    /// # Errors
    /// When the server has no binlog or does not say.
    pub fn binlog_end(&mut self) -> Result<String> {
        // 8.4 renamed the statement, and refuses the old one.
        let rows = self.rows("SHOW BINARY LOG STATUS").or_else(|_| self.rows("SHOW MASTER STATUS"))?;
        match rows.into_iter().next().as_deref() {
            Some([Some(file), Some(offset), ..]) => Ok(format!("{file}:{offset}")),
            _ => bail!("MySQL writes no binlog: log_bin is OFF"),
        }
    }

    /// Loads a file of SQL, of any size, through the `mariadb` client.
    ///
    /// # Errors
    /// When the client is not there or a statement fails.
    pub fn load_file(&self, database: &str, file: &Path) -> Result<()> {
        let input = File::open(file).with_context(|| format!("open {}", file.display()))?;
        let said = Command::new("mariadb")
            .args(["--no-defaults", "--default-character-set=utf8mb4", "--host", &self.server.host])
            .args(["--port", &self.server.port.to_string(), "--user", &self.server.user, database])
            .env("MYSQL_PWD", &self.server.password)
            .stdin(input)
            .output()
            .context("run the mariadb client (`dev/stack up mysql` installs it)")?;
        if !said.status.success() {
            bail!("load {}: {}", file.display(), String::from_utf8_lossy(&said.stderr).trim());
        }
        Ok(())
    }

    fn last_gtid(&self) -> Result<Option<Gtid>> {
        let changes = self.connection.session_state_changes().context("read the session's state")?;
        let gtids = changes.iter().find(|change| change.data_type() == SessionStateType::SESSION_TRACK_GTIDS);
        gtids.map(|change| parse_tracked(change.data_ref())).transpose()
    }
}

/// Whether the statement lost a race for row locks: rolled back, try again.
pub fn is_lock_conflict(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(mysql::Error::MySqlError(refusal)) if [DEADLOCK, LOCK_WAIT_TIMEOUT].contains(&refusal.code)
    )
}

/// A value as an SQL literal.
pub fn literal(value: &str) -> String {
    Value::from(value).as_sql(false)
}

/// `encoding (0) | length | uuid:number`.
fn parse_tracked(bytes: &[u8]) -> Result<Gtid> {
    let said = bytes.get(2..).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let (server_uuid, number) = said.rsplit_once(':').with_context(|| format!("not a GTID: {said:?}"))?;
    let number = number.parse().with_context(|| format!("not one GTID: {said:?}"))?;
    Ok(Gtid { server_uuid: server_uuid.to_owned(), number })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

fn beginning(sql: &str) -> String {
    format!("run: {}", sql.chars().take(200).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_gtid_that_the_server_tracks() {
        let gtid = parse_tracked(b"\0&86f64817-e6a0-11f1-86c1-02fc00000001:3").unwrap();
        assert_eq!(gtid.to_string(), "86f64817-e6a0-11f1-86c1-02fc00000001:3");
        assert!(parse_tracked(b"\0&86f64817-e6a0-11f1-86c1-02fc00000001:3-4").is_err());
        assert!(parse_tracked(b"").is_err());
    }
}
