//! What a test can tell a probe to do. A command without content is a bare word: `log`.

use paguro_sdk::{Health, MonitorId, TimerId};
use serde::Deserialize;
use serde_json::Value;

/// Timeouts and delays are in milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// -> the same value
    Echo(Value),
    /// -> everything that came by cast, timer or monitor, in order
    Log,
    /// -> the log, which is then empty
    Clear,

    /// -> `{"ok": answer}` or `{"err": kind, ...}`
    Call {
        to: String,
        body: Value,
        timeout: Option<u64>,
    },
    /// -> `{"ok": null}` or `{"err": kind, ...}`
    Cast {
        to: String,
        body: Value,
    },
    /// No answer yet: promises one under this key.
    Defer(String),
    /// `[body, command]`: answers with the body, then carries out the command, whose answer goes to the log.
    Early(Value, Box<Command>),
    /// `[key, body]`: answers the call that is open under the key -> whether anyone waits for it
    Answer(String, Value),
    /// `[key, reason]`: refuses the call that is open under the key -> whether anyone waits for it
    Decline(String, String),
    /// -> the name of the worker that makes this very call, or null
    Caller,

    /// `[ms, body]` -> the timer
    After(u64, Value),
    /// -> whether the timer was still to fire
    Cancel(TimerId),

    Join(String),
    Leave(String),
    /// -> names
    Members(String),
    /// `[group, body]` -> how many took it
    Broadcast(String, Value),
    /// -> the monitor
    Monitor(String),
    Demonitor(MonitorId),

    /// -> `{"ok": name}` or `{"err": kind, ...}`
    StartChild {
        template: String,
        key: String,
        config: Value,
    },
    /// -> whether there was one
    StopChild(String),

    /// `normal`, `shutdown`, or the reason of a failure
    Stop(String),
    Hibernate,
    /// -> `{"name", "incarnation", "component", "config", "resumed"}`
    Context,
    /// `"healthy"`, `{"degraded": why}` or `{"critical": why}`, from now on
    Health(Health),

    /// `[metric, n]`
    Count(String, u64),
    /// `[metric, x]`
    Gauge(String, f64),
    /// One line through `control.log`, level info.
    LogLine(String),
    /// One line through standard output.
    Print(String),
    /// Computes for so many million steps.
    Busy(u64),
    /// Is refused with this reason.
    Fail(String),
    /// Traps.
    Trap,
}
