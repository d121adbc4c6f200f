//! Children start in order and stop in reverse (OTP.md, *Start and stop order*, *Strategies*), and nobody
//! is stopped whom neither an operator, nor a strategy, nor a supervisor's own end concerns.
//!
//! What *in order* means for two siblings: one that `order` names starts before those after it, one that
//! another names in `after` before that one, and under rest-for-one each before the next.

use std::collections::{BTreeMap, BTreeSet};

use paguro::base::{ExitReason, Name};
use paguro::record::Event;

use super::book::Book;
use super::{Checker, Wrong};
use crate::script::{Restart, Strategy};
use crate::stream::{Entry, Fact, Look, Request, parent};

#[derive(Default)]
pub struct Order {
    /// Of a supervisor that starts: whose first start has come to an end.
    tried: BTreeMap<Name, BTreeSet<Name>>,
    /// Of a supervisor in a round: who has stopped or failed, and is to start with the others.
    joined: BTreeMap<Name, BTreeMap<Name, Joined>>,
    /// Counts those that join.
    turn: u64,
    /// Children that stopped for no reason of their own and in no round, in order, since a sibling last
    /// started.
    stopped: BTreeMap<Name, Vec<Name>>,
    /// The one that a round stopped last.
    last: BTreeMap<Name, Name>,
    /// Children that an operator moved since their supervisor last started or stopped: they have no
    /// place in the order.
    moved: BTreeSet<Name>,
    /// Isolated: they start with nobody.
    isolated: BTreeSet<Name>,
}

/// How a child came into a round.
struct Joined {
    /// After how many others, of all rounds.
    turn: u64,
    /// The round stopped it; else it ended by itself.
    stopped: bool,
}

impl Checker for Order {
    fn see(&mut self, book: &Book, entry: &Entry, wrong: &mut Wrong) {
        match &entry.fact {
            // The new order is the next start's; of one that is under way it holds for the rest.
            Fact::Asked { request: request @ (Request::Configure(_) | Request::ConfigureWorker(_)), .. } => {
                let subject = request.subject();
                let supervisor = if book.workers.contains_key(&subject) { parent(&subject) } else { subject };
                // Those that wait for their restart do so by the strategy that was.
                if let Some(joined) = self.joined.get_mut(&supervisor) {
                    joined.retain(|_, joined| joined.stopped);
                }
                // A supervisor's own settings may give it another place among its siblings.
                for supervisor in [parent(&supervisor), supervisor] {
                    if !book.is_steady(&supervisor) || book.has_round(&supervisor) {
                        self.moved.extend(book.children(&supervisor).iter().cloned());
                    }
                }
            }
            Fact::Asked { request, .. } if request.moves() => {
                self.moved.insert(request.subject());
            }
            Fact::Event(event) => self.event(book, event, wrong),
            Fact::Looked(look) => self.looked(book, look, wrong),
            _ => {}
        }
    }

    fn end(&mut self, _: &Book, wrong: &mut Wrong) {
        for (supervisor, children) in &self.stopped {
            if !children.is_empty() {
                wrong.that(format!("{children:?} stopped though nobody asked, and {supervisor:?} went on"));
            }
        }
    }
}

impl Order {
    fn event(&mut self, book: &Book, event: &Event, wrong: &mut Wrong) {
        match event {
            // Part of a stop that did not wait for it: it is over, and those before it need not be.
            Event::WorkerStartFailed { worker, reason: ExitReason::Killed, .. } => {
                self.tried.entry(parent(worker)).or_default().insert(worker.clone());
            }
            Event::WorkerStarted { worker, .. }
            | Event::WorkerStartFailed { worker, .. }
            | Event::StartIgnored { worker } => self.tried(book, worker, wrong),
            Event::WorkerExited { worker, .. } if !book.was_told() => self.joins(book, worker),
            Event::RestartScheduled { worker, .. } => self.join(book, worker, false),
            Event::WorkerIsolated { worker, .. } => {
                self.isolated.insert(worker.clone());
                self.joined.entry(parent(worker)).or_default().remove(worker);
            }
            Event::WorkerStopped { worker } => self.stopped(book, worker, wrong),
            Event::SupervisorStarted { supervisor } => {
                self.all_tried(book, supervisor, wrong);
                self.tried(book, supervisor, wrong);
            }
            Event::SupervisorStopped { supervisor, .. } => {
                self.all_stopped(book, supervisor, wrong);
                if supervisor.is_root() {
                    return;
                }
                if book.has_ended(supervisor) {
                    // It was told to stop again.
                } else if book.ended_by_itself(supervisor).is_none() {
                    self.stopped(book, supervisor, wrong);
                } else if !book.is_up(supervisor) && !book.is_up(&parent(supervisor)) {
                    // Its first start came to an end so, if it ever was to start.
                    self.tried.entry(parent(supervisor)).or_default().insert(supervisor.clone());
                }
            }
            _ => {}
        }
    }

    /// A start has come to an end: those before it in this start must have, too.
    fn tried(&mut self, book: &Book, child: &Name, wrong: &mut Wrong) {
        if child.is_root() {
            return;
        }
        self.isolated.remove(child);
        let supervisor = parent(child);
        let first: Option<Name> = if book.is_up(&supervisor) {
            let joined = self.joined.entry(supervisor.clone()).or_default();
            let own = joined.remove(child).filter(|_| book.has_round(&supervisor));
            let is_first = |(other, theirs): &(&Name, &Joined)| {
                // A round begins to start when it has stopped all; one that failed since was up before.
                let since = own.as_ref().is_some_and(|own| theirs.stopped || theirs.turn < own.turn);
                since && self.is_before(book, other, child)
            };
            self.joined[&supervisor].iter().find(is_first).map(|(other, _)| other.clone())
        } else {
            let tried = self.tried.entry(supervisor.clone()).or_default();
            let is_first = tried.insert(child.clone());
            let tried = &self.tried[&supervisor];
            let others = book
                .children(&supervisor)
                .iter()
                .filter(|other| !tried.contains(*other) && !self.isolated.contains(*other));
            let missing = others.into_iter().find(|other| self.is_before(book, other, child)).cloned();
            missing.filter(|_| is_first)
        };
        // What comes up while its supervisor ends is stopped again.
        if let Some(first) = first.filter(|_| book.ending(&supervisor).is_none()) {
            wrong.that(format!("{child:?} was started before {first:?}"));
        }
        self.last.remove(&supervisor);
        let stopped = self.stopped.entry(supervisor.clone()).or_default();
        if !stopped.is_empty() && book.is_steady(&supervisor) {
            wrong.that(format!("{stopped:?} stopped though nobody asked, and {child:?} was started"));
        }
        stopped.clear();
    }

    /// Whether the first is to be started before the second.
    fn is_before(&self, book: &Book, first: &Name, second: &Name) -> bool {
        let supervisor = parent(second);
        let earlier = book.place(first) < book.place(second);
        let named =
            book.supervisors.get(&supervisor).is_some_and(|above| above.order.iter().any(|one| one == first.leaf()));
        let sequential = book.strategy(&supervisor) == Strategy::RestForOne;
        let depends = book.after(second).iter().any(|leaf| leaf == first.leaf());
        let moved = self.is_moved(book, first) || self.is_moved(book, second);
        first != second && !moved && (depends || earlier && (named || sequential))
    }

    fn all_tried(&mut self, book: &Book, supervisor: &Name, wrong: &mut Wrong) {
        let tried = self.tried.remove(supervisor).unwrap_or_default();
        for child in book.children(supervisor) {
            // At the root one may wait for another that is to be restarted.
            let waits = supervisor.is_root() && !book.after(child).is_empty();
            if !tried.contains(child)
                && !self.isolated.contains(child)
                && !self.is_moved(book, child)
                && !waits
                && !book.is_keyed(child)
            {
                wrong.that(format!("{supervisor:?} has started, and {child:?} was not"));
            }
        }
        self.joined.remove(supervisor);
        self.forget_moved(book, supervisor);
    }

    /// It ended by itself while its round was about to stop it.
    fn joins(&mut self, book: &Book, child: &Name) {
        if book.is_in_round(child) {
            self.join(book, child, false);
        }
    }

    /// Temporary children are stopped by a round, and not started with it.
    fn join(&mut self, book: &Book, child: &Name, stopped: bool) {
        if book.restart(child) != Some(Restart::Temporary) {
            self.turn += 1;
            let joined = Joined { turn: self.turn, stopped };
            self.joined.entry(parent(child)).or_default().insert(child.clone(), joined);
        }
    }

    fn stopped(&mut self, book: &Book, child: &Name, wrong: &mut Wrong) {
        if book.is_handled(child) {
            return;
        }
        let supervisor = parent(child);
        if book.is_in_round(child) {
            let before = self.last.insert(supervisor.clone(), child.clone());
            if let Some(before) = before
                && book.place(&before) < book.place(child)
                && !(book.may_be_killed(&supervisor) && book.is_disturbed(&supervisor))
                && !self.is_moved(book, &before)
                && !self.is_moved(book, child)
            {
                wrong.that(format!("the round of {supervisor:?} stopped {before:?} before {child:?}"));
            }
            self.join(book, child, true);
            // It was being started: that start is over.
            if !book.is_up(&supervisor) {
                self.tried.entry(supervisor).or_default().insert(child.clone());
            }
        } else {
            self.stopped.entry(supervisor).or_default().push(child.clone());
        }
    }

    fn all_stopped(&mut self, book: &Book, supervisor: &Name, wrong: &mut Wrong) {
        self.tried.remove(supervisor);
        self.joined.remove(supervisor);
        self.last.remove(supervisor);
        let stopped = self.stopped.remove(supervisor).unwrap_or_default();
        let stopped: Vec<&Name> = stopped.iter().filter(|child| !self.is_moved(book, child)).collect();
        // Children of a template are stopped all at once, and so are those of one that is killed.
        if book.strategy(supervisor) != Strategy::SimpleOneForOne
            && !book.may_be_killed(supervisor)
            && !stopped.is_sorted_by_key(|child| std::cmp::Reverse(book.place(child)))
        {
            wrong.that(format!("{supervisor:?} stopped {stopped:?}; its order is {:?}", book.children(supervisor)));
        }
        self.forget_moved(book, supervisor);
    }

    /// A supervisor knows the children that it was given, in an order that fits the rule.
    fn looked(&mut self, book: &Book, look: &Look, wrong: &mut Wrong) {
        for (supervisor, state) in &look.supervisors {
            let known = |children: &[Name]| -> BTreeSet<Name> {
                let there = |child: &&Name| !book.is_handled(child) && !book.is_keyed(child);
                children.iter().filter(there).cloned().collect()
            };
            let (has, given) = (known(&state.children), known(book.children(supervisor)));
            if has != given {
                wrong.that(format!("{supervisor:?} has the children {has:?}; it was given {given:?}"));
            }
            for (at, child) in state.children.iter().enumerate() {
                let late =
                    |leaf: &String| state.children[at..].iter().any(|other| other.leaf() == leaf && other != child);
                if book.after(child).iter().any(late) {
                    wrong.that(format!("{supervisor:?} has {child:?} before one that it is to start after"));
                }
            }
            if state.settled {
                self.joined.remove(supervisor);
                self.last.remove(supervisor);
            }
        }
    }

    fn is_moved(&self, book: &Book, child: &Name) -> bool {
        self.moved.contains(child) || book.is_handled(child)
    }

    fn forget_moved(&mut self, book: &Book, supervisor: &Name) {
        self.moved.retain(|child| parent(child) != *supervisor || book.is_handled(child));
    }
}
