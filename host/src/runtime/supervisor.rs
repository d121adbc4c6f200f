//! The supervisor's task: waits, hands what happened to the pure policy, carries out what it says.

mod handle;
mod idle;
mod recovery;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use self::handle::{Ask, ChildHandle, ChildView, Gone, Page, Reply, Report, Reports, SupervisorHandle, View};
use self::handle::{ORDERS_MAX, Order};
use self::idle::Idlers;
use super::dead_letters::Cause;
use super::lent::LentTask;
use super::services::Services;
use super::spec::{Shutdown, SupervisorSettings};
use super::supervision::{
    Action, Answer, BY_OPERATOR, ChildKind, ChildSpec, ChildState, Ended, Input, Moment, Supervision,
};
use super::worker::{Standing, System};
use crate::base::units::{plural, show_duration};
use crate::base::{ExitReason, Failure, Incarnation, Name, Tick, bounds};
use crate::record::{Action as LedgerAction, By, Change, Event, NewLedgerEntry};

/// Starts a supervisor's task; it starts no child until it is asked to. `parent`: where it reports;
/// for the root, the host.
pub fn launch(name: Name, settings: SupervisorSettings, services: &Arc<Services>, parent: Reports) -> SupervisorHandle {
    let (asks, asked) = mpsc::channel(bounds::SUPERVISOR_QUEUE_MAX);
    let (reports, reported) = mpsc::channel(bounds::SUPERVISOR_QUEUE_MAX);
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let runs = Arc::new(AtomicBool::new(false));
    let driver = Driver {
        runs: runs.clone(),
        policy: Supervision::new(name.clone(), settings),
        name,
        services: services.clone(),
        parent,
        children: BTreeMap::new(),
        waiting: HashMap::new(),
        wake_at: None,
        kill_at: BTreeSet::new(),
        killed_at: HashMap::new(),
        // It was never started, and is about to be.
        comes_back: true,
        has_time: false,
        told_to_stop: false,
        start_at: None,
        falls: Vec::new(),
        row: 0,
        idlers: Idlers::default(),
        unheard: VecDeque::new(),
        fell: None,
    };
    let post = Box::new(Post { driver, asked, ordered, reported });
    let task = LentTask::spawn(recovery::hold(post, services.fuses.get().cloned()));
    SupervisorHandle::new(asks, orders, reports, &task, runs)
}

struct Driver {
    name: Name,
    /// What the policy says, for those who only ask that.
    runs: Arc<AtomicBool>,
    policy: Supervision,
    services: Arc<Services>,
    parent: Reports,
    /// By name, so that what is done to all is done in one order.
    children: BTreeMap<Name, ChildHandle>,
    /// Who waits until a child has started, stopped or left.
    waiting: HashMap<Name, Waiting>,
    wake_at: Option<Tick>,
    /// Children whose shutdown time runs: when each is killed.
    kill_at: BTreeSet<(Tick, Name)>,
    killed_at: HashMap<Name, Tick>,
    /// It does not run, or stops, and will be started again.
    comes_back: bool,
    /// Nothing waits in its queues behind what it does now.
    has_time: bool,
    /// Its parent waits for the end that it asked for.
    told_to_stop: bool,
    /// Why it ended last, where it was not asked to and has not started since.
    fell: Option<ExitReason>,
    /// At the root, after a fault: it starts anew by itself, as there is nobody above who would.
    start_at: Option<Tick>,
    /// When the root fell so.
    falls: Vec<Tick>,
    /// Faults in a row, from none of which it has recovered.
    row: u8,
    idlers: Idlers,
    /// What children would report whose mailboxes are closed: they do not hear what they are asked.
    unheard: VecDeque<Report>,
}

/// A supervisor's task: what it knows, and where it is told of more.
struct Post {
    driver: Driver,
    asked: mpsc::Receiver<Ask>,
    ordered: mpsc::Receiver<Order>,
    reported: mpsc::Receiver<Report>,
}

type Waiting = Vec<(Until, oneshot::Sender<Reply>)>;

/// What the loop was woken by.
enum Woken {
    Order(Order),
    Report(Report),
    Ask(Option<Ask>),
    Clock,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Started,
    Stopped,
}

impl Post {
    /// Until it leaves the tree.
    async fn run(&mut self) {
        let Post { driver, asked, ordered, reported } = self;
        loop {
            if let Some(report) = driver.unheard.pop_front() {
                driver.has_time = false;
                driver.report(report).await;
                continue;
            }
            let next = driver.wake_at.into_iter().chain(driver.start_at);
            let next = next.chain(driver.kill_at.first().map(|(at, _)| *at)).chain(driver.next_look()).min();
            let sleep = next.map(|at| at.since(driver.services.clock.now()));
            driver.at();
            let woken = tokio::select! {
                biased;
                Some(order) = ordered.recv() => Woken::Order(order),
                Some(report) = reported.recv() => Woken::Report(report),
                ask = asked.recv() => Woken::Ask(ask),
                () = sleep_or_never(sleep) => Woken::Clock,
            };
            driver.has_time = ordered.is_empty() && reported.is_empty() && asked.is_empty();
            match woken {
                Woken::Order(order) => driver.order(order).await,
                Woken::Report(report) => driver.report(report).await,
                Woken::Ask(None | Some(Ask::Quit)) => return driver.quit(asked),
                Woken::Ask(Some(ask)) => driver.ask(ask).await,
                Woken::Clock => driver.clock().await,
            }
        }
    }
}

impl Driver {
    /// Its task is about to wait for something, or has been told something: a simulation may have it panic here.
    #[inline]
    #[track_caller]
    fn at(&self) {
        self.services.fuses.at(&self.name);
    }

    async fn clock(&mut self) {
        self.at();
        let now = self.services.clock.now();
        while let Some((at, name)) = self.kill_at.first().cloned()
            && at <= now
        {
            self.kill_at.remove(&(at, name.clone()));
            self.kill(&name);
        }
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.feed(Input::Due).await;
        }
        if self.start_at.take_if(|at| *at <= now).is_some() {
            self.feed(Input::Start).await;
        }
        if self.next_look().is_some_and(|at| at <= now) {
            self.look_for_idlers(now);
        }
    }

    /// How long its children may idle, if they end then.
    fn idle_stop(&self) -> Option<Duration> {
        let settings = self.policy.settings();
        let after = settings.idle_stop.filter(|_| settings.on_demand && !self.children.is_empty())?;
        let ends = self.services.templates.get(&self.name).is_some_and(|template| template.ends_idle());
        ends.then_some(after)
    }

    fn next_look(&mut self) -> Option<Tick> {
        if !self.policy.settings().on_demand {
            return None;
        }
        let after = self.idle_stop();
        self.idlers.next_look(self.services.clock.now(), after)
    }

    fn look_for_idlers(&mut self, now: Tick) {
        let Some(after) = self.idle_stop() else { return };
        let workers = self.children.iter().filter_map(|(name, handle)| match handle {
            ChildHandle::Worker(worker) => Some((name, worker.mailbox.rest())),
            ChildHandle::Supervisor(_) => None,
        });
        for (name, idle) in self.idlers.look(now, after, workers) {
            if let Some(ChildHandle::Worker(worker)) = self.children.get(&name) {
                // It may have something to do by now, and a queue that is full is no idler's.
                let _ = worker.mailbox.push_system(System::EndIdle { idle });
            }
        }
    }

    async fn order(&mut self, order: Order) {
        if !matches!(order, Order::Rest | Order::Rise) {
            self.told_to_stop = !matches!(order, Order::Start);
            self.start_at = None;
        }
        self.at();
        match order {
            Order::Rest => {
                self.come_back(false);
                Answer::Ok
            }
            Order::Rise => {
                if !self.policy.is_running() {
                    self.come_back(true);
                }
                Answer::Ok
            }
            // Its parent holds it for ended, by a report from before.
            Order::Start if self.policy.has_started() => {
                self.tell_parent(Report::Started { child: self.name.clone() }).await;
                Answer::Ok
            }
            Order::Start => self.feed(Input::Start).await,
            Order::Stop { comes_back } => {
                self.come_back(comes_back);
                self.feed(Input::Stop).await
            }
            Order::Kill => {
                let names: Vec<Name> = self.children.keys().cloned().collect();
                names.iter().for_each(|name| self.kill(name));
                self.feed(Input::Stop).await
            }
        };
    }

    async fn report(&mut self, report: Report) {
        if let Report::Retired { child } = &report {
            // Before all else: after a fault, what is kept here is taken to run, and that one never answers.
            self.children.remove(child);
        }
        self.at();
        match report {
            Report::Started { child } => {
                // One that is stopped to be started again: this was the start before.
                let waiting = self.take_waiting_for_start(&child);
                self.feed(Input::Started(child)).await;
                tell(waiting, |_| Reply::Done);
            }
            Report::Ignored { child } => {
                let waiting = self.take_waiting_for_start(&child);
                self.feed(Input::Ignored(child)).await;
                tell(waiting, |_| Reply::Ignored);
            }
            Report::StartFailed { child, reason } => {
                let waiting = self.take_waiting_for_start(&child);
                self.feed(Input::StartFailed(child, reason.clone())).await;
                tell(waiting, |_| Reply::Failed(reason.clone()));
            }
            Report::Exited { child, reason } => {
                let waiting = self.take_waiting_for_start(&child);
                self.feed(Input::Exited(child, reason.clone())).await;
                tell(waiting, |_| Reply::Failed(reason.clone()));
            }
            Report::Stopped { child } => {
                self.spare(&child);
                let waiting = self.take_waiting(&child);
                self.feed(Input::Stopped(child.clone())).await;
                // Who restarts it waits on.
                let starts = self.policy.child(&child).is_some_and(|child| child.state != ChildState::Down);
                let (on, done): (Vec<_>, Vec<_>) =
                    waiting.into_iter().partition(|(until, _)| *until == Until::Started && starts);
                self.go_on_waiting(&child, on);
                tell(done, |until| match until {
                    Until::Started => Reply::Failed(ExitReason::Shutdown),
                    Until::Stopped => Reply::Done,
                });
            }
            Report::Retired { child } => {
                self.spare(&child);
                let waiting = self.take_waiting(&child);
                self.feed(Input::Retired(child.clone())).await;
                tell(waiting, |until| match until {
                    Until::Started => Reply::Failed(ExitReason::Shutdown),
                    Until::Stopped => Reply::Done,
                });
                self.emit(Event::ChildRemoved { name: child });
            }
        }
    }

    fn take_waiting(&mut self, child: &Name) -> Waiting {
        self.waiting.remove(child).unwrap_or_default()
    }

    /// Behind those who wait already. Nobody waits for a child that has left.
    fn go_on_waiting(&mut self, child: &Name, waiting: Waiting) {
        if waiting.is_empty() {
            return;
        }
        if self.children.contains_key(child) {
            self.waiting.entry(child.clone()).or_default().extend(waiting);
        }
    }

    /// Of a child that did not start, or ended. Where it is being stopped, the stop's own answer follows,
    /// also for those who wait for the start after it.
    fn take_waiting_for_start(&mut self, child: &Name) -> Waiting {
        let stops = self.policy.child(child).is_some_and(|child| matches!(child.state, ChildState::Stopping(_)));
        if stops {
            return Vec::new();
        }
        let (start, stop) = self.take_waiting(child).into_iter().partition(|(what, _)| *what == Until::Started);
        self.go_on_waiting(child, stop);
        start
    }

    fn answer(&mut self, child: &Name, until: Until, reply: &Reply) {
        let (now, later) = self.take_waiting(child).into_iter().partition(|(what, _)| *what == until);
        self.go_on_waiting(child, later);
        tell(now, |_| reply.clone());
    }

    async fn ask(&mut self, ask: Ask) {
        let is_new = match &ask {
            // Before the policy knows of it: the action that follows needs it. And first of all, so that one which is
            // not taken is let go of.
            Ask::Add { spec, handle, .. } if !self.children.contains_key(&spec.name) => {
                self.children.insert(spec.name.clone(), handle.clone());
                true
            }
            _ => false,
        };
        self.at();
        match ask {
            Ask::Add { spec, done, .. } => self.add(*spec, is_new, done).await,
            Ask::Change { spec } => {
                self.feed(Input::Change(spec)).await;
            }
            Ask::Configure { settings } => {
                self.feed(Input::Configure(settings)).await;
                self.services.recorder.emit(Event::PolicyChanged { supervisor: self.name.clone() });
            }
            Ask::Remove { name, done } => self.request(&name, Input::Remove(name.clone()), Until::Stopped, done).await,
            Ask::StopChild { name, done } => {
                self.request(&name, Input::StopChild(name.clone()), Until::Stopped, done).await
            }
            Ask::IsolateChild { name, done } => {
                self.request(&name, Input::IsolateChild(name.clone()), Until::Stopped, done).await
            }
            Ask::RetryChild { name, done } => {
                self.request(&name, Input::RetryChild(name.clone()), Until::Started, done).await
            }
            Ask::StartChild { name, done } => {
                self.request(&name, Input::StartChild(name.clone()), Until::Started, done).await
            }
            Ask::RestartChild { name, done } => {
                self.request(&name, Input::RestartChild(name.clone()), Until::Started, done).await
            }
            Ask::DeleteChild { name, done } => {
                let answer = self.feed(Input::DeleteChild(name)).await;
                let _ = done.send(if answer == Answer::Ok { Reply::Done } else { Reply::Refused(answer) });
            }
            Ask::Look { page, done } => {
                let _ = done.send(self.view(&page));
            }
            Ask::Quit => {}
        }
    }

    /// `is_new`: its handle was taken for this.
    async fn add(&mut self, spec: ChildSpec, is_new: bool, done: oneshot::Sender<Reply>) {
        let name = spec.name.clone();
        let declared = spec.declared;
        let now = self.services.clock.now();
        let (answer, actions) = self.decide(now, Input::Add(Box::new(spec)));
        self.at();
        if answer == Answer::Ok && declared {
            // Before what follows from it. Of the child of a key it was told when that was made, which has messages
            // since then.
            self.emit(Event::ChildAdded { name: name.clone() });
        }
        // The child of a key starts at once.
        if answer == Answer::Ok && declared {
            match self.policy.is_running() || self.comes_back {
                true => self.rise(&name, now),
                false => self.rest(&name, Standing::Down, now),
            }
        }
        self.carry_out(now, actions).await;
        match answer {
            Answer::Ok if declared => drop(done.send(Reply::Done)),
            Answer::Ok => self.go_on_waiting(&name, vec![(Until::Started, done)]),
            refused => {
                if is_new && let Some(handle) = self.children.remove(&name) {
                    dismiss(&handle, &name, &self.services);
                }
                let _ = done.send(Reply::Refused(refused));
            }
        }
    }

    /// Feeds an operator's request; it is answered when the child has got there.
    async fn request(&mut self, name: &Name, input: Input, until: Until, done: oneshot::Sender<Reply>) {
        // Who waited for the opposite is told that it will not come.
        let overtaken = if until == Until::Stopped { Until::Started } else { Until::Stopped };
        let before = self.take_waiting(name);
        self.at();
        match self.feed(input).await {
            Answer::Ok => {
                let (gone, mut stay): (Vec<_>, Vec<_>) =
                    before.into_iter().partition(|(what, _)| *what == overtaken && until == Until::Stopped);
                tell(gone, |_| Reply::Failed(ExitReason::Shutdown));
                stay.push((until, done));
                if self.children.contains_key(name) {
                    self.go_on_waiting(name, stay);
                } else {
                    tell(stay, |_| Reply::Done);
                }
            }
            refused => {
                self.go_on_waiting(name, before);
                let _ = done.send(Reply::Refused(refused));
            }
        }
    }

    fn isolate(&self, name: &Name, why: String, now: Tick) {
        self.isolation_is_decided(name, &why);
        self.rest(name, Standing::Isolated(why.as_str().into()), now);
        self.emit(Event::WorkerIsolated { worker: name.clone(), why });
    }

    /// It is written down.
    fn isolation_is_decided(&self, name: &Name, why: &str) {
        if why == BY_OPERATOR {
            // It was, when that was asked for.
            return;
        }
        self.write_down(name, LedgerAction::Isolated, why.to_string(), "write that a child is isolated");
    }

    /// Nobody waits for the disk here: where it cannot be written, an event tells. `what`: what failed then.
    fn write_down(&self, name: &Name, action: LedgerAction, detail: String, what: &'static str) {
        let entry = NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: name.clone(),
            action,
            hash: self.services.registry.get(name).map(|worker| worker.status().component),
            by: By::Host,
            detail,
        };
        if let Err(error) = self.services.database.submit(vec![Change::Ledger(entry)]) {
            self.services.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
        }
    }

    /// `why`: nobody asked it to.
    fn stopped(&mut self, why: Option<ExitReason>) {
        self.fell = why.filter(|why| !why.is_orderly());
        self.emit(Event::SupervisorStopped { supervisor: self.name.clone(), why: self.fell.clone() });
    }

    fn view(&mut self, page: &Page) -> View {
        let now = self.services.clock.now();
        let restarts = self.policy.recent_restarts(now);
        let shown = self.policy.children_after(page.after.as_ref()).take(page.limit.saturating_add(1));
        let mut shown: Vec<(ChildSpec, ChildState, bool)> =
            shown.map(|child| (child.spec.clone(), child.state, child.is_restarting())).collect();
        let more = shown.len() > page.limit;
        shown.truncate(page.limit);
        let counts = self.policy.counts();
        View {
            settings: self.policy.settings().clone(),
            running: self.policy.is_running(),
            fell: self.fell.clone(),
            restarts: restarts.into_iter().map(|(at, name)| (now.since(at), name)).collect(),
            round: self.policy.round_of().cloned(),
            more,
            counts,
            children: shown
                .into_iter()
                .map(|(spec, state, restarting)| ChildView {
                    restarts: self.policy.restarts_of(&spec.name, now),
                    spec,
                    state,
                    restarting,
                })
                .collect(),
        }
    }

    /// Hands an input to the policy and does what it says.
    async fn feed(&mut self, input: Input) -> Answer {
        let now = self.services.clock.now();
        let (answer, actions) = self.decide(now, input);
        self.at();
        self.carry_out(now, actions).await;
        answer
    }

    fn decide(&mut self, now: Tick, input: Input) -> (Answer, Vec<Action>) {
        let services = self.services.clone();
        let mut storm = |tier| services.restart_delay(tier);
        let mut moment = Moment { now, jitter: services.random.below(100), storm: &mut storm };
        let decided = self.policy.at(&mut moment, input);
        let runs = self.policy.is_running();
        self.runs.store(runs, Ordering::Relaxed);
        // Whoever started it, it has come back.
        self.comes_back &= !runs;
        // Before anything follows from it, and anybody is told.
        for name in self.policy.take_risen() {
            self.rise(&name, now);
        }
        decided
    }

    async fn carry_out(&mut self, now: Tick, actions: Vec<Action>) {
        // One start that nothing else waits for runs on this thread: to wake another for it, and to be woken
        // by that again, takes longer. Of several, each may have a thread of its own.
        let starts = |action: &&Action| matches!(action, Action::StartChild { .. });
        self.has_time &= actions.iter().filter(starts).count() == 1;
        for action in actions {
            self.at();
            self.act(now, action).await;
        }
    }

    async fn act(&mut self, now: Tick, action: Action) {
        match action {
            Action::StartChild { name, incarnation } => self.start_child(&name, incarnation),
            Action::StopChild { name, reason, shutdown, comes_back } => {
                self.stop_child(now, &name, reason, shutdown, comes_back || self.comes_back)
            }
            Action::Restarting { name, delay, restarts } => {
                self.stand(&name, Standing::Restarting, now);
                self.emit(Event::RestartScheduled { worker: name, delay, restarts });
            }
            Action::Together { failed, others } => {
                let supervisor = self.name.clone();
                self.emit(Event::RestartTogether { supervisor, failed, others });
            }
            Action::CircuitBreak { name, .. } => {
                if let Some(ChildHandle::Worker(worker)) = self.children.get(&name) {
                    worker.open_breaker(&self.services, now);
                }
            }
            Action::Isolate { name, why } => self.isolate(&name, why, now),
            Action::NotIsolated { name } => {
                let (bound, value) = ("isolated-keys", bounds::ISOLATED_KEYS_MAX as u64);
                self.emit(Event::BoundReached { worker: name, bound, value });
            }
            Action::StaysDown(name) if self.comes_back => self.stand(&name, Standing::Restarting, now),
            Action::StaysDown(name) => {
                self.rest(&name, Standing::Down, now);
                // Its turn did not come, and will not.
                self.answer(&name, Until::Started, &Reply::Failed(ExitReason::Shutdown));
            }
            Action::Rejoins(name) => self.stand(&name, Standing::Restarting, now),
            Action::Forget(name) => self.forget(&name),
            Action::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
            Action::GaveUp { restarts, last } => {
                let period = self.policy.settings().period;
                let (needed, within) = (plural(restarts, "restart"), show_duration(period));
                let why = format!("it needed {needed} within {within}, the last of {last:?}");
                self.write_down(&self.name, LedgerAction::GaveUp, why, "write that a supervisor gave up");
                self.emit(Event::SupervisorGaveUp { supervisor: self.name.clone(), restarts, period, last });
            }
            Action::ManyIsolated { isolated, children } => {
                self.emit(Event::ManyIsolated { supervisor: self.name.clone(), isolated, children });
            }
            Action::AutoShutdown { by } => self.emit(Event::AutoShutdown { supervisor: self.name.clone(), by }),
            Action::SelfStarted => {
                self.fell = None;
                self.emit(Event::SupervisorStarted { supervisor: self.name.clone() });
                self.tell_parent(Report::Started { child: self.name.clone() }).await;
            }
            Action::SelfEnded(Ended::Itself(reason)) if self.name.is_root() && reason.is_host_fault() => {
                self.stopped(Some(reason.clone()));
                self.root_fell(now, reason).await;
            }
            Action::SelfEnded(ended) => {
                self.stopped(match &ended {
                    Ended::Asked => None,
                    Ended::Itself(reason) | Ended::StartFailed(reason) => Some(reason.clone()),
                });
                let child = self.name.clone();
                let report = match ended {
                    Ended::Asked => Report::Stopped { child },
                    Ended::Itself(reason) => Report::Exited { child, reason },
                    Ended::StartFailed(reason) => Report::StartFailed { child, reason },
                };
                self.tell_parent(report).await;
            }
        }
    }

    fn start_child(&mut self, name: &Name, incarnation: Incarnation) {
        let Some(handle) = self.children.get(name) else { return };
        match handle {
            ChildHandle::Worker(worker) => {
                let start = System::Start { incarnation };
                let is_heard = if self.has_time {
                    let waits = worker.mailbox.push_supervision_quietly(start);
                    if waits == Some(true) {
                        worker.lend();
                    }
                    waits.is_some()
                } else {
                    worker.mailbox.push_supervision(start)
                };
                if !is_heard {
                    let reason = ExitReason::Failed(Failure::NotStartable("its task has ended".to_string()));
                    self.unheard.push_back(Report::StartFailed { child: name.clone(), reason });
                }
            }
            ChildHandle::Supervisor(supervisor) => supervisor.start(),
        }
    }

    fn stop_child(&mut self, now: Tick, name: &Name, reason: ExitReason, shutdown: Shutdown, comes_back: bool) {
        let Some(handle) = self.children.get(name) else { return };
        match handle {
            ChildHandle::Worker(worker) => {
                if !worker.mailbox.push_supervision(System::Stop { reason, shutdown, comes_back }) {
                    return self.unheard.push_back(Report::Stopped { child: name.clone() });
                }
            }
            ChildHandle::Supervisor(supervisor) => supervisor.stop(comes_back),
        }
        // The stop waits for the message that is being handled; the kill ends that wait.
        match shutdown {
            Shutdown::Kill => self.kill(name),
            Shutdown::Time(time) => {
                let at = now.after(time);
                self.killed_at.insert(name.clone(), at);
                self.kill_at.insert((at, name.clone()));
            }
            Shutdown::Infinity => {}
        }
    }

    fn kill(&self, name: &Name) {
        match self.children.get(name) {
            Some(ChildHandle::Worker(worker)) => worker.kill(),
            Some(ChildHandle::Supervisor(supervisor)) => supervisor.kill(),
            None => {}
        }
    }

    /// It has stopped in time.
    fn spare(&mut self, name: &Name) {
        if let Some(at) = self.killed_at.remove(name) {
            self.kill_at.remove(&(at, name.clone()));
        }
    }

    /// The child leaves the tree: its name is free from now on.
    fn forget(&mut self, name: &Name) {
        self.spare(name);
        let Some(handle) = self.children.remove(name) else { return };
        tell(self.take_waiting(name), |until| match until {
            Until::Started => Reply::Failed(ExitReason::Shutdown),
            Until::Stopped => Reply::Done,
        });
        let running = self.policy.is_running();
        if running
            && self.services.templates.get(&self.name).is_some()
            && let ChildHandle::Worker(worker) = &handle
        {
            self.services.let_go_of_key(worker);
        }
        dismiss(&handle, name, &self.services);
        self.emit(Event::ChildRemoved { name: name.clone() });
    }

    fn quit(&mut self, asked: &mut mpsc::Receiver<Ask>) {
        asked.close();
        // Whoever asks for more is told by the end of the queue; a worker that was made is let go of.
        while let Ok(ask) = asked.try_recv() {
            if let Ask::Add { spec, handle, .. } = ask {
                dismiss(&handle, &spec.name, &self.services);
            }
        }
        for (name, handle) in std::mem::take(&mut self.children) {
            dismiss(&handle, &name, &self.services);
        }
    }

    /// Whether it will be started again. What waits below one that will not is told, and messages for those below one that
    /// will wait. Isolated children do not start with it, and those that still stop are told when they have.
    fn come_back(&mut self, comes_back: bool) {
        let was_to = std::mem::replace(&mut self.comes_back, comes_back);
        if was_to == comes_back || self.policy.is_running() {
            return;
        }
        let now = self.services.clock.now();
        let down = self.policy.children().filter(|child| child.state == ChildState::Down);
        for name in down.map(|child| &child.spec.name) {
            match comes_back {
                true => self.rise(name, now),
                false => self.rest(name, Standing::Down, now),
            }
        }
        // One that stops was told that it comes back, or not.
        let stopping = self.policy.children().filter(|child| matches!(child.state, ChildState::Stopping(_)));
        for name in stopping.map(|child| &child.spec.name) {
            if let Some(ChildHandle::Supervisor(supervisor)) = self.children.get(name) {
                if comes_back { supervisor.rise() } else { supervisor.rest() }
            }
        }
    }

    /// A child that rested and will start, and all below it.
    fn rise(&self, name: &Name, now: Tick) {
        match self.children.get(name) {
            Some(ChildHandle::Supervisor(supervisor)) => supervisor.rise(),
            Some(ChildHandle::Worker(worker)) => worker.rise(now),
            None => {}
        }
    }

    /// A child that nothing will start by itself, and all below it.
    fn rest(&self, name: &Name, standing: Standing, now: Tick) {
        match self.children.get(name) {
            Some(ChildHandle::Supervisor(supervisor)) => supervisor.rest(),
            _ => self.stand(name, standing, now),
        }
    }

    fn stand(&self, name: &Name, standing: Standing, now: Tick) {
        match self.children.get(name) {
            Some(ChildHandle::Worker(worker)) => worker.stand(standing, now),
            // It says itself how those below it stand: by whether they will be started.
            Some(ChildHandle::Supervisor(supervisor)) if standing == Standing::Restarting => supervisor.rise(),
            _ => {}
        }
    }

    fn emit(&self, event: Event) {
        self.services.recorder.emit(event);
    }

    async fn tell_parent(&mut self, report: Report) {
        self.at();
        // An error means that the host is ending and nobody listens any more. A parent always takes
        // reports: it waits for nobody but its own parent.
        let is_end = !matches!(report, Report::Started { .. });
        if self.name.is_root() && !is_end {
            // The host reads the first alone. The root may start anew more often than it has room for.
            self.parent.offer(report);
            return;
        }
        let _ = self.parent.send(report).await;
        if is_end {
            (self.told_to_stop, self.row) = (false, 0);
        }
    }
}

/// Ends the task of a child that has stopped, and frees its name at once.
pub(super) fn dismiss(handle: &ChildHandle, name: &Name, services: &Services) {
    services.budgets().release(name);
    match handle {
        ChildHandle::Worker(worker) => {
            // What is kept by name goes before the name is free: it may be taken at once.
            services.tell_watchers(name);
            services.recorder.metrics().forget(name);
            services.leave_groups(worker);
            services.accounts.keep_configuration(name, None);
            services.registry.remove(worker);
            services.key_left(name);
            let (done, _) = oneshot::channel();
            worker.mailbox.push_supervision(System::Quit { why: Cause::Removed, done });
        }
        ChildHandle::Supervisor(supervisor) => {
            services.supervisors().remove(name);
            services.set_cpu_budget(name, None);
            services.accounts.forget(name);
            services.new_keys().forget(name);
            // One that is so busy that its queue is full ends when its last handle goes.
            let _ = supervisor.try_ask(Ask::Quit);
        }
    }
}

fn tell(waiting: Waiting, reply: impl Fn(Until) -> Reply) {
    for (until, done) in waiting {
        let _ = done.send(reply(until));
    }
}

/// The spec of a worker under its settings.
pub fn worker_spec(
    name: Name,
    settings: &super::spec::WorkerSettings,
    kind: crate::sandbox::Kind,
    declared: bool,
) -> ChildSpec {
    ChildSpec {
        name,
        kind: ChildKind::Worker,
        restart: super::worker::restart_type(settings, kind),
        shutdown: settings.shutdown,
        significant: settings.significant,
        after: settings.after.clone(),
        tier: settings.tier.unwrap_or_default(),
        declared,
    }
}

/// The spec of a supervisor under its settings.
pub fn supervisor_spec(name: Name, settings: &SupervisorSettings) -> ChildSpec {
    let child = &settings.child;
    ChildSpec {
        name,
        kind: ChildKind::Supervisor,
        restart: child.restart,
        shutdown: child.shutdown,
        significant: child.significant,
        after: child.after.clone(),
        tier: settings.tier,
        declared: true,
    }
}

async fn sleep_or_never(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
