//! `cargo xtask test` and `cargo xtask prepush`: what must hold.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::shell::{command, exists, run, stream};
use crate::{guests, model, paths, rust};

/// Seeds of `tests/sim`, where a plain `cargo test` plays fewer. About a minute on two cores.
const SIMULATED: &str = "10000";

/// Sets up what is missing, builds everything and runs every test.
pub fn test() -> Result<()> {
    step("guests, in every language", || {
        guests::build_all()?;
        guests::verify()
    })?;
    // Hostile input, ten seconds of each kind, is one of the workspace's tests: `cargo xtask soak` gives it longer.
    step(&format!("tests of the host, {SIMULATED} seeds of its simulation among them"), || {
        stream(cargo(paths::root()).args(["test", "--workspace"]).env("PAGURO_SIM_SEEDS", SIMULATED))
    })?;
    step("the executor under model checkers", model::check)?;
    step("tests of the Rust SDK", || stream(cargo(&paths::guests()).args(["test", "--locked", "-p", "paguro-sdk"])))?;
    step("tests of xtask", || stream(cargo(&xtask()).args(["test", "--locked", "--target-dir"]).arg(xtask_target())))
}

/// What must hold before a push.
pub fn prepush(no_test: bool) -> Result<()> {
    ensure_components()?;
    step("format", format)?;
    step("clippy", clippy)?;
    step("docs", docs)?;
    if no_test { Ok(()) } else { test() }
}

fn format() -> Result<()> {
    for directory in [paths::root(), &xtask()] {
        stream(cargo(directory).args(["fmt", "--all", "--check"]))?;
    }
    // The guests are written for people to copy: their lines are as long as everybody's.
    let usual = ["--config", "max_width=100,use_small_heuristics=Default"];
    stream(cargo(&paths::guests()).args(["fmt", "--all", "--check", "--"]).args(usual))
}

fn clippy() -> Result<()> {
    const STRICT: [&str; 3] = ["--", "-D", "warnings"];
    stream(cargo(paths::root()).args(["clippy", "--workspace", "--all-targets"]).args(STRICT))?;
    let mut xtask_clippy = cargo(&xtask());
    xtask_clippy.args(["clippy", "--all-targets", "--target-dir"]).arg(xtask_target());
    stream(xtask_clippy.args(STRICT))?;
    let mut guests = cargo(&paths::guests());
    // Their tests run here and not in the sandbox, so no `--all-targets`.
    guests.args(["clippy", "--workspace", "--lib", "--bins", "--examples", "--target", rust::TARGET]);
    stream(guests.args(STRICT))
}

fn docs() -> Result<()> {
    let mut host = cargo(paths::root());
    stream(host.env("RUSTDOCFLAGS", "-Dwarnings").args(["doc", "--workspace", "--no-deps"]))?;
    let mut sdk = cargo(&paths::guests());
    stream(sdk.env("RUSTDOCFLAGS", "-Dwarnings").args(["doc", "--no-deps", "-p", "paguro-sdk"]))
}

/// A toolchain that was installed without the components of `rust-toolchain.toml` lacks these.
fn ensure_components() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if !exists(program) {
            eprintln!("rustup component add {component} ...");
            run(command("rustup", paths::root()).args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn step(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {what}");
    let begun = Instant::now();
    work()?;
    eprintln!("== {what}: well, after {:.1} s", begun.elapsed().as_secs_f32());
    Ok(())
}

fn cargo(directory: &Path) -> Command {
    command("cargo", directory)
}

fn xtask() -> std::path::PathBuf {
    paths::root().join("xtask")
}

/// Where `cargo xtask` itself is built, so that its tests share what is built.
fn xtask_target() -> std::path::PathBuf {
    paths::root().join("target/xtask")
}
