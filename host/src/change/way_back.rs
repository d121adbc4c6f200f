//! A template's component was rolled back for all keys: how each of them gets back, and who does not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::error::ChangeError;
use super::probation::Order;
use super::rollout::Rollout;
use super::upgrade::UpgradeRequest;
use crate::base::{ComponentHash, Name};
use crate::record::{By, Why};
use crate::runtime::Shared;

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

    /// A key cannot go back.
    pub(super) fn note_key_stays(&self, key: &Name, why: impl std::fmt::Display) {
        self.stayed.lock().unwrap_or_else(PoisonError::into_inner).keys.insert(key.clone(), why.to_string());
        self.changes.nudge();
    }

    pub fn stayed(&self) -> Option<String> {
        let stayed = self.stayed.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = stayed.keys.first_key_value().map(|(name, why)| {
            let count = stayed.keys.len();
            format!("{count} of its keys cannot go back and stay on what they are, such as {name:?}: {why}")
        });
        keys.or_else(|| stayed.upgrade.clone())
    }

    /// Brings a child that came too late to what all others are brought to by now.
    pub(super) async fn put_right(&self, child: &Arc<Shared>) {
        let (services, name) = (&self.changes.services, child.name());
        let template = name.parent().and_then(|supervisor| services.templates.get(&supervisor));
        // Where the template is gone, so are its children.
        let Some(to) = template.map(|template| template.target()) else { return };
        let is_on = child.status().component;
        if is_on == to {
            return;
        }
        // Any other step is an upgrade as any other is.
        let goes_back = is_on == self.newest && !self.is_retired();
        if !goes_back && self.changes.is_rejected(name, to) {
            return;
        }
        if let Err(why) = self.bring(child.clone(), to, goes_back).await
            && goes_back
        {
            self.note_key_stays(name, why);
        }
    }

    /// Back goes all, whatever `to` exports less, and without probation. The error says why the child stays for good.
    async fn bring(&self, worker: Arc<Shared>, to: ComponentHash, goes_back: bool) -> Result<(), ChangeError> {
        let (why, probation) = if goes_back { (Why::Rollback, Some(Duration::ZERO)) } else { (Why::Upgrade, None) };
        let name = worker.name().clone();
        let changes = self.changes.clone();
        let bytes = crate::record::blocking(move || changes.bytes_of(to)).await;
        let bytes = bytes.map_err(|_| ChangeError::Stopping)??.into();
        let request = UpgradeRequest { worker, bytes, by: By::Host, why, probation, fewer_exports: goes_back };
        match self.changes.upgrade(request).await {
            Ok(_) | Err(ChangeError::SameComponent { .. } | ChangeError::Gone(_) | ChangeError::Stopping) => Ok(()),
            // Of another who brings it there; but what is refused meanwhile is withdrawn.
            Err(ChangeError::UnderWay { .. }) if goes_back => {
                let is_there = self.changes.services.registry.get(&name);
                if is_there.is_some_and(|child| child.status().component == self.newest) {
                    // Where it is not in probation any more, the next round finds it.
                    let _ = self.changes.order(&name, Order::Withdraw).await;
                }
                Ok(())
            }
            Err(ChangeError::UnderWay { .. }) => Ok(()),
            Err(error) => Err(error),
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
                if let Err(why) = self.bring(worker, to, true).await {
                    self.note_key_stays(&name, why);
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
