//! Running other programs: their output is kept, and shown when they fail.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::paths;

/// Runs to the end and returns standard output.
///
/// The compilers that this calls must not see what the build of xtask itself was given: flags for
/// the host's own code would end up in the guests.
pub fn run(command: &mut Command) -> Result<String> {
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({})\n{}", output.status, first_lines(&format!("{stdout}{stderr}")));
    }
    Ok(stdout.into_owned())
}

/// Runs to the end with its output where everybody sees it: cargo has progress of its own.
pub fn stream(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Builds the host. Always the whole workspace: the engine is built again for every other set of
/// features, and that takes minutes.
pub fn build_host() -> Result<()> {
    let begun = Instant::now();
    if !paths::host_binaries().join("paguro").exists() {
        eprintln!("building the host; the first time this takes some minutes");
    }
    stream(command("cargo", paths::root()).args(["build", "--workspace"]))?;
    eprintln!("host: built in {:.1} s", begun.elapsed().as_secs_f32());
    Ok(())
}

/// A command that runs in `directory`.
pub fn command(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory);
    command
}

/// Whether a program of this name can be run.
pub fn exists(program: &str) -> bool {
    let probe = Command::new(program).arg("--version").output();
    probe.is_ok_and(|output| output.status.success())
}

/// The beginning, which is where compilers say what is wrong; package managers go on to explain
/// themselves.
fn first_lines(output: &str) -> String {
    const LINES: usize = 60;
    output.trim().lines().take(LINES).collect::<Vec<_>>().join("\n")
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
