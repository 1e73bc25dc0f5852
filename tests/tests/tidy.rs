//! House rules that no lint knows, over every file of the tree: lengths, module
//! headers, words that do not belong here, dependencies, the map of folders.
//!
//! `cargo test -p tidemark-tests --test tidy` prints each violation as
//! `file:line: what`. It needs no service and no program.

#![expect(clippy::unwrap_used, reason = "the whole file is a test: what cannot be read fails it")]

#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use files::{File, read_tree, repository};

fn violations(rule: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    read_tree(&repository()).iter().flat_map(rule).collect()
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn files_and_functions_fit_on_a_few_screens() {
    assert_none(&violations(rules::lengths));
}

#[test]
fn every_module_says_what_it_is() {
    assert_none(&violations(rules::module_header));
}

#[test]
fn nothing_is_left_to_do_and_no_other_place_is_named() {
    assert_none(&violations(rules::banned_words));
}

#[test]
fn no_line_ends_in_spaces() {
    assert_none(&violations(rules::trailing_spaces));
}

#[test]
fn crates_take_versions_from_the_workspace() {
    assert_none(&violations(rules::workspace_dependencies));
}

#[test]
fn the_map_names_every_folder() {
    assert_none(&rules::unmapped_folders(&repository()));
}
