//! Python guests, by `componentize-py`.

use std::path::Path;

use anyhow::Result;

use crate::shell::{command, run};
use crate::{paths, tools};

/// Builds the module `app` in `directory`.
pub fn build(name: &str, directory: &Path, world: &str) -> Result<()> {
    let mut python = command(tools::python(), directory);
    // No bytecode beside the sources: it would end up in the component.
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python.args(["-m", "componentize_py", "--quiet", "--wit-path"]).arg(paths::guest_wit());
    python.args(["--world", world, "componentize", "app", "--output"]);
    run(python.arg(paths::component(name))).map(drop)
}
