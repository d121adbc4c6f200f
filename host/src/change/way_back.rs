//! A template's component was rolled back for all keys: how each of them gets back, and who does not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::error::{ChangeError, with_cause};
use super::probation::Order;
use super::rollout::Rollout;
use super::trial::Outcome;
use super::upgrade::UpgradeRequest;
use crate::base::{ComponentHash, Name};
use crate::record::{By, Why};
use crate::runtime::Shared;
use crate::runtime::worker::Blame;

/// Between two rounds over children that could not be brought back yet.
const AGAIN: Duration = Duration::from_secs(1);

/// Which children do not run what they should.
#[derive(Default)]
pub(super) struct Stayed {
    /// Of the upgrade of all: what it came to.
    upgrade: Option<String>,
    /// Those that cannot go back, and why.
    keys: BTreeMap<Name, String>,
}

impl Rollout {
    /// Which children stay on what they were, and why.
    pub fn note_stayed(&self, which: String) {
        self.stayed.lock().unwrap_or_else(PoisonError::into_inner).upgrade = Some(which);
        // Whoever shows what is wrong looks anew.
        self.changes.nudge();
    }

    /// A key stays on what it was.
    pub(super) fn note_key_stays(&self, key: &Name, why: impl std::fmt::Display) {
        self.stayed.lock().unwrap_or_else(PoisonError::into_inner).keys.insert(key.clone(), why.to_string());
        self.changes.nudge();
    }

    pub fn stayed(&self) -> Option<String> {
        let mut stayed = self.stayed.lock().unwrap_or_else(PoisonError::into_inner);
        // One that got there otherwise, or that left, is not told any more.
        let (registry, target) = (&self.changes.services.registry, self.target());
        stayed.keys.retain(|name, _| registry.get(name).is_some_and(|child| child.status().component != target));
        let keys = stayed.keys.first_key_value().map(|(name, why)| {
            let count = stayed.keys.len();
            format!("{count} of its keys stay on what they were, such as {name:?}: {why}")
        });
        keys.or_else(|| stayed.upgrade.clone())
    }

    /// Brings a child that came too late to what all others are brought to by now.
    pub(super) async fn put_right(&self, child: &Arc<Shared>) {
        let (services, name) = (&self.changes.services, child.name());
        let template = name.parent().and_then(|supervisor| services.templates.get(&supervisor));
        // Where the template is gone, so are its children.
        let Some(to) = template.map(|template| template.target()) else { return };
        // What is not on it any more is seen to by what came in its place.
        if child.status().component != self.newest || self.newest == to {
            return;
        }
        if let Err(why) = self.bring(child.clone(), to).await {
            self.note_key_stays(name, why);
        }
    }

    /// Back goes all, whatever `to` exports less, and without probation. The error says why the child stays; what passes is
    /// none.
    async fn bring(&self, worker: Arc<Shared>, to: ComponentHash) -> Result<(), String> {
        let name = worker.name().clone();
        let changes = self.changes.clone();
        let bytes = crate::record::blocking(move || changes.bytes_of(to)).await;
        let Ok(bytes) = bytes else { return Ok(()) };
        let stays = |error: ChangeError| match error {
            ChangeError::CalledOff { blame: Blame::Component, reason, .. } => Err(reason),
            error if error.is_final() => Err(with_cause(&error)),
            _ => Ok(()),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes.into(),
            Err(error) => return stays(error),
        };
        let (by, why, probation) = (By::Host, Why::Rollback, Some(Duration::ZERO));
        let request = UpgradeRequest { worker, bytes, by, why, probation, fewer_exports: true };
        match self.changes.upgrade(request).await {
            Ok(switched) => match switched.outcome.await {
                Ok(Outcome::RolledBack { why, .. }) => Err(why),
                _ => Ok(()),
            },
            Err(ChangeError::UnderWay { .. }) => {
                // Where it is not in probation on it, the next round finds it.
                let _ = self.changes.order(&name, Order::Withdraw(self.newest)).await;
                Ok(())
            }
            Err(error) => stays(error),
        }
    }

    /// Until no child is left on it that can leave it, or the file has changed.
    pub(super) async fn bring_back(self: Arc<Self>, to: ComponentHash) {
        loop {
            let stays =
                |name: &Name| self.stayed.lock().unwrap_or_else(PoisonError::into_inner).keys.contains_key(name);
            let left = self.children_on(self.newest).into_iter().filter(|child| !stays(child.name()));
            let left: Vec<Arc<Shared>> = left.collect();
            if left.is_empty() {
                return;
            }
            for worker in left {
                if self.is_retired() || self.changes.is_stopping() {
                    return;
                }
                if worker.status().component != self.newest {
                    continue;
                }
                let name = worker.name().clone();
                // The events say more; it serves on.
                if let Err(why) = self.bring(worker, to).await {
                    self.note_key_stays(&name, why);
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
