//! What the settings promise: documented defaults, places of mistakes,
//! environment overrides.

use super::*;
use std::{fs, path::PathBuf};

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tidemark-config-{}-{name}.toml", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

fn read(name: &str, text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let path = file(name, text);
    let env = env.iter().map(|(k, v)| (String::from(*k), String::from(*v)));
    let result = load_with_env(&path, env).map_err(|error| error.to_string());
    fs::remove_file(&path).unwrap();
    result.map_err(|text| text.replace(&path.display().to_string(), "FILE"))
}

#[test]
fn the_printed_default_is_the_default() {
    assert_eq!(read("default", DEFAULT_TOML, &[]).unwrap(), Config::default());
    assert_eq!(read("empty", "", &[]).unwrap(), Config::default());
}

#[test]
fn every_key_is_in_the_printed_default() {
    // A key that the text lacks would survive its removal from the text: so
    // count the keys of the text against the fields that Debug prints.
    let fields = format!("{:#?}", Config::default()).lines().filter(|l| l.contains(": ")).count();
    let text = DEFAULT_TOML.lines();
    let entries = text.filter(|l| !l.starts_with('#') && (l.contains(" = ") || l.starts_with('['))).count();
    assert_eq!(entries, fields);
}

#[test]
fn mistakes_name_their_place() {
    let unknown = read("unknown", "[mysql]\nhots = 'x'\n", &[]).unwrap_err();
    assert!(unknown.starts_with("FILE:2:1: unknown field `hots`, expected one of `host`"), "{unknown}");
    let wrong = read("wrong", "[mysql]\nport = 'x'\n", &[]).unwrap_err();
    assert!(wrong.starts_with("FILE:2:8: invalid type: string \"x\", expected u16"), "{wrong}");
    let syntax = read("syntax", "[mysql\n", &[]).unwrap_err();
    assert!(syntax.starts_with("FILE:1:"), "{syntax}");
}

#[test]
fn the_environment_overrides_and_is_named_when_wrong() {
    let env =
        [("TIDEMARK__MYSQL__PORT", "3307"), ("TIDEMARK__DIMSVC__HBASE__ADDRESS", "h:9"), ("OTHER", "1")];
    let config = read("env", "[mysql]\nport = 1\n", &env).unwrap();
    assert_eq!((config.mysql.port, config.dimsvc.hbase.address.as_str()), (3307, "h:9"));
    let wrong = read("env2", "", &[("TIDEMARK__MYSQL__PROT", "1")]).unwrap_err();
    assert!(wrong.starts_with("TIDEMARK__MYSQL__PROT: unknown field `prot`"), "{wrong}");
}

#[test]
fn a_dimension_defaults_to_its_own_name() {
    let dimensions: Dimensions =
        toml::from_str("[sku_info]\n[dic]\nsource = 'base_dic'\ncache = 'full'").unwrap();
    assert_eq!(dimensions["sku_info"].source_table("sku_info"), "sku_info");
    assert_eq!(dimensions["dic"].source_table("dic"), "base_dic");
    assert_eq!(dimensions["dic"].sink_table("dic"), "dim_dic");
    assert_eq!(dimensions["dic"].cache, Cache::Full);
}
