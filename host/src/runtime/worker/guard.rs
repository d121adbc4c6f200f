//! What stands before a worker's mailbox: its rate limits and its circuit breaker. The rules are pure
//! (`runtime::rate`, `runtime::breaker`); here are their lock, what follows from a turn of the breaker
//! (an event, a row in the database), and the way of an outcome back to it.
//!
//! Messages from callers alone pass here, once each. Facts, system messages and what a rollback hands
//! over again never do.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::{Clock, Name, Tick, Timestamp};
use crate::record::{BreakerRecord, Change, Database, DatabaseError, Event, Recorder};
use crate::runtime::breaker::{Admission, Breaker, Position, TrialId, Turn};
use crate::runtime::message::Outcome;
use crate::runtime::rate::Limiter;
use crate::runtime::services::Services;
use crate::runtime::spec::{BreakerSettings, RateLimits, WorkerSettings};
use crate::sandbox::CallError;

pub struct Guard {
    name: Name,
    clock: Clock,
    recorder: Recorder,
    database: Database,
    /// What a message has to do with the rules: [`COUNTS`], [`ASKS`], or nothing at all, which is the
    /// case for most workers and costs one load. Written under the lock; a message that sees it a moment
    /// late is let through as one that came a moment earlier.
    duties: AtomicU8,
    rules: Mutex<Rules>,
}

/// The outcomes of messages matter: there is a breaker.
const COUNTS: u8 = 1;
/// Each message must ask: the breaker is not closed, or there is a rate limit.
const ASKS: u8 = 2;

struct Rules {
    configured: Option<BreakerSettings>,
    breaker: Breaker,
    /// What the database is to say of the breaker; `None` while it is closed.
    record: Option<BreakerRecord>,
    limiter: Limiter,
}

/// What can be seen of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// `closed`, `open` or `half-open`. One whose recovery is over is half-open, even if nobody has
    /// called since.
    pub state: &'static str,
    /// Failures within the window.
    pub failures: u32,
    /// While it is open: until then.
    pub until: Option<Timestamp>,
}

/// How a message went, as far as it says something about the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Good,
    Bad,
}

/// Goes with a message whose outcome matters. The first outcome counts, whoever sees it: the caller that
/// stops waiting or the worker's task. Let go of without any, it gives the place of a trial back.
pub struct Pass {
    guard: Arc<Guard>,
    trial: Option<TrialId>,
    settled: AtomicBool,
}

impl Guard {
    /// `kept`: how an earlier run of the host left the breaker.
    pub fn new(name: Name, settings: &WorkerSettings, services: &Services, kept: Option<BreakerRecord>) -> Guard {
        let (now, at) = (services.clock.now(), services.clock.timestamp());
        let configured = settings.circuit_breaker;
        let breaker = kept.map_or_else(Breaker::default, |record| {
            // Should the calendar have been set back meanwhile, it is not open for longer than ever.
            let left = Duration::from_millis(record.until.0.saturating_sub(at.0));
            Breaker::opened_until(now.after(left.min(configured.unwrap_or_default().recovery)))
        });
        let limiter = Limiter::new(settings.rate, now);
        let guard = Guard {
            name,
            clock: services.clock.clone(),
            recorder: services.recorder.clone(),
            database: services.database.clone(),
            duties: AtomicU8::new(0),
            rules: Mutex::new(Rules { configured, breaker, record: kept, limiter }),
        };
        guard.show_duties(&guard.rules());
        guard
    }

    /// Whether there is a rule under these settings.
    pub fn is_wanted(settings: &WorkerSettings) -> bool {
        settings.circuit_breaker.is_some() || settings.rate != RateLimits::default()
    }

    /// Whether a message from this caller may go into the mailbox; what is returned goes with it.
    /// `None` for `from` is a client outside the tree.
    ///
    /// # Errors
    ///
    /// [`CallError::CircuitOpen`], or [`CallError::Overloaded`] beyond a rate.
    pub fn admit(self: &Arc<Guard>, from: Option<&Name>) -> Result<Option<Arc<Pass>>, CallError> {
        let duties = self.duties.load(Ordering::Relaxed);
        if duties == 0 {
            return Ok(None);
        }
        let trial = if duties & ASKS == 0 { None } else { self.ask(from)? };
        let counts = duties & COUNTS != 0 || trial.is_some();
        Ok(counts.then(|| Arc::new(Pass { guard: self.clone(), trial, settled: AtomicBool::new(false) })))
    }

    fn ask(&self, from: Option<&Name>) -> Result<Option<TrialId>, CallError> {
        let mut rules = self.rules();
        let now = self.clock.now();
        let settings = rules.breaker_settings();
        let (admission, turn) = rules.breaker.admit(now, &settings);
        self.turned(&mut rules, turn, now);
        let trial = match admission {
            Admission::Refuse => return Err(CallError::CircuitOpen),
            Admission::PassAsTrial(trial) => Some(trial),
            Admission::Pass => None,
        };
        if !rules.limiter.take(from, now) {
            if let Some(trial) = trial {
                rules.breaker.trial_lost(trial);
            }
            return Err(CallError::Overloaded);
        }
        Ok(trial)
    }

    /// New settings hold at once. A bucket whose rate is the same keeps what is in it.
    pub fn configure(&self, settings: &WorkerSettings) {
        let mut rules = self.rules();
        let now = self.clock.now();
        if rules.limiter.limits() != settings.rate {
            rules.limiter = Limiter::new(settings.rate, now);
        }
        let before = std::mem::replace(&mut rules.configured, settings.circuit_breaker);
        if before.is_some() && settings.circuit_breaker.is_none() {
            let turn = if rules.breaker.is_closed() { Turn::None } else { Turn::Closed };
            rules.breaker = Breaker::default();
            self.turned(&mut rules, turn, now);
        }
        self.show_duties(&rules);
    }

    /// Opens the breaker whatever was counted. A worker that has none gets one with the default
    /// settings, until it closes.
    pub fn open(&self, now: Tick) {
        let mut rules = self.rules();
        let settings = rules.breaker_settings();
        let turn = rules.breaker.force(now, &settings);
        self.turned(&mut rules, turn, now);
    }

    /// Another revision serves. What the code before it did is no sign of how this one does: an open
    /// breaker is half-open at once, and the trial decides. A start or a restart by an operator, on the
    /// same code, leaves the breaker as it is.
    pub fn new_revision(&self) {
        if self.duties.load(Ordering::Relaxed) & COUNTS == 0 {
            return;
        }
        let mut rules = self.rules();
        let turn = rules.breaker.begin_anew();
        self.turned(&mut rules, turn, self.clock.now());
    }

    /// `None` where there is no breaker, and none was forced open.
    pub fn view(&self) -> Option<BreakerView> {
        let rules = self.rules();
        if rules.configured.is_none() && rules.breaker.is_closed() {
            return None;
        }
        let now = self.clock.now();
        let (state, until) = match rules.breaker.position(now) {
            Position::Closed => ("closed", None),
            Position::HalfOpen => ("half-open", None),
            Position::Open { until } => ("open", Some(later(self.clock.timestamp(), until.since(now)))),
        };
        Some(BreakerView { state, failures: rules.breaker.failures(now, &rules.breaker_settings()), until })
    }

    fn settle(&self, trial: Option<TrialId>, sign: Sign) {
        // Nothing makes up for failures but time: most messages end here.
        if trial.is_none() && sign == Sign::Good {
            return;
        }
        let mut rules = self.rules();
        if rules.configured.is_none() && rules.breaker.is_closed() {
            // It was taken out of the settings while the message was on its way.
            return;
        }
        let (settings, now) = (rules.breaker_settings(), self.clock.now());
        let turn = match sign {
            Sign::Good => rules.breaker.succeeded(trial, &settings),
            Sign::Bad => rules.breaker.failed(now, trial, &settings),
        };
        self.turned(&mut rules, turn, now);
    }

    /// Says it and writes it down. Under the lock, so that turns are told in the order in which they
    /// happened; neither waits for anything.
    fn turned(&self, rules: &mut Rules, turn: Turn, now: Tick) {
        let worker = self.name.clone();
        let settings = rules.breaker_settings();
        let event = match turn {
            Turn::None => return,
            Turn::Opened => {
                let failures = rules.breaker.failures(now, &settings);
                let opened_at = self.clock.timestamp();
                let until = later(opened_at, settings.recovery);
                rules.record = Some(BreakerRecord { opened_at, until, failures });
                Event::BreakerOpened { worker, failures, recovery: settings.recovery }
            }
            Turn::HalfOpened => {
                // Before its time where the revision changed.
                let at = self.clock.timestamp();
                rules.record = rules.record.map(|record| BreakerRecord { until: record.until.min(at), ..record });
                Event::BreakerHalfOpen { worker }
            }
            Turn::Closed => {
                rules.record = None;
                Event::BreakerClosed { worker }
            }
        };
        self.recorder.emit(event);
        self.show_duties(rules);
        let change = match rules.record {
            Some(record) => Change::PutBreaker(self.name.clone(), record),
            None => Change::ClearBreaker(self.name.clone()),
        };
        // Nobody waits for it: a host that is killed just now comes back with the state before.
        match self.database.submit(vec![change]) {
            Ok(_) | Err(DatabaseError::Closed) => {}
            Err(error) => {
                let what = "write the state of a circuit breaker";
                self.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
            }
        }
    }

    fn show_duties(&self, rules: &Rules) {
        let closed = rules.breaker.is_closed();
        let counts = if rules.configured.is_some() || !closed { COUNTS } else { 0 };
        let asks = if closed && rules.limiter.is_unlimited() { 0 } else { ASKS };
        self.duties.store(counts | asks, Ordering::Relaxed);
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn breaker_settings(&self) -> BreakerSettings {
        self.configured.unwrap_or_default()
    }
}

impl Sign {
    /// What the answer to a call says about the worker that gave it. Nothing where the call was not
    /// begun, or the worker was stopped in order.
    pub fn of(outcome: &Outcome) -> Option<Sign> {
        match outcome {
            Ok(_) | Err(CallError::Rejected(_)) => Some(Sign::Good),
            Err(CallError::Timeout) => Some(Sign::Bad),
            Err(CallError::Down(reason)) if !reason.is_orderly() => Some(Sign::Bad),
            Err(_) => None,
        }
    }
}

impl Pass {
    pub fn settle(&self, sign: Sign) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.guard.settle(self.trial, sign);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(trial) = self.trial.filter(|_| !*self.settled.get_mut()) {
            self.guard.rules().breaker.trial_lost(trial);
        }
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("trial", &self.trial).finish_non_exhaustive()
    }
}

fn later(at: Timestamp, time: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ComponentHash, ExitReason, Incarnation, RevisionNumber};
    use crate::record::WorkerRecord;
    use crate::runtime::spec::Rate;

    /// A guard on a clock that the test moves, and the database behind it.
    struct Scene {
        guard: Arc<Guard>,
        clock: Clock,
        recorder: Recorder,
        database: Database,
        _dir: tempfile::TempDir,
    }

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 2, window: Duration::from_secs(10), recovery: Duration::from_secs(1), trials: 1 };

    fn with_breaker() -> WorkerSettings {
        WorkerSettings { circuit_breaker: Some(SETTINGS), ..WorkerSettings::default() }
    }

    impl Scene {
        async fn new(settings: &WorkerSettings) -> Scene {
            let dir = tempfile::tempdir().unwrap();
            let clock = Clock::manual();
            let database = Database::open(&dir.path().join("paguro.db"), clock.clone()).unwrap();
            let name = Name::parse("w").unwrap();
            let worker = WorkerRecord {
                name: name.clone(),
                component: ComponentHash::of(b""),
                revision: RevisionNumber(1),
                file: None,
                overridden: false,
                removed: false,
                incarnation: Incarnation::default(),
                config: None,
                keyed: false,
            };
            database.commit(vec![Change::PutWorker(worker)]).await.unwrap();
            let recorder = Recorder::new(clock.clone());
            let guard = Guard {
                name,
                clock: clock.clone(),
                recorder: recorder.clone(),
                database: database.clone(),
                duties: AtomicU8::new(0),
                rules: Mutex::new(Rules {
                    configured: None,
                    breaker: Breaker::default(),
                    record: None,
                    limiter: Limiter::default(),
                }),
            };
            guard.configure(settings);
            Scene { guard: Arc::new(guard), clock, recorder, database, _dir: dir }
        }

        fn admit(&self) -> Result<Option<Arc<Pass>>, CallError> {
            self.guard.admit(None)
        }

        fn fail(&self) {
            self.admit().unwrap().unwrap().settle(Sign::Bad);
        }

        fn state(&self) -> Option<&'static str> {
            self.guard.view().map(|view| view.state)
        }

        fn events(&self) -> Vec<&'static str> {
            self.recorder.events().after(0).iter().map(|recorded| recorded.item.kind()).collect()
        }

        async fn kept(&self) -> Option<BreakerRecord> {
            self.database.commit(Vec::new()).await.unwrap();
            self.database.breaker(&self.guard.name).unwrap()
        }
    }

    #[tokio::test]
    async fn without_rules_nothing_goes_with_a_message() {
        let scene = Scene::new(&WorkerSettings::default()).await;
        assert!(scene.admit().unwrap().is_none());
        assert_eq!(scene.guard.view(), None);
        assert_eq!(scene.guard.duties.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_message_counts_once_whoever_sees_how_it_went() {
        let scene = Scene::new(&with_breaker()).await;
        let pass = scene.admit().unwrap().unwrap();
        pass.settle(Sign::Bad);
        pass.settle(Sign::Bad);
        drop(pass);
        assert_eq!(scene.guard.view().unwrap().failures, 1);
        assert_eq!(scene.state(), Some("closed"));
    }

    #[tokio::test]
    async fn each_turn_is_told_once_and_written_down() {
        let scene = Scene::new(&with_breaker()).await;
        scene.fail();
        assert_eq!(scene.kept().await, None);
        scene.fail();
        assert_eq!(scene.admit().unwrap_err(), CallError::CircuitOpen);
        let now = scene.clock.timestamp();
        let until = later(now, SETTINGS.recovery);
        assert_eq!(scene.guard.view(), Some(BreakerView { state: "open", failures: 2, until: Some(until) }));
        assert_eq!(scene.kept().await, Some(BreakerRecord { opened_at: now, until, failures: 2 }));

        scene.clock.advance(SETTINGS.recovery);
        assert_eq!(scene.state(), Some("half-open"));
        let trial = scene.admit().unwrap().unwrap();
        assert_eq!(scene.admit().unwrap_err(), CallError::CircuitOpen, "one trial at one time");
        drop(trial);
        scene.admit().unwrap().unwrap().settle(Sign::Good);
        assert_eq!(scene.state(), Some("closed"));
        assert_eq!(scene.kept().await, None);
        assert_eq!(scene.events(), ["breaker-opened", "breaker-half-open", "breaker-closed"]);
    }

    #[tokio::test]
    async fn one_that_is_forced_open_works_without_settings_and_goes_when_it_closes() {
        let scene = Scene::new(&WorkerSettings::default()).await;
        scene.guard.open(scene.clock.now());
        scene.guard.open(scene.clock.now());
        assert_eq!(scene.admit().unwrap_err(), CallError::CircuitOpen);
        scene.clock.advance(BreakerSettings::default().recovery);
        scene.admit().unwrap().unwrap().settle(Sign::Good);
        assert_eq!(scene.guard.view(), None);
        assert!(scene.admit().unwrap().is_none());
        assert_eq!(scene.events(), ["breaker-opened", "breaker-half-open", "breaker-closed"]);
    }

    #[tokio::test]
    async fn new_code_gets_its_trial_and_settings_without_a_breaker_close_it() {
        let scene = Scene::new(&with_breaker()).await;
        scene.fail();
        scene.fail();
        scene.clock.advance(SETTINGS.recovery / 2);
        scene.guard.new_revision();
        assert_eq!(scene.state(), Some("half-open"));
        assert_eq!(scene.kept().await.map(|record| record.until), Some(scene.clock.timestamp()));
        let late = scene.admit().unwrap().unwrap();
        scene.guard.configure(&WorkerSettings::default());
        assert_eq!((scene.guard.view(), scene.kept().await), (None, None));
        late.settle(Sign::Bad);
        assert_eq!(scene.guard.view(), None);
        assert_eq!(scene.events(), ["breaker-opened", "breaker-half-open", "breaker-closed"]);
    }

    #[tokio::test]
    async fn a_trial_over_the_rate_is_no_trial() {
        let rate = RateLimits { messages: Some(Rate { per_second: 1, burst: 2 }), per_caller: None };
        let scene = Scene::new(&WorkerSettings { rate, ..with_breaker() }).await;
        scene.fail();
        scene.fail();
        scene.guard.new_revision();
        assert_eq!(scene.admit().unwrap_err(), CallError::Overloaded);
        scene.clock.advance(Duration::from_secs(1));
        scene.admit().unwrap().unwrap().settle(Sign::Good);
        assert_eq!(scene.state(), Some("closed"));
    }

    #[test]
    fn what_an_answer_says_about_the_worker() {
        let failed = ExitReason::Killed;
        let cases = [
            (Ok(Vec::new().into()), Some(Sign::Good)),
            (Err(CallError::Rejected("no".to_string())), Some(Sign::Good)),
            (Err(CallError::Timeout), Some(Sign::Bad)),
            (Err(CallError::Down(failed)), Some(Sign::Bad)),
            (Err(CallError::Down(ExitReason::Shutdown)), None),
            (Err(CallError::Overloaded), None),
        ];
        for (outcome, sign) in cases {
            assert_eq!(Sign::of(&outcome), sign, "{outcome:?}");
        }
    }
}
