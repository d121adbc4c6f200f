//! Every verb's help as one text, for the documentation.

use std::fmt::Write;

use clap::{Command, CommandFactory};

use super::command::Cli;

/// Characters of a line of the reference.
const WIDTH: usize = 100;

/// The CLI's reference in Markdown. It does not depend on the terminal or the environment, so that
/// a test can hold the checked-in text against it.
pub fn reference() -> String {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut out = String::from("# The command line\n\nWritten by `paguro` itself; a test keeps it true.\n");
    section(&mut root, &mut out);
    for verb in verbs(&mut root) {
        section(verb, &mut out);
        for inner in verbs(verb) {
            section(inner, &mut out);
        }
    }
    out
}

fn verbs(command: &mut Command) -> impl Iterator<Item = &mut Command> {
    command.get_subcommands_mut().filter(|verb| verb.get_name() != "help")
}

fn section(command: &mut Command, out: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_string();
    let is_root = !name.contains(' ');
    // The options that all verbs share stand once, at the top.
    let mut shown = command.clone().term_width(WIDTH);
    if !is_root {
        shown = shown.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    }
    let help = shown.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(out, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_help_with_an_example() {
        let text = reference();
        for section in text.split("\n## ").skip(1) {
            let name = section.lines().next().unwrap_or_default();
            // `state` only holds other verbs.
            assert!(section.contains("Examples:") || name == "paguro state", "{name} has no example");
            assert!(section.lines().all(|line| line.chars().count() <= WIDTH), "{name} has a line that is too long");
        }
    }

    #[test]
    fn the_reference_that_is_checked_in_is_true() {
        expect_test::expect_file!["reference.md"].assert_eq(&reference());
    }
}
