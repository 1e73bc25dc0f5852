//! Reading a settings file: typed, every mistake with its place.

use serde::de::DeserializeOwned;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

const ENV_PREFIX: &str = "TIDEMARK__";

/// A mistake in a settings file or in the environment. Its text names the
/// place and what to do.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file, or the environment variable.
    pub source_name: String,
    /// Line and column, from 1, where the file is to blame.
    pub place: Option<(usize, usize)>,
    /// What is wrong, in one line.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.source_name, self.message),
            None => write!(f, "{}: {}", self.source_name, self.message),
        }
    }
}

/// Reads a settings file with the process's environment laid over it.
///
/// # Errors
/// When the file cannot be read, is not TOML, or has an unknown key or a value
/// of the wrong type; likewise for an overriding variable.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    load_with_env(path, std::env::vars())
}

/// [`load`] with a given environment.
///
/// # Errors
/// As [`load`].
pub fn load_with_env<T: DeserializeOwned>(
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let file = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| ConfigError {
        source_name: file.clone(),
        place: None,
        message: format!(
            "cannot read the file: {error}; a warehouse folder has tidemark.toml and dimensions.toml"
        ),
    })?;
    let in_file = |error: toml::de::Error| file_error(&file, &text, &error);
    let mut config: T = toml::from_str(&text).map_err(in_file)?;
    let mut table: toml::Table = toml::from_str(&text).map_err(in_file)?;
    for (name, value) in overrides(env) {
        let in_env = |message: String| ConfigError { source_name: name.clone(), place: None, message };
        lay_over(&mut table, &name, &value).map_err(in_env)?;
        config = T::deserialize(table.clone()).map_err(|error| in_env(one_line(error.message())))?;
    }
    Ok(config)
}

/// The overriding variables, in a stable order.
fn overrides(env: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut found: Vec<_> = env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    found.sort();
    found
}

fn file_error(file: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let place = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before.len() - line_start + 1)
    });
    ConfigError {
        source_name: PathBuf::from(file).display().to_string(),
        place,
        message: one_line(error.message()),
    }
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Sets `TIDEMARK__A__B=value` as key `b` of section `a`.
fn lay_over(table: &mut toml::Table, name: &str, value: &str) -> Result<(), String> {
    let path: Vec<String> = name.trim_start_matches(ENV_PREFIX).split("__").map(str::to_lowercase).collect();
    let (key, sections) = path.split_last().ok_or("names no key")?;
    let mut at = table;
    for section in sections {
        let entry = at.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry.as_table_mut().ok_or_else(|| format!("`{section}` is a key, not a section"))?;
    }
    at.insert(key.clone(), parse_value(value));
    Ok(())
}

/// A TOML value where the text is one (`7400`, `true`, `["a"]`), else a string.
fn parse_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}
