//! What a worker can ask of its host. All of it may be called from any method.
//!
//! The functions whose name ends in `_raw` take and give bytes as they are; the others speak JSON.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::handler::paguro::worker::{children, control, messaging, registry, timers};
use crate::message;
use crate::types::{CallError, CallId, ExitReason, Level, MonitorId, StartError, TimerId};

/// Asks another worker and waits for its answer. Without a `timeout`, the deadline of the call that
/// is being handled holds.
///
/// # Errors
/// Why there is no answer. One that is not an `A` counts as `rejected`, with what does not fit.
pub fn call<A: DeserializeOwned>(
    to: &str,
    request: &(impl Serialize + ?Sized),
    timeout: impl Into<Option<Duration>>,
) -> Result<A, CallError> {
    let request = message::write(request).map_err(CallError::Rejected)?;
    let answer = call_raw(to, &request, timeout)?;
    message::read(&answer).map_err(|why| CallError::Rejected(format!("its answer: {why}")))
}

/// As [`call`], in bytes.
///
/// # Errors
/// Why there is no answer.
pub fn call_raw(
    to: &str,
    request: &[u8],
    timeout: impl Into<Option<Duration>>,
) -> Result<Vec<u8>, CallError> {
    let timeout_ms = timeout
        .into()
        .map(|t| u32::try_from(t.as_millis()).unwrap_or(u32::MAX));
    messaging::call(to, request, timeout_ms)
}

/// Sends a message to another worker. `Ok` means that it is in the mailbox.
///
/// # Errors
/// Why it is not.
pub fn cast(to: &str, message: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
    cast_raw(to, &message::write(message).map_err(CallError::Rejected)?)
}

/// As [`cast`], in bytes.
///
/// # Errors
/// Why the message is not in the mailbox.
pub fn cast_raw(to: &str, message: &[u8]) -> Result<(), CallError> {
    messaging::cast(to, message)
}

/// Answers a call that was left open with [`crate::Answer::Later`]. `Err` is handed to the caller as
/// `rejected`. False if nobody waits for it any more.
pub fn reply<R: Serialize + ?Sized>(call: CallId, outcome: Result<&R, String>) -> bool {
    reply_raw(call, outcome.and_then(message::write))
}

/// As [`reply`], in bytes.
pub fn reply_raw(call: CallId, outcome: Result<Vec<u8>, String>) -> bool {
    let outcome = outcome.as_ref().map(Vec::as_slice).map_err(String::as_str);
    messaging::reply(call.0, outcome)
}

/// Who made this call: a worker's full name, or `None` for a client outside the tree.
pub fn caller(call: CallId) -> Option<String> {
    messaging::caller(call.0)
}

/// Sends a message to oneself, later. Milliseconds count; anything finer is dropped.
///
/// # Panics
/// If `message` cannot be written as JSON, which is a mistake in the worker.
pub fn send_after(delay: Duration, message: &(impl Serialize + ?Sized)) -> TimerId {
    let message = message::write(message).expect("a message to oneself can be written");
    send_after_raw(delay, &message)
}

/// As [`send_after`], in bytes.
pub fn send_after_raw(delay: Duration, message: &[u8]) -> TimerId {
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    TimerId(timers::send_after(delay_ms, message))
}

/// Takes a timer back. False if it already fired or never was.
pub fn cancel(timer: TimerId) -> bool {
    timers::cancel(timer.0)
}

/// Joins a group.
pub fn join(group: &str) {
    registry::join(group);
}

/// Leaves a group.
pub fn leave(group: &str) {
    registry::leave(group);
}

/// The full names of a group's members.
pub fn members(group: &str) -> Vec<String> {
    registry::members(group)
}

/// Casts to every other member, and returns how many mailboxes took it. One that cannot be written
/// as JSON is taken by none.
pub fn broadcast(group: &str, message: &(impl Serialize + ?Sized)) -> u32 {
    message::write(message).map_or(0, |message| registry::broadcast(group, &message))
}

/// Asks for [`crate::Worker::down`] when a worker stops. One that does not exist is down at once.
pub fn monitor(name: &str) -> MonitorId {
    MonitorId(registry::monitor(name))
}

/// Takes a monitor back.
pub fn demonitor(monitor: MonitorId) {
    registry::demonitor(monitor.0);
}

/// Starts one more worker from a template and returns its full name. `config` reaches its
/// [`crate::Context::config`]. Needs the `children` grant.
///
/// # Errors
/// Why it does not run.
pub fn start_child(
    template: &str,
    key: &str,
    config: &(impl Serialize + ?Sized),
) -> Result<String, StartError> {
    let config = serde_json::to_string(config).map_err(|e| StartError::Failed(e.to_string()))?;
    children::start(template, key, &config)
}

/// Stops a child of one's own supervisor. False if there is none of that name.
pub fn stop_child(name: &str) -> bool {
    children::stop(name)
}

/// One line in the worker's log.
pub fn log(level: Level, message: &str) {
    control::log(level, message);
}

/// Adds to a counter that `/metrics` shows with this worker's name.
pub fn count(metric: &str, by: u64) {
    control::count(metric, by);
}

/// Sets a gauge that `/metrics` shows with this worker's name.
pub fn gauge(metric: &str, value: f64) {
    control::gauge(metric, value);
}

/// Stops this worker once the current message is handled.
pub fn stop(reason: &ExitReason) {
    control::stop(reason);
}

/// Lets the host put this worker to sleep as soon as its mailbox is empty.
pub fn hibernate() {
    control::hibernate();
}
