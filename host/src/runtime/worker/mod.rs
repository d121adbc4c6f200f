//! A worker: a supervised identity with a name, a mailbox and a desk, which outlives its instances.
//!
//! ```text
//!             Start             ok                     Replace ok
//!    Down ----------> Starting ----> Running ----------------------> Probation
//!     ^                  | failed     | |  ^                          |  |  |
//!     |                  v            | |  |        Settle            |  |  |
//!     |<---- report -----+            | |  +--------------------------+  |  |
//!     |                               | |  |        Revert               |  |
//!     |<------ report, fault ---------+ |  +-- RollingBack <-------------+  |
//!     |                                 |       (fault, or by the owner)    |
//!     |<--- report -- Stopping <--------+-----------------------------------+
//! ```
//!
//! - *Start* and *Stop* come from the supervisor, which gets a report of how they went. A *fault* (a
//!   trap, a limit, a kill) drops the instance and is reported; the supervisor decides what follows
//!   and shows it as `restarting`, `isolated` or `down`.
//! - *Replace* comes from an upgrade, at a message boundary, and either switches or changes nothing.
//! - *Running* and *Hibernated* (`sleep`) are one to the supervisor.
//! - In *Probation* a fault is not reported: the worker tells the owner of the trial and waits, its
//!   mailbox open, for *Revert*.

mod alarm;
mod away;
mod desk;
mod door;
mod driver;
mod ending;
mod guard;
mod handle;
mod health;
mod idle;
mod pace;
mod recovery;
mod rescue;
mod runner;
mod saving;
mod shared;
mod sleep;
mod start;
mod swap;
mod system;
mod trial;

pub use door::{WorkerLog, carry_out};
pub use driver::{Launch, launch, restart_type};
pub use guard::{BreakerView, Pass, Sign};
pub(super) use runner::Undertaker;
pub use shared::{AskError, Counters, Of, Shared, Standing, Status};
pub use swap::{take_over, too_slow};
pub use system::{
    Adopted, Blame, CalledOff, Done, NoState, NoTrial, Replace, Reverted, Switched, System, TRIAL_EVENTS_MAX,
    TrialEvent, TrialTerms,
};

use std::sync::Arc;

use super::residents::Place;
use super::services::Services;
use crate::sandbox::{LogSink, Outside};

/// What a new instance of this worker is given.
pub fn door(worker: &Arc<Shared>, services: &Arc<Services>, place: Arc<Place>) -> Box<dyn Outside> {
    Box::new(door::Door::new(worker.clone(), services.clone(), place))
}

/// Where a new instance of this worker logs.
pub fn log(worker: &Arc<Shared>, services: &Arc<Services>, lines_max: u32) -> Arc<dyn LogSink> {
    Arc::new(WorkerLog::new(worker.clone(), services, lines_max))
}
