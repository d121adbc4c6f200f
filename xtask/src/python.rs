//! Python guests, by `componentize-py`.
//!
//! WASI is not stubbed out, although most of it will never be granted: without it the traceback of an
//! exception that nobody caught would not reach the worker's log.

use std::path::Path;

use anyhow::Result;

use crate::shell::{command, run};
use crate::{paths, tools};

/// Builds the module `app` in `directory`.
pub fn build(name: &str, directory: &Path, world: &str) -> Result<()> {
    let mut python = command(tools::venv_program("componentize-py"), directory);
    // No bytecode beside the sources: it would end up in the component.
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python.args(["--quiet", "--wit-path"]).arg(paths::guest_wit());
    python.args(["--world", world, "componentize", "app", "--output"]);
    run(python.arg(paths::component(name))).map(drop)
}
