//! How the worker's task handles one message, and what follows.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::desk::{After, Recording, SendTape};
use super::driver::{Driver, Live};
use super::guard::{Pass, Sign};
use super::rescue::{Casts, InHand, Request};
use super::trial::Kept;
use crate::base::{ExitReason, Failure, Limit, Name, Payload, bounds};
use crate::record::{Event, LetterSort};
use crate::runtime::dead_letters::{Cause, Letter};
use crate::runtime::handoff;
use crate::runtime::message::{Call, CallHead, Message};
use crate::runtime::poison::Content;
use crate::sandbox::{Answer, CallError, Fact, Fault};

/// Casts that are handed over in one call, where the guest can take them.
///
/// A batch has the deadline and the fuel of as many messages as it holds, so this also bounds how
/// long a guest may be away from its message boundary.
const BATCH_MAX: usize = 16;

/// What the caller of a quarantined call is told.
const QUARANTINED: &str = "quarantined: it ended the worker three times; `paguro dead-letters` shows it";
const _: () = assert!(bounds::POISON_KILLS == 3, "the text says three");

/// Whether a message is taken for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    First,
    /// A rollback handed it back. It is handled whether or not somebody still waits: what counts is
    /// what it does to the state, and an answer to one who was answered finds nobody.
    Again,
}

impl Driver {
    pub(super) async fn message(&mut self, message: Message, turn: Turn) {
        if turn == Turn::First
            && let Message::Call(call) = &message
        {
            // One that came to an idle worker came just now.
            let is_late = !self.was_idle && call.deadline <= self.services.clock.now();
            if is_late {
                call.reply.answer(Err(CallError::Timeout));
            }
            if is_late || !call.reply.is_waiting() {
                self.shared.counters.failures().expired.fetch_add(1, Relaxed);
                return;
            }
        }
        if !self.poison.is_empty() && self.meets_poison(&message) {
            return Box::pin(self.refuse_poison(message)).await;
        }
        if let Some(trial) = &mut self.trial {
            trial.keep(&message);
            self.shared.desk().tape = SendTape::Record(Recording::default());
        }
        let (fault, after) = match message {
            Message::Call(call) => self.call(call, turn).await,
            Message::Cast { from, message, pass } => (self.cast(from, message, pass).await, None),
            Message::Fact(fact) => (self.fact(fact).await, None),
        };
        let after = after.unwrap_or_else(|| self.shared.desk().after());
        self.after_message(fault, after).await;
    }

    /// The desk is locked once before the guest runs and once after it: then all is taken that is on it. What is rare is
    /// boxed: every live worker has room for the largest of these ways.
    async fn call(&mut self, call: Call, turn: Turn) -> (Option<ExitReason>, Option<After>) {
        let Call { id, from, request, deadline, reply } = call;
        // Who sent it is on the desk.
        let request = InHand::new(Request(request));
        let Some(Live::Worker(instance)) = &mut self.live else {
            reply.answer(Err(CallError::Rejected("it is a command: it takes no messages".to_string())));
            return (None, None);
        };
        {
            let mut desk = self.shared.desk();
            if !desk.room_for_call() {
                drop(desk);
                reply.answer(Err(CallError::Overloaded));
                return (None, None);
            }
            // One that is handled again may call others as long as any message may: nobody waits for it,
            // and that cancels nothing.
            desk.open_call(CallHead { id, from, deadline, reply }, turn == Turn::First);
        }
        let result = tokio::select! {
            biased;
            result = instance.handle_call(id, &request.0) => result.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        let (current, after) = {
            let mut desk = self.shared.desk();
            if result == Ok(Answer::Later) {
                // What stays open is marked for rollbacks: its caller waits at a place of its own from now on.
                if let Some(awaited) = desk.make_place() {
                    handoff::has_place(&self.shared, awaited);
                }
                desk.stays_open(|| self.services.accounts.of(self.shared.name()));
            }
            (desk.close_current(), desk.after())
        };
        let (from, reply) = current.map_or((None, None), |current| (current.from, current.reply));
        let answer = |outcome| reply.as_ref().is_some_and(|reply| reply.answer(outcome));
        match result {
            Ok(Answer::Later) => {}
            Ok(Answer::Now(bytes)) => drop(answer(Ok(bytes))),
            Err(Some(Fault::Refused(why))) => {
                self.shared.counters.failures().rejected.fetch_add(1, Relaxed);
                answer(Err(CallError::Rejected(why)));
            }
            Err(dead) => {
                let reason = exit_reason(dead);
                // On trial the message is kept: the old revision will answer it.
                if self.trial.is_none() {
                    answer(Err(CallError::Down(reason.clone())));
                    Box::pin(self.ended_by(Letter::call(from, request.take().0), &reason)).await;
                }
                return (Some(reason), Some(after));
            }
        }
        (None, Some(after))
    }

    pub(super) async fn cast(
        &mut self,
        from: Option<Name>,
        message: Payload,
        pass: Option<Arc<Pass>>,
    ) -> Option<ExitReason> {
        let mut casts = InHand::new(Casts { batch: vec![message], from: vec![from], passes: vec![pass] });
        if self.batches() {
            let room = std::cell::Cell::new(self.settings.limits.payload.saturating_sub(casts.batch[0].len() as u64));
            let more = self.shared.mailbox.take_while(BATCH_MAX - 1, |next| {
                let fits = matches!(next, Message::Cast { .. })
                    && next.bytes() as u64 <= room.get()
                    && (self.poison.is_empty() || !self.is_poison(next));
                room.set(room.get().saturating_sub(next.bytes() as u64));
                fits
            });
            for next in more {
                if let Message::Cast { from, message, pass } = next {
                    casts.batch.push(message);
                    casts.from.push(from);
                    casts.passes.push(pass);
                }
            }
        }
        self.one_by_one = self.one_by_one.saturating_sub(1);
        let Some(Live::Worker(instance)) = &mut self.live else {
            // A command has no batches.
            for cast in casts.take().into_messages() {
                Box::pin(self.dead_letter(Letter::of(cast), Cause::Command)).await;
            }
            return None;
        };
        let (batch, single) = (&casts.batch, casts.batch.len() == 1);
        let handled = async {
            if single {
                instance.handle_cast(&batch[0]).await.map(|()| Vec::new())
            } else {
                instance.handle_casts(batch).await
            }
        };
        let result = tokio::select! {
            biased;
            result = handled => result.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        self.shared.counters.handled(batch.len() as u64 - 1);
        match result {
            Ok(failed) => {
                self.casts_went(&casts.passes);
                for (_, error) in failed {
                    self.failed("cast", error);
                }
                None
            }
            Err(Some(Fault::Refused(error))) => {
                self.casts_went(&casts.passes);
                self.failed("cast", error);
                None
            }
            Err(dead) => {
                let reason = exit_reason(dead);
                // On trial the old revision handles it again: then it is seen how it goes.
                if self.trial.is_none() {
                    let casts = casts.take();
                    if single {
                        casts.passes.iter().flatten().for_each(|pass| pass.settle(Sign::Bad));
                        for cast in casts.into_messages() {
                            Box::pin(self.ended_by(Letter::of(cast), &reason)).await;
                        }
                    } else {
                        // Only the one at fault is to be charged: the next incarnation gets them singly.
                        self.one_by_one = u8::try_from(casts.batch.len()).unwrap_or(u8::MAX);
                        let again =
                            casts.into_messages().map(|message| Kept { message, sent: Vec::new(), charged: None });
                        self.replay.extend(again);
                    }
                }
                Some(reason)
            }
        }
    }

    /// Casts were handled; an error as the answer is one too. One over which the worker chose to fail is
    /// as bad as a trap.
    fn casts_went(&self, passes: &[Option<Arc<Pass>>]) {
        if passes.iter().all(Option::is_none) {
            return;
        }
        let fails = self.shared.desk().stop.as_ref().is_some_and(|reason| !reason.is_orderly());
        let sign = if fails { Sign::Bad } else { Sign::Good };
        passes.iter().flatten().for_each(|pass| pass.settle(sign));
    }

    /// Whether casts may be handed over together. Not on trial, where each message is kept with
    /// what was sent for it.
    pub(super) fn batches(&self) -> bool {
        self.component.exports().batch && self.trial.is_none() && self.one_by_one == 0 && self.replay.is_empty()
    }

    pub(super) async fn fact(&mut self, fact: Fact) -> Option<ExitReason> {
        let sort = if matches!(fact, Fact::Timer(..)) { "timer" } else { "down" };
        if let Fact::Down(monitor, ..) = &fact {
            self.shared.desk().demonitor(*monitor);
        }
        let Some(Live::Worker(instance)) = &mut self.live else {
            Box::pin(self.dead_letter(Letter::fact(fact), Cause::Command)).await;
            return None;
        };
        let fact = InHand::new(fact);
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
                    Box::pin(self.ended_by(Letter::fact(fact.take()), &reason)).await;
                }
                Some(reason)
            }
        }
    }

    /// What follows every message: count, keep what was sent, look whether the instance ended, asked
    /// to stop, or is due for a snapshot.
    async fn after_message(&mut self, fault: Option<ExitReason>, after: After) {
        self.shared.counters.handled(1);
        self.unsaved += 1;
        self.idle_since = None;
        let After { sent, stop } = after;
        if let Some(trial) = &mut self.trial {
            if let Some(sent) = sent {
                trial.sent(*sent);
            }
            if fault.is_none() {
                trial.handled();
            }
        }
        if let Some(reason) = fault {
            return Box::pin(self.ended(reason)).await;
        }
        if let Some(Live::Worker(instance)) = &self.live {
            self.shared.counters.memory.store(instance.memory(), Relaxed);
        }
        if let Some(reason) = stop {
            return Box::pin(self.stopped_itself(*reason)).await;
        }
        if self.unsaved >= self.settings.snapshot.messages && self.saves() {
            Box::pin(self.save_if_due(false)).await;
        }
    }

    pub(super) fn failed(&self, sort: &'static str, error: String) {
        self.shared.counters.failures().rejected.fetch_add(1, Relaxed);
        self.services.recorder.emit(Event::MessageFailed { worker: self.shared.name().clone(), sort, error });
    }

    pub(super) async fn dead_letter(&mut self, letter: Letter, cause: Cause<'_>) {
        self.at();
        self.services.dead_letters.put(self.shared.name(), self.revision, letter, cause).await;
    }

    /// A message ended the revision that is the worker's own, not one on trial: that one is rolled
    /// back, and the message is handled again. Whoever called was told; any other becomes a dead
    /// letter, and a call as well once it is poison, so that it can be looked at.
    ///
    /// A kill is not counted: it is part of a stop, whatever message is in hand. Nor is a deadline, in
    /// which others that it waited for may have a part, nor memory that others have taken.
    pub(super) async fn ended_by(&mut self, letter: Letter, reason: &ExitReason) {
        let is_its_own = !matches!(
            reason,
            ExitReason::Killed
                | ExitReason::Failed(Failure::Limit(
                    Limit::Deadline(_) | Limit::HostMemory(_) | Limit::BudgetMemory(_)
                ))
        );
        let content = letter.content().filter(|_| is_its_own);
        let kills = content.map_or(0, |content| self.poison.killed(content));
        if kills >= bounds::POISON_KILLS {
            let (worker, sort, bytes) = (self.shared.name().clone(), letter.sort.as_str(), letter.body.len());
            self.services.recorder.emit(Event::PoisonQuarantined { worker, sort, bytes, kills });
            self.dead_letter(letter, Cause::Poison(Some(reason))).await;
        } else if letter.sort != LetterSort::Call {
            self.dead_letter(letter, Cause::EndedWorker(reason)).await;
        }
    }

    fn is_poison(&self, message: &Message) -> bool {
        content(message).is_some_and(|content| self.poison.is_poison(&content))
    }

    fn meets_poison(&mut self, message: &Message) -> bool {
        content(message).is_some_and(|content| self.poison.meets(&content))
    }

    /// Not run: whoever called is told, any other becomes a dead letter.
    async fn refuse_poison(&mut self, message: Message) {
        // What was recorded for it is not for the next one.
        self.shared.desk().tape = SendTape::Off;
        match message {
            Message::Call(call) => {
                self.shared.counters.failures().rejected.fetch_add(1, Relaxed);
                call.reply.answer(Err(CallError::Rejected(QUARANTINED.to_string())));
            }
            other => self.dead_letter(Letter::of(other), Cause::Poison(None)).await,
        }
    }
}

/// What poison is recognised by. As [`Letter::content`], without a copy of the message.
fn content(message: &Message) -> Option<Content> {
    match message {
        Message::Call(call) => Content::of(LetterSort::Call, &call.request),
        Message::Cast { message, .. } => Content::of(LetterSort::Cast, message),
        Message::Fact(Fact::Timer(_, message)) => Content::of(LetterSort::Timer, message),
        Message::Fact(Fact::Down(..)) => None,
    }
}

/// `None` stands for a kill.
pub(super) fn exit_reason(dead: Option<Fault>) -> ExitReason {
    match dead {
        None => ExitReason::Killed,
        Some(Fault::Dead(failure)) => ExitReason::Failed(failure),
        Some(Fault::Refused(why)) => ExitReason::Failed(Failure::Own(why)),
    }
}
