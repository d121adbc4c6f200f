//! The worker of the simulation (`tests/sim`): it does what its messages say, and logs each one it
//! takes, so that a checker knows what became of it even when the instance has ended.
//!
//! A message is text: `ID OPERATION ARGUMENTS`. What it waits for is the worker `mute`, which keeps
//! the calls of operation `never`: so it waits on the host's clock, which the simulation moves.

use std::time::Duration;

use paguro_sdk::{Answer, CallError, CallId, Context, ExitReason, Level, TimerId, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Sim {
    incarnation: u64,
    /// Messages taken since the start.
    taken: u64,
    config: Config,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    /// What becomes of each start, by incarnation; those beyond the list go well.
    starts: Vec<Fate>,
    /// Milliseconds that `terminate` takes.
    terminate: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    Well,
    /// `init` says no.
    Error,
    Trap,
    /// `init` takes so many milliseconds.
    Slow(u64),
    /// It stops itself in its start: it does not want to run.
    Ignore,
}

impl Sim {
    fn take(&mut self, call: Option<CallId>, text: &str) -> Result<Answer<String>, String> {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (id, operation, rest) = (word(), word(), word());
        self.taken += 1;
        self.log(&format!("took {id}"));
        let said = match operation {
            "count" => self.taken.to_string(),
            "die" => std::process::abort(),
            "refuse" => return Err(rest.to_owned()),
            "never" if call.is_some() => return Ok(Answer::Later),
            "slow" => {
                self.log("slow");
                wait(rest.parse().unwrap_or(0));
                self.log("so slow");
                "slow".to_owned()
            }
            "leave" => {
                self.log("leave");
                paguro_sdk::stop(&match rest {
                    "normal" => ExitReason::Normal,
                    "shutdown" => ExitReason::Shutdown,
                    other => ExitReason::Failed(other.to_owned()),
                });
                "leaving".to_owned()
            }
            "call" | "cast" => self.send(operation, rest),
            "after" => {
                let (ms, message) = rest.split_once(' ').unwrap_or((rest, ""));
                let ms = ms.parse().unwrap_or(0);
                let timer =
                    paguro_sdk::send_after_raw(Duration::from_millis(ms), message.as_bytes());
                self.log(&format!("timer {} {}", timer.0, message));
                "set".to_owned()
            }
            _ => operation.to_owned(),
        };
        Ok(said.into())
    }

    /// Sends `NAME MESSAGE` on to another worker.
    fn send(&self, how: &str, rest: &str) -> String {
        let (to, message) = rest.split_once(' ').unwrap_or((rest, ""));
        self.log(&format!("{how} {to} {message}"));
        let outcome = match how {
            "call" => paguro_sdk::call_raw(to, message.as_bytes(), None)
                .map(|reply| String::from_utf8_lossy(&reply).into_owned()),
            _ => paguro_sdk::cast_raw(to, message.as_bytes()).map(|()| "sent".to_owned()),
        };
        let shown = outcome.unwrap_or_else(|error| format!("no: {}", word(&error)));
        self.log(&format!("so {shown}"));
        shown
    }

    /// Each line begins with the incarnation: it says which instance it is of.
    fn log(&self, text: &str) {
        paguro_sdk::log(Level::Info, &format!("{} {text}", self.incarnation));
    }
}

fn word(error: &CallError) -> &'static str {
    match error {
        CallError::NotFound => "not-found",
        CallError::Timeout => "timeout",
        CallError::Overloaded => "overloaded",
        CallError::CircuitOpen => "circuit-open",
        CallError::Cycle(_) => "cycle",
        CallError::Down(_) => "down",
        CallError::Rejected(_) => "rejected",
        CallError::TooLarge(_) => "too-large",
    }
}

fn wait(ms: u64) {
    let answer = paguro_sdk::call_raw("mute", b"0 never", Duration::from_millis(ms));
    debug_assert!(answer.is_err(), "it never answers");
}

impl Worker for Sim {
    type Call = String;
    type Reply = String;
    type Cast = String;

    fn init(context: &Context) -> Result<Self, String> {
        let config: Config = context.config()?;
        let incarnation = context.incarnation;
        let fate = usize::try_from(incarnation)
            .ok()
            .and_then(|at| config.starts.get(at));
        match fate {
            None | Some(Fate::Well) => {}
            Some(Fate::Error) => return Err("not this time".to_owned()),
            Some(Fate::Trap) => std::process::abort(),
            Some(Fate::Slow(ms)) => wait(*ms),
            Some(Fate::Ignore) => paguro_sdk::stop(&ExitReason::Normal),
        }
        Ok(Sim {
            incarnation,
            taken: 0,
            config,
        })
    }

    fn call(&mut self, call: CallId, text: String) -> Result<Answer<String>, String> {
        self.take(Some(call), &text)
    }

    fn cast(&mut self, text: String) -> Result<(), String> {
        self.take(None, &text).map(drop)
    }

    fn timer(&mut self, timer: TimerId, text: String) -> Result<(), String> {
        self.log(&format!("fired {}", timer.0));
        self.take(None, &text).map(drop)
    }

    fn terminate(&mut self, _: ExitReason) {
        if self.config.terminate > 0 {
            wait(self.config.terminate);
        }
    }
}

worker!(Sim);
