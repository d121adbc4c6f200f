//! A template's component was rolled back for all keys: how each of them gets back, and who does not.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
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
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Which children do not run what they should.
#[derive(Default)]
pub(super) struct Stayed {
    /// Of the upgrade of all: what it came to.
    upgrade: Option<String>,
    /// Those that stay, on what, and why.
    keys: BTreeMap<Name, (ComponentHash, String)>,
}

impl Rollout {
    /// Which children stay on what they were, and why.
    pub fn note_stayed(&self, which: String) {
        self.lock_stayed().upgrade = Some(which);
        // Whoever shows what is wrong looks anew.
        self.changes.nudge();
    }

    /// A key stays on what it runs.
    pub(super) fn note_key_stays(&self, key: &Name, why: impl std::fmt::Display) {
        let Some(child) = self.changes.services.registry.get(key) else { return };
        self.lock_stayed().keys.insert(key.clone(), (child.status().component, why.to_string()));
        self.changes.nudge();
    }

    fn lock_stayed(&self) -> MutexGuard<'_, Stayed> {
        self.stayed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stayed(&self) -> Option<String> {
        let mut stayed = self.lock_stayed();
        // One that runs another since, or that left, is not told any more.
        let registry = &self.changes.services.registry;
        stayed.keys.retain(|name, (on, _)| registry.get(name).is_some_and(|child| child.status().component == *on));
        let keys = stayed.keys.first_key_value().map(|(name, (_, why))| {
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
        // What another file wants is an upgrade as any other, which a key may have refused before.
        let goes_back = !self.is_retired();
        if !goes_back && self.changes.is_rejected(name, to) {
            return;
        }
        match self.bring(child.clone(), to, goes_back).await {
            Brought::Passing(why) | Brought::Stays(why) => self.note_key_stays(name, why),
            Brought::Done => {}
        }
    }

    /// Where it goes back, whatever `to` exports less, and without probation.
    async fn bring(&self, worker: Arc<Shared>, to: ComponentHash, goes_back: bool) -> Brought {
        let name = worker.name().clone();
        let changes = self.changes.clone();
        let bytes = crate::record::blocking(move || changes.bytes_of(to)).await;
        let Ok(bytes) = bytes else { return Brought::Done };
        let bytes = match bytes {
            Ok(bytes) => bytes.into(),
            Err(error) => return Brought::not(&error),
        };
        let (why, probation) = if goes_back { (Why::Rollback, Some(Duration::ZERO)) } else { (Why::Upgrade, None) };
        let request = UpgradeRequest { worker, bytes, by: By::Host, why, probation, fewer_exports: goes_back };
        match self.changes.upgrade(request).await {
            Ok(_) if !goes_back => Brought::Done,
            Ok(switched) => match switched.outcome.await {
                Ok(Outcome::RolledBack { why, blame: Blame::Component, .. }) => Brought::Stays(why),
                Ok(Outcome::RolledBack { why, .. }) => Brought::Passing(why),
                Ok(Outcome::Committed { .. }) | Err(_) => Brought::Done,
            },
            Err(ChangeError::UnderWay { .. }) if goes_back => {
                // Where it is not in probation on it, the next round finds it.
                let _ = self.changes.order(&name, Order::Withdraw(self.newest)).await;
                Brought::Done
            }
            Err(error) => Brought::not(&error),
        }
    }

    /// Until no child is left on it that can leave it, or the file has changed.
    pub(super) async fn bring_back(self: Arc<Self>, to: ComponentHash) {
        let mut pause = AGAIN;
        loop {
            let stays = |name: &Name| self.lock_stayed().keys.contains_key(name);
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
                if let Brought::Stays(why) = self.bring(worker, to, true).await {
                    self.note_key_stays(&name, why);
                }
            }
            tokio::time::sleep(pause).await;
            // Each try is written down: what passes is not tried more often than it may pass.
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }
}

/// What came of a child that is to run another component.
enum Brought {
    Done,
    /// It does not, and another try may.
    Passing(String),
    /// It cannot.
    Stays(String),
}

impl Brought {
    fn not(error: &ChangeError) -> Brought {
        match error {
            ChangeError::SameComponent { .. } | ChangeError::Gone(_) | ChangeError::Stopping => Brought::Done,
            ChangeError::UnderWay { .. } => Brought::Done,
            ChangeError::CalledOff { blame: Blame::Component, reason, .. } => Brought::Stays(reason.clone()),
            ChangeError::CalledOff { reason, .. } => Brought::Passing(reason.clone()),
            error if error.is_final() => Brought::Stays(with_cause(error)),
            error => Brought::Passing(error.to_string()),
        }
    }
}
