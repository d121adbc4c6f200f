//! What a supervisor does, as pure policy: plain data, `now` in, actions out. The driver in
//! `supervisor` carries the actions out and does nothing else.
//!
//! ```text
//!   of a child:
//!                 its turn           started
//!      Waiting -----------> Starting --------> Running
//!         ^                    | failed           | exited
//!         |                    v                  v
//!         |         restart type, then budget and escalation steps:
//!         +-- due ---- Restarting   |   Down   |   Isolated   |   the supervisor gives up
//!                           ^
//!                           +-- stopped as a sibling of one that failed (one-for-all, rest-for-one)
//!      Stopping(then): by an operator, the directory, a strategy, or the supervisor's own end
//! ```
//!
//! Rules: `OTP.md`, section 1; what is past OTP says so. By file: `starting` (order and
//! dependencies), `failing` (budget, escalation, strategies, significant children), `stopping`,
//! `asked` (operators and the directory), `children` (who is where), `check` (impossible policies).

mod asked;
mod check;
mod children;
mod failing;
mod starting;
mod stopping;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::check::{Refusal, Sibling, absent, check};
use self::children::{Children, Place};
use super::budget::Restarts;
use super::spec::{Restart, Shutdown, Strategy, SupervisorSettings, Tier};
use crate::base::{ExitReason, Incarnation, Name, Tick, bounds};

/// One supervisor's children and what it will do about them.
#[derive(Clone, Debug)]
pub struct Supervision {
    name: Name,
    settings: SupervisorSettings,
    children: Children,
    /// Restarts of all children, within the period.
    restarts: Restarts,
    phase: Phase,
    round: Option<Round>,
    /// It was said that many are isolated, and they still are.
    many_isolated: bool,
}

/// What a supervisor is told of a child when it enters the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSpec {
    pub name: Name,
    pub kind: ChildKind,
    pub restart: Restart,
    pub shutdown: Shutdown,
    pub significant: bool,
    /// Siblings, by the last part of their names, that are started before it.
    pub after: Vec<String>,
    pub tier: Tier,
    /// The directory says that it is there: its spec is never forgotten, only removed.
    pub declared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    Worker,
    Supervisor,
}

/// What the supervisor knows of one child.
#[derive(Clone, Debug)]
pub struct Child {
    pub spec: ChildSpec,
    pub state: ChildState,
    /// The restarts of this child alone, within the supervisor's period.
    restarts: Restarts,
    /// Restarts since it was last healthy: how long the next one waits.
    unhealthy: u32,
    incarnation: Incarnation,
    /// Whether it was started before: the next start is another incarnation.
    begun: bool,
    started_at: Tick,
    cause: Cause,
    /// A round is about to stop it.
    leaving: bool,
    /// `order` names it.
    named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// Known, does not run, and nothing will start it by itself.
    Down,
    /// To be started when its turn comes.
    Waiting,
    Starting,
    Running,
    Stopping(Then),
    /// To be started again: at a time of its own, or with its round.
    Restarting {
        due: Option<Tick>,
    },
    /// Let go of: only an operator or a new file starts it, while the host runs.
    Isolated,
}

/// What follows when a child has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    StayDown,
    StartAgain,
    /// Start with the others of its round.
    Rejoin,
    Isolate,
    Forget,
}

/// Why a child is started, which decides what its failure to start means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// With its supervisor: that fails too. At the root, as `Added`.
    First,
    /// The directory added it: it is tried again within a budget of its own, then isolated.
    Added,
    /// It, or a sibling, failed: counts as one more restart.
    Restart,
    /// An operator or a guest asked, and is told: nothing tries again.
    Asked,
}

/// Children that one-for-all or rest-for-one stops and starts together. They start when those that
/// leave have stopped and the backoff of the one that failed is over.
#[derive(Clone, Debug)]
struct Round {
    due: Tick,
    /// Whose failure it was.
    failed: Name,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// Starts its children for the first time.
    Starting,
    Running,
    /// Stops its children in reverse, and ends so.
    Stopping(Ended),
}

/// Why a child is isolated that an operator isolates.
pub const BY_OPERATOR: &str = "by an operator";

/// How a supervisor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Asked,
    /// By itself: it gave up, or shut down with its significant children.
    Itself(ExitReason),
    /// A child did not start, and so neither did it.
    StartFailed(ExitReason),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The parent (or the host) starts this supervisor.
    Start,
    /// The parent (or the host) stops it.
    Stop,
    Started(Name),
    /// It answered its start with "ignore": no error, and it does not run.
    Ignored(Name),
    StartFailed(Name, ExitReason),
    Exited(Name, ExitReason),
    Stopped(Name),
    /// A child of a template idled and has left the tree by itself.
    Retired(Name),
    /// A moment that was asked for has come.
    Due,
    /// A new child. One that the directory declares is started as the supervisor's phase says; any
    /// other by request of an operator or a guest.
    Add(Box<ChildSpec>),
    /// A child's spec changed; what runs goes on.
    Change(Box<ChildSpec>),
    /// The directory does not name it any more: it is stopped and forgotten.
    Remove(Name),
    Configure(Box<SupervisorSettings>),
    /// By an operator or the directory: never counted in the budget.
    StartChild(Name),
    /// Something was mended that a child may have failed over.
    RetryChild(Name),
    StopChild(Name),
    /// Stopped if it runs, then started.
    RestartChild(Name),
    /// Stopped, and kept so.
    IsolateChild(Name),
    DeleteChild(Name),
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
        /// It will be started again: what waits in its mailbox goes on waiting.
        comes_back: bool,
    },
    /// The child will be started again after `delay`; `restarts`: within the period, this one included.
    Restarting {
        name: Name,
        delay: Duration,
        restarts: u32,
    },
    /// `failed` takes `others` along, which are stopped now and start with it.
    Together {
        failed: Name,
        others: usize,
    },
    /// The child's circuit breaker is to open: an escalation step. `restarts`: of this child alone, within the period.
    CircuitBreak {
        name: Name,
        restarts: u32,
    },
    /// The child stays down, isolated; for those who look.
    Isolate {
        name: Name,
        why: String,
    },
    /// The child stays down; for those who look.
    StaysDown(Name),
    /// The child has stopped and waits to be started with its round; for those who look.
    Rejoins(Name),
    /// Take the child out of the tree: it has stopped.
    Forget(Name),
    /// It would be, were there not as many isolated keys as may be: it leaves; for those who look.
    NotIsolated {
        name: Name,
    },
    /// Of the keys of a template, each with a budget of its own, a tenth is isolated by now; for those who look.
    ManyIsolated {
        isolated: usize,
        children: usize,
    },
    WakeAt(Tick),
    GaveUp {
        restarts: u32,
        last: Name,
    },
    /// A significant child ended, and the supervisor with it.
    AutoShutdown {
        by: Name,
    },
    /// All children were started; at the root: or tried.
    SelfStarted,
    /// All children have stopped.
    SelfEnded(Ended),
}

/// What is said at once to an operator's request (OTP.md, *Answers to an operator*). How a start went
/// follows with `Input::Started` or `Input::StartFailed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    /// It runs, or is being started.
    AlreadyStarted,
    /// A child of that name is known, but does not run or is in its restart loop.
    AlreadyPresent,
    Restarting,
    NotFound,
    /// The supervisor itself does not run.
    SupervisorDown,
}

/// Specs of a supervisor and how they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub specs: usize,
    /// Children that start, run or stop; not those that are being restarted.
    pub active: usize,
    pub supervisors: usize,
    pub workers: usize,
}

/// What an input comes with.
pub struct Moment<'a> {
    pub now: Tick,
    /// In 0..100: spreads restarts.
    pub jitter: u32,
    /// How long a restart of this tier has to wait because too many are under way in the whole tree.
    pub storm: &'a mut dyn FnMut(Tier) -> Duration,
}

impl Supervision {
    pub fn new(name: Name, settings: SupervisorSettings) -> Supervision {
        Supervision {
            name,
            settings,
            children: Children::default(),
            restarts: Restarts::default(),
            phase: Phase::Down,
            round: None,
            many_isolated: false,
        }
    }

    /// The same supervisor after a fault of the host's, over which its children may have come to stand in any way: each
    /// but those that were isolated is taken to run. `is_there`: whether a child is one still.
    pub fn after_fault(before: &Supervision, is_there: impl Fn(&Name) -> bool) -> Supervision {
        let mut after = Supervision::new(before.name.clone(), before.settings.clone());
        for child in before.children.iter().filter(|child| is_there(&child.spec.name)) {
            let restarts = Restarts::default();
            let state = match child.state {
                ChildState::Isolated => ChildState::Isolated,
                _ => ChildState::Running,
            };
            after.children.push(Child { restarts, state, cause: Cause::Restart, leaving: false, ..child.clone() });
        }
        after.phase = Phase::Running;
        after
    }

    /// Ends now, whatever it did: all of its children are stopped, in reverse.
    pub fn end(&mut self, end: Ended) -> Vec<Action> {
        let mut actions = Vec::new();
        self.stop_all(end, &mut actions);
        actions
    }

    pub fn settings(&self) -> &SupervisorSettings {
        &self.settings
    }

    /// In start order.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = &Child> {
        self.children.iter()
    }

    /// Those after a child, in start order; all where there is none of that name.
    pub fn children_after(&self, name: Option<&Name>) -> impl Iterator<Item = &Child> {
        self.children.after(name.and_then(|name| self.children.find(name)))
    }

    pub fn child(&self, name: &Name) -> Option<&Child> {
        self.children.get(name)
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// All of its children were started, or tried.
    pub fn has_started(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Restarts within the period: when, and of whom.
    pub fn recent_restarts(&mut self, now: Tick) -> Vec<(Tick, Name)> {
        self.restarts.within(now, self.settings.period)
    }

    /// The restarts of one child within the period.
    pub fn restarts_of(&mut self, name: &Name, now: Tick) -> u32 {
        let period = self.settings.period;
        let Some(place) = self.children.find(name) else { return 0 };
        self.children.at_mut(place).restarts.count(now, period)
    }

    pub fn counts(&self) -> Counts {
        let supervisors = self.children().filter(|child| child.spec.kind == ChildKind::Supervisor).count();
        let active = [self.children.starting(), self.children.running(), self.children.stopping()];
        let tries = self.children.starting().iter().filter(|place| self.children.at(**place).is_restarting()).count();
        Counts {
            // A template is one spec, however many children it has (OTP's `count_children`).
            specs: if self.is_simple() { 1 } else { self.children.len() },
            active: active.iter().map(|set| set.len()).sum::<usize>() - tries,
            supervisors,
            workers: self.children.len() - supervisors,
        }
    }

    /// Children that were down or isolated, or stopped, and are to start by what was decided since this was asked last: messages for
    /// them wait from now on.
    pub fn take_risen(&mut self) -> Vec<Name> {
        self.children.take_risen()
    }

    /// Takes in what happened at `now`, where no storm is. `jitter` is in 0..100.
    pub fn on(&mut self, now: Tick, jitter: u32, input: Input) -> (Answer, Vec<Action>) {
        self.at(&mut Moment { now, jitter, storm: &mut |_| Duration::ZERO }, input)
    }

    /// Takes in what happened.
    pub fn at(&mut self, moment: &mut Moment<'_>, input: Input) -> (Answer, Vec<Action>) {
        let mut actions = Vec::new();
        let answer = self.decide(moment, input, &mut actions);
        self.look_for_many_isolated(&mut actions);
        (answer, actions)
    }

    fn decide(&mut self, moment: &mut Moment<'_>, input: Input, actions: &mut Vec<Action>) -> Answer {
        match input {
            Input::Start => self.start(actions),
            Input::Stop => self.stop_all(Ended::Asked, actions),
            Input::Started(name) => self.started(moment.now, &name, actions),
            Input::Ignored(name) => self.ignored(moment.now, &name, actions),
            Input::StartFailed(name, reason) => self.start_failed(moment, &name, &reason, actions),
            Input::Exited(name, reason) => self.exited(moment, &name, &reason, actions),
            Input::Stopped(name) => self.stopped(moment.now, &name, actions),
            Input::Retired(name) => self.retired(moment.now, &name, actions),
            Input::Due => self.due(moment.now, actions),
            Input::Add(spec) => return self.add(*spec, actions),
            Input::Change(spec) => return self.change(*spec),
            Input::Remove(name) => return self.stop_child(moment.now, &name, Then::Forget, actions),
            Input::Configure(settings) => self.configure(*settings),
            Input::StartChild(name) => return self.start_child(&name, actions),
            Input::RetryChild(name) => return self.retry_child(&name, actions),
            Input::StopChild(name) => return self.stop_child(moment.now, &name, Then::StayDown, actions),
            Input::RestartChild(name) => return self.restart_child(moment.now, &name, actions),
            Input::IsolateChild(name) => return self.stop_child(moment.now, &name, Then::Isolate, actions),
            Input::DeleteChild(name) => return self.delete_child(&name, actions),
        }
        Answer::Ok
    }

    fn is_simple(&self) -> bool {
        self.settings.strategy == Strategy::SimpleOneForOne
    }

    /// Says so when a tenth of a template's keys is isolated, and again only after there were fewer.
    fn look_for_many_isolated(&mut self, actions: &mut Vec<Action>) {
        let (isolated, children) = (self.children.isolated().len(), self.children.len());
        let many = isolated > 0 && isolated * bounds::MANY_ISOLATED >= children && self.is_simple();
        // Not where an operator isolates one, or others leave.
        let is_decided =
            actions.iter().any(|action| matches!(action, Action::Isolate { why, .. } if why != BY_OPERATOR));
        if many && is_decided && !std::mem::replace(&mut self.many_isolated, many) && self.settings.each_key {
            actions.push(Action::ManyIsolated { isolated, children });
        }
        self.many_isolated &= many;
    }

    /// Whether nothing is kept of a child that ended and is not to be restarted. What the directory
    /// declares is kept: its file is its spec.
    fn forgets(&self, spec: &ChildSpec) -> bool {
        !spec.declared && (spec.restart == Restart::Temporary || self.is_simple())
    }

    /// The child has ended and nothing will start it by itself.
    fn settle_down(&mut self, place: Place, actions: &mut Vec<Action>) {
        let spec = &self.children.at(place).spec;
        let name = spec.name.clone();
        if self.forgets(spec) {
            self.children.remove(place);
            actions.push(Action::Forget(name));
        } else {
            self.children.set_leaving(place, false);
            self.children.set(place, ChildState::Down);
            actions.push(Action::StaysDown(name));
        }
    }
}

impl ChildState {
    /// Nothing will start it by itself: messages for it are refused.
    fn rests(self) -> bool {
        matches!(self, ChildState::Down | ChildState::Isolated)
    }
}

impl Child {
    fn new(spec: ChildSpec, state: ChildState, cause: Cause) -> Child {
        Child {
            spec,
            state,
            restarts: Restarts::default(),
            unhealthy: 0,
            incarnation: Incarnation::default(),
            begun: false,
            started_at: Tick::ZERO,
            cause,
            leaving: false,
            named: false,
        }
    }

    /// It has not been up since its supervisor started, or the directory added it.
    fn never_ran(&self) -> bool {
        matches!(self.cause, Cause::First | Cause::Added)
    }

    /// It starts, runs or stops.
    fn is_active(&self) -> bool {
        matches!(self.state, ChildState::Starting | ChildState::Running | ChildState::Stopping(_))
    }

    /// It failed, or a sibling with which it goes, and it has not come up since: it waits, or a try is under way.
    pub fn is_restarting(&self) -> bool {
        match self.state {
            ChildState::Restarting { .. } | ChildState::Stopping(Then::Rejoin) => true,
            ChildState::Waiting | ChildState::Starting => self.cause == Cause::Restart || self.unhealthy > 0,
            ChildState::Down | ChildState::Running | ChildState::Stopping(_) | ChildState::Isolated => false,
        }
    }
}
