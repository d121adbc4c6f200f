//! Restarts are counted again, by the rule and not by the code: no more of them within the period than
//! the intensity and the escalation steps allow; each failure is decided about; nothing starts without
//! a cause, or before its time (OTP.md, *Restart*, *Intensity*; ARCHITECTURE.md, *Decisions*).

use std::collections::{BTreeMap, BTreeSet};

use paguro::base::{ExitReason, Name};
use paguro::record::Event;
use paguro::runtime::TreeError;

use super::book::{Book, Ending, demands_restart};
use super::{Checker, Wrong};
use crate::script::{Restart, Strategy};
use crate::stream::{Entry, Fact, Look, Request, parent};

#[derive(Default)]
pub struct Budgets {
    /// Failures that count, of all children of a supervisor.
    of_all: BTreeMap<Name, Vec<Failure>>,
    /// The failures of each child alone.
    own: BTreeMap<Name, Vec<Failure>>,
    /// Why each child last ended.
    last: BTreeMap<Name, ExitReason>,
    /// Children that failed, to be restarted, of which nobody has said anything yet.
    undecided: BTreeSet<Name>,
    /// When a child is to be started again.
    due: BTreeMap<Name, u64>,
    /// Starts that were asked for, each by an operator: one that fails is not tried again.
    asked: BTreeMap<Name, u32>,
    /// Children that were added and have not run yet: what fails of them is their own affair.
    added: BTreeSet<Name>,
    /// Those of them whose first start is to come.
    fresh: BTreeSet<Name>,
    /// Children that were still being stopped when their supervisor began to start: it starts them
    /// later, as if asked.
    owed: BTreeSet<Name>,
    /// Children that a round stopped, to be started with it.
    rejoins: BTreeSet<Name>,
    /// Isolated: only an operator starts these.
    isolated: BTreeSet<Name>,
    /// Children that a round met on their way: it starts them, or not.
    met: BTreeSet<Name>,
    /// Children whose spec changed while a round went on: it had decided about them before, or not.
    changed: BTreeSet<Name>,
    /// Children that ended by themselves, for whatever reason, since all was last looked at: a round may
    /// be about to take them in.
    lately: BTreeSet<Name>,
    /// Children that were started since somebody last asked for their stop.
    started_since: BTreeSet<Name>,

    /// Who was started since their supervisor began to start.
    begun: BTreeSet<Name>,
}

/// A failure: it counts for the period and for what its child has waited since.
#[derive(Clone, Debug)]
struct Failure {
    of: Name,
    at: u64,
    waited: u64,
}

/// What one more failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Restart(u32),
    Isolate,
    GiveUp(u32),
}

/// Restarts that the host counts for those who look, where the intensity needs fewer.
const RECENT: u32 = 32;

impl Checker for Budgets {
    fn see(&mut self, book: &Book, entry: &Entry, wrong: &mut Wrong) {
        match &entry.fact {
            Fact::Asked { request, .. } => {
                if matches!(request, Request::Stop(_) | Request::Isolate(_)) {
                    self.started_since.remove(&request.subject());
                }
                if matches!(request, Request::Stop(_)) {
                    // It takes back the isolation, also where its supervisor starts before that is answered.
                    self.isolated.remove(&request.subject());
                }
                self.request(book, request);
            }
            Fact::Replied { ask, reply, .. } => {
                let Some(request) = book.request(*ask) else { return };
                let subject = request.subject();
                match request {
                    // What was due is not any more; but what is due since another start may be told before.
                    Request::Stop(_) | Request::Isolate(_) if reply.is_ok() => {
                        if !self.started_since.contains(&subject) {
                            self.due.remove(&subject);
                        }
                        self.rejoins.remove(&subject);
                        if matches!(request, Request::Stop(_)) {
                            // An isolated one is down then, as others are.
                            self.isolated.remove(&subject);
                        }
                    }
                    // Nothing was begun; one that did not start used up its start.
                    Request::Start(_) | Request::Restart(_)
                        if !matches!(reply, Ok(_) | Err(TreeError::NotStarted { .. })) =>
                    {
                        self.was_asked(&subject);
                    }
                    _ => {}
                }
            }
            Fact::Event(event) => self.event(book, entry.at, event, wrong),
            Fact::Looked(look) => self.looked(book, look, wrong),
            _ => {}
        }
    }
}

impl Budgets {
    fn request(&mut self, book: &Book, request: &Request) {
        let subject = request.subject();
        match request {
            Request::Start(_) | Request::Restart(_) => *self.asked.entry(subject.clone()).or_default() += 1,
            Request::AddWorker(_) | Request::AddSupervisor(_) if !book.is_known(&subject) => {
                self.forget(&subject);
                self.fresh.insert(subject.clone());
                if !book.was_down(&parent(&subject)) {
                    self.added.insert(subject.clone());
                }
            }
            _ => {}
        }
        if matches!(request, Request::ConfigureWorker(_) | Request::Configure(_)) && book.has_round(&parent(&subject)) {
            self.changed.insert(subject.clone());
        }
        if request.stops() && !book.is_up(&parent(&subject)) {
            self.owed.insert(subject.clone());
        }
        if request.moves() {
            self.undecided.retain(|child| *child != subject && !child.is_below(&subject));
        }
    }

    fn event(&mut self, book: &Book, at: u64, event: &Event, wrong: &mut Wrong) {
        if let Event::WorkerIsolated { worker, .. } = event {
            self.isolated.insert(worker.clone());
        }
        match event {
            Event::WorkerStarted { worker, .. } => {
                self.started(book, at, worker, wrong);
                self.added.remove(worker);
            }
            Event::StartIgnored { worker } => {
                self.started(book, at, worker, wrong);
                self.lately.insert(worker.clone());
                if book.is_in_round(worker) {
                    self.met.insert(worker.clone());
                }
            }
            Event::WorkerStartFailed { worker, reason, .. } => {
                let once = self.asked.get(worker).is_some_and(|asked| *asked > 0) || self.owed.contains(worker);
                self.started(book, at, worker, wrong);
                // Of a supervisor that starts, it is the failure of all.
                let of_all = fails_all(book, worker) && !self.added.contains(worker);
                self.lately.insert(worker.clone());
                if of_all {
                    // Nothing is decided about it.
                } else if !once {
                    self.failed(book, worker, reason);
                } else if book.is_in_round(worker) {
                    self.met.insert(worker.clone());
                }
                self.last.insert(worker.clone(), reason.clone());
            }
            Event::WorkerExited { worker, reason, .. } if !book.was_told() => self.failed(book, worker, reason),
            Event::WorkerStopped { worker } => self.stopped(book, worker),
            Event::SupervisorStarted { supervisor } => {
                self.started(book, at, supervisor, wrong);
                self.added.remove(supervisor);
            }
            Event::RestartScheduled { worker, delay, restarts } => {
                let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                let max = book.supervisors.get(&parent(worker)).map_or(0, |supervisor| supervisor.backoff_max);
                if ms > max {
                    wrong.that(format!("{worker:?} restarts after {ms} ms, where {max} are the most"));
                }
                self.fits(book, at, worker, &Step::Restart(*restarts), wrong);
                self.due.insert(worker.clone(), at + ms);
                let all = self.of_all.get_mut(&parent(worker)).into_iter().chain(self.own.get_mut(worker)).flatten();
                all.filter(|failure| failure.of == *worker).for_each(|failure| failure.waited += ms);
                self.gather(book, worker);
            }
            Event::SupervisorGaveUp { supervisor, restarts, last, .. } => {
                self.fits(book, at, last, &Step::GiveUp(*restarts), wrong);
                self.undecided.retain(|child| !child.is_below(supervisor));
            }
            Event::RestartTogether { supervisor, failed, .. } => {
                // Those that ended before the round could stop them start with it.
                let with = |child: &Name| parent(child) == *supervisor && book.goes_with(child, failed);
                let met: Vec<Name> = self.undecided.iter().filter(|child| with(child)).cloned().collect();
                self.met.extend(self.lately.iter().filter(|child| with(child)).cloned());
                self.undecided.retain(|child| !with(child));
                self.met.extend(met);
            }
            Event::AutoShutdown { supervisor, .. } => self.undecided.retain(|child| !child.is_below(supervisor)),
            Event::WorkerIsolated { worker, why } if why != "by an operator" => {
                self.fits(book, at, worker, &Step::Isolate, wrong);
                self.own.remove(worker);
                self.of_all.entry(parent(worker)).or_default().retain(|failure| failure.of != *worker);
                self.due.remove(worker);
                self.rejoins.remove(worker);
            }
            Event::SupervisorStopped { supervisor, .. } => self.ended(book, at, supervisor, wrong),
            Event::ChildRemoved { name } => self.forget(name),
            _ => {}
        }
    }

    fn ended(&mut self, book: &Book, at: u64, supervisor: &Name, wrong: &mut Wrong) {
        // It starts anew, with nothing against it or its children.
        let is_child = |child: &Name| parent(child) == *supervisor;
        self.of_all.remove(supervisor);
        self.own.retain(|child, _| !is_child(child));
        self.begun.retain(|child| !is_child(child));
        self.added.retain(|child| !is_child(child));
        self.undecided.retain(|child| !child.is_below(supervisor));
        self.due.retain(|child, _| !child.is_below(supervisor));
        self.rejoins.retain(|child| !child.is_below(supervisor));
        self.met.retain(|child| !child.is_below(supervisor));
        self.lately.retain(|child| !child.is_below(supervisor));
        let ran = book.has_run(supervisor);
        if supervisor.is_root() || book.has_ended(supervisor) && !book.is_in_round(supervisor) {
            return;
        }
        let reason = match book.ended_by_itself(supervisor) {
            None => return self.stopped(book, supervisor),
            Some(Ending::GaveUp | Ending::AutoShutdown) => ExitReason::Shutdown,
            Some(Ending::StartFailed) => ExitReason::Killed,
        };
        let asked = self.asked.get(supervisor).is_some_and(|asked| *asked > 0);
        if !ran {
            self.started(book, at, supervisor, wrong);
        }
        let asked = asked && !ran;
        let of_all = !ran && fails_all(book, supervisor);
        if !asked && !of_all {
            self.failed(book, supervisor, &reason);
        } else if book.is_in_round(supervisor) {
            self.met.insert(supervisor.clone());
        }
        // A restart that fails is tried again whatever its reason; a first start is not.
        self.last.insert(supervisor.clone(), if ran { reason } else { ExitReason::Killed });
    }

    /// A child ended by itself, or did not start.
    fn failed(&mut self, book: &Book, child: &Name, reason: &ExitReason) {
        self.last.insert(child.clone(), reason.clone());
        self.lately.insert(child.clone());
        if book.is_in_round(child) {
            // It went before the round could stop it, or was started by it: both are well.
            self.met.insert(child.clone());
            return;
        }
        let ends = book.ends(child) || book.is_disturbed(child);
        if demands_restart(book, child, reason) && !ends {
            self.undecided.insert(child.clone());
        }
    }

    /// It was stopped, and not by itself: a round starts it again.
    fn stopped(&mut self, book: &Book, child: &Name) {
        if book.is_in_round(child) {
            let perhaps = book.restart(child) == Some(Restart::Temporary) || self.changed.contains(child);
            let joins = if perhaps { &mut self.met } else { &mut self.rejoins };
            joins.insert(child.clone());
        }
    }

    /// A failure was decided about: as the rule says.
    fn fits(&mut self, book: &Book, at: u64, child: &Name, said: &Step, wrong: &mut Wrong) {
        let step = self.step(book, at, child);
        if step != *said {
            wrong.that(format!("{child:?} failed, which came to {said:?}; counted, it is {step:?}"));
        }
        if let Some(reason) = self.last.get(child)
            && !demands_restart(book, child, reason)
        {
            wrong.that(format!("{child:?} is to be restarted after {reason}, against its type"));
        }
        self.undecided.remove(child);
    }

    /// Counts one more failure of `child`.
    fn step(&mut self, book: &Book, at: u64, child: &Name) -> Step {
        let supervisor = parent(child);
        let Some(above) = book.supervisors.get(&supervisor) else { return Step::Restart(0) };
        let count = |moments: usize| u32::try_from(moments).unwrap_or(u32::MAX);
        let own = self.own.entry(child.clone()).or_default();
        let counts = |failure: &Failure| at - failure.at <= above.period + failure.waited;
        own.push(Failure { of: child.clone(), at, waited: 0 });
        own.retain(counts);
        // The host counts no further than it takes to decide.
        let limit = [above.isolate, above.escalate].into_iter().flatten().fold(above.intensity, u32::max);
        let own = count(own.len()).min(limit + 1);
        if self.added.contains(child) {
            return if own > above.intensity { Step::Isolate } else { Step::Restart(own) };
        }
        let all = self.of_all.entry(supervisor.clone()).or_default();
        all.push(Failure { of: child.clone(), at, waited: 0 });
        all.retain(counts);
        let all = count(all.len()).min(above.intensity.max(RECENT) + 1);
        let beyond = |step: Option<u32>| step.is_some_and(|allowed| own > allowed);
        // At the root, and where keys of a template share no budget.
        let own_budget = supervisor.is_root() || above.each_key && above.strategy == Strategy::SimpleOneForOne;
        match supervisor.is_root() {
            false if beyond(above.escalate) => Step::GiveUp(own),
            _ if beyond(above.isolate) => Step::Isolate,
            _ if own_budget && (own > above.intensity || beyond(above.escalate)) => Step::Isolate,
            _ if own_budget => Step::Restart(own),
            _ if all > above.intensity => Step::GiveUp(all),
            _ => Step::Restart(all),
        }
    }

    /// Under a strategy that restarts together, those that wait for their own time do so no more, and
    /// have a start behind them: they fail as others do.
    fn gather(&mut self, book: &Book, failed: &Name) {
        let supervisor = parent(failed);
        // One that was added and never ran disturbs nobody.
        let together = matches!(book.strategy(&supervisor), Strategy::OneForAll | Strategy::RestForOne);
        if !together || self.added.contains(failed) {
            return;
        }
        for child in book.children(&supervisor).iter().filter(|child| book.goes_with(child, failed)) {
            if let Some(due) = self.due.get_mut(child) {
                *due = 0;
            }
            self.added.remove(child);
            // All start, those that an operator stopped too.
            let runs = book.live.contains_key(child) || book.is_up(child);
            if !runs && !self.isolated.contains(child) && book.restart(child) != Some(Restart::Temporary) {
                self.met.insert(child.clone());
            }
        }
    }

    /// A start has come to an end. Its cause is used up with it.
    fn started(&mut self, book: &Book, at: u64, child: &Name, wrong: &mut Wrong) {
        if child.is_root() {
            return;
        }
        self.undecided.remove(child);
        self.lately.remove(child);
        let was_isolated = self.isolated.remove(child);
        self.started_since.insert(child.clone());
        let first_of_run = self.begun.insert(child.clone()) && !book.is_up(&parent(child));
        // Each of them is used up, however many there are.
        let owed = self.fresh.remove(child)
            | self.owed.remove(child)
            | self.rejoins.remove(child)
            | self.met.remove(child)
            | first_of_run;
        let due = self.due.remove(child);
        if was_isolated {
            if !self.was_asked(child) {
                wrong.that(format!("{child:?} was isolated and is started, and nobody asked for it"));
            }
            return;
        }
        // A key is started when a message or an operator names it.
        let by_key = book.is_keyed(child) && !book.was_tried(child);
        if owed || by_key {
            return;
        }
        if let Some(due) = due {
            if at < due && !self.was_asked(child) {
                wrong.that(format!("{child:?} was started before {due}"));
            }
        } else if !self.was_asked(child) {
            wrong.that(format!("{child:?} was started, and nothing says why"));
        }
    }

    /// Whether an operator asked for one more start than there were.
    fn was_asked(&mut self, child: &Name) -> bool {
        let Some(asked) = self.asked.get_mut(child).filter(|asked| **asked > 0) else { return false };
        *asked -= 1;
        true
    }

    fn looked(&mut self, book: &Book, look: &Look, wrong: &mut Wrong) {
        let calm = |child: &Name| book.is_steady(&parent(child)) && !book.is_disturbed(child);
        for child in self.undecided.iter().filter(|child| calm(child)) {
            wrong.that(format!("{child:?} failed, and nobody decided what follows"));
        }
        self.undecided.retain(|child| !calm(child));
        self.lately.clear();
        for (supervisor, _) in look.supervisors.iter().filter(|(_, state)| state.settled && state.running) {
            let left = |child: &&Name| parent(child) == *supervisor && calm(child);
            for child in self.rejoins.iter().filter(left) {
                wrong.that(format!("{child:?} was stopped by a round, and not started with it"));
            }
            // One that became temporary meanwhile may have been stopped with a round, for good.
            let stays = |child: &Name| book.restart(child) != Some(Restart::Temporary);
            let due = self.due.iter().filter(|(child, _)| parent(child) == *supervisor && calm(child) && stays(child));
            for (child, due) in due {
                wrong.that(format!("{child:?} was to be restarted at {due}, and was not"));
            }
            self.rejoins.retain(|child| parent(child) != *supervisor);
            self.met.retain(|child| parent(child) != *supervisor);
            self.changed.retain(|child| parent(child) != *supervisor);
            self.due.retain(|child, _| parent(child) != *supervisor);
        }
    }

    fn forget(&mut self, child: &Name) {
        let concerns = |other: &Name| other == child || other.is_below(child);
        self.of_all.retain(|supervisor, _| !concerns(supervisor));
        self.own.retain(|other, _| !concerns(other));
        self.last.retain(|other, _| !concerns(other));
        self.due.retain(|other, _| !concerns(other));
        self.asked.retain(|other, _| !concerns(other));
        for set in [
            &mut self.undecided,
            &mut self.added,
            &mut self.fresh,
            &mut self.owed,
            &mut self.rejoins,
            &mut self.met,
            &mut self.lately,
            &mut self.isolated,
            &mut self.begun,
        ] {
            set.retain(|other| !concerns(other));
        }
    }
}

/// Whether a start that fails is its supervisor's failure to start: outside the root, in the first start of
/// all.
fn fails_all(book: &Book, child: &Name) -> bool {
    let supervisor = parent(child);
    !supervisor.is_root() && !book.is_up(&supervisor) && !book.is_in_round(child)
}
