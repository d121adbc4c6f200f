//! An upgrade that the directory asked for.

use std::sync::Arc;

use crate::base::ComponentHash;
use crate::change::{ChangeError, Changes, UpgradeRequest};
use crate::record::{By, Change, Event, RejectedRecord, Why};
use crate::runtime::worker::Blame;
use crate::runtime::{Services, Shared, Standing, Tree};

/// An upgrade by the directory, in a task of its own.
pub(super) struct Upgrading {
    pub worker: Arc<Shared>,
    pub path: String,
    pub hash: ComponentHash,
    pub services: Arc<Services>,
    pub tree: Arc<Tree>,
    pub changes: Changes,
}

impl Upgrading {
    pub async fn run(self, bytes: Vec<u8>) {
        let worker = self.worker.clone();
        let request = UpgradeRequest {
            worker,
            bytes: bytes.into(),
            by: By::Directory,
            why: Why::Upgrade,
            probation: None,
            fewer_exports: false,
        };
        match self.changes.upgrade(request).await {
            Ok(_) => {
                // One that an operator stopped, or that ended as it should, stays so.
                if matches!(self.worker.status().standing, Standing::Isolated(_) | Standing::Restarting) {
                    // That it runs already is no error here.
                    let _ = self.tree.retry_child(self.worker.name()).await;
                }
            }
            // Its turn comes when the other has ended.
            Err(ChangeError::UnderWay { .. } | ChangeError::SameComponent { .. }) => {}
            // The file cannot become this worker: it is not tried again until it changes.
            Err(
                error @ (ChangeError::Component(_)
                | ChangeError::CalledOff { blame: Blame::Component | Blame::Running, .. }),
            ) => self.reject(&error).await,
            // Tried again, after a while.
            Err(ChangeError::CalledOff { .. } | ChangeError::Stopping) => {}
            Err(error) => self.problem(error.to_string()),
        }
    }

    async fn reject(&self, error: &ChangeError) {
        let why = match error {
            ChangeError::CalledOff { phase, reason, .. } => format!("called off while it was {phase}: {reason}"),
            ChangeError::Component(error) => error.to_string(),
            other => other.to_string(),
        };
        let record = RejectedRecord { component: self.hash, at: self.services.clock.timestamp(), why: why.clone() };
        let rejected = vec![Change::Reject(self.worker.name().clone(), record)];
        if let Err(error) = self.services.database.commit(rejected).await {
            self.services
                .recorder
                .emit(Event::DatabaseFailed { what: "remember a rejection", error: error.to_string() });
        }
        // One that was called off after it was verified has told so itself.
        if !matches!(error, ChangeError::CalledOff { revision, .. } if revision.0 > 0) {
            self.problem(why);
        }
    }

    fn problem(&self, message: String) {
        let help = "what ran before goes on; the file is not tried again until it changes".to_string();
        self.services.recorder.emit(Event::DirectoryProblem { path: self.path.clone(), message, help });
    }
}
