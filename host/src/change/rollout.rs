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
//! A new key has no state that could be at fault. The component is at fault if one new key does not start, or if two fail
//! later. A single failure may come from a message that no component could handle. Existing children are upgraded one by
//! one, and each is rolled back alone.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::probation::{BY_OPERATOR, Order, STOPPED};
use super::reconcile::{Goal, Reconciler};
use super::trial::Outcome;
use super::under_way::{Changes, Switched};
use crate::base::{ComponentHash, ExitReason, Failure, Name, bounds};
use crate::record::{Action, By, Change, DatabaseError, Event, Follower, TemplateRecord};
use crate::runtime::Shared;
use crate::runtime::worker::Blame;

pub struct Rollout {
    changes: Changes,
    /// What brings keys to its [`Rollout::target`]. It has this one.
    reconciler: Weak<Reconciler>,
    /// The name of the template's file.
    template: Name,
    newest: ComponentHash,
    /// Those before that were rolled back for all keys, the newest last.
    refused: Vec<ComponentHash>,
    /// It was what served when it became the file.
    served_before: bool,
    /// How long new keys are watched once it is committed: as long as a child's probation.
    probation: Duration,
    stage: Mutex<Stage>,
    /// New keys that failed on it after their start.
    failed: Mutex<HashSet<Name>>,
    /// New keys to which the component before said no.
    unstarted: Mutex<HashSet<Name>>,
    /// What is to be written once the database has room, beside the stage itself.
    unwritten: Mutex<Option<Vec<Change>>>,
    /// The file is another by now: this one decides nothing any more.
    is_retired: AtomicBool,
}

/// A component that is to be a template's.
pub struct Candidate<'a> {
    pub changes: &'a Changes,
    pub reconciler: &'a Arc<Reconciler>,
    pub template: &'a Name,
    pub newest: ComponentHash,
    /// The rollout of the file before.
    pub before: Option<&'a Rollout>,
}

/// So many refused components are remembered: keys leave them without probation.
const REFUSED_MAX: usize = 16;

/// New keys that must fail before the component is at fault. One alone may have received a message that no component could
/// handle. A start handles no message, so one failed start is enough.
const FAILED_KEYS: usize = 2;

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
    pub fn committed(candidate: Candidate) -> Arc<Rollout> {
        let rollout = Rollout::new(candidate, Duration::ZERO, Stage::Committed { watched: None });
        rollout.write(&rollout.stage(), Vec::new());
        rollout
    }

    /// It served already when it became the file: as after a way back, where the file before is put back.
    pub fn serves_already(candidate: Candidate) -> Arc<Rollout> {
        let rollout = Rollout::with(candidate, Duration::ZERO, Stage::Committed { watched: None }, true);
        rollout.write(&rollout.stage(), Vec::new());
        rollout
    }

    /// New keys start on `before` until it is committed.
    pub fn trying(candidate: Candidate, before: ComponentHash, probation: Duration) -> Arc<Rollout> {
        let rollout = Rollout::new(candidate, probation, Stage::Trying { before });
        rollout.write(&rollout.stage(), Vec::new());
        rollout
    }

    /// It stands in for a file that cannot be taken: what is known of that holds.
    pub fn as_it_was(candidate: Candidate) -> Arc<Rollout> {
        Rollout::new(candidate, Duration::ZERO, Stage::Committed { watched: None })
    }

    /// It was committed, and the host ended while new keys were watched.
    pub fn watched(candidate: Candidate, before: ComponentHash, probation: Duration) -> Arc<Rollout> {
        let stage = Stage::Committed { watched: Some(Watched { before, fresh: HashSet::new() }) };
        let rollout = Rollout::new(candidate, probation, stage);
        rollout.begin_watch();
        rollout
    }

    /// It was rolled back before, and the file is the same.
    pub fn rolled_back(candidate: Candidate, to: ComponentHash) -> Arc<Rollout> {
        let why = "it was rolled back before".to_string();
        Rollout::new(candidate, Duration::ZERO, Stage::RolledBack { to, why })
    }

    fn new(candidate: Candidate, probation: Duration, stage: Stage) -> Arc<Rollout> {
        Rollout::with(candidate, probation, stage, false)
    }

    fn with(candidate: Candidate, probation: Duration, stage: Stage, served_before: bool) -> Arc<Rollout> {
        let Candidate { changes, reconciler, template, newest, before } = candidate;
        let mut refused = before.map(|before| before.goal().refused).unwrap_or_default();
        refused.retain(|refused| *refused != newest);
        refused.drain(..refused.len().saturating_sub(REFUSED_MAX));
        let (changes, template) = (changes.clone(), template.clone());
        let (failed, unstarted, unwritten, is_retired) = Default::default();
        Arc::new(Rollout {
            changes,
            reconciler: Arc::downgrade(reconciler),
            template,
            newest,
            refused,
            served_before,
            probation,
            stage: Mutex::new(stage),
            failed,
            unstarted,
            unwritten,
            is_retired,
        })
    }

    /// Another file has taken its place.
    pub fn retire(&self) {
        // Under the lock: what is being decided is decided before.
        let _stage = self.stage();
        self.is_retired.store(true, SeqCst);
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

    /// What its keys are to run.
    pub(super) fn goal(&self) -> Goal {
        let (file, mut refused) = (self.newest, self.refused.clone());
        let (to, serves) = match &*self.stage() {
            Stage::Trying { before } => (file, Some(*before)),
            Stage::Committed { .. } => (file, self.served_before.then_some(file)),
            Stage::RolledBack { to, .. } => {
                refused.push(file);
                (*to, Some(*to))
            }
        };
        // Where it serves again, it is not left.
        refused.retain(|refused| *refused != to);
        Goal { to, file, serves, refused }
    }

    /// A key is about to start on another component than the target. `is_new`: nothing of its own could be at fault.
    pub(super) fn expect(&self, key: &Name, is_new: bool) {
        if let Some(reconciler) = self.reconciler.upgrade() {
            reconciler.expect(key, is_new);
        }
    }

    /// Why it was rolled back, and to what.
    pub fn fell(&self) -> Option<(ComponentHash, String)> {
        match &*self.stage() {
            Stage::RolledBack { to, why } => Some((*to, why.clone())),
            _ => None,
        }
    }

    /// What becomes of a child that has switched. `is_new`: the child is a key that has nothing of its own that could be at
    /// fault but its messages.
    pub(super) async fn hear(self: &Arc<Self>, child: &Arc<Shared>, switched: Switched, is_new: bool) {
        let (key, to, has_run) = (child.name(), switched.to, switched.pause.is_some());
        let reconciler = self.reconciler.upgrade();
        if self.is_retired() || to != self.target() {
            if self.is_retired() {
                // It was on its way there when another file came.
                let _ = self.changes.order(key, Order::Supersede(to)).await;
            }
            reconciler.iter().for_each(|reconciler| reconciler.add(key));
        }
        // A child that ended normally has finished its work.
        let has_ended = || child.status().last_exit == Some(ExitReason::Normal);
        // The verdict alone is kept: what else an upgrade tells are two states, and a probation may last a day.
        match outcome_of(switched).await {
            // One that did not run, or was stopped, has not passed anything.
            Ok(Outcome::Committed { why }) if has_run && (why != STOPPED || has_ended()) => {
                reconciler.iter().for_each(|reconciler| reconciler.succeeded(key));
                self.commit(to);
            }
            Ok(Outcome::RolledBack { why, blame, .. }) if why != BY_OPERATOR => {
                if is_new && blame == Blame::Component {
                    self.failed_on(key, &why);
                }
                match blame {
                    // It is nobody's any more where all went back, or another file came.
                    _ if self.is_retired() || to != self.target() => reconciler.iter().for_each(|it| it.add(key)),
                    Blame::Nobody => reconciler.iter().for_each(|it| it.add_later(child, to, why.clone())),
                    Blame::Component | Blame::Running => {
                        reconciler.iter().for_each(|it| it.failed(child, to, format!("rolled back: {why}")));
                    }
                }
            }
            // An error means that the host is stopping.
            Ok(_) | Err(_) => {}
        }
    }

    pub fn is_retired(&self) -> bool {
        self.is_retired.load(SeqCst)
    }

    /// A new key failed on it after its start.
    fn failed_on(self: &Arc<Self>, key: &Name, why: &str) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(key.clone());
        if failed.len() >= FAILED_KEYS {
            let keys = failed.len();
            drop(failed);
            self.roll_back(format!("it failed on {keys} new keys, the last {key:?}: {why}"));
        }
    }

    /// A new key could not be started on the component before: there is nothing to go back to.
    pub(super) fn has_no_way_back(self: &Arc<Self>, key: &Name, reason: &ExitReason) {
        let before = self.serving();
        // What its `init` says no to may be the key's name or configuration.
        let is_refused = matches!(reason, ExitReason::Failed(Failure::Refused { .. }));
        if is_refused {
            let mut unstarted = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner);
            if unstarted.len() < FAILED_KEYS {
                unstarted.insert(key.clone());
            }
            if unstarted.len() < FAILED_KEYS {
                return;
            }
        }
        // Where others run on it, the key itself is what it cannot be started with.
        if !reason.is_of_the_component() || self.children_on(before).iter().any(|child| child.status().standing.is_up())
        {
            return;
        }
        self.take_unwatched(before, "they do not on the one before");
    }

    /// A component cannot be loaded any more. Where new keys would start on it, they cannot go back to it either.
    pub(super) fn has_lost(self: &Arc<Self>, component: ComponentHash, why: &str) {
        self.take_unwatched(component, &format!("the one before cannot be loaded: {why}"));
    }

    fn take_unwatched(self: &Arc<Self>, in_place_of: ComponentHash, why: &str) {
        let mut stage = self.stage();
        let is_before = matches!(*stage, Stage::Trying { before } if before == in_place_of);
        if is_before && !self.is_retired() {
            *stage = Stage::Committed { watched: None };
            self.say_committed(&stage, format!("new keys start on it: {why}"));
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

    /// A child has passed its probation.
    fn commit(self: &Arc<Self>, on: ComponentHash) {
        let mut stage = self.stage();
        let Stage::Trying { before } = *stage else { return };
        if self.is_retired() || on != self.newest {
            return;
        }
        let watched = (!self.probation.is_zero()).then(|| Watched { before, fresh: HashSet::new() });
        *stage = Stage::Committed { watched };
        // First of all: no key that starts on it fails unseen.
        self.begin_watch();
        self.say_committed(&stage, "new keys start on it".to_string());
    }

    fn say_committed(self: &Arc<Self>, stage: &Stage, detail: String) {
        let entry = self.changes.entry(&self.template, Action::UpgradeCommitted, Some(self.newest), By::Host, detail);
        self.write(stage, vec![entry]);
        let event = Event::TemplateCommitted { name: self.template.clone(), component: self.newest };
        self.changes.services.recorder.emit(event);
    }

    fn begin_watch(self: &Arc<Self>) {
        if !self.probation.is_zero() {
            let (rollout, recorder) = (self.clone(), self.changes.services.recorder.clone());
            let events = recorder.events().follow_new();
            tokio::spawn(async move {
                recorder.watched("the watch over new keys of a template", rollout.watch(events)).await
            });
        }
    }

    /// Until no new key has failed on it for long enough.
    async fn watch(self: Arc<Self>, mut events: Follower<Event>) {
        let over = tokio::time::sleep(self.probation);
        tokio::pin!(over);
        loop {
            let event = tokio::select! {
                biased;
                () = &mut over => break,
                () = self.changes.stopped() => return,
                event = events.next() => event,
            };
            if !self.is_watched() {
                return;
            }
            // What it missed is not held against the component.
            let Ok(event) = event else { continue };
            match &event.item {
                Event::WorkerStartFailed { worker, reason, .. }
                    if reason.is_of_the_component() && self.is_fresh(worker) =>
                {
                    // What its `init` says no to may be its name or its configuration.
                    if matches!(reason, ExitReason::Failed(Failure::Refused { .. })) {
                        self.failed_on(worker, &reason.to_string());
                        continue;
                    }
                    self.roll_back(format!("the new key {worker:?} did not start on it: {reason}"));
                }
                Event::WorkerExited { worker, reason, .. } if reason.is_of_the_component() && self.is_fresh(worker) => {
                    self.failed_on(worker, &reason.to_string());
                }
                _ => {}
            }
        }
        let mut stage = self.stage();
        if let Stage::Committed { watched } = &mut *stage
            && !self.is_retired()
        {
            *watched = None;
            self.write(&stage, Vec::new());
        }
    }

    fn is_watched(&self) -> bool {
        matches!(&*self.stage(), Stage::Committed { watched: Some(_) }) && !self.is_retired()
    }

    fn is_fresh(&self, key: &Name) -> bool {
        matches!(&*self.stage(), Stage::Committed { watched: Some(watched) } if watched.fresh.contains(key))
    }

    /// It failed on a new key: all go back, and it is not tried again until the file changes.
    pub(super) fn roll_back(self: &Arc<Self>, why: String) {
        let mut stage = self.stage();
        let to = match &*stage {
            Stage::Trying { before } | Stage::Committed { watched: Some(Watched { before, .. }) } => *before,
            Stage::Committed { watched: None } | Stage::RolledBack { .. } => return,
        };
        if self.is_retired() {
            return;
        }
        *stage = Stage::RolledBack { to, why: why.clone() };
        let detail = format!("for all keys: {why}");
        let entry = self.changes.entry(&self.template, Action::RolledBack, Some(self.newest), By::Host, detail);
        self.write(&stage, vec![entry]);
        drop(stage);
        let (name, component) = (self.template.clone(), self.newest);
        self.changes.services.recorder.emit(Event::TemplateRolledBack { name, component, to, why });
        if let Some(reconciler) = self.reconciler.upgrade() {
            reconciler.look_at_all();
        }
        // Whoever shows what is wrong looks anew.
        self.changes.nudge();
    }

    pub(super) fn children_on(&self, component: ComponentHash) -> Vec<Arc<Shared>> {
        let services = &self.changes.services;
        services.making_is_done();
        let supervisor = self.template.parent();
        let all = services.registry.all().into_iter();
        all.filter(|worker| worker.name().parent() == supervisor && worker.status().component == component).collect()
    }

    /// Nobody waits for the disk: what is not written, a host that dies finds as it was before. `stage`: as it is, and
    /// locked, so that what is decided later is written later.
    fn write(self: &Arc<Self>, stage: &Stage, changes: Vec<Change>) {
        let (serving, refused, before) = match stage {
            Stage::Trying { before } => (*before, None, None),
            Stage::Committed { watched } => (self.newest, None, watched.as_ref().map(|watched| watched.before)),
            Stage::RolledBack { to, .. } => (*to, Some(self.newest), None),
        };
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        let late = unwritten.take();
        let is_late = late.is_some();
        let all: Vec<Change> = late.into_iter().flatten().chain(changes).collect();
        let record = TemplateRecord { serving, refused, before };
        let with_record = all.iter().cloned().chain([Change::PutTemplate(self.template.clone(), record)]).collect();
        let Err(error) = self.changes.services.database.submit(with_record) else { return };
        if !matches!(error, DatabaseError::QueueFull) {
            let what = "write which component a template is on";
            return self.changes.services.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
        }
        // A burst of new keys fills the queue, and is when they fail as well.
        *unwritten = Some(all);
        if !is_late {
            let rollout = self.clone();
            tokio::spawn(async move { rollout.write_late().await });
        }
    }

    /// Whenever there is room, what is so by then.
    async fn write_late(self: Arc<Self>) {
        // Waits its turn in the queue.
        while self.changes.services.database.commit(self.late_entries()).await.is_ok() && !self.is_written() {}
    }

    /// Where another file has taken its place, its decisions are told all the same.
    fn late_entries(&self) -> Vec<Change> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        let late = unwritten.take_if(|_| self.is_retired());
        late.unwrap_or_default()
    }

    fn is_written(self: &Arc<Self>) -> bool {
        let stage = self.stage();
        let is_due = || self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_due() && !self.is_retired() {
            self.write(&stage, Vec::new());
        }
        !is_due()
    }
}

/// The verdict alone: what else an upgrade tells are two states, and a probation may last a day.
fn outcome_of(switched: Switched) -> tokio::sync::oneshot::Receiver<Outcome> {
    switched.outcome
}
