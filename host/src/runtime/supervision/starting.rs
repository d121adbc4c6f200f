//! The start of a supervisor and of its children: who begins when (OTP.md, *Start and stop order*).
//!
//! Past OTP: children that neither `order`, `after` nor rest-for-one puts one after another start
//! side by side.

use super::{Action, Cause, Child, ChildState, Ended, Moment, Phase, Place, Supervision, Then};
use crate::base::{ExitReason, Failure, Incarnation, Name, Tick, bounds};
use crate::runtime::spec::Strategy;

impl Supervision {
    pub(super) fn start(&mut self, actions: &mut Vec<Action>) {
        if self.phase != Phase::Down {
            return;
        }
        self.phase = Phase::Starting;
        self.restarts.clear();
        self.round = None;
        let places: Vec<Place> = self.children.places().map(|(place, _)| place).collect();
        for place in places {
            let child = self.children.at_mut(place);
            child.unhealthy = 0;
            child.restarts.clear();
            child.cause = Cause::First;
            let state = match child.state {
                // An operator stopped it while the supervisor was down, and its answer is on its way.
                ChildState::Stopping(Then::Forget) => ChildState::Stopping(Then::Forget),
                ChildState::Stopping(Then::Isolate) => ChildState::Stopping(Then::Isolate),
                ChildState::Stopping(_) => ChildState::Stopping(Then::StartAgain),
                // Whatever stops and starts its supervisor says nothing about it.
                ChildState::Isolated => ChildState::Isolated,
                _ => ChildState::Waiting,
            };
            self.children.set(place, state);
        }
        self.start_next(actions);
    }

    /// Begins children that wait and whose turn it is.
    pub(super) fn start_next(&mut self, actions: &mut Vec<Action>) {
        if !self.is_running() {
            return;
        }
        let mut begun = Vec::new();
        for &place in self.children.waiting() {
            if self.children.starting().len() + begun.len() >= bounds::STARTS_AT_ONCE {
                break;
            }
            match self.turn(place) {
                Turn::Now => begun.push(place),
                Turn::NotYet => {}
                Turn::NobodyYet => break,
            }
        }
        for place in begun {
            self.begin(place, actions);
        }
        if self.phase == Phase::Starting && self.all_begun() {
            self.phase = Phase::Running;
            actions.push(Action::SelfStarted);
        }
    }

    /// Every child was started, or tried: nobody waits for a sibling, or for a round.
    fn all_begun(&self) -> bool {
        let pending = [self.children.waiting(), self.children.starting(), self.children.stopping()];
        pending.iter().all(|set| set.is_empty()) && self.round.is_none()
    }

    fn turn(&self, place: Place) -> Turn {
        let is_before = |other: Option<&Place>| other.is_some_and(|other| *other < place);
        let sequential = self.settings.strategy == Strategy::RestForOne;
        if sequential && (is_before(self.children.starting().first()) || is_before(self.children.waiting().first())) {
            return Turn::NobodyYet;
        }
        // Children that `order` names start one after another, before the others.
        if is_before(self.children.named_pending().first()) {
            return Turn::NobodyYet;
        }
        let is_pending = |leaf: &String| {
            // What goes round has no order: one that stands later is not waited for.
            let sibling = self.name.child(leaf).ok().and_then(|name| self.children.find(&name));
            sibling.filter(|sibling| *sibling < place).is_some_and(|sibling| {
                let state = self.children.at(sibling).state;
                matches!(state, ChildState::Waiting | ChildState::Starting | ChildState::Restarting { .. })
            })
        };
        let depends = self.children.at(place).spec.after.iter().any(is_pending);
        if depends { Turn::NotYet } else { Turn::Now }
    }

    fn is_named(&self, leaf: &str) -> bool {
        self.settings.order.iter().any(|named| named == leaf)
    }

    fn begin(&mut self, place: Place, actions: &mut Vec<Action>) {
        self.children.set(place, ChildState::Starting);
        let child = self.children.at_mut(place);
        if std::mem::replace(&mut child.begun, true) {
            child.incarnation = child.incarnation.next();
        }
        actions.push(Action::StartChild { name: child.spec.name.clone(), incarnation: child.incarnation });
    }

    pub(super) fn started(&mut self, now: Tick, name: &Name, actions: &mut Vec<Action>) {
        if let Some(place) = self.children.find(name)
            && self.children.at(place).state == ChildState::Starting
        {
            self.children.set(place, ChildState::Running);
            let child = self.children.at_mut(place);
            child.started_at = now;
            // From now on it fails as one that runs.
            child.cause = Cause::Restart;
        }
        self.start_next(actions);
    }

    /// Known but down, with no error.
    pub(super) fn ignored(&mut self, now: Tick, name: &Name, actions: &mut Vec<Action>) {
        if let Some(place) = self.children.find(name)
            && self.children.at(place).state == ChildState::Starting
        {
            let leaving = self.children.at(place).leaving;
            self.settle_down(place, actions);
            if leaving {
                self.round_goes_on(now, actions);
            }
        }
        self.start_next(actions);
    }

    pub(super) fn start_failed(
        &mut self,
        moment: &mut Moment<'_>,
        name: &Name,
        reason: &ExitReason,
        actions: &mut Vec<Action>,
    ) {
        let Some(place) = self.children.find(name) else { return };
        if self.children.at(place).state != ChildState::Starting {
            return;
        }
        let child = self.children.at_mut(place);
        match child.cause {
            // A directory in which one of twenty files is broken brings up nineteen: at the root one
            // child's start is its own affair.
            Cause::First if !self.name.is_root() => {
                let reason = Failure::NotStartable(format!("its child {name:?} did not start: {reason}"));
                self.settle_down(place, actions);
                return self.stop_all(Ended::StartFailed(ExitReason::Failed(reason)), actions);
            }
            // Who asked is told why, and it is as if nobody had.
            Cause::Asked if !child.spec.declared && child.incarnation == Incarnation::default() => {
                self.children.remove(place);
                actions.push(Action::Forget(name.clone()));
            }
            Cause::Asked => self.settle_down(place, actions),
            Cause::First | Cause::Added | Cause::Restart => self.ended(moment, place, reason, actions),
        }
        self.start_next(actions);
    }

    /// The children in start order: those that `order` names, then the others as they came; each after
    /// those it names in `after`. Dependencies that nobody meets, or that go round, are passed over:
    /// `check` refuses them beforehand.
    pub(super) fn arrange(&mut self) {
        let order = self.settings.order.clone();
        self.children.arrange(|mut children| {
            let place = |child: &Child| {
                let leaf = child.spec.name.leaf();
                order.iter().position(|first| first == leaf).unwrap_or(order.len())
            };
            children.iter_mut().for_each(|child| child.named = place(child) < order.len());
            children.sort_by_key(place);
            if children.iter().all(|child| child.spec.after.is_empty()) {
                return children;
            }
            sorted_by_dependencies(children)
        });
    }

    /// Whether a new child has its place at the end.
    pub(super) fn belongs_last(&self, child: &Child) -> bool {
        let leaf = child.spec.name.leaf();
        self.is_simple() || !self.is_named(leaf) && child.spec.after.is_empty() && !self.children.is_wanted(leaf)
    }
}

/// Whether it is a waiting child's turn to start.
enum Turn {
    Now,
    /// It waits for a sibling that it names; others may begin.
    NotYet,
    /// Neither it nor any after it.
    NobodyYet,
}

/// Depth first, so that everything keeps its place but for what has to come earlier.
fn sorted_by_dependencies(children: Vec<Child>) -> Vec<Child> {
    let leaves: std::collections::HashMap<String, usize> =
        children.iter().enumerate().map(|(at, child)| (child.spec.name.leaf().to_string(), at)).collect();
    let needs: Vec<Vec<usize>> = children
        .iter()
        .map(|child| child.spec.after.iter().filter_map(|leaf| leaves.get(leaf).copied()).collect())
        .collect();
    let mut seen = vec![false; children.len()];
    let mut sorted = Vec::with_capacity(children.len());
    for first in 0..children.len() {
        // A stack of its own: a chain of dependencies may be as long as there are children.
        let mut stack = vec![(first, false)];
        while let Some((at, met)) = stack.pop() {
            if met {
                sorted.push(at);
            } else if !std::mem::replace(&mut seen[at], true) {
                stack.push((at, true));
                stack.extend(needs[at].iter().rev().map(|need| (*need, false)));
            }
        }
    }
    let mut children: Vec<Option<Child>> = children.into_iter().map(Some).collect();
    sorted.into_iter().filter_map(|at| children[at].take()).collect()
}
