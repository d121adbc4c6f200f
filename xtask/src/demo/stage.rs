//! Where the demo runs its commands and shows them. What is shown is what is run: the text after `$`
//! goes to `sh` as it is.

use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal, Read, pipe, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths;

/// How long a condition may take to come true on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub struct Stage {
    directory: PathBuf,
    /// With the host's own build in front.
    path: OsString,
    colours: bool,
}

/// What a command said, standard output and standard error as a terminal shows them.
pub struct Said {
    command: String,
    text: String,
}

impl Stage {
    pub fn new(directory: &Path) -> Stage {
        let mut path = paths::host_binaries().into_os_string();
        if let Some(others) = env::var_os("PATH") {
            path.push(":");
            path.push(others);
        }
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Stage { directory: directory.to_path_buf(), path, colours: stdout().is_terminal() && !no_color }
    }

    /// A headline.
    pub fn scene(&self, title: &str) {
        println!("\n{}", self.styled("1;36", &format!("== {title}")));
    }

    /// A remark.
    pub fn aside(&self, text: &str) {
        for line in text.lines() {
            println!("{}", self.styled("2", &format!("# {line}")));
        }
    }

    /// Plain text.
    pub fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Shows a command without running it: for what runs beside the others.
    pub fn show(&self, command: &str) {
        println!("{}", self.styled("1", &format!("$ {command}")));
    }

    /// Shows and runs a command that must succeed.
    pub fn run(&self, command: &str) -> Result<Said> {
        self.run_to(command, 0)
    }

    /// Shows and runs a command that must end with this exit code. Another than 0 is shown as well.
    pub fn run_to(&self, command: &str, code: i32) -> Result<Said> {
        let shown = match code {
            0 => command.to_owned(),
            _ => format!("{command}; echo \"exit code $?\""),
        };
        self.show(&shown);
        let (mut reader, writer) = pipe()?;
        let mut shell = self.shell(&shown);
        shell.stdout(writer.try_clone()?).stderr(writer);
        let mut child = shell.spawn().context("cannot run sh")?;
        // It holds the pipe's other end, and the text would never be at its end.
        drop(shell);
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        let status = child.wait()?;
        print!("{text}");
        let said = Said { command: command.to_owned(), text };
        match code {
            0 if !status.success() => bail!("`{command}` failed ({status})"),
            0 => Ok(said),
            _ => said.says(&format!("exit code {code}\n")),
        }
    }

    /// A command that is run here, by `sh`, and shown by whoever asks for it.
    pub fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.directory).stdin(Stdio::null());
        self.paguro_environment(&mut shell);
        shell
    }

    /// `paguro` itself, run here.
    pub fn paguro(&self) -> Command {
        let mut paguro = Command::new(paths::host_binaries().join("paguro"));
        paguro.current_dir(&self.directory).stdin(Stdio::null());
        self.paguro_environment(&mut paguro);
        paguro
    }

    /// Nothing that is set where the demo is started may lead its commands to another host.
    fn paguro_environment(&self, command: &mut Command) {
        command.env("PATH", &self.path);
        for variable in ["PAGURO_DIR", "PAGURO_STATE", "PAGURO_TOKEN"] {
            command.env_remove(variable);
        }
    }

    /// Waits until a worker runs and has been restarted so many times.
    pub fn until_running(&self, worker: &str, restarts: u64) -> Result<()> {
        self.until(&format!("{worker} runs"), || {
            let workers = self.workers()?;
            let found = workers.as_array()?.iter().find(|found| found["name"] == worker)?;
            (found["state"] == "running" && found["restarts"] == restarts).then_some(())
        })
    }

    /// Waits until the host answers.
    pub fn until_up(&self) -> Result<()> {
        self.until("the host answers", || self.workers().map(drop))
    }

    /// What `paguro ps --json` says, if it says something.
    fn workers(&self) -> Option<Value> {
        let output = self.paguro().args(["ps", "--json"]).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn until(&self, what: &str, condition: impl Fn() -> Option<()>) -> Result<()> {
        let begun = Instant::now();
        while condition().is_none() {
            if begun.elapsed() > PATIENCE {
                bail!("waited {} s in vain until {what}", PATIENCE.as_secs());
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Said {
    /// Exactly this, on a line of its own.
    pub fn is(self, wanted: &str) -> Result<Said> {
        if self.text.trim_end() != wanted {
            bail!("`{}` should have said {wanted}", self.command);
        }
        Ok(self)
    }

    /// This among other things.
    pub fn says(self, wanted: &str) -> Result<Said> {
        if !self.text.contains(wanted) {
            bail!("`{}` should have said `{}`", self.command, wanted.trim());
        }
        Ok(self)
    }
}
