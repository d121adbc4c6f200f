//! What a guest can reach of the host, as the sandbox sees it: a trait that the runtime implements.
//! The sandbox knows nothing of mailboxes, names or supervisors.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::pace::Pace;
use crate::base::{Account, CallId, Clock, ExitReason, Limit, MonitorId, Payload, TimerId};

/// Why a call or cast failed, as the caller is told (`messaging.call-error`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No worker of that name, or no right to reach it.
    #[error("not found")]
    NotFound,
    /// The deadline passed; the request may or may not have been handled.
    #[error("timed out")]
    Timeout,
    /// The callee's mailbox is full.
    #[error("overloaded")]
    Overloaded,
    /// The callee's circuit breaker is open.
    #[error("circuit open")]
    CircuitOpen,
    /// The names along the cycle, the caller first and last.
    #[error("a cycle of calls: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// The callee stopped before it answered.
    #[error("down: {0}")]
    Down(ExitReason),
    /// The callee declined, with its reason.
    #[error("rejected: {0}")]
    Rejected(String),
    /// The request is larger than the callee accepts, in bytes.
    #[error("too large: {size} bytes where {limit} are allowed")]
    TooLarge { size: u64, limit: u64 },
}

/// What the host tells a worker by itself (`handler.info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A timer fired.
    Timer(TimerId, Payload),
    /// A monitored worker stopped.
    Down(MonitorId, String, ExitReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Why a guest could not start a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartChildError {
    AlreadyStarted,
    AlreadyPresent,
    NotPermitted,
    Failed(String),
}

/// Takes the lines that a guest logs or prints. Called from inside the guest's run; must not wait.
pub trait LogSink: Send + Sync {
    fn line(&self, level: LogLevel, text: &str);
}

/// A future that an import waits for.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who is called.
#[derive(Clone, Copy, Debug)]
pub enum Callee<'a> {
    /// Whom the last message was sent to: [`Outside::sent_last_to`] said so.
    Last,
    Named(&'a str),
}

/// What became of a call.
pub enum Calling<'a> {
    /// Its answer is there, or it was refused: nothing had to be waited for.
    Ended(Result<Payload, CallError>),
    Waits(Waiting<'a, Result<Payload, CallError>>),
}

/// The host's side of the imports, one for each instance. Everything but `call`, `start_child` and
/// `stop_child` returns at once.
/// An `Err(Limit)` ends the instance with that limit as its exit reason.
pub trait Outside: Send {
    /// How fast the guest may run; asked once, when its instance is made. `None`: unbounded, and
    /// nobody counts.
    fn pace(&self) -> Option<Arc<dyn Pace>> {
        None
    }

    /// The clocks that the guest sees; asked once, when it looks at one for the first time.
    fn clock(&self) -> Clock {
        Clock::system()
    }

    /// What the memory of the instance is charged to; asked once, when it is made. `None`: nobody counts.
    fn account(&self) -> Option<Arc<Account>> {
        None
    }

    /// Whether what was sent last went to the worker that has this name now: then it need not be looked for.
    fn sent_last_to(&self, name: &str) -> bool;
    fn call<'a>(&'a mut self, to: Callee<'a>, request: Payload, timeout: Option<Duration>) -> Calling<'a>;
    fn cast(&mut self, to: &str, message: Payload) -> Result<(), CallError>;
    fn reply(&mut self, call: CallId, outcome: Result<Payload, String>) -> bool;
    fn caller(&mut self, call: CallId) -> Option<String>;

    fn send_after(&mut self, delay: Duration, message: Payload) -> Result<TimerId, Limit>;
    fn cancel(&mut self, timer: TimerId) -> bool;

    fn join(&mut self, group: &str);
    fn leave(&mut self, group: &str);
    fn members(&mut self, group: &str) -> Vec<String>;
    fn broadcast(&mut self, group: &str, message: Payload) -> u32;
    fn monitor(&mut self, name: &str) -> Result<MonitorId, Limit>;
    fn demonitor(&mut self, monitor: MonitorId);

    /// The full name of the child that runs.
    fn start_child<'a>(
        &'a mut self,
        template: &'a str,
        key: &'a str,
        config: &'a str,
    ) -> Waiting<'a, Result<String, StartChildError>>;
    /// Whether there is one of that name; it is asked to stop, and not waited for.
    fn stop_child<'a>(&'a mut self, name: &'a str) -> Waiting<'a, bool>;

    fn count(&mut self, metric: &str, by: u64);
    fn gauge(&mut self, metric: &str, value: f64);
    fn stop(&mut self, reason: ExitReason);
    fn hibernate(&mut self);
}
