//! Mailboxes, workers, names, timers, and the supervisors above them.
//!
//! Pure: `spec`, `budget`, `backoff`, `supervision`. Drivers: `worker` (one task for each worker) and
//! `supervisor` (one for each supervisor). Others send.

mod backoff;
mod budget;
mod mailbox;
mod message;
mod registry;
mod services;
pub mod spec;
pub mod supervision;
mod supervisor;
mod tree;
pub mod worker;

pub use message::Outcome;
pub use registry::Registry;
pub use services::{CALL_DEADLINE, CALL_DEADLINE_MAX, Services};
pub use supervisor::View;
pub use tree::{Tree, TreeError};
pub use worker::{Launch, Shared, Standing, Status};
