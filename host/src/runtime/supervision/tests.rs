//! The rules of `OTP.md`, section 1, one test each, and what holds after any sequence of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::base::Failure;
use crate::runtime::spec::Backoff;

/// A supervisor's policy, children that answer at once unless told otherwise, and a clock that
/// moves by hand. Writes down each input and what the policy said to it.
struct World {
    policy: Supervision,
    now: Tick,
    wake_at: Option<Tick>,
    /// Children that do not answer by themselves.
    slow: BTreeSet<Name>,
    /// Children that cannot be started.
    broken: BTreeSet<Name>,
    answers: VecDeque<Input>,
    trace: String,
}

/// The permanent children `a`, `b` and `c` of a supervisor `sup`, started.
fn abc(settings: SupervisorSettings) -> World {
    let mut world = World::new("sup", settings, &["a", "b", "c"]);
    world.tell(Input::Start);
    world.trace.clear();
    world
}

fn intensity(intensity: u32) -> SupervisorSettings {
    SupervisorSettings { intensity, ..SupervisorSettings::default() }
}

fn trap() -> ExitReason {
    ExitReason::Failed(Failure::Trap { message: "oops".to_string(), backtrace: Vec::new() })
}

impl World {
    /// `sup`: empty for the root. Its children are permanent.
    fn new(sup: &str, settings: SupervisorSettings, children: &[&str]) -> World {
        let name = if sup.is_empty() { Name::root() } else { Name::parse(sup).unwrap() };
        let mut world = World {
            policy: Supervision::new(name, settings),
            now: Tick::ZERO,
            wake_at: None,
            slow: BTreeSet::new(),
            broken: BTreeSet::new(),
            answers: VecDeque::new(),
            trace: String::new(),
        };
        children.iter().for_each(|leaf| world.add(leaf, Restart::Permanent));
        world.trace.clear();
        world
    }

    fn name(&self, leaf: &str) -> Name {
        self.policy.name.child(leaf).unwrap()
    }

    fn add(&mut self, leaf: &str, restart: Restart) {
        self.tell(Input::Add { name: self.name(leaf), restart, shutdown: Shutdown::Infinity });
    }

    fn slow(&mut self, leaf: &str) {
        self.slow.insert(self.name(leaf));
    }

    fn broken(&mut self, leaf: &str) {
        self.broken.insert(self.name(leaf));
    }

    fn mended(&mut self, leaf: &str) {
        self.broken.remove(&self.name(leaf));
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

    fn remove(&mut self, leaf: &str) {
        self.tell(Input::Remove(self.name(leaf)));
    }

    /// Moves the clock and wakes the supervisor at the moments it asked for.
    fn after(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.wake_at = None;
            self.tell(Input::Due);
        }
        self.now = end;
    }

    fn after_ms(&mut self, ms: u64) {
        self.after(Duration::from_millis(ms));
    }

    /// Hands an input to the policy, then the answers of its children, until all is quiet.
    fn tell(&mut self, input: Input) {
        self.answers.push_back(input);
        while let Some(input) = self.answers.pop_front() {
            write!(self.trace, "{:<5} {}", self.now.0.as_millis(), said(&input)).unwrap();
            let (answer, actions) = self.policy.on(self.now, 0, input);
            let mut done: Vec<String> = actions.iter().map(did).collect();
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

    fn act(&mut self, action: Action) {
        match action {
            Action::StartChild { name, .. } if self.broken.contains(&name) => {
                self.answers.push_back(Input::StartFailed(name, trap()));
            }
            Action::StartChild { name, .. } if !self.slow.contains(&name) => {
                self.answers.push_back(Input::Started(name));
            }
            Action::StopChild { name, .. } if !self.slow.contains(&name) => {
                self.answers.push_back(Input::Stopped(name));
            }
            Action::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
            _ => {}
        }
    }

    /// Compares what happened since the last look.
    fn saw(&mut self, expected: Expect) {
        expected.assert_eq(&std::mem::take(&mut self.trace));
    }

    fn states(&self) -> String {
        let states = self.policy.children().iter();
        states.map(|child| format!("{} {:?}", child.name.leaf(), child.state)).collect::<Vec<_>>().join(", ")
    }
}

fn said(input: &Input) -> String {
    match input {
        Input::Start => "start".to_string(),
        Input::Stop => "stop".to_string(),
        Input::Started(name) => format!("{} started", name.leaf()),
        Input::StartFailed(name, _) => format!("{} failed to start", name.leaf()),
        Input::Exited(name, reason) => format!("{} exited: {}", name.leaf(), reason.word()),
        Input::Stopped(name) => format!("{} stopped", name.leaf()),
        Input::Due => "due".to_string(),
        Input::Add { name, restart, .. } => format!("add {} {restart:?}", name.leaf()),
        Input::Change { name, restart, .. } => format!("change {} {restart:?}", name.leaf()),
        Input::Remove(name) => format!("remove {}", name.leaf()),
        Input::Configure(settings) => format!("configure {} in {}", settings.intensity, show(settings.period)),
        Input::StartChild(name) => format!("operator starts {}", name.leaf()),
        Input::StopChild(name) => format!("operator stops {}", name.leaf()),
        Input::RestartChild(name) => format!("operator restarts {}", name.leaf()),
    }
}

fn did(action: &Action) -> String {
    match action {
        Action::StartChild { name, incarnation } => format!("start {}#{incarnation}", name.leaf()),
        Action::StopChild { name, .. } => format!("stop {}", name.leaf()),
        Action::Restarting { name, delay, restarts } => {
            format!("restart {} in {} ms ({restarts} used)", name.leaf(), delay.as_millis())
        }
        Action::Isolate { name, why } => format!("isolate {}: {why}", name.leaf()),
        Action::Forget(name) => format!("forget {}", name.leaf()),
        Action::WakeAt(at) => format!("wake at {}", at.0.as_millis()),
        Action::GaveUp { restarts, last } => format!("give up after {restarts}, last {}", last.leaf()),
        Action::SelfStarted => "UP".to_string(),
        Action::SelfEnded(None) => "DOWN".to_string(),
        Action::SelfEnded(Some(reason)) => format!("DOWN with {}", reason.word()),
    }
}

// Start and stop order.

#[test]
fn children_start_one_after_another_in_order() {
    let mut world = World::new("sup", intensity(1), &["a", "b", "c"]);
    world.slow("b");
    world.tell(Input::Start);
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
    "#]]);
    world.started("b");
    world.saw(expect![[r#"
        0     b started -> start c#0
        0     c started -> UP
    "#]]);
}

#[test]
fn a_supervisor_without_children_starts_and_stops_at_once() {
    let mut world = World::new("sup", intensity(1), &[]);
    world.tell(Input::Start);
    world.tell(Input::Stop);
    world.saw(expect![[r#"
        0     start -> UP
        0     stop -> DOWN
    "#]]);
}

#[test]
fn stop_is_in_reverse() {
    let mut world = abc(intensity(1));
    world.slow("b");
    world.tell(Input::Stop);
    world.saw(expect![[r#"
        0     stop -> stop c
        0     c stopped -> stop b
    "#]]);
    world.stopped("b");
    world.saw(expect![[r#"
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn a_stop_while_children_start_stops_those_that_had_begun() {
    let mut world = World::new("sup", intensity(1), &["a", "b", "c"]);
    world.slow("b");
    world.tell(Input::Start);
    world.tell(Input::Stop);
    world.started("b");
    world.stopped("b");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     stop -> stop b
        0     b started
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn children_added_later_go_to_the_end() {
    let mut world = abc(intensity(1));
    world.add("0", Restart::Permanent);
    world.tell(Input::Stop);
    world.saw(expect![[r#"
        0     add 0 Permanent -> start 0#0
        0     0 started
        0     stop -> stop 0
        0     0 stopped -> stop c
        0     c stopped -> stop b
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn a_child_added_to_a_running_supervisor_does_not_wait_for_its_siblings() {
    let mut world = abc(intensity(1));
    world.slow("d");
    world.add("d", Restart::Permanent);
    world.add("e", Restart::Permanent);
    world.add("e", Restart::Permanent);
    world.saw(expect![[r#"
        0     add d Permanent -> start d#0
        0     add e Permanent -> start e#0
        0     e started
        0     add e Permanent -> AlreadyStarted
    "#]]);
}

#[test]
fn a_child_added_while_the_supervisor_starts_waits_its_turn() {
    let mut world = World::new("sup", intensity(1), &["a", "b"]);
    world.slow("a");
    world.tell(Input::Start);
    world.add("z", Restart::Permanent);
    world.started("a");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     add z Permanent
        0     a started -> start b#0
        0     b started -> start z#0
        0     z started -> UP
    "#]]);
}

#[test]
fn a_child_that_fails_while_others_start_waits_for_the_one_that_is_starting() {
    let mut world = World::new("sup", intensity(1), &["a", "b", "c"]);
    world.slow("b");
    world.tell(Input::Start);
    world.exited("a", trap());
    world.started("b");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     a exited: trap -> restart a in 0 ms (1 used)
        0     b started -> start a#1
        0     a started -> start c#0
        0     c started -> UP
    "#]]);
}

#[test]
fn an_operators_start_waits_too_while_the_supervisor_starts() {
    let mut world = World::new("sup", intensity(1), &["a", "b"]);
    world.slow("b");
    world.tell(Input::Start);
    world.stop_child("a");
    world.start_child("a");
    world.started("b");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     operator stops a -> stop a
        0     a stopped
        0     operator starts a
        0     b started -> start a#1
        0     a started -> UP
    "#]]);
}

#[test]
fn a_start_while_it_stops_or_runs_changes_nothing() {
    let mut world = abc(intensity(1));
    world.tell(Input::Start);
    world.slow("c");
    world.tell(Input::Stop);
    world.tell(Input::Start);
    world.stopped("c");
    world.saw(expect![[r#"
        0     start
        0     stop -> stop c
        0     start
        0     c stopped -> stop b
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

// Restart.

#[test]
fn restart_types_by_exit_reason() {
    let mut table = String::new();
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Killed, trap()] {
            let mut world = World::new("sup", intensity(1), &[]);
            world.add("a", restart);
            world.tell(Input::Start);
            let row = format!("{restart:?} {}", reason.word());
            world.exited("a", reason);
            writeln!(table, "{row:<18} {}", world.states()).unwrap();
        }
    }
    expect![[r#"
        Permanent normal   a Running
        Permanent shutdown a Running
        Permanent killed   a Running
        Permanent trap     a Running
        Transient normal   a Down
        Transient shutdown a Down
        Transient killed   a Running
        Transient trap     a Running
        Temporary normal   a Down
        Temporary shutdown a Down
        Temporary killed   a Down
        Temporary trap     a Down
    "#]]
    .assert_eq(&table);
}

#[test]
fn restart_types_hold_for_a_start_that_fails() {
    let mut table = String::new();
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let mut world = World::new("sup", intensity(2), &[]);
        world.add("a", restart);
        world.broken("a");
        world.tell(Input::Start);
        writeln!(table, "{restart:?}: {}, phase {:?}", world.states(), world.policy.phase).unwrap();
    }
    expect![[r#"
        Permanent: a Restarting { due: Tick(100ms) }, phase Running
        Transient: a Restarting { due: Tick(100ms) }, phase Running
        Temporary: a Down, phase Running
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_child_that_is_not_restarted_disturbs_nobody_and_its_name_stays() {
    let mut world = World::new("sup", intensity(0), &["a"]);
    world.add("b", Restart::Transient);
    world.tell(Input::Start);
    world.trace.clear();
    world.exited("b", ExitReason::Normal);
    world.saw(expect![[r#"
        0     b exited: normal
    "#]]);
    assert_eq!(world.states(), "a Running, b Down");
}

#[test]
fn one_for_one_restarts_the_child_alone() {
    let mut world = abc(intensity(1));
    world.exited("b", trap());
    world.saw(expect![[r#"
        0     b exited: trap -> restart b in 0 ms (1 used), start b#1
        0     b started
    "#]]);
}

#[test]
fn every_start_after_the_first_is_another_incarnation() {
    let mut world = World::new("", intensity(1), &["a"]);
    world.tell(Input::Start);
    world.stop_child("a");
    world.start_child("a");
    world.restart_child("a");
    world.exited("a", trap());
    world.exited("a", trap());
    world.start_child("a");
    world.broken("a");
    world.restart_child("a");
    world.mended("a");
    world.tell(Input::Stop);
    world.tell(Input::Start);
    world.remove("a");
    world.add("a", Restart::Permanent);
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> UP
        0     operator stops a -> stop a
        0     a stopped
        0     operator starts a -> start a#1
        0     a started
        0     operator restarts a -> stop a
        0     a stopped -> start a#2
        0     a started
        0     a exited: trap -> restart a in 0 ms (1 used), start a#3
        0     a started
        0     a exited: trap -> isolate a: 2 restarts within 5.00s, the last after: trap: oops
        0     operator starts a -> start a#4
        0     a started
        0     operator restarts a -> stop a
        0     a stopped -> start a#5
        0     a failed to start
        0     stop -> DOWN
        0     start -> start a#6
        0     a started -> UP
        0     remove a -> stop a
        0     a stopped -> forget a
        0     add a Permanent -> start a#0
        0     a started
    "#]]);
}

// Intensity.

#[test]
fn it_gives_up_when_more_than_intensity_restarts_happen_within_the_period() {
    let mut world = abc(intensity(2));
    world.exited("a", trap());
    world.after_ms(2_000);
    world.exited("b", trap());
    world.after_ms(3_000);
    world.exited("c", trap());
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        2000  b exited: trap -> restart b in 0 ms (2 used), start b#1
        2000  b started
        5000  c exited: trap -> give up after 3, last c, stop b
        5000  b stopped -> stop a
        5000  a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn restarts_that_have_left_the_window_do_not_count() {
    let mut world = abc(intensity(2));
    for _ in 0..3 {
        world.exited("a", trap());
        world.exited("b", trap());
        world.after_ms(5_001);
    }
    assert!(!world.trace.contains("give up"), "{}", world.trace);
    assert_eq!(world.policy.restarts_used(world.now), 0);
}

#[test]
fn an_intensity_of_zero_gives_up_at_the_first() {
    let mut world = abc(intensity(0));
    world.exited("b", trap());
    world.saw(expect![[r#"
        0     b exited: trap -> give up after 1, last b, stop c
        0     c stopped -> stop a
        0     a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn one_event_counts_once() {
    let mut world = abc(intensity(2));
    world.broken("a");
    world.exited("a", trap());
    // A second word about the same end is not a second event.
    world.exited("a", trap());
    world.start_failed("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        0     a exited: trap
        0     a failed to start
    "#]]);
    assert_eq!(world.policy.restarts_used(world.now), 2);
}

#[test]
fn an_operators_starts_and_restarts_never_count() {
    let mut world = abc(intensity(0));
    for _ in 0..3 {
        world.stop_child("a");
        world.start_child("a");
        world.restart_child("b");
    }
    assert_eq!(world.policy.restarts_used(world.now), 0);
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn an_operators_start_that_fails_is_not_retried() {
    let mut world = abc(intensity(0));
    world.stop_child("a");
    world.broken("a");
    world.start_child("a");
    world.broken("b");
    world.restart_child("b");
    world.saw(expect![[r#"
        0     operator stops a -> stop a
        0     a stopped
        0     operator starts a -> start a#1
        0     a failed to start
        0     operator restarts b -> stop b
        0     b stopped -> start b#1
        0     b failed to start
    "#]]);
    assert_eq!(world.states(), "a Down, b Down, c Running");
}

/// A nested supervisor that gives up while it starts says `exited`, never `started`.
#[test]
fn an_operators_start_that_ends_before_it_was_done_is_not_retried() {
    let mut world = abc(intensity(0));
    world.stop_child("a");
    world.slow("a");
    world.start_child("a");
    world.exited("a", ExitReason::Shutdown);
    assert_eq!(world.states(), "a Down, b Running, c Running");
}

#[test]
fn what_an_operator_started_once_is_restarted_like_any_other() {
    let mut world = abc(intensity(1));
    world.restart_child("a");
    world.exited("a", trap());
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn an_operators_start_that_was_taken_back_does_not_spoil_the_next_start() {
    let mut world = abc(intensity(5));
    world.slow("a");
    world.restart_child("a");
    world.stopped("a");
    world.stop_child("a");
    world.stopped("a");
    world.slow.clear();
    world.tell(Input::Stop);
    world.broken("a");
    world.tell(Input::Start);
    assert!(world.states().starts_with("a Restarting"), "{}", world.states());
}

// A restart that fails.

#[test]
fn a_failed_restart_counts_again_and_the_supervisor_answers_between_tries() {
    let mut world = abc(intensity(3));
    world.broken("a");
    world.exited("a", trap());
    world.stop_child("c");
    world.start_child("c");
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        0     operator stops c -> stop c
        0     c stopped
        0     operator starts c -> start c#1
        0     c started
        100   due -> start a#2
        100   a failed to start -> restart a in 200 ms (3 used), wake at 300
        300   due -> start a#3
        300   a failed to start -> give up after 4, last a, stop c
        300   c stopped -> stop b
        300   b stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn a_start_that_fails_at_first_is_tried_again_and_does_not_hold_up_the_others() {
    let mut world = World::new("sup", intensity(3), &["a", "b"]);
    world.broken("a");
    world.tell(Input::Start);
    world.mended("a");
    world.after_ms(200);
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a failed to start -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100, start b#0
        0     b started -> UP
        100   due -> start a#2
        100   a started
    "#]]);
}

#[test]
fn there_is_no_delay_before_the_first_restart_and_none_after_a_healthy_time() {
    let mut world = abc(intensity(10));
    for _ in 0..3 {
        world.exited("a", trap());
        world.after_ms(1_000);
    }
    world.after(Backoff::default().healthy_after);
    world.exited("a", trap());
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        1000  a exited: trap -> restart a in 100 ms (2 used), wake at 1100
        1100  due -> start a#2
        1100  a started
        2000  a exited: trap -> restart a in 200 ms (3 used), wake at 2200
        2200  due -> start a#3
        2200  a started
        33000 a exited: trap -> restart a in 0 ms (1 used), start a#4
        33000 a started
    "#]]);
}

/// The time since an earlier life began says nothing about a start that was never done.
#[test]
fn a_start_that_was_never_done_is_no_healthy_time() {
    let mut world = abc(intensity(10));
    world.after(Backoff::default().healthy_after);
    world.slow("a");
    world.exited("a", trap());
    world.exited("a", trap());
    world.after_ms(100);
    world.exited("a", trap());
    world.saw(expect![[r#"
         30000 a exited: trap -> restart a in 0 ms (1 used), start a#1
         30000 a exited: trap -> restart a in 100 ms (2 used), wake at 30100
         30100 due -> start a#2
         30100 a exited: trap -> restart a in 200 ms (3 used), wake at 30300
    "#]]);
}

#[test]
fn several_restart_loops_are_woken_each_in_its_time() {
    let mut world = abc(intensity(10));
    world.broken("a");
    world.broken("b");
    world.exited("a", trap());
    world.after_ms(50);
    world.exited("b", trap());
    world.mended("a");
    world.mended("b");
    world.after_ms(100);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        50    b exited: trap -> restart b in 0 ms (3 used), start b#1
        50    b failed to start -> restart b in 100 ms (4 used), wake at 150
        100   due -> start a#2, wake at 150
        100   a started
        150   due -> start b#2
        150   b started
    "#]]);
}

// Stop of one child.

#[test]
fn a_child_that_ends_by_itself_while_it_is_stopped_never_hangs_the_stop() {
    let mut world = abc(intensity(0));
    world.slow("b");
    world.stop_child("b");
    world.exited("b", trap());
    world.stopped("b");
    world.tell(Input::Stop);
    world.saw(expect![[r#"
        0     operator stops b -> stop b
        0     b exited: trap
        0     b stopped
        0     stop -> stop c
        0     c stopped -> stop a
        0     a stopped -> DOWN
    "#]]);

    let mut world = abc(intensity(0));
    world.slow("c");
    world.tell(Input::Stop);
    world.exited("c", trap());
    world.stopped("c");
    world.saw(expect![[r#"
        0     stop -> stop c
        0     c exited: trap
        0     c stopped -> stop b
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn a_child_that_ends_by_itself_while_its_supervisor_stops_is_not_restarted() {
    let mut world = abc(intensity(1));
    world.slow("c");
    world.tell(Input::Stop);
    world.exited("a", trap());
    world.exited("b", trap());
    world.stopped("c");
    world.saw(expect![[r#"
        0     stop -> stop c
        0     a exited: trap
        0     b exited: trap
        0     c stopped -> DOWN
    "#]]);
}

#[test]
fn stop_of_a_child_in_its_restart_loop_ends_the_loop() {
    let mut world = abc(intensity(5));
    world.broken("a");
    world.exited("a", trap());
    world.stop_child("a");
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        0     operator stops a -> stop a
        0     a stopped
        100   due
    "#]]);
    assert_eq!(world.states(), "a Down, b Running, c Running");
}

#[test]
fn stop_of_a_child_that_is_down_is_answered_and_of_an_unknown_one_refused() {
    let mut world = abc(intensity(5));
    world.stop_child("a");
    world.stop_child("a");
    world.stop_child("x");
    world.start_child("x");
    world.restart_child("x");
    world.start_child("b");
    world.saw(expect![[r#"
        0     operator stops a -> stop a
        0     a stopped
        0     operator stops a -> stop a
        0     a stopped
        0     operator stops x -> NotFound
        0     operator starts x -> NotFound
        0     operator restarts x -> NotFound
        0     operator starts b -> AlreadyStarted
    "#]]);
}

#[test]
fn the_last_word_of_an_operator_while_a_child_stops_counts() {
    let mut world = abc(intensity(5));
    world.slow("a");
    world.restart_child("a");
    world.stop_child("a");
    world.start_child("a");
    world.stop_child("a");
    world.stopped("a");
    world.saw(expect![[r#"
        0     operator restarts a -> stop a
        0     operator stops a
        0     operator starts a
        0     operator stops a
        0     a stopped
    "#]]);
}

// Giving up.

#[test]
fn a_nested_supervisor_that_gives_up_stops_in_reverse_and_ends_with_shutdown() {
    let mut world = abc(intensity(0));
    world.slow("c");
    world.exited("b", trap());
    world.saw(expect![[r#"
        0     b exited: trap -> give up after 1, last b, stop c
    "#]]);
    world.stopped("c");
    world.saw(expect![[r#"
        0     c stopped -> stop a
        0     a stopped -> DOWN with shutdown
    "#]]);
    world.tell(Input::Start);
    assert_eq!(world.policy.restarts_used(world.now), 0);
    world.saw(expect![[r#"
        0     start -> start a#1
        0     a started -> start b#1
        0     b started -> start c#1
    "#]]);
}

/// Its parent waits for `stopped`: should it only hear `exited`, it would wait for ever.
#[test]
fn a_stop_that_comes_while_it_gives_up_is_answered() {
    let mut world = abc(intensity(0));
    world.slow("c");
    world.exited("b", trap());
    world.tell(Input::Stop);
    world.stopped("c");
    world.saw(expect![[r#"
        0     b exited: trap -> give up after 1, last b, stop c
        0     stop
        0     c stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn a_stop_that_comes_after_it_gave_up_is_answered() {
    let mut world = abc(intensity(0));
    world.exited("b", trap());
    world.trace.clear();
    world.tell(Input::Stop);
    world.saw(expect![[r#"
        0     stop -> DOWN
    "#]]);
}

#[test]
fn the_parent_of_one_that_gave_up_treats_it_by_its_own_child_spec() {
    for (restart, expected) in [(Restart::Permanent, "inner Running"), (Restart::Transient, "inner Down")] {
        let mut world = World::new("sup", intensity(1), &[]);
        world.add("inner", restart);
        world.tell(Input::Start);
        world.exited("inner", ExitReason::Shutdown);
        assert_eq!(world.states(), expected);
    }
}

#[test]
fn the_root_isolates_the_child_and_its_neighbours_go_on() {
    let mut world = World::new("", intensity(1), &["a", "b"]);
    world.tell(Input::Start);
    world.trace.clear();
    world.exited("a", trap());
    world.exited("a", trap());
    world.exited("b", trap());
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     a exited: trap -> isolate a: 2 restarts within 5.00s, the last after: trap: oops
        0     b exited: trap -> restart b in 0 ms (1 used), start b#1
        0     b started
    "#]]);
    assert_eq!(world.states(), "a Isolated, b Running");
    world.start_child("a");
    world.exited("a", trap());
    world.exited("a", trap());
    world.saw(expect![[r#"
        0     operator starts a -> start a#2
        0     a started
        0     a exited: trap -> restart a in 0 ms (1 used), start a#3
        0     a started
        0     a exited: trap -> isolate a: 2 restarts within 5.00s, the last after: trap: oops
    "#]]);
}

/// Who fails, in order and at once, and what becomes of all: under the root each child has the
/// whole intensity, in a nested supervisor all share it.
#[test]
fn at_the_root_one_childs_failures_do_not_isolate_another() {
    let mut table = String::new();
    for (sup, allowed, failures) in [
        ("", 0, "a"),
        ("", 1, "abc"),
        ("", 1, "abb"),
        ("", 2, "aabbcc"),
        ("", 2, "aabbcca"),
        ("", 2, "aaabbccc"),
        ("sup", 2, "ab"),
        ("sup", 2, "abc"),
    ] {
        let mut world = World::new(sup, intensity(allowed), &["a", "b", "c"]);
        world.tell(Input::Start);
        world.trace.clear();
        for leaf in failures.chars() {
            world.exited(&leaf.to_string(), trap());
            // Past the delay before a restart, and all within the period.
            world.after_ms(300);
        }
        let of = if sup.is_empty() { "root" } else { sup };
        writeln!(table, "{of:<4} {allowed} {failures:<8} {}", world.states()).unwrap();
    }
    expect![[r#"
        root 0 a        a Isolated, b Running, c Running
        root 1 abc      a Running, b Running, c Running
        root 1 abb      a Running, b Isolated, c Running
        root 2 aabbcc   a Running, b Running, c Running
        root 2 aabbcca  a Isolated, b Running, c Running
        root 2 aaabbccc a Isolated, b Running, c Isolated
        sup  2 ab       a Running, b Running, c Running
        sup  2 abc      a Down, b Down, c Down
    "#]]
    .assert_eq(&table);
}

#[test]
fn the_restarts_of_a_child_of_the_root_leave_its_window_and_its_next_start_forgets_them() {
    let mut world = World::new("", intensity(1), &["a", "b"]);
    world.tell(Input::Start);
    world.trace.clear();
    world.exited("a", trap());
    world.exited("b", trap());
    world.after_ms(5_001);
    world.exited("a", trap());
    world.after_ms(100);
    world.tell(Input::Stop);
    world.tell(Input::Start);
    world.exited("a", trap());
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     b exited: trap -> restart b in 0 ms (1 used), start b#1
        0     b started
        5001  a exited: trap -> restart a in 100 ms (1 used), wake at 5101
        5101  due -> start a#2
        5101  a started
        5101  stop -> stop b
        5101  b stopped -> stop a
        5101  a stopped -> DOWN
        5101  start -> start a#3
        5101  a started -> start b#2
        5101  b started -> UP
        5101  a exited: trap -> restart a in 0 ms (1 used), start a#4
        5101  a started
    "#]]);
}

#[test]
fn the_root_starts_the_others_when_one_is_isolated_at_its_start() {
    let mut world = World::new("", intensity(0), &["a", "b"]);
    world.broken("a");
    world.tell(Input::Start);
    world.stop_child("a");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a failed to start -> isolate a: 1 restarts within 5.00s, the last after: trap: oops, start b#0
        0     b started -> UP
        0     operator stops a -> stop a
        0     a stopped
    "#]]);
    assert_eq!(world.states(), "a Down, b Running");
}

// Changing a running supervisor.

#[test]
fn new_flags_hold_from_then_on() {
    let mut world = abc(intensity(3));
    world.exited("a", trap());
    world.exited("b", trap());
    let period = Duration::from_secs(1);
    world.tell(Input::Configure(Box::new(SupervisorSettings { period, ..intensity(1) })));
    world.after_ms(1_001);
    world.exited("c", trap());
    world.exited("b", trap());
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     b exited: trap -> restart b in 0 ms (2 used), start b#1
        0     b started
        0     configure 1 in 1.00s
        1001  c exited: trap -> restart c in 0 ms (1 used), start c#1
        1001  c started
        1001  b exited: trap -> give up after 2, last b, stop c
        1001  c stopped -> stop a
        1001  a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn a_new_order_is_that_of_the_next_start() {
    let mut world = abc(intensity(1));
    let order = vec!["c".to_string(), "b".to_string()];
    world.tell(Input::Configure(Box::new(SupervisorSettings { order, ..intensity(1) })));
    world.tell(Input::Stop);
    world.trace.clear();
    world.tell(Input::Start);
    world.saw(expect![[r#"
        0     start -> start c#1
        0     c started -> start b#1
        0     b started -> start a#1
        0     a started -> UP
    "#]]);
}

#[test]
fn a_child_keeps_running_under_its_new_spec() {
    let mut world = abc(intensity(1));
    let shutdown = Shutdown::Kill;
    world.tell(Input::Change { name: world.name("a"), restart: Restart::Temporary, shutdown });
    world.tell(Input::Change { name: world.name("x"), restart: Restart::Temporary, shutdown });
    world.exited("a", trap());
    world.saw(expect![[r#"
        0     change a Temporary
        0     change x Temporary -> NotFound
        0     a exited: trap
    "#]]);
    let (_, actions) = world.policy.on(world.now, 0, Input::StopChild(world.name("a")));
    assert_eq!(actions, [Action::StopChild { name: world.name("a"), reason: ExitReason::Shutdown, shutdown }]);
}

// Removal.

#[test]
fn a_child_is_removed_whatever_it_is_doing() {
    let mut table = String::new();
    type Prepare = fn(&mut World);
    let cases: [(&str, Prepare); 6] = [
        ("running", |_| {}),
        ("down", |world| world.stop_child("a")),
        ("starting", |world| {
            world.slow("a");
            world.exited("a", trap());
        }),
        ("stopping", |world| {
            world.slow("a");
            world.stop_child("a");
        }),
        ("restarting", |world| {
            world.broken("a");
            world.exited("a", trap());
        }),
        ("stopping to start again", |world| {
            world.slow("a");
            world.restart_child("a");
        }),
    ];
    for (state, prepare) in cases {
        let mut world = abc(intensity(5));
        prepare(&mut world);
        world.trace.clear();
        world.slow("a");
        world.remove("a");
        world.stopped("a");
        world.after_ms(1_000);
        writeln!(table, "{state}\n{}", world.trace).unwrap();
        assert_eq!(world.states(), "b Running, c Running");
    }
    expect![[r#"
        running
        0     remove a -> stop a
        0     a stopped -> forget a

        down
        0     remove a -> stop a
        0     a stopped -> forget a

        starting
        0     remove a -> stop a
        0     a stopped -> forget a

        stopping
        0     remove a
        0     a stopped -> forget a

        restarting
        0     remove a -> stop a
        0     a stopped -> forget a
        100   due

        stopping to start again
        0     remove a
        0     a stopped -> forget a

    "#]]
    .assert_eq(&table);
}

#[test]
fn a_removal_cannot_be_taken_back() {
    let mut world = abc(intensity(5));
    world.slow("a");
    world.remove("a");
    world.start_child("a");
    world.restart_child("a");
    world.stop_child("a");
    world.add("a", Restart::Permanent);
    world.stopped("a");
    world.saw(expect![[r#"
        0     remove a -> stop a
        0     operator starts a -> NotFound
        0     operator restarts a -> NotFound
        0     operator stops a
        0     add a Permanent -> AlreadyStarted
        0     a stopped -> forget a
    "#]]);
}

#[test]
fn a_removal_while_the_supervisor_starts_does_not_hold_up_the_others() {
    let mut world = World::new("sup", intensity(1), &["a", "b", "c"]);
    world.slow("a");
    world.tell(Input::Start);
    world.remove("b");
    world.remove("a");
    world.stopped("a");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     remove b -> stop b
        0     b stopped -> forget b
        0     remove a -> stop a
        0     a stopped -> forget a, start c#0
        0     c started -> UP
    "#]]);
}

#[test]
fn a_removal_before_the_start_is_not_undone_by_it() {
    let mut world = World::new("sup", intensity(1), &["a", "b", "c"]);
    world.slow("a");
    world.slow("b");
    world.remove("a");
    world.stop_child("b");
    world.tell(Input::Start);
    world.stopped("a");
    world.stopped("b");
    world.started("b");
    world.saw(expect![[r#"
        0     remove a -> stop a
        0     operator stops b -> stop b
        0     start -> start c#0
        0     c started -> UP
        0     a stopped -> forget a
        0     b stopped -> start b#0
        0     b started
    "#]]);
}

#[test]
fn a_removal_while_the_supervisor_stops_is_waited_for() {
    let mut world = abc(intensity(1));
    world.slow("a");
    world.remove("a");
    world.tell(Input::Stop);
    world.stopped("a");
    world.saw(expect![[r#"
        0     remove a -> stop a
        0     stop -> stop c
        0     c stopped -> stop b
        0     b stopped
        0     a stopped -> forget a, DOWN
    "#]]);
}

// Whatever happens, in any order.

/// What may happen to a supervisor whose children and whose letters take their time.
#[derive(Clone, Debug)]
enum Step {
    Start,
    Stop,
    /// A child does the first thing it was told; a start may fail.
    Obey {
        child: usize,
        works: bool,
    },
    /// A child that is up ends by itself.
    Exit {
        child: usize,
        reason: ExitReason,
    },
    /// The supervisor hears the oldest report.
    Hear,
    Clock {
        ms: u64,
    },
    Add {
        child: usize,
        restart: Restart,
    },
    Change {
        child: usize,
        restart: Restart,
    },
    Remove {
        child: usize,
    },
    StartChild {
        child: usize,
    },
    StopChild {
        child: usize,
    },
    RestartChild {
        child: usize,
    },
    Configure {
        intensity: u32,
    },
}

const CHILDREN: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let child = || 0..CHILDREN;
    let restart = || prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)];
    let reason =
        prop_oneof![Just(ExitReason::Normal), Just(ExitReason::Shutdown), Just(ExitReason::Killed), Just(trap())];
    prop_oneof![
        2 => Just(Step::Start),
        1 => Just(Step::Stop),
        12 => (child(), prop::bool::weighted(0.7)).prop_map(|(child, works)| Step::Obey { child, works }),
        5 => (child(), reason).prop_map(|(child, reason)| Step::Exit { child, reason }),
        14 => Just(Step::Hear),
        4 => (0_u64..3_000).prop_map(|ms| Step::Clock { ms }),
        2 => (child(), restart()).prop_map(|(child, restart)| Step::Add { child, restart }),
        1 => (child(), restart()).prop_map(|(child, restart)| Step::Change { child, restart }),
        1 => child().prop_map(|child| Step::Remove { child }),
        1 => child().prop_map(|child| Step::StartChild { child }),
        1 => child().prop_map(|child| Step::StopChild { child }),
        1 => child().prop_map(|child| Step::RestartChild { child }),
        1 => (0_u32..4).prop_map(|intensity| Step::Configure { intensity }),
    ]
}

/// A child as it really is, apart from what the supervisor believes.
#[derive(Debug, Default)]
struct Actual {
    up: bool,
    told: VecDeque<Told>,
    /// How often it was told to start.
    starts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Start,
    Stop,
}

/// Children that obey and report later than they are told, and the promises of the policy.
struct Asynchronous {
    policy: Supervision,
    now: Tick,
    wake_at: Option<Tick>,
    actual: BTreeMap<Name, Actual>,
    reports: VecDeque<Input>,
    /// A stop was asked for, or it gave up: `SelfEnded` is owed, once.
    owes_end: bool,
    ends: u32,
    starts: u32,
    /// Failures that were to be followed by a restart, since the window was last emptied.
    failures: Vec<(Name, Tick)>,
}

impl Asynchronous {
    fn new(sup: Name, intensity: u32) -> Asynchronous {
        let mut world = Asynchronous {
            policy: Supervision::new(sup, SupervisorSettings { intensity, ..SupervisorSettings::default() }),
            now: Tick::ZERO,
            wake_at: None,
            actual: BTreeMap::new(),
            reports: VecDeque::new(),
            owes_end: false,
            ends: 0,
            starts: 0,
            failures: Vec::new(),
        };
        (0..CHILDREN - 1).for_each(|child| world.step(Step::Add { child, restart: Restart::Permanent }));
        world
    }

    fn name(&self, child: usize) -> Name {
        self.policy.name.child(["a", "b", "c", "d"][child]).unwrap()
    }

    fn step(&mut self, step: Step) {
        let shutdown = Shutdown::Infinity;
        match step {
            Step::Start => self.tell(Input::Start),
            Step::Stop => self.tell(Input::Stop),
            Step::Obey { child, works } => self.obey(&self.name(child), works),
            Step::Exit { child, reason } => self.exit(self.name(child), reason),
            Step::Hear => self.hear(),
            Step::Clock { ms } => self.wait(Duration::from_millis(ms)),
            Step::Add { child, restart } => self.tell(Input::Add { name: self.name(child), restart, shutdown }),
            Step::Change { child, restart } => self.tell(Input::Change { name: self.name(child), restart, shutdown }),
            Step::Remove { child } => self.tell(Input::Remove(self.name(child))),
            Step::StartChild { child } => self.tell(Input::StartChild(self.name(child))),
            Step::StopChild { child } => self.tell(Input::StopChild(self.name(child))),
            Step::RestartChild { child } => self.tell(Input::RestartChild(self.name(child))),
            Step::Configure { intensity } => {
                let settings = SupervisorSettings { intensity, ..self.policy.settings().clone() };
                self.tell(Input::Configure(Box::new(settings)));
            }
        }
    }

    fn obey(&mut self, name: &Name, works: bool) {
        let Some(actual) = self.actual.get_mut(name) else { return };
        let report = match actual.told.pop_front() {
            None => return,
            Some(Told::Start) => {
                assert!(!actual.up, "{name} was started while it was up");
                actual.up = works;
                if works { Input::Started(name.clone()) } else { Input::StartFailed(name.clone(), trap()) }
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
        let was_down = self.policy.phase == Phase::Down;
        match &input {
            Input::Start if was_down => self.failures.clear(),
            Input::Stop => self.owes_end = true,
            _ => {}
        }
        let added = match &input {
            Input::Add { name, .. } => Some(name.clone()),
            _ => None,
        };
        let (answer, actions) = self.policy.on(self.now, 50, input);
        if let Some(name) = added.filter(|_| answer == Answer::Ok) {
            let known = self.actual.insert(name, Actual::default());
            assert!(known.is_none(), "a child was added twice");
        }
        actions.into_iter().for_each(|action| self.act(action));
        self.check();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartChild { name, incarnation } => {
                assert!(self.policy.is_running(), "{name} was started by a supervisor that does not run");
                let unheard = self.reports.iter().filter(|report| concerns(report, &name)).count();
                let actual = self.actual.get_mut(&name).expect("a child that is started is known");
                let quiet = !actual.up && actual.told.is_empty() && unheard == 0;
                assert!(quiet, "{name} was started, and is {actual:?} with {unheard} reports on the way");
                actual.told.push_back(Told::Start);
                assert_eq!(incarnation, Incarnation(actual.starts), "{name} has another incarnation at each start");
                actual.starts += 1;
            }
            Action::StopChild { name, .. } => {
                let actual = self.actual.get_mut(&name).expect("a child that is stopped is known");
                assert!(!actual.told.contains(&Told::Stop), "{name} was told to stop twice");
                actual.told.push_back(Told::Stop);
            }
            Action::Restarting { name, restarts, .. } => {
                let (within, intensity) = self.failed(&name);
                assert!(within <= intensity, "{within} restarts of {name} within the period, {intensity} are allowed");
                assert_eq!(restarts, within, "restarts of {name}");
            }
            Action::Isolate { name, .. } => {
                assert!(self.policy.name.is_root(), "{name} was isolated, and not by the root");
                let (within, intensity) = self.failed(&name);
                assert!(within > intensity, "{name} was isolated after {within}, {intensity} are allowed");
                self.failures.retain(|(of, _)| *of != name);
            }
            Action::Forget(name) => {
                // What a nested supervisor has counted stays, whoever it was.
                let is_root = self.policy.name.is_root();
                self.failures.retain(|(of, _)| !is_root || *of != name);
                let actual = self.actual.remove(&name).expect("a child is forgotten once");
                assert!(!actual.up && actual.told.is_empty(), "{name} was forgotten and is {actual:?}");
            }
            Action::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
            Action::GaveUp { restarts, last } => {
                assert!(!self.policy.name.is_root() && !self.owes_end, "it gave up while it stopped");
                let (within, intensity) = self.failed(&last);
                assert!(within > intensity, "it gave up after {within}, {intensity} are allowed");
                // More than one too many are not counted: the intensity was lowered.
                assert_eq!(restarts, intensity + 1);
                self.owes_end = true;
            }
            Action::SelfStarted => self.starts += 1,
            Action::SelfEnded(_) => {
                assert!(std::mem::take(&mut self.owes_end), "it ended though nobody asked and it did not give up");
                self.ends += 1;
                let up = |actual: &Actual| actual.up || actual.told.contains(&Told::Start);
                assert!(!self.actual.values().any(up), "it ended before its children: {:?}", self.actual);
            }
        }
    }

    /// A child failed that is to be restarted. How many failures of the same budget are within the
    /// period, and how many may be: the root has a budget per child, any other one for all.
    fn failed(&mut self, name: &Name) -> (u32, u32) {
        let SupervisorSettings { intensity, period, .. } = *self.policy.settings();
        self.failures.push((name.clone(), self.now));
        let is_root = self.policy.name.is_root();
        let budget = self.failures.iter().filter(|(of, _)| !is_root || of == name);
        let within = budget.filter(|(_, then)| self.now.since(*then) <= period).count();
        let child = self.policy.child(name).expect("a child that is restarted is known");
        assert_ne!(child.restart, Restart::Temporary, "{name} is temporary and is restarted");
        (u32::try_from(within).unwrap(), intensity)
    }

    fn check(&self) {
        let believed: Vec<&Name> = self.policy.children().iter().map(|child| &child.name).collect();
        let once: BTreeSet<&Name> = believed.iter().copied().collect();
        assert_eq!(once.len(), believed.len(), "a child is there twice");
        assert!(once.into_iter().eq(self.actual.keys()), "a child was lost: {believed:?}, {:?}", self.actual);
        let starting = self.policy.children().iter().filter(|child| child.state == ChildState::Starting).count();
        assert!(self.policy.phase != Phase::Starting || starting <= 1, "{starting} start at one time");
        for child in self.policy.children().iter().filter(|_| self.policy.is_running()) {
            if let ChildState::Restarting { due } = child.state {
                assert!(self.wake_at.is_some_and(|at| at <= due), "nothing wakes the supervisor for {}", child.name);
            }
        }
        assert!(!self.owes_end || !self.policy.is_running() && self.policy.phase != Phase::Down, "an end is owed");
    }

    /// Everybody does what they were told and all is heard.
    fn settle(&mut self) {
        loop {
            let busy = self.actual.iter().find(|(_, actual)| !actual.told.is_empty()).map(|(name, _)| name.clone());
            match busy {
                Some(name) => self.obey(&name, true),
                None if self.reports.is_empty() => break,
                None => self.hear(),
            }
        }
        for child in self.policy.children() {
            let up = self.actual[&child.name].up;
            let settled = match child.state {
                ChildState::Running => up,
                ChildState::Down | ChildState::Isolated | ChildState::Restarting { .. } => !up,
                ChildState::Waiting | ChildState::Starting | ChildState::Stopping(_) => false,
            };
            assert!(settled, "{} stays {:?}, up: {up}", child.name, child.state);
        }
        assert!(matches!(self.policy.phase, Phase::Down | Phase::Running), "stays {:?}", self.policy.phase);
    }

    fn all(&self, state: ChildState) -> bool {
        self.policy.children().iter().all(|child| child.state == state)
    }
}

fn concerns(report: &Input, name: &Name) -> bool {
    match report {
        Input::Started(of) | Input::StartFailed(of, _) | Input::Exited(of, _) | Input::Stopped(of) => of == name,
        _ => false,
    }
}

fn keeps_its_promises(sup: Name, intensity: u32, steps: Vec<Step>) {
    let is_root = sup.is_root();
    let mut world = Asynchronous::new(sup, intensity);
    world.step(Step::Start);
    steps.into_iter().for_each(|step| world.step(step));
    world.settle();

    let ends = world.ends;
    world.step(Step::Stop);
    world.settle();
    assert_eq!(world.ends, ends + 1, "one stop, one end");
    assert!(!world.actual.values().any(|actual| actual.up));
    assert!(is_root || world.all(ChildState::Down), "{:?}", world.policy);

    let starts = world.starts;
    world.step(Step::Start);
    world.settle();
    assert_eq!(world.starts, starts + 1, "one start, one answer");
    assert!(world.all(ChildState::Running), "{:?}", world.policy);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_nested_supervisor_keeps_its_promises(
        intensity in 0_u32..4,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        keeps_its_promises(Name::parse("sup").unwrap(), intensity, steps);
    }

    #[test]
    fn the_root_keeps_its_promises(
        intensity in 0_u32..4,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        keeps_its_promises(Name::root(), intensity, steps);
    }
}
