//! Brings all keys of a template back after its component was rolled back, and keeps which of them cannot go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
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
    /// Those that stay.
    keys: BTreeMap<Name, Stays>,
}

struct Stays {
    on: ComponentHash,
    why: String,
    /// No other try would help.
    for_good: bool,
}

impl Rollout {
    /// Which children stay on what they were, and why.
    pub fn note_stayed(&self, which: String) {
        self.lock_stayed().upgrade = Some(which);
        // Findings are published at the next look.
        self.changes.nudge();
    }

    /// A key stays on what it runs.
    pub(super) fn note_key_stays(&self, key: &Name, why: impl std::fmt::Display) {
        self.note_key(key, why.to_string(), true);
    }

    fn note_key(&self, key: &Name, why: String, for_good: bool) {
        let Some(child) = self.changes.services.registry.get(key) else { return };
        self.lock_stayed().keys.insert(key.clone(), Stays { on: child.status().component, why, for_good });
        self.changes.nudge();
    }

    fn lock_stayed(&self) -> MutexGuard<'_, Stayed> {
        self.stayed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stayed(&self) -> Option<String> {
        let mut stayed = self.lock_stayed();
        // Drop keys that run another component by now, or have left.
        let registry = &self.changes.services.registry;
        let is_on = |name: &Name, on| registry.get(name).is_some_and(|child| child.status().component == on);
        stayed.keys.retain(|name, stays| is_on(name, stays.on));
        let keys = stayed.keys.first_key_value().map(|(name, Stays { why, .. })| {
            let count = stayed.keys.len();
            format!("{count} of its keys stay on what they were, such as {name:?}: {why}")
        });
        keys.or_else(|| stayed.upgrade.clone())
    }

    /// Brings a child that came too late to what all others are brought to by now.
    pub(super) async fn put_right(self: &Arc<Self>, child: &Arc<Shared>) {
        let (services, name) = (&self.changes.services, child.name());
        let template = name.parent().and_then(|supervisor| services.templates.get(&supervisor));
        // Where the template is gone, so are its children.
        let Some((to, file)) = template.map(|template| (template.target(), template.component())) else { return };
        // The rollout that replaced this one takes care of keys on other components.
        if child.status().component != self.newest || self.newest == to {
            return;
        }
        // What another file wants is an upgrade as any other, which a key may have refused before.
        let goes_back = !self.is_retired() || to != file;
        if !goes_back && self.changes.is_rejected(name, to) {
            return;
        }
        match self.bring(child.clone(), to, goes_back).await {
            Brought::Stays(why) => self.note_key(name, why, true),
            Brought::Passing(why) => self.note_key(name, why, false),
            Brought::Done => {}
        }
        // Whatever was in the way may pass; with nobody left this does nothing.
        if !self.is_retired() {
            self.clone().bring_back(to).await;
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

    /// Until no child is left on it that can leave it, or the file has changed. One such loop at a time.
    pub(super) async fn bring_back(self: Arc<Self>, to: ComponentHash) {
        while !self.left_behind(to).is_empty() && !self.brings_back.swap(true, SeqCst) {
            let loop_ends = Flag(&self.brings_back);
            self.bring_all(to).await;
            // A key that came meanwhile found the flag set. The condition above sees it.
            drop(loop_ends);
            if self.is_retired() || self.changes.is_stopping() {
                return;
            }
        }
    }

    /// Children on it that another try may help. A key on which an operator put it since stays.
    fn left_behind(&self, to: ComponentHash) -> Vec<Arc<Shared>> {
        let all = self.children_on(self.newest);
        let stayed = self.lock_stayed();
        let stays = |name: &Name| stayed.keys.get(name).is_some_and(|stays| stays.for_good && stays.on == self.newest);
        let mut left: Vec<Arc<Shared>> = all.into_iter().filter(|child| !stays(child.name())).collect();
        drop(stayed);
        left.retain(|child| !self.is_overridden(child.name(), to));
        left
    }

    /// A key that cannot be looked up counts as not overridden.
    fn is_overridden(&self, key: &Name, to: ComponentHash) -> bool {
        let record = self.changes.services.database.worker(key).ok().flatten();
        record.is_some_and(|record| record.overrides_any_of(&[self.newest, to]))
    }

    async fn bring_all(&self, to: ComponentHash) {
        let mut pause = AGAIN;
        loop {
            let left = self.left_behind(to);
            if left.is_empty() {
                return;
            }
            for worker in left {
                if self.is_retired() || self.changes.is_stopping() {
                    return;
                }
                if worker.status().component != self.newest || self.is_overridden(worker.name(), to) {
                    continue;
                }
                let name = worker.name().clone();
                // The events say more; it serves on.
                match self.bring(worker, to, true).await {
                    Brought::Stays(why) => self.note_key(&name, why, true),
                    Brought::Passing(why) => self.note_key(&name, why, false),
                    Brought::Done => {}
                }
            }
            tokio::time::sleep(pause).await;
            // Each try is written down: what passes is not tried more often than it may pass.
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }
}

/// Cleared when dropped, also by a panic.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
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
