//! JavaScript guests, by `guests/js/build.mjs`, which authors use as well.

use std::path::Path;

use anyhow::Result;

use crate::paths;
use crate::shell::{command, run};

pub fn build(name: &str, source: &Path, world: &str) -> Result<()> {
    let mut node = command("node", &paths::guests().join("js"));
    run(node.arg("build.mjs").arg(source).arg(paths::component(name)).arg(world)).map(drop)
}
