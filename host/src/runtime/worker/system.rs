//! System messages: what the supervisor, an upgrade and an operator ask of a worker. They overtake
//! all other messages and are taken at a message boundary.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::base::{ExitReason, Failure, Incarnation, RevisionNumber, Snapshot};
use crate::runtime::dead_letters::Cause;
use crate::runtime::residents::Ask;
use crate::runtime::spec::{OnRollback, Shutdown, WorkerSettings};
use crate::sandbox::{Component, Health, Instance};

/// Where an answer goes.
pub type Done<T> = oneshot::Sender<T>;

pub enum System {
    /// From the supervisor; answered with a report.
    Start {
        incarnation: Incarnation,
    },
    /// From the supervisor; answered with a report.
    Stop {
        reason: ExitReason,
        shutdown: Shutdown,
        /// It will be started again: what waits goes on waiting.
        comes_back: bool,
    },
    /// The live state, for a rehearsal, `state show` or `state export`.
    Save {
        done: Done<Result<Snapshot, NoState>>,
    },
    /// Puts a state in: the live instance is replaced by one that was given this snapshot, or
    /// nothing changes.
    Import {
        snapshot: Snapshot,
        done: Done<Result<(), String>>,
    },
    Health {
        done: Done<Option<Health>>,
    },
    /// Others need the room: it is to hibernate if it has nothing to do.
    Hibernate {
        ask: Ask,
    },
    Configure {
        settings: Arc<WorkerSettings>,
    },
    /// From the supervisor: it had nothing to do for so long, and is to end if it may.
    EndIdle {
        idle: Duration,
    },
    /// Puts another component in the place of the running one, on trial.
    Replace(Box<Replace>),
    /// The trial ended well, and this state was made durable with that decision: the old instance
    /// goes. One that failed in the meantime is restarted on the new revision, from this state.
    Settle {
        state: Option<Snapshot>,
        done: Done<Result<(), NoTrial>>,
    },
    /// The trial failed: the old instance comes back.
    Revert {
        how: OnRollback,
        done: Done<Result<Reverted, NoTrial>>,
    },
    /// For a worker that does not run: what its next start is to run, and from which state.
    Adopt {
        /// The state that it must still have, or nothing changes.
        from: Option<Snapshot>,
        to: Adopted,
        done: Done<Result<Adopted, String>>,
    },
    /// The worker is removed from the tree.
    Quit {
        /// Of what still waits.
        why: Cause<'static>,
        done: Done<()>,
    },
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoState {
    #[error("its component exports no `state`")]
    NotExported,
    #[error("it has never saved a state, and does not run")]
    Nothing,
    #[error("`save-state` said: {0}")]
    Refused(String),
    #[error("it ended while its state was saved: {0}")]
    Died(ExitReason),
}

/// What a worker that does not run is to run next.
pub struct Adopted {
    pub component: Component,
    pub revision: RevisionNumber,
    pub saved: Option<Snapshot>,
}

/// There is no trial under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTrial;

/// A replacement that is ready to run.
pub struct Replace {
    /// Made of `component`; no export has been called.
    pub instance: Option<Instance>,
    pub component: Component,
    pub revision: RevisionNumber,
    /// Time for `upgrade-state`, `restore-state` and `resume`.
    pub migrate: Duration,
    pub terms: TrialTerms,
    pub done: Done<Result<Switched, CalledOff>>,
}

/// What is kept while the old instance can come back, and who decides.
pub struct TrialTerms {
    pub keep_messages: usize,
    pub keep_bytes: u64,
    /// Tell the owner after this many messages.
    pub messages: Option<u64>,
    pub owner: mpsc::Sender<TrialEvent>,
}

/// Room for what a worker tells the owner of a trial: each kind of event happens once at most.
pub const TRIAL_EVENTS_MAX: usize = 8;

/// What a worker on trial tells the owner of the trial.
#[derive(Debug)]
pub enum TrialEvent {
    /// The new instance ended badly. The worker waits for `Revert`.
    Failed(ExitReason),
    /// A bound on what is kept was reached: nothing more is kept, and the trial must be settled.
    Full { bound: &'static str, value: u64 },
    /// It handled as many messages as the terms name.
    Enough,
    /// It was stopped in order, on the new revision, with this state.
    Stopped { state: Option<Snapshot> },
}

/// The new instance serves.
#[derive(Debug)]
pub struct Switched {
    /// From the boundary to the first message the new instance could take.
    pub pause: Duration,
    /// The old instance's state at the switch.
    pub before: Option<Snapshot>,
}

/// The old instance serves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalledOff {
    /// Which step failed: `quiesced`, `migrated`.
    pub phase: &'static str,
    pub reason: String,
    pub blame: Blame,
}

/// Whether another try with the same component could go better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It could not: the component is not tried again by itself.
    Component,
    /// It could not either: what runs cannot save its state. That says nothing of the component.
    Running,
    /// It could: the worker, the host or the disk was in the way.
    Nobody,
}

impl Blame {
    pub fn of(failure: &Failure) -> Blame {
        if failure.is_of_the_component() { Blame::Component } else { Blame::Nobody }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reverted {
    /// Messages that are handed to the old revision again.
    pub replayed: usize,
}
