//! Mailboxes, workers, names, timers, and the supervisors above them.
//!
//! Pure: `spec`, `budget`, `budgets`, `backoff`, `breaker`, `cpu`, `new_keys`, `poison`, `rate`, `storm`, `supervision`. Drivers:
//! `worker` (one task for each worker) and `supervisor` (one for each supervisor). Others send.

mod accounts;
mod backoff;
mod breaker;
mod budget;
mod budgets;
mod cpu;
mod dead_letters;
mod faults;
mod handoff;
mod keyed;
mod lent;
mod mailbox;
mod message;
mod names;
mod new_keys;
mod poison;
mod rate;
mod registry;
mod residents;
mod services;
mod share;
pub mod spec;
mod storm;
pub mod supervision;
mod supervisor;
mod templates;
mod tree;
mod waits;
pub mod worker;

pub use accounts::Accounts;
pub use dead_letters::{Cause, DeadLetters, Letter};
pub use faults::{Fuse, Fuses, Spot};
pub use keyed::{By, find, find_in_time, payload_max};
pub use message::Outcome;
pub use registry::{Registry, WorkerPages};
pub use residents::{
    AsleepBytes, Lodger, Place, Residents, account_bytes_max_here, asleep_bytes_max_here, compilers_bytes_max_here,
    live_instances_max, live_instances_max_here,
};
pub use services::{CALL_DEADLINE, CALL_DEADLINE_MAX, Services};
pub use supervisor::{ChildView, Page, View};
pub use templates::{NotMade, Template};
pub use tree::{Started, Tree, TreeError};
pub use worker::{Launch, Shared, Standing, Status};
