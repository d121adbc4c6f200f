//! The worker's task: the one place that changes what the worker is. Its loop is: take the next
//! thing, handle it, look at what became of the instance.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;

use super::desk::{Recording, SendTape};
use super::door::carry_out;
use super::shared::{Shared, Standing, Status};
use super::system::{Adopted, NoState, NoTrial, System, TrialEvent};
use super::trial::{Kept, Trial};
use crate::base::{
    ComponentHash, ExitReason, Failure, Incarnation, Name, Payload, RevisionNumber, Snapshot, Tick, bounds,
};
use crate::record::{Change, Event, SnapshotRecord};
use crate::runtime::mailbox::{Next, Take};
use crate::runtime::message::{Call, Message};
use crate::runtime::services::Services;
use crate::runtime::spec::{Restart, Shutdown, WorkerSettings};
use crate::runtime::supervisor::Report;
use crate::sandbox::{Answer, CallError, Component, Fact, Fault, Health, Instance, Kind};

/// What a worker is made of when it enters the tree.
pub struct Launch {
    pub name: Name,
    pub component: Component,
    pub revision: RevisionNumber,
    pub settings: WorkerSettings,
    /// The state it continues from, saved by `component`.
    pub saved: Option<Snapshot>,
}

/// Puts a worker into the registry and starts its task. It does not run until its supervisor says
/// so. `reports` is where the supervisor listens.
pub fn launch(launch: Launch, services: &Arc<Services>, reports: mpsc::Sender<Report>) -> Arc<Shared> {
    let status = Status {
        standing: Standing::Down,
        since: services.clock.now(),
        started_at: None,
        up_since: Tick::ZERO,
        incarnation: Incarnation::default(),
        component: launch.component.hash(),
        revision: launch.revision,
        kind: launch.component.kind(),
        exports: launch.component.exports(),
        version: launch.component.metadata().version.clone(),
        last_exit: None,
    };
    let shared = Arc::new(Shared::new(launch.name, launch.settings.clone(), status));
    shared.desk().begin_at(services.first_id());
    services.registry.insert(shared.clone());
    let driver = Driver {
        shared: shared.clone(),
        services: services.clone(),
        reports,
        settings: launch.settings,
        component: launch.component,
        revision: launch.revision,
        saved: launch.saved,
        live: None,
        trial: None,
        pending_stop: None,
        replay: VecDeque::new(),
        one_by_one: 0,
        incarnation: Incarnation::default(),
        writing: None,
        unwritten: Arc::default(),
        unsaved: 0,
        saved_at: services.clock.now(),
    };
    tokio::spawn(driver.run());
    shared
}

pub(super) struct Driver {
    pub shared: Arc<Shared>,
    pub services: Arc<Services>,
    reports: mpsc::Sender<Report>,
    pub settings: WorkerSettings,
    pub component: Component,
    pub revision: RevisionNumber,
    /// The last snapshot of the revision that is current outside of a trial.
    pub saved: Option<Snapshot>,
    pub live: Option<Live>,
    pub trial: Option<Trial>,
    pub pending_stop: Option<PendingStop>,
    /// Messages that a rollback handed back, before those in the mailbox.
    pub replay: VecDeque<Kept>,
    /// Casts that are handed over singly, because a batch with them trapped.
    one_by_one: usize,
    pub incarnation: Incarnation,
    /// A snapshot is on its way to the disk.
    writing: Option<tokio::task::JoinHandle<()>>,
    /// The last one did not get there: the next due time tries again.
    unwritten: Arc<AtomicBool>,
    /// Messages handled since the last snapshot.
    pub unsaved: u64,
    saved_at: Tick,
}

/// The live instance: one that takes messages, or a command that runs.
pub(super) enum Live {
    Worker(Box<Instance>),
    Command(tokio::task::JoinHandle<ExitReason>),
}

/// Casts that are handed over in one call, where the guest can take them.
///
/// A batch has the deadline and the fuel of as many messages as it holds, so this also bounds how
/// long a guest may be away from its message boundary.
const BATCH_MAX: usize = 16;

/// Why a snapshot is taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    ByCount,
    ByTime,
}

/// A stop that waits for the verdict of a trial.
pub(super) struct PendingStop {
    pub end: ExitReason,
    /// What the instance handed over when it stopped.
    pub state: Option<Snapshot>,
    pub asked: Asked,
}

/// Whether the supervisor asked for a stop, or the worker stopped itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Yes,
    No,
}

/// How an instance that was asked to stop did so.
#[derive(Default)]
struct Wound {
    /// If not as it was asked.
    end: Option<ExitReason>,
    /// What it handed over.
    state: Option<Snapshot>,
}

/// What the loop was woken by.
enum Woken {
    Next(Next<System>),
    Replayed(Kept),
    Clock,
    CommandEnded(ExitReason),
    OwnerGone,
}

/// Whether a message is taken for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    /// A rollback handed it back. It is handled whether or not somebody still waits: what counts is
    /// what it does to the state, and an answer to one who was answered finds nobody.
    Again,
}

impl Driver {
    async fn run(mut self) {
        loop {
            // A worker that always has a message waiting would otherwise never give way.
            tokio::task::coop::consume_budget().await;
            match self.wait().await {
                Woken::Next(Next::System(System::Quit { done })) => {
                    self.quit().await;
                    let _ = done.send(());
                    return;
                }
                Woken::Next(Next::System(message)) => self.system(message).await,
                Woken::Next(Next::Message(message)) => self.message(message, Turn::First).await,
                Woken::Replayed(kept) => self.again(kept).await,
                Woken::Clock => self.clock().await,
                Woken::CommandEnded(reason) => self.ended(reason).await,
                Woken::OwnerGone => {
                    self.revert(crate::runtime::spec::OnRollback::Replay).await;
                }
            }
        }
    }

    /// Handles a message that was handed back.
    pub async fn again(&mut self, kept: Kept) {
        self.shared.desk().tape = SendTape::Replay(kept.sent.into());
        self.message(kept.message, Turn::Again).await;
        // What was handed back is in the state again: a crash must not lose it once more.
        if self.replay.is_empty() && self.saves() {
            self.save_if_due(true).await;
        }
    }

    /// The next thing to do. System messages first, then what a rollback handed back, then the
    /// mailbox; a timer that is due goes through the mailbox like any message.
    async fn wait(&mut self) -> Woken {
        if self.trial.as_ref().is_some_and(Trial::is_orphan) {
            return Woken::OwnerGone;
        }
        let take = self.take();
        if let Some(Next::System(message)) = self.shared.mailbox.try_next(Take::SystemOnly) {
            return Woken::Next(Next::System(message));
        }
        if take == Take::All
            && let Some(kept) = self.replay.pop_front()
        {
            return Woken::Replayed(kept);
        }
        let due = self.next_due();
        if due.is_some_and(|due| due <= self.services.clock.now()) {
            return Woken::Clock;
        }
        if let Some(next) = self.shared.mailbox.try_next(take) {
            return Woken::Next(next);
        }
        let sleep = due.map(|due| due.since(self.services.clock.now()));
        let shared = self.shared.clone();
        let owner = self.trial.as_ref().map(Trial::owner);
        let command = match &mut self.live {
            Some(Live::Command(running)) => Some(running),
            _ => None,
        };
        tokio::select! {
            biased;
            next = shared.mailbox.next(take) => Woken::Next(next),
            reason = ended(command) => Woken::CommandEnded(reason),
            () = gone(owner) => Woken::OwnerGone,
            () = sleep_or_never(sleep) => Woken::Clock,
        }
    }

    fn take(&self) -> Take {
        let full = self.trial.as_ref().is_some_and(Trial::is_full);
        if self.live.is_some() && !full { Take::All } else { Take::SystemOnly }
    }

    /// When the clock is to wake the worker: for a timer, a snapshot, or to look after an owner.
    fn next_due(&self) -> Option<Tick> {
        let fires = self.live.is_some() && self.shared.mailbox.has_room_for_timers();
        let timer = if fires { self.shared.desk().next_due() } else { None };
        let snapshot = (self.is_dirty() && self.saves()).then(|| self.saved_at.after(self.settings.snapshot.interval));
        match (timer, snapshot) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    async fn clock(&mut self) {
        let now = self.services.clock.now();
        while self.shared.mailbox.has_room_for_timers() {
            let fired = self.shared.desk().fire(now);
            let Some((timer, message)) = fired else { break };
            if let Some(trial) = &mut self.trial {
                trial.fired(timer);
            }
            self.shared.mailbox.push_fact(Message::Fact(Fact::Timer(timer, message)));
        }
        if self.is_dirty() && now.since(self.saved_at) >= self.settings.snapshot.interval {
            self.save_if_due(true).await;
        }
    }

    async fn message(&mut self, message: Message, turn: Turn) {
        if turn == Turn::First
            && let Message::Call(call) = &message
            && (!call.reply.is_waiting() || call.deadline <= self.services.clock.now())
        {
            self.shared.counters.expired.fetch_add(1, Relaxed);
            call.reply.answer(Err(CallError::Timeout));
            return;
        }
        if let Some(trial) = &mut self.trial {
            trial.keep(&message);
            self.shared.desk().tape = SendTape::Record(Recording::default());
        }
        let fault = match message {
            Message::Call(call) => self.call(call, turn).await,
            Message::Cast { message } => self.cast(message).await,
            Message::Fact(fact) => self.fact(fact).await,
        };
        self.after_message(fault).await;
    }

    async fn call(&mut self, call: Call, turn: Turn) -> Option<ExitReason> {
        let Some(Live::Worker(instance)) = &mut self.live else {
            call.reply.answer(Err(CallError::Rejected("it is a command: it takes no messages".to_string())));
            return None;
        };
        {
            let mut desk = self.shared.desk();
            if !desk.room_for_call() {
                drop(desk);
                call.reply.answer(Err(CallError::Overloaded));
                return None;
            }
            // One that is handled again may call others as long as any message may.
            desk.deadline = (turn == Turn::First).then_some(call.deadline);
            desk.open_call(&call);
        }
        let result = tokio::select! {
            biased;
            result = instance.handle_call(call.id, &call.request) => result.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        let close = || self.shared.desk().close_call(call.id);
        match result {
            Ok(Answer::Later) => None,
            Ok(Answer::Now(reply)) => {
                close();
                call.reply.answer(Ok(reply));
                None
            }
            Err(Some(Fault::Refused(why))) => {
                close();
                self.shared.counters.rejected.fetch_add(1, Relaxed);
                call.reply.answer(Err(CallError::Rejected(why)));
                None
            }
            Err(dead) => {
                close();
                let reason = exit_reason(dead);
                // On trial the message is kept: the old revision will answer it.
                if self.trial.is_none() {
                    call.reply.answer(Err(CallError::Down(reason.clone())));
                }
                Some(reason)
            }
        }
    }

    async fn cast(&mut self, message: Payload) -> Option<ExitReason> {
        let mut batch = vec![message];
        if self.batches() {
            let room = std::cell::Cell::new(self.settings.limits.payload.saturating_sub(batch[0].len() as u64));
            let more = self.shared.mailbox.take_while(BATCH_MAX - 1, |next| {
                let fits = matches!(next, Message::Cast { .. }) && next.bytes() as u64 <= room.get();
                room.set(room.get().saturating_sub(next.bytes() as u64));
                fits
            });
            for next in more {
                if let Message::Cast { message } = next {
                    batch.push(message);
                }
            }
        }
        self.one_by_one = self.one_by_one.saturating_sub(1);
        let Some(Live::Worker(instance)) = &mut self.live else {
            self.dead_letter("cast", batch[0].len(), "it is a command: it takes no messages");
            return None;
        };
        let single = batch.len() == 1;
        let handled = async {
            if single {
                instance.handle_cast(&batch[0]).await.map(|()| Vec::new())
            } else {
                instance.handle_casts(&batch).await
            }
        };
        let result = tokio::select! {
            biased;
            result = handled => result.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        self.shared.counters.handled.fetch_add(batch.len() as u64 - 1, Relaxed);
        match result {
            Ok(failed) => {
                for (_, error) in failed {
                    self.failed("cast", error);
                }
                None
            }
            Err(Some(Fault::Refused(error))) => {
                self.failed("cast", error);
                None
            }
            Err(dead) => {
                let reason = exit_reason(dead);
                if self.trial.is_none() {
                    if single {
                        self.dead_letter("cast", batch[0].len(), &format!("it ended the worker: {reason}"));
                    } else {
                        // Only the one at fault is to be charged: the next incarnation gets them singly.
                        self.one_by_one = batch.len();
                        let again = batch.into_iter().map(|message| Message::Cast { message });
                        self.replay.extend(again.map(|message| Kept { message, sent: Vec::new() }));
                    }
                }
                Some(reason)
            }
        }
    }

    /// Whether casts may be handed over together. Not on trial, where each message is kept with
    /// what was sent for it.
    fn batches(&self) -> bool {
        self.component.exports().batch && self.trial.is_none() && self.one_by_one == 0 && self.replay.is_empty()
    }

    async fn fact(&mut self, fact: Fact) -> Option<ExitReason> {
        let sort = if matches!(fact, Fact::Timer(..)) { "timer" } else { "down" };
        if let Fact::Down(monitor, ..) = &fact {
            self.shared.desk().demonitor(*monitor);
        }
        let Some(Live::Worker(instance)) = &mut self.live else { return None };
        let result = tokio::select! {
            biased;
            result = instance.handle_info(&fact) => result.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        match result {
            Ok(()) => None,
            Err(Some(Fault::Refused(error))) => {
                self.failed(sort, error);
                None
            }
            Err(dead) => {
                let reason = exit_reason(dead);
                if self.trial.is_none() {
                    self.dead_letter(sort, 0, &format!("it ended the worker: {reason}"));
                }
                Some(reason)
            }
        }
    }

    /// What follows every message: count, keep what was sent, look whether the instance ended, asked
    /// to stop, or is due for a snapshot.
    async fn after_message(&mut self, fault: Option<ExitReason>) {
        self.shared.counters.handled.fetch_add(1, Relaxed);
        self.unsaved += 1;
        let (tape, stop) = {
            let mut desk = self.shared.desk();
            desk.deadline = None;
            (std::mem::take(&mut desk.tape), desk.stop.take())
        };
        if let Some(trial) = &mut self.trial {
            if let SendTape::Record(sent) = tape {
                trial.sent(sent);
            }
            if fault.is_none() {
                trial.handled();
            }
        }
        if let Some(reason) = fault {
            return self.ended(reason).await;
        }
        if let Some(Live::Worker(instance)) = &self.live {
            self.shared.counters.memory.store(instance.memory(), Relaxed);
        }
        if let Some(reason) = stop {
            return self.stopped_itself(reason).await;
        }
        self.save_if_due(false).await;
    }

    /// `control.stop`: in order where the reason is, else like a fault.
    async fn stopped_itself(&mut self, reason: ExitReason) {
        if reason.is_orderly() {
            let wound = self.wind_down(&reason, bounds::TERMINATE_TIME).await;
            self.drop_live();
            if self.trial.is_some() {
                return self.stop_on_trial(wound, reason, Asked::No);
            }
            return self.finish_stop(wound.end.unwrap_or(reason), Asked::No).await;
        } else if let Some(Live::Worker(instance)) = &mut self.live {
            let _ = instance.terminate(&reason, bounds::TERMINATE_TIME).await;
        }
        self.ended(reason).await;
    }

    async fn system(&mut self, message: System) {
        match message {
            System::Start { incarnation } => self.start(incarnation).await,
            System::Stop { reason, shutdown } => self.stop(reason, shutdown).await,
            System::Save { done } => {
                let _ = done.send(self.save_now().await);
            }
            System::Import { snapshot, done } => {
                let _ = done.send(self.import(snapshot).await);
            }
            System::Health { done } => {
                let _ = done.send(self.health().await);
            }
            System::Configure { settings } => self.configure(*settings),
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
            System::Quit { .. } => {}
        }
    }

    async fn stop(&mut self, reason: ExitReason, shutdown: Shutdown) {
        if self.live.is_none() && self.trial.is_none() {
            self.shared.stand(Standing::Down, self.services.clock.now());
            return self.report(Report::Stopped { child: self.shared.name().clone() }).await;
        }
        self.shared.stand(Standing::Stopping, self.services.clock.now());
        if let Some(pending) = &mut self.pending_stop {
            pending.asked = Asked::Yes;
            return;
        }
        let wound = match shutdown {
            Shutdown::Kill => Wound { end: Some(ExitReason::Killed), state: None },
            Shutdown::Time(time) => self.wind_down(&reason, time).await,
            Shutdown::Infinity => self.wind_down(&reason, Duration::MAX).await,
        };
        self.drop_live();
        if self.trial.is_some() {
            return self.stop_on_trial(wound, reason, Asked::Yes);
        }
        self.finish_stop(wound.end.unwrap_or(reason), Asked::Yes).await;
    }

    /// On trial the owner decides what a stop means, and the stop waits for it: an end in order, with
    /// the state handed over, ends probation with the verdict so far, which is a good one; any other
    /// is a failure. `Settle` or `Revert` follows, or the owner is gone.
    fn stop_on_trial(&mut self, wound: Wound, reason: ExitReason, asked: Asked) {
        let stateless = !self.durable();
        let end = wound.end.clone().unwrap_or(reason);
        if let Some(trial) = &mut self.trial
            && trial.failed.is_none()
        {
            // How it ended after it had handed over its state does not matter to the next start.
            if wound.state.is_some() || (stateless && wound.end.is_none()) {
                trial.tell(TrialEvent::Stopped { state: wound.state.clone() });
            } else {
                trial.failed = Some(end.clone());
                trial.tell(TrialEvent::Failed(end.clone()));
            }
        }
        self.pending_stop = Some(PendingStop { end, state: wound.state, asked });
    }

    pub async fn finish_stop(&mut self, end: ExitReason, asked: Asked) {
        self.ended_for_others(&end);
        let child = self.shared.name().clone();
        match asked {
            Asked::Yes => {
                self.services.recorder.emit(Event::WorkerStopped { worker: child.clone() });
                self.shared.stand(Standing::Down, self.services.clock.now());
                self.report(Report::Stopped { child }).await;
            }
            Asked::No => {
                // The supervisor decides what follows; until then messages wait, as through any restart.
                self.shared.stand(Standing::Restarting, self.services.clock.now());
                self.report(Report::Exited { child, reason: end }).await;
            }
        }
    }

    /// Saves the state and calls `terminate`.
    async fn wind_down(&mut self, reason: &ExitReason, time: Duration) -> Wound {
        match &mut self.live {
            Some(Live::Worker(_)) => {}
            Some(Live::Command(running)) => {
                running.abort();
                return Wound::default();
            }
            None => return Wound::default(),
        }
        let mut state = None;
        if self.durable() {
            let shared = self.shared.clone();
            let saved = tokio::select! {
                biased;
                saved = self.save_state() => saved,
                () = shared.kill.notified() => return Wound { end: Some(ExitReason::Killed), state: None },
            };
            match saved {
                Ok(snapshot) => {
                    state = Some(snapshot.clone());
                    // On trial the owner makes it durable, together with its decision.
                    if self.trial.is_none() {
                        self.keep_durably(snapshot).await;
                    }
                }
                Err(NoState::Died(reason)) => {
                    self.snapshot_failed(reason.to_string());
                    return Wound { end: Some(reason), state: None };
                }
                Err(error) => self.snapshot_failed(error.to_string()),
            }
        }
        let Some(Live::Worker(instance)) = &mut self.live else { return Wound::default() };
        let ended = tokio::select! {
            biased;
            ended = instance.terminate(reason, time) => ended.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        let end = match ended {
            Ok(()) | Err(Some(Fault::Refused(_))) => None,
            Err(Some(Fault::Dead(Failure::Limit(crate::base::Limit::Deadline(_))))) | Err(None) => {
                Some(ExitReason::Killed)
            }
            Err(dead) => Some(exit_reason(dead)),
        };
        Wound { end, state }
    }

    /// The instance is no more. On trial the owner decides; else the supervisor does.
    pub async fn ended(&mut self, reason: ExitReason) {
        self.drop_live();
        self.shared.desk().tape = SendTape::Off;
        if self.trial.is_none() {
            return self.finish_stop(reason, Asked::No).await;
        }
        self.shared.stand(Standing::RollingBack, self.services.clock.now());
        if reason.is_orderly() {
            // A command may end well on trial.
            return self.stop_on_trial(Wound::default(), reason, Asked::No);
        }
        if let Some(trial) = &mut self.trial {
            trial.failed = Some(reason.clone());
            // Should the owner be gone, the loop sees that and reverts by itself.
            trial.tell(TrialEvent::Failed(reason));
        }
    }

    /// Tells everybody but the supervisor: callers whose call is open, monitors, the record.
    fn ended_for_others(&mut self, reason: &ExitReason) {
        let name = self.shared.name().clone();
        let incarnation = self.incarnation;
        self.shared.update(|status| status.last_exit = Some(reason.clone()));
        self.services.recorder.emit(Event::WorkerExited { worker: name.clone(), incarnation, reason: reason.clone() });
        // With its state the next instance knows the calls that were open in it, and its timers;
        // nobody ever answers the others.
        let continues = self.durable() && self.saved.is_some();
        let open = self.shared.desk().take_open(continues);
        for call in open {
            call.reply.answer(Err(CallError::Down(reason.clone())));
        }
        if !continues {
            let change = self.shared.desk().clear();
            carry_out(change, &name, &self.services);
        }
        // Counted first: whoever begins to watch now looks at the count again afterwards.
        self.shared.counters.exits.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        for (watcher, monitor) in self.services.monitors.take(&name) {
            if let Some(watcher) = self.services.registry.get(&watcher) {
                let fact = Fact::Down(monitor, name.to_string(), reason.clone());
                watcher.mailbox.push_fact(Message::Fact(fact));
            }
        }
    }

    /// Leaves the tree: what waited is answered or becomes a dead letter.
    async fn quit(&mut self) {
        self.drop_live();
        self.trial = None;
        self.services.registry.remove(self.shared.name());
        let (_, messages) = self.shared.mailbox.close();
        let open = self.shared.desk().take_open(false);
        let change = self.shared.desk().clear();
        carry_out(change, self.shared.name(), &self.services);
        for call in open {
            call.reply.answer(Err(CallError::Down(ExitReason::Shutdown)));
        }
        let replay = std::mem::take(&mut self.replay).into_iter().map(|kept| kept.message);
        for message in replay.chain(messages) {
            match message {
                Message::Call(call) => {
                    call.reply.answer(Err(CallError::Down(ExitReason::Shutdown)));
                }
                other => self.dead_letter(other.sort(), other.bytes(), "the worker was removed"),
            }
        }
        self.services.monitors.take(self.shared.name());
        self.services.recorder.metrics().forget(self.shared.name());
    }

    async fn health(&mut self) -> Option<Health> {
        let Some(Live::Worker(instance)) = &mut self.live else { return None };
        let result = tokio::select! {
            biased;
            result = instance.health() => result.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        match result {
            Ok(health) => Some(health),
            Err(Some(Fault::Refused(_))) => Some(Health::Healthy),
            Err(dead) => {
                self.ended(exit_reason(dead)).await;
                None
            }
        }
    }

    fn configure(&mut self, settings: WorkerSettings) {
        if let Some(Live::Worker(instance)) = &mut self.live {
            instance.set_limits(&settings.limits);
        }
        if let Some(instance) = self.trial.as_mut().and_then(|trial| trial.before.instance.as_mut()) {
            instance.set_limits(&settings.limits);
        }
        self.settings = settings;
    }

    /// Says what it was before.
    fn adopt(&mut self, from: &Option<Snapshot>, to: Adopted) -> Result<Adopted, String> {
        if self.live.is_some() || self.trial.is_some() || self.pending_stop.is_some() {
            return Err("it runs by now".to_string());
        }
        if self.saved != *from {
            return Err("its state changed meanwhile".to_string());
        }
        let before = Adopted { component: self.component.clone(), revision: self.revision, saved: self.saved.clone() };
        self.saved = to.saved;
        self.become_revision(to.component, to.revision);
        Ok(before)
    }

    /// From now on this component is the worker's.
    pub fn become_revision(&mut self, component: Component, revision: RevisionNumber) {
        self.shared.update(|status| {
            status.component = component.hash();
            status.revision = revision;
            status.kind = component.kind();
            status.exports = component.exports();
            status.version = component.metadata().version.clone();
        });
        self.component = component;
        self.revision = revision;
    }

    /// Whether something happened since the last snapshot that reached the disk.
    fn is_dirty(&self) -> bool {
        self.unsaved > 0 || self.unwritten.load(Relaxed)
    }

    /// Whether its state outlives an instance.
    pub fn durable(&self) -> bool {
        self.shared.is_durable()
    }

    /// Whether snapshots are taken by the way. Not on trial: what counts then is the old state and
    /// the kept messages.
    fn saves(&self) -> bool {
        self.durable() && self.trial.is_none() && matches!(self.live, Some(Live::Worker(_)))
    }

    async fn save_if_due(&mut self, by_time: bool) {
        if !self.saves() || !(by_time || self.unsaved >= self.settings.snapshot.messages) {
            if !self.saves() {
                self.saved_at = self.services.clock.now();
            }
            return;
        }
        match self.save_state().await {
            Ok(snapshot) => self.keep(snapshot, if by_time { Due::ByTime } else { Due::ByCount }).await,
            Err(NoState::Died(reason)) => self.ended(reason).await,
            Err(error) => self.snapshot_failed(error.to_string()),
        }
    }

    async fn save_now(&mut self) -> Result<Snapshot, NoState> {
        if !matches!(self.live, Some(Live::Worker(_))) {
            if self.trial.is_some() {
                // What was saved last is the old revision's; the new one left nothing.
                return Err(NoState::Nothing);
            }
            return self.saved.clone().ok_or(NoState::Nothing);
        }
        let result = self.save_state().await;
        if let Err(NoState::Died(reason)) = &result {
            self.ended(reason.clone()).await;
        }
        result
    }

    /// Asks the live instance for its state. After `Died` the caller must end the instance.
    pub async fn save_state(&mut self) -> Result<Snapshot, NoState> {
        let Some(Live::Worker(instance)) = &mut self.live else { return Err(NoState::Nothing) };
        if !self.component.exports().state {
            return Err(NoState::NotExported);
        }
        self.saved_at = self.services.clock.now();
        match instance.save().await {
            Ok(snapshot) => Ok(snapshot),
            Err(Fault::Refused(why)) => Err(NoState::Refused(why)),
            Err(Fault::Dead(failure)) => Err(NoState::Died(ExitReason::Failed(failure))),
        }
    }

    /// Keeps a snapshot for the next instance, and hands it to the database without waiting for the
    /// disk. One at a time is on its way: when the next is due by the count of messages, it waits for
    /// the one before, so that a crash of the host loses no more than twice that many; when it is due
    /// by time, the next due time brings the newest.
    pub async fn keep(&mut self, snapshot: Snapshot, due: Due) {
        let change = self.snapshot_change(&snapshot);
        self.saved = Some(snapshot);
        self.shared.desk().saved();
        if let Some(writing) = self.writing.take_if(|writing| due == Due::ByCount || writing.is_finished()) {
            // It ends by itself: an error would be a panic in it.
            let _ = writing.await;
        }
        if self.writing.is_some() {
            return;
        }
        match self.services.database.submit(vec![change]) {
            Ok(pending) => {
                self.unsaved = 0;
                let (recorder, worker) = (self.services.recorder.clone(), self.shared.name().clone());
                let unwritten = self.unwritten.clone();
                self.writing = Some(tokio::spawn(async move {
                    let written = pending.await;
                    unwritten.store(written.is_err(), Relaxed);
                    if let Err(error) = written {
                        recorder.emit(Event::SnapshotFailed { worker, error: error.to_string() });
                    }
                }));
            }
            Err(error) => self.snapshot_failed(error.to_string()),
        }
    }

    /// Keeps a snapshot, and waits until it is on disk.
    pub async fn keep_durably(&mut self, snapshot: Snapshot) {
        let change = self.snapshot_change(&snapshot);
        self.saved = Some(snapshot);
        self.shared.desk().saved();
        self.unsaved = 0;
        if let Err(error) = self.services.database.commit(vec![change]).await {
            self.snapshot_failed(error.to_string());
        }
    }

    fn snapshot_change(&self, snapshot: &Snapshot) -> Change {
        let record = SnapshotRecord {
            component: self.component.hash(),
            revision: self.revision,
            snapshot: snapshot.clone(),
            at: self.services.clock.timestamp(),
            messages: self.shared.counters.handled.load(Relaxed),
        };
        Change::PutSnapshot(self.shared.name().clone(), record)
    }

    pub fn snapshot_failed(&self, error: String) {
        self.services.recorder.emit(Event::SnapshotFailed { worker: self.shared.name().clone(), error });
    }

    fn failed(&self, sort: &'static str, error: String) {
        self.shared.counters.rejected.fetch_add(1, Relaxed);
        self.services.recorder.emit(Event::MessageFailed { worker: self.shared.name().clone(), sort, error });
    }

    pub fn dead_letter(&self, sort: &'static str, bytes: usize, reason: &str) {
        let worker = self.shared.name().clone();
        self.services.recorder.emit(Event::DeadLetter { worker, sort, bytes, reason: reason.to_string() });
    }

    pub fn drop_live(&mut self) {
        if let Some(Live::Command(running)) = self.live.take() {
            running.abort();
        }
        self.shared.counters.memory.store(0, Relaxed);
        self.count_instances();
    }

    pub fn count_instances(&self) {
        if let Some(Live::Worker(instance)) = &self.live {
            self.shared.counters.memory.store(instance.memory(), Relaxed);
        }
        let old = self.trial.as_ref().is_some_and(|trial| trial.before.instance.is_some());
        self.shared.counters.instances.store(usize::from(self.live.is_some()) + usize::from(old), Relaxed);
    }

    pub async fn report(&mut self, report: Report) {
        // An error means that the supervisor has ended, and nobody is left to tell.
        let _ = self.reports.send(report).await;
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

/// `None` stands for a kill.
fn exit_reason(dead: Option<Fault>) -> ExitReason {
    match dead {
        None => ExitReason::Killed,
        Some(Fault::Dead(failure)) => ExitReason::Failed(failure),
        Some(Fault::Refused(why)) => ExitReason::Failed(Failure::Own(why)),
    }
}

async fn ended(command: Option<&mut tokio::task::JoinHandle<ExitReason>>) -> ExitReason {
    match command {
        Some(running) => running.await.unwrap_or(ExitReason::Killed),
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

async fn sleep_or_never(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
