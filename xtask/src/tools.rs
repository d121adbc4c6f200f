//! What each language needs on this machine: found, or installed, at the versions that are committed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::catalogue::Language;
use crate::progress::Progress;
use crate::shell::{command, exists, run};
use crate::stamp::{self, Inputs};
use crate::{paths, rust};

/// Why a language cannot be built here, and what would change that.
pub struct Missing {
    pub reason: String,
    pub fix: String,
}

/// Sees to it that guests in this language can be built.
pub fn ensure(language: Language, progress: &Progress) -> Result<(), Missing> {
    match language {
        Language::Rust => ensure_wasm_target(progress),
        Language::JavaScript => ensure_npm_packages(progress),
        Language::C => ensure_python_packages("c", "ziglang", progress),
        Language::Python => ensure_python_packages("python", "componentize_py", progress),
    }
}

/// A program of the virtual environment, such as `python`.
pub fn venv_program(name: &str) -> PathBuf {
    venv().join("bin").join(name)
}

fn venv() -> PathBuf {
    paths::tools().join("venv")
}

fn missing(reason: impl ToString, fix: impl Into<String>) -> Missing {
    Missing { reason: reason.to_string(), fix: fix.into() }
}

fn ensure_wasm_target(progress: &Progress) -> Result<(), Missing> {
    let fix = format!("rustup target add {}", rust::TARGET);
    let sysroot = run(command("rustc", paths::root()).args(["--print", "sysroot"]))
        .map_err(|error| missing(format!("{error:#}"), &fix))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(rust::TARGET).is_dir() {
        return Ok(());
    }
    progress.doing(&fix);
    run(command("rustup", paths::root()).args(["target", "add", rust::TARGET]))
        .map(drop)
        .map_err(|error| missing(format!("{error:#}"), &fix))
}

fn ensure_npm_packages(progress: &Progress) -> Result<(), Missing> {
    let directory = paths::guests().join("js");
    let fix = "(cd guests/js && npm ci)";
    for program in ["node", "npm"] {
        if !exists(program) {
            return Err(missing(format!("{program} is not installed"), "install Node.js 20 or newer"));
        }
    }
    let installed = directory.join("node_modules");
    let inputs = Inputs::default().add(&directory.join("package-lock.json"));
    let hash = inputs.map_err(|error| missing(error, fix))?.hash();
    if stamp::is_fresh(&installed, &hash) {
        return Ok(());
    }
    progress.doing("npm ci");
    run(command("npm", &directory).arg("ci"))
        .and_then(|_| stamp::set(&installed, &hash))
        .map_err(|error| missing(format!("{error:#}"), fix))
}

/// Installs `guests/<folder>/requirements.txt`, which is pinned, where nothing else is touched.
fn ensure_python_packages(folder: &str, module: &str, progress: &Progress) -> Result<(), Missing> {
    let requirements = paths::guests().join(folder).join("requirements.txt");
    let fix = format!(
        "python3 -m venv target/tools/venv && target/tools/venv/bin/pip install -r guests/{folder}/requirements.txt"
    );
    if !exists("python3") {
        return Err(missing("python3 is not installed", "install Python 3.10 or newer, with venv"));
    }
    let install = || -> Result<()> {
        let hash = Inputs::default().add(&requirements)?.hash();
        let packages = site_packages(module);
        if stamp::is_fresh(&packages.unwrap_or_default(), &hash) {
            return Ok(());
        }
        progress.doing(&format!("pip install -r guests/{folder}/requirements.txt"));
        if !venv_program("python").exists() {
            fs::create_dir_all(paths::tools())?;
            run(command("python3", paths::root()).args(["-m", "venv"]).arg(venv()))?;
        }
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(command(venv_program("python"), paths::root()).args(install).arg(&requirements))?;
        match site_packages(module) {
            Some(packages) => stamp::set(&packages, &hash),
            None => anyhow::bail!("pip installed no {module}"),
        }
    };
    install().map_err(|error| missing(format!("{error:#}"), fix))
}

/// Where the virtual environment has this module, if it has it.
fn site_packages(module: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(venv().join("lib")).ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("site-packages").join(module)))
        .find(|path| path.exists())
}
