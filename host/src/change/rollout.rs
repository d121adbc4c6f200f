//! A newer component of a template, from its first try on: which component new keys start on meanwhile.
//!
//! ```text
//!              a child passed probation on it           no new key failed on it for as long
//!   trying --------------------------------> committed -----------------------------------> committed for good
//!     |                                          |
//!     |  it failed on a new key                  |  it failed on a new key
//!     +---------------------+--------------------+
//!                           v
//!                      rolled back: all keys are on the one before again
//! ```
//!
//! A key that is new has no state that could be at fault, so what fails on it is the component's. Children that were there
//! before are upgraded one by one, and each is rolled back for itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::ChangeError;
use super::probation::BY_OPERATOR;
use super::trial::Outcome;
use super::under_way::{Changes, Switched};
use super::upgrade::UpgradeRequest;
use crate::base::{ComponentHash, ExitReason, Name, bounds};
use crate::record::{Action, By, Change, Event, TemplateRecord, Why};
use crate::runtime::Shared;
use crate::runtime::worker::Blame;

/// Between two rounds over children that could not be brought back yet.
const AGAIN: Duration = Duration::from_secs(1);

pub struct Rollout {
    changes: Changes,
    /// The name of the template's file.
    template: Name,
    newest: ComponentHash,
    /// How long new keys are watched once it is committed: as long as a child's probation.
    probation: Duration,
    stage: Mutex<Stage>,
}

#[derive(Clone, Debug)]
enum Stage {
    Trying {
        before: ComponentHash,
    },
    /// `watched`: while it is watched, keys that started on it first, and what was before.
    Committed {
        watched: Option<Watched>,
    },
    RolledBack {
        to: ComponentHash,
        why: String,
    },
}

#[derive(Clone, Debug)]
struct Watched {
    before: ComponentHash,
    fresh: HashSet<Name>,
}

impl Rollout {
    /// A component of which nothing is to be tried: the first of its template, or the one that serves already.
    pub fn committed(changes: &Changes, template: &Name, newest: ComponentHash) -> Arc<Rollout> {
        let rollout = Rollout::new(changes, template, newest, Duration::ZERO, Stage::Committed { watched: None });
        rollout.write(newest, None, Vec::new());
        Arc::new(rollout)
    }

    /// New keys start on `before` until it is committed.
    pub fn trying(
        changes: &Changes,
        template: &Name,
        newest: ComponentHash,
        before: ComponentHash,
        probation: Duration,
    ) -> Arc<Rollout> {
        let rollout = Rollout::new(changes, template, newest, probation, Stage::Trying { before });
        rollout.write(before, None, Vec::new());
        Arc::new(rollout)
    }

    /// It was rolled back before, and the file is the same.
    pub fn rolled_back(changes: &Changes, template: &Name, newest: ComponentHash, to: ComponentHash) -> Arc<Rollout> {
        let why = "it was rolled back before".to_string();
        Arc::new(Rollout::new(changes, template, newest, Duration::ZERO, Stage::RolledBack { to, why }))
    }

    fn new(changes: &Changes, template: &Name, newest: ComponentHash, probation: Duration, stage: Stage) -> Rollout {
        let (changes, template) = (changes.clone(), template.clone());
        Rollout { changes, template, newest, probation, stage: Mutex::new(stage) }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What new keys start on.
    pub fn serving(&self) -> ComponentHash {
        match &*self.stage() {
            Stage::Trying { before } => *before,
            Stage::Committed { .. } => self.newest,
            Stage::RolledBack { to, .. } => *to,
        }
    }

    /// What keys that have another are upgraded to.
    pub fn target(&self) -> ComponentHash {
        match &*self.stage() {
            Stage::Trying { .. } | Stage::Committed { .. } => self.newest,
            Stage::RolledBack { to, .. } => *to,
        }
    }

    pub fn is_trying(&self) -> bool {
        matches!(&*self.stage(), Stage::Trying { .. })
    }

    /// Why it was rolled back, and to what.
    pub fn fell(&self) -> Option<(ComponentHash, String)> {
        match &*self.stage() {
            Stage::RolledBack { to, why } => Some((*to, why.clone())),
            _ => None,
        }
    }

    /// What became of a child's upgrade to it. `is_new`: the child is a key that has nothing else that could be at fault.
    pub async fn hear(self: &Arc<Self>, upgraded: Result<Switched, ChangeError>, is_new: bool) {
        if !self.is_trying() {
            return;
        }
        match upgraded {
            Ok(switched) => match switched.outcome.await {
                Ok(Outcome::Committed { .. }) => self.commit(),
                Ok(Outcome::RolledBack { why, .. }) if is_new && why != BY_OPERATOR => {
                    self.roll_back(format!("it failed on a new key: {why}"));
                }
                // An error means that the host is stopping.
                Ok(Outcome::RolledBack { .. }) | Err(_) => {}
            },
            Err(ChangeError::CalledOff { blame: Blame::Component, reason, .. }) if is_new => {
                self.roll_back(format!("it failed on a new key: {reason}"));
            }
            Err(_) => {}
        }
    }

    /// A key starts on it that never had another.
    pub(super) fn note_fresh(&self, key: &Name) {
        if let Stage::Committed { watched: Some(watched) } = &mut *self.stage()
            && watched.fresh.len() < bounds::FRESH_KEYS_WATCHED
        {
            watched.fresh.insert(key.clone());
        }
    }

    /// A child has passed its probation on it.
    pub fn commit(self: &Arc<Self>) {
        {
            let mut stage = self.stage();
            let Stage::Trying { before } = *stage else { return };
            let watched = (!self.probation.is_zero()).then(|| Watched { before, fresh: HashSet::new() });
            *stage = Stage::Committed { watched };
        }
        let detail = "new keys start on it".to_string();
        let entry = self.changes.entry(&self.template, Action::UpgradeCommitted, Some(self.newest), By::Host, detail);
        self.write(self.newest, None, vec![entry]);
        let event = Event::TemplateCommitted { name: self.template.clone(), component: self.newest };
        self.changes.services.recorder.emit(event);
        let (rollout, recorder) = (self.clone(), self.changes.services.recorder.clone());
        if !self.probation.is_zero() {
            tokio::spawn(
                async move { recorder.watched("the watch over new keys of a template", rollout.watch()).await },
            );
        }
    }

    /// Until no new key has failed on it for long enough.
    async fn watch(self: Arc<Self>) {
        let mut events = self.changes.services.recorder.events().follow_new();
        let over = tokio::time::sleep(self.probation);
        tokio::pin!(over);
        let failed = loop {
            let event = tokio::select! {
                biased;
                () = &mut over => break None,
                () = self.changes.stopped() => break None,
                event = events.next() => event,
            };
            // What it missed is not held against the component.
            let Ok(event) = event else { continue };
            let (worker, reason) = match &event.item {
                Event::WorkerStartFailed { worker, reason, .. } | Event::WorkerExited { worker, reason, .. } => {
                    (worker, reason)
                }
                _ => continue,
            };
            if is_of_the_component(reason) && self.is_fresh(worker) {
                break Some(format!("it failed on the new key {worker:?}: {reason}"));
            }
        };
        match failed {
            Some(why) => self.roll_back(why),
            None => {
                if let Stage::Committed { watched } = &mut *self.stage() {
                    *watched = None;
                }
            }
        }
    }

    fn is_fresh(&self, key: &Name) -> bool {
        matches!(&*self.stage(), Stage::Committed { watched: Some(watched) } if watched.fresh.contains(key))
    }

    /// It failed on a new key: all go back, and it is not tried again until the file changes.
    pub(super) fn roll_back(self: &Arc<Self>, why: String) {
        let to = {
            let mut stage = self.stage();
            let to = match &*stage {
                Stage::Trying { before } | Stage::Committed { watched: Some(Watched { before, .. }) } => *before,
                Stage::Committed { watched: None } | Stage::RolledBack { .. } => return,
            };
            *stage = Stage::RolledBack { to, why: why.clone() };
            to
        };
        let entry = self.changes.entry(
            &self.template,
            Action::RolledBack,
            Some(self.newest),
            By::Host,
            format!("for all keys: {why}"),
        );
        self.write(to, Some(self.newest), vec![entry]);
        let (name, component) = (self.template.clone(), self.newest);
        self.changes.services.recorder.emit(Event::TemplateRolledBack { name, component, to, why });
        let (rollout, recorder) = (self.clone(), self.changes.services.recorder.clone());
        tokio::spawn(
            async move { recorder.watched("the way back of a template's children", rollout.bring_back(to)).await },
        );
        // Whoever shows what is wrong looks anew.
        self.changes.nudge();
    }

    /// Until no child is left on it, or the file has changed.
    async fn bring_back(self: Arc<Self>, to: ComponentHash) {
        let bytes = crate::record::blocking({
            let changes = self.changes.clone();
            move || changes.bytes_of(to)
        });
        let Ok(Ok(bytes)) = bytes.await else { return };
        let bytes = bytes::Bytes::from(bytes);
        let mut refused: HashSet<Name> = HashSet::new();
        loop {
            let left = self.children_on_it().into_iter().filter(|child| !refused.contains(child.name()));
            let left: Vec<Arc<Shared>> = left.collect();
            if left.is_empty() || !self.is_in_force() {
                return;
            }
            for worker in left {
                let name = worker.name().clone();
                let (by, why, probation) = (By::Host, Why::Rollback, Some(Duration::ZERO));
                let request = UpgradeRequest { worker, bytes: bytes.clone(), by, why, probation, fewer_exports: false };
                match self.changes.upgrade(request).await {
                    // Its own probation has its verdict first.
                    Ok(_)
                    | Err(ChangeError::UnderWay { .. } | ChangeError::SameComponent { .. } | ChangeError::Gone(_)) => {}
                    Err(ChangeError::Stopping) => return,
                    // The events say why; it serves on.
                    Err(_) => drop(refused.insert(name)),
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn children_on_it(&self) -> Vec<Arc<Shared>> {
        let services = &self.changes.services;
        services.making_is_done();
        let supervisor = self.template.parent();
        let all = services.registry.all().into_iter();
        all.filter(|worker| worker.name().parent() == supervisor && worker.status().component == self.newest).collect()
    }

    fn is_in_force(&self) -> bool {
        let template = self.template.parent().and_then(|supervisor| self.changes.services.templates.get(&supervisor));
        template.is_some_and(|template| template.component() == self.newest)
    }

    /// Nobody waits for the disk: what is not written, a host that dies finds as it was before.
    fn write(&self, serving: ComponentHash, refused: Option<ComponentHash>, mut changes: Vec<Change>) {
        changes.push(Change::PutTemplate(self.template.clone(), TemplateRecord { serving, refused }));
        if let Err(error) = self.changes.services.database.submit(changes) {
            let what = "write which component a template is on";
            self.changes.services.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
        }
    }
}

/// Not of an operator, nor of the host.
fn is_of_the_component(reason: &ExitReason) -> bool {
    !reason.is_orderly() && *reason != ExitReason::Killed && !reason.is_host_fault()
}
