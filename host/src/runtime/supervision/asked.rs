//! What operators, guests and the directory ask of a supervisor (OTP.md, *Answers to an operator*,
//! *Changing a running supervisor*).

use super::{Action, Answer, Cause, Child, ChildSpec, ChildState, Phase, Place, Supervision, Then};
use crate::base::{Name, Tick};
use crate::runtime::spec::SupervisorSettings;

impl Supervision {
    pub(super) fn add(&mut self, spec: ChildSpec, actions: &mut Vec<Action>) -> Answer {
        if let Some(known) = self.children.get(&spec.name) {
            return match known.state {
                _ if known.is_restarting() => Answer::AlreadyPresent,
                ChildState::Starting | ChildState::Running | ChildState::Waiting => Answer::AlreadyStarted,
                _ => Answer::AlreadyPresent,
            };
        }
        let running = self.is_running();
        if !running && !spec.declared {
            return Answer::SupervisorDown;
        }
        let cause = if spec.declared { Cause::Added } else { Cause::Asked };
        let state = if running { ChildState::Waiting } else { ChildState::Down };
        let child = Child::new(spec, state, cause);
        let last = self.belongs_last(&child);
        self.children.push(child);
        if !last {
            self.arrange();
        }
        self.start_next(actions);
        Answer::Ok
    }

    /// The new spec holds from now on; what runs goes on.
    pub(super) fn change(&mut self, spec: ChildSpec) -> Answer {
        let Some(place) = self.children.find(&spec.name) else { return Answer::NotFound };
        let moves = self.children.at(place).spec.after != spec.after;
        self.children.set_spec(place, spec);
        if moves {
            self.arrange();
        }
        Answer::Ok
    }

    /// New flags hold from now on; children go on as they are.
    pub(super) fn configure(&mut self, settings: SupervisorSettings) {
        let moves = self.settings.order != settings.order;
        self.settings = settings;
        if moves {
            self.arrange();
        }
    }

    pub(super) fn start_child(&mut self, name: &Name, actions: &mut Vec<Action>) -> Answer {
        let Some(place) = self.children.find(name) else { return Answer::NotFound };
        let state = self.children.at(place).state;
        match state {
            _ if !self.is_running() => Answer::SupervisorDown,
            _ if self.children.at(place).is_restarting() => Answer::Restarting,
            ChildState::Restarting { .. } => Answer::Restarting,
            ChildState::Down | ChildState::Isolated => self.wait_for_turn(place, actions),
            // It is leaving; who removed it was promised so.
            ChildState::Stopping(Then::Forget) => Answer::NotFound,
            ChildState::Stopping(_) => {
                self.children.at_mut(place).cause = Cause::Asked;
                self.children.set(place, ChildState::Stopping(Then::StartAgain));
                Answer::Ok
            }
            ChildState::Waiting | ChildState::Starting | ChildState::Running => Answer::AlreadyStarted,
        }
    }

    /// Past OTP: what made it fail may be mended. One that waits for its restart starts now, and one that is isolated is
    /// let back in. One that is down stays so.
    pub(super) fn retry_child(&mut self, name: &Name, actions: &mut Vec<Action>) -> Answer {
        let Some(place) = self.children.find(name) else { return Answer::NotFound };
        match self.children.at(place).state {
            ChildState::Down | ChildState::Stopping(Then::StayDown | Then::Isolate) => Answer::AlreadyPresent,
            // It starts with its supervisor.
            ChildState::Isolated if !self.is_running() => {
                self.children.set(place, ChildState::Down);
                actions.push(Action::StaysDown(name.clone()));
                Answer::SupervisorDown
            }
            ChildState::Restarting { due: Some(_) } if self.is_running() => {
                self.children.set(place, ChildState::Waiting);
                self.start_next(actions);
                Answer::Ok
            }
            _ => self.start_child(name, actions),
        }
    }

    fn wait_for_turn(&mut self, place: Place, actions: &mut Vec<Action>) -> Answer {
        let child = self.children.at_mut(place);
        child.unhealthy = 0;
        child.cause = Cause::Asked;
        self.children.set(place, ChildState::Waiting);
        self.start_next(actions);
        Answer::Ok
    }

    /// Ok also when it is already down or in its restart loop, which this ends; and takes back an
    /// isolation.
    pub(super) fn stop_child(&mut self, now: Tick, name: &Name, then: Then, actions: &mut Vec<Action>) -> Answer {
        let Some(place) = self.children.find(name) else { return Answer::NotFound };
        // Children of a template have no spec of their own that could stay.
        let forgotten = self.is_simple() && !self.children.at(place).spec.declared && then == Then::StayDown;
        let then = if forgotten { Then::Forget } else { then };
        let was_leaving = self.children.at(place).leaving;
        self.children.set_leaving(place, false);
        match self.children.at(place).state {
            ChildState::Stopping(Then::Forget) => {}
            ChildState::Stopping(_) => self.children.set(place, ChildState::Stopping(then)),
            // One that does not run answers at once; it is the same way for all.
            _ => self.stop(place, then, actions),
        }
        if was_leaving {
            self.round_goes_on(now, actions);
        }
        Answer::Ok
    }

    /// Past OTP: of one that runs, a stop in order and a start. A restart loop goes on as it is.
    pub(super) fn restart_child(&mut self, now: Tick, name: &Name, actions: &mut Vec<Action>) -> Answer {
        let Some(place) = self.children.find(name) else { return Answer::NotFound };
        if !self.is_running() {
            return Answer::SupervisorDown;
        }
        match self.children.at(place).state {
            _ if self.children.at(place).is_restarting() => Answer::Restarting,
            ChildState::Starting | ChildState::Running => {
                // One that a round is about to stop starts with it, not before those it stands on.
                let then = if self.children.at(place).leaving { Then::Rejoin } else { Then::StartAgain };
                self.children.set_leaving(place, false);
                self.children.at_mut(place).cause = Cause::Asked;
                self.stop(place, then, actions);
                self.round_goes_on(now, actions);
                Answer::Ok
            }
            _ => self.start_child(name, actions),
        }
    }

    /// Drops the spec of a child that is down.
    pub(super) fn delete_child(&mut self, name: &Name, actions: &mut Vec<Action>) -> Answer {
        let Some(place) = self.children.find(name) else { return Answer::NotFound };
        match self.children.at(place).state {
            ChildState::Down | ChildState::Isolated => {
                self.children.remove(place);
                actions.push(Action::Forget(name.clone()));
                Answer::Ok
            }
            _ if self.children.at(place).is_restarting() => Answer::Restarting,
            // A supervisor that is down keeps children waiting for nothing.
            ChildState::Waiting if self.phase == Phase::Down => Answer::Restarting,
            _ => Answer::AlreadyStarted,
        }
    }
}
