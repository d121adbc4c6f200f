//! How a worker's instance ends: stopped in order, by itself, in a fault, or for good.

use std::sync::Arc;
use std::time::Duration;

use super::desk::SendTape;
use super::door::carry_out;
use super::driver::{Driver, Live};
use super::handle::exit_reason;
use super::rescue::{Ending, Hand, InHand};
use super::shared::{Shared, Standing};
use super::system::{NoState, TrialEvent};
use super::trial::Kept as KeptMessage;
use crate::base::{ExitReason, Failure, Limit, MonitorId, Name, Snapshot, bounds};
use crate::record::Event;
use crate::runtime::dead_letters::{Cause, Letter};
use crate::runtime::message::Message;
use crate::runtime::services::Services;
use crate::runtime::spec::Shutdown;
use crate::runtime::supervisor::Report;
use crate::sandbox::{CallError, Fact, Fault};

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
    /// And will start it again.
    ComesBack,
    No,
}

impl Asked {
    pub fn by_supervisor(comes_back: bool) -> Asked {
        if comes_back { Asked::ComesBack } else { Asked::Yes }
    }

    /// How a worker stands that has stopped so.
    pub fn standing(self) -> Standing {
        match self {
            Asked::Yes => Standing::Down,
            Asked::ComesBack | Asked::No => Standing::Restarting,
        }
    }
}

/// How an instance that was asked to stop did so.
#[derive(Default)]
pub(super) struct Wound {
    /// If not as it was asked.
    end: Option<ExitReason>,
    /// What it handed over.
    state: Option<Snapshot>,
}

impl Wound {
    /// It did not stop as it was asked to.
    pub fn of(end: ExitReason) -> Wound {
        Wound { end: Some(end), state: None }
    }
}

/// Watchers that have not been told yet. Should the telling panic, they watch on, and its recovery tells them.
struct Untold {
    services: Arc<Services>,
    name: Name,
    rest: std::vec::IntoIter<(Name, MonitorId)>,
}

impl Drop for Untold {
    fn drop(&mut self) {
        for (watcher, monitor) in self.rest.by_ref() {
            self.services.monitors.watch(&self.name, &watcher, monitor);
        }
    }
}

impl Driver {
    /// `control.stop`: in order where the reason is, else like a fault.
    pub(super) async fn stopped_itself(&mut self, reason: ExitReason) {
        if reason.is_orderly() {
            let wound = self.wind_down(&reason, bounds::TERMINATE_TIME).await;
            self.drop_live();
            if self.trial.is_some() {
                return self.stop_on_trial(wound, reason, Asked::No);
            }
            return self.finish_stop(wound.end.unwrap_or(reason), Asked::No).await;
        }
        self.at();
        if let Some(Live::Worker(instance)) = &mut self.live {
            let _ = instance.terminate(&reason, bounds::TERMINATE_TIME).await;
        }
        self.ended(reason).await;
    }

    pub(super) async fn stop(&mut self, reason: ExitReason, shutdown: Shutdown, comes_back: bool) {
        let asked = Asked::by_supervisor(comes_back);
        self.in_line = None;
        if self.live.is_none() && self.trial.is_none() && self.asleep.is_none() {
            if asked == Asked::Yes {
                self.shared.is_left_down();
            }
            self.shared.stand(asked.standing(), self.services.clock.now());
            return self.report(Report::Stopped { child: self.shared.name().clone() }).await;
        }
        self.shared.stand(Standing::Stopping, self.services.clock.now());
        if let Some(pending) = &mut self.pending_stop {
            pending.asked = asked;
            return;
        }
        if self.asleep.is_some() {
            let end = self.stop_asleep(reason, shutdown).await;
            return self.finish_stop(end, asked).await;
        }
        let wound = match shutdown {
            Shutdown::Kill => Wound { end: Some(ExitReason::Killed), state: None },
            Shutdown::Time(time) => self.wind_down(&reason, time).await,
            Shutdown::Infinity => self.wind_down(&reason, Duration::MAX).await,
        };
        self.drop_live();
        if self.trial.is_some() {
            return self.stop_on_trial(wound, reason, asked);
        }
        self.finish_stop(wound.end.unwrap_or(reason), asked).await;
    }

    /// On trial the owner decides what a stop means, and the stop waits for it: an end in order, with
    /// the state handed over, ends probation with the verdict so far, which is a good one; any other
    /// is a failure. `Settle` or `Revert` follows, or the owner is gone.
    pub(super) fn stop_on_trial(&mut self, wound: Wound, reason: ExitReason, asked: Asked) {
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
        self.pending_stop = Some(Box::new(PendingStop { end, state: wound.state, asked }));
    }

    pub(super) async fn finish_stop(&mut self, end: ExitReason, asked: Asked) {
        self.tell_end(Ending { reason: end, asked: Some(asked), is_told: false }).await;
    }

    /// Tells everybody that it has ended, its supervisor last. Goes on from where one that panicked had come to.
    pub(super) async fn tell_end(&mut self, ending: Ending) {
        let mut ending = InHand::new(ending);
        let child = self.shared.name().clone();
        let Some(asked) = ending.asked else {
            let Ending { reason, is_told, .. } = ending.clone();
            if !is_told {
                let event =
                    Event::WorkerStartFailed { worker: child.clone(), component: self.hash(), reason: reason.clone() };
                self.services.recorder.emit(event);
                ending.is_told = true;
            }
            self.shared.ended(&reason, false);
            self.shared.counters.failures().exits.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            self.tell_watchers(&reason).await;
            self.shared.stand(Standing::Restarting, self.services.clock.now());
            self.report(Report::StartFailed { child, reason }).await;
            drop(ending.take());
            return;
        };
        self.ended_for_others(&mut ending).await;
        match asked {
            Asked::Yes | Asked::ComesBack => {
                self.services.recorder.emit(Event::WorkerStopped { worker: child.clone() });
                self.shared.stand(asked.standing(), self.services.clock.now());
                self.report(Report::Stopped { child }).await;
            }
            Asked::No => {
                // The supervisor decides what follows; until then messages wait, as through any restart.
                self.shared.stand(Standing::Restarting, self.services.clock.now());
                self.report(Report::Exited { child, reason: ending.reason.clone() }).await;
            }
        }
        drop(ending.take());
    }

    /// Saves the state and calls `terminate`.
    pub(super) async fn wind_down(&mut self, reason: &ExitReason, time: Duration) -> Wound {
        match &mut self.live {
            Some(Live::Worker(_)) => {}
            Some(Live::Command(running)) => {
                running.abort();
                return Wound::default();
            }
            None => return Wound::default(),
        }
        let mut state = None;
        self.at();
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
        self.at();
        let Some(Live::Worker(instance)) = &mut self.live else { return Wound::default() };
        let ended = tokio::select! {
            biased;
            ended = instance.terminate(reason, time) => ended.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        let end = match ended {
            Ok(()) | Err(Some(Fault::Refused(_))) => None,
            Err(Some(Fault::Dead(Failure::Limit(Limit::Deadline(_))))) | Err(None) => Some(ExitReason::Killed),
            Err(dead) => Some(exit_reason(dead)),
        };
        Wound { end, state }
    }

    /// The instance is no more. On trial the owner decides; else the supervisor does.
    pub(super) async fn ended(&mut self, reason: ExitReason) {
        self.at();
        let dead = self.take_live();
        self.shared.desk().tape = SendTape::Off;
        if self.trial.is_none() {
            self.finish_stop(reason, Asked::No).await;
            drop(dead);
            return;
        }
        drop(dead);
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
    pub(super) async fn ended_for_others(&mut self, ending: &mut Ending) {
        let (name, reason) = (self.shared.name().clone(), &ending.reason.clone());
        let incarnation = self.incarnation;
        let was_asked = matches!(ending.asked, Some(Asked::Yes | Asked::ComesBack));
        self.shared.ended(reason, was_asked);
        if !std::mem::replace(&mut ending.is_told, true) {
            let event = Event::WorkerExited { worker: name.clone(), incarnation, reason: reason.clone() };
            self.services.recorder.emit(event);
        }
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
        self.shared.counters.failures().exits.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.tell_watchers(reason).await;
    }

    /// Whoever watches is told, once: what it watches does not run.
    pub(super) async fn tell_watchers(&mut self, reason: &ExitReason) {
        let name = self.shared.name().clone();
        let mut untold = Untold { services: self.services.clone(), name: name.clone(), rest: Vec::new().into_iter() };
        self.at();
        untold.rest = self.services.monitors.take(&name).into_iter();
        for (watcher, monitor) in untold.rest.by_ref() {
            if let Some(watcher) = self.services.registry.get(&watcher) {
                let fact = Fact::Down(monitor, name.to_string(), reason.clone());
                let account = || self.services.accounts.of(watcher.name());
                if let Err(fact) = watcher.mailbox.try_push_fact(Message::Fact(fact), account) {
                    self.has_no_room(&watcher, fact).await;
                }
            }
        }
    }

    /// A watcher's mailbox is full of facts.
    async fn has_no_room(&mut self, watcher: &Shared, fact: Message) {
        self.at();
        let (letters, revision) = (&self.services.dead_letters, watcher.status().revision);
        letters.put(watcher.name(), revision, Letter::of(fact), Cause::NoRoom).await;
    }

    /// Leaves the tree: what waited is answered or becomes a dead letter.
    pub(super) async fn quit(&mut self, why: Cause<'static>) {
        let _in_hand = InHand::new(Hand::Quit(why));
        self.at();
        self.drop_live();
        if let Some(trial) = self.trial.take() {
            let reason = trial.failed.clone().unwrap_or(ExitReason::Shutdown);
            self.let_go(*trial, &reason).await;
        }
        // Whoever began to watch it while it was in its backoff. Another of its name may be there by now,
        // and then what is kept by name is that one's.
        if self.services.registry.remove(&self.shared) {
            self.tell_watchers(&ExitReason::Shutdown).await;
            self.services.recorder.metrics().forget(self.shared.name());
        }
        // What they are charged to is held until they are letters. A panic leaves them with what it knows.
        let (_, messages, _charged) = self.shared.mailbox.close();
        let waited = messages.into_iter().map(|message| KeptMessage { message, sent: Vec::new(), charged: None });
        let mut waited: Vec<KeptMessage> = self.replay.take().into_iter().chain(waited).collect();
        // More than are kept at all: the oldest would go for the newest anyway.
        let (worker, max) = (self.shared.name().clone(), bounds::DEAD_LETTERS_MAX);
        let is_call = |kept: &KeptMessage| matches!(kept.message, Message::Call(_));
        let over = waited.iter().filter(|kept| !is_call(kept)).count().saturating_sub(max);
        let mut passed = 0;
        waited.retain(|kept| {
            passed += usize::from(!is_call(kept));
            is_call(kept) || passed > over
        });
        self.replay.extend(waited);
        let open = self.shared.desk().take_open(false);
        let change = self.shared.desk().clear();
        carry_out(change, self.shared.name(), &self.services);
        // Whoever waits for one that never started is told why it did not.
        let ended = self.shared.status().last_exit.filter(|reason| !reason.is_orderly());
        let down = CallError::Down(ended.unwrap_or(ExitReason::Shutdown));
        for call in open {
            call.reply.answer(Err(down.clone()));
        }
        self.at();
        if over > 0 {
            let event = Event::BoundReached { worker, bound: "dead-letters", value: max as u64 };
            self.services.recorder.emit(event);
        }
        while let Some(kept) = self.replay.pop_front() {
            let kept = InHand::new(kept);
            self.at();
            match kept.take().message {
                Message::Call(call) => {
                    call.reply.answer(Err(down.clone()));
                }
                other => {
                    let letter = Letter::of(other);
                    self.services.dead_letters.put(self.shared.name(), self.revision, letter, why).await;
                }
            }
        }
    }
}
