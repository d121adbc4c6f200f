//! Python guests, by `guests/python/build.py`, which authors use as well.
//!
//! WASI is not stubbed out, although most of it will never be granted: without it the traceback of an
//! exception that nobody caught would not reach the worker's log.

use std::path::Path;

use anyhow::Result;

use crate::shell::{command, run};
use crate::{paths, tools};

/// Builds the module `app` in `directory`.
pub fn build(name: &str, directory: &Path, world: &str) -> Result<()> {
    let mut python = command(tools::venv_program("python"), directory);
    python.arg(paths::guests().join("python/build.py")).arg("app.py").arg(paths::component(name)).arg(world);
    run(&mut python).map(drop)
}
