//! The `paguro` program: read the command line, do what it says, and end with what came of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let told = paguro::cli::parse(std::env::args_os()).and_then(paguro::cli::run);
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit().into()
        }
    }
}
