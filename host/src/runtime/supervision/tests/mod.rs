//! The rules of `OTP.md`, section 1, each by its paragraph; what is past OTP; and what holds after any
//! sequence of events.

mod answers;
mod backoff;
mod changing;
mod check;
mod cost;
mod model;
mod order;
mod past_otp;
mod restart;
mod shutdown;
mod significant;
mod strategies;

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use expect_test::Expect;

use super::*;
use crate::base::Failure;
use crate::base::units::show_duration as show;

/// A supervisor's policy, children that answer at once unless told otherwise, and a clock that
/// moves by hand. Writes down each input and what the policy said to it.
struct World {
    policy: Supervision,
    now: Tick,
    wake_at: Option<Tick>,
    /// How long restarts have to wait because too many are under way elsewhere.
    storm: Duration,
    /// Children that do not answer by themselves.
    slow: BTreeSet<Name>,
    /// Children that cannot be started.
    broken: BTreeSet<Name>,
    /// Children that answer their start with "ignore".
    ignoring: BTreeSet<Name>,
    answers: VecDeque<Input>,
    trace: String,
}

/// The permanent children `a`, `b` and `c` of a supervisor `sup`, started.
fn abc(settings: SupervisorSettings) -> World {
    let mut world = World::new("sup", settings, &["a", "b", "c"]);
    world.start();
    world.forget_trace();
    world
}

fn intensity(intensity: u32) -> SupervisorSettings {
    SupervisorSettings { intensity, each_key: false, ..SupervisorSettings::default() }
}

fn strategy(strategy: Strategy, intensity: u32) -> SupervisorSettings {
    SupervisorSettings { strategy, intensity, ..SupervisorSettings::default() }
}

/// Names that start one after another.
fn ordered(order: &str) -> SupervisorSettings {
    SupervisorSettings { order: leaves(order), ..SupervisorSettings::default() }
}

fn leaves(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

fn trap() -> ExitReason {
    ExitReason::Failed(Failure::Trap { message: "oops".to_string(), backtrace: Vec::new() })
}

impl World {
    /// `sup`: empty for the root. Its children are permanent, and the directory declares them.
    fn new(sup: &str, settings: SupervisorSettings, children: &[&str]) -> World {
        let name = if sup.is_empty() { Name::root() } else { Name::parse(sup).unwrap() };
        let mut world = World {
            policy: Supervision::new(name, settings),
            now: Tick::ZERO,
            wake_at: None,
            storm: Duration::ZERO,
            slow: BTreeSet::new(),
            broken: BTreeSet::new(),
            ignoring: BTreeSet::new(),
            answers: VecDeque::new(),
            trace: String::new(),
        };
        children.iter().for_each(|leaf| world.add(leaf, Restart::Permanent));
        world.forget_trace();
        world
    }

    fn name(&self, leaf: &str) -> Name {
        self.policy.name.child(leaf).unwrap()
    }

    /// A permanent worker that the directory declares.
    fn spec(&self, leaf: &str) -> ChildSpec {
        ChildSpec {
            name: self.name(leaf),
            kind: ChildKind::Worker,
            restart: Restart::Permanent,
            shutdown: Shutdown::Time(Duration::from_secs(5)),
            significant: false,
            after: Vec::new(),
            tier: Tier::Normal,
            declared: true,
        }
    }

    fn add(&mut self, leaf: &str, restart: Restart) {
        let spec = ChildSpec { restart, ..self.spec(leaf) };
        self.tell(Input::Add(Box::new(spec)));
    }

    /// Added by the directory, to be started after its siblings `after`.
    fn add_after(&mut self, leaf: &str, after: &str) {
        let spec = ChildSpec { after: leaves(after), ..self.spec(leaf) };
        self.tell(Input::Add(Box::new(spec)));
    }

    fn add_significant(&mut self, leaf: &str, restart: Restart) {
        let spec = ChildSpec { restart, significant: true, ..self.spec(leaf) };
        self.tell(Input::Add(Box::new(spec)));
    }

    /// A start of a new child, asked for by an operator or a guest.
    fn ask_for(&mut self, leaf: &str, restart: Restart) {
        let spec = ChildSpec { restart, declared: false, ..self.spec(leaf) };
        self.tell(Input::Add(Box::new(spec)));
    }

    fn change(&mut self, leaf: &str, change: impl FnOnce(&mut ChildSpec)) {
        let mut spec = self.policy.child(&self.name(leaf)).map_or(self.spec(leaf), |child| child.spec.clone());
        change(&mut spec);
        self.tell(Input::Change(Box::new(spec)));
    }

    fn configure(&mut self, settings: SupervisorSettings) {
        self.tell(Input::Configure(Box::new(settings)));
    }

    fn slow(&mut self, of: &str) {
        self.slow = leaves(of).iter().map(|leaf| self.name(leaf)).collect();
    }

    fn broken(&mut self, of: &str) {
        self.broken = leaves(of).iter().map(|leaf| self.name(leaf)).collect();
    }

    fn ignoring(&mut self, of: &str) {
        self.ignoring = leaves(of).iter().map(|leaf| self.name(leaf)).collect();
    }

    fn start(&mut self) {
        self.tell(Input::Start);
    }

    fn stop(&mut self) {
        self.tell(Input::Stop);
    }

    fn started(&mut self, leaf: &str) {
        self.tell(Input::Started(self.name(leaf)));
    }

    fn start_failed(&mut self, leaf: &str) {
        self.tell(Input::StartFailed(self.name(leaf), trap()));
    }

    fn exited(&mut self, leaf: &str, reason: ExitReason) {
        self.tell(Input::Exited(self.name(leaf), reason));
    }

    fn fails(&mut self, leaf: &str) {
        self.exited(leaf, trap());
    }

    fn stopped(&mut self, leaf: &str) {
        self.tell(Input::Stopped(self.name(leaf)));
    }

    fn start_child(&mut self, leaf: &str) {
        self.tell(Input::StartChild(self.name(leaf)));
    }

    fn stop_child(&mut self, leaf: &str) {
        self.tell(Input::StopChild(self.name(leaf)));
    }

    fn restart_child(&mut self, leaf: &str) {
        self.tell(Input::RestartChild(self.name(leaf)));
    }

    fn isolate_child(&mut self, leaf: &str) {
        self.tell(Input::IsolateChild(self.name(leaf)));
    }

    fn remove(&mut self, leaf: &str) {
        self.tell(Input::Remove(self.name(leaf)));
    }

    /// Moves the clock and wakes the supervisor at the moments it asked for.
    fn after_ms(&mut self, ms: u64) {
        let end = self.now.after(Duration::from_millis(ms));
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.wake_at = None;
            self.tell(Input::Due);
        }
        self.now = end;
    }

    /// Hands an input to the policy, then the answers of its children, until all is quiet.
    fn tell(&mut self, input: Input) {
        self.answers.push_back(input);
        while let Some(input) = self.answers.pop_front() {
            write!(self.trace, "{:<5} {}", self.now.time().as_millis(), said(&input)).unwrap();
            let (answer, actions) = self.feed(input);
            let mut done: Vec<String> = actions.iter().filter_map(did).collect();
            if answer != Answer::Ok {
                done.push(format!("{answer:?}"));
            }
            if !done.is_empty() {
                write!(self.trace, " -> {}", done.join(", ")).unwrap();
            }
            self.trace.push('\n');
            actions.into_iter().for_each(|action| self.act(action));
        }
    }

    fn feed(&mut self, input: Input) -> (Answer, Vec<Action>) {
        let storm = self.storm;
        let told = self.policy.at(&mut Moment { now: self.now, jitter: 0, storm: &mut |_| storm }, input);
        self.policy.children.assert_consistent();
        told
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartChild { name, .. } if self.slow.contains(&name) => {}
            Action::StartChild { name, .. } if self.broken.contains(&name) => {
                self.answers.push_back(Input::StartFailed(name, trap()));
            }
            Action::StartChild { name, .. } if self.ignoring.contains(&name) => {
                self.answers.push_back(Input::Ignored(name));
            }
            Action::StartChild { name, .. } => self.answers.push_back(Input::Started(name)),
            Action::StopChild { name, .. } if !self.slow.contains(&name) => {
                self.answers.push_back(Input::Stopped(name));
            }
            Action::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
            _ => {}
        }
    }

    fn forget_trace(&mut self) {
        self.trace.clear();
    }

    /// Compares what happened since the last look.
    fn saw(&mut self, expected: Expect) {
        expected.assert_eq(&std::mem::take(&mut self.trace));
    }

    fn states(&self) -> String {
        let states = self.policy.children();
        states.map(|child| format!("{} {:?}", child.spec.name.leaf(), child.state)).collect::<Vec<_>>().join(", ")
    }

    /// Restarts that are counted against the supervisor.
    fn restarts(&mut self) -> usize {
        self.policy.recent_restarts(self.now).len()
    }
}

fn said(input: &Input) -> String {
    match input {
        Input::Start => "start".to_string(),
        Input::Stop => "stop".to_string(),
        Input::Started(name) => format!("{} started", name.leaf()),
        Input::Ignored(name) => format!("{} ignored its start", name.leaf()),
        Input::StartFailed(name, _) => format!("{} failed to start", name.leaf()),
        Input::Exited(name, reason) => format!("{} exited: {}", name.leaf(), reason.word()),
        Input::Stopped(name) => format!("{} stopped", name.leaf()),
        Input::Retired(name) => format!("{} retired", name.leaf()),
        Input::Due => "due".to_string(),
        Input::Add(spec) if spec.declared => format!("add {} {:?}", spec.name.leaf(), spec.restart),
        Input::Add(spec) => format!("operator adds {} {:?}", spec.name.leaf(), spec.restart),
        Input::Change(spec) => format!("change {} {:?}", spec.name.leaf(), spec.restart),
        Input::Remove(name) => format!("remove {}", name.leaf()),
        Input::Configure(settings) => {
            format!("configure {:?}, {} in {}", settings.strategy, settings.intensity, show(settings.period))
        }
        Input::StartChild(name) => format!("operator starts {}", name.leaf()),
        Input::RetryChild(name) => format!("{} may be mended", name.leaf()),
        Input::StopChild(name) => format!("operator stops {}", name.leaf()),
        Input::RestartChild(name) => format!("operator restarts {}", name.leaf()),
        Input::IsolateChild(name) => format!("operator isolates {}", name.leaf()),
        Input::DeleteChild(name) => format!("operator deletes {}", name.leaf()),
    }
}

fn did(action: &Action) -> Option<String> {
    Some(match action {
        Action::StartChild { name, incarnation } => format!("start {}#{incarnation}", name.leaf()),
        Action::StopChild { name, .. } => format!("stop {}", name.leaf()),
        Action::Restarting { name, delay, restarts } => {
            format!("restart {} in {} ms ({restarts} used)", name.leaf(), delay.as_millis())
        }
        Action::Together { failed, others } => format!("{others} go with {}", failed.leaf()),
        Action::CircuitBreak { name, restarts } => format!("break the circuit of {} after {restarts}", name.leaf()),
        Action::Isolate { name, why } => format!("isolate {}: {why}", name.leaf()),
        // For those who look; `states` says the same.
        Action::StaysDown(_) | Action::Rejoins(_) => return None,
        Action::NotIsolated { name } => format!("NOT ISOLATED: {}", name.leaf()),
        Action::ManyIsolated { isolated, children } => format!("MANY ISOLATED: {isolated} of {children}"),
        Action::Forget(name) => format!("forget {}", name.leaf()),
        Action::WakeAt(at) => format!("wake at {}", at.time().as_millis()),
        Action::GaveUp { restarts, last } => format!("give up after {restarts}, last {}", last.leaf()),
        Action::AutoShutdown { by } => format!("shut down with {}", by.leaf()),
        Action::SelfStarted => "UP".to_string(),
        Action::SelfEnded(Ended::Asked) => "DOWN".to_string(),
        Action::SelfEnded(Ended::Itself(reason)) => format!("DOWN with {}", reason.word()),
        Action::SelfEnded(Ended::StartFailed(reason)) => format!("NOT STARTED: {reason}"),
    })
}
