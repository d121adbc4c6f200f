//! What happened, and what must not be forgotten. Depends on `base` alone, so that every layer can
//! emit before it can do anything else.

mod blocking;
mod book;
mod components;
mod database;
pub mod event;
mod ledger;
pub mod marker;
pub mod metrics;
mod recorder;
mod state_dir;
mod tape;
mod tree_lock;

pub use blocking::blocking;
pub use components::{ComponentFileError, ComponentFiles};
pub use database::{
    AcceptedSettings, BreakerRecord, Change, Database, DatabaseError, DeadLetterRecord, DeadLetterTotals,
    GrantedRecord, LetterSort, LetterWhy, Options, Pending, RejectedRecord, RevisionRecord, SettingsOf, SnapshotRecord,
    Stats, TemplateRecord, Verdict, Why, WorkerRecord,
};
pub use event::{Event, Level, Origin, WaitsFor};
pub use ledger::{Action, By, LedgerBroken, LedgerEntry, NewLedgerEntry};
pub use marker::OtherDatabase;
pub use metrics::{GuestMetric, Metrics};
pub use recorder::{LogLine, Recorder};
pub use state_dir::{StateDir, StateDirError, default_state, found_state, state_behind_a_link};
pub use tape::{Follower, Missed, OnTape, Recorded, Tape, TapePage};
pub use tree_lock::{TreeLock, TreeLockError};
