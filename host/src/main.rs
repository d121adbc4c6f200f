//! The `paguro` program: read the command line, do what it says, and end with what came of it.

use std::process::ExitCode;

/// A host allocates for each message and for each of a million workers: this one does so in a fraction of the
/// time, and leaves fewer holes than the system's (ARCHITECTURE.md, *Speed*).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
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
