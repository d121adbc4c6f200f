//! `cargo xtask soak NAME`: one kind of hostile input against the real program, for minutes (`tests/soak`).

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::shell::{command, stream};
use crate::{guests, paths};

/// The guests that the kinds use.
const GUESTS: &[&str] = &[
    "echo",
    "probe",
    "files",
    "limiter",
    "counter-v1",
    "counter-v2",
    "readme-counter-c",
    "fault-mute",
    "fault-spin",
    "fault-memory",
    "fault-recursion",
    "fault-init-slow",
    "fault-trap",
    "fault-flood",
    "fault-huge-state",
    "fault-host-calls",
];

#[derive(Args)]
pub struct Options {
    /// The kind of input
    #[arg(value_enum)]
    name: Kind,
    /// How long it comes
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What it is drawn from: the same seed gives the same steps
    #[arg(long, default_value_t = 10)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Components by shape: costly, large, deep, damaged
    Components,
    /// Granted directories that are renamed, linked, removed and made again
    Grants,
    /// Clients that stop half way, never read, or come in thousands
    Clients,
    /// Casts, timers, states, keys and configurations by many workers at once
    Loads,
    /// Files that turn into pipes, links and directories while the host looks
    Files,
}

/// Runs it; an error says that the host did not hold. Its last lines say what it was, and the seed.
pub fn run(options: &Options) -> Result<()> {
    guests::build(GUESTS)?;
    let name = options.name.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
    let mut cargo = command("cargo", paths::root());
    cargo.args(["test", "--workspace", "--test", "soak", "--", "--exact", "--nocapture"]);
    cargo.arg(format!("soak::{name}"));
    cargo.env("PAGURO_SOAK_SECONDS", options.seconds.to_string()).env("PAGURO_SOAK_SEED", options.seed.to_string());
    stream(&mut cargo)
}
