//! Rust guests. What cargo writes for `wasm32-wasip2` is a component already.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::catalogue::{Guest, Recipe, RustTarget};
use crate::paths;
use crate::shell::{command, run};

pub const TARGET: &str = "wasm32-wasip2";

/// Builds these guests of the workspace with one cargo, so that what they share is compiled once.
pub fn build(guests: &[&Guest]) -> Result<()> {
    let mut cargo = cargo(&paths::guests().join("Cargo.toml"));
    cargo.arg("--locked");
    for guest in guests {
        if let Recipe::Rust { target, .. } = guest.recipe {
            cargo.arg(match target {
                RustTarget::Example => "--example",
                RustTarget::Bin => "--bin",
            });
            cargo.arg(&guest.name);
        }
    }
    run(&mut cargo)?;
    for guest in guests {
        if let Recipe::Rust { target, .. } = guest.recipe {
            let built = match target {
                // Cargo names a `cdylib` as a crate is named.
                RustTarget::Example => format!("examples/{}.wasm", guest.name.replace('-', "_")),
                RustTarget::Bin => format!("{}.wasm", guest.name),
            };
            take(&built, &guest.name)?;
        }
    }
    Ok(())
}

/// Builds a crate that stands alone, called as its component.
pub fn build_crate(name: &str, manifest: &Path) -> Result<()> {
    run(&mut cargo(manifest))?;
    take(&format!("{}.wasm", name.replace('-', "_")), name)
}

fn cargo(manifest: &Path) -> std::process::Command {
    let mut cargo = command("cargo", &paths::guests());
    cargo.args(["build", "--release", "--target", TARGET, "--manifest-path"]).arg(manifest);
    cargo.arg("--target-dir").arg(target_dir());
    cargo
}

fn target_dir() -> std::path::PathBuf {
    paths::guests().join("target")
}

fn take(built: &str, name: &str) -> Result<()> {
    let from = target_dir().join(TARGET).join("release").join(built);
    fs::copy(&from, paths::component(name)).with_context(|| format!("cargo wrote no {}", from.display()))?;
    Ok(())
}
