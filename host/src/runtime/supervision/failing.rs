//! A child ended by itself: whether it is restarted, at what cost, who goes with it, and when the
//! supervisor gives up (OTP.md, *Restart*, *Intensity*, *Strategies*, *Significant children*).

use std::time::Duration;

use super::{Action, Cause, ChildKind, ChildState, Ended, Moment, Phase, Place, Round, Supervision, Then};
use crate::base::units::{plural, show_duration};
use crate::base::{ExitReason, Name, Tick, bounds};
use crate::runtime::backoff;
use crate::runtime::spec::{AutoShutdown, Restart, Strategy};

/// Restarts that are kept at least for those who look, where the intensity needs fewer.
const RECENT: u32 = 32;

/// What one more failure of a child comes to.
enum Step {
    /// `circuit_break`: the restarts of the child alone, when its breaker is to open.
    Restart {
        restarts: u32,
        circuit_break: Option<u32>,
    },
    Isolate {
        restarts: u32,
    },
    GiveUp {
        restarts: u32,
    },
}

impl Supervision {
    pub(super) fn exited(
        &mut self,
        moment: &mut Moment<'_>,
        name: &Name,
        reason: &ExitReason,
        actions: &mut Vec<Action>,
    ) {
        let Some(place) = self.children.find(name) else { return };
        let healthy_after = self.settings.backoff.healthy_after;
        match self.children.at(place).state {
            ChildState::Running => {
                let child = self.children.at_mut(place);
                if moment.now.since(child.started_at) >= healthy_after {
                    child.unhealthy = 0;
                }
                self.ended(moment, place, reason, actions);
                self.start_next(actions);
            }
            ChildState::Starting => self.start_failed(moment, name, reason, actions),
            // It ended by itself while it was being stopped: the stop's own answer follows.
            _ => {}
        }
    }

    /// A child is down and nobody asked for it.
    pub(super) fn ended(
        &mut self,
        moment: &mut Moment<'_>,
        place: Place,
        reason: &ExitReason,
        actions: &mut Vec<Action>,
    ) {
        let child = self.children.at(place);
        // A restart that fails is tried again, whatever its reason.
        let tried_again = child.state == ChildState::Starting && child.cause == Cause::Restart;
        let again = match child.spec.restart {
            Restart::Permanent => true,
            Restart::Transient => tried_again || !reason.is_orderly(),
            Restart::Temporary => false,
        };
        if matches!(self.phase, Phase::Stopping(_) | Phase::Down) {
            self.settle_down(place, actions);
            return self.stop_next(actions);
        }
        if child.leaving {
            // It went before the round could stop it: that is no failure of its own.
            if child.spec.restart == Restart::Temporary {
                self.settle_down(place, actions);
            } else {
                self.join(place, actions);
            }
            return self.round_goes_on(moment.now, actions);
        }
        if again {
            return self.failed(moment, place, reason, actions);
        }
        let (significant, name) = (child.spec.significant && !child.never_ran(), child.spec.name.clone());
        self.settle_down(place, actions);
        let others = || {
            self.children.iter().any(|other| {
                let there =
                    other.is_active() || matches!(other.state, ChildState::Restarting { .. } | ChildState::Waiting);
                other.spec.significant && there
            })
        };
        let shuts_down = significant
            && match self.settings.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !others(),
            };
        if shuts_down && !self.name.is_root() {
            actions.push(Action::AutoShutdown { by: name });
            self.stop_all(Ended::Itself(ExitReason::Shutdown), actions);
        }
    }

    /// A child is to be restarted: one event against the budgets, then the strategy.
    fn failed(&mut self, moment: &mut Moment<'_>, place: Place, reason: &ExitReason, actions: &mut Vec<Action>) {
        let child = self.children.at(place);
        let name = child.spec.name.clone();
        let never_ran = child.never_ran();
        let (restarts, circuit_break) = match self.charge(moment.now, place) {
            Step::GiveUp { restarts } => {
                actions.push(Action::GaveUp { restarts, last: name });
                self.settle_down(place, actions);
                return self.stop_all(Ended::Itself(ExitReason::Shutdown), actions);
            }
            // Whoever can make keys could make the host keep isolated ones without end.
            Step::Isolate { .. } if self.is_simple() && self.children.isolated().len() >= bounds::ISOLATED_KEYS_MAX => {
                actions.push(Action::NotIsolated { name: name.clone() });
                self.restarts.forget_child(&name);
                return self.settle_down(place, actions);
            }
            Step::Isolate { restarts } => {
                let period = show_duration(self.settings.period);
                let last = match (self.children.at(place).spec.kind, reason) {
                    // It gave up, or a significant child of it ended.
                    (ChildKind::Supervisor, ExitReason::Shutdown) => " it ended by itself".to_string(),
                    _ => format!(": {reason}"),
                };
                let why = format!("it needed {} within {period}, the last after{last}", plural(restarts, "restart"));
                self.children.set(place, ChildState::Isolated);
                self.children.at_mut(place).restarts.clear();
                self.restarts.forget_child(&name);
                actions.push(Action::Isolate { name, why });
                return;
            }
            Step::Restart { restarts, circuit_break } => (restarts, circuit_break),
        };
        if let Some(restarts) = circuit_break {
            actions.push(Action::CircuitBreak { name: name.clone(), restarts });
        }
        let delay = self.delay(moment, place);
        self.restarts.wait(&name, delay);
        self.children.at_mut(place).restarts.wait(&name, delay);
        actions.push(Action::Restarting { name, delay, restarts });
        match self.settings.strategy {
            // One that never ran disturbs nobody.
            _ if never_ran => self.restart_alone(moment.now, place, delay, actions),
            Strategy::OneForOne | Strategy::SimpleOneForOne => self.restart_alone(moment.now, place, delay, actions),
            Strategy::OneForAll => self.restart_together(moment.now, place, Place::MIN, delay, actions),
            Strategy::RestForOne => self.restart_together(moment.now, place, place, delay, actions),
        }
    }

    /// Counts the failure, and says what it comes to.
    fn charge(&mut self, now: Tick, place: Place) -> Step {
        let period = self.settings.period;
        let intensity = self.settings.intensity;
        let steps = self.settings.escalation;
        let is_root = self.name.is_root();
        let each_key = self.is_simple() && self.settings.each_key;
        let limit =
            [steps.circuit_break, steps.isolate, steps.escalate].into_iter().flatten().fold(intensity, u32::max);
        let child = self.children.at_mut(place);
        let name = child.spec.name.clone();
        let own = child.restarts.add(now, &name, limit, period);
        let beyond = |step: Option<u32>| step.is_some_and(|count| own > count);
        let circuit_break = beyond(steps.circuit_break).then_some(own);
        if child.cause == Cause::Added {
            // It never ran: its own affair, and no restart of the supervisor's.
            return if own > intensity {
                Step::Isolate { restarts: own }
            } else {
                Step::Restart { restarts: own, circuit_break }
            };
        }
        let all = self.restarts.add(now, &name, intensity.max(RECENT), period);
        if beyond(steps.escalate) && !is_root {
            return Step::GiveUp { restarts: own };
        }
        if beyond(steps.isolate) {
            return Step::Isolate { restarts: own };
        }
        // There is nobody above the root to escalate to, and one child's fault is not to stop its
        // neighbours: each has a budget of its own there, and the root lets go of the child. Keys of a template are
        // strangers to one another, unless its settings say that they share a budget.
        if is_root || each_key {
            let isolated = own > intensity || beyond(steps.escalate);
            return if isolated {
                Step::Isolate { restarts: own }
            } else {
                Step::Restart { restarts: own, circuit_break }
            };
        }
        if all > intensity { Step::GiveUp { restarts: all } } else { Step::Restart { restarts: all, circuit_break } }
    }

    /// How long the restart waits: backoff, or the storm's end.
    fn delay(&mut self, moment: &mut Moment<'_>, place: Place) -> Duration {
        let child = self.children.at_mut(place);
        child.unhealthy = child.unhealthy.saturating_add(1);
        let storm = (moment.storm)(child.spec.tier);
        backoff::delay(&self.settings.backoff, child.unhealthy, moment.jitter).max(storm)
    }

    fn restart_alone(&mut self, now: Tick, place: Place, delay: Duration, actions: &mut Vec<Action>) {
        if delay.is_zero() {
            self.children.set(place, ChildState::Waiting);
        } else {
            let due = now.after(delay);
            self.children.set(place, ChildState::Restarting { due: Some(due) });
            actions.push(Action::WakeAt(due));
        }
    }

    /// The child and its siblings from `first` on are stopped in reverse order, and all start together:
    /// as with OTP one that an operator stopped starts too. Isolated ones do not, nor temporary ones.
    fn restart_together(&mut self, now: Tick, place: Place, first: Place, delay: Duration, actions: &mut Vec<Action>) {
        let name = self.children.at(place).spec.name.clone();
        self.children.at_mut(place).cause = Cause::Restart;
        self.children.set(place, ChildState::Restarting { due: None });
        let siblings: Vec<Place> =
            self.children.places().map(|(other, _)| other).filter(|other| *other >= first && *other != place).collect();
        let mut others = 0;
        for other in siblings {
            match self.children.at(other).state {
                ChildState::Starting | ChildState::Running => {
                    self.children.set_leaving(other, true);
                    others += 1;
                }
                ChildState::Waiting | ChildState::Restarting { due: Some(_) } => {
                    self.children.set(other, ChildState::Restarting { due: None });
                }
                ChildState::Down if self.children.at(other).spec.restart != Restart::Temporary => {
                    self.children.set(other, ChildState::Restarting { due: None });
                }
                ChildState::Stopping(Then::StartAgain) => {
                    self.children.set(other, ChildState::Stopping(Then::Rejoin));
                }
                _ => {}
            }
        }
        if others > 0 {
            actions.push(Action::Together { failed: name.clone(), others });
        }
        let due = now.after(delay);
        let due = self.round.as_ref().map_or(due, |round| round.due.max(due));
        self.round = Some(Round { due, failed: name });
        self.round_goes_on(now, actions);
    }

    /// Stops the next of those that leave; when all have, and the time has come, they start.
    pub(super) fn round_goes_on(&mut self, now: Tick, actions: &mut Vec<Action>) {
        let Some(round) = &self.round else { return };
        let due = round.due;
        if !self.children.stopping().is_empty() {
            return;
        }
        if let Some(&last) = self.children.leaving().last() {
            self.children.set_leaving(last, false);
            let spec = &self.children.at(last).spec;
            let then = match spec.restart {
                // Never restarted, not even as a bystander.
                Restart::Temporary if self.forgets(spec) => Then::Forget,
                Restart::Temporary => Then::StayDown,
                Restart::Permanent | Restart::Transient => Then::Rejoin,
            };
            return self.stop(last, then, actions);
        }
        if now < due {
            return actions.push(Action::WakeAt(due));
        }
        self.round = None;
        let joined: Vec<Place> = self.children.joined().iter().copied().collect();
        for place in joined {
            self.children.at_mut(place).cause = Cause::Restart;
            self.children.set(place, ChildState::Waiting);
        }
        self.start_next(actions);
    }

    /// The child has ended and starts again with its round.
    pub(super) fn join(&mut self, place: Place, actions: &mut Vec<Action>) {
        self.children.set_leaving(place, false);
        self.children.set(place, ChildState::Restarting { due: None });
        actions.push(Action::Rejoins(self.children.at(place).spec.name.clone()));
    }

    pub(super) fn due(&mut self, now: Tick, actions: &mut Vec<Action>) {
        if !self.is_running() {
            return;
        }
        while let Some(&(due, place)) = self.children.due().first() {
            if due > now {
                actions.push(Action::WakeAt(due));
                break;
            }
            self.children.set(place, ChildState::Waiting);
        }
        if self.round.is_some() {
            self.round_goes_on(now, actions);
        }
        self.start_next(actions);
    }

    /// Whose failure stops and starts others just now.
    pub fn round_of(&self) -> Option<&Name> {
        self.round.as_ref().map(|round| &round.failed)
    }
}
