//! What a check tells of a folder whose services do not answer.

use super::{check, live::place_of_key};
use std::{fs, path::Path};
use tidemark_proto::config::DEFAULT_TOML;

/// A port that nothing listens on: it was free a moment ago.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}

#[tokio::test]
async fn the_example_is_good_without_services() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gmall");
    let report = check(&folder, false).await;
    assert!(report.is_good(), "{report}");
    let table = report.to_string();
    for line in ["dimensions  11: ", "dws         5: ", "services    not asked: add --connect"] {
        assert!(table.contains(line), "{table}");
    }
}

#[tokio::test]
async fn each_dead_service_is_one_line_at_its_key() {
    // given
    let folder = tempfile::tempdir().unwrap();
    let port = closed_port();
    let settings = DEFAULT_TOML
        .replace("port = 3306", &format!("port = {port}"))
        .replace("127.0.0.1:9092", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:8123", &format!("127.0.0.1:{port}"))
        .replace("http://127.0.0.1:7400", &format!("http://127.0.0.1:{port}"));
    fs::write(folder.path().join("tidemark.toml"), &settings).unwrap();
    fs::write(folder.path().join("dimensions.toml"), "").unwrap();
    // when
    let report = check(folder.path(), true).await;
    // then
    let root = format!("{}/", folder.path().display());
    let told = report.to_string().replace(&root, "");
    let line_of = |key: &str| settings.lines().position(|line| line.starts_with(key)).unwrap() + 1;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    for (line, key, service) in [
        (lines[0], "port =", "MySQL at"),
        (lines[1], "dimsvc =", "dimsvc at"),
        (lines[2], "brokers =", "kafka at"),
        (lines[3], "url =", "ClickHouse"),
    ] {
        assert!(line.starts_with(&format!("tidemark.toml:{}:1: {service}", line_of(key))), "{line}");
        assert!(line.contains("start "), "{line}");
    }
}

#[test]
fn a_key_is_found_in_its_own_section() {
    let text = "[a]\nx = 1\n\n[b]\n# x\n y = 2\nx=3\n";
    let line = |section, key| place_of_key(text, section, key).map(|place| place.line);
    assert_eq!(line("b", "x"), Some(7));
    assert_eq!(line("a", "y"), Some(1));
    assert_eq!(line("c", "x"), None);
}
