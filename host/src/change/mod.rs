//! Changing what a worker runs: upgrade, its rehearsal, probation, rollback, and what is taken up
//! again after a crash.
//!
//! ```text
//! requested -> verified -> rehearsed -> quiesced -> migrated -> switched -> probation -> committed
//!                  |           |           |           |                       |
//!                  +-----------+-----------+-----------+---> called off        +---> rolled back
//! ```
//!
//! [`upgrade`] walks the line to *switched*; each phase is a type that the next one consumes, and one
//! that fails leaves the worker as it was. [`trial`] is the owner of a probation; [`probation`] is its
//! verdict, pure. Every step is in the ledger before it has an effect.

mod deploy;
mod error;
mod history;
mod lanes;
mod load;
mod probation;
mod reconcile;
mod rehearsal;
mod rollout;
mod template;
mod trial;
mod under_way;
mod upgrade;

pub use deploy::{deploy, prepare, prepare_known, resume, take_up};
pub use error::ChangeError;
pub use history::rollback_target;
pub use lanes::{Lane, Lanes, Turn};
pub use load::{Source, hash_of};
pub use reconcile::Reconciler;
pub use rehearsal::{Nobody, Rehearsal};
pub use rollout::{Candidate, Rollout};
pub use template::{ComponentTemplate, Keys};
pub use trial::Outcome;
pub use under_way::{Changes, Switched};
pub use upgrade::UpgradeRequest;
pub use upgrade::fits;
