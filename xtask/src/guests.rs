//! `cargo xtask guests`: builds what has changed, says what it could not build and how to change that.

use std::fs;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::catalogue::{self, Guest, Language, Recipe};
use crate::progress::Progress;
use crate::{c, inspect, js, paths, python, rust, snippets, stamp, tools};

#[derive(Args, Default)]
pub struct Options {
    /// Build these alone, by the name of the component
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Treat a guest that cannot be built here as an error
    #[arg(long)]
    require_all: bool,
    /// Build nothing: list the components there are, with what they import and export
    #[arg(long)]
    list: bool,
}

/// A guest whose inputs have changed, and their hash.
struct Stale {
    guest: Guest,
    hash: String,
}

pub fn run(options: &Options) -> Result<()> {
    let wanted = wanted(&options.only)?;
    if options.list {
        return list(&wanted);
    }
    fs::create_dir_all(paths::components())?;
    let total = wanted.len();
    let stale = stale(wanted)?;
    let progress = Progress::new(stale.len() as u64);
    let mut report = Report { fresh: total - stale.len(), ..Report::default() };
    for language in [Language::Rust, Language::C, Language::JavaScript, Language::Python] {
        let (now, _): (Vec<&Stale>, Vec<_>) = stale.iter().partition(|stale| stale.guest.language() == language);
        if now.is_empty() {
            continue;
        }
        match tools::ensure(language, &progress) {
            Ok(()) => build_each(&now, &progress, &mut report),
            Err(missing) => report.skip(&now, &missing, &progress),
        }
    }
    drop(progress);
    report.conclude(options.require_all)
}

/// Builds these guests, all of which are needed.
pub fn build(names: &[&str]) -> Result<()> {
    run(&Options { only: names.iter().map(ToString::to_string).collect(), require_all: true, list: false })
}

/// Builds every guest there is.
pub fn build_all() -> Result<()> {
    build(&[])
}

/// Reads every guest back: all are there, and each is a whole component that exports something.
pub fn verify() -> Result<()> {
    let guests = wanted(&[])?;
    for Guest { name, .. } in &guests {
        if inspect::component(&paths::component(name))?.exports.is_empty() {
            bail!("{name} exports nothing");
        }
    }
    eprintln!("guests: {} components, each whole", guests.len());
    Ok(())
}

fn wanted(only: &[String]) -> Result<Vec<Guest>> {
    let mut guests = catalogue::all();
    guests.extend(snippets::of(&["README.md", "guests/README.md"].map(|f| paths::root().join(f)))?);
    if let Some(unknown) = only.iter().find(|name| !guests.iter().any(|g| g.name == **name)) {
        let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
        bail!("there is no guest {unknown}; there are {}", names.join(", "));
    }
    guests.retain(|guest| only.is_empty() || only.contains(&guest.name));
    Ok(guests)
}

fn stale(guests: Vec<Guest>) -> Result<Vec<Stale>> {
    let mut stale = Vec::new();
    for guest in guests {
        let hash = guest.inputs()?;
        if !stamp::is_fresh(&paths::component(&guest.name), &hash) {
            stale.push(Stale { guest, hash });
        }
    }
    Ok(stale)
}

/// Builds guests of one language. The Rust guests of the workspace are built together; the rest one
/// by one, so that one that fails hides no other.
fn build_each(guests: &[&Stale], progress: &Progress, report: &mut Report) {
    let (together, alone): (Vec<&Stale>, Vec<&Stale>) =
        guests.iter().partition(|stale| matches!(stale.guest.recipe, Recipe::Rust { .. }));
    if !together.is_empty() {
        progress.doing(&format!("building {} Rust guests", together.len()));
        let started = Instant::now();
        let names: Vec<&Guest> = together.iter().map(|stale| &stale.guest).collect();
        let outcome = rust::build(&names);
        report.add(&together, outcome, started, progress);
    }
    for stale in alone {
        progress.doing(&format!("building {}", stale.guest.name));
        let started = Instant::now();
        report.add(&[stale], build_one(&stale.guest), started, progress);
    }
}

pub fn build_one(guest: &Guest) -> Result<()> {
    match &guest.recipe {
        Recipe::Rust { .. } => rust::build(&[guest]),
        Recipe::RustCrate { manifest } => rust::build_crate(&guest.name, manifest),
        Recipe::C { source, world } => c::build(&guest.name, source, world),
        Recipe::JavaScript { source, world } => js::build(&guest.name, source, world),
        Recipe::Python { directory, world } => python::build(&guest.name, directory, world),
    }
}

/// What came of it.
#[derive(Default)]
struct Report {
    fresh: usize,
    built: usize,
    failed: Vec<String>,
    skipped: usize,
}

impl Report {
    fn add(&mut self, guests: &[&Stale], outcome: Result<()>, since: Instant, progress: &Progress) {
        progress.advance(guests.len() as u64);
        let outcome = outcome.and_then(|()| guests.iter().try_for_each(|stale| accept(stale)));
        match outcome {
            Ok(()) => {
                self.built += guests.len();
                let names: Vec<&str> = guests.iter().map(|s| s.guest.name.as_str()).collect();
                let seconds = since.elapsed().as_secs_f32();
                progress.say(&format!("built {} in {seconds:.1} s", names.join(", ")));
            }
            Err(error) => {
                self.failed.extend(guests.iter().map(|stale| stale.guest.name.clone()));
                progress.say(&format!("{error:#}"));
            }
        }
    }

    fn skip(&mut self, guests: &[&Stale], missing: &tools::Missing, progress: &Progress) {
        self.skipped += guests.len();
        let names: Vec<&str> = guests.iter().map(|stale| stale.guest.name.as_str()).collect();
        progress.say(&format!("skipped {}: {}", names.join(", "), missing.reason));
        progress.say(&format!("  to build: {}", missing.fix));
        progress.advance(guests.len() as u64);
    }

    fn conclude(self, require_all: bool) -> Result<()> {
        eprintln!("guests: {} built, {} unchanged, {} skipped", self.built, self.fresh, self.skipped);
        if !self.failed.is_empty() {
            bail!("not built: {}", self.failed.join(", "));
        }
        if require_all && self.skipped > 0 {
            bail!("{} guests were skipped; above it says why, and what to do", self.skipped);
        }
        Ok(())
    }
}

/// A result counts once it has been read back as a component.
fn accept(stale: &Stale) -> Result<()> {
    let path = paths::component(&stale.guest.name);
    inspect::component(&path)?;
    stamp::set(&path, &stale.hash)
}

fn list(guests: &[Guest]) -> Result<()> {
    for guest in guests {
        let path = paths::component(&guest.name);
        let Ok(file) = fs::metadata(&path) else {
            println!("{}: not built", guest.name);
            continue;
        };
        let interface = inspect::component(&path)?;
        println!("{}: {} KiB", guest.name, file.len().div_ceil(1024));
        println!("  exports {}", interface.exports.join(" "));
        println!("  imports {}", interface.imports.join(" "));
    }
    Ok(())
}
