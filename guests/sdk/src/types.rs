//! The small types that workers name.

use serde::{Deserialize, Serialize};

pub use crate::bindings::handler::paguro::worker::children::StartError;
pub use crate::bindings::handler::paguro::worker::control::Level;
pub use crate::bindings::handler::paguro::worker::messaging::CallError;
pub use crate::bindings::handler::paguro::worker::types::{ExitReason, Snapshot};

/// One pending call. It can be kept in the state: it stays valid across hibernation, upgrade and
/// rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// One pending timer. It can be kept in the state, as a [`CallId`] can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimerId(pub u64);

/// One active monitor. It can be kept in the state, as a [`CallId`] can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MonitorId(pub u64);

/// What a call gets: an answer now, or a promise of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<R> {
    /// The answer. `value.into()` is the short way to write it.
    Now(R),
    /// The worker keeps the [`CallId`] and answers with [`crate::reply`] before the caller's
    /// deadline.
    Later,
}

impl<R> From<R> for Answer<R> {
    fn from(reply: R) -> Self {
        Answer::Now(reply)
    }
}

/// A worker's opinion of its own health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// All is well.
    #[default]
    Healthy,
    /// Works, but not as it should.
    Degraded(String),
    /// Does not work. During probation this rolls the upgrade back.
    Critical(String),
}

/// So that `?` passes a failed call on as the reason of one's own refusal.
impl From<CallError> for String {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotFound => "no such worker, or no grant to reach it".into(),
            CallError::Timeout => "no answer before the deadline".into(),
            CallError::Overloaded => "its mailbox is full".into(),
            CallError::CircuitOpen => "its circuit breaker is open".into(),
            CallError::Cycle(names) => {
                format!("the call would wait in a cycle: {}", names.join(" -> "))
            }
            CallError::Down(ExitReason::Normal) => "it stopped before it answered".into(),
            CallError::Down(ExitReason::Shutdown) => "it was shut down before it answered".into(),
            CallError::Down(ExitReason::Failed(why)) => {
                format!("it failed before it answered: {why}")
            }
            CallError::Rejected(why) => why,
            CallError::TooLarge((size, limit)) => {
                format!("the request has {size} bytes and the callee takes {limit}")
            }
        }
    }
}
