//! What a worker does after a panic in its task: the instance goes, whoever waits for it is told, what waits in the
//! mailbox stays, and its supervisor decides, as after a trap.
//!
//! ```text
//! poll panics --> caught (runner.rs) --> what is left (rescue.rs) --> recover --> the worker's loop goes on
//!                        ^                                              |
//!                        +------ panics again, three times at most -----+--> give up: the supervisor is told
//! ```
//!
//! The task is a new future over the same [`Driver`]. What it knows is as it was when it waited last, but for what it
//! had in hand, which is finished here by what it was.

use super::alarm::Alarm;
use super::desk::SendTape;
use super::door::carry_out;
use super::driver::Driver;
use super::ending::{Asked, Wound};
use super::guard::Sign;
use super::rescue::{Ending, Fault, Hand, InHand};
use super::shared::Standing;
use super::system::System;
use super::trial::Kept as KeptMessage;
use crate::base::{ExitReason, Failure, HostFault, Name, panics};
use crate::record::Event;
use crate::runtime::dead_letters::{Cause, Letter};
use crate::runtime::handoff;
use crate::runtime::message::Message;
use crate::runtime::supervisor::Report;
use crate::sandbox::{CallError, Fact};

/// What follows a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    On,
    /// It has left the tree.
    Ends,
}

/// What was in hand that decides how the worker ends.
#[derive(Default)]
struct Under {
    quit: Option<Cause<'static>>,
    ending: Option<Ending>,
    stop: Option<Asked>,
    starts: bool,
}

impl Under {
    fn of(hands: &[Hand]) -> Under {
        let mut under = Under::default();
        for hand in hands {
            match hand {
                Hand::Quit(why) => under.quit = Some(*why),
                // The innermost: what it was about last.
                Hand::Ending(ending) => drop(under.ending.get_or_insert_with(|| ending.clone())),
                Hand::Stop(asked) => under.stop = Some(*asked),
                Hand::Start => under.starts = true,
                _ => {}
            }
        }
        under
    }
}

impl Driver {
    pub async fn recover(&mut self, fault: Box<Fault>) -> Goes {
        let reason = ExitReason::host_fault(fault.fault.clone());
        // Should it panic here, what is still to be done is left once more.
        let mut fault = InHand::new(fault);
        let under = Under::of(&fault.hands);
        if under.quit.is_some() || under.ending.is_some() || self.trial.is_some() || self.pending_stop.is_some() {
            // It ends, or has ended, for another reason than this, or is rolled back.
            self.emit_fault(&fault.fault);
        }
        self.let_instance_go(&reason);
        // A message that says what is in force may have been in hand.
        self.configure(self.shared.settings());
        let from = self.answer_what_is_in_hand(&reason);
        self.at();
        if let Some(why) = under.quit {
            // What was about to become a dead letter does so.
            for hand in std::mem::take(&mut fault.hands) {
                match hand {
                    Hand::Replay(kept) => self.replay.push_front(kept),
                    other => fault.hands.push(other),
                }
            }
            self.quit(why).await;
            drop(fault.take());
            return Goes::Ends;
        }
        // The innermost first. What is rare among these is a mark of the desk, or messages that were on their way back.
        while !fault.hands.is_empty() {
            match fault.hands.remove(0) {
                Hand::Letter(letter) if self.trial.is_none() => {
                    // Who called was on the desk.
                    let from = letter.from.clone().or_else(|| from.clone());
                    self.ended_by(Letter { from, ..letter }, &reason).await;
                }
                Hand::Casts(casts) if self.trial.is_none() => self.casts_ended(casts, &reason).await,
                Hand::Replay(kept) => self.replay.push_front(kept),
                Hand::Mark(mark) => {
                    let change = self.shared.desk().put_back(*mark, &[]);
                    carry_out(change, self.shared.name(), &self.services);
                }
                // On trial a message is kept. The others say how it ends, and have been looked at.
                _ => {}
            }
        }
        // Again in the hand, in case that what follows panics.
        fault.hands.extend(under.starts.then_some(Hand::Start));
        fault.hands.extend(under.stop.map(Hand::Stop));
        fault.hands.extend(under.ending.clone().map(Hand::Ending));
        self.end_after_fault(under, reason).await;
        drop(fault.take());
        Goes::On
    }

    /// The engine may be in any state: what its end does is nobody else's affair.
    fn let_instance_go(&mut self, reason: &ExitReason) {
        let was_live = self.take_live();
        if let Err(again) = panics::let_go(was_live) {
            let part = format!("the instance of {:?}, which is let go of after: {reason}", self.shared.name());
            self.services.recorder.emit(Event::HostFault { part, fault: again });
        }
        (self.asleep, self.room, self.in_line, self.idle_since) = (None, None, None, None);
        // Its timer is known to the runtime; a new one is.
        self.alarm = Alarm::default();
    }

    /// Gives who called, of a call.
    fn answer_what_is_in_hand(&mut self, reason: &ExitReason) -> Option<Name> {
        let current = {
            let mut desk = self.shared.desk();
            (desk.tape, desk.stop, desk.hibernate) = (SendTape::Off, None, false);
            desk.close_current()
        };
        // On trial the old revision will answer it.
        if self.trial.is_some() {
            return None;
        }
        let down = || Err(CallError::Down(reason.clone()));
        let (from, reply) = current.map_or((None, None), |current| (current.from, current.reply));
        match reply {
            Some(reply) => {
                reply.answer(down());
            }
            // It was taken, and had not come to the desk.
            None => handoff::answer_for(&self.shared, down()),
        }
        from
    }

    /// One cast is charged as after a trap; of several, each is handled by itself first.
    async fn casts_ended(&mut self, mut casts: Vec<Message>, reason: &ExitReason) {
        if casts.len() > 1 {
            self.one_by_one = u8::try_from(casts.len()).unwrap_or(u8::MAX);
            let again = casts.into_iter().map(|message| KeptMessage { message, sent: Vec::new(), charged: None });
            self.replay.extend(again);
        } else if let Some(cast) = casts.pop() {
            if let Message::Cast { pass: Some(pass), .. } = &cast {
                pass.settle(Sign::Bad);
            }
            self.ended_by(Letter::of(cast), reason).await;
        }
    }

    /// Ends what was there as its supervisor, or the owner of the trial, knows it.
    async fn end_after_fault(&mut self, under: Under, reason: ExitReason) {
        if self.trial.is_some() {
            return match under.stop {
                Some(asked) => self.stop_on_trial(Wound::of(reason.clone()), reason, asked),
                None => self.ended(reason).await,
            };
        }
        if let Some(ending) = under.ending {
            return self.tell_end(ending).await;
        }
        if let Some(stop) = self.pending_stop.take() {
            return self.finish_stop(stop.end, stop.asked).await;
        }
        let standing = self.shared.status().standing;
        let is_up = !matches!(standing, Standing::Down | Standing::Restarting | Standing::Isolated(_));
        let asked = match under.stop {
            Some(asked) => asked,
            None if standing == Standing::Starting || (under.starts && !is_up) => {
                return self.start_failed(reason).await;
            }
            None if is_up => Asked::No,
            // Nothing ran, and nobody waits for a word.
            None => {
                if let ExitReason::Failed(Failure::HostFault(fault)) = &reason {
                    self.emit_fault(fault);
                }
                return;
            }
        };
        self.finish_stop(reason, asked).await;
    }

    fn emit_fault(&self, fault: &HostFault) {
        let part = format!("the task of {:?}", self.shared.name());
        self.services.recorder.emit(Event::HostFault { part, fault: fault.clone() });
    }

    /// Whatever it does panics. Its mailbox is closed, so that its supervisor hears at once of what it asks from now
    /// on, and here of what it has asked.
    pub fn ends_for_good(mut self: Box<Self>, fault: &HostFault) {
        let (reports, child) = (self.reports(), self.shared.name().clone());
        let reason = ExitReason::host_fault(fault.clone());
        let closed = panics::catch(|| self.shared.mailbox.close());
        let (system, messages) = closed.map(|(system, messages, _)| (system, messages)).unwrap_or_default();
        // What was asked of it last is what its supervisor waits for.
        let asked = system.iter().rev().find_map(|message| match **message {
            System::Stop { .. } => Some(Report::Stopped { child: child.clone() }),
            System::Start { .. } => Some(Report::StartFailed { child: child.clone(), reason: reason.clone() }),
            _ => None,
        });
        let report = asked.unwrap_or(Report::Exited { child, reason: reason.clone() });
        let tried = |what: &mut dyn FnMut()| drop(panics::catch(what));
        tried(&mut || self.emit_fault(fault));
        tried(&mut || drop(self.trial.take()));
        tried(&mut || drop(self.answer_what_is_in_hand(&reason)));
        tried(&mut || self.nobody_waits_any_more(&reason));
        tried(&mut || self.shared.stand(Standing::Down, self.services.clock.now()));
        let _ = panics::let_go((self, system, messages));
        tokio::spawn(async move {
            let _ = reports.send(report).await;
        });
    }

    /// The end is on the record, and those are told that wait for it, as far as they can be told at once.
    fn nobody_waits_any_more(&mut self, reason: &ExitReason) {
        self.shared.ended(reason, false);
        for call in self.shared.desk().take_open(false) {
            call.reply.answer(Err(CallError::Down(reason.clone())));
        }
        let name = self.shared.name();
        for (watcher, monitor) in self.services.monitors.take(name) {
            let Some(watcher) = self.services.registry.get(&watcher) else { continue };
            let fact = Fact::Down(monitor, name.to_string(), reason.clone());
            let account = || self.services.accounts.of(watcher.name());
            // One that is full of messages is not waited for.
            let _ = watcher.mailbox.try_push_fact(Message::Fact(fact), account);
        }
    }

    /// Each recovery panicked as well. Nothing more is tried than what must not be left out: callers are told, and
    /// the supervisor is, from a task that has nothing of this worker. `None`: it was about to leave the tree.
    pub fn give_up(mut self: Box<Self>, fault: Fault) -> Option<Box<Driver>> {
        let Fault { fault, hands, .. } = fault;
        let reason = ExitReason::host_fault(fault.clone());
        let under = Under::of(&hands);
        let services = self.services.clone();
        let tried = |what: &mut dyn FnMut()| drop(panics::catch(what));
        tried(&mut || self.emit_fault(&fault));
        tried(&mut || self.let_instance_go(&reason));
        tried(&mut || drop(self.trial.take()));
        tried(&mut || drop(self.answer_what_is_in_hand(&reason)));
        self.pending_stop = None;
        if under.quit.is_some() {
            tried(&mut || {
                services.registry.remove(&self.shared);
            });
            tried(&mut || drop(self.shared.mailbox.close()));
            return None;
        }
        tried(&mut || self.nobody_waits_any_more(&reason));
        let asked = under.stop.or(under.ending.and_then(|ending| ending.asked)).unwrap_or(Asked::No);
        let child = self.shared.name().clone();
        let report = match asked {
            Asked::No => Report::Exited { child, reason },
            Asked::Yes | Asked::ComesBack => Report::Stopped { child },
        };
        tried(&mut || self.shared.stand(asked.standing(), services.clock.now()));
        let reports = self.reports();
        // An error means that the supervisor has ended, and nobody is left to tell.
        tokio::spawn(async move {
            let _ = reports.send(report).await;
        });
        Some(self)
    }
}
