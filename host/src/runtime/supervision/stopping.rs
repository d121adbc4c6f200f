//! How children and the supervisor itself stop (OTP.md, *Start and stop order*, *Shutdown*).

use super::{Action, BY_OPERATOR, ChildState, Ended, Phase, Place, Supervision, Then};
use crate::base::{ExitReason, Name, Tick};

impl Supervision {
    /// Stops everything; when nothing is up, the supervisor has ended.
    pub(super) fn stop_all(&mut self, end: Ended, actions: &mut Vec<Action>) {
        if self.phase == Phase::Down {
            actions.push(Action::SelfEnded(Ended::Asked));
            return;
        }
        // Asked while it gives up: who asked waits for the answer to that.
        if end == Ended::Asked || !matches!(self.phase, Phase::Stopping(_)) {
            self.phase = Phase::Stopping(end);
        }
        self.round = None;
        let idle = self.children.waiting().iter().chain(self.children.joined());
        let idle: Vec<Place> = idle.copied().chain(self.children.due().iter().map(|(_, place)| *place)).collect();
        for place in idle {
            self.settle_down(place, actions);
        }
        self.stop_next(actions);
    }

    /// One after another in reverse start order; children of a template all at once.
    pub(super) fn stop_next(&mut self, actions: &mut Vec<Action>) {
        let Phase::Stopping(end) = self.phase.clone() else { return };
        if self.is_simple() {
            for place in self.children.up() {
                self.stop(place, Then::StayDown, actions);
            }
        }
        if !self.children.stopping().is_empty() {
            return;
        }
        if let Some(last) = self.children.last_up() {
            self.children.set_leaving(last, false);
            return self.stop(last, Then::StayDown, actions);
        }
        self.phase = Phase::Down;
        actions.push(Action::SelfEnded(end));
    }

    pub(super) fn stop(&mut self, place: Place, then: Then, actions: &mut Vec<Action>) {
        self.children.set(place, ChildState::Stopping(then));
        let spec = &self.children.at(place).spec;
        actions.push(Action::StopChild {
            name: spec.name.clone(),
            reason: ExitReason::Shutdown,
            shutdown: spec.shutdown,
            comes_back: matches!(then, Then::Rejoin | Then::StartAgain),
        });
    }

    /// It is out of the tree already: nothing is to be done about it.
    pub(super) fn retired(&mut self, now: Tick, name: &Name, actions: &mut Vec<Action>) {
        let Some(place) = self.children.find(name) else { return };
        self.children.remove(place);
        self.stop_next(actions);
        self.round_goes_on(now, actions);
        self.start_next(actions);
    }

    pub(super) fn stopped(&mut self, now: Tick, name: &Name, actions: &mut Vec<Action>) {
        let Some(place) = self.children.find(name) else { return };
        let ChildState::Stopping(then) = self.children.at(place).state else { return };
        let running = self.is_running();
        match then {
            Then::StartAgain if running => self.children.set(place, ChildState::Waiting),
            Then::Rejoin if running && self.round.is_some() => self.join(place, actions),
            Then::Rejoin if running => self.children.set(place, ChildState::Waiting),
            Then::StayDown | Then::StartAgain | Then::Rejoin => self.settle_down(place, actions),
            Then::Isolate => {
                self.children.set(place, ChildState::Isolated);
                let name = name.clone();
                actions.push(Action::Isolate { name, why: BY_OPERATOR.to_string() });
            }
            Then::Forget => {
                self.children.remove(place);
                actions.push(Action::Forget(name.clone()));
            }
        }
        self.stop_next(actions);
        self.round_goes_on(now, actions);
        self.start_next(actions);
    }
}
