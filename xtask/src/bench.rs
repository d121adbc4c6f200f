//! `cargo xtask bench`: the measurements of `host/examples/bench.rs`, on an optimised host.

use anyhow::Result;

use crate::shell::{command, stream};
use crate::{guests, paths};

/// Builds the guests that are measured, then runs one measurement, or all.
pub fn run(name: Option<&str>) -> Result<()> {
    guests::build(&["counter-v1", "counter-v2", "counter-v3", "echo", "probe"])?;
    let mut cargo = command("cargo", paths::root());
    cargo.args(["run", "--release", "-p", "paguro", "--example", "bench", "--"]);
    stream(cargo.args(name))
}
