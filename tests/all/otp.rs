//! The table of OTP's supervisor cases (`tests/otp.md`) names tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use paguro_tests::root;

/// Every `fn` by the stem of its file: `order::stop_is_in_reverse`.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory of sources").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            functions(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let stem = entry.file_stem().expect("a file").to_string_lossy().into_owned();
            let source = fs::read_to_string(&entry).expect("sources are text");
            let names = source.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(|name| format!("{stem}::{name}")));
        }
    }
}

#[test]
fn the_table_of_otps_cases_names_tests_that_exist() {
    let mut known = BTreeSet::new();
    for directory in ["host/src", "tests/all", "tests/sim"] {
        functions(&root().join(directory), &mut known);
    }
    let table = fs::read_to_string(root().join("tests/otp.md")).expect("the table is text");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 80, "{} cases", rows.len());
    for row in rows {
        let [_, case, held, note, _] = row[..] else { panic!("{row:?}") };
        assert!(held != "-" || !note.is_empty(), "{case} does not apply, and nothing says why");
        for test in held.split(' ').filter(|test| *test != "-") {
            let name = test.trim_matches('`');
            assert!(known.contains(name), "{case}: there is no test {name}");
        }
    }
}
