//! The shape of the code is tested like anything else: layers, forgotten files, guests nobody uses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use paguro_tests::root;

/// In order of dependence: each names only those before it.
const LAYERS: [&str; 7] = ["base", "record", "sandbox", "runtime", "change", "control", "cli"];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn layer_of(path: &Path, src: &Path) -> Option<usize> {
    let first = path.strip_prefix(src).ok()?.components().next()?;
    let first = first.as_os_str().to_str()?.trim_end_matches(".rs").to_string();
    LAYERS.iter().position(|layer| *layer == first)
}

/// Every `crate::NAME` in code; comments do not count.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for part in line.split("crate::").skip(1) {
            let grouped = part.strip_prefix('{').unwrap_or(part);
            names.insert(grouped.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
        }
    }
    names
}

#[test]
fn a_layer_names_only_those_above_it() {
    let src = root().join("host/src");
    let mut wrong = Vec::new();
    for path in sources(&src) {
        let Some(own) = layer_of(&path, &src) else { continue };
        let text = std::fs::read_to_string(&path).expect("a source");
        for name in named(&text) {
            if let Some(other) = LAYERS.iter().position(|layer| *layer == name)
                && other > own
            {
                wrong.push(format!("{} ({}) names {name}", path.display(), LAYERS[own]));
            }
        }
    }
    assert!(wrong.is_empty(), "edges against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn the_check_of_layers_can_fail() {
    assert!(named("use crate::control::Host;").contains("control"));
    assert!(named("    let x = crate::cli::run();").contains("cli"));
    assert!(!named("//! crate::cli").contains("cli"));
}

#[test]
fn only_the_sandbox_names_wasmtime_and_the_pure_files_name_no_tokio() {
    let src = root().join("host/src");
    let code = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("a source");
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    };
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).expect("below src").to_string_lossy().to_string();
        if !inside.starts_with("sandbox/") {
            for engine in ["wasmtime::", "wasmtime_wasi::"] {
                assert!(!code(&path).contains(engine), "{inside} names {engine}");
            }
        }
        let pure = ["spec", "budget", "budgets", "backoff", "breaker", "cpu", "poison", "rate", "storm", "supervision"];
        let is_one = |file: &&str| [".rs", "/"].iter().any(|end| inside.starts_with(&format!("runtime/{file}{end}")));
        let pure = pure.iter().any(is_one) || inside.starts_with("base/");
        let others = ["change/probation", "change/history", "control/directory/plan", "control/directory/admission"];
        if pure || others.iter().any(|file| inside == format!("{file}.rs")) {
            assert!(!code(&path).contains("tokio::"), "{inside} is pure, and names tokio");
        }
    }
}

#[test]
fn the_contract_is_the_one_that_guests_are_built_from() {
    let ours = std::fs::read_to_string(root().join("wit/worker.wit")).expect("the contract");
    let theirs = std::fs::read_to_string(root().join("guests/wit/worker.wit")).expect("the guests' copy or link");
    assert_eq!(ours, theirs);
}

#[test]
fn every_guest_is_used_by_a_test() {
    let tests = sources(&root().join("tests"));
    let text: String = tests.iter().map(|path| std::fs::read_to_string(path).expect("a source")).collect();
    let built = std::fs::read_dir(root().join("target/guests")).expect("guests are built");
    let names = built.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".wasm").map(str::to_string)
    });
    let unused: Vec<String> =
        names.filter(|name| !name.starts_with("readme-") && !text.contains(&format!("\"{name}\""))).collect();
    assert!(unused.is_empty(), "guests that no test uses: {unused:?}");
}
