//! The command line: one file per verb. It knows the host by its API alone, as any other program
//! would; only `up` runs the host itself.

mod command;
mod errors;
mod input;
mod output;
mod reference;
mod render;
mod target;

mod api;

mod verbs;

pub use command::{Cli, parse, run};
pub use errors::{CliError, Exit};
pub use reference::reference;
