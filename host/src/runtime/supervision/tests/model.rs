//! Whatever happens, in any order: children that obey late and report later, and what a supervisor
//! promises whatever they do. The reference keeps its own books: who was told what, who is up, which
//! failures there were; it believes nothing that the policy says of itself but the order of its children.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as Generate;

use super::*;
use crate::runtime::spec::{AutoShutdown, Escalation, Strategy};

const LEAVES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What may happen to a supervisor.
#[derive(Clone, Debug)]
enum Step {
    Start,
    Stop,
    /// A child does the first thing it was told.
    Obey(usize, Obeys),
    /// A child that is up ends by itself.
    Exit(usize, ExitReason),
    /// The supervisor hears the oldest report.
    Hear,
    /// Milliseconds pass; it is woken if it asked for that.
    Clock(u64),
    /// It is woken though it is not time yet.
    Wake,
    /// From now on restarts wait so many milliseconds for those elsewhere.
    Storm(u64),
    Add(Draft),
    Change(Draft),
    Remove(usize),
    StartChild(usize),
    RetryChild(usize),
    StopChild(usize),
    RestartChild(usize),
    IsolateChild(usize),
    DeleteChild(usize),
    Configure(Policy),
}

/// How a start goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obeys {
    Works,
    Fails,
    Ignores,
    /// A nested supervisor that gives up while it starts.
    GivesUp,
}

#[derive(Clone, Debug)]
struct Draft {
    child: usize,
    restart: Restart,
    significant: bool,
    declared: bool,
    /// Even such that go round: `check` refuses them, but nothing may hang on it.
    after: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Policy {
    strategy: Strategy,
    intensity: u32,
    each_key: bool,
    order: Vec<usize>,
    auto_shutdown: AutoShutdown,
    escalation: Escalation,
}

impl Policy {
    fn settings(&self) -> SupervisorSettings {
        SupervisorSettings {
            strategy: self.strategy,
            intensity: self.intensity,
            each_key: self.each_key,
            order: self.order.iter().map(|leaf| LEAVES[*leaf].to_string()).collect(),
            auto_shutdown: self.auto_shutdown,
            escalation: self.escalation,
            ..SupervisorSettings::default()
        }
    }
}

fn child() -> impl Generate<Value = usize> {
    0..LEAVES.len()
}

fn policy(simple: bool) -> impl Generate<Value = Policy> {
    use Strategy::{OneForAll, OneForOne, RestForOne, SimpleOneForOne};
    let strategy = if simple {
        Just(SimpleOneForOne).boxed()
    } else {
        prop_oneof![Just(OneForOne), Just(OneForAll), Just(RestForOne)].boxed()
    };
    let order = proptest::sample::subsequence((0..LEAVES.len()).collect::<Vec<_>>(), 0..=3).prop_shuffle();
    let auto_shutdown = prop_oneof![
        4 => Just(AutoShutdown::Never),
        1 => Just(AutoShutdown::AnySignificant),
        1 => Just(AutoShutdown::AllSignificant)
    ];
    let step = || prop_oneof![2 => Just(None), 1 => (1_u32..4).prop_map(Some)];
    let escalation = prop_oneof![
        3 => Just(Escalation::default()),
        1 => (step(), step(), step())
            .prop_map(|(circuit_break, isolate, escalate)| Escalation { circuit_break, isolate, escalate }),
    ];
    (strategy, 0_u32..5, any::<bool>(), order, auto_shutdown, escalation).prop_map(
        move |(strategy, intensity, each_key, order, auto_shutdown, escalation)| Policy {
            strategy,
            intensity,
            each_key,
            order: if simple { Vec::new() } else { order },
            auto_shutdown: if simple { AutoShutdown::Never } else { auto_shutdown },
            escalation,
        },
    )
}

fn draft(simple: bool) -> impl Generate<Value = Draft> {
    let restart =
        prop_oneof![3 => Just(Restart::Permanent), 1 => Just(Restart::Transient), 1 => Just(Restart::Temporary)];
    let after = prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(child(), 1..3)];
    (child(), restart, any::<bool>(), prop::bool::weighted(0.7), after).prop_map(
        move |(child, restart, significant, declared, after)| Draft {
            child,
            restart,
            significant: significant && restart != Restart::Permanent && !simple,
            declared: declared && !simple,
            after: if simple { Vec::new() } else { after },
        },
    )
}

fn step(simple: bool) -> impl Generate<Value = Step> {
    let reason =
        prop_oneof![Just(ExitReason::Normal), Just(ExitReason::Shutdown), Just(ExitReason::Killed), Just(trap())];
    let obeys = prop_oneof![
        8 => Just(Obeys::Works), 2 => Just(Obeys::Fails), 1 => Just(Obeys::Ignores), 1 => Just(Obeys::GivesUp)
    ];
    prop_oneof![
        2 => Just(Step::Start),
        1 => Just(Step::Stop),
        16 => (child(), obeys).prop_map(|(child, obeys)| Step::Obey(child, obeys)),
        6 => (child(), reason).prop_map(|(child, reason)| Step::Exit(child, reason)),
        18 => Just(Step::Hear),
        5 => (0_u64..3_000).prop_map(Step::Clock),
        1 => Just(Step::Wake),
        1 => prop_oneof![Just(0), 0_u64..2_000].prop_map(Step::Storm),
        3 => draft(simple).prop_map(Step::Add),
        1 => draft(simple).prop_map(Step::Change),
        1 => child().prop_map(Step::Remove),
        2 => child().prop_map(Step::StartChild),
        1 => child().prop_map(Step::RetryChild),
        1 => child().prop_map(Step::StopChild),
        1 => child().prop_map(Step::RestartChild),
        1 => child().prop_map(Step::IsolateChild),
        1 => child().prop_map(Step::DeleteChild),
        1 => policy(simple).prop_map(Step::Configure),
    ]
}

/// A child as it really is, and as its supervisor can know it by what it has heard.
#[derive(Debug, Default)]
struct Actual {
    up: bool,
    told: VecDeque<Told>,
    /// How often it was told to start.
    starts: u64,
    /// Told to start, and nothing heard of it since.
    starting: bool,
    /// Heard that it started, and nothing else since.
    running: bool,
    /// Told to stop, and not heard that it did.
    stopping: bool,
    /// There is a reason that it is down: its own orderly end, an operator, its spec.
    excused: bool,
}

impl Actual {
    /// As far as its supervisor can know.
    fn is_up(&self) -> bool {
        (self.starting || self.running) && !self.stopping
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Start,
    Stop,
}

/// A failure that was counted.
#[derive(Debug)]
struct Failure {
    of: Name,
    at: Tick,
    /// It never ran since the directory added it: counted for the child alone.
    own: bool,
    /// The child has left since; another of its name is another child.
    gone: bool,
    /// How long a child of that name has waited since to be started again.
    waited: Duration,
}

struct Reference {
    policy: Supervision,
    /// Is told the same.
    twin: Supervision,
    now: Tick,
    storm: Duration,
    wake_at: Option<Tick>,
    actual: BTreeMap<Name, Actual>,
    reports: VecDeque<Input>,
    failures: Vec<Failure>,
    /// Siblings that a round takes along and that it has not stopped yet.
    together: BTreeSet<Name>,
    /// Children that refuse messages, as the driver has them.
    resting: BTreeSet<Name>,
    phase: Believed,
    /// A stop was asked for, or it gave up: `SelfEnded` is owed, once.
    owes_end: bool,
    ends: u32,
    starts: u32,
}

/// The supervisor's phase, by what it was told and said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Believed {
    Down,
    Starting,
    Running,
    Stopping,
}

impl Reference {
    fn new(sup: Name, settings: SupervisorSettings) -> Reference {
        Reference {
            policy: Supervision::new(sup.clone(), settings.clone()),
            twin: Supervision::new(sup, settings),
            now: Tick::ZERO,
            storm: Duration::ZERO,
            wake_at: None,
            actual: BTreeMap::new(),
            reports: VecDeque::new(),
            failures: Vec::new(),
            together: BTreeSet::new(),
            resting: BTreeSet::new(),
            phase: Believed::Down,
            owes_end: false,
            ends: 0,
            starts: 0,
        }
    }

    fn name(&self, child: usize) -> Name {
        self.policy.name.child(LEAVES[child]).unwrap()
    }

    fn spec(&self, draft: &Draft) -> Box<ChildSpec> {
        Box::new(ChildSpec {
            name: self.name(draft.child),
            kind: ChildKind::Worker,
            restart: draft.restart,
            shutdown: Shutdown::Infinity,
            significant: draft.significant,
            after: draft.after.iter().map(|leaf| LEAVES[*leaf].to_string()).collect(),
            tier: Tier::Normal,
            declared: draft.declared,
        })
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start => self.tell(Input::Start),
            Step::Stop => self.tell(Input::Stop),
            Step::Obey(child, obeys) => self.obey(&self.name(child), obeys),
            Step::Exit(child, reason) => self.exit(self.name(child), reason),
            Step::Hear => self.hear(),
            Step::Clock(ms) => self.wait(Duration::from_millis(ms)),
            Step::Wake => self.tell(Input::Due),
            Step::Storm(ms) => self.storm = Duration::from_millis(ms),
            Step::Add(draft) => self.tell(Input::Add(self.spec(&draft))),
            Step::Change(draft) => self.tell(Input::Change(self.spec(&draft))),
            Step::Remove(child) => self.tell(Input::Remove(self.name(child))),
            Step::StartChild(child) => self.tell(Input::StartChild(self.name(child))),
            Step::RetryChild(child) => self.tell(Input::RetryChild(self.name(child))),
            Step::StopChild(child) => self.tell(Input::StopChild(self.name(child))),
            Step::RestartChild(child) => self.tell(Input::RestartChild(self.name(child))),
            Step::IsolateChild(child) => self.tell(Input::IsolateChild(self.name(child))),
            Step::DeleteChild(child) => self.tell(Input::DeleteChild(self.name(child))),
            Step::Configure(policy) => self.tell(Input::Configure(Box::new(policy.settings()))),
        }
    }

    fn obey(&mut self, name: &Name, obeys: Obeys) {
        let Some(actual) = self.actual.get_mut(name) else { return };
        let report = match actual.told.pop_front() {
            None => return,
            Some(Told::Start) => {
                assert!(!actual.up, "{name} was started while it was up");
                actual.up = obeys == Obeys::Works;
                match obeys {
                    Obeys::Works => Input::Started(name.clone()),
                    Obeys::Fails => Input::StartFailed(name.clone(), trap()),
                    Obeys::Ignores => Input::Ignored(name.clone()),
                    Obeys::GivesUp => Input::Exited(name.clone(), ExitReason::Shutdown),
                }
            }
            Some(Told::Stop) => {
                actual.up = false;
                Input::Stopped(name.clone())
            }
        };
        self.reports.push_back(report);
    }

    fn exit(&mut self, name: Name, reason: ExitReason) {
        if let Some(actual) = self.actual.get_mut(&name).filter(|actual| actual.up) {
            actual.up = false;
            self.reports.push_back(Input::Exited(name, reason));
        }
    }

    fn hear(&mut self) {
        if let Some(report) = self.reports.pop_front() {
            self.tell(report);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        if self.wake_at.take_if(|at| *at <= self.now).is_some() {
            self.tell(Input::Due);
        }
    }

    fn tell(&mut self, input: Input) {
        let expected = self.expected(&input);
        let asked = asked_for(&input).cloned();
        let cause =
            asked.as_ref().or(reported(&input)).and_then(|name| self.policy.child(name)).map(|known| known.cause);
        // A restart that fails is tried again, whatever its reason.
        let tried_again = cause == Some(Cause::Restart)
            && reported(&input).and_then(|name| self.actual.get(name)).is_some_and(|actual| actual.starting);
        let rest = self.heard(&input, cause);
        let storm = self.storm;
        let mut moment = Moment { now: self.now, jitter: 50, storm: &mut |_| storm };
        let (answer, actions) = self.policy.at(&mut moment, input.clone());
        let again = self.twin.at(&mut moment, input.clone());
        assert_eq!((&answer, &actions), (&again.0, &again.1), "what is said depends on nothing but what was told");
        if let Some((expected, restarting)) = expected {
            // Of one that starts, the reference does not know whether it was up before.
            let known = answer == expected || restarting == Some(&answer);
            assert!(known, "{input:?}: {answer:?} and not {expected:?}");
        }
        for risen in self.policy.take_risen() {
            self.resting.remove(&risen);
        }
        for action in &actions {
            match action {
                Action::StaysDown(name) | Action::Isolate { name, .. } => drop(self.resting.insert(name.clone())),
                Action::Forget(name) => drop(self.resting.remove(name)),
                _ => {}
            }
        }
        if let Input::Add(spec) = &input
            && self.policy.child(&spec.name).is_some_and(|child| child.state == ChildState::Down)
        {
            self.resting.insert(spec.name.clone());
        }
        // One that stops says itself how it stands.
        for child in self.policy.children().filter(|child| !matches!(child.state, ChildState::Stopping(_))) {
            let (rests, refuses) = (child.state.rests(), self.resting.contains(&child.spec.name));
            assert_eq!(
                rests, refuses,
                "{} is {:?}: messages for it wait, or are refused",
                child.spec.name, child.state
            );
        }
        self.asked(&input, &answer);
        self.failure(&input, (cause, tried_again), rest, &actions);
        for action in actions {
            self.act(action, asked.as_ref());
        }
        self.check();
    }

    /// What an operator is told, where it follows from the reference's own books; and what instead while a restart is
    /// under way.
    fn expected(&self, input: &Input) -> Option<(Answer, Option<&'static Answer>)> {
        let answer = self.expected_of_one_that_is_up(input)?;
        let name = asked_for(input).or(added(input));
        let starts = name.and_then(|name| self.actual.get(name)).is_some_and(|actual| actual.starting);
        let instead = match input {
            _ if !starts || answer == Answer::SupervisorDown => None,
            Input::StartChild(_) | Input::RestartChild(_) | Input::DeleteChild(_) => Some(&Answer::Restarting),
            Input::Add(_) => Some(&Answer::AlreadyPresent),
            _ => None,
        };
        Some((answer, instead))
    }

    fn expected_of_one_that_is_up(&self, input: &Input) -> Option<Answer> {
        let is_running = matches!(self.phase, Believed::Starting | Believed::Running);
        let known = |name: &Name| self.actual.get(name);
        match input {
            Input::StopChild(name) | Input::IsolateChild(name) | Input::Remove(name) => {
                Some(if known(name).is_some() { Answer::Ok } else { Answer::NotFound })
            }
            Input::StartChild(name)
            | Input::RetryChild(name)
            | Input::RestartChild(name)
            | Input::DeleteChild(name)
                if known(name).is_none() =>
            {
                Some(Answer::NotFound)
            }
            Input::StartChild(_) | Input::RestartChild(_) if !is_running => Some(Answer::SupervisorDown),
            Input::StartChild(name) if known(name)?.is_up() => Some(Answer::AlreadyStarted),
            Input::RestartChild(name) if known(name)?.is_up() => Some(Answer::Ok),
            Input::DeleteChild(name) if known(name)?.is_up() => Some(Answer::AlreadyStarted),
            Input::Add(spec) => match known(&spec.name) {
                Some(actual) if actual.is_up() => Some(Answer::AlreadyStarted),
                Some(_) => None,
                None if is_running || spec.declared => Some(Answer::Ok),
                None => Some(Answer::SupervisorDown),
            },
            _ => None,
        }
    }

    /// Notes what was heard of a child; whether this is its own end, or the end of its start.
    fn heard(&mut self, input: &Input, cause: Option<Cause>) -> Option<ChildSpec> {
        if let Input::Start = input
            && self.phase == Believed::Down
        {
            self.phase = Believed::Starting;
            self.failures.clear();
            // One that was isolated stays so.
            let isolated = self
                .policy
                .children()
                .filter(|child| matches!(child.state, ChildState::Isolated | ChildState::Stopping(Then::Isolate)));
            let isolated: BTreeSet<Name> = isolated.map(|child| child.spec.name.clone()).collect();
            self.actual.iter_mut().for_each(|(name, actual)| actual.excused &= isolated.contains(name));
        }
        if let Input::Stop = input {
            self.owes_end = true;
            self.together.clear();
            if self.phase != Believed::Down {
                self.phase = Believed::Stopping;
            }
        }
        let name = reported(input)?;
        let actual = self.actual.get_mut(name)?;
        let was_up = actual.is_up();
        let went_along = self.together.contains(name);
        let spec = self.policy.child(name)?.spec.clone();
        match input {
            Input::Started(_) => {
                actual.running |= std::mem::take(&mut actual.starting);
                if was_up {
                    actual.excused = false;
                }
                return None;
            }
            Input::Stopped(_) => actual.stopping = false,
            Input::Ignored(_) if was_up => actual.excused = true,
            Input::StartFailed(..) if was_up && cause == Some(Cause::Asked) => actual.excused = true,
            Input::Exited(..) if was_up && actual.starting && cause == Some(Cause::Asked) => actual.excused = true,
            _ => {}
        }
        (actual.starting, actual.running) = (false, false);
        let ended = matches!(input, Input::Exited(..) | Input::StartFailed(..));
        actual.excused |= was_up && ended && spec.restart == Restart::Temporary;
        self.together.remove(name);
        (was_up && ended && !went_along).then_some(spec)
    }

    fn asked(&mut self, input: &Input, answer: &Answer) {
        if *answer != Answer::Ok {
            return;
        }
        let excused = match input {
            Input::StopChild(_) | Input::IsolateChild(_) => true,
            Input::StartChild(_) | Input::RetryChild(_) | Input::RestartChild(_) => false,
            Input::Add(spec) => {
                let known = self.actual.insert(spec.name.clone(), Actual::default());
                return assert!(known.is_none(), "a child was added twice");
            }
            _ => return,
        };
        if let Some(actual) = asked_for(input).and_then(|name| self.actual.get_mut(name)) {
            actual.excused = excused;
        }
    }

    /// A child that runs or starts ended by itself: what has to follow.
    fn failure(
        &mut self,
        input: &Input,
        (cause, tried_again): (Option<Cause>, bool),
        ended: Option<ChildSpec>,
        actions: &[Action],
    ) {
        let counted: Vec<&Action> = actions
            .iter()
            .filter(|action| match action {
                Action::Restarting { .. } | Action::GaveUp { .. } => true,
                Action::Isolate { why, .. } => !why.contains("operator"),
                _ => false,
            })
            .collect();
        let Some(spec) = ended else {
            return assert!(counted.is_empty(), "{input:?} was counted: {counted:?}");
        };
        let (Input::Exited(_, reason) | Input::StartFailed(_, reason)) = input else { return };
        let is_running = matches!(self.phase, Believed::Starting | Believed::Running);
        let begins = cause == Some(Cause::First) && !self.policy.name.is_root();
        let restarts = match spec.restart {
            Restart::Permanent => true,
            Restart::Transient => tried_again || !reason.is_orderly(),
            Restart::Temporary => false,
        };
        if !restarts && let Some(actual) = self.actual.get_mut(&spec.name) {
            actual.excused = true;
        }
        let again = is_running && restarts && cause != Some(Cause::Asked) && !begins;
        assert_eq!(counted.len(), usize::from(again), "{input:?} of {spec:?}, {cause:?}: {actions:?}");
        if again {
            let own = cause == Some(Cause::Added);
            let alone = matches!(cause, Some(Cause::Added | Cause::First));
            let others = if alone || !matches!(counted[0], Action::Restarting { .. }) {
                0
            } else {
                self.takes_along(&spec.name)
            };
            let together = actions.iter().find_map(|action| match action {
                Action::Together { others, .. } => Some(*others),
                _ => None,
            });
            assert_eq!(together.unwrap_or(0), others, "who goes with {}", spec.name);
            // Those that have left the window do not come back into it.
            let period = self.policy.settings().period;
            self.failures.retain(|failure| self.now.since(failure.at) <= period + failure.waited);
            let (at, waited) = (self.now, Duration::ZERO);
            self.failures.push(Failure { of: spec.name, at, own, gone: false, waited });
        }
    }

    /// How many siblings a failure takes along: all that are up, or those after it.
    fn takes_along(&mut self, failed: &Name) -> usize {
        let all: Vec<&Name> = self.policy.children().map(|child| &child.spec.name).collect();
        let first = match self.policy.settings().strategy {
            Strategy::OneForAll => 0,
            Strategy::RestForOne => all.iter().position(|name| *name == failed).unwrap(),
            Strategy::OneForOne | Strategy::SimpleOneForOne => return 0,
        };
        let along = all[first..].iter().filter(|name| **name != failed && self.actual[**name].is_up());
        let along: Vec<Name> = along.map(|name| (*name).clone()).collect();
        let count = along.len();
        self.together.extend(along);
        count
    }

    /// Failures within the period: of this child, and of all.
    fn within(&self, name: &Name) -> (u32, u32) {
        let period = self.policy.settings().period;
        let recent = || self.failures.iter().filter(|failure| self.now.since(failure.at) <= period + failure.waited);
        let own = recent().filter(|failure| failure.of == *name && !failure.gone).count();
        (own as u32, recent().filter(|failure| !failure.own).count() as u32)
    }

    fn act(&mut self, action: Action, asked: Option<&Name>) {
        let is_root = self.policy.name.is_root();
        let SupervisorSettings { intensity, escalation, strategy, each_key, .. } = self.policy.settings().clone();
        let each_key = each_key && strategy == Strategy::SimpleOneForOne;
        let beyond = |own: u32, step: Option<u32>| step.is_some_and(|step| own > step);
        match action {
            Action::StartChild { name, incarnation } => {
                let runs = matches!(self.phase, Believed::Starting | Believed::Running);
                assert!(runs, "{name} was started by a supervisor that does not run");
                self.begins_in_turn(&name, strategy);
                let unheard = self.reports.iter().filter(|report| reported(report) == Some(&name)).count();
                let actual = self.actual.get_mut(&name).expect("a child that is started is known");
                let quiet = !actual.up && actual.told.is_empty() && unheard == 0 && !actual.is_up();
                assert!(quiet, "{name} was started, and is {actual:?} with {unheard} reports on the way");
                actual.told.push_back(Told::Start);
                actual.starting = true;
                assert_eq!(incarnation, Incarnation(actual.starts), "{name} has another incarnation at each start");
                actual.starts += 1;
            }
            Action::StopChild { name, .. } => {
                if asked != Some(&name) {
                    self.stops_in_turn(&name, strategy);
                }
                self.together.remove(&name);
                let actual = self.actual.get_mut(&name).expect("a child that is stopped is known");
                assert!(!actual.stopping, "{name} was told to stop twice");
                actual.told.push_back(Told::Stop);
                actual.stopping = true;
                let never = self.policy.child(&name).is_some_and(|child| child.spec.restart == Restart::Temporary);
                actual.excused |= never;
            }
            Action::Restarting { name, restarts, delay } => {
                let last = self.failures.last().expect("a restart follows a failure");
                let mine = is_root || last.own || each_key;
                let (own, all) = self.within(&name);
                let counted = if mine { own } else { all };
                assert!(counted <= intensity, "{counted} restarts within the period, {intensity} are allowed");
                assert_eq!(restarts, counted, "restarts of {name}");
                assert!(mine || !beyond(own, escalation.escalate) && !beyond(own, escalation.isolate));
                assert!(delay >= self.storm);
                let same = self.failures.iter_mut().filter(|failure| failure.of == name);
                same.for_each(|failure| failure.waited += delay);
            }
            Action::Isolate { why, .. } if why.contains("operator") => {}
            Action::Isolate { name, .. } => {
                let own = self.within(&name).0;
                let last = self.failures.last().expect("an isolation follows a failure");
                let allowed = is_root || last.own || each_key;
                let step = beyond(own, escalation.isolate) || allowed && own > intensity;
                assert!(step || is_root && beyond(own, escalation.escalate), "isolated after {own}");
                self.failures.retain(|failure| failure.of != name);
                self.actual.get_mut(&name).expect("known").excused = true;
            }
            Action::Forget(name) => {
                // What is counted of the supervisor stays; what is of the child alone goes.
                self.failures.retain(|failure| failure.of != name || !is_root && !failure.own);
                self.failures.iter_mut().filter(|failure| failure.of == name).for_each(|failure| failure.gone = true);
                self.together.remove(&name);
                let actual = self.actual.remove(&name).expect("a child is forgotten once");
                assert!(!actual.up && actual.told.is_empty(), "{name} was forgotten and is {actual:?}");
            }
            Action::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
            Action::GaveUp { last, .. } => {
                assert!(!is_root && !self.owes_end, "it gave up while it stopped");
                let (own, all) = self.within(&last);
                assert!(!each_key && all > intensity || beyond(own, escalation.escalate), "it gave up after {all}");
                self.ends_itself();
            }
            Action::AutoShutdown { by } => {
                assert!(!is_root && self.policy.settings().auto_shutdown != AutoShutdown::Never, "{by}");
                self.ends_itself();
            }
            Action::SelfStarted => {
                assert_eq!(self.phase, Believed::Starting, "it has started, once");
                assert!(!self.actual.values().any(|actual| actual.starting || actual.stopping), "not all have started");
                let idle = |child: &Child| child.state == ChildState::Waiting;
                assert!(!self.policy.children().any(idle), "it has started, and some wait for their turn");
                self.phase = Believed::Running;
                self.starts += 1;
            }
            Action::SelfEnded(ended) => {
                if let Ended::StartFailed(_) = ended {
                    assert!(!is_root, "one child's start is its own affair at the root");
                } else {
                    assert!(self.owes_end, "it ended though nobody asked and it did not give up");
                }
                self.owes_end = false;
                self.ends += 1;
                self.phase = Believed::Down;
                let up = |actual: &Actual| actual.up || actual.told.contains(&Told::Start);
                assert!(!self.actual.values().any(up), "it ended before its children: {:?}", self.actual);
            }
            Action::NotIsolated { .. } => panic!("there are far fewer than may be"),
            Action::ManyIsolated { isolated, children } => {
                let there = self.policy.children().filter(|child| child.state == ChildState::Isolated).count();
                assert!(each_key && isolated == there && children == self.actual.len(), "{isolated} of {children}");
            }
            Action::Together { .. } | Action::CircuitBreak { .. } | Action::StaysDown(_) | Action::Rejoins(_) => {}
        }
        // A start that failed is no action of its own: the others are stopped at once.
        if self.phase == Believed::Starting && matches!(self.policy.phase, Phase::Stopping(Ended::StartFailed(_))) {
            self.ends_itself();
        }
    }

    fn ends_itself(&mut self) {
        self.owes_end = true;
        self.phase = Believed::Stopping;
        self.together.clear();
    }

    /// No two starts side by side that the order, a dependency or rest-for-one forbids.
    fn begins_in_turn(&self, name: &Name, strategy: Strategy) {
        let order = &self.policy.settings().order;
        let child = self.policy.child(name).expect("known");
        for before in self.policy.children().take_while(|before| before.spec.name != *name) {
            let leaf = before.spec.name.leaf();
            if self.actual[&before.spec.name].starting && !self.actual[&before.spec.name].stopping {
                assert_ne!(strategy, Strategy::RestForOne, "{name} is started while {leaf} starts");
                assert!(!order.iter().any(|named| named == leaf), "{name} is started while {leaf} starts");
            }
            if child.spec.after.iter().any(|needed| needed == leaf) {
                let pending =
                    matches!(before.state, ChildState::Waiting | ChildState::Starting | ChildState::Restarting { .. });
                assert!(!pending, "{name} is started before {leaf}");
            }
        }
    }

    /// One after another, in reverse: of all when the supervisor ends, of its own when a round does it.
    fn stops_in_turn(&self, name: &Name, strategy: Strategy) {
        if strategy == Strategy::SimpleOneForOne {
            return;
        }
        let of_round = |other: &Name| {
            self.phase != Believed::Running && self.phase != Believed::Starting || self.together.contains(other)
        };
        for later in self.policy.children().rev().take_while(|later| later.spec.name != *name) {
            let other = &later.spec.name;
            assert!(!self.actual[other].is_up() || !of_round(other), "{name} is stopped before {other}");
        }
        let stopping = self.actual.iter().find(|(_, actual)| actual.stopping);
        assert!(stopping.is_none(), "{name} is stopped while {stopping:?} stops");
    }

    fn check(&self) {
        self.policy.children.assert_consistent();
        let known: BTreeSet<&Name> = self.policy.children().map(|child| &child.spec.name).collect();
        assert!(known.into_iter().eq(self.actual.keys()), "a child was lost: {:?}", self.actual);
        for child in self.policy.children() {
            let actual = &self.actual[&child.spec.name];
            let agrees = match child.state {
                ChildState::Starting => actual.starting && !actual.stopping,
                ChildState::Running => actual.running && !actual.stopping,
                ChildState::Stopping(_) => actual.stopping,
                _ => !actual.starting && !actual.running && !actual.stopping,
            };
            assert!(agrees, "{} is {:?}, and really {actual:?}", child.spec.name, child.state);
            if let ChildState::Restarting { due: Some(due) } = child.state {
                assert!(
                    self.wake_at.is_some_and(|at| at <= due),
                    "nothing wakes the supervisor for {}",
                    child.spec.name
                );
            }
            let joined = child.state == ChildState::Restarting { due: None };
            assert!(!joined || self.policy.round.is_some(), "{} waits for a round that is over", child.spec.name);
        }
        let stopping = self.actual.values().any(|actual| actual.stopping);
        if let Some(round) = &self.policy.round {
            assert!(stopping || self.wake_at.is_some_and(|at| at <= round.due), "nothing goes on with the round");
        } else {
            assert!(self.together.is_empty(), "a round ended and left {:?} behind", self.together);
        }
        assert!(stopping || self.policy.children.leaving().is_empty(), "nothing stops those that are to leave");
        assert!(stopping || self.phase != Believed::Stopping, "nothing goes on with the stop");
        let phase = match self.policy.phase {
            Phase::Down => Believed::Down,
            Phase::Starting => Believed::Starting,
            Phase::Running => Believed::Running,
            Phase::Stopping(_) => Believed::Stopping,
        };
        assert_eq!(phase, self.phase);
    }

    /// Everybody does what they were told, all is heard, and the clock runs: then it is quiet.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let busy = self.actual.iter().find(|(_, actual)| !actual.told.is_empty()).map(|(name, _)| name.clone());
            match busy {
                Some(name) => self.obey(&name, Obeys::Works),
                None if !self.reports.is_empty() => self.hear(),
                None => match self.wake_at {
                    Some(at) => self.wait(at.since(self.now)),
                    None => return self.is_quiet(),
                },
            }
        }
        panic!("it never comes to rest: {:?}", self.policy);
    }

    fn is_quiet(&self) {
        for child in self.policy.children() {
            let actual = &self.actual[&child.spec.name];
            let settled = match child.state {
                ChildState::Running => actual.up && self.phase == Believed::Running,
                ChildState::Down | ChildState::Isolated => {
                    !actual.up && (actual.excused || self.phase == Believed::Down)
                }
                _ => false,
            };
            assert!(settled, "{} stays {:?}: {actual:?}, {:?}", child.spec.name, child.state, self.phase);
        }
        assert!(matches!(self.phase, Believed::Down | Believed::Running), "stays {:?}", self.phase);
        assert!(self.policy.round.is_none(), "a round never ends");
    }
}

/// The child that an operator's request or the directory is about.
fn asked_for(input: &Input) -> Option<&Name> {
    match input {
        Input::Remove(name)
        | Input::StartChild(name)
        | Input::RetryChild(name)
        | Input::StopChild(name)
        | Input::RestartChild(name)
        | Input::IsolateChild(name)
        | Input::DeleteChild(name) => Some(name),
        _ => None,
    }
}

/// The child that is new.
fn added(input: &Input) -> Option<&Name> {
    match input {
        Input::Add(spec) => Some(&spec.name),
        _ => None,
    }
}

/// The child that reports.
fn reported(input: &Input) -> Option<&Name> {
    match input {
        Input::Started(name)
        | Input::Ignored(name)
        | Input::StartFailed(name, _)
        | Input::Exited(name, _)
        | Input::Stopped(name) => Some(name),
        _ => None,
    }
}

fn keeps_its_promises(sup: Name, policy: Policy, first: Vec<Draft>, steps: Vec<Step>) {
    let is_simple = policy.strategy == Strategy::SimpleOneForOne;
    let mut world = Reference::new(sup, policy.settings());
    first.into_iter().for_each(|draft| world.step(Step::Add(Draft { declared: !is_simple, ..draft })));
    world.step(Step::Start);
    steps.into_iter().for_each(|step| world.step(step));
    world.settle();

    let ends = world.ends;
    world.step(Step::Stop);
    world.settle();
    assert_eq!(world.ends, ends + 1, "one stop, one end");
    assert!(!world.actual.values().any(|actual| actual.up));

    let starts = world.starts;
    world.step(Step::Start);
    world.settle();
    assert_eq!(world.starts, starts + 1, "one start, one answer");
    let back = |child: &Child| matches!(child.state, ChildState::Running | ChildState::Isolated);
    assert!(world.policy.children().all(back), "{:?}", world.policy);
}

fn config() -> ProptestConfig {
    let cases = ProptestConfig::default().cases.max(1_000);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_nested_supervisor_keeps_its_promises(
        policy in policy(false),
        first in proptest::collection::vec(draft(false), 0..5),
        steps in proptest::collection::vec(step(false), 0..150),
    ) {
        keeps_its_promises(Name::parse("sup").unwrap(), policy, first, steps);
    }

    #[test]
    fn the_root_keeps_its_promises(
        policy in policy(false),
        first in proptest::collection::vec(draft(false), 0..5),
        steps in proptest::collection::vec(step(false), 0..150),
    ) {
        keeps_its_promises(Name::root(), policy, first, steps);
    }

    #[test]
    fn a_template_keeps_its_promises(
        policy in policy(true),
        steps in proptest::collection::vec(step(true), 0..150),
    ) {
        keeps_its_promises(Name::parse("sup").unwrap(), policy, Vec::new(), steps);
    }
}
