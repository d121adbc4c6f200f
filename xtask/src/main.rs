//! `cargo xtask ...`: what the project's people run. Each subcommand is a module of its own.

mod c;
mod catalogue;
mod guests;
mod inspect;
mod js;
mod paths;
mod progress;
mod python;
mod rust;
mod shell;
mod snippets;
mod stamp;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Paguro repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build every guest there are tools for, into target/guests
    Guests(guests::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Guests(options) => guests::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
