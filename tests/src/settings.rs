//! The environment that lays a test's settings over a warehouse folder.

use crate::stack::Stack;
use anyhow::{Context, Result};
use std::{collections::BTreeMap, fmt::Display, net::TcpListener};

/// Overrides of `tidemark.toml`, passed to the programs as
/// `TIDEMARK__SECTION__KEY`.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The addresses of the stack's services.
    pub fn of_stack(stack: &Stack) -> Self {
        let mut settings = Self::default();
        settings
            .set("mysql.host", &stack.mysql.host)
            .set("mysql.port", stack.mysql.port)
            .set("mysql.user", &stack.mysql.user)
            .set("mysql.password", quoted(&stack.mysql.password))
            .set("kafka.brokers", &stack.kafka)
            .set("clickhouse.url", &stack.clickhouse.url)
            .set("clickhouse.user", &stack.clickhouse.user)
            .set("clickhouse.password", quoted(&stack.clickhouse.password))
            .set("dimsvc.hbase.address", &stack.hbase);
        settings
    }

    /// Sets `section.key`, as in `settings.set("mysql.port", 3307)`.
    pub fn set(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.0.insert(key.to_owned(), value.to_string());
        self
    }

    /// What was set for `section.key`.
    ///
    /// # Errors
    /// When nothing was.
    pub fn get(&self, key: &str) -> Result<&str> {
        self.0.get(key).map(String::as_str).with_context(|| format!("setting {key} was not made"))
    }

    /// As environment variables.
    pub fn variables(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().map(|(key, value)| {
            (format!("TIDEMARK__{}", key.replace('.', "__").to_uppercase()), value.as_str())
        })
    }
}

/// A TOML string: an empty or numeric password stays text.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// A port that nobody listens on at this moment.
///
/// # Errors
/// When the machine has none left.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("read the port")?.port())
}
