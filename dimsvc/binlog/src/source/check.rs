//! Whether the server's settings and rights allow to follow it.

use super::{Source, SourceError};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use std::collections::HashMap;

const VERSION_MIN: (u16, u16, u16) = (8, 0, 0);
/// From here on replicas are asked for by that name.
const VERSION_OF_SHOW_REPLICAS: (u16, u16, u16) = (8, 0, 22);
/// The server's code for a missing right.
const ACCESS_DENIED: u16 = 1227;

/// A server that is fit to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Identifies it, also after a restart.
    pub uuid: String,
    pub version: String,
    /// What its binlog files are called, before the number.
    pub base_name: String,
}

/// A setting, the value it must have, and the statement that gives it.
const REQUIRED: [(&str, &str, &str); 6] = [
    ("log_bin", "ON", "start the server with --log-bin"),
    ("binlog_format", "ROW", "run SET PERSIST binlog_format = 'ROW'"),
    ("binlog_row_image", "FULL", "run SET PERSIST binlog_row_image = 'FULL'"),
    ("binlog_row_metadata", "FULL", "run SET PERSIST binlog_row_metadata = 'FULL'"),
    ("binlog_row_value_options", "", "run SET PERSIST binlog_row_value_options = ''"),
    (
        "gtid_mode",
        "ON",
        "run SET PERSIST enforce_gtid_consistency = ON, then SET PERSIST gtid_mode = OFF_PERMISSIVE, \
         then ON_PERMISSIVE, then ON",
    ),
];

impl Source {
    /// Server settings as capture needs them.
    ///
    /// # Errors
    /// [`SourceError::Unfit`] with every setting and right that is not as
    /// needed, each with the statement to run.
    pub async fn check(&self) -> Result<Server, SourceError> {
        let mut conn = self.connect().await?;
        let settings = self.settings(&mut conn).await?;
        let setting = |name: &str| settings.get(name).map(String::as_str);
        let version = setting("version").unwrap_or_default();
        if conn.server_version() < VERSION_MIN || version.contains("MariaDB") {
            let problem = format!("version {version} is not supported: use MySQL 8.0 or later");
            return Err(SourceError::Unfit(vec![problem]));
        }
        let mut problems = setting_problems(&settings);
        problems.extend(self.right_problems(&mut conn).await?);
        if !problems.is_empty() {
            return Err(SourceError::Unfit(problems));
        }
        if setting("sync_binlog") != Some("1") {
            tracing::warn!(
                "sync_binlog is not 1: a crash of the server may lose transactions that were followed"
            );
        }
        let base_name = setting("log_bin_basename").and_then(|path| path.rsplit(['/', '\\']).next());
        Ok(Server {
            uuid: setting("server_uuid").unwrap_or_default().to_owned(),
            version: version.to_owned(),
            base_name: base_name.unwrap_or_default().to_owned(),
        })
    }

    async fn settings(&self, conn: &mut Conn) -> Result<HashMap<String, String>, SourceError> {
        let query = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'binlog_row_image', \
                     'binlog_row_metadata', 'binlog_row_value_options', 'gtid_mode', 'server_id', 'sync_binlog', \
                     'server_uuid', 'version', 'log_bin_basename')";
        let rows: Vec<(String, String)> =
            self.within("read the server's settings", conn.query(query)).await?;
        Ok(rows.into_iter().collect())
    }

    /// Each right is tried with a statement that needs it.
    async fn right_problems(&self, conn: &mut Conn) -> Result<Vec<String>, SourceError> {
        let replicas = if conn.server_version() < VERSION_OF_SHOW_REPLICAS {
            "SHOW SLAVE HOSTS"
        } else {
            "SHOW REPLICAS"
        };
        let mut problems = Vec::new();
        for (right, statement) in
            [("REPLICATION SLAVE", replicas), ("REPLICATION CLIENT", "SHOW BINARY LOGS")]
        {
            match self.within("read the user's rights", conn.query::<Row, _>(statement)).await {
                Err(SourceError::Query { source: mysql_async::Error::Server(error), .. })
                    if error.code == ACCESS_DENIED =>
                {
                    let user = &self.options.user;
                    problems.push(format!("user {user} lacks {right}: run GRANT {right} ON *.* TO '{user}'"));
                }
                // Another problem names the binlog that is off.
                Err(SourceError::Query { source: mysql_async::Error::Server(_), .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(problems)
    }
}

/// A setting that this version of the server does not have is as needed.
fn setting_problems(settings: &HashMap<String, String>) -> Vec<String> {
    let wrong = REQUIRED.iter().filter_map(|(name, needed, fix)| {
        let value = settings.get(*name).filter(|value| !value.eq_ignore_ascii_case(needed))?;
        Some(format!("{name} is `{value}`: {fix}"))
    });
    let mut problems: Vec<String> = wrong.collect();
    if settings.get("server_id").is_some_and(|id| id == "0") {
        problems.push(String::from("server_id is 0: run SET PERSIST server_id = 1"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_setting_is_a_problem_with_its_fix() {
        let good = REQUIRED.iter().map(|(name, value, _)| ((*name).to_owned(), (*value).to_owned()));
        let good: HashMap<String, String> = good.chain([("server_id".to_owned(), "1".to_owned())]).collect();
        assert_eq!(setting_problems(&good), Vec::<String>::new());
        for (name, wrong, fix) in [
            ("log_bin", "OFF", "--log-bin"),
            ("binlog_format", "MIXED", "SET PERSIST binlog_format = 'ROW'"),
            ("binlog_row_image", "MINIMAL", "SET PERSIST binlog_row_image = 'FULL'"),
            ("binlog_row_metadata", "MINIMAL", "SET PERSIST binlog_row_metadata = 'FULL'"),
            ("binlog_row_value_options", "PARTIAL_JSON", "SET PERSIST binlog_row_value_options = ''"),
            ("gtid_mode", "OFF", "SET PERSIST gtid_mode = OFF_PERMISSIVE"),
            ("server_id", "0", "SET PERSIST server_id"),
        ] {
            let mut settings = good.clone();
            settings.insert(name.to_owned(), wrong.to_owned());
            let problems = setting_problems(&settings);
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert!(problems[0].contains(name) && problems[0].contains(fix), "{problems:?}");
        }
    }
}
