//! What the database holds, in the core's own types, and the changes it takes.

use std::sync::Arc;

use crate::base::{ComponentHash, Incarnation, Name, Payload, RevisionNumber, Snapshot, TimerId, Timestamp, bounds};
use crate::record::ledger::{By, Digest, NewLedgerEntry, words};

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
    /// A key of a template. Else it has a file of its own.
    pub keyed: bool,
}

impl WorkerRecord {
    /// Whether an operator's word holds over the file, which is one of these. A file that came since ends the override.
    pub fn overrides_any_of(&self, files: &[ComponentHash]) -> bool {
        self.overridden && self.file.is_some_and(|file| files.contains(&file))
    }
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

/// A directory that was given to a worker for writing, at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedRecord {
    /// As it was then, lossy where it is not text.
    pub path: String,
    pub device: u64,
    pub inode: u64,
}

words! {
    /// Whose settings a file has.
    pub enum SettingsOf {
        Worker = "worker",
        Supervisor = "supervisor",
    }
}

/// Which component a template is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateRecord {
    /// What new keys start on.
    pub serving: ComponentHash,
    /// One that was rolled back for all keys, and is not tried again.
    pub refused: Option<ComponentHash>,
    /// What it goes back to if the serving one fails on new keys, while they are watched.
    pub before: Option<ComponentHash>,
}

/// A settings file that was accepted, and carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedSettings {
    pub of: SettingsOf,
    /// What it said; empty where there was none.
    pub text: Arc<str>,
}

/// A message that was accepted and not handled. Its body is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// From 1, in the order in which they came about; never used again.
    pub id: u64,
    pub at: Timestamp,
    /// Whose it was. It may be gone.
    pub worker: Name,
    pub sort: LetterSort,
    /// Who sent it; for [`LetterSort::Down`] who ended. `None` where a client outside the tree did.
    pub from: Option<Name>,
    /// Of a [`LetterSort::Timer`].
    pub timer: Option<TimerId>,
    pub why: LetterWhy,
    /// A sentence for people.
    pub reason: String,
    /// How the worker ended over it, in a word.
    pub exit: Option<String>,
    /// The revision that did not handle it.
    pub revision: RevisionNumber,
    /// Bytes that the body had. Where it had more than
    /// [`bounds::DEAD_LETTER_BODY_BYTES_MAX`](crate::base::bounds::DEAD_LETTER_BODY_BYTES_MAX), only that
    /// many are kept.
    pub bytes: u64,
}

impl DeadLetterRecord {
    /// Whether only the beginning of its body was kept.
    pub fn is_cut(&self) -> bool {
        self.bytes > bounds::DEAD_LETTER_BODY_BYTES_MAX as u64
    }
}

words! {
    /// What a dead letter was.
    pub enum LetterSort {
        /// Only one that is quarantined: else the caller was told, and that is all.
        Call = "call",
        Cast = "cast",
        Timer = "timer",
        /// News of a worker that ended.
        Down = "down",
    }
}

words! {
    /// Why a message was not handled.
    pub enum LetterWhy {
        /// It ended the worker that handled it.
        EndedWorker = "ended-worker",
        /// It did so as often as [`bounds::POISON_KILLS`](crate::base::bounds::POISON_KILLS).
        Poison = "poison",
        /// It waited when its worker was removed.
        Removed = "removed",
        /// It waited when the host stopped.
        HostStopped = "host-stopped",
        /// The worker is a command.
        Command = "command",
        /// A rollback let it go, as the settings say.
        Dropped = "dropped",
        /// Too many facts waited.
        NoRoom = "no-room",
    }
}

/// How many dead letters there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterTotals {
    pub letters: u64,
    /// Bytes of their bodies, as far as they are kept.
    pub bytes: u64,
    /// Letters that went because a bound was reached, since the database was made.
    pub let_go: u64,
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
    /// An operator deleted it: removed, and over its file until that changes. That is the one given, or the one that
    /// was noted. Nothing else of its record changes; none of that name is no error.
    WorkerDeleted(Name, Option<ComponentHash>),
    /// It could not be deleted: it is there or not, its file is noted, and it overrides that or not, as it was.
    WorkerNotDeleted {
        worker: Name,
        removed: bool,
        overridden: bool,
        file: Option<ComponentHash>,
    },
    /// What its file says was acted upon: an override ends. Of one that was removed nothing is noted, so that
    /// a deletion that comes in between holds.
    FileNoted(Name, ComponentHash),
    /// The file of one that was removed has gone: a later one, whatever is in it, is new.
    FileGone(Name),
    /// By command, and against its file.
    Overridden(Name),
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
    /// Of one component, for all workers below a supervisor.
    ClearRejectionsBelow(Name, ComponentHash),
    /// Replaces the state of the worker's circuit breaker.
    PutBreaker(Name, BreakerRecord),
    /// It is closed. Nothing to clear is no error.
    ClearBreaker(Name),
    /// Adds a letter, with as much of its body as is kept. Its worker needs no record. Beyond
    /// [`bounds::DEAD_LETTERS_MAX`] and [`bounds::DEAD_LETTERS_BYTES_MAX`] the oldest go.
    PutDeadLetter(DeadLetterRecord, Payload),
    /// Nothing to drop is no error.
    DropDeadLetter(u64),
    /// All of one worker.
    DropDeadLetters(Name),
    /// A directory was given to a worker for writing, by its path, device and inode. Once is as good as twice.
    Granted(GrantedRecord),
    /// What a settings file says is in force.
    PutTemplate(Name, TemplateRecord),
    /// The template's file is gone.
    DropTemplate(Name),
    Accepted(Name, AcceptedSettings),
    /// There is nobody of that name any more.
    AcceptedGone(Name),
    /// Appends to the ledger, at once or together with others of its kind (`record::book`).
    Ledger(NewLedgerEntry),
    /// Writes what was gathered for the ledger and is due at this moment.
    LedgerDue(Timestamp),
    /// Removes the entries of the ledger up to this one, whose digest shows that it is known elsewhere, and appends an
    /// entry that says so. Fails where there is no such entry.
    TrimLedger {
        through: u64,
        digest: Digest,
        at: Timestamp,
    },
}

impl Change {
    /// Bytes that weigh: the rest of a change is small.
    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Change::PutSnapshot(_, record) => record.snapshot.len(),
            Change::PutDeadLetter(_, body) => body.len(),
            Change::PutWorker(record) => record.config.as_ref().map_or(0, String::len),
            _ => 0,
        }
    }
}
