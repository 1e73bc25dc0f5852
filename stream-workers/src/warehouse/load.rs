//! Reading a warehouse folder.

use super::{
    Warehouse,
    compile::{Surroundings, compile_dwd, compile_dws},
    indicator::read_indicator,
    mistake::{Mistake, Place},
};
use std::{fs, io, path::Path};
use tidemark_proto::config::{self, Config, ConfigError, Dimensions};

/// A file of SQL: its path for messages, and its text.
struct SqlFile {
    path: String,
    text: String,
}

impl Warehouse {
    /// Reads, checks and compiles a folder.
    ///
    /// # Errors
    /// All mistakes of all files, in the order of the flow.
    pub fn load(folder: &Path) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let config: Config = settings(config::load(&folder.join("tidemark.toml")), &mut mistakes);
        // The environment overrides settings, not what the tables are.
        let dimensions = config::load_with_env(&folder.join("dimensions.toml"), std::iter::empty());
        let dimensions: Dimensions = settings(dimensions, &mut mistakes);
        // Without its settings every plan would have mistakes of its own.
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let around = Surroundings { config: &config, dimensions: &dimensions };
        let dwd_files = sql_files(folder, "dwd", &mut mistakes);
        let dwd = each(&dwd_files, &mut mistakes, |file| compile_dwd(&file.path, &file.text, around));
        let broken = dwd_files.iter().filter_map(|file| stem(&file.path));
        let broken: Vec<String> = broken.filter(|name| !dwd.iter().any(|plan| plan.name == *name)).collect();
        let dws_files = sql_files(folder, "dws", &mut mistakes);
        // What reads a table that did not compile is judged once that one does.
        let (_, judged): (Vec<&SqlFile>, Vec<&SqlFile>) =
            dws_files.iter().partition(|file| broken.iter().any(|name| file.text.contains(name.as_str())));
        let dws = each(judged, &mut mistakes, |file| compile_dws(&file.path, &file.text, &dwd));
        let tables: Vec<String> = dws_files.iter().filter_map(|file| stem(&file.path)).collect();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let ads_files = sql_files(folder, "ads", &mut mistakes);
        let ads = each(&ads_files, &mut mistakes, |file| read_indicator(&file.path, &file.text, &tables));
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let folder = folder.to_path_buf();
        Ok(Self { folder, config, dimensions, dwd, dws, ads })
    }
}

fn settings<T: Default>(read: Result<T, ConfigError>, mistakes: &mut Vec<Mistake>) -> T {
    match read {
        Ok(settings) => settings,
        Err(error) => {
            mistakes.push(settings_mistake(error));
            T::default()
        }
    }
}

fn settings_mistake(error: ConfigError) -> Mistake {
    let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
    let place = error.place.map(|(line, column)| Place { line: narrow(line), column: narrow(column) });
    Mistake { file: error.source_name, place, message: error.message }
}

/// The files of a layer in the order of their names; a layer may be missing.
fn sql_files(folder: &Path, layer: &str, mistakes: &mut Vec<Mistake>) -> Vec<SqlFile> {
    let path = folder.join(layer);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            mistakes.push(unreadable(&path, &error));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                mistakes.push(unreadable(&path, &error));
                continue;
            }
        };
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => files.push(SqlFile { path: path.display().to_string(), text }),
            Err(error) => mistakes.push(unreadable(&path, &error)),
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn unreadable(path: &Path, error: &io::Error) -> Mistake {
    Mistake { file: path.display().to_string(), place: None, message: format!("cannot be read: {error}") }
}

fn each<'f, T>(
    files: impl IntoIterator<Item = &'f SqlFile>,
    mistakes: &mut Vec<Mistake>,
    compile: impl Fn(&SqlFile) -> Result<T, Vec<Mistake>>,
) -> Vec<T> {
    let mut compiled = Vec::new();
    for file in files {
        match compile(file) {
            Ok(plan) => compiled.push(plan),
            Err(mut found) => mistakes.append(&mut found),
        }
    }
    compiled
}

fn stem(path: &str) -> Option<String> {
    Path::new(path).file_stem()?.to_str().map(str::to_owned)
}
