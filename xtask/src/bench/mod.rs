//! `cargo xtask bench`: the measurements of `host/examples/bench.rs` on an optimised host, beside the same
//! work in Erlang and beside bare floors, with medians, spreads, ratios and what is to be reached.
//!
//! The order: choose, build, measure in rounds, judge, then show and write. What judges and shows is pure.

mod chart;
mod erlang;
mod judge;
mod machine;
mod measurements;
mod readme;
mod record;
mod running;
mod samples;
mod table;
mod unit;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::erlang::Erlang;
use self::machine::Machine;
use self::running::Programs;
use crate::shell::{command, stream};
use crate::{guests, paths};

/// The guests that the measuring program loads.
const GUESTS: &[&str] = &["counter-v1", "counter-v2", "counter-v3", "echo", "probe", "relay", "relay-b"];

/// The name that is no measurement: it runs for minutes and reports as it goes.
const SOAK: &str = "soak";

#[derive(Args)]
pub struct Options {
    /// Measurements or groups, such as `call-64` or `upgrade`, or `soak` [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// One short round of each, in under a minute; without the million workers
    #[arg(long)]
    quick: bool,
    /// Where the figures go [default: target/bench/latest.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the chart goes [default: target/bench/latest.svg]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Put the table into README.md and the chart into docs/bench.svg
    // Only what is whole and thorough is for everybody to read.
    #[arg(long, conflicts_with_all = ["names", "quick"])]
    readme: bool,
}

/// How thorough: a quick look, or figures to quote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Quick,
    Full,
}

impl Length {
    /// Rounds, each of which measures Paguro and then Erlang, so that noise hits both alike.
    fn rounds(self) -> usize {
        match self {
            Length::Quick => 1,
            Length::Full => 3,
        }
    }
}

/// Measures what was asked for, and says what came of it.
pub fn run(options: &Options) -> Result<()> {
    if options.names.iter().any(|name| name == SOAK) {
        return soak(options);
    }
    let length = if options.quick { Length::Quick } else { Length::Full };
    let chosen = measurements::choose(&options.names, length)?;
    if options.readme {
        readme::check()?;
    }
    let programs = Programs { paguro: build()?, erlang: erlang()? };
    let outcome = running::measure(&programs, &chosen, length);
    let machine = Machine::read(programs.erlang.as_ref())?;
    let rows = judge::rows(&chosen, &outcome.figures);
    println!("{}\n{}", table::text(&rows), machine.line());

    let record = record::json(&chosen, &outcome.figures, &rows, &machine, length);
    write(options.json.as_deref(), "latest.json", &format!("{record:#}\n"))?;
    let drawn = chart::svg(&rows, &machine);
    write(options.svg.as_deref(), "latest.svg", &drawn)?;
    if !outcome.failures.is_empty() {
        bail!("not everything was measured:\n{}", outcome.failures.join("\n"));
    }
    if options.readme {
        readme::update(&format!("{}\n{}\n", table::markdown(&rows), machine.sentence(length)), &drawn)?;
    }
    Ok(())
}

/// Ten minutes of mixed load: its report is its own, and so are the words after its name.
fn soak(options: &Options) -> Result<()> {
    if options.names[0] != SOAK {
        bail!("`{SOAK}` is run alone: `cargo xtask bench {SOAK}`");
    }
    let mut program = command(build()?, paths::root());
    program.args(options.quick.then_some("--quick"));
    stream(program.args(&options.names))
}

/// Builds the guests and the measuring program, and returns where that is.
fn build() -> Result<PathBuf> {
    guests::build(GUESTS)?;
    fs::create_dir_all(paths::bench()).with_context(|| format!("cannot make {}", paths::bench().display()))?;
    stream(command("cargo", paths::root()).args(["build", "--release", "-p", "paguro", "--example", "bench"]))?;
    Ok(paths::bench_program())
}

fn erlang() -> Result<Option<Erlang>> {
    let found = Erlang::find()?;
    if found.is_none() {
        eprintln!("Erlang is not installed (`apt-get install erlang-base`): its column stays empty");
    }
    Ok(found)
}

/// Writes to where the user said, or to a file of this name where results usually go.
fn write(wanted: Option<&Path>, usual: &str, text: &str) -> Result<()> {
    let file = wanted.map_or_else(|| paths::bench().join(usual), Path::to_path_buf);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo xtask bench` alone makes what the measuring program loads.
    #[test]
    fn what_the_measuring_program_loads_is_built_first() {
        let directory = paths::root().join("host/examples/bench");
        for file in fs::read_dir(directory).expect("the program is there") {
            let source = fs::read_to_string(file.expect("a file").path()).expect("sources are text");
            let source = source.replace("_guest(", "");
            for guest in source.split("guest(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(GUESTS.contains(&guest), "{guest} is loaded and not among `GUESTS`");
            }
        }
    }
}
