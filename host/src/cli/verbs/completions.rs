//! `paguro completions`: what a shell needs to complete commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::command::Cli;
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  paguro completions bash > ~/.local/share/bash-completion/completions/paguro
  paguro completions zsh > ~/.zfunc/_paguro
  paguro completions fish > ~/.config/fish/completions/paguro.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    // Into memory first: the generator panics where its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "paguro", &mut script);
    output::print_bytes_exactly(&script)
}
