//! The host under test: the real program in a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use paguro_tests::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};

use crate::http::Request;
use crate::site::Site;

/// The program of this tree, or another build of it that somebody wants to try.
fn program() -> String {
    std::env::var("PAGURO_SOAK_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_paguro-under-test").to_string())
}

/// What the host may hold for guests, clients and files, all together.
pub const ACCOUNT_BYTES: u64 = 512 << 20;
/// What its compilers may use together.
pub const COMPILE_BYTES: u64 = 512 << 20;

/// Lines of its output that are kept for a report.
const LINES_KEPT: usize = 40;

pub struct Subject {
    child: Child,
    told: Arc<Mutex<Told>>,
    reader: Option<JoinHandle<()>>,
    /// Whether it was given a bound for its compilers: else it compiles in its own process.
    pub has_compilers: bool,
}

/// What the host said on standard error.
#[derive(Clone, Default)]
pub struct Told {
    pub lines: u64,
    /// Lines that tell of a panic: none may.
    pub panics: Vec<String>,
    pub last: std::collections::VecDeque<String>,
}

impl Subject {
    /// Starts it and waits until it answers.
    pub fn up(site: &Site, descriptors: Option<u32>) -> Subject {
        let program = program();
        let help = Command::new(&program).args(["up", "--help"]).output().expect("the program starts");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let limit = descriptors.map(|count| format!("ulimit -n {count} && ")).unwrap_or_default();
        let mut command = Command::new("sh");
        command.env_clear().env("PAGURO_TOKEN", &site.token).env("RUST_BACKTRACE", "1");
        command.args(["-c", &format!("{limit}exec \"$0\" \"$@\""), &program, "up", "--dir"]).arg(site.workers());
        command.args(["--listen", &site.tcp.to_string()]);
        for (flag, bytes) in [("--memory", ACCOUNT_BYTES), ("--compile-memory", COMPILE_BYTES)] {
            if help.contains(&format!("{flag} ")) {
                command.args([flag, &format!("{}MiB", bytes >> 20)]);
            }
        }
        let has_compilers = help.contains("--compile-memory ");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let told = Arc::new(Mutex::new(Told::default()));
        let stderr = child.stderr.take().expect("it is a pipe");
        let reader = std::thread::spawn({
            let told = told.clone();
            move || listen(BufReader::new(stderr), &told)
        });
        let mut subject = Subject { child, told, reader: Some(reader), has_compilers };
        let begun = Instant::now();
        while !answers(site, Duration::from_secs(1)) {
            assert!(begun.elapsed() < PATIENCE, "the host does not answer: {:#?}", subject.told().last);
            let ended = subject.ended();
            assert!(ended.is_none(), "the host ended with {ended:?}: {:#?}", subject.told().last);
            std::thread::sleep(Duration::from_millis(10));
        }
        subject
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().expect("it is our child").map(how)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, as `kill` does: how long that took, or what went wrong.
    pub fn stop(&mut self, time: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).ok_or("it has no process")?;
        kill_process(pid, Signal::TERM).map_err(|error| format!("it cannot be told to stop: {error}"))?;
        while begun.elapsed() < time {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(status)) if status.success() => return Ok(begun.elapsed()),
                Ok(Some(status)) => return Err(format!("it ended with {} when told to stop", how(status))),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.kill();
        Err(format!("it did not stop within {} s", time.as_secs()))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Whether the host answers a new client in this time.
pub fn answers(site: &Site, time: Duration) -> bool {
    let asked = site.connect().and_then(|mut client| client.ask(&Request::get("/v1/host").within(time), &|| true));
    asked.is_ok_and(|answer| answer.status == 200)
}

fn how(status: ExitStatus) -> String {
    status.signal().map_or_else(|| format!("code {:?}", status.code()), |signal| format!("signal {signal}"))
}

fn listen(output: impl BufRead, told: &Mutex<Told>) {
    for line in output.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.lines += 1;
        // A guest's own panic stands in its log, behind a time and a name.
        if line.starts_with("thread '") && line.contains("panicked at") && told.panics.len() < LINES_KEPT {
            told.panics.push(line.clone());
        }
        if told.last.len() >= LINES_KEPT {
            told.last.pop_front();
        }
        told.last.push_back(line);
    }
}
