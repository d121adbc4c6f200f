//! What the database holds, in the core's own types, and the changes it takes.

use crate::base::{ComponentHash, Incarnation, Name, RevisionNumber, Snapshot, Timestamp};
use crate::record::ledger::{By, NewLedgerEntry, words};

/// What is known of a worker whether or not it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRecord {
    pub name: Name,
    /// The component of the committed revision: what a host that comes back starts.
    pub component: ComponentHash,
    /// The committed revision.
    pub revision: RevisionNumber,
    /// Hash of the file in the directory that was last acted upon.
    pub file: Option<ComponentHash>,
    /// Whether an upgrade or rollback by command holds over the file.
    pub overridden: bool,
    /// Whether it was taken out of the tree. Its history stays.
    pub removed: bool,
    pub incarnation: Incarnation,
    /// A child of a template that was started with a configuration of its own, a JSON object.
    pub config: Option<String>,
}

/// One component in a worker's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRecord {
    pub number: RevisionNumber,
    pub component: ComponentHash,
    pub at: Timestamp,
    pub why: Why,
    pub by: By,
    pub verdict: Verdict,
    /// A sentence for people.
    pub note: String,
}

words! {
    /// How a revision came about.
    pub enum Why {
        Deployed = "deployed",
        Upgrade = "upgrade",
        Rollback = "rollback",
    }
}

words! {
    /// What became of a revision.
    pub enum Verdict {
        Rehearsing = "rehearsing",
        Probation = "probation",
        Committed = "committed",
        RolledBack = "rolled-back",
        CalledOff = "called-off",
        /// It was committed and a later one took its place.
        Superseded = "superseded",
        /// The host died during its rehearsal or probation.
        Interrupted = "interrupted",
    }
}

impl Verdict {
    /// Whether nothing more will be decided by itself.
    pub fn is_settled(self) -> bool {
        !matches!(self, Verdict::Rehearsing | Verdict::Probation)
    }
}

/// A worker's last saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// The component that saved it, which is the one that can read it.
    pub component: ComponentHash,
    pub revision: RevisionNumber,
    pub snapshot: Snapshot,
    pub at: Timestamp,
    /// Messages that the worker had handled by then.
    pub messages: u64,
}

/// A component that is not to be tried again for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    pub component: ComponentHash,
    pub at: Timestamp,
    /// A sentence for people.
    pub why: String,
}

/// A circuit breaker that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRecord {
    pub opened_at: Timestamp,
    /// From then on it is half-open.
    pub until: Timestamp,
    /// Failures that opened it.
    pub failures: u32,
}

/// A change to the database. Those that name a worker need its record, from the same request
/// before them or from an earlier one; else the request fails with
/// [`DatabaseError::NoWorker`](super::DatabaseError::NoWorker). The ledger takes any name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds the worker or replaces its record.
    PutWorker(WorkerRecord),
    /// It was taken out of the tree; nothing else of its record changes. None of that name is no error.
    WorkerRemoved(Name),
    /// Adds the revision or replaces the one with its number. Beyond
    /// [`bounds::REVISIONS_MAX`](crate::base::bounds::REVISIONS_MAX) the oldest settled ones go; the
    /// committed one of the worker's record, and this one, never do.
    PutRevision(Name, RevisionRecord),
    /// Replaces the worker's snapshot.
    PutSnapshot(Name, SnapshotRecord),
    /// Nothing to drop is no error.
    DropSnapshot(Name),
    /// Adds the rejection or replaces the one of this component.
    Reject(Name, RejectedRecord),
    ClearRejections(Name),
    /// Replaces the state of the worker's circuit breaker.
    PutBreaker(Name, BreakerRecord),
    /// It is closed. Nothing to clear is no error.
    ClearBreaker(Name),
    /// Appends to the ledger.
    Ledger(NewLedgerEntry),
}

impl Change {
    /// Bytes that weigh: the rest of a change is small.
    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Change::PutSnapshot(_, record) => record.snapshot.len(),
            _ => 0,
        }
    }
}
