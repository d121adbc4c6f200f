//! Why a change was not made.

use crate::base::{ComponentHash, Name, RevisionNumber};
use crate::record::{ComponentFileError, DatabaseError};
use crate::runtime::worker::Blame;
use crate::sandbox::ComponentError;

pub(super) fn no_file(component: ComponentHash, error: &ComponentFileError) -> ChangeError {
    let is_lost = matches!(error, ComponentFileError::Missing { .. } | ComponentFileError::Corrupted { .. });
    ChangeError::ComponentFile { component, why: error.to_string(), is_lost }
}

/// The error and what is behind it, in one line.
pub(super) fn with_cause(error: &ChangeError) -> String {
    match error {
        ChangeError::Component(cause) => format!("{error}: {cause}"),
        other => other.to_string(),
    }
}

impl ChangeError {
    /// Whether a component can never be loaded again: not where the disk, the compiler or the system was in the way.
    pub(super) fn is_final(&self) -> bool {
        match self {
            ChangeError::Component(error) => {
                !matches!(error, ComponentError::NotCompiled(_) | ComponentError::Banned(_))
            }
            ChangeError::ComponentFile { is_lost, .. } => *is_lost,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{worker:?} runs this component already ({})", .component.short())]
    SameComponent { worker: Name, component: ComponentHash },
    #[error("an upgrade of {worker:?} is under way: it is {phase}")]
    UnderWay { worker: Name, phase: &'static str },
    #[error("the component cannot be used")]
    Component(#[from] ComponentError),
    /// Nothing changed: the worker goes on as it was.
    #[error("the upgrade of {worker:?} was called off while it was {phase}")]
    CalledOff { worker: Name, phase: &'static str, reason: String, revision: RevisionNumber, blame: Blame },
    /// Nothing is known of the component yet: it may be tried again.
    #[error("the component could not be compiled: {0}")]
    NoCompiler(String),
    /// Likewise.
    #[error("the system has no room for one more instance: {0}")]
    NoRoom(String),
    #[error("the host is stopping")]
    Stopping,
    #[error("{0:?} is not in probation")]
    NotInProbation(Name),
    #[error("there is nothing to roll {0:?} back to")]
    NothingToRollBackTo(Name),
    #[error("{worker:?} has no revision {revision}")]
    NoSuchRevision { worker: Name, revision: RevisionNumber },
    /// What must be durable first could not be written: nothing changed.
    #[error("nothing was changed, because the decision could not be written down")]
    Database(#[from] DatabaseError),
    #[error("the host's copy of component {}: {why}", .component.short())]
    /// `is_lost`: it is gone or damaged, and no other try would find it.
    ComponentFile { component: ComponentHash, why: String, is_lost: bool },
    #[error("{0:?} has left the tree")]
    Gone(Name),
}
