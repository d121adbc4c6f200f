//! Every way a command can end that is not success: what a person is told, and the exit code.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use super::render::{self, safe};
use crate::control::wire::ErrorInfo;

/// How the program ends. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0. Nothing failed: help was asked for, or whoever read the output has seen enough.
    Done,
    /// 1. The request failed.
    Failed,
    /// 2. The command line, or what it names, makes no sense.
    Usage,
    /// 3. The host cannot be reached.
    Unreachable,
    /// 4. An upgrade was called off or rolled back; the worker runs as it did before.
    CalledOff,
    /// 5. The host could not go on, after faults of its own or because its state directory is gone, and stopped in order.
    Broken,
    /// 6. `health` or `doctor` found something that is not well.
    NotWell,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::CalledOff => 4,
            Exit::Broken => 5,
            Exit::NotWell => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command did not do what it was asked: at most three lines for a person, and an exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    exit: Exit,
    message: String,
    cause: Option<String>,
    help: Option<String>,
}

impl CliError {
    /// An error with what failed; a cause and help can be added.
    pub fn new(exit: Exit, message: impl Into<String>) -> CliError {
        CliError { exit, message: message.into(), cause: None, help: None }
    }

    /// The request failed: exit code 1.
    pub fn failed(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Failed, message)
    }

    /// What was typed, or a file it names, cannot be used: exit code 2.
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Usage, message)
    }

    /// Ends the program with 0 and without a word.
    pub fn quiet() -> CliError {
        CliError::new(Exit::Done, "")
    }

    /// Writing to standard output failed. A closed pipe is no fault: `paguro ps | head -1` has all
    /// it wanted.
    pub fn output(error: io::Error) -> CliError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::quiet(),
            _ => CliError::failed("cannot write to standard output").cause(error.to_string()),
        }
    }

    /// Says why. An empty text adds nothing.
    pub fn cause(mut self, cause: impl Into<String>) -> CliError {
        self.cause = Some(cause.into()).filter(|cause| !cause.is_empty());
        self
    }

    /// Says what to run next. An empty text adds nothing.
    pub fn help(mut self, help: impl Into<String>) -> CliError {
        self.help = Some(help.into()).filter(|help| !help.is_empty());
        self
    }

    /// How the program is to end.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Writes the lines to standard error. If that fails there is nobody left to tell.
    pub fn print(&self) {
        let lines = render::error_lines(&self.message, self.cause.as_deref(), self.help.as_deref());
        if !self.message.is_empty() {
            let _ = anstream::stderr().write_all(lines.as_bytes());
        }
    }
}

/// The lines as they are printed, without colour.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", safe(&self.message))?;
        if let Some(cause) = &self.cause {
            write!(f, "\n  cause: {}", safe(cause))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {}", safe(help))?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

/// The host's own words; the exit code follows from the error's code.
impl From<ErrorInfo> for CliError {
    fn from(error: ErrorInfo) -> CliError {
        let exit = match error.code.as_str() {
            "usage" => Exit::Usage,
            "called-off" | "rolled-back" => Exit::CalledOff,
            _ => Exit::Failed,
        };
        CliError::new(exit, error.message).cause(error.cause).help(error.help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(code: &str) -> ErrorInfo {
        ErrorInfo { code: code.into(), message: "m".into(), cause: "c\u{1b}[2J\nd".into(), help: String::new() }
    }

    #[test]
    fn every_code_of_the_wire_has_its_exit_code() {
        for (code, _) in ErrorInfo::CODES {
            let expected = match *code {
                "usage" => 2,
                "called-off" | "rolled-back" => 4,
                _ => 1,
            };
            assert_eq!(CliError::from(info(code)).exit().code(), expected, "{code}");
        }
        assert_eq!(CliError::from(info("of-a-newer-host")).exit().code(), 1);
    }

    #[test]
    fn what_is_printed_has_three_lines_at_most_and_no_raw_control_characters() {
        let error = CliError::from(info("internal")).help("paguro doctor");
        assert_eq!(error.to_string(), "error: m\n  cause: c\\u{1b}[2J\\nd\n  help: paguro doctor");
        assert_eq!(CliError::from(info("internal")).to_string().lines().count(), 2);
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        let closed = CliError::output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((closed.exit().code(), closed.message.as_str()), (0, ""));
        assert_eq!(CliError::output(io::Error::from(io::ErrorKind::StorageFull)).exit().code(), 1);
    }
}
