//! `cargo xtask build-worker FILE -o OUT.wasm`: one source file becomes a component, wherever it lies.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::progress::Progress;
use crate::{guests, inspect, paths, snippets, tools};

#[derive(Args)]
pub struct Options {
    /// The worker: FILE.rs, FILE.js, FILE.py or FILE.c
    file: PathBuf,
    /// The component to write [default: FILE.wasm in this directory]
    #[arg(short, long, value_name = "OUT.wasm")]
    output: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let file = &options.file;
    let (Some(name), Some(language)) =
        (file.file_stem().and_then(|name| name.to_str()), file.extension().and_then(|extension| extension.to_str()))
    else {
        bail!("{} is not called NAME.rs, NAME.js, NAME.py or NAME.c", file.display());
    };
    let source = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let output = options.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
    let guest = snippets::by_hand(name, language, &source)?;
    fs::create_dir_all(paths::components())?;
    let progress = Progress::new(1);
    if let Err(missing) = tools::ensure(guest.language(), &progress) {
        bail!("{}\nto go on: {}", missing.reason, missing.fix);
    }
    progress.doing(&format!("building {}", file.display()));
    guests::build_one(&guest)?;
    drop(progress);
    let built = paths::component(&guest.name);
    inspect::component(&built)?;
    hand_over(&built, &output)
}

/// By renaming at the end: a host that watches the directory never sees half a file.
fn hand_over(built: &Path, output: &Path) -> Result<()> {
    let part = output.with_extension("wasm.part");
    let moved = fs::copy(built, &part).and_then(|_| fs::rename(&part, output));
    moved.with_context(|| format!("cannot write {}", output.display()))?;
    fs::remove_file(built)?;
    eprintln!("wrote {}", output.display());
    Ok(())
}
