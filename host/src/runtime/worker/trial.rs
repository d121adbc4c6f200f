//! What is kept between a switch and the end of its probation, so that the old instance can come
//! back as if the new one had never been.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::desk::{Holdings, Recording, Sent, Spent};
use super::system::{TrialEvent, TrialTerms};
use crate::base::{Account, Charge, ExitReason, Full, Holding, RevisionNumber, Snapshot, TimerId, bounds};
use crate::runtime::message::Message;
use crate::runtime::poison::Poison;
use crate::sandbox::{Component, Fact, Instance, Kind};

pub struct Trial {
    pub before: Before,
    /// What the new instance took, in order, the failing message included.
    kept: VecDeque<Kept>,
    keep: Keep,
    account: Arc<Account>,
    charge: Charge,
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
    /// What all that a trial kept is charged to: given back with the last that is handled again.
    pub charged: Option<Arc<Charge>>,
}

struct Keep {
    messages_max: usize,
    bytes_max: u64,
    bytes: u64,
    /// What the messages cost besides, and what was kept at the switch.
    besides: u64,
}

impl Trial {
    /// `account`: what is kept is charged to it. What there is at the switch is kept in any case.
    pub fn new(before: Before, terms: TrialTerms, account: Arc<Account>) -> Trial {
        let besides = before.state.as_ref().map_or(0, |state| state.len() as u64) + before.desk.cost();
        let mut charge = Charge::new(Holding::Probation);
        charge.cover_anyway(besides, || account.clone());
        Trial {
            before,
            kept: VecDeque::new(),
            keep: Keep { messages_max: terms.keep_messages, bytes_max: terms.keep_bytes, bytes: 0, besides },
            account,
            charge,
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
        self.keep.besides += bounds::MESSAGE_OVERHEAD_BYTES;
        self.at_hand = true;
        self.kept.push_back(Kept { message: message.clone(), sent: Vec::new(), charged: None });
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

    pub fn into_parts(mut self) -> (Before, VecDeque<Kept>) {
        let charged = Arc::new(self.charge);
        self.kept.iter_mut().for_each(|kept| kept.charged = Some(charged.clone()));
        (self.before, self.kept)
    }

    /// What was kept last is counted in any case; if it finds no room in the account, that is a bound like the others.
    fn charge(&mut self) -> Result<(), Full> {
        let (cost, account) = (self.keep.bytes + self.keep.besides, &self.account);
        let charged = self.charge.cover(cost, || account.clone());
        if charged.is_err() {
            self.charge.cover_anyway(cost, || account.clone());
        }
        charged
    }

    fn check(&mut self) {
        let charged = self.charge();
        if self.said_full {
            return;
        }
        let (bound, value) = if self.kept.len() >= self.keep.messages_max {
            ("keep-messages", self.keep.messages_max as u64)
        } else if self.keep.bytes >= self.keep.bytes_max {
            ("keep-bytes", self.keep.bytes_max)
        } else if let Err(full) = charged {
            ("host-memory", full.max)
        } else {
            return;
        };
        self.said_full = true;
        self.tell(TrialEvent::Full { bound, value });
    }
}
