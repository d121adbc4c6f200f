//! Which machine, and which versions: figures without them say nothing.

use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context, Result};

use super::Length;
use super::erlang::Erlang;
use super::unit::Unit;
use crate::paths;
use crate::shell::{command, run};

/// What the figures depend on.
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    pub wasmtime: String,
    pub erlang: Option<String>,
    /// UTC, such as `2026-11-21T17:17:52Z`.
    pub date: String,
    /// With `+` at its end where files have changed since.
    pub commit: String,
}

impl Machine {
    /// Reads what there is; what another system does not tell is `unknown`.
    pub fn read(erlang: Option<&Erlang>) -> Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let lock = paths::root().join("Cargo.lock");
        let lock = fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        let memory = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        Ok(Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: available_parallelism().map_or(1, usize::from),
            memory_bytes: memory * 1024,
            kernel: run(command("uname", paths::root()).arg("-sr"))?.trim().to_owned(),
            wasmtime: locked(&lock, "wasmtime").unwrap_or("unknown").to_owned(),
            erlang: erlang.map(|erlang| erlang.release.clone()),
            date: run(command("date", paths::root()).args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?.trim().to_owned(),
            commit: commit().unwrap_or_else(|_| "unknown".to_owned()),
        })
    }

    /// On one line.
    pub fn line(&self) -> String {
        let memory = Unit::Bytes.show(self.memory_bytes as f64);
        let versions = format!("wasmtime {}, {}", self.wasmtime, self.erlang.as_deref().unwrap_or("no Erlang"));
        format!("{}, {} cores, {memory}, {}; {versions}", self.cpu, self.cores, self.kernel)
    }

    /// For the README: where the figures come from, and what they are.
    pub fn sentence(&self, length: Length) -> String {
        let (day, commit) = (self.date.get(..10).unwrap_or(&self.date), self.commit.get(..7).unwrap_or(&self.commit));
        let rounds = length.rounds();
        format!(
            "Medians of {rounds} rounds, in brackets the 10th to the 90th percentile, measured on {day} at `{commit}`: {}.",
            self.line()
        )
    }
}

fn commit() -> Result<String> {
    let head = run(command("git", paths::root()).args(["rev-parse", "HEAD"]))?;
    let changes = run(command("git", paths::root()).args(["status", "--porcelain", "--untracked-files=no"]))?;
    Ok(format!("{}{}", head.trim(), if changes.is_empty() { "" } else { "+" }))
}

/// The first `key : value` of a file below `/proc`.
fn field(text: &str, key: &str) -> String {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(name, _)| name.trim() == key);
    found.map_or("unknown", |(_, value)| value.trim()).to_owned()
}

/// The version of a package in a `Cargo.lock`.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_and_cargo_write() {
        assert_eq!(field("processor\t: 0\nmodel name\t: A CPU @ 2: 3\n", "model name"), "A CPU @ 2: 3");
        assert_eq!(field("", "model name"), "unknown");
        let lock = "[[package]]\nname = \"wasmtime-wasi\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"wasmtime\"\nversion = \"48.0.8\"\n";
        assert_eq!(locked(lock, "wasmtime"), Some("48.0.8"));
        assert_eq!(locked(lock, "tokio"), None);
    }
}
