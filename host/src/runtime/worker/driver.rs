//! The worker's task: the one place that changes what the worker is. Its loop is: take the next
//! thing, handle it, look at what became of the instance.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use super::alarm::Alarm;
use super::desk::{HAS_TIMERS, HIBERNATES, SendTape};
use super::ending::{Asked, PendingStop};
use super::guard::Guard;
use super::handle::Turn;
use super::idle::Idled;
use super::recovery::Goes;
use super::rescue::{Hand, InHand, Kept};
use super::shared::{Kept as KeptStatus, Of, Shared};
use super::sleep::{Drowsy, InLine, Why, turn};
use super::system::{Adopted, NoTrial, System, TrialEvent};
use super::trial::{Kept as KeptMessage, Trial};
use crate::base::{ComponentHash, ExitReason, Incarnation, Name, RareQueue, RevisionNumber, Snapshot, Tick};
use crate::record::BreakerRecord;
use crate::runtime::dead_letters::{Cause, Letter};
use crate::runtime::handoff;
use crate::runtime::mailbox::{Next, Take};
use crate::runtime::message::{Call, Message};
use crate::runtime::poison::Poison;
use crate::runtime::residents::{AsleepBytes, Place};
use crate::runtime::services::Services;
use crate::runtime::spec::{OnRollback, Restart, WorkerSettings};
use crate::runtime::supervisor::{Report, Reports};
use crate::sandbox::{Component, Fact, Instance, Kind};

/// What a worker is made of when it enters the tree.
pub struct Launch {
    pub name: Name,
    pub component: Component,
    pub revision: RevisionNumber,
    /// Shared with others of its template.
    pub settings: Arc<WorkerSettings>,
    /// The state it continues from, saved by `component`.
    pub saved: Option<Snapshot>,
    /// Its circuit breaker, if an earlier run of the host left it open.
    pub breaker: Option<BreakerRecord>,
}

/// Puts a worker into the registry and starts its task. It does not run until its supervisor says
/// so. `reports` is where the supervisor listens.
pub fn launch(launch: Launch, of: Of, services: &Arc<Services>, reports: Reports) -> Arc<Shared> {
    let status = KeptStatus::new(launch.component.clone(), launch.revision, services.clock.now());
    let shared = Arc::new(Shared::new(launch.name, launch.settings.clone(), status, of));
    if launch.breaker.is_some() || Guard::is_wanted(&launch.settings) {
        shared.guarded(services, &launch.settings, launch.breaker);
    }
    shared.ids_begin_at(services.first_id());
    services.registry.insert(shared.clone());
    services.share_cpu(&shared, launch.settings.limits.cpu);
    let driver = Driver {
        shared: shared.clone(),
        services: services.clone(),
        reports,
        settings: launch.settings,
        component: launch.component,
        revision: launch.revision,
        saved: launch.saved.map(Box::new),
        live: None,
        asleep: None,
        room: None,
        away: false,
        in_line: None,
        idle_since: None,
        refusals: 0,
        memory_tries: 0,
        sleepless_until: None,
        trial: None,
        pending_stop: None,
        replay: RareQueue::new(),
        one_by_one: 0,
        poison: Poison::default(),
        incarnation: Incarnation::default(),
        writing: None,
        unsaved: 0,
        saved_at: services.clock.now(),
        health_at: Tick::ZERO,
        alarm: Alarm::default(),
        run: 0,
        turns: 0,
        was_idle: false,
    };
    shared.give_task(Box::new(driver));
    shared
}

pub(super) struct Driver {
    pub shared: Arc<Shared>,
    pub services: Arc<Services>,
    pub reports: Reports,
    pub settings: Arc<WorkerSettings>,
    pub component: Component,
    pub revision: RevisionNumber,
    /// The last snapshot of the revision that is current outside of a trial. Boxed: many have none, and what a
    /// worker knows of itself is kept for each that sleeps.
    pub saved: Option<Box<Snapshot>>,
    pub live: Option<Live>,
    /// It hibernates: what its next instance continues from.
    pub asleep: Option<Snapshot>,
    /// What its state takes of the room in memory.
    pub room: Option<AsleepBytes>,
    /// What `asleep` and `saved` hold stands for the snapshot in the database.
    pub away: bool,
    /// It waits for a place, to start or to wake. What is rare is boxed here and below.
    pub in_line: Option<Box<InLine>>,
    /// When it was seen to have nothing to do, after the last message.
    pub idle_since: Option<Tick>,
    /// How often the system had no room for the start that is under way.
    pub refusals: u8,
    /// How often the account had no memory for the start or the wake that is under way.
    pub memory_tries: u8,
    /// Its state could not be saved: it is not asked to hibernate before.
    pub sleepless_until: Option<Tick>,
    /// Boxed: rare, and large.
    pub trial: Option<Box<Trial>>,
    pub pending_stop: Option<Box<PendingStop>>,
    /// Messages that a rollback handed back, before those in the mailbox.
    pub replay: RareQueue<KeptMessage>,
    /// Casts that are handed over singly, because a batch with them trapped.
    pub one_by_one: u8,
    /// Of the current revision, which a new one does not inherit: the code that died is gone.
    pub poison: Poison,
    pub incarnation: Incarnation,
    /// A snapshot is on its way to the disk.
    pub writing: Option<tokio::task::JoinHandle<()>>,
    /// Messages handled since the last snapshot.
    pub unsaved: u64,
    pub saved_at: Tick,
    /// When its health is to be asked next.
    pub health_at: Tick,
    /// Rings when the clock is to be looked at.
    pub alarm: Alarm,
    /// The last run of the task.
    run: u16,
    /// Things done in it.
    turns: u8,
    /// It had nothing to do before what it does now.
    pub was_idle: bool,
}

/// Things a worker does before it lets others run, as many as the runtime lets its own tasks do.
const TURNS_MAX: u8 = 128;

/// The live instance: one that takes messages, or a command that runs.
pub(super) enum Live {
    Worker(Box<Instance>),
    Command(tokio::task::JoinHandle<ExitReason>),
}

/// What the loop was woken by.
enum Woken {
    Next(Next<System>),
    Replayed(KeptMessage),
    Clock,
    CommandEnded(ExitReason),
    OwnerGone,
    /// It has nothing to do, and a reason to hibernate.
    Drowsy(Drowsy),
    /// It hibernates, and something waits for it.
    Roused,
    /// Its turn in the line has come.
    Placed(Place),
    /// The snapshot that was on its way to the disk is there, or is not.
    Written,
    /// It hibernates and waits for its mailbox alone, which will wake it.
    Parked,
}

impl Woken {
    /// Whether what follows looks at the state of one that hibernates. What does not must not bring it
    /// back: thousands that are stopped together had no room for it before.
    fn asks_for_state(&self) -> bool {
        // A wake brings it back itself, where there is memory for it.
        !matches!(self, Woken::Clock | Woken::Written | Woken::Roused | Woken::Placed(_) | Woken::Next(Next::Waiting))
            && !matches!(
                self,
                Woken::Next(Next::System(message)) if matches!(
                    **message,
                    System::Start { .. }
                        | System::Stop { .. }
                        | System::Quit { .. }
                        | System::Health { .. }
                        | System::Hibernate { .. }
                        | System::Configure { .. }
                        | System::EndIdle { .. }
                )
            )
    }
}

impl Driver {
    /// What is rare is boxed: a task is as large as the largest of its ways, and there may be a hundred
    /// thousand that only wait.
    pub async fn run(mut kept: Kept) -> Option<Box<Driver>> {
        let fault = kept.fault.take();
        let driver = kept.driver()?;
        if let Some(fault) = fault
            && Box::pin(driver.recover(fault)).await == Goes::Ends
        {
            return None;
        }
        // It waits for messages and its alarm alone.
        let mut rests = false;
        loop {
            driver.give_way_now_and_then().await;
            let woken = if rests && driver.rests_still() {
                driver.rest().await
            } else {
                driver.put_away();
                driver.wait(&mut rests).await
            };
            rests &= matches!(woken, Woken::Next(Next::Message(_)));
            if matches!(woken, Woken::Parked) {
                driver.shared.clear_blank_desk();
                return kept.take();
            }
            if driver.away
                && woken.asks_for_state()
                && let Err(reason) = Box::pin(driver.recall()).await
                && driver.asleep.take().is_some()
            {
                Box::pin(driver.ended(reason)).await;
            }
            match woken {
                Woken::Next(Next::System(message)) => match *message {
                    System::Quit { why, done } => {
                        Box::pin(driver.quit(why)).await;
                        let _ = done.send(());
                        return None;
                    }
                    System::EndIdle { idle } => {
                        if Box::pin(driver.end_idle(idle)).await == Idled::Left {
                            return None;
                        }
                    }
                    message => {
                        let starts = matches!(message, System::Start { .. });
                        Box::pin(driver.system(message)).await;
                        driver.shared.runner.has_done_something();
                        // Its supervisor lends its thread to the start, not to what waits for the one that started.
                        if starts && driver.shared.runner.is_lent() && driver.shared.waiting() > 0 {
                            give_way().await;
                        }
                    }
                },
                Woken::Next(Next::Waiting) | Woken::Roused => Box::pin(driver.rouse()).await,
                Woken::Placed(place) => Box::pin(driver.placed(place)).await,
                Woken::Drowsy(Drowsy::Asked) => Box::pin(driver.sleep(Why::Asked)).await,
                Woken::Drowsy(Drowsy::Room(ask)) => Box::pin(driver.make_room(ask)).await,
                Woken::Next(Next::Message(message)) => driver.message(message, Turn::First).await,
                Woken::Replayed(kept) => Box::pin(driver.again(kept)).await,
                Woken::Clock => Box::pin(driver.clock()).await,
                Woken::CommandEnded(reason) => Box::pin(driver.ended(reason)).await,
                Woken::OwnerGone => {
                    Box::pin(driver.revert(OnRollback::Replay)).await;
                }
                Woken::Written => driver.writing = None,
                Woken::Parked => {}
            }
        }
    }

    /// Its task is about to wait for something: a simulation may have it panic here.
    #[inline]
    #[track_caller]
    pub fn at(&self) {
        self.services.fuses.at(self.shared.name());
    }

    /// A worker that always has something to do would otherwise never give way.
    async fn give_way_now_and_then(&mut self) {
        let run = self.shared.runner.runs();
        if self.run != run {
            (self.run, self.turns) = (run, 0);
        }
        self.turns = self.turns.saturating_add(1);
        if self.turns >= TURNS_MAX {
            give_way().await;
        }
    }

    /// Handles a message that was handed back.
    pub async fn again(&mut self, kept: KeptMessage) {
        let kept = InHand::new(kept);
        self.at();
        // The last one may be what ended the new revision: what came before it is saved first.
        if self.replay.is_empty() && self.is_dirty() && self.saves() {
            self.save_if_due(true).await;
            if self.live.is_none() {
                self.replay.push_front(kept.take());
                return;
            }
        }
        let kept = kept.take();
        self.shared.desk().tape = SendTape::Replay(kept.sent.into());
        self.message(kept.message, Turn::Again).await;
        // What was handed back is in the state again: a crash must not lose it once more.
        if self.replay.is_empty() && self.saves() {
            self.save_if_due(true).await;
        }
    }

    /// The next thing to do. System messages first, then what a rollback handed back, then the
    /// mailbox; a timer that is due goes through the mailbox like any message.
    async fn wait(&mut self, rests: &mut bool) -> Woken {
        self.was_idle = false;
        if self.trial.as_ref().is_some_and(|trial| trial.is_orphan()) {
            return Woken::OwnerGone;
        }
        // One that has used more than its share takes no messages for a while; what the host wants of it
        // does not wait.
        let debt_until = self.shared.cpu.ready_at(&self.services.clock);
        let take = if debt_until.is_some() { Take::SystemOnly } else { self.take() };
        if let Some(message) = self.shared.mailbox.try_system() {
            return Woken::Next(Next::System(message));
        }
        if take == Take::All
            && let Some(kept) = self.replay.pop_front()
        {
            return Woken::Replayed(kept);
        }
        if take == Take::Look && !self.replay.is_empty() {
            return Woken::Roused;
        }
        let due = earlier(earlier(self.next_due(), self.health_due()), debt_until);
        if self.alarm.rings(due, &self.services.clock).await {
            return Woken::Clock;
        }
        // Shown to be idle before it looks whether others need its room (residents.rs).
        let mailbox = &self.shared.mailbox;
        let next = std::future::poll_fn(|context| Poll::Ready(mailbox.next_or_wait(take, context.waker()))).await;
        if let Some(next) = next {
            return Woken::Next(next);
        }
        if let Some(why) = self.drowsy() {
            return Woken::Drowsy(why);
        }
        let due = earlier(due, self.sleep_due());
        if self.alarm.rings(due, &self.services.clock).await {
            return Woken::Clock;
        }
        if self.may_park(due) {
            self.alarm.disarm();
            let parks = |context: &mut Context<'_>| Poll::Ready(self.shared.mailbox.will_wake(take, context.waker()));
            if std::future::poll_fn(parks).await {
                return Woken::Parked;
            }
        }
        // What is handed over is handled as any other message. One that is kept for a rollback, or looked at
        // before, goes through the mailbox.
        let takes_handed = take == Take::All && self.trial.is_none() && self.poison.is_empty();
        *rests = takes_handed && matches!(self.live, Some(Live::Worker(_))) && self.in_line.is_none();
        if *rests {
            return self.rest().await;
        }
        self.at();
        let owner = self.trial.as_ref().map(|trial| trial.owner());
        let command = match &mut self.live {
            Some(Live::Command(running)) => Some(running),
            _ => None,
        };
        let writing = self.writing.as_mut().filter(|_| self.asleep.is_some());
        let woken = tokio::select! {
            biased;
            next = self.shared.mailbox.next_woken(take) => Woken::Next(next),
            reason = ended(command) => Woken::CommandEnded(reason),
            () = gone(owner) => Woken::OwnerGone,
            place = turn(self.in_line.as_deref_mut()) => Woken::Placed(place),
            () = self.alarm.rung() => Woken::Clock,
            () = written(writing) => Woken::Written,
        };
        self.was_idle = self.shared.runner.is_lent();
        woken
    }

    /// Whether all that [`Driver::wait`] found before the last message holds after it: then nothing need be looked
    /// at again. Where it is in doubt, it does not.
    fn rests_still(&self) -> bool {
        let shared = &self.shared;
        let is_as_before = matches!(self.live, Some(Live::Worker(_))) && self.trial.is_none() && self.replay.is_empty();
        let is_asked_nothing =
            shared.mailbox.is_awaited() && !shared.desk_has(HAS_TIMERS | HIBERNATES) && !shared.cpu.is_bounded();
        let stays = self.settings.hibernate_after.is_none() && !self.services.residents.is_wanted(shared.is_key());
        let will_ring = !self.is_dirty() || self.alarm.rings_by(self.saved_at.after(self.settings.snapshot.interval));
        is_as_before && is_asked_nothing && stays && self.poison.is_empty() && (will_ring || !self.saves())
    }

    /// Waits for the next message, which may be handed over past the mailbox, and for the alarm.
    async fn rest(&mut self) -> Woken {
        let (shared, alarm) = (&self.shared, &self.alarm);
        shared.mailbox.note_done();
        let mut is_woken = false;
        let woken = std::future::poll_fn(|context| {
            if let Some(call) = handed(shared) {
                return Poll::Ready(Woken::Next(Next::Message(Message::Call(call))));
            }
            // What came since it was shown to wait has woken it.
            if std::mem::replace(&mut is_woken, true)
                && let Some(next) = shared.mailbox.next_or_wait(Take::All, context.waker())
            {
                return Poll::Ready(Woken::Next(next));
            }
            if alarm.has_rung() { Poll::Ready(Woken::Clock) } else { Poll::Pending }
        })
        .await;
        if matches!(woken, Woken::Clock) {
            self.alarm.disarm();
        }
        self.was_idle = self.shared.runner.is_lent();
        woken
    }

    /// Whether there is nothing to wait for but the mailbox: then its task need not be kept, which is several
    /// times as large as what it knows.
    fn may_park(&self, due: Option<Tick>) -> bool {
        let is_written = self.writing.is_none() && !(self.durable() && self.is_dirty());
        self.asleep.is_some() && is_written && self.in_line.is_none() && self.trial.is_none() && due.is_none()
    }

    fn take(&self) -> Take {
        let full = self.trial.as_ref().is_some_and(|trial| trial.is_full());
        match (&self.live, &self.asleep, &self.in_line) {
            (Some(_), ..) if !full => Take::All,
            (None, Some(_), None) => Take::Look,
            _ => Take::SystemOnly,
        }
    }

    /// When the clock is to wake the worker whatever waits: for a timer, a snapshot, or because no place
    /// came for its start.
    fn next_due(&self) -> Option<Tick> {
        let runs = self.live.is_some() || self.asleep.is_some();
        let has_timers = runs && self.shared.desk_has(HAS_TIMERS);
        let timer = if has_timers { self.shared.desk().next_due() } else { None };
        let timer = timer.filter(|_| self.shared.mailbox.has_room_for_timers());
        let snapshot = (self.is_dirty() && self.saves()).then(|| self.saved_at.after(self.settings.snapshot.interval));
        let start = self.in_line.as_deref().and_then(InLine::due);
        earlier(earlier(timer, snapshot), start)
    }

    async fn clock(&mut self) {
        self.at();
        let now = self.services.clock.now();
        while self.shared.mailbox.has_room_for_timers() {
            let fired = self.shared.desk().fire(now);
            let Some((timer, message)) = fired else { break };
            if let Some(trial) = &mut self.trial {
                trial.fired(timer);
            }
            // News of other workers may have taken the room that was there.
            let account = || self.services.accounts.of(self.shared.name());
            let fact = Message::Fact(Fact::Timer(timer, message));
            if let Err(fact) = self.shared.mailbox.push_fired(fact, account) {
                self.dead_letter(Letter::of(fact), Cause::NoRoom).await;
            }
        }
        if self.is_dirty() && now.since(self.saved_at) >= self.settings.snapshot.interval {
            self.save_if_due(true).await;
        }
        if self.health_due().is_some_and(|at| at <= now) {
            self.health_at = now.after(self.settings.health_interval);
            self.health().await;
        }
        self.no_place(now).await;
        self.sleep_if_due(now).await;
    }

    async fn system(&mut self, message: System) {
        // Its supervisor waits until it has started, or stopped, whatever becomes of that.
        let _in_hand = match &message {
            System::Start { .. } => Some(InHand::new(Hand::Start)),
            System::Stop { comes_back, .. } => Some(InHand::new(Hand::Stop(Asked::by_supervisor(*comes_back)))),
            _ => None,
        };
        self.at();
        match message {
            System::Start { incarnation } => self.begin(incarnation).await,
            System::Stop { reason, shutdown, comes_back } => self.stop(reason, shutdown, comes_back).await,
            System::Save { done } => {
                let _ = done.send(self.save_now().await);
            }
            System::Import { snapshot, done } => {
                let _ = done.send(self.import(snapshot).await);
            }
            System::Health { done } => {
                let _ = done.send(self.health().await);
            }
            System::Hibernate { ask } => self.make_room(ask).await,
            System::Configure { settings } => self.configure(settings),
            System::Replace(replace) => self.replace(*replace).await,
            System::Settle { state, done } => {
                let settled = self.settle(state).await;
                let _ = done.send(settled);
            }
            System::Revert { how, done } => {
                let reverted = if self.trial.is_some() { Ok(self.revert(how).await) } else { Err(NoTrial) };
                let _ = done.send(reverted);
            }
            System::Adopt { from, to, done } => {
                let _ = done.send(self.adopt(&from, to));
            }
            System::Quit { .. } | System::EndIdle { .. } => {}
        }
    }

    /// From now on these hold.
    pub fn configure(&mut self, settings: Arc<WorkerSettings>) {
        if let Some(Live::Worker(instance)) = &mut self.live {
            instance.set_limits(&settings.limits);
        }
        if let Some(instance) = self.trial.as_mut().and_then(|trial| trial.before.instance.as_mut()) {
            instance.set_limits(&settings.limits);
        }
        let soon = self.services.clock.now().after(settings.health_interval);
        self.health_at = self.health_at.min(soon);
        self.services.share_cpu(&self.shared, settings.limits.cpu);
        self.settings = settings;
    }

    /// Says what it was before.
    fn adopt(&mut self, from: &Option<Snapshot>, to: Adopted) -> Result<Adopted, String> {
        if self.live.is_some() || self.asleep.is_some() || self.trial.is_some() || self.pending_stop.is_some() {
            return Err("it runs by now".to_string());
        }
        if self.away {
            return Err("its state could not be read".to_string());
        }
        if self.saved.as_deref() != from.as_ref() {
            return Err("its state changed meanwhile".to_string());
        }
        let saved = self.saved.take().map(|saved| *saved);
        let before = Adopted { component: self.component.clone(), revision: self.revision, saved };
        self.saved = to.saved.map(Box::new);
        self.become_revision(to.component, to.revision);
        self.shared.new_revision();
        Ok(before)
    }

    /// From now on this component is the worker's.
    pub fn become_revision(&mut self, component: Component, revision: RevisionNumber) {
        self.shared.update(|status| {
            status.component = component.clone();
            status.revision = revision;
        });
        self.component = component;
        self.revision = revision;
        self.poison = Poison::default();
    }

    pub fn drop_live(&mut self) {
        drop(self.take_live());
    }

    /// It has no instance any more. To drop it takes longer than to tell the supervisor.
    pub fn take_live(&mut self) -> Option<Live> {
        let live = self.live.take();
        if let Some(Live::Command(running)) = &live {
            running.abort();
        }
        self.shared.counters.memory.store(0, Relaxed);
        self.count_instances();
        live
    }

    pub fn count_instances(&self) {
        if let Some(Live::Worker(instance)) = &self.live {
            self.shared.counters.memory.store(instance.memory(), Relaxed);
        }
        let old = self.trial.as_ref().is_some_and(|trial| trial.before.instance.is_some());
        self.shared.instances.store(u8::from(self.live.is_some()) + u8::from(old), Relaxed);
    }

    pub async fn report(&mut self, report: Report) {
        self.at();
        // An error means that the supervisor has ended, and nobody is left to tell.
        let _ = self.reports.send(report).await;
        if self.shared.runner.is_lent() {
            self.reports.are_heard_next();
        }
    }

    /// Where its supervisor listens.
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    pub fn hash(&self) -> ComponentHash {
        self.component.hash()
    }
}

/// The restart type that holds for this worker.
pub fn restart_type(settings: &WorkerSettings, kind: Kind) -> Restart {
    settings.restart.unwrap_or(match kind {
        Kind::Worker => Restart::Permanent,
        Kind::Command => Restart::Transient,
    })
}

fn earlier(one: Option<Tick>, other: Option<Tick>) -> Option<Tick> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Not the runtime's own: that would wait for the thread that was lent.
async fn give_way() {
    let mut gave = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A call that is handed over by who runs the worker.
fn handed(worker: &Arc<Shared>) -> Option<Call> {
    if !worker.mailbox.is_awaited() {
        return None;
    }
    let call = handoff::take(worker)?;
    worker.mailbox.note_handed();
    Some(call)
}

async fn ended(command: Option<&mut tokio::task::JoinHandle<ExitReason>>) -> ExitReason {
    match command {
        // It is aborted where nobody waits for its end.
        Some(running) => running.await.unwrap_or(ExitReason::Killed),
        None => std::future::pending().await,
    }
}

async fn written(writing: Option<&mut tokio::task::JoinHandle<()>>) {
    match writing {
        // A panic in it has been told.
        Some(writing) => drop(writing.await),
        None => std::future::pending().await,
    }
}

/// The owner of a trial went without a verdict.
async fn gone(owner: Option<mpsc::Sender<TrialEvent>>) {
    match owner {
        Some(owner) => owner.closed().await,
        None => std::future::pending().await,
    }
}
