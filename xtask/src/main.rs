//! `cargo xtask ...`: what the project's people run. Each subcommand is a module of its own.

mod bench;
mod build_worker;
mod c;
mod catalogue;
mod demo;
mod gates;
mod guests;
mod inspect;
mod js;
mod model;
mod paths;
mod progress;
mod python;
mod rust;
mod shell;
mod snippets;
mod soak;
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
    /// Show the whole story: a real host, real workers, live upgrades and the way back
    Demo,
    /// Set up what is missing, build everything and run every test
    Test,
    /// Build every guest there are tools for, into target/guests
    Guests(guests::Options),
    /// Make a component of one source file: Rust, JavaScript, Python or C
    BuildWorker(build_worker::Options),
    /// Measure the host beside Erlang and bare floors, such as `bench upgrade`
    Bench(bench::Options),
    /// Send the host hostile input of one kind for ten minutes, such as `soak files`
    Soak(soak::Options),
    /// Run the executor under model checkers; --mutants: and see that they notice faults
    Model(model::Options),
    /// What must hold before a push: format, clippy, docs, tests
    Prepush {
        /// Leave the tests out
        #[arg(long)]
        no_test: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Demo => demo::run(),
        Task::Test => gates::test(),
        Task::Guests(options) => guests::run(&options),
        Task::BuildWorker(options) => build_worker::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Model(options) => model::run(&options),
        Task::Prepush { no_test } => gates::prepush(no_test),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
