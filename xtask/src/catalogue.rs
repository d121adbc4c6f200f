//! Every guest, by the name of its component, and how it is built.

use std::path::PathBuf;

use anyhow::Result;

use crate::paths;
use crate::stamp::Inputs;

/// One component to build.
pub struct Guest {
    /// The component is `target/guests/<name>.wasm`.
    pub name: String,
    pub recipe: Recipe,
}

/// How a guest is built.
pub enum Recipe {
    /// A target of the guests' workspace. Built together, by one cargo.
    Rust {
        package: &'static str,
        target: RustTarget,
    },
    /// A crate that stands alone: a snippet.
    RustCrate {
        manifest: PathBuf,
    },
    /// The source file and its world.
    C {
        source: PathBuf,
        world: &'static str,
    },
    JavaScript {
        source: PathBuf,
        world: &'static str,
    },
    /// The directory of the module `app`, and the world.
    Python {
        directory: PathBuf,
        world: &'static str,
    },
}

#[derive(Clone, Copy)]
pub enum RustTarget {
    /// A worker.
    Example,
    /// A command.
    Bin,
}

/// What a guest of any language needs to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Rust,
    C,
    JavaScript,
    Python,
}

const COUNTERS: [&str; 3] = ["counter-v1", "counter-v2", "counter-v3"];
const SHOP: [&str; 2] = ["orders", "inventory"];
const PROBES: [&str; 8] = ["probe", "echo", "batcher", "sim", "relay", "relay-b", "files", "paths"];
const COMMANDS: [&str; 2] = ["command-ok", "command-fail"];
const FAULTS: [&str; 24] = [
    "fault-spin",
    "fault-memory",
    "fault-trap",
    "fault-mute",
    "fault-flood",
    "fault-host-calls",
    "fault-stubborn",
    "fault-init",
    "fault-init-only",
    "fault-init-slow",
    "fault-save",
    "fault-upgrade",
    "fault-upgrade-slow",
    "fault-restore",
    "fault-critical",
    "fault-clock",
    "fault-third",
    "fault-huge-reply",
    "fault-huge-state",
    "fault-state-as",
    "fault-grabby",
    "fault-recursion",
    "fault-log",
    "fault-wrong-types",
];

/// The worlds of workers that are not in Rust; see `guests/wit`.
pub const STATELESS: &str = "stateless-worker";
pub const STATEFUL: &str = "stateful-worker";
pub const LIFECYCLE: &str = "lifecycle-worker";

/// All guests of the repository, quickest to build first.
pub fn all() -> Vec<Guest> {
    let mut guests = Vec::new();
    let workers = [("counter", &COUNTERS[..]), ("shop", &SHOP), ("probes", &PROBES), ("faults", &FAULTS)];
    for (package, names) in workers {
        guests.extend(names.iter().map(|name| rust(name, package, RustTarget::Example)));
    }
    guests.extend(COMMANDS.iter().map(|name| rust(name, "probes", RustTarget::Bin)));

    let source = |path: &str| paths::guests().join(path);
    guests.push(Guest {
        name: "limiter".into(),
        recipe: Recipe::C { source: source("c/limiter/limiter.c"), world: LIFECYCLE },
    });
    for name in ["pricing", "pricing-v2"] {
        let source = source(&format!("js/pricing/{name}.js"));
        guests.push(Guest { name: name.into(), recipe: Recipe::JavaScript { source, world: LIFECYCLE } });
    }
    guests.push(Guest {
        name: "chance".into(),
        recipe: Recipe::JavaScript { source: source("js/probes/chance.js"), world: STATELESS },
    });
    guests.push(Guest {
        name: "chance-py".into(),
        recipe: Recipe::Python { directory: source("python/probes"), world: STATELESS },
    });
    guests.push(Guest {
        name: "stats".into(),
        recipe: Recipe::Python { directory: source("python/stats"), world: STATEFUL },
    });
    guests
}

fn rust(name: &str, package: &'static str, target: RustTarget) -> Guest {
    Guest { name: name.to_owned(), recipe: Recipe::Rust { package, target } }
}

impl Guest {
    pub fn language(&self) -> Language {
        match self.recipe {
            Recipe::Rust { .. } | Recipe::RustCrate { .. } => Language::Rust,
            Recipe::C { .. } => Language::C,
            Recipe::JavaScript { .. } => Language::JavaScript,
            Recipe::Python { .. } => Language::Python,
        }
    }

    /// The hash over all that this guest is made of, the versions of the tools included.
    pub fn inputs(&self) -> Result<String> {
        let guests = paths::guests();
        let rust = |inputs: Inputs| {
            ["Cargo.toml", "Cargo.lock", "sdk"]
                .iter()
                .try_fold(inputs, |inputs, path| inputs.add(&guests.join(path)))?
                .add(&paths::root().join("rust-toolchain.toml"))
        };
        let inputs = Inputs::default().text(&self.name).add(&paths::root().join("wit"))?;
        let inputs = match &self.recipe {
            Recipe::Rust { package, .. } => {
                // The faults stand in for a counter, with the counter's own code.
                let shared = guests.join("counter/by_key.rs");
                rust(inputs)?.add(&guests.join(package))?.add(&shared)?
            }
            // Not the whole crate: cargo writes its lock file.
            Recipe::RustCrate { manifest } => rust(inputs)?.add(manifest)?.add(&manifest.with_file_name("src"))?,
            Recipe::C { source, world } => inputs
                .text(world)
                .add(source)?
                .add(&guests.join("wit"))?
                .add(&guests.join("c/paguro.h"))?
                .add(&guests.join("c/requirements.txt"))?
                .add(&paths::root().join("xtask/Cargo.toml"))?
                .add(&paths::root().join("xtask/src/c.rs"))?,
            Recipe::JavaScript { source, world } => inputs
                .text(world)
                .add(source.parent().unwrap_or(source))?
                .add(&guests.join("wit"))?
                .add(&guests.join("js/build.mjs"))?
                .add(&guests.join("js/guard.mjs"))?
                .add(&guests.join("js/package-lock.json"))?,
            Recipe::Python { directory, world } => inputs
                .text(world)
                .add(directory)?
                .add(&guests.join("wit"))?
                .add(&guests.join("python/requirements.txt"))?
                .add(&guests.join("python/build.py"))?
                .add(&guests.join("python/guarded.py"))?
                .add(&paths::root().join("xtask/src/python.rs"))?,
        };
        Ok(inputs.hash())
    }
}
