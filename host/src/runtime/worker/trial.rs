//! What is kept between a switch and the end of its probation, so that the old instance can come
//! back as if the new one had never been.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::desk::{Holdings, Recording, Sent, Spent};
use super::system::{TrialEvent, TrialTerms};
use crate::base::{ExitReason, RevisionNumber, Snapshot, TimerId};
use crate::runtime::message::Message;
use crate::runtime::poison::Poison;
use crate::sandbox::{Component, Fact, Instance, Kind};

pub struct Trial {
    pub before: Before,
    /// What the new instance took, in order, the failing message included.
    kept: VecDeque<Kept>,
    keep: Keep,
    messages_left: Option<u64>,
    owner: mpsc::Sender<TrialEvent>,
    said_full: bool,
    /// How the new instance ended, when it has.
    pub failed: Option<ExitReason>,
    fired: Vec<Spent>,
    /// Whether the last kept message is being handled, or ended the instance.
    at_hand: bool,
}

/// The worker as it was at the switch.
pub struct Before {
    /// `None` for a command, which is started again, and for a worker that hibernated.
    pub instance: Option<Instance>,
    pub component: Component,
    pub revision: RevisionNumber,
    pub state: Option<Snapshot>,
    pub desk: Holdings,
    pub poison: Poison,
}

impl Before {
    /// Whether the worker hibernated at the switch.
    pub fn slept(&self) -> bool {
        self.instance.is_none() && self.component.kind() == Kind::Worker
    }
}

/// A message the new instance took, and what was sent while it was handled.
#[derive(Clone, Debug)]
pub struct Kept {
    pub message: Message,
    pub sent: Vec<Sent>,
}

struct Keep {
    messages_max: usize,
    bytes_max: u64,
    bytes: u64,
}

impl Trial {
    pub fn new(before: Before, terms: TrialTerms) -> Trial {
        Trial {
            before,
            kept: VecDeque::new(),
            keep: Keep { messages_max: terms.keep_messages, bytes_max: terms.keep_bytes, bytes: 0 },
            messages_left: terms.messages,
            owner: terms.owner,
            said_full: false,
            failed: None,
            fired: Vec::new(),
            at_hand: false,
        }
    }

    /// Keeps a message before the new instance takes it. Once a bound is reached the owner is told
    /// and must settle: from then on nothing more can be handed back.
    pub fn keep(&mut self, message: &Message) {
        self.keep.bytes += message.bytes() as u64;
        self.at_hand = true;
        self.kept.push_back(Kept { message: message.clone(), sent: Vec::new() });
        self.check();
    }

    /// Adds what was sent while the last kept message was handled.
    pub fn sent(&mut self, recording: Recording) {
        self.keep.bytes += recording.bytes;
        if recording.overflowed {
            self.keep.bytes = self.keep.bytes.max(self.keep.bytes_max);
        }
        if let Some(last) = self.kept.back_mut() {
            last.sent = recording.sent;
        }
        self.check();
    }

    /// A timer fired: a rollback does not set it again, its fact is kept or in the mailbox.
    pub fn fired(&mut self, timer: TimerId) {
        self.fired.push(Spent::Timer(timer));
    }

    /// The last kept message was handled.
    pub fn handled(&mut self) {
        self.at_hand = false;
        if let Some(left) = &mut self.messages_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.messages_left = None;
                self.tell(TrialEvent::Enough);
            }
        }
    }

    /// Whether the last kept message was not handled to its end.
    pub fn is_at_hand(&self) -> bool {
        self.at_hand
    }

    /// Whether a bound was reached: the trial waits to be settled, and nothing may be taken until
    /// then, or a rollback would lose it.
    pub fn is_full(&self) -> bool {
        self.said_full
    }

    /// False if the owner is gone: then the worker decides for itself.
    pub fn tell(&self, event: TrialEvent) -> bool {
        self.owner.try_send(event).is_ok()
    }

    /// The owner has gone without a verdict.
    pub fn is_orphan(&self) -> bool {
        self.owner.is_closed()
    }

    pub fn owner(&self) -> mpsc::Sender<TrialEvent> {
        self.owner.clone()
    }

    /// Timers and monitors whose facts are among the kept messages.
    pub fn spent(&self) -> Vec<Spent> {
        let facts = self.kept.iter().filter_map(|kept| match &kept.message {
            Message::Fact(Fact::Timer(timer, _)) => Some(Spent::Timer(*timer)),
            Message::Fact(Fact::Down(monitor, ..)) => Some(Spent::Monitor(*monitor)),
            _ => None,
        });
        facts.chain(self.fired.iter().copied()).collect()
    }

    pub fn into_parts(self) -> (Before, VecDeque<Kept>) {
        (self.before, self.kept)
    }

    fn check(&mut self) {
        if self.said_full {
            return;
        }
        let (bound, value) = if self.kept.len() >= self.keep.messages_max {
            ("keep-messages", self.keep.messages_max as u64)
        } else if self.keep.bytes >= self.keep.bytes_max {
            ("keep-bytes", self.keep.bytes_max)
        } else {
            return;
        };
        self.said_full = true;
        self.tell(TrialEvent::Full { bound, value });
    }
}
