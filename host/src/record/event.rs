//! Typed events: volatile facts, emitted by every layer before anything else consumes them.
//! Logs, metrics, `paguro events` and the tests' checkers all read this one stream.
//!
//! What happens for each message is counted (`runtime::mailbox::Counters`), not emitted: an event
//! costs more than a message.

use std::fmt;
use std::time::Duration;

use super::tape::OnTape;
use crate::base::units::{plural, show_duration, show_size};
use crate::base::{ComponentHash, ExitReason, HostFault, Incarnation, Name, RevisionNumber};

/// How much a reader should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// What a newer file waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The end of an upgrade or of probation.
    Change,
    /// Settings beside it that can be taken.
    Settings,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitsFor::Change => "the change that is under way has ended",
            WaitsFor::Settings => "the settings beside it are mended",
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    HostStarted {
        directory: String,
    },
    HostStopping,
    /// What the last run left behind was taken up.
    Recovered {
        worker: Name,
        note: String,
    },

    SupervisorStarted {
        supervisor: Name,
    },
    SupervisorStopped {
        supervisor: Name,
        /// It ended by itself: why.
        why: Option<ExitReason>,
    },
    /// More restarts than the intensity allows within the period.
    SupervisorGaveUp {
        supervisor: Name,
        restarts: u32,
        period: Duration,
        last: Name,
    },
    /// A child of a template has passed its probation on the newer component: new keys start on it from now on.
    TemplateCommitted {
        name: Name,
        component: ComponentHash,
    },
    /// A template's newer component failed on a new key: all of its keys go back to the one before.
    TemplateRolledBack {
        name: Name,
        component: ComponentHash,
        to: ComponentHash,
        why: String,
    },
    /// Of a template's keys, each with a budget of its own, a tenth is isolated. Again only after there were fewer.
    ManyIsolated {
        supervisor: Name,
        isolated: usize,
        children: usize,
    },
    /// One-for-all or rest-for-one: `others` are stopped and start again with the one that failed.
    RestartTogether {
        supervisor: Name,
        failed: Name,
        others: usize,
    },
    /// A significant child ended by itself, and the supervisor ends with it.
    AutoShutdown {
        supervisor: Name,
        by: Name,
    },

    /// The file of a simple-one-for-one supervisor's template; new keys start on it once it is committed.
    TemplateSet {
        name: Name,
        component: ComponentHash,
    },
    /// A component is read, checked and compiled, which takes seconds for a large one.
    WorkerLoading {
        worker: Name,
        bytes: u64,
    },
    /// A component used up the time or the memory of its lane: it is compiled anew in the next one.
    CompilationSlow {
        component: ComponentHash,
        why: String,
    },
    /// A component's compiler died or used more than it may: it is not compiled again until an operator says so.
    ComponentBanned {
        component: ComponentHash,
        why: String,
    },
    /// The host starts without it: its component is still being loaded. It is added when it is ready.
    WorkerLate {
        worker: Name,
        waited: Duration,
    },
    WorkerStarted {
        worker: Name,
        incarnation: Incarnation,
        component: ComponentHash,
        from: Origin,
        took: Duration,
    },
    WorkerStartFailed {
        worker: Name,
        component: ComponentHash,
        reason: ExitReason,
    },
    /// It answered its start with "ignore": no error, and it does not run.
    StartIgnored {
        worker: Name,
    },
    /// A message to a key of a template could not start its child.
    NotStartedOnDemand {
        name: Name,
        why: String,
    },
    WorkerExited {
        worker: Name,
        incarnation: Incarnation,
        reason: ExitReason,
    },
    WorkerStopped {
        worker: Name,
    },
    /// Its instance made room; its state is kept.
    WorkerHibernated {
        worker: Name,
        /// Bytes.
        state: u64,
        why: &'static str,
    },
    WorkerWoke {
        worker: Name,
        took: Duration,
    },
    RestartScheduled {
        worker: Name,
        delay: Duration,
        restarts: u32,
    },
    /// Not started again until an operator or a new file says so.
    WorkerIsolated {
        worker: Name,
        why: String,
    },

    /// Callers are turned away at once for so long.
    BreakerOpened {
        worker: Name,
        /// Messages that failed within the window; fewer than the settings say where an escalation step
        /// or a failure on trial opened it.
        failures: u32,
        recovery: Duration,
    },
    /// The recovery is over, or another revision serves: some messages are let through on trial. Said
    /// when the first one comes.
    BreakerHalfOpen {
        worker: Name,
    },
    BreakerClosed {
        worker: Name,
    },
    /// So many workers fail that restarts over the whole tree wait for each other.
    RestartStorm {
        /// Those that began within `period`.
        restarts: u32,
        period: Duration,
    },
    /// None waits any more.
    RestartStormOver,

    /// A message that was accepted and will not be handled; nobody waits for it.
    DeadLetter {
        worker: Name,
        /// Under which number it is kept; `None` if it is not.
        id: Option<u64>,
        sort: &'static str,
        bytes: usize,
        reason: String,
    },
    /// An operator had a dead letter put into the mailbox again.
    DeadLetterResent {
        worker: Name,
        id: u64,
    },
    /// An operator had dead letters thrown away.
    DeadLettersDropped {
        worker: Name,
        letters: u64,
    },
    /// Messages of this content ended the worker so often that it gets no more of them.
    PoisonQuarantined {
        worker: Name,
        sort: &'static str,
        bytes: usize,
        kills: u32,
    },
    /// A cast, timer or other fact that the handler answered with an error.
    MessageFailed {
        worker: Name,
        sort: &'static str,
        error: String,
    },
    /// The host, or all below a supervisor, keep as many bytes as they may: what asked for more is refused. Said once
    /// a second at most.
    AccountFull {
        /// Whose account is full; `None`: the host's.
        supervisor: Option<Name>,
        /// What more was asked for.
        holding: &'static str,
        asked: u64,
        max: u64,
        /// What most of that account is used for, and how much.
        most: &'static str,
        most_bytes: u64,
        /// Below which supervisor most is kept, and how much.
        holder: Name,
        holder_bytes: u64,
    },
    /// One caller asks for more new keys of on-demand templates than it may in a second: those beyond are refused with
    /// `overloaded`. Said once a second at most.
    NewKeysRefused {
        supervisor: Name,
        /// A worker, a template whose children they are, or `None` for clients.
        caller: Option<Name>,
        per_second: u32,
    },
    /// A child of an on-demand template had nothing to do for `idle-stop` and has no state to hibernate with: it ended
    /// in order. The next message to its key starts it.
    StoppedIdle {
        worker: Name,
        idle: Duration,
    },
    /// A named bound was reached.
    BoundReached {
        worker: Name,
        bound: &'static str,
        value: u64,
    },

    SnapshotFailed {
        worker: Name,
        error: String,
    },
    HealthChanged {
        worker: Name,
        status: String,
    },

    UpgradeRequested {
        worker: Name,
        from: ComponentHash,
        to: ComponentHash,
    },
    UpgradeRehearsed {
        worker: Name,
        to: ComponentHash,
        took: Duration,
        state: u64,
    },
    UpgradeSwitched {
        worker: Name,
        revision: RevisionNumber,
        to: ComponentHash,
        pause: Duration,
    },
    UpgradeCommitted {
        worker: Name,
        revision: RevisionNumber,
        why: String,
    },
    UpgradeCalledOff {
        worker: Name,
        to: ComponentHash,
        phase: &'static str,
        reason: String,
    },
    RolledBack {
        worker: Name,
        revision: RevisionNumber,
        to: ComponentHash,
        replayed: usize,
        reason: String,
    },

    SettingsChanged {
        name: Name,
        in_place: Vec<&'static str>,
        restarted: Vec<&'static str>,
    },
    PolicyChanged {
        supervisor: Name,
    },
    ChildAdded {
        name: Name,
    },
    ChildRemoved {
        name: Name,
    },
    /// Something in the directory cannot be used; what ran before goes on.
    DirectoryProblem {
        path: String,
        message: String,
        help: String,
    },

    /// A client was refused or cut off, because a bound of the API was reached. Said once a second for each bound.
    ClientRefused {
        bound: &'static str,
        value: u64,
        /// Its address, or the socket.
        from: String,
    },
    /// A file that is newer than what is being tried has its turn when that has ended.
    FileWaits {
        worker: Name,
        what: &'static str,
        waits_for: WaitsFor,
        /// What is left of probation.
        until: Option<Duration>,
    },
    /// The host's own copy of a component was lost or damaged, and is made anew from a file with the same bytes.
    ComponentMended {
        component: ComponentHash,
        path: String,
    },
    /// The path that names the directory of workers leads to another one, and the host goes on with that.
    DirectoryMoved {
        from: String,
        to: String,
    },
    /// The API's socket was removed or replaced, and is there again.
    SocketRestored {
        path: String,
    },
    /// A look at the directory of workers takes longer than its bound: what runs goes on, and nothing new is taken.
    LookLate {
        path: String,
        after: Duration,
    },
    /// A late look has ended.
    LookEnded {
        took: Duration,
    },

    DatabaseFailed {
        what: &'static str,
        error: String,
    },
    /// The host's own code panicked. What it was in has ended, and goes on anew where others need it.
    HostFault {
        part: String,
        fault: HostFault,
    },
    /// The host cannot go on, and stops in order.
    HostBroken {
        why: String,
    },
}

/// Where a starting instance's state came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Fresh,
    Snapshot,
}

impl Event {
    /// The event's name on the wire and in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::HostStarted { .. } => "host-started",
            Event::HostStopping => "host-stopping",
            Event::Recovered { .. } => "recovered",
            Event::SupervisorStarted { .. } => "supervisor-started",
            Event::SupervisorStopped { .. } => "supervisor-stopped",
            Event::SupervisorGaveUp { .. } => "supervisor-gave-up",
            Event::TemplateCommitted { .. } => "template-committed",
            Event::TemplateRolledBack { .. } => "template-rolled-back",
            Event::ManyIsolated { .. } => "many-isolated",
            Event::RestartTogether { .. } => "restart-together",
            Event::AutoShutdown { .. } => "auto-shutdown",
            Event::StartIgnored { .. } => "start-ignored",
            Event::NotStartedOnDemand { .. } => "not-started-on-demand",
            Event::TemplateSet { .. } => "template-set",
            Event::WorkerLoading { .. } => "worker-loading",
            Event::CompilationSlow { .. } => "compilation-slow",
            Event::ComponentBanned { .. } => "component-banned",
            Event::WorkerLate { .. } => "worker-late",
            Event::WorkerStarted { .. } => "worker-started",
            Event::WorkerStartFailed { .. } => "worker-start-failed",
            Event::WorkerExited { .. } => "worker-exited",
            Event::WorkerStopped { .. } => "worker-stopped",
            Event::WorkerHibernated { .. } => "worker-hibernated",
            Event::WorkerWoke { .. } => "worker-woke",
            Event::RestartScheduled { .. } => "restart-scheduled",
            Event::WorkerIsolated { .. } => "worker-isolated",
            Event::BreakerOpened { .. } => "breaker-opened",
            Event::BreakerHalfOpen { .. } => "breaker-half-open",
            Event::BreakerClosed { .. } => "breaker-closed",
            Event::RestartStorm { .. } => "restart-storm",
            Event::RestartStormOver => "restart-storm-over",
            Event::DeadLetter { .. } => "dead-letter",
            Event::DeadLetterResent { .. } => "dead-letter-resent",
            Event::DeadLettersDropped { .. } => "dead-letters-dropped",
            Event::PoisonQuarantined { .. } => "poison-quarantined",
            Event::MessageFailed { .. } => "message-failed",
            Event::AccountFull { .. } => "account-full",
            Event::NewKeysRefused { .. } => "new-keys-refused",
            Event::StoppedIdle { .. } => "stopped-idle",
            Event::BoundReached { .. } => "bound-reached",
            Event::SnapshotFailed { .. } => "snapshot-failed",
            Event::HealthChanged { .. } => "health-changed",
            Event::UpgradeRequested { .. } => "upgrade-requested",
            Event::UpgradeRehearsed { .. } => "upgrade-rehearsed",
            Event::UpgradeSwitched { .. } => "upgrade-switched",
            Event::UpgradeCommitted { .. } => "upgrade-committed",
            Event::UpgradeCalledOff { .. } => "upgrade-called-off",
            Event::RolledBack { .. } => "rolled-back",
            Event::SettingsChanged { .. } => "settings-changed",
            Event::PolicyChanged { .. } => "policy-changed",
            Event::ChildAdded { .. } => "child-added",
            Event::ChildRemoved { .. } => "child-removed",
            Event::DirectoryProblem { .. } => "directory-problem",
            Event::ClientRefused { .. } => "client-refused",
            Event::FileWaits { .. } => "file-waits",
            Event::ComponentMended { .. } => "component-mended",
            Event::DirectoryMoved { .. } => "directory-moved",
            Event::SocketRestored { .. } => "socket-restored",
            Event::LookLate { .. } => "look-late",
            Event::LookEnded { .. } => "look-ended",
            Event::DatabaseFailed { .. } => "database-failed",
            Event::HostFault { .. } => "host-fault",
            Event::HostBroken { .. } => "host-broken",
        }
    }

    /// The worker or supervisor it is about.
    pub fn subject(&self) -> Option<&Name> {
        match self {
            Event::Recovered { worker, .. }
            | Event::WorkerLoading { worker, .. }
            | Event::WorkerLate { worker, .. }
            | Event::WorkerStarted { worker, .. }
            | Event::WorkerStartFailed { worker, .. }
            | Event::StartIgnored { worker }
            | Event::WorkerExited { worker, .. }
            | Event::WorkerStopped { worker }
            | Event::WorkerHibernated { worker, .. }
            | Event::WorkerWoke { worker, .. }
            | Event::RestartScheduled { worker, .. }
            | Event::WorkerIsolated { worker, .. }
            | Event::BreakerOpened { worker, .. }
            | Event::BreakerHalfOpen { worker }
            | Event::BreakerClosed { worker }
            | Event::DeadLetter { worker, .. }
            | Event::DeadLetterResent { worker, .. }
            | Event::DeadLettersDropped { worker, .. }
            | Event::PoisonQuarantined { worker, .. }
            | Event::MessageFailed { worker, .. }
            | Event::StoppedIdle { worker, .. }
            | Event::BoundReached { worker, .. }
            | Event::SnapshotFailed { worker, .. }
            | Event::HealthChanged { worker, .. }
            | Event::UpgradeRequested { worker, .. }
            | Event::UpgradeRehearsed { worker, .. }
            | Event::UpgradeSwitched { worker, .. }
            | Event::UpgradeCommitted { worker, .. }
            | Event::UpgradeCalledOff { worker, .. }
            | Event::FileWaits { worker, .. }
            | Event::RolledBack { worker, .. } => Some(worker),
            Event::SupervisorStarted { supervisor }
            | Event::SupervisorStopped { supervisor, .. }
            | Event::SupervisorGaveUp { supervisor, .. }
            | Event::ManyIsolated { supervisor, .. }
            | Event::RestartTogether { supervisor, .. }
            | Event::AutoShutdown { supervisor, .. }
            | Event::NewKeysRefused { supervisor, .. }
            | Event::PolicyChanged { supervisor } => Some(supervisor),
            Event::AccountFull { supervisor, .. } => supervisor.as_ref(),
            Event::SettingsChanged { name, .. }
            | Event::NotStartedOnDemand { name, .. }
            | Event::TemplateSet { name, .. }
            | Event::TemplateCommitted { name, .. }
            | Event::TemplateRolledBack { name, .. }
            | Event::ChildAdded { name }
            | Event::ChildRemoved { name } => Some(name),
            Event::HostStarted { .. }
            | Event::CompilationSlow { .. }
            | Event::ComponentBanned { .. }
            | Event::HostStopping
            | Event::RestartStorm { .. }
            | Event::RestartStormOver
            | Event::DirectoryProblem { .. }
            | Event::ClientRefused { .. }
            | Event::ComponentMended { .. }
            | Event::DirectoryMoved { .. }
            | Event::SocketRestored { .. }
            | Event::LookLate { .. }
            | Event::LookEnded { .. }
            | Event::DatabaseFailed { .. }
            | Event::HostFault { .. }
            | Event::HostBroken { .. } => None,
        }
    }

    /// Bytes of its texts, but for the names, which are shared.
    fn text_bytes(&self) -> usize {
        match self {
            Event::WorkerExited { reason, .. }
            | Event::WorkerStartFailed { reason, .. }
            | Event::SupervisorStopped { why: Some(reason), .. } => reason.heap_bytes(),
            Event::HostFault { fault, .. } => fault.heap_bytes(),
            Event::CompilationSlow { why: text, .. }
            | Event::ComponentBanned { why: text, .. }
            | Event::HostBroken { why: text }
            | Event::HostStarted { directory: text }
            | Event::Recovered { note: text, .. }
            | Event::NotStartedOnDemand { why: text, .. }
            | Event::WorkerIsolated { why: text, .. }
            | Event::DeadLetter { reason: text, .. }
            | Event::MessageFailed { error: text, .. }
            | Event::SnapshotFailed { error: text, .. }
            | Event::HealthChanged { status: text, .. }
            | Event::UpgradeCommitted { why: text, .. }
            | Event::UpgradeCalledOff { reason: text, .. }
            | Event::RolledBack { reason: text, .. }
            | Event::TemplateRolledBack { why: text, .. }
            | Event::ClientRefused { from: text, .. }
            | Event::DatabaseFailed { error: text, .. } => text.capacity(),
            Event::LookLate { path: text, .. }
            | Event::ComponentMended { path: text, .. }
            | Event::SocketRestored { path: text } => text.capacity(),
            Event::DirectoryMoved { from, to } => from.capacity() + to.capacity(),
            Event::DirectoryProblem { path, message, help } => path.capacity() + message.capacity() + help.capacity(),
            Event::SettingsChanged { in_place, restarted, .. } => {
                (in_place.capacity() + restarted.capacity()) * size_of::<&str>()
            }
            _ => 0,
        }
    }

    pub fn level(&self) -> Level {
        match self {
            Event::WorkerExited { reason, .. } if reason.is_orderly() => Level::Info,
            Event::WorkerExited { reason, .. } | Event::WorkerStartFailed { reason, .. } if reason.is_host_fault() => {
                Level::Error
            }
            Event::WorkerExited { .. }
            | Event::SupervisorStopped { why: Some(_), .. }
            | Event::WorkerLate { .. }
            | Event::CompilationSlow { .. }
            | Event::ComponentBanned { .. }
            | Event::WorkerStartFailed { .. }
            | Event::MessageFailed { .. }
            | Event::AccountFull { .. }
            | Event::NewKeysRefused { .. }
            | Event::BoundReached { .. }
            | Event::BreakerOpened { .. }
            | Event::ClientRefused { .. }
            | Event::RestartStorm { .. }
            | Event::DeadLetter { .. }
            | Event::PoisonQuarantined { .. }
            | Event::UpgradeCalledOff { .. }
            | Event::RolledBack { .. }
            | Event::TemplateRolledBack { .. }
            | Event::DirectoryProblem { .. }
            | Event::LookLate { .. }
            | Event::ComponentMended { .. }
            | Event::SocketRestored { .. }
            | Event::HealthChanged { .. }
            | Event::NotStartedOnDemand { .. }
            | Event::RestartTogether { .. }
            | Event::RestartScheduled { .. } => Level::Warn,
            Event::SupervisorGaveUp { .. }
            | Event::WorkerIsolated { .. }
            | Event::ManyIsolated { .. }
            | Event::SnapshotFailed { .. }
            | Event::DatabaseFailed { .. }
            | Event::HostFault { .. }
            | Event::HostBroken { .. } => Level::Error,
            _ => Level::Info,
        }
    }
}

impl OnTape for Event {
    fn heap_bytes(&self) -> usize {
        self.text_bytes()
    }
}

/// One sentence for people, without the subject's name where `paguro events` shows it in a column.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::HostStarted { directory } => write!(f, "host started on {directory}"),
            Event::HostStopping => f.write_str("host is stopping"),
            Event::Recovered { note, .. } => f.write_str(note),
            Event::SupervisorStarted { .. } => f.write_str("supervisor started"),
            Event::SupervisorStopped { why: None, .. } => f.write_str("supervisor stopped"),
            Event::SupervisorStopped { why: Some(why), .. } => write!(f, "supervisor stopped: {why}"),
            Event::SupervisorGaveUp { restarts, period, last, .. } => {
                let needed = plural(*restarts, "restart");
                write!(f, "gave up: it needed {needed} within {}, the last of {last:?}", show_duration(*period))
            }
            Event::TemplateCommitted { component, .. } => {
                write!(f, "new keys start on {} from now on", component.short())
            }
            Event::TemplateRolledBack { component, to, why, .. } => {
                write!(f, "all keys go back from {} to {}: {why}", component.short(), to.short())
            }
            Event::ManyIsolated { isolated, children, .. } => {
                write!(f, "{isolated} of its {children} keys are isolated: what they share may be what fails")
            }
            Event::RestartTogether { failed, others, .. } => {
                write!(f, "{others} more are stopped and start again with {failed:?}")
            }
            Event::AutoShutdown { by, .. } => write!(f, "shuts down: its significant child {by:?} has ended"),
            Event::StartIgnored { .. } => f.write_str("does not want to run: it stopped itself in its start"),
            Event::NotStartedOnDemand { why, .. } => write!(f, "a message could not start it: {why}"),
            Event::TemplateSet { component, .. } => {
                write!(f, "its file is {}", component.short())
            }
            Event::WorkerLoading { bytes, .. } => write!(f, "loading a component of {}", show_size(*bytes)),
            Event::CompilationSlow { component, why } => {
                write!(f, "component {} takes long to compile and waits for another turn: {why}", component.short())
            }
            Event::ComponentBanned { component, why } => {
                let short = component.short();
                write!(f, "component {short} is not compiled again until `paguro check FILE`: {why}")
            }
            Event::WorkerLate { waited, .. } => {
                let waited = show_duration(*waited);
                write!(f, "not loaded after {waited}: the host starts without it, it is added when it is ready")
            }
            Event::WorkerStarted { incarnation, component, from, took, .. } => {
                let from = match from {
                    Origin::Fresh => "afresh",
                    Origin::Snapshot => "from its snapshot",
                };
                let took = show_duration(*took);
                write!(f, "started {from} on {} in {took}, incarnation {incarnation}", component.short())
            }
            Event::WorkerStartFailed { component, reason, .. } => {
                write!(f, "did not start on {}: {reason}", component.short())?;
                if reason.is_host_fault() { write_backtrace(f, reason.backtrace()) } else { Ok(()) }
            }
            Event::WorkerExited { reason, incarnation, .. } => {
                write!(f, "incarnation {incarnation} ended: {reason}")?;
                match reason.backtrace() {
                    // Of the host's own nobody but its authors can do anything about: all that they need.
                    frames if reason.is_host_fault() => write_backtrace(f, frames),
                    [] => Ok(()),
                    frames => write!(f, "; in {}", frames[..frames.len().min(3)].join(" < ")),
                }
            }
            Event::WorkerStopped { .. } => f.write_str("stopped"),
            Event::WorkerHibernated { state, why, .. } => {
                write!(f, "hibernated with {} of state: {why}", show_size(*state))
            }
            Event::WorkerWoke { took, .. } => write!(f, "woke in {}", show_duration(*took)),
            Event::RestartScheduled { delay, restarts, .. } if delay.is_zero() => {
                write!(f, "restarts at once (restart {restarts} in the period)")
            }
            Event::RestartScheduled { delay, restarts, .. } => {
                write!(f, "restarts in {} (restart {restarts} in the period)", show_duration(*delay))
            }
            Event::WorkerIsolated { why, .. } => write!(f, "isolated: {why}"),
            Event::BreakerOpened { failures, recovery, .. } => {
                let recovery = show_duration(*recovery);
                let why = match failures {
                    0 => "its supervisor restarted it too often".to_string(),
                    failures => format!("{} failed", plural(*failures, "message")),
                };
                write!(f, "circuit breaker open for {recovery}: {why}")
            }
            Event::BreakerHalfOpen { .. } => {
                f.write_str("circuit breaker half-open: messages are let through on trial")
            }
            Event::BreakerClosed { .. } => f.write_str("circuit breaker closed"),
            Event::RestartStorm { restarts, period } => write!(
                f,
                "restart storm: {restarts} restarts within {}; those to come wait for each other",
                show_duration(*period)
            ),
            Event::RestartStormOver => f.write_str("the restart storm is over"),
            Event::DeadLetter { id, sort, bytes, reason, .. } => {
                write!(f, "a {sort} of {bytes} bytes was not handled: {reason}")?;
                match id {
                    Some(id) => write!(f, "; kept as dead letter {id}"),
                    None => f.write_str("; it is not kept"),
                }
            }
            Event::DeadLetterResent { id, .. } => write!(f, "dead letter {id} is in the mailbox again"),
            Event::DeadLettersDropped { letters, .. } => write!(f, "{letters} dead letters were thrown away"),
            Event::PoisonQuarantined { sort, bytes, kills, .. } => {
                write!(f, "a {sort} of {bytes} bytes is quarantined: its content ended the worker {kills} times")
            }
            Event::MessageFailed { sort, error, .. } => write!(f, "a {sort} failed: {error}"),
            Event::BoundReached { bound, value, .. } => write!(f, "bound reached: {bound}, {value}"),
            Event::AccountFull { holding, asked, max, most, most_bytes, holder, holder_bytes, .. } => write!(
                f,
                "no room for {} more in {holding}: {} may be kept, most of it in {most} ({}) and below {holder:?} ({})",
                show_size(*asked),
                show_size(*max),
                show_size(*most_bytes),
                show_size(*holder_bytes)
            ),
            Event::NewKeysRefused { caller, per_second, .. } => {
                let who = caller.as_ref().map_or_else(|| "clients".to_string(), |caller| format!("{caller:?}"));
                write!(f, "{who} asked for more than {per_second} new keys in a second: those beyond are refused")
            }
            Event::StoppedIdle { idle, .. } => {
                write!(f, "had nothing to do for {} and has no state: it ended", show_duration(*idle))
            }
            Event::SnapshotFailed { error, .. } => write!(f, "its state was not saved: {error}"),
            Event::HealthChanged { status, .. } => write!(f, "health: {status}"),
            Event::UpgradeRequested { from, to, .. } => write!(f, "upgrade from {} to {}", from.short(), to.short()),
            Event::UpgradeRehearsed { to, took, state, .. } => {
                write!(f, "rehearsed {} in {} with {} of state", to.short(), show_duration(*took), show_size(*state))
            }
            Event::UpgradeSwitched { revision, to, pause, .. } => {
                write!(f, "switched to revision {revision} ({}) after a pause of {}", to.short(), show_duration(*pause))
            }
            Event::UpgradeCommitted { revision, why, .. } => write!(f, "revision {revision} committed: {why}"),
            Event::UpgradeCalledOff { to, phase, reason, .. } => {
                write!(f, "upgrade to {} called off while it was {phase}: {reason}", to.short())
            }
            Event::RolledBack { revision, to, replayed, reason, .. } => write!(
                f,
                "revision {revision} rolled back to {}, {replayed} messages handed over: {reason}",
                to.short()
            ),
            Event::SettingsChanged { in_place, restarted, .. } => {
                let list = |keys: &[&str]| if keys.is_empty() { "nothing".to_string() } else { keys.join(", ") };
                write!(f, "settings changed: {} in place, {} by a restart", list(in_place), list(restarted))
            }
            Event::PolicyChanged { .. } => f.write_str("policy changed"),
            Event::ChildAdded { .. } => f.write_str("added"),
            Event::ChildRemoved { .. } => f.write_str("removed; its history is kept, and its state if it has one"),
            Event::DirectoryProblem { path, message, help } => {
                write!(f, "{path}: {message}")?;
                if help.is_empty() { Ok(()) } else { write!(f, "; {help}") }
            }
            Event::ClientRefused { bound, value, from } => {
                write!(f, "a client was refused: {bound}, {value}; it came from {from}")
            }
            Event::FileWaits { what, waits_for, until, .. } => {
                let left = until.map(|left| format!(" in {}", show_duration(left))).unwrap_or_default();
                write!(f, "a newer {what} waits until {waits_for}{left}")
            }
            Event::ComponentMended { component, path } => {
                let short = component.short();
                write!(f, "the host's copy of component {short} was lost or damaged, and is made anew from {path}")
            }
            Event::DirectoryMoved { from, to } => write!(f, "the directory of workers is {to}, it was {from}"),
            Event::SocketRestored { path } => write!(f, "the socket {path} was removed or replaced; it is there again"),
            Event::LookLate { path, after } => {
                let after = show_duration(*after);
                write!(f, "a look at {path} has not ended after {after}: what runs goes on, nothing new is taken")
            }
            Event::LookEnded { took } => write!(f, "the look that was late ended after {}", show_duration(*took)),
            Event::DatabaseFailed { what, error } => write!(f, "the database failed to {what}: {error}"),
            Event::HostFault { part, fault } => {
                write!(f, "a fault of the host in {part}: {fault}")?;
                write_backtrace(f, &fault.backtrace)
            }
            Event::HostBroken { why } => write!(f, "the host cannot go on, and stops: {why}"),
        }
    }
}

fn write_backtrace(f: &mut fmt::Formatter<'_>, frames: &[String]) -> fmt::Result {
    match frames {
        [] => Ok(()),
        frames => write!(f, "; backtrace: {}", frames.join(" < ")),
    }
}
