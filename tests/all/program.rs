//! The real program: a host in a process of its own, and commands that talk to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use paguro_tests::{PATIENCE, guest};
use serde_json::Value;

/// A directory of workers, and perhaps a host that runs on it. A host that still runs is killed when
/// this is dropped.
pub struct Program {
    dir: tempfile::TempDir,
    host: Option<Child>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Program {
    pub fn new() -> Program {
        let dir = tempfile::Builder::new().prefix("paguro").tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("workers")).expect("an empty directory");
        Program { dir, host: None }
    }

    /// With these workers, as `(name, guest)`, and a host on them.
    pub fn with(workers: &[(&str, &str)]) -> Program {
        let mut program = Program::new();
        for (name, guest_name) in workers {
            program.write(&format!("{name}.wasm"), &guest(guest_name));
        }
        program.up();
        program
    }

    /// The directory that is the tree.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("workers")
    }

    /// A place beside it.
    pub fn beside(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// A guest's file, to name in a command.
    pub fn file(&self, guest_name: &str) -> String {
        let path = self.beside(&format!("{guest_name}.wasm"));
        std::fs::write(&path, guest(guest_name)).expect("a file is written");
        path.display().to_string()
    }

    pub fn write(&self, file: &str, bytes: &[u8]) {
        std::fs::write(self.path().join(file), bytes).expect("a file is written");
    }

    /// Starts the host and waits until it answers.
    pub fn up(&mut self) {
        self.up_as(paguro(&["up"], &self.path()));
    }

    /// The same under a limit of the system, as the shell's `ulimit` sets it: `-n 64`.
    pub fn up_within(&mut self, limit: &str) {
        self.up_with(Some(limit), &[]);
    }

    /// The same with more arguments of `up`.
    pub fn up_with(&mut self, limit: Option<&str>, more: &[&str]) {
        let up = paguro(&[&["up"], more].concat(), &self.path());
        let Some(limit) = limit else { return self.up_as(up) };
        let mut command = Command::new("sh");
        command.env_clear().args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
        command.arg(up.get_program()).args(up.get_args()).stdin(Stdio::null());
        self.up_as(command);
    }

    /// With something in its environment.
    pub fn up_where(&mut self, key: &str, value: &Path) {
        let mut up = paguro(&["up"], &self.path());
        up.env(key, value);
        self.up_as(up);
    }

    /// Starts the host as this command says, and waits until it answers.
    pub fn up_as(&mut self, mut command: Command) {
        let log = std::fs::File::create(self.beside("up.log")).expect("a file is made");
        command.stdout(Stdio::null()).stderr(log);
        self.host = Some(command.spawn().expect("the program starts"));
        self.until_it_answers(|told| !told.err.contains("starting:"));
    }

    /// Starts the host and does not wait until it has started its workers.
    pub fn begin_up(&mut self) {
        let log = std::fs::File::create(self.beside("up.log")).expect("a file is made");
        let mut up = paguro(&["up"], &self.path());
        up.stdout(Stdio::null()).stderr(log);
        self.host = Some(up.spawn().expect("the program starts"));
        self.until_it_answers(|_| true);
    }

    fn until_it_answers(&mut self, is_enough: impl Fn(&Told) -> bool) {
        let begun = Instant::now();
        loop {
            let told = self.run(&["ps"]);
            if told.code == 0 && is_enough(&told) {
                return;
            }
            let said = std::fs::read_to_string(self.beside("up.log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "the host does not answer: {said}");
            let ended = self.host.as_mut().and_then(|host| host.try_wait().expect("it is our child"));
            assert!(ended.is_none(), "the host ended with {ended:?}: {said}");
        }
    }

    /// How it ended, by itself and in time.
    pub fn ended(&mut self) -> Option<i32> {
        let host = self.host.as_mut().expect("the host runs");
        let begun = Instant::now();
        loop {
            if let Some(ended) = host.try_wait().expect("it is our child") {
                self.host = None;
                return ended.code();
            }
            assert!(begun.elapsed() < PATIENCE, "the host goes on");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Starts a host that is to be refused. What it said, and how it ended.
    pub fn refused_up(&mut self) -> (Option<i32>, String) {
        let log = self.beside("refused.log");
        let mut up = paguro(&["up"], &self.path());
        up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).expect("a file is made"));
        self.host = Some(up.spawn().expect("the program starts"));
        let ended = self.ended();
        (ended, std::fs::read_to_string(log).expect("it said something"))
    }

    pub fn pid(&self) -> u32 {
        self.host.as_ref().expect("the host runs").id()
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        let mut host = self.host.take().expect("the host runs");
        host.kill().expect("it is our child");
        host.wait().expect("it is our child");
    }

    /// As `kill -9` while others look on; [`Program::reap`] follows.
    pub fn kill_now(&self) {
        self.signal("KILL");
    }

    /// Waits for the end of a host that was killed.
    pub fn reap(&mut self) {
        self.host.take().expect("the host runs").wait().expect("it is our child");
    }

    /// As `kill -SIGNAL`.
    pub fn signal(&self, signal: &str) {
        let told = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.pid())).status();
        assert!(told.expect("there is a shell").success());
    }

    /// As `kill`: it stops in order. The exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal("TERM");
        let mut host = self.host.take().expect("the host runs");
        host.wait().expect("it is our child").code().unwrap_or(-1)
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join(".paguro").join("paguro.sock")
    }

    /// Runs one command on this directory.
    pub fn run(&self, args: &[&str]) -> Told {
        told(&mut paguro(args, &self.path()))
    }

    /// Runs a command that must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let told = self.run(args);
        assert_eq!(told.code, 0, "paguro {args:?}: {told:?}");
        told.out
    }

    /// A reply that is a number, if there is one.
    pub fn number(&self, args: &[&str]) -> Option<u64> {
        let told = self.run(args);
        if told.code == 0 { told.out.trim().parse().ok() } else { None }
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"]].concat();
        let out = self.ok(&args);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("paguro {args:?}: {error}: {out}"))
    }

    /// The lines of a listing that prints an object for each.
    pub fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        let out = self.ok(&[args, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Runs a command that must fail with this code, in three lines at most that hold all words.
    pub fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        refused(&self.run(args), args, code, words);
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.host.is_some() {
            self.kill();
        }
    }
}

pub fn refused(told: &Told, args: &[&str], code: i32, words: &[&str]) {
    assert_eq!(told.code, code, "paguro {args:?}: {told:?}");
    // Progress is told in lines of its own before the error.
    let error = told.err.find("error: ").map_or("", |at| &told.err[at..]);
    assert!((1..=3).contains(&error.lines().count()), "paguro {args:?}: {told:?}");
    for word in words {
        assert!(error.contains(word), "paguro {args:?}: no {word:?} in {error}");
    }
    assert_eq!(told.out, "", "data is for success");
}

/// The program, with an environment that says nothing.
pub fn paguro(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paguro-under-test"));
    command.env_clear().args(args).arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

pub fn told(command: &mut Command) -> Told {
    let output = command.output().expect("the program starts");
    Told {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).to_string(),
        err: String::from_utf8_lossy(&output.stderr).to_string(),
    }
}
