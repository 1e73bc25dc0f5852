//! The rules. Each takes a file and returns its violations.

use crate::{
    files::File,
    source::{Function, functions},
};
use std::{fs, path::Path};

const FILE_LINES_MAX: usize = 400;
const TEST_FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Words with the reason why not, in two halves so that this file may say them.
const BANNED: [(&str, &str, &str); 10] = [
    ("TO", "DO", "do it, or leave it out"),
    ("FIX", "ME", "do it, or leave it out"),
    ("XX", "X", "do it, or leave it out"),
    ("todo", "!(", "do it, or leave it out"),
    ("unimplemented", "!(", "do it, or leave it out"),
    ("dbg", "!(", "a leftover of debugging"),
    ("issue", " #", "the project speaks of itself alone"),
    ("/ro", "ot/", "a path of one machine"),
    ("/wo", "rk/", "a path of one machine"),
    ("unbounded", "_channel", "every queue is bounded"),
];

/// The lint that bans it has to name it.
const MAY_NAME_THE_BANNED: [&str; 1] = ["clippy.toml"];

/// Code is read a screen at a time.
pub(crate) fn lengths(file: &File) -> Vec<String> {
    if !file.has_extension("rs") {
        return Vec::new();
    }
    let lines = file.text.lines().count();
    let most = if file.is_test() { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
    let long_file = (lines > most).then(|| file.at(lines, &format!("{lines} lines, at most {most}")));
    let long_function = |function: &Function| {
        let what = format!("fn {} has {} lines, at most {FUNCTION_LINES_MAX}", function.name, function.lines);
        (function.lines > FUNCTION_LINES_MAX).then(|| file.at(function.line, &what))
    };
    let functions = functions(&file.text);
    long_file.into_iter().chain(functions.iter().filter_map(long_function)).collect()
}

/// Every module begins by saying what it owns.
pub(crate) fn module_header(file: &File) -> Vec<String> {
    let has_header =
        file.text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"));
    if has_header || !file.has_extension("rs") {
        return Vec::new();
    }
    vec![file.at(1, "a module begins with `//!` and what it owns")]
}

pub(crate) fn banned_words(file: &File) -> Vec<String> {
    if MAY_NAME_THE_BANNED.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (front, back, reason) in BANNED {
            if contains_word(line, &format!("{front}{back}")) {
                found.push(file.at(number, &format!("`{front}{back}`: {reason}")));
            }
        }
        if file.is_test() && line.contains(concat!("thread::", "sleep")) {
            found.push(file.at(number, "a test waits on a condition with a deadline, it does not sleep"));
        }
    }
    found
}

/// Letters must not go on before or after: `mktemp XXXXXX` is no marker.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let goes_on = |edge: Option<char>, other: Option<char>| {
            edge.is_some_and(char::is_alphanumeric) && other.is_some_and(char::is_alphanumeric)
        };
        !goes_on(word.chars().next(), before) && !goes_on(word.chars().next_back(), after)
    })
}

/// A patch says by a space that a line, empty or not, stays.
pub(crate) fn trailing_spaces(file: &File) -> Vec<String> {
    if file.path.ends_with(".patch") {
        return Vec::new();
    }
    let lines = (1..).zip(file.text.split('\n'));
    lines
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(number, _)| file.at(number, "spaces at the end of the line"))
        .collect()
}

/// A version stands once, in the workspace's manifest.
pub(crate) fn workspace_dependencies(file: &File) -> Vec<String> {
    if !file.path.ends_with("/Cargo.toml") {
        return Vec::new();
    }
    let (mut found, mut in_dependencies) = (Vec::new(), false);
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
            found.push(file.at(number, "take the version from the workspace: NAME.workspace = true"));
        }
    }
    found
}

/// README and ARCHITECTURE say what each folder at the top is.
pub(crate) fn unmapped_folders(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md"] {
        let Ok(text) = fs::read_to_string(root.join(page)) else {
            found.push(format!("{page}:1: is missing"));
            continue;
        };
        for entry in fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_ours = path.is_dir() && !name.starts_with('.') && name != "target";
            if is_ours && !text.contains(&format!("{name}/")) {
                found.push(format!("{page}:1: does not say what `{name}/` is"));
            }
        }
    }
    found
}

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn long_files_and_functions_are_found() {
    let long = format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(70));
    assert_eq!(lengths(&file("a/src/b.rs", &long)), ["a/src/b.rs:2: fn f has 72 lines, at most 70"]);
    let lines = "\n".repeat(500);
    assert_eq!(lengths(&file("a/src/b.rs", &lines)), ["a/src/b.rs:500: 500 lines, at most 400"]);
    assert_eq!(lengths(&file("a/src/b/tests.rs", &lines)), [""; 0]);
}

#[test]
fn words_are_found_with_their_line_and_longer_words_are_not() {
    let text = concat!("fine\n// TO", "DO: later\nmktemp XXXX", "XX\nlet x = /ro", "ot/x;\n");
    let found = banned_words(&file("a.rs", text));
    let places: Vec<_> = found.iter().map(|found| found.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["a.rs:2", "a.rs:4"]);
}

#[test]
fn a_version_of_its_own_is_found() {
    let text = "[package]\nversion = \"1\"\n[dev-dependencies]\na.workspace = true\nb = \"1\"\n";
    assert_eq!(workspace_dependencies(&file("x/Cargo.toml", text)).len(), 1);
}

#[test]
fn a_missing_header_is_found() {
    assert_eq!(module_header(&file("a.rs", "use b;\n")).len(), 1);
    assert_eq!(module_header(&file("a.rs", "//! What it is.\n")), [""; 0]);
}
