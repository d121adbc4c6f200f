//! Brings the keys of a template to the component that the template wants: forward to a newer one, or back from one that was
//! rolled back for all keys.
//!
//! ```text
//!   another file, a way back, a key that starts, a probation that ended
//!                                |
//!                                v
//!                         backlog (pure) --> one task: 16 keys side by side --> step (pure) --> what is done
//!                                ^                                                                |
//!                                +------- wait until it changes, or try again after a pause ------+
//! ```
//!
//! The task is there while there is something to do. It looks at how a key is and not at what happened to it, so that an
//! event which is missed, or comes at a bad time, delays a key and never loses it.

mod backlog;
mod stays;
mod step;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

use self::backlog::{Backlog, WaitsFor};
use self::stays::{Staying, Way, Weight};
pub(super) use self::step::{ChangeView, Goal};
use self::step::{KeyView, Step, step};
use super::error::{ChangeError, with_cause};
use super::probation::Order;
use super::rollout::Rollout;
use super::trial::Outcome;
use super::under_way::{Changes, Switched};
use super::upgrade::UpgradeRequest;
use crate::base::{ComponentHash, Name, Tick};
use crate::record::{By, Event, Follower, Why};
use crate::runtime::worker::Blame;
use crate::runtime::{Shared, Standing, Tree};

/// Keys of one template that are upgraded side by side.
const SIDE_BY_SIDE: usize = 16;

/// Between two looks at all that wait, because some change in the host has ended.
const CHANGES_PAUSE: Duration = Duration::from_millis(200);

/// How long after its start a key is new.
const NEW_TIME: Duration = Duration::from_secs(1);

/// After a fault of the host's own code.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Of one template, from its first file until it is gone.
pub struct Reconciler {
    changes: Changes,
    tree: Arc<Tree>,
    supervisor: Name,
    current: Mutex<Option<Current>>,
    work: Mutex<Work>,
    /// Something is in the backlog that was not.
    added: Notify,
    staying: Mutex<Staying>,
}

#[derive(Clone)]
struct Current {
    rollout: Arc<Rollout>,
    path: PathBuf,
    /// When the file came.
    since: Tick,
}

#[derive(Default)]
struct Work {
    backlog: Backlog,
    /// A task sees to it.
    is_running: bool,
}

/// The bytes that were read last.
type Read = Arc<tokio::sync::Mutex<Option<(ComponentHash, Bytes)>>>;

/// What happens next to a key after a look at it.
enum Next {
    Done,
    Wait(WaitsFor),
    Retry,
    Again,
}

impl Reconciler {
    pub fn new(changes: &Changes, tree: &Arc<Tree>, supervisor: &Name) -> Arc<Reconciler> {
        let (current, work, added, staying) = Default::default();
        let (changes, tree, supervisor) = (changes.clone(), tree.clone(), supervisor.clone());
        Arc::new(Reconciler { changes, tree, supervisor, current, work, added, staying })
    }

    /// Another file. What it means for keys that are there is found by [`Reconciler::look_at_all`].
    pub fn follow(&self, rollout: &Arc<Rollout>, path: PathBuf) {
        let (rollout, since) = (rollout.clone(), self.changes.services.clock.now());
        *locked(&self.current) = Some(Current { rollout, path, since });
        locked(&self.staying).clear();
        locked(&self.work).backlog.begin_anew();
    }

    /// The template is gone.
    pub fn end(&self) {
        *locked(&self.current) = None;
        self.added.notify_one();
    }

    pub fn look_at_all(self: &Arc<Self>) {
        let Some(current) = self.current() else { return };
        locked(&self.staying).clear();
        let services = &self.changes.services;
        services.making_is_done();
        let to = current.rollout.target();
        let all = services.registry.all().into_iter();
        let all = all.filter(|child| child.name().parent().as_ref() == Some(&self.supervisor));
        let other = |child: &Arc<Shared>| child.status().component != to || self.changes.is_under_way(child.name());
        let other: Vec<Arc<Shared>> = all.filter(other).collect();
        self.put(|backlog, _| {
            backlog.begin_anew();
            other.iter().for_each(|child| backlog.add(child.name()));
        });
    }

    pub(super) fn add(self: &Arc<Self>, key: &Name) {
        self.put(|backlog, _| backlog.add(key));
    }

    /// It is about to start. `is_new`: nothing of its own could be at fault where it fails on the template's component.
    pub(super) fn expect(self: &Arc<Self>, key: &Name, is_new: bool) {
        self.put(|backlog, changes| backlog.expect(key, is_new, changes.services.clock.now()));
    }

    /// It went back for a reason that may pass.
    pub(super) fn add_later(self: &Arc<Self>, child: &Shared, to: ComponentHash, why: String) {
        self.note(child.name(), Way { from: child.status().component, to, is_back: false }, why, Weight::Passing);
        self.put(|backlog, changes| backlog.add_later(child.name(), changes.services.clock.now()));
    }

    /// It was rolled back, and is not tried again.
    pub(super) fn failed(self: &Arc<Self>, child: &Shared, to: ComponentHash, why: String) {
        self.note(child.name(), Way { from: child.status().component, to, is_back: false }, why, Weight::ForGood);
        self.add(child.name());
    }

    /// It has passed its probation.
    pub(super) fn succeeded(&self, key: &Name) {
        locked(&self.work).backlog.succeeded(key);
    }

    fn put(self: &Arc<Self>, put: impl FnOnce(&mut Backlog, &Changes)) {
        if self.current().is_none() {
            return;
        }
        let begins = {
            let mut work = locked(&self.work);
            put(&mut work.backlog, &self.changes);
            let begins = !work.is_running && !work.backlog.is_empty();
            work.is_running |= begins;
            // Subscribed before the lock is released, so that no event after this is missed.
            begins.then(|| self.changes.services.recorder.events().follow_new())
        };
        match begins {
            Some(events) => drop(tokio::spawn(self.clone().work(events))),
            None => self.added.notify_one(),
        }
    }

    async fn work(self: Arc<Self>, mut events: Follower<Event>) {
        let recorder = self.changes.services.recorder.clone();
        let what = "the task that brings a template's keys to its component";
        while recorder.watched(what, self.run(events)).await.is_none() {
            // A fault of the host's: what it had in hand is tried again.
            tokio::time::sleep(FAULT_PAUSE).await;
            events = recorder.events().follow_new();
            let (mut work, now) = (locked(&self.work), self.changes.services.clock.now());
            work.backlog.let_go(now);
            work.backlog.wake_all();
        }
    }

    fn current(&self) -> Option<Current> {
        locked(&self.current).clone()
    }

    /// Until nothing is left to do, the template is gone, or the host stops.
    async fn run(self: &Arc<Self>, mut events: Follower<Event>) {
        let mut changed = self.changes.watch();
        let mut in_hand = FuturesUnordered::new();
        // What they are to run, for all of them: nobody keeps it once the task has ended.
        let read = Arc::new(tokio::sync::Mutex::new(None));
        let pause = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(pause);
        loop {
            let Some(current) = self.current() else { return };
            while in_hand.len() < SIDE_BY_SIDE
                && let Some((key, is_new)) = self.next()
            {
                in_hand.push(self.look_at(key, is_new, current.clone(), read.clone()));
            }
            if in_hand.is_empty() {
                self.tell_of_stays(&current);
                if self.is_idle() {
                    return;
                }
            }
            let has_room = in_hand.len() < SIDE_BY_SIDE;
            let (now, next_at) = (self.changes.services.clock.now(), locked(&self.work).backlog.next_at());
            tokio::select! {
                () = self.changes.stopped() => return,
                Some(()) = in_hand.next(), if !in_hand.is_empty() => {}
                () = self.added.notified() => {}
                event = events.next() => match event {
                    Ok(event) => self.hear(&event.item, &current.rollout),
                    // What was missed may have been about any of them.
                    Err(_) => locked(&self.work).backlog.wake_all(),
                },
                _ = changed.changed(), if pause.is_elapsed() => {
                    locked(&self.work).backlog.wake_changes();
                    pause.set(tokio::time::sleep(CHANGES_PAUSE));
                }
                () = &mut pause, if !pause.is_elapsed() => {}
                () = tokio::time::sleep(next_at.unwrap_or(now).since(now)), if next_at.is_some() && has_room => {}
            }
        }
    }

    fn next(&self) -> Option<(Name, bool)> {
        locked(&self.work).backlog.next(self.changes.services.clock.now())
    }

    /// Read again only where it is another one, or could not be read.
    async fn bytes_of(&self, component: ComponentHash, read: &Read) -> Result<Bytes, ChangeError> {
        let mut read = read.lock().await;
        if let Some((_, bytes)) = read.as_ref().filter(|(of, _)| *of == component) {
            return Ok(bytes.clone());
        }
        let changes = self.changes.clone();
        let bytes = crate::record::blocking(move || changes.bytes_of(component)).await;
        let bytes = bytes.map_err(|_| ChangeError::Stopping)?.map(Bytes::from)?;
        *read = Some((component, bytes.clone()));
        Ok(bytes)
    }

    fn tell_of_stays(&self, current: &Current) {
        let (to, registry) = (current.rollout.target(), &self.changes.services.registry);
        let runs = |key: &Name| registry.get(key).map(|child| child.status().component);
        let Some((key, message)) = locked(&self.staying).untold(to, runs) else { return };
        let help = format!("`paguro history {key}` tells more; a file that changes is tried again");
        let path = current.path.display().to_string();
        self.changes.services.recorder.emit(Event::DirectoryProblem { path, message, help });
    }

    /// Whether nothing is left; the task is over then.
    fn is_idle(&self) -> bool {
        let mut work = locked(&self.work);
        work.is_running = !work.backlog.is_empty();
        !work.is_running
    }

    fn hear(&self, event: &Event, rollout: &Arc<Rollout>) {
        let Some(key) = event.subject().filter(|name| name.parent().as_ref() == Some(&self.supervisor)) else { return };
        let mut work = locked(&self.work);
        match event {
            // Of what new keys start on.
            Event::WorkerStartFailed { component, reason, .. }
                if work.backlog.is_new(key) && *component == rollout.serving() =>
            {
                work.backlog.leaves(key, self.changes.services.clock.now());
                drop(work);
                rollout.has_no_way_back(key, reason);
            }
            Event::WorkerStarted { .. }
            | Event::WorkerStartFailed { .. }
            | Event::WorkerExited { .. }
            | Event::WorkerStopped { .. }
            | Event::WorkerIsolated { .. }
            | Event::RolledBack { .. }
            | Event::ChildRemoved { .. } => work.backlog.wake(key),
            _ => {}
        }
    }

    async fn look_at(self: &Arc<Self>, key: Name, is_new: bool, current: Current, read: Read) {
        let recorder = self.changes.services.recorder.clone();
        let bringing = self.bring(&key, is_new, &current, &read);
        let next = recorder.watched("the upgrade of a key of a template", bringing).await;
        let (mut work, now) = (locked(&self.work), self.changes.services.clock.now());
        match next {
            Some(Next::Done) => work.backlog.done(&key),
            Some(Next::Wait(waits_for)) => work.backlog.wait(&key, waits_for, now),
            Some(Next::Retry) | None => work.backlog.retry(&key, now),
            Some(Next::Again) => {
                work.backlog.wake(&key);
                work.backlog.done(&key);
            }
        }
    }

    async fn bring(self: &Arc<Self>, key: &Name, is_new: bool, current: &Current, read: &Read) -> Next {
        let services = &self.changes.services;
        services.making_is_done();
        let Some(child) = services.registry.get(key) else {
            self.succeeded(key);
            return Next::Done;
        };
        let goal = current.rollout.goal();
        let view = self.view(&child, &goal);
        let way = |to, is_back| Way { from: view.runs, to, is_back };
        let stays = |way| locked(&self.staying).for_good(key, way);
        match step(&goal, &view) {
            Step::Done => Next::Done,
            Step::Wait => Next::Wait(if view.change.is_some() { WaitsFor::Change } else { WaitsFor::Itself }),
            Step::Withdraw(of) => match self.changes.order(key, Order::Withdraw(of)).await {
                Ok(_) => Next::Again,
                // Not in probation yet, or not any more: its end is a change.
                Err(_) => Next::Wait(WaitsFor::Change),
            },
            Step::Stays(why) => {
                self.note(key, way(goal.to, false), why, Weight::Known);
                Next::Done
            }
            Step::Upgrade if stays(way(goal.to, false)) => Next::Done,
            Step::GoBack(to) if stays(way(to, true)) => Next::Done,
            Step::Upgrade => match self.bytes_of(goal.to, read).await {
                Ok(bytes) => match self.upgrade(child, is_new, current, way(goal.to, false), bytes).await {
                    // There may be another way, and if not, the next look says so.
                    Next::Done if stays(way(goal.to, false)) => Next::Again,
                    next => next,
                },
                Err(error) => self.not_brought(key, way(goal.to, false), &error),
            },
            Step::GoBack(to) => match self.bytes_of(to, read).await {
                Ok(bytes) => self.go_back(child, way(to, true), bytes).await,
                Err(error) => self.not_brought(key, way(to, true), &error),
            },
        }
    }

    /// What cannot be read is not known: it counts as neither overridden nor rejected.
    fn view(&self, child: &Shared, goal: &Goal) -> KeyView {
        let (database, key, status) = (&self.changes.services.database, child.name(), child.status());
        let change = self.changes.under_way(key);
        let runs = status.component;
        let is_passing = matches!(status.standing, Standing::Starting | Standing::Stopping | Standing::RollingBack);
        if change.is_some() || runs == goal.to || is_passing {
            // Nothing else decides.
            return KeyView { runs, is_passing, change, is_overridden: false, rejects: None };
        }
        let record = database.worker(key).ok().flatten();
        let is_overridden =
            record.is_some_and(|record| record.component == runs && record.overrides_any_of(&[goal.to, goal.file]));
        let rejection = self.changes.rejection_of(key, goal.to);
        let is_on_refused = goal.refused.contains(&runs);
        let (is_operators, rejects) = match rejection {
            Some(rejected) if rejected.is_operators && !is_on_refused => (true, None),
            rejected => (false, rejected.map(|rejected| rejected.why)),
        };
        // The database has no rejection for an upgrade that was called off before its rehearsal.
        let upgrade = Way { from: runs, to: goal.to, is_back: false };
        let cannot = is_on_refused && locked(&self.staying).for_good(key, upgrade);
        let rejects = rejects.or_else(|| cannot.then(|| "it cannot be upgraded".to_string()));
        KeyView { runs, is_passing, change, is_overridden: is_overridden || is_operators, rejects }
    }

    async fn upgrade(
        self: &Arc<Self>,
        child: Arc<Shared>,
        is_new: bool,
        current: &Current,
        way: Way,
        bytes: Bytes,
    ) -> Next {
        let rollout = &current.rollout;
        // Later, messages have had their part.
        let up_for = self.changes.services.clock.now().since(child.status().up_since);
        let is_new = is_new && up_for < NEW_TIME;
        let request = UpgradeRequest {
            worker: child.clone(),
            bytes,
            by: By::Directory,
            why: Why::Upgrade,
            probation: None,
            fewer_exports: false,
        };
        match self.changes.upgrade(request).await {
            Ok(switched) => {
                // An operator's isolation ends as well, where the file came after it.
                let is_older = child.status().since < current.since;
                let is_down = |standing: &Standing| match standing {
                    Standing::Isolated(_) => is_older || !standing.is_isolated_by_operator(),
                    standing => *standing == Standing::Restarting,
                };
                self.start_adopted(&child, &switched, is_down).await;
                if switched.pause.is_none() {
                    self.succeeded(child.name());
                }
                let (rollout, recorder) = (rollout.clone(), self.changes.services.recorder.clone());
                // Its probation may last a day.
                let heard = async move { rollout.hear(&child, switched, is_new).await };
                tokio::spawn(async move { recorder.watched("the rollout of a template", heard).await });
                Next::Done
            }
            Err(error) => {
                if let ChangeError::CalledOff { blame: Blame::Component, reason, .. } = &error
                    && is_new
                {
                    rollout.roll_back(format!("it failed on the new key {:?}: {reason}", child.name()));
                }
                self.not_brought(child.name(), way, &error)
            }
        }
    }

    async fn go_back(&self, child: Arc<Shared>, way: Way, bytes: Bytes) -> Next {
        let request = UpgradeRequest {
            worker: child.clone(),
            bytes,
            by: By::Host,
            why: Why::Rollback,
            probation: Some(Duration::ZERO),
            fewer_exports: true,
        };
        let switched = match self.changes.upgrade(request).await {
            Ok(switched) => switched,
            Err(error) => return self.not_brought(child.name(), way, &error),
        };
        let is_down = |standing: &Standing| match standing {
            Standing::Isolated(_) => !standing.is_isolated_by_operator(),
            standing => *standing == Standing::Restarting,
        };
        self.start_adopted(&child, &switched, is_down).await;
        match switched.outcome.await {
            Ok(Outcome::RolledBack { why, blame: Blame::Component, .. }) => {
                self.note(child.name(), way, why, Weight::ForGood);
                Next::Done
            }
            Ok(Outcome::RolledBack { why, .. }) => {
                self.note(child.name(), way, why, Weight::Passing);
                Next::Retry
            }
            Ok(Outcome::Committed { .. }) => {
                self.succeeded(child.name());
                Next::Again
            }
            // Nobody knows what came of it.
            Err(_) => Next::Retry,
        }
    }

    /// Starts a key that has adopted a component while it was isolated, or waited for its restart.
    async fn start_adopted(&self, child: &Shared, switched: &Switched, is_down: impl Fn(&Standing) -> bool) {
        if switched.pause.is_none() && is_down(&child.status().standing) {
            // That it runs already is no error here.
            let _ = self.tree.retry_child(child.name()).await;
        }
    }

    fn not_brought(&self, key: &Name, way: Way, error: &ChangeError) -> Next {
        let (why, for_good) = match error {
            ChangeError::SameComponent { .. } => return Next::Again,
            ChangeError::Gone(_) | ChangeError::Stopping => return Next::Done,
            ChangeError::UnderWay { .. } => return Next::Wait(WaitsFor::Change),
            ChangeError::CalledOff { blame, reason, .. } => (reason.clone(), *blame != Blame::Nobody),
            error => (with_cause(error), error.is_final()),
        };
        self.note(key, way, why, if for_good { Weight::ForGood } else { Weight::Passing });
        if for_good { Next::Done } else { Next::Retry }
    }

    fn note(&self, key: &Name, way: Way, why: String, weight: Weight) {
        if locked(&self.staying).note(key, way, why, weight) {
            // Findings are published at the next look.
            self.changes.nudge();
        }
    }

    /// Which keys stay on what they were, and why.
    pub fn stayed(&self) -> Option<String> {
        let to = self.current()?.rollout.target();
        let registry = &self.changes.services.registry;
        locked(&self.staying).told(to, |key| registry.get(key).map(|child| child.status().component))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
