//! What a supervisor does, as pure policy: plain data, `now` in, actions out. The driver in
//! `supervisor` carries the actions out and does nothing else.
//!
//! ```text
//!   of a child:
//!                 start                started
//!      Down -----------> Starting --------------------> Running
//!       ^  ^               | failed                       | exited
//!       |  |               v                              v
//!       |  |        restart type, then budget:  Restarting{due} -- due --> Starting
//!       |  |        Isolated (root only), or the supervisor gives up
//!       |  +--- exited, not to be restarted
//!       +------ stopped <--- Stopping <--- stop (operator, directory, the supervisor's own end)
//! ```
//!
//! Rules: `OTP.md`, section 1. This version has one-for-one; the other strategies add what happens
//! to the siblings in [`Supervision::failed`], and a list of children to stop and start in order,
//! which [`Supervision::stop_all`] and [`Supervision::start_next`] already walk.

use std::time::Duration;

use super::backoff;
use super::budget::{RestartBudget, Verdict};
use super::spec::{Restart, Shutdown, SupervisorSettings};
use crate::base::{ExitReason, Incarnation, Name, Tick};

/// One supervisor's children and what it will do about them.
#[derive(Clone, Debug)]
pub struct Supervision {
    name: Name,
    settings: SupervisorSettings,
    children: Vec<Child>,
    budget: RestartBudget,
    phase: Phase,
}

/// What the supervisor knows of one child.
#[derive(Clone, Debug)]
pub struct Child {
    pub name: Name,
    pub restart: Restart,
    pub shutdown: Shutdown,
    pub state: ChildState,
    /// Restarts since it was last healthy.
    restarts: u32,
    incarnation: Incarnation,
    /// Whether it was started before: the next start is another incarnation.
    begun: bool,
    /// The root's: restarts of this child alone.
    budget: RestartBudget,
    started_at: Tick,
    /// An operator started it: if that fails, nothing tries again.
    asked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildState {
    Down,
    /// In the queue of a supervisor that starts its children one after another.
    Waiting,
    Starting,
    Running,
    Stopping(Then),
    Restarting {
        due: Tick,
    },
    Isolated,
}

/// What follows when a child has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    StayDown,
    StartAgain,
    Forget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// Starts its children, in order.
    Starting,
    Running,
    /// Stops its children in reverse, and ends with this reason.
    Stopping(End),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Asked,
    GaveUp,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The parent (or the host) starts this supervisor.
    Start,
    /// The parent (or the host) stops it.
    Stop,
    Started(Name),
    StartFailed(Name, ExitReason),
    Exited(Name, ExitReason),
    Stopped(Name),
    /// A moment that was asked for has come.
    Due,
    Add {
        name: Name,
        restart: Restart,
        shutdown: Shutdown,
    },
    /// A child's spec changed; what runs goes on.
    Change {
        name: Name,
        restart: Restart,
        shutdown: Shutdown,
    },
    Remove(Name),
    Configure(Box<SupervisorSettings>),
    /// By an operator or the directory: never counted in the budget.
    StartChild(Name),
    StopChild(Name),
    RestartChild(Name),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    StartChild {
        name: Name,
        incarnation: Incarnation,
    },
    StopChild {
        name: Name,
        reason: ExitReason,
        shutdown: Shutdown,
    },
    /// The child will be started again at `due`; for those who look.
    Restarting {
        name: Name,
        delay: Duration,
        restarts: u32,
    },
    Isolate {
        name: Name,
        why: String,
    },
    /// Take the child out of the tree: it has stopped.
    Forget(Name),
    WakeAt(Tick),
    GaveUp {
        restarts: u32,
        last: Name,
    },
    /// All children were started, or tried.
    SelfStarted,
    /// All children have stopped. `Some`: it gave up.
    SelfEnded(Option<ExitReason>),
}

/// An operator's request and a child's state did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    AlreadyStarted,
    NotFound,
}

impl Supervision {
    pub fn new(name: Name, settings: SupervisorSettings) -> Supervision {
        Supervision { name, settings, children: Vec::new(), budget: RestartBudget::default(), phase: Phase::Down }
    }

    pub fn settings(&self) -> &SupervisorSettings {
        &self.settings
    }

    pub fn children(&self) -> &[Child] {
        &self.children
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// Restarts within the period.
    pub fn restarts_used(&mut self, now: Tick) -> u32 {
        self.budget.used(now, self.settings.period)
    }

    /// Takes in what happened at `now`. `random` is in 0..100 and spreads restarts.
    pub fn on(&mut self, now: Tick, random: u32, input: Input) -> (Answer, Vec<Action>) {
        let mut actions = Vec::new();
        let answer = self.decide(now, random, input, &mut actions);
        (answer, actions)
    }

    fn decide(&mut self, now: Tick, random: u32, input: Input, actions: &mut Vec<Action>) -> Answer {
        match input {
            Input::Start => self.start(actions),
            Input::Stop => self.stop_all(End::Asked, actions),
            Input::Started(name) => self.started(now, &name, actions),
            Input::StartFailed(name, reason) => self.start_failed(now, random, &name, &reason, actions),
            Input::Exited(name, reason) => self.exited(now, random, &name, &reason, actions),
            Input::Stopped(name) => self.stopped(&name, actions),
            Input::Due => self.due(now, actions),
            Input::Add { name, restart, shutdown } => return self.add(name, restart, shutdown, actions),
            Input::Change { name, restart, shutdown } => match self.child(&name) {
                Some(child) => (child.restart, child.shutdown) = (restart, shutdown),
                None => return Answer::NotFound,
            },
            Input::Remove(name) => return self.stop_child(&name, Then::Forget, actions),
            Input::Configure(settings) => self.configure(*settings),
            Input::StartChild(name) => return self.start_child(&name, actions),
            Input::StopChild(name) => return self.stop_child(&name, Then::StayDown, actions),
            Input::RestartChild(name) => return self.restart_child(&name, actions),
        }
        Answer::Ok
    }

    fn start(&mut self, actions: &mut Vec<Action>) {
        if self.phase != Phase::Down {
            return;
        }
        self.phase = Phase::Starting;
        self.budget.clear();
        for child in &mut self.children {
            child.restarts = 0;
            child.budget.clear();
            child.asked = false;
            child.state = match child.state {
                // An operator stopped it while the supervisor was down, and its answer is on its way.
                ChildState::Stopping(Then::Forget) => ChildState::Stopping(Then::Forget),
                ChildState::Stopping(_) => ChildState::Stopping(Then::StartAgain),
                _ => ChildState::Waiting,
            };
        }
        self.start_next(actions);
    }

    /// Starts children that wait: while the supervisor starts one after another, then all at once.
    fn start_next(&mut self, actions: &mut Vec<Action>) {
        let one_starts = self.children.iter().any(|child| child.state == ChildState::Starting);
        let mut waiting = self.children.iter_mut().filter(|child| child.state == ChildState::Waiting);
        match self.phase {
            Phase::Running => waiting.for_each(|child| begin(child, actions)),
            Phase::Starting if one_starts => {}
            Phase::Starting => match waiting.next() {
                Some(child) => begin(child, actions),
                None => {
                    self.phase = Phase::Running;
                    actions.push(Action::SelfStarted);
                }
            },
            Phase::Down | Phase::Stopping(_) => {}
        }
    }

    fn started(&mut self, now: Tick, name: &Name, actions: &mut Vec<Action>) {
        if let Some(child) = self.child(name)
            && child.state == ChildState::Starting
        {
            child.state = ChildState::Running;
            child.started_at = now;
            child.asked = false;
        }
        self.start_next(actions);
    }

    fn start_failed(&mut self, now: Tick, random: u32, name: &Name, reason: &ExitReason, actions: &mut Vec<Action>) {
        match self.child(name) {
            Some(child) if child.state == ChildState::Starting => {
                if std::mem::take(&mut child.asked) {
                    child.state = ChildState::Down;
                } else {
                    self.ended(now, random, name, reason, actions);
                }
            }
            _ => {}
        }
        self.start_next(actions);
    }

    fn exited(&mut self, now: Tick, random: u32, name: &Name, reason: &ExitReason, actions: &mut Vec<Action>) {
        let healthy_after = self.settings.backoff.healthy_after;
        let Some(child) = self.child(name) else { return };
        match child.state {
            ChildState::Running => {
                if now.since(child.started_at) >= healthy_after {
                    child.restarts = 0;
                }
                self.ended(now, random, name, reason, actions);
                self.start_next(actions);
            }
            // A supervisor that gave up before its children were up.
            ChildState::Starting => self.start_failed(now, random, name, reason, actions),
            // It ended by itself while it was being stopped: the stop's own answer follows.
            _ => {}
        }
    }

    /// A child is down and nobody asked for it.
    fn ended(&mut self, now: Tick, random: u32, name: &Name, reason: &ExitReason, actions: &mut Vec<Action>) {
        let running = self.is_running();
        let Some(child) = self.child(name) else { return };
        let again = match child.restart {
            Restart::Permanent => true,
            Restart::Transient => !reason.is_orderly(),
            Restart::Temporary => false,
        };
        if again && running {
            self.failed(now, random, name, reason, actions);
        } else {
            child.state = ChildState::Down;
        }
    }

    /// A child is to be restarted: one event against the budget, then the strategy. One-for-one
    /// restarts the child alone.
    fn failed(&mut self, now: Tick, random: u32, name: &Name, reason: &ExitReason, actions: &mut Vec<Action>) {
        let (intensity, period) = (self.settings.intensity, self.settings.period);
        let mut verdict = self.budget.restart(now, intensity, period);
        let mut used = self.budget.used(now, period);
        let backoff = self.settings.backoff;
        let is_root = self.name.is_root();
        let Some(child) = self.child(name) else { return };
        if is_root {
            // The root isolates the child at fault, so each has a budget of its own there: the first
            // failure of one is not the last straw of another's.
            verdict = child.budget.restart(now, intensity, period);
            used = child.budget.used(now, period);
        }
        if verdict == Verdict::GiveUp {
            if is_root {
                // There is nobody above to escalate to, and one child's fault is not to stop its
                // neighbours: the root keeps them and lets go of the child.
                child.state = ChildState::Isolated;
                let why = format!("{used} restarts within {}, the last after: {reason}", show(period));
                actions.push(Action::Isolate { name: name.clone(), why });
                child.budget.clear();
                return;
            }
            child.state = ChildState::Down;
            actions.push(Action::GaveUp { restarts: used, last: name.clone() });
            return self.stop_all(End::GaveUp, actions);
        }
        child.restarts = child.restarts.saturating_add(1);
        let delay = backoff::delay(&backoff, child.restarts, random);
        actions.push(Action::Restarting { name: name.clone(), delay, restarts: used });
        if delay.is_zero() {
            child.state = ChildState::Waiting;
        } else {
            let due = now.after(delay);
            child.state = ChildState::Restarting { due };
            actions.push(Action::WakeAt(due));
        }
    }

    fn due(&mut self, now: Tick, actions: &mut Vec<Action>) {
        if !self.is_running() {
            return;
        }
        for child in &mut self.children {
            if matches!(child.state, ChildState::Restarting { due } if due <= now) {
                child.state = ChildState::Waiting;
            }
        }
        self.start_next(actions);
        let next = self.children.iter().filter_map(|child| match child.state {
            ChildState::Restarting { due } => Some(due),
            _ => None,
        });
        if let Some(next) = next.min() {
            actions.push(Action::WakeAt(next));
        }
    }

    /// Stops the last child that is up; when none is, the supervisor has ended.
    fn stop_all(&mut self, end: End, actions: &mut Vec<Action>) {
        if self.phase == Phase::Down {
            actions.push(Action::SelfEnded(None));
            return;
        }
        // Asked while it gives up: who asked waits for the answer to that.
        if end == End::Asked || !matches!(self.phase, Phase::Stopping(_)) {
            self.phase = Phase::Stopping(end);
        }
        self.stop_next(actions);
    }

    fn stop_next(&mut self, actions: &mut Vec<Action>) {
        let Phase::Stopping(end) = &self.phase else { return };
        for child in self.children.iter_mut().rev() {
            match child.state {
                ChildState::Stopping(_) => return,
                ChildState::Starting | ChildState::Running => {
                    child.state = ChildState::Stopping(Then::StayDown);
                    actions.push(stop(child));
                    return;
                }
                ChildState::Waiting | ChildState::Restarting { .. } => child.state = ChildState::Down,
                ChildState::Down | ChildState::Isolated => {}
            }
        }
        let reason = match end {
            End::Asked => None,
            // OTP.md, *Intensity*: it ends with reason shutdown.
            End::GaveUp => Some(ExitReason::Shutdown),
        };
        self.phase = Phase::Down;
        actions.push(Action::SelfEnded(reason));
    }

    fn stopped(&mut self, name: &Name, actions: &mut Vec<Action>) {
        let Some(at) = self.children.iter().position(|child| child.name == *name) else { return };
        let child = &mut self.children[at];
        let ChildState::Stopping(then) = child.state else { return };
        child.state = ChildState::Down;
        let running = matches!(self.phase, Phase::Starting | Phase::Running);
        match then {
            Then::StayDown => {}
            Then::StartAgain if running => {
                child.asked = true;
                child.state = ChildState::Waiting;
            }
            Then::StartAgain => {}
            Then::Forget => {
                let child = self.children.remove(at);
                actions.push(Action::Forget(child.name));
            }
        }
        self.stop_next(actions);
        self.start_next(actions);
    }

    fn add(&mut self, name: Name, restart: Restart, shutdown: Shutdown, actions: &mut Vec<Action>) -> Answer {
        if self.child(&name).is_some() {
            return Answer::AlreadyStarted;
        }
        let state = if self.is_running() { ChildState::Waiting } else { ChildState::Down };
        self.children.push(Child {
            name,
            restart,
            shutdown,
            state,
            restarts: 0,
            incarnation: Incarnation::default(),
            begun: false,
            budget: RestartBudget::default(),
            started_at: Tick::ZERO,
            asked: false,
        });
        self.start_next(actions);
        Answer::Ok
    }

    fn start_child(&mut self, name: &Name, actions: &mut Vec<Action>) -> Answer {
        let running = self.is_running();
        let Some(child) = self.child(name) else { return Answer::NotFound };
        match child.state {
            ChildState::Down | ChildState::Isolated | ChildState::Restarting { .. } if running => {
                child.restarts = 0;
                child.asked = true;
                child.state = ChildState::Waiting;
                self.start_next(actions);
                Answer::Ok
            }
            // It is leaving; who removed it was promised so.
            ChildState::Stopping(Then::Forget) => Answer::NotFound,
            ChildState::Stopping(_) => {
                child.state = ChildState::Stopping(Then::StartAgain);
                Answer::Ok
            }
            ChildState::Down | ChildState::Isolated => Answer::NotFound,
            _ => Answer::AlreadyStarted,
        }
    }

    fn stop_child(&mut self, name: &Name, then: Then, actions: &mut Vec<Action>) -> Answer {
        let Some(child) = self.child(name) else { return Answer::NotFound };
        match child.state {
            ChildState::Starting | ChildState::Running => {
                child.state = ChildState::Stopping(then);
                actions.push(stop(child));
            }
            ChildState::Stopping(Then::Forget) => {}
            ChildState::Stopping(_) => child.state = ChildState::Stopping(then),
            // This ends a restart loop, and takes back an isolation.
            ChildState::Down | ChildState::Waiting | ChildState::Restarting { .. } | ChildState::Isolated => {
                child.state = ChildState::Stopping(then);
                actions.push(stop(child));
            }
        }
        Answer::Ok
    }

    fn restart_child(&mut self, name: &Name, actions: &mut Vec<Action>) -> Answer {
        let Some(child) = self.child(name) else { return Answer::NotFound };
        match child.state {
            ChildState::Starting | ChildState::Running => {
                child.state = ChildState::Stopping(Then::StartAgain);
                actions.push(stop(child));
                Answer::Ok
            }
            _ => self.start_child(name, actions),
        }
    }

    /// New flags hold from now on; children go on as they are. The order of the named ones is the
    /// next start's.
    fn configure(&mut self, settings: SupervisorSettings) {
        let place = |name: &Name| {
            let leaf = name.leaf();
            settings.order.iter().position(|first| first == leaf).unwrap_or(settings.order.len())
        };
        self.children.sort_by_key(|child| place(&child.name));
        self.settings = settings;
    }

    fn child(&mut self, name: &Name) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.name == *name)
    }
}

fn begin(child: &mut Child, actions: &mut Vec<Action>) {
    child.state = ChildState::Starting;
    if std::mem::replace(&mut child.begun, true) {
        child.incarnation = child.incarnation.next();
    }
    actions.push(Action::StartChild { name: child.name.clone(), incarnation: child.incarnation });
}

fn stop(child: &Child) -> Action {
    Action::StopChild { name: child.name.clone(), reason: ExitReason::Shutdown, shutdown: child.shutdown }
}

fn show(duration: Duration) -> String {
    crate::base::units::show_duration(duration)
}

#[cfg(test)]
mod tests;
