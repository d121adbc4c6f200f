//! What a worker's guest reaches: its own desk, other workers, its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::desk::{Joined, NoMonitor, PutBack, SentResult};
use super::pace::WorkerPace;
use super::shared::Shared;
use crate::base::units::show_size;
use crate::base::{
    Account, CallId, Clock, ExitReason, Failure, Limit, MonitorId, Name, Payload, Tick, TimerId, bounds,
};
use crate::record::{Event, Recorder};
use crate::runtime::faults::{Fuse, Spot};
use crate::runtime::handoff;
use crate::runtime::keyed::{self, By};
use crate::runtime::message::{Awaited, Message, Outcome, ReplyTo};
use crate::runtime::residents::Place;
use crate::runtime::services::{CALL_DEADLINE, Services};
use crate::runtime::tree::TreeError;
use crate::runtime::waits::Wait;
use crate::sandbox::{CallError, Callee, Calling, Fact, LogLevel, LogSink, Outside, Pace, StartChildError, Waiting};

/// One for each instance; all of a worker's share its desk.
pub struct Door {
    me: Arc<Shared>,
    services: Arc<Services>,
    /// Whom it sent to the last time.
    last: Option<Arc<Shared>>,
    /// What is sent for this message is recorded, or was before.
    on_tape: bool,
    /// Given back with the instance, which owns its door.
    _place: Arc<Place>,
}

/// What became of a call when it was sent.
enum Sent<'a> {
    Ended(Outcome),
    Waits(Wait<'a>, Awaited),
}

impl Door {
    pub fn new(me: Arc<Shared>, services: Arc<Services>, place: Arc<Place>) -> Door {
        Door { me, services, last: None, on_tape: false, _place: place }
    }

    /// The worker of that name: the one it was the last time, while that has it.
    fn known(&self, to: &str) -> Option<Arc<Shared>> {
        self.last.as_ref().filter(|last| is_of(last, to)).cloned()
    }

    fn my_account(&self) -> Arc<Account> {
        self.services.accounts.of(self.me.name())
    }

    /// Whether this worker may start and stop children of a template: granted, and the template is its
    /// own supervisor's, a sibling, or below one.
    fn may_start(&self, supervisor: &Name) -> bool {
        let own = self.me.name().parent().unwrap_or_else(Name::root);
        self.me.settings().grants.children && (*supervisor == own || supervisor.is_below(&own))
    }

    /// Said once for each instance: a guest must not drive everything else off the record.
    fn bound_reached(&self, bound: &'static str, value: usize) {
        if !self.me.desk().said.insert(bound) {
            return;
        }
        let worker = self.me.name().clone();
        self.services.recorder.emit(Event::BoundReached { worker, bound, value: value as u64 });
    }
}

impl Outside for Door {
    fn account(&self) -> Option<Arc<Account>> {
        Some(self.my_account())
    }

    fn pace(&self) -> Option<Arc<dyn Pace>> {
        Some(Arc::new(WorkerPace { worker: self.me.clone(), clock: self.services.clock.clone() }))
    }

    fn clock(&self) -> Clock {
        self.services.clock.clone()
    }

    fn sent_last_to(&self, name: &str) -> bool {
        self.last.as_ref().is_some_and(|last| is_of(last, name))
    }

    fn call<'a>(&'a mut self, to: Callee<'a>, request: Payload, timeout: Option<Duration>) -> Calling<'a> {
        let (to, last) = match (to, &self.last) {
            (Callee::Named(to), _) => (to, None),
            (Callee::Last, Some(_)) => ("", self.last.take()),
            (Callee::Last, None) => return Calling::Ended(Err(CallError::NotFound)),
        };
        let own = {
            let mut desk = self.me.desk();
            if !desk.tape.is_off() {
                let to = last.as_ref().map_or(to, |last| last.name().as_str());
                if let Some(SentResult::Call(outcome)) = desk.tape.replay(to, &request, true) {
                    return Calling::Ended(outcome);
                }
            }
            self.on_tape = !desk.tape.is_off();
            let is_abandoned = desk.caller_waits_at().is_some_and(ReplyTo::is_abandoned);
            (!is_abandoned).then(|| desk.caller_deadline())
        };
        let line = Line { me: &self.me, services: &self.services, on_tape: self.on_tape };
        let Some(own) = own else { return Calling::Ended(Err(line.cut_short())) };
        // No call outlives the one it is made for. The clock is read where it matters.
        let in_time = |time| self.services.clock.now().after(time);
        let deadline = match (timeout, own) {
            (Some(asked), Some(own)) => in_time(asked).min(own),
            (Some(asked), None) => in_time(asked),
            (None, Some(own)) => own,
            (None, None) => in_time(CALL_DEADLINE),
        };
        let found = last.map_or_else(|| keyed::find_for(&self.services, to, Some(self.me.name())), Ok);
        // What is rare is boxed: most are known, and answer at once.
        let callee = match found {
            Ok(callee) => callee,
            Err(CallError::Overloaded) => {
                return Calling::Waits(Box::pin(async move {
                    let behalf = line.behalf();
                    let callee = tokio::select! {
                        biased;
                        () = abandoned(behalf) => return Err(line.cut_short()),
                        found = keyed::find_in_time(line.services, to, Some(line.me.name()), deadline) => found?,
                    };
                    let outcome = match line.send(&callee, request, deadline) {
                        Sent::Ended(outcome) => outcome,
                        Sent::Waits(_wait, answer) => line.wait(answer, deadline).await,
                    };
                    line.called(&outcome);
                    outcome
                }));
            }
            Err(error) => return Calling::Ended(Err(error)),
        };
        let sent = line.send(&callee, request, deadline);
        self.last = Some(callee);
        match sent {
            Sent::Ended(outcome) => {
                line.called(&outcome);
                Calling::Ended(outcome)
            }
            Sent::Waits(wait, answer) => Calling::Waits(Box::pin(async move {
                let _wait = wait;
                let outcome = line.wait(answer, deadline).await;
                line.called(&outcome);
                outcome
            })),
        }
    }

    fn cast(&mut self, to: &str, message: Payload) -> Result<(), CallError> {
        let on_tape = {
            let mut desk = self.me.desk();
            if desk.tape.replay(to, &message, false).is_some() {
                return Ok(());
            }
            !desk.tape.is_off()
        };
        let receiver = match self.known(to) {
            Some(known) => known,
            None => keyed::find_for(&self.services, to, Some(self.me.name()))?,
        };
        self.last = Some(receiver.clone());
        let kept = on_tape.then(|| message.clone());
        self.services.cast(&receiver, Some(self.me.name().clone()), message)?;
        if let Some(message) = kept {
            self.me.desk().tape.cast(to, &message);
        }
        Ok(())
    }

    fn reply(&mut self, call: CallId, outcome: Result<Payload, String>) -> bool {
        let open = self.me.desk().close_call(call);
        open.is_some_and(|reply| reply.answer(outcome.map_err(CallError::Rejected)))
    }

    fn caller(&mut self, call: CallId) -> Option<String> {
        self.me.desk().caller(call)
    }

    fn send_after(&mut self, delay: Duration, message: Payload) -> Result<TimerId, Limit> {
        if let Err(CallError::TooLarge { limit, .. }) = self.me.admits(message.len()) {
            return Err(Limit::Payload(limit));
        }
        let due = self.services.clock.now().after(delay);
        self.me.desk().set_timer(due, message, || self.my_account())
    }

    fn cancel(&mut self, timer: TimerId) -> bool {
        self.me.desk().cancel_timer(timer)
    }

    fn join(&mut self, group: &str) {
        let joined = self.me.desk().join(group, || self.my_account());
        match joined {
            Joined::New => self.services.groups.join(group, self.me.name()),
            Joined::Already | Joined::NoRoom => {}
            Joined::TooMany => self.bound_reached("groups", bounds::GROUPS_MAX),
        }
    }

    fn leave(&mut self, group: &str) {
        if self.me.desk().leave(group) {
            self.services.groups.leave(group, self.me.name());
        }
    }

    fn members(&mut self, group: &str) -> Vec<String> {
        self.services.groups.members(group).iter().map(ToString::to_string).collect()
    }

    fn broadcast(&mut self, group: &str, message: Payload) -> u32 {
        let members = self.services.groups.members(group);
        let mut taken = 0;
        for member in members {
            if member != *self.me.name() && self.cast(member.as_str(), message.clone()).is_ok() {
                taken += 1;
            }
        }
        taken
    }

    fn monitor(&mut self, name: &str) -> Result<MonitorId, Limit> {
        // A text that is no name is a worker that does not exist: the root's name stands for it.
        let target = Name::parse(name).unwrap_or_else(|_| Name::root());
        let monitor = self.me.desk().monitor(&target, || self.my_account());
        let monitor = match monitor {
            Ok(monitor) => monitor,
            Err(NoMonitor::NoRoom) => return Ok(MonitorId(0)),
            Err(NoMonitor::TooMany) => {
                self.bound_reached("monitors", bounds::MONITORS_MAX);
                return Ok(MonitorId(0));
            }
        };
        let worker = self.services.registry.get(&target);
        let failure = if worker.is_some() { Failure::NotRunning } else { Failure::NoSuchWorker };
        let worker = worker.filter(|worker| worker.lives());
        let watched = worker.is_some_and(|worker| {
            let exits = || worker.counters.seen(|of| &of.exits);
            let before = exits();
            self.services.monitors.watch(&target, self.me.name(), monitor);
            // One that ended in between may have missed the new watcher: then it is told here.
            exits() == before || !self.services.monitors.unwatch(&target, self.me.name(), monitor)
        });
        if !watched {
            // It stays on the desk until its fact is handled, so that both bounds hold.
            let shown = &name[..name.floor_char_boundary(bounds::NAME_BYTES_MAX)];
            let fact = Message::Fact(Fact::Down(monitor, shown.to_string(), ExitReason::Failed(failure)));
            if !self.me.mailbox.push_fact(fact, || self.my_account()) {
                return Err(Limit::Facts(bounds::FACTS_MAX as u64));
            }
        }
        Ok(monitor)
    }

    fn demonitor(&mut self, monitor: MonitorId) {
        if let Some(target) = self.me.desk().demonitor(monitor) {
            self.services.monitors.unwatch(&target, self.me.name(), monitor);
        }
    }

    fn start_child<'a>(
        &'a mut self,
        template: &'a str,
        key: &'a str,
        config: &'a str,
    ) -> Waiting<'a, Result<String, StartChildError>> {
        Box::pin(async move {
            let failed = |why: String| Err(StartChildError::Failed(why));
            let Ok(supervisor) = Name::parse(template) else {
                return failed(format!("there is no template {template:?}"));
            };
            if !self.may_start(&supervisor) {
                return Err(StartChildError::NotPermitted);
            }
            let name = match supervisor.child(key) {
                Ok(name) => name,
                Err(error) => return failed(error.to_string()),
            };
            if config.len() > bounds::CONFIGURATION_BYTES_MAX {
                self.bound_reached("configuration-bytes", config.len());
                let (size, max) = (show_size(config.len() as u64), show_size(bounds::CONFIGURATION_BYTES_MAX as u64));
                return failed(format!("its configuration has {size} where {max} are accepted"));
            }
            let config = (!config.trim().is_empty()).then_some(config);
            if config.is_some_and(|config| !is_object(config)) {
                return failed("its configuration is no JSON object".to_string());
            }
            if let Some(known) = self.services.registry.get(&name) {
                let there =
                    if known.lives() { StartChildError::AlreadyStarted } else { StartChildError::AlreadyPresent };
                return Err(there);
            }
            // A child whose start calls its starter would wait for it for ever.
            let edge_of = |name: &Name| self.services.registry.get(name)?.waits_for.now();
            let wait = self.me.waits_for.enter(self.me.name(), &name, edge_of);
            let Ok(_wait) = wait else { return failed("it is waiting for the one that asks".to_string()) };
            // What is left of the guest's own time answers it.
            let time = self.me.settings().limits.deadline / 2;
            let starting = keyed::start(&self.services, &name, config, By::Worker(self.me.name()));
            let Ok(started) = tokio::time::timeout(time, starting).await else {
                return failed("it is still starting".to_string());
            };
            match started {
                Ok(_) => Ok(name.to_string()),
                Err(TreeError::Running(_)) => Err(StartChildError::AlreadyStarted),
                Err(error) => failed(error.to_string()),
            }
        })
    }

    fn stop_child<'a>(&'a mut self, name: &'a str) -> Waiting<'a, bool> {
        Box::pin(async move {
            let Ok(name) = Name::parse(name) else { return false };
            let Some(supervisor) = name.parent().filter(|supervisor| self.may_start(supervisor)) else { return false };
            self.services.registry.get(&name).is_some() && keyed::stop(&self.services, &supervisor, name).await
        })
    }

    fn count(&mut self, metric: &str, by: u64) {
        if self.services.recorder.metrics().count(self.me.name(), metric, by).is_err() {
            self.bound_reached("metrics", bounds::GUEST_METRICS_MAX);
        }
    }

    fn gauge(&mut self, metric: &str, value: f64) {
        if self.services.recorder.metrics().gauge(self.me.name(), metric, value).is_err() {
            self.bound_reached("metrics", bounds::GUEST_METRICS_MAX);
        }
    }

    fn stop(&mut self, reason: ExitReason) {
        self.me.desk().stop = Some(reason);
    }

    /// As soon as nothing waits, if it exports `state`.
    fn hibernate(&mut self) {
        self.me.desk().hibernate = true;
    }
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

/// What a call needs of a door.
#[derive(Clone, Copy)]
struct Line<'a> {
    me: &'a Arc<Shared>,
    services: &'a Arc<Services>,
    on_tape: bool,
}

impl<'a> Line<'a> {
    /// Sends a call to a worker that is known, and runs it on this thread if it idles: then the answer is there
    /// when this returns.
    fn send(&self, callee: &Arc<Shared>, request: Payload, deadline: Tick) -> Sent<'a> {
        if self.on_tape {
            // Before it is sent: the guest may end while it waits. What was not sent is taken out again.
            self.me.desk().tape.calling(callee.name().as_str(), &request);
        }
        let edge_of = |name: &Name| {
            // Most call one that waits for nobody.
            let waits_for = |worker: &Shared| worker.waits_for.now();
            if name == callee.name() { waits_for(callee) } else { waits_for(&*self.services.registry.get(name)?) }
        };
        let wait = match self.me.waits_for.enter(self.me.name(), callee.name(), edge_of) {
            Ok(wait) => wait,
            Err(names) => return Sent::Ended(Err(CallError::Cycle(names))),
        };
        match self.services.hand_or_put(callee, Some(self.me.name().clone()), request, deadline) {
            Ok(handoff::Calling::Ended(outcome)) => Sent::Ended(outcome),
            Ok(handoff::Calling::Waits(answer)) => Sent::Waits(wait, answer),
            Err(error) => Sent::Ended(Err(error)),
        }
    }

    /// Where the caller waits for whom the guest works. One that runs it on this thread gets a place first: it
    /// will not, once the guest waits.
    fn behalf(&self) -> Option<ReplyTo> {
        let mut desk = self.me.desk();
        if let Some(awaited) = desk.make_place() {
            handoff::has_place(self.me, awaited);
        }
        desk.caller_waits_at().cloned()
    }

    /// Waits for an answer that was not there at once.
    async fn wait(&self, answer: Awaited, deadline: Tick) -> Outcome {
        let behalf = self.behalf();
        // Whoever goes away cancels what was asked for it, down the chain: dropping `answer` is to the
        // callee what its own caller's going was to this worker.
        tokio::select! {
            biased;
            outcome = self.services.wait(answer, deadline) => outcome,
            () = abandoned(behalf) => Err(self.cut_short()),
        }
    }

    /// What was sent has its answer, or will not get one.
    fn called(&self, outcome: &Outcome) {
        if self.on_tape {
            self.me.desk().tape.called(outcome);
        }
    }

    /// The contract has no word for it: to the guest it is a call that nobody answered in time.
    fn cut_short(&self) -> CallError {
        self.me.counters.failures().cancelled.fetch_add(1, Ordering::Relaxed);
        CallError::Timeout
    }
}

/// Whether a worker has this name, still.
fn is_of(worker: &Shared, name: &str) -> bool {
    worker.name().as_str() == name && !worker.has_left()
}

async fn abandoned(behalf: Option<ReplyTo>) {
    match behalf {
        Some(reply) => reply.abandoned().await,
        None => std::future::pending().await,
    }
}

/// Carries out for others what a rollback or a fresh start changed on the desk.
pub fn carry_out(change: PutBack, me: &Name, services: &Services) {
    for group in change.leave {
        services.groups.leave(&group, me);
    }
    for group in change.join {
        services.groups.join(&group, me);
    }
    for (monitor, target) in change.unwatch {
        services.monitors.unwatch(&target, me, monitor);
    }
    for (monitor, target) in change.watch {
        services.monitors.watch(&target, me, monitor);
    }
}

/// A worker's log: at most so many lines in a second; the rest is counted, and said to be dropped.
pub struct WorkerLog {
    worker: Arc<Shared>,
    recorder: Recorder,
    clock: Clock,
    fuse: Option<Arc<dyn Fuse>>,
    lines_max: u32,
    /// The second that is counted in the upper half, the lines of it in the lower.
    window: AtomicU64,
}

impl WorkerLog {
    pub fn new(worker: Arc<Shared>, services: &Services, lines_max: u32) -> WorkerLog {
        WorkerLog {
            worker,
            recorder: services.recorder.clone(),
            clock: services.clock.clone(),
            fuse: services.fuses.get().cloned(),
            lines_max,
            window: AtomicU64::new(0),
        }
    }
}

impl LogSink for WorkerLog {
    fn line(&self, level: LogLevel, text: &str) {
        if let Some(fuse) = &self.fuse {
            fuse.reached(self.worker.name(), Spot::Guest);
        }
        let second = self.clock.now().time().as_secs() & 0xffff_ffff;
        let before = self.window.load(Ordering::Relaxed);
        // Only the worker's own task logs: a load and a store need no more than that.
        let lines = if before >> 32 == second { before & 0xffff_ffff } else { 0 };
        self.window.store((second << 32) | (lines + 1).min(0xffff_ffff), Ordering::Relaxed);
        let max = u64::from(self.lines_max);
        if lines < max {
            self.recorder.log(self.worker.name(), word(level), text);
            return;
        }
        self.worker.counters.failures().log_lines_dropped.fetch_add(1, Ordering::Relaxed);
        if lines == max {
            let worker = self.worker.name().clone();
            self.recorder.log(&worker, "warn", &format!("[more than {max} lines in a second: the rest is dropped]"));
            self.recorder.emit(Event::BoundReached { worker, bound: "log-lines", value: max });
        }
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}
