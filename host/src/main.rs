//! The `paguro` program: read the command line, do what it says, and end with what came of it.

use std::process::ExitCode;

use paguro::base::Allocator;

/// A host allocates for each message and for each of a million workers: this one does so in a fraction of the
/// system's time, and gives back what a load took (ARCHITECTURE.md, *Speed*).
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    Allocator::set_up();
    if let Some(code) = paguro::sandbox::run_if_asked(std::env::args_os()) {
        return code;
    }
    let told = paguro::cli::parse(std::env::args_os()).and_then(paguro::cli::run);
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit().into()
        }
    }
}
