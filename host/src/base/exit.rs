//! Why an instance ended. A guest's fault is data: it travels as an [`ExitReason`] to the
//! supervisor, to callers and monitors, into events and the ledger.

use std::fmt;

use super::HostFault;

/// Why an instance stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It asked to stop and was done; a command that exited with 0.
    Normal,
    /// Its supervisor or an operator stopped it, in order.
    Shutdown,
    /// It did not stop in its shutdown time, or was to be killed at once.
    Killed,
    /// It failed.
    Failed(Failure),
}

/// What went wrong in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The guest trapped: the message, then the guest's backtrace, innermost frame first.
    Trap { message: String, backtrace: Vec<String> },
    /// A limit was reached.
    Limit(Limit),
    /// An export returned an error: which export, what it said.
    Refused { export: &'static str, message: String },
    /// A command exited with a code that is not 0.
    ExitCode(i32),
    /// A reason the guest gave itself, with `control.stop`.
    Own(String),
    /// The component could not be made into an instance.
    NotStartable(String),
    /// What a monitor of a name that nobody has is told.
    NoSuchWorker,
    /// What a monitor of a worker that does not run is told.
    NotRunning,
    /// The host's own code panicked over it, whatever the guest did.
    HostFault(Box<HostFault>),
}

/// A limit of a worker, with the value that was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Linear memory, in bytes.
    Memory(u64),
    /// Table elements.
    Table(u64),
    /// Fuel for one message.
    Fuel(u64),
    /// Wall-clock time for one message, in milliseconds.
    Deadline(u64),
    /// Wall-clock time to start, in milliseconds.
    Start(u64),
    /// The guest's stack.
    Stack,
    /// Bytes of a request or a reply.
    Payload(u64),
    /// Bytes of a snapshot.
    State(u64),
    /// Bytes of a snapshot's media type.
    MediaType(u64),
    /// Timers that are set at one time.
    Timers(u64),
    /// Facts that wait in its mailbox.
    Facts(u64),
    /// Bytes that one call may make the host copy out of the guest.
    HostCopies(u64),
    /// Bytes that all workers, clients and files together may make the host keep.
    HostMemory(u64),
    /// Bytes that all below a supervisor may make the host keep: its budget, or a template's share.
    BudgetMemory(u64),
}

impl Failure {
    /// Whether another key would have failed in its place too: it is neither of the host nor for want of room.
    pub fn is_of_the_component(&self) -> bool {
        let is_of_others = matches!(
            self,
            Failure::Limit(Limit::HostMemory(_) | Limit::BudgetMemory(_) | Limit::Facts(_))
                | Failure::HostFault(_)
                | Failure::NotStartable(_)
        );
        !is_of_others
    }
}

impl ExitReason {
    /// The host's own code panicked.
    pub fn host_fault(fault: HostFault) -> ExitReason {
        ExitReason::Failed(Failure::HostFault(Box::new(fault)))
    }

    pub fn is_host_fault(&self) -> bool {
        matches!(self, ExitReason::Failed(Failure::HostFault(_)))
    }

    /// Whether what runs is to blame: not an operator, nor the host or what it has no room for. A guest's own faults are
    /// failures; it is only ever killed by others.
    pub fn is_of_the_component(&self) -> bool {
        matches!(self, ExitReason::Failed(failure) if failure.is_of_the_component())
    }

    /// Whether a `transient` child with this reason is left alone.
    pub fn is_orderly(&self) -> bool {
        matches!(self, ExitReason::Normal | ExitReason::Shutdown)
    }

    /// One word for lists and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            ExitReason::Normal => "normal",
            ExitReason::Shutdown => "shutdown",
            ExitReason::Killed => "killed",
            ExitReason::Failed(Failure::Trap { .. }) => "trap",
            ExitReason::Failed(Failure::Limit(_)) => "limit",
            ExitReason::Failed(Failure::HostFault(_)) => "host-fault",
            ExitReason::Failed(_) => "failed",
        }
    }

    /// Bytes of its texts.
    pub fn heap_bytes(&self) -> usize {
        let ExitReason::Failed(failure) = self else { return 0 };
        match failure {
            Failure::Trap { message, backtrace } => message.capacity() + frames_bytes(backtrace),
            Failure::HostFault(fault) => fault.heap_bytes(),
            Failure::Refused { message: text, .. } | Failure::Own(text) | Failure::NotStartable(text) => {
                text.capacity()
            }
            Failure::Limit(_) | Failure::ExitCode(_) | Failure::NoSuchWorker | Failure::NotRunning => 0,
        }
    }

    /// The guest's backtrace, if it trapped; the host's, if that panicked.
    pub fn backtrace(&self) -> &[String] {
        match self {
            ExitReason::Failed(Failure::Trap { backtrace, .. }) => backtrace,
            ExitReason::Failed(Failure::HostFault(fault)) => &fault.backtrace,
            _ => &[],
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Normal => f.write_str("normal"),
            ExitReason::Shutdown => f.write_str("shutdown"),
            ExitReason::Killed => f.write_str("killed"),
            ExitReason::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Whether a function belongs to a language's runtime: what it does when a guest gives up.
fn is_runtime(frame: &str) -> bool {
    const RUNTIMES: [&str; 6] = ["std::", "core::", "alloc::", "rust_", "rustc::", "abort"];
    let frame = frame.trim_start_matches(['<', '&', '_']);
    RUNTIMES.iter().any(|prefix| frame.starts_with(prefix)) || frame.contains("panic") || frame.starts_with("function ")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Trap { message, backtrace } => {
                write!(f, "trap: {message}")?;
                // The first frame that is the author's own says more than the runtime's above it.
                match backtrace.iter().find(|frame| !is_runtime(frame)) {
                    Some(frame) => write!(f, ", in {frame}"),
                    None => Ok(()),
                }
            }
            Failure::Limit(limit) => limit.fmt(f),
            Failure::Refused { export, message } => write!(f, "`{export}` said: {message}"),
            Failure::ExitCode(code) => write!(f, "exited with code {code}"),
            Failure::Own(reason) => write!(f, "stopped itself: {reason}"),
            Failure::NotStartable(why) => write!(f, "cannot be started: {why}"),
            Failure::NoSuchWorker => f.write_str("no-such-worker"),
            Failure::NotRunning => f.write_str("not-running"),
            Failure::HostFault(fault) => write!(f, "failed: host fault: {fault}"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: u64| bytesize::ByteSize(bytes).display().iec().to_string();
        match *self {
            Limit::Memory(bytes) => write!(f, "limit: memory, {}", size(bytes)),
            Limit::Table(elements) => write!(f, "limit: table, {elements} elements"),
            Limit::Fuel(fuel) => write!(f, "limit: fuel, {fuel} for one message"),
            Limit::Deadline(ms) => write!(f, "limit: deadline, {ms} ms for one message"),
            Limit::Start(ms) => write!(f, "limit: start, {ms} ms"),
            Limit::Stack => f.write_str("limit: stack (endless recursion?)"),
            Limit::Payload(bytes) => write!(f, "limit: payload, {}", size(bytes)),
            Limit::MediaType(bytes) => write!(f, "limit: media type of the state, {bytes} bytes"),
            Limit::State(bytes) => write!(f, "limit: state, {}", size(bytes)),
            Limit::Timers(count) => write!(f, "limit: timers, {count} at one time"),
            Limit::Facts(count) => write!(f, "limit: facts, {count} wait in the mailbox"),
            Limit::HostMemory(bytes) => write!(f, "limit: host memory, the {} that all may use together", size(bytes)),
            Limit::BudgetMemory(bytes) => {
                write!(f, "limit: budget memory, the {} that all below its supervisor may use together", size(bytes))
            }
            Limit::HostCopies(bytes) => write!(f, "limit: {} copied out of the guest in one call", size(bytes)),
        }
    }
}

pub(super) fn frames_bytes(backtrace: &[String]) -> usize {
    backtrace.iter().map(String::capacity).sum::<usize>() + std::mem::size_of_val(backtrace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_names_the_first_function_that_is_the_authors() {
        let frames =
            ["abort", "__rustc::__rust_abort", "std::process::abort", "core::panicking::panic_fmt", "shop::pay"];
        let backtrace = frames.map(str::to_string).to_vec();
        let failure = Failure::Trap { message: "unreachable".to_string(), backtrace };
        assert_eq!(failure.to_string(), "trap: unreachable, in shop::pay");
        let bare = Failure::Trap { message: "unreachable".to_string(), backtrace: vec!["function 7".to_string()] };
        assert_eq!(bare.to_string(), "trap: unreachable");
    }
}
