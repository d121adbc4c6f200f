//! Whether the callers of a worker that fails are let through. Pure.
//!
//! ```text
//!            failures within the window            recovery is over
//!    Closed ----------------------------> Open -------------------------> HalfOpen
//!      ^                                  ^  ^                             |   |
//!      |              force (escalation) -+  +------- one failure ---------+   |
//!      +---------------------------- successes on trial -----------------------+
//! ```
//!
//! - *Closed* lets all messages through and remembers when the last ones failed, at most as many as it
//!   takes to open.
//! - *Open* refuses all until `recovery` is over. Nothing wakes it: the first message after that makes
//!   it half-open.
//! - *HalfOpen* lets `trials` messages through at one time. As many successes close it, one failure
//!   opens it again. A trial whose outcome never comes gives its place back when its message is let go
//!   of, or after `recovery`.
//!
//! Outcomes come from messages that were let through. One of a message that was let through when the
//! breaker was closed says nothing about an open or half-open one, and one of an earlier half-open time
//! says nothing about this one: a flood that was on its way when it opened must not decide the trial.

use std::collections::VecDeque;
use std::time::Duration;

use super::spec::BreakerSettings;
use crate::base::Tick;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// When the last failures were: at most `failures` of the settings.
    failures: VecDeque<Tick>,
    next_trial: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Tick,
    },
    HalfOpen(HalfOpen),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct HalfOpen {
    /// Trials before this one belong to an earlier half-open time.
    first: u64,
    /// Those whose outcome is awaited, and since when; at most `trials` of the settings.
    under_way: Vec<(TrialId, Tick)>,
    succeeded: u32,
}

/// One message that a half-open breaker let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialId(u64);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// Its outcome, or that there is none, must be told with this.
    PassAsTrial(TrialId),
    Refuse,
}

/// How the breaker turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Opened,
    HalfOpened,
    Closed,
    None,
}

/// What can be seen of a breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Closed,
    Open { until: Tick },
    HalfOpen,
}

impl Breaker {
    /// One that is open until then: kept from an earlier run of the host.
    pub fn opened_until(until: Tick) -> Breaker {
        Breaker { state: State::Open { until }, ..Breaker::default() }
    }

    /// Asked for each message. The turn is `HalfOpened` for the first one after the recovery.
    pub fn admit(&mut self, now: Tick, settings: &BreakerSettings) -> (Admission, Turn) {
        let turn = match self.state {
            State::Closed => return (Admission::Pass, Turn::None),
            State::Open { until } if now < until => return (Admission::Refuse, Turn::None),
            State::Open { .. } => self.half_open(),
            State::HalfOpen(_) => Turn::None,
        };
        let State::HalfOpen(half) = &mut self.state else { return (Admission::Pass, turn) };
        // One that said nothing for so long gives way to another; should it fail after all, that counts.
        half.under_way.retain(|(_, since)| now.since(*since) < settings.recovery);
        if half.under_way.len() >= settings.trials as usize {
            return (Admission::Refuse, turn);
        }
        let trial = TrialId(self.next_trial);
        self.next_trial += 1;
        half.under_way.push((trial, now));
        (Admission::PassAsTrial(trial), turn)
    }

    /// A message that was let through went well.
    pub fn succeeded(&mut self, trial: Option<TrialId>, settings: &BreakerSettings) -> Turn {
        let Some(half) = self.on_trial(trial) else { return Turn::None };
        half.succeeded += 1;
        if half.succeeded < settings.trials {
            return Turn::None;
        }
        *self = Breaker { next_trial: self.next_trial, ..Breaker::default() };
        Turn::Closed
    }

    /// A message that was let through failed.
    pub fn failed(&mut self, now: Tick, trial: Option<TrialId>, settings: &BreakerSettings) -> Turn {
        let opens = match &self.state {
            State::Closed => {
                self.note(now, settings);
                self.failures.len() >= settings.failures as usize
            }
            State::Open { .. } => false,
            State::HalfOpen(_) => {
                let counts = self.on_trial(trial).is_some();
                if counts {
                    self.note(now, settings);
                }
                counts
            }
        };
        if opens { self.turn_open(now, settings) } else { Turn::None }
    }

    /// A trial will have no outcome: another takes its place.
    pub fn trial_lost(&mut self, trial: TrialId) {
        self.on_trial(Some(trial));
    }

    /// Opens it whatever was counted: an escalation step. One that is open stays as it is.
    pub fn force(&mut self, now: Tick, settings: &BreakerSettings) -> Turn {
        match self.state {
            State::Open { until } if now < until => Turn::None,
            _ => self.turn_open(now, settings),
        }
    }

    /// Ends an open time early and begins a half-open one anew; what was counted in a closed one is
    /// forgotten. For code that has not failed yet.
    pub fn begin_anew(&mut self) -> Turn {
        self.failures.clear();
        match self.state {
            State::Closed => Turn::None,
            State::Open { .. } => self.half_open(),
            // No turn: it was half-open before.
            State::HalfOpen(_) => {
                self.half_open();
                Turn::None
            }
        }
    }

    pub fn position(&self, now: Tick) -> Position {
        match self.state {
            State::Closed => Position::Closed,
            State::Open { until } if now < until => Position::Open { until },
            // The next message makes it so.
            State::Open { .. } | State::HalfOpen(_) => Position::HalfOpen,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Failures within the window.
    pub fn failures(&self, now: Tick, settings: &BreakerSettings) -> u32 {
        let within = self.failures.iter().filter(|then| now.since(**then) <= settings.window).count();
        u32::try_from(within).unwrap_or(u32::MAX)
    }

    /// The half-open state, if this trial belongs to it. It is not under way any more.
    fn on_trial(&mut self, trial: Option<TrialId>) -> Option<&mut HalfOpen> {
        let (State::HalfOpen(half), Some(trial)) = (&mut self.state, trial) else { return None };
        if trial.0 < half.first {
            return None;
        }
        half.under_way.retain(|(other, _)| *other != trial);
        Some(half)
    }

    fn note(&mut self, now: Tick, settings: &BreakerSettings) {
        self.failures.push_back(now);
        let is_old = |then: &Tick, window: Duration| now.since(*then) > window;
        while self.failures.front().is_some_and(|then| is_old(then, settings.window)) {
            self.failures.pop_front();
        }
        while self.failures.len() > settings.failures as usize {
            self.failures.pop_front();
        }
    }

    fn turn_open(&mut self, now: Tick, settings: &BreakerSettings) -> Turn {
        self.state = State::Open { until: now.after(settings.recovery) };
        Turn::Opened
    }

    fn half_open(&mut self) -> Turn {
        self.state = State::HalfOpen(HalfOpen { first: self.next_trial, under_way: Vec::new(), succeeded: 0 });
        Turn::HalfOpened
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings {
        failures: 3,
        window: Duration::from_millis(100),
        recovery: Duration::from_millis(50),
        trials: 2,
    };

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    /// Failures at these moments, and the turn each makes.
    fn failing(moments: &[u64]) -> (Breaker, Vec<Turn>) {
        let mut breaker = Breaker::default();
        let turns = moments.iter().map(|ms| breaker.failed(at(*ms), None, &SETTINGS)).collect();
        (breaker, turns)
    }

    /// One that opened at 0, so that trials begin at 50.
    fn open() -> Breaker {
        failing(&[0, 0, 0]).0
    }

    fn trial(breaker: &mut Breaker, ms: u64) -> Option<TrialId> {
        match breaker.admit(at(ms), &SETTINGS).0 {
            Admission::PassAsTrial(trial) => Some(trial),
            Admission::Pass => panic!("it is closed"),
            Admission::Refuse => None,
        }
    }

    #[test]
    fn opens_at_so_many_failures_within_the_window_bounds_inclusive() {
        use Turn::{None, Opened};
        for (moments, expected) in [
            (&[0, 1, 2][..], vec![None, None, Opened]),
            (&[0, 0, 100], vec![None, None, Opened]),
            (&[0, 0, 101], vec![None, None, None]),
            (&[0, 60, 120, 160], vec![None, None, None, Opened]),
            (&[0, 0, 0, 0], vec![None, None, Opened, None]),
        ] {
            assert_eq!(failing(moments).1, expected, "{moments:?}");
        }
    }

    #[test]
    fn successes_do_not_make_up_for_failures() {
        let (mut breaker, _) = failing(&[0, 1]);
        assert_eq!(breaker.succeeded(None, &SETTINGS), Turn::None);
        assert_eq!(breaker.failed(at(2), None, &SETTINGS), Turn::Opened);
    }

    #[test]
    fn an_open_one_refuses_until_the_recovery_is_over_and_then_turns_with_the_first_message() {
        let mut breaker = open();
        assert_eq!(breaker.position(at(49)), Position::Open { until: at(50) });
        assert_eq!(breaker.admit(at(49), &SETTINGS), (Admission::Refuse, Turn::None));
        assert_eq!(breaker.position(at(50)), Position::HalfOpen);
        assert_eq!(breaker.admit(at(50), &SETTINGS), (Admission::PassAsTrial(TrialId(0)), Turn::HalfOpened));
        assert_eq!(breaker.admit(at(50), &SETTINGS), (Admission::PassAsTrial(TrialId(1)), Turn::None));
    }

    #[test]
    fn a_half_open_one_lets_so_many_through_at_one_time_and_closes_after_as_many_successes() {
        let mut breaker = open();
        let (first, second) = (trial(&mut breaker, 50), trial(&mut breaker, 51));
        assert_eq!(trial(&mut breaker, 52), None);
        assert_eq!(breaker.succeeded(first, &SETTINGS), Turn::None);
        let third = trial(&mut breaker, 53);
        assert!(third.is_some());
        assert_eq!(breaker.succeeded(second, &SETTINGS), Turn::Closed);
        assert_eq!(breaker.admit(at(54), &SETTINGS), (Admission::Pass, Turn::None));
        assert_eq!(breaker.failures(at(54), &SETTINGS), 0, "it begins anew");
        assert_eq!(breaker.failed(at(55), third, &SETTINGS), Turn::None);
        assert_eq!(breaker.failures(at(55), &SETTINGS), 1, "one that was on its way counts as any other");
    }

    #[test]
    fn one_failure_on_trial_opens_it_again_for_the_whole_recovery() {
        let mut breaker = open();
        let (first, second) = (trial(&mut breaker, 50), trial(&mut breaker, 50));
        breaker.succeeded(first, &SETTINGS);
        assert_eq!(breaker.failed(at(60), second, &SETTINGS), Turn::Opened);
        assert_eq!(breaker.position(at(60)), Position::Open { until: at(110) });
        let again = trial(&mut breaker, 110);
        assert_eq!(breaker.succeeded(again, &SETTINGS), Turn::None, "the success from before is forgotten");
    }

    #[test]
    fn what_was_let_through_before_does_not_decide_the_trial() {
        let mut breaker = open();
        assert_eq!(breaker.failed(at(10), None, &SETTINGS), Turn::None);
        let earlier = trial(&mut breaker, 50);
        let fails = trial(&mut breaker, 50);
        breaker.failed(at(50), fails, &SETTINGS);
        trial(&mut breaker, 100).unwrap();
        for late in [None, earlier] {
            assert_eq!(breaker.failed(at(101), late, &SETTINGS), Turn::None);
            assert_eq!(breaker.succeeded(late, &SETTINGS), Turn::None);
            assert_eq!(breaker.succeeded(late, &SETTINGS), Turn::None);
        }
    }

    #[test]
    fn a_trial_that_is_lost_or_silent_gives_its_place_back() {
        let mut breaker = open();
        let (first, silent) = (trial(&mut breaker, 50), trial(&mut breaker, 50));
        breaker.trial_lost(first.unwrap());
        assert!(trial(&mut breaker, 51).is_some());
        assert_eq!(trial(&mut breaker, 99), None);
        assert!(trial(&mut breaker, 100).is_some(), "the first was silent for the recovery");
        assert_eq!(breaker.failed(at(105), silent, &SETTINGS), Turn::Opened, "its late failure counts");
    }

    #[test]
    fn it_can_be_forced_open_once() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.force(at(0), &SETTINGS), Turn::Opened);
        assert_eq!(breaker.force(at(10), &SETTINGS), Turn::None);
        assert_eq!(breaker.position(at(10)), Position::Open { until: at(50) });
        assert_eq!(breaker.force(at(50), &SETTINGS), Turn::Opened, "its time was over");
        trial(&mut breaker, 100);
        assert_eq!(breaker.force(at(100), &SETTINGS), Turn::Opened);
    }

    #[test]
    fn new_code_is_on_trial_at_once() {
        let (mut breaker, _) = failing(&[0, 1]);
        assert_eq!(breaker.begin_anew(), Turn::None);
        assert_eq!(breaker.failed(at(2), None, &SETTINGS), Turn::None, "what the old code did is forgotten");

        let mut breaker = open();
        assert_eq!(breaker.begin_anew(), Turn::HalfOpened);
        let (first, second) = (trial(&mut breaker, 1), trial(&mut breaker, 1));
        breaker.succeeded(first, &SETTINGS);
        assert_eq!(breaker.begin_anew(), Turn::None);
        assert_eq!(breaker.succeeded(second, &SETTINGS), Turn::None, "that was the code before");
        assert!(trial(&mut breaker, 2).is_some());
    }

    #[test]
    fn one_from_an_earlier_run_refuses_for_the_rest_of_its_time() {
        let mut breaker = Breaker::opened_until(at(30));
        assert_eq!(breaker.admit(at(29), &SETTINGS), (Admission::Refuse, Turn::None));
        assert_eq!(breaker.admit(at(30), &SETTINGS).1, Turn::HalfOpened);
    }

    /// What may happen to a breaker. Numbers choose among the messages that were let through.
    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Admit,
        Succeed(usize),
        Fail(usize),
        Lose(usize),
        Force,
        Anew,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u64..60).prop_map(Step::Wait),
            6 => Just(Step::Admit),
            3 => (0_usize..8).prop_map(Step::Succeed),
            4 => (0_usize..8).prop_map(Step::Fail),
            1 => (0_usize..8).prop_map(Step::Lose),
            1 => Just(Step::Force),
            1 => Just(Step::Anew),
        ]
    }

    /// The rules again, with everything that ever happened at hand.
    #[derive(Default)]
    struct Model {
        failures: Vec<u64>,
        open_until: Option<u64>,
        /// Trials of the half-open time: when each began, and whether its outcome is still awaited.
        half: Option<Vec<(usize, u64, bool)>>,
        succeeded: u32,
    }

    impl Model {
        fn open(&mut self, now: u64) {
            *self =
                Model { failures: std::mem::take(&mut self.failures), open_until: Some(now + 50), ..Model::default() };
        }

        /// Whether message `number` passes, and whether as a trial.
        fn admit(&mut self, number: usize, now: u64) -> (bool, bool) {
            if let Some(until) = self.open_until {
                if now < until {
                    return (false, false);
                }
                (self.open_until, self.half) = (None, Some(Vec::new()));
            }
            let Some(half) = &mut self.half else { return (true, false) };
            let busy = half.iter().filter(|(_, since, awaited)| *awaited && now - since < 50).count();
            if busy >= 2 {
                return (false, false);
            }
            half.push((number, now, true));
            (true, true)
        }

        fn done(&mut self, number: usize) -> bool {
            let trial = self.half.iter_mut().flatten().find(|(other, ..)| *other == number);
            trial.map(|trial| trial.2 = false).is_some()
        }

        fn succeed(&mut self, number: usize) {
            if self.done(number) {
                self.succeeded += 1;
                if self.succeeded == 2 {
                    *self = Model::default();
                }
            }
        }

        fn fail(&mut self, number: usize, now: u64) {
            let closed = self.open_until.is_none() && self.half.is_none();
            if closed {
                self.failures.push(now);
                if self.failures.iter().filter(|then| now - **then <= 100).count() >= 3 {
                    self.open(now);
                }
            } else if self.done(number) {
                self.failures.push(now);
                self.open(now);
            }
        }

        fn position(&self, now: u64) -> Position {
            match (self.open_until, &self.half) {
                (None, None) => Position::Closed,
                (Some(until), _) if now < until => Position::Open { until: at(until) },
                _ => Position::HalfOpen,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_rules(steps in proptest::collection::vec(step(), 0..150)) {
            let (mut breaker, mut model, mut now) = (Breaker::default(), Model::default(), 0);
            // Messages under way, with their number and what they were let through as.
            let (mut passed, mut number): (Vec<(usize, Option<TrialId>)>, _) = (Vec::new(), 0);
            let take = |passed: &mut Vec<_>, at: usize| (at < passed.len()).then(|| passed.remove(at));
            for step in steps {
                let before = breaker.position(at(now));
                match step {
                    Step::Wait(ms) => now += ms,
                    Step::Admit => {
                        number += 1;
                        let said = breaker.admit(at(now), &SETTINGS).0;
                        let trial = if let Admission::PassAsTrial(trial) = said { Some(trial) } else { None };
                        prop_assert_eq!((said != Admission::Refuse, trial.is_some()), model.admit(number, now));
                        if said != Admission::Refuse {
                            passed.push((number, trial));
                        }
                    }
                    Step::Succeed(which) => if let Some((number, trial)) = take(&mut passed, which) {
                        let turn = breaker.succeeded(trial, &SETTINGS);
                        model.succeed(number);
                        prop_assert_eq!(turn == Turn::Closed, before != Position::Closed && breaker.is_closed());
                    },
                    Step::Fail(which) => if let Some((number, trial)) = take(&mut passed, which) {
                        let turn = breaker.failed(at(now), trial, &SETTINGS);
                        model.fail(number, now);
                        let opened = matches!(breaker.position(at(now)), Position::Open { .. });
                        prop_assert_eq!(turn == Turn::Opened, opened && !matches!(before, Position::Open { .. }));
                    },
                    Step::Lose(which) => if let Some((number, Some(trial))) = take(&mut passed, which) {
                        breaker.trial_lost(trial);
                        model.done(number);
                    },
                    Step::Force => {
                        breaker.force(at(now), &SETTINGS);
                        if !matches!(model.position(now), Position::Open { .. }) {
                            model.open(now);
                        }
                    }
                    Step::Anew => {
                        breaker.begin_anew();
                        model.failures.clear();
                        model.succeeded = 0;
                        if model.open_until.take().is_some() || model.half.is_some() {
                            model.half = Some(Vec::new());
                        }
                    }
                }
                prop_assert_eq!(breaker.position(at(now)), model.position(now));
                prop_assert!(breaker.failures.len() <= SETTINGS.failures as usize);
            }
        }
    }
}
