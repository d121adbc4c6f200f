//! A worker's mailbox: a bounded queue of messages, and a small one of system messages that overtake
//! them. It belongs to the worker, not to an instance: a restart, an upgrade and a rollback keep it.
//!
//! Senders never wait: a full mailbox refuses. What was accepted is taken in order, once.
//!
//! What waits is charged to an account of memory ([`Account`]), and so is what was taken last, until the taker comes
//! for more. It is charged in steps under the mailbox's own lock: most messages touch no account. A taker that sleeps
//! with nothing to take holds nothing.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::message::{Call, Message};
use super::residents::Rest;
use crate::base::{Account, Charge, Holding, RareQueue, bounds};

/// `S` is the worker's system message; the mailbox does not look inside.
pub struct Mailbox<S> {
    queues: Mutex<Queues<S>>,
    /// What is in the queues, as they were let go of last, or before somebody was woken. Who looks at it needs no
    /// lock: what the taker does not see yet will wake it, or make it run again.
    signs: AtomicU8,
    /// A message was handed to the taker past the queues since somebody asked.
    handed: AtomicBool,
    /// The taker has such a message in hand, and is shown to wait all the same. Only who runs it says so.
    in_hand: AtomicBool,
}

/// System messages wait.
const HAS_SYSTEM: u8 = 1;
/// Messages wait, or it is closed.
const HAS_MESSAGES: u8 = 2;
/// The taker waits for messages.
const AWAITED: u8 = 4;

struct Queues<S> {
    /// Boxed: they are rare and large, and what is taken is moved about.
    system: RareQueue<Box<S>>,
    messages: VecDeque<Message>,
    /// Made with the first message, and let go of when the taker sleeps.
    weight: Option<Box<Weight>>,
    /// How many of `messages` are facts.
    facts: u32,
    max: u32,
    closed: bool,
    /// The taker found nothing, and waits.
    idle: bool,
    /// A message was taken since somebody asked.
    used: bool,
    /// The taker's task, which waits for what this says, or for nothing.
    taker: Option<Waker>,
    waits: Option<Take>,
}

/// What the messages weigh, and the account that this is charged to.
#[derive(Debug)]
pub struct Weight {
    /// Payloads of those that wait.
    bytes: u64,
    /// Of what was taken last, with what each message costs besides.
    in_hand: u64,
    charge: Charge,
}

impl Default for Weight {
    fn default() -> Weight {
        Weight { bytes: 0, in_hand: 0, charge: Charge::new(Holding::Mailboxes) }
    }
}

/// What a message is taken to cost.
fn cost(message: &Message) -> u64 {
    message.bytes() as u64 + bounds::MESSAGE_OVERHEAD_BYTES
}

impl<S> Queues<S> {
    /// Payload bytes of what waits.
    fn bytes(&self) -> u64 {
        self.weight.as_ref().map_or(0, |weight| weight.bytes)
    }

    /// What all messages cost, those in hand included.
    fn cost(&self) -> u64 {
        let waiting = self.messages.len() as u64 * bounds::MESSAGE_OVERHEAD_BYTES;
        self.weight.as_ref().map_or(0, |weight| weight.bytes + weight.in_hand + waiting)
    }

    /// Whether one more message fits into the account.
    fn room_for(&mut self, message: &Message, account: impl FnOnce() -> Arc<Account>) -> bool {
        let cost = self.cost() + cost(message);
        self.weight.get_or_insert_default().charge.cover(cost, account).is_ok()
    }

    /// What was in hand is done with.
    fn nothing_in_hand(&mut self) {
        let cost = self.cost();
        let Some(weight) = &mut self.weight else { return };
        let cost = cost - std::mem::take(&mut weight.in_hand);
        weight.charge.ease(cost);
    }

    /// Some of what waited is gone.
    fn ease(&mut self) {
        let cost = self.cost();
        if let Some(weight) = &mut self.weight {
            weight.charge.ease(cost);
        }
    }

    /// Takes all that waits, to put back what is to stay.
    fn take_all(&mut self) -> VecDeque<Message> {
        if let Some(weight) = &mut self.weight {
            weight.bytes = 0;
        }
        self.facts = 0;
        std::mem::take(&mut self.messages)
    }

    /// Whether the taker waits for messages. Who asks has to wake it.
    fn awaited(&mut self) -> bool {
        self.waits.take_if(|take| *take != Take::SystemOnly).is_some()
    }

    fn signs(&self) -> u8 {
        let system = if self.system.is_empty() { 0 } else { HAS_SYSTEM };
        let messages = if self.messages.is_empty() && !self.closed { 0 } else { HAS_MESSAGES };
        let awaited = if self.waits == Some(Take::All) { AWAITED } else { 0 };
        system | messages | awaited
    }

    /// Charged before.
    fn put(&mut self, message: Message) {
        self.weight.get_or_insert_default().bytes += message.bytes() as u64;
        self.facts += u32::from(matches!(message, Message::Fact(_)));
        self.messages.push_back(message);
    }

    fn take(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        if let Some(weight) = &mut self.weight {
            weight.bytes -= message.bytes() as u64;
            weight.in_hand += cost(&message);
        }
        self.facts -= u32::from(matches!(message, Message::Fact(_)));
        Some(message)
    }
}

/// The queues, for as long as this is held.
struct QueuesGuard<'a, S> {
    queues: MutexGuard<'a, Queues<S>>,
    signs: &'a AtomicU8,
}

impl<S> QueuesGuard<'_, S> {
    /// Whoever is woken must not see what the signs were before.
    fn wake(&self) {
        self.show();
        if let Some(taker) = &self.taker {
            taker.wake_by_ref();
        }
    }

    fn show(&self) {
        self.signs.store(self.queues.signs(), Ordering::Relaxed);
    }
}

impl<S> Deref for QueuesGuard<'_, S> {
    type Target = Queues<S>;
    fn deref(&self) -> &Queues<S> {
        &self.queues
    }
}

impl<S> DerefMut for QueuesGuard<'_, S> {
    fn deref_mut(&mut self) -> &mut Queues<S> {
        &mut self.queues
    }
}

impl<S> Drop for QueuesGuard<'_, S> {
    fn drop(&mut self) {
        self.show();
    }
}

/// What the worker's task takes next.
#[derive(Debug)]
pub enum Next<S> {
    System(Box<S>),
    Message(Message),
    /// Only with [`Take::Look`]: a message waits.
    Waiting,
}

/// Which messages the worker can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It has a live instance.
    All,
    /// It has none: messages wait.
    SystemOnly,
    /// It sleeps: messages wait, and it wants to know of them.
    Look,
}

/// Why a message was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// As many messages or bytes wait as may, here or in the account.
    Full,
    /// The worker was removed, or ended idle; the message is handed back: another of its name may take it.
    Closed(Box<Message>),
}

/// Why a system message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemRefused {
    /// As many wait as may.
    Full,
    Closed,
}

impl<S> Mailbox<S> {
    /// `max`: messages that may wait.
    pub fn new(max: usize) -> Mailbox<S> {
        let queues = Queues {
            system: RareQueue::new(),
            messages: VecDeque::new(),
            weight: None,
            facts: 0,
            max: bound(max),
            closed: false,
            idle: false,
            used: false,
            taker: None,
            waits: None,
        };
        Mailbox {
            queues: Mutex::new(queues),
            signs: AtomicU8::new(0),
            handed: AtomicBool::new(false),
            in_hand: AtomicBool::new(false),
        }
    }

    /// `account`: what the message is charged to, asked for where a step of it is needed.
    pub fn push(&self, message: Message, account: impl FnOnce() -> Arc<Account>) -> Result<(), Refused> {
        let mut queues = self.queues();
        if Self::put(&mut queues, message, account)? {
            queues.wake();
        }
        Ok(())
    }

    /// As [`Mailbox::push`], but wakes nobody: true if the taker waits, and is to be run or woken by who
    /// asked.
    pub fn push_quietly(&self, message: Message, account: impl FnOnce() -> Arc<Account>) -> Result<bool, Refused> {
        Self::put(&mut self.queues(), message, account)
    }

    fn put(queues: &mut Queues<S>, message: Message, account: impl FnOnce() -> Arc<Account>) -> Result<bool, Refused> {
        if queues.closed {
            return Err(Refused::Closed(Box::new(message)));
        }
        let bytes = queues.bytes() + message.bytes() as u64;
        let too_many_bytes = bytes > bounds::MAILBOX_BYTES_MAX && !queues.messages.is_empty();
        let too_many = queues.messages.len() >= queues.max as usize || too_many_bytes;
        if too_many || !queues.room_for(&message, account) {
            return Err(Refused::Full);
        }
        queues.put(message);
        Ok(queues.awaited())
    }

    /// A fact from the host (a timer, a down) does not compete with other messages for room in the mailbox. False
    /// when [`bounds::FACTS_MAX`] of them wait already, the account is full, or the mailbox is closed.
    pub fn push_fact(&self, message: Message, account: impl FnOnce() -> Arc<Account>) -> bool {
        self.try_push_fact(message, account).is_ok()
    }

    /// As [`Mailbox::push_fact`]; what finds no room is handed back.
    pub fn try_push_fact(&self, message: Message, account: impl FnOnce() -> Arc<Account>) -> Result<(), Message> {
        let mut queues = self.queues();
        let has_room = !queues.closed && (queues.facts as usize) < bounds::FACTS_MAX;
        if !has_room || !queues.room_for(&message, account) {
            return Err(message);
        }
        Self::put_fact(queues, message);
        Ok(())
    }

    /// A timer of the worker's own that fired: it was charged to the account on the desk, and is charged here whether
    /// it fits or not. What finds no room in the mailbox is handed back.
    pub fn push_fired(&self, message: Message, account: impl FnOnce() -> Arc<Account>) -> Result<(), Message> {
        let mut queues = self.queues();
        if queues.closed || queues.facts as usize >= bounds::FACTS_MAX {
            return Err(message);
        }
        let cost = queues.cost() + cost(&message);
        queues.weight.get_or_insert_default().charge.cover_anyway(cost, account);
        Self::put_fact(queues, message);
        Ok(())
    }

    fn put_fact(mut queues: QueuesGuard<'_, S>, message: Message) {
        queues.put(message);
        if queues.awaited() {
            queues.wake();
        }
    }

    /// Whether one more fact of a timer finds room: timers wait on the desk until it does.
    pub fn has_room_for_timers(&self) -> bool {
        let queues = self.queues();
        (queues.facts as usize) < bounds::FACTS_MAX && queues.bytes() < bounds::MAILBOX_BYTES_MAX
    }

    /// System messages overtake all others; among themselves they keep their order.
    pub fn push_system(&self, message: S) -> Result<(), SystemRefused> {
        let mut queues = self.queues();
        if queues.closed {
            return Err(SystemRefused::Closed);
        }
        if queues.system.len() >= bounds::SYSTEM_QUEUE_MAX {
            return Err(SystemRefused::Full);
        }
        queues.system.push_back(Box::new(message));
        if queues.waits.take().is_some() {
            queues.wake();
        }
        Ok(())
    }

    /// A system message from the supervisor, which has at most one start and one stop under way:
    /// it needs no bound, and must not be refused by what operators sent. False if the mailbox is closed: nobody will
    /// take it.
    pub fn push_supervision(&self, message: S) -> bool {
        let mut queues = self.queues();
        let put = Self::put_supervision(&mut queues, message);
        if put == Some(true) {
            queues.wake();
        }
        put.is_some()
    }

    /// As [`Mailbox::push_supervision`], but wakes nobody: true if the taker waits, and is to be run or woken by
    /// who asked. `None` if it is closed.
    pub fn push_supervision_quietly(&self, message: S) -> Option<bool> {
        Self::put_supervision(&mut self.queues(), message)
    }

    fn put_supervision(queues: &mut Queues<S>, message: S) -> Option<bool> {
        if queues.closed {
            return None;
        }
        queues.system.push_back(Box::new(message));
        Some(queues.waits.take().is_some())
    }

    /// A system message, if one waits.
    pub fn try_system(&self) -> Option<Box<S>> {
        if self.signs.load(Ordering::Relaxed) & HAS_SYSTEM == 0 {
            return None;
        }
        let mut queues = self.queues();
        let message = queues.system.pop_front();
        queues.idle &= message.is_none();
        message
    }

    /// Whether the taker waits for messages, and there are none: one may be handed to it past the queues without
    /// overtaking any that its sender knows of.
    pub fn is_awaited(&self) -> bool {
        self.signs.load(Ordering::Relaxed) == AWAITED
    }

    /// The taker was handed a message so. It is still shown to wait.
    pub fn note_handed(&self) {
        self.handed.store(true, Ordering::Relaxed);
        self.in_hand.store(true, Ordering::Relaxed);
    }

    /// The taker has nothing in hand.
    pub fn note_done(&self) {
        self.in_hand.store(false, Ordering::Relaxed);
    }

    /// If the taker is not done with what it was handed, it is not shown to wait any more.
    pub fn show_busy(&self) {
        if !self.in_hand.load(Ordering::Relaxed) {
            return;
        }
        let mut queues = self.queues();
        (queues.idle, queues.waits) = (false, None);
    }

    /// What can be taken at once; if there is nothing, the taker is shown to be idle, and woken by what comes.
    pub fn next_or_wait(&self, take: Take, taker: &Waker) -> Option<Next<S>> {
        self.note_done();
        if take == Take::All && self.is_awaited() {
            // It was shown to wait before, and what came since wakes it.
            return None;
        }
        let mut queues = self.queues();
        let next = Self::take(&mut queues, take);
        if next.is_none() {
            queues.waits = Some(take);
            match &mut queues.taker {
                Some(known) => known.clone_from(taker),
                known => *known = Some(taker.clone()),
            }
        }
        next
    }

    /// What can be taken at once.
    #[cfg(test)]
    fn try_next(&self, take: Take) -> Option<Next<S>> {
        Self::take(&mut self.queues(), take)
    }

    fn take(queues: &mut Queues<S>, take: Take) -> Option<Next<S>> {
        queues.nothing_in_hand();
        let next = match queues.system.pop_front() {
            Some(message) => Some(Next::System(message)),
            None => match take {
                Take::All => queues.take().map(Next::Message),
                Take::SystemOnly => None,
                Take::Look => (!queues.messages.is_empty()).then_some(Next::Waiting),
            },
        };
        queues.idle = next.is_none();
        queues.used |= matches!(next, Some(Next::Message(_)));
        next
    }

    /// How its taker is: whether it waits with nothing to take, and whether it took a message since
    /// this was asked the last time.
    pub fn rest(&self) -> Rest {
        let mut queues = self.queues();
        if queues.closed {
            Rest::Gone
        } else if !queues.idle || !queues.messages.is_empty() || !queues.system.is_empty() {
            Rest::Busy
        } else if std::mem::take(&mut queues.used) | self.handed.swap(false, Ordering::Relaxed) {
            Rest::Used
        } else {
            Rest::Idle
        }
    }

    /// Has the taker woken by the next thing that it can take, and lets go of what memory is not needed until
    /// then. False if there is something already.
    pub fn will_wake(&self, take: Take, taker: &Waker) -> bool {
        let mut queues = self.queues();
        if !queues.messages.is_empty() || !queues.system.is_empty() {
            return false;
        }
        queues.idle = true;
        queues.waits = Some(take);
        queues.taker = Some(taker.clone());
        // It may be long before anything comes.
        (queues.system, queues.messages, queues.weight) = (RareQueue::new(), VecDeque::new(), None);
        true
    }

    /// Waits for the next. May be dropped at any time without losing a message.
    #[cfg(test)]
    async fn next(&self, take: Take) -> Next<S> {
        poll_fn(|context| self.next_or_wait(take, context.waker()).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// The same, after [`Mailbox::next_or_wait`] gave nothing to this taker: what came since has woken it.
    pub async fn next_woken(&self, take: Take) -> Next<S> {
        let mut is_woken = false;
        poll_fn(|context| {
            if !std::mem::replace(&mut is_woken, true) {
                return Poll::Pending;
            }
            self.next_or_wait(take, context.waker()).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Takes messages from the front while `wanted` says so, at most `max`.
    pub fn take_while(&self, max: usize, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut queues = self.queues();
        let count = queues.messages.iter().take(max).take_while(|message| wanted(message)).count();
        (0..count).filter_map(|_| queues.take()).collect()
    }

    /// Lets go of the messages that are not wanted any more.
    pub fn retain(&self, wanted: impl Fn(&Message) -> bool) {
        let mut queues = self.queues();
        let messages = queues.take_all();
        messages.into_iter().filter(|message| wanted(message)).for_each(|message| queues.put(message));
        queues.ease();
    }

    /// Takes the calls out; the rest goes on waiting.
    pub fn take_calls(&self) -> Vec<Call> {
        let mut queues = self.queues();
        if !queues.messages.iter().any(|message| matches!(message, Message::Call(_))) {
            return Vec::new();
        }
        let messages = queues.take_all();
        let mut calls = Vec::new();
        for message in messages {
            match message {
                Message::Call(call) => calls.push(call),
                other => queues.put(other),
            }
        }
        queues.ease();
        calls
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.queues().messages.len()
    }

    /// A new bound holds for what comes; what waits already is kept.
    pub fn set_max(&self, max: usize) {
        self.queues().max = bound(max);
    }

    /// Refuses everything from now on and hands over what waited, with what it is charged to.
    pub fn close(&self) -> (Vec<Box<S>>, Vec<Message>, Option<Box<Weight>>) {
        let mut queues = self.queues();
        queues.closed = true;
        let messages = queues.take_all();
        (queues.system.take().into(), messages.into(), queues.weight.take())
    }

    /// Refuses everything from now on, if nothing waits. False if something does: then nothing changes. For the
    /// taker, which has nothing in hand.
    pub fn close_if_empty(&self) -> bool {
        let mut queues = self.queues();
        let is_empty = queues.messages.is_empty() && queues.system.is_empty();
        queues.closed |= is_empty;
        if is_empty {
            // Whoever knows this worker still may do so for long.
            queues.weight = None;
        }
        is_empty
    }

    fn queues(&self) -> QueuesGuard<'_, S> {
        QueuesGuard { queues: self.queues.lock().unwrap_or_else(PoisonError::into_inner), signs: &self.signs }
    }
}

/// More than there could be is no bound.
fn bound(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;
    use crate::base::{Payload, TimerId};
    use crate::sandbox::Fact;

    /// Where nothing is refused.
    fn free() -> Arc<Account> {
        Account::new(u64::MAX)
    }

    fn cast(text: &str) -> Message {
        Message::Cast { from: None, message: Payload::from(text), pass: None }
    }

    fn text(next: Option<Next<&str>>) -> String {
        match next {
            Some(Next::System(name)) => name.to_string(),
            Some(Next::Message(Message::Cast { message, .. })) => String::from_utf8_lossy(&message).to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn system_messages_overtake_and_order_is_kept_within_a_class() {
        let mailbox = Mailbox::new(10);
        for message in [cast("1"), cast("2")] {
            mailbox.push(message, free).unwrap();
        }
        mailbox.push_system("stop").unwrap();
        mailbox.push_system("health").unwrap();
        let taken: Vec<String> = (0..5).map(|_| text(mailbox.try_next(Take::All))).collect();
        assert_eq!(taken, ["stop", "health", "1", "2", "None"]);
    }

    #[test]
    fn a_full_mailbox_refuses_at_once_and_keeps_what_it_has() {
        let mailbox: Mailbox<&str> = Mailbox::new(1);
        mailbox.push(cast("1"), free).unwrap();
        assert!(matches!(mailbox.push(cast("2"), free), Err(Refused::Full)));
        assert!(mailbox.push_fact(cast("fact"), free));
        mailbox.push_system("stop").unwrap();
        assert_eq!(mailbox.len(), 2);
        assert_eq!(text(mailbox.try_next(Take::SystemOnly)), "stop");
        assert_eq!(text(mailbox.try_next(Take::SystemOnly)), "None");
        assert_eq!(text(mailbox.try_next(Take::All)), "1");
    }

    #[test]
    fn a_mailbox_is_bounded_in_bytes_too_but_takes_one_message_of_any_size() {
        let mailbox: Mailbox<&str> = Mailbox::new(100);
        let huge = || Payload::from(vec![0; bounds::MAILBOX_BYTES_MAX as usize + 1]);
        let large = || Message::Cast { from: None, message: huge(), pass: None };
        mailbox.push(large(), free).unwrap();
        assert!(matches!(mailbox.push(cast("1"), free), Err(Refused::Full)));
        assert!(!mailbox.has_room_for_timers());
        assert!(mailbox.try_next(Take::All).is_some());
        mailbox.push(cast("1"), free).unwrap();
        assert!(mailbox.has_room_for_timers());
    }

    #[test]
    fn facts_are_bounded() {
        let mailbox: Mailbox<&str> = Mailbox::new(1);
        let fact = || Message::Fact(crate::sandbox::Fact::Timer(crate::base::TimerId(1), Payload::default()));
        assert!((0..bounds::FACTS_MAX).all(|_| mailbox.push_fact(fact(), free)));
        assert!(!mailbox.push_fact(fact(), free));
        assert!(mailbox.try_next(Take::All).is_some());
        assert!(mailbox.push_fact(fact(), free));
    }

    #[test]
    fn one_that_sleeps_is_told_of_a_message_and_leaves_it() {
        let mailbox: Mailbox<&str> = Mailbox::new(5);
        assert!(mailbox.try_next(Take::Look).is_none());
        mailbox.push(cast("1"), free).unwrap();
        assert!(matches!(mailbox.try_next(Take::Look), Some(Next::Waiting)));
        assert_eq!(text(mailbox.try_next(Take::All)), "1");
    }

    #[test]
    fn idle_is_whose_taker_found_nothing() {
        let mailbox: Mailbox<&str> = Mailbox::new(5);
        assert_eq!(mailbox.rest(), Rest::Busy, "it has not looked yet");
        assert!(mailbox.try_next(Take::All).is_none());
        assert_eq!(mailbox.rest(), Rest::Idle);
        mailbox.push(cast("1"), free).unwrap();
        assert_eq!(mailbox.rest(), Rest::Busy);
        mailbox.try_next(Take::All);
        assert_eq!(mailbox.rest(), Rest::Busy, "it handles it");
        mailbox.try_next(Take::All);
        assert_eq!((mailbox.rest(), mailbox.rest()), (Rest::Used, Rest::Idle));
        mailbox.close();
        assert_eq!(mailbox.rest(), Rest::Gone);
    }

    #[test]
    fn a_closed_mailbox_hands_over_what_waited_and_refuses() {
        let mailbox: Mailbox<&str> = Mailbox::new(5);
        mailbox.push(cast("1"), free).unwrap();
        assert_eq!(mailbox.close().1.len(), 1);
        assert!(matches!(mailbox.push(cast("2"), free), Err(Refused::Closed(message)) if message.bytes() == 1));
        assert!(mailbox.push_system("stop").is_err());
        assert!(!mailbox.push_supervision("stop") && mailbox.push_supervision_quietly("stop").is_none());
    }

    #[test]
    fn what_waits_and_what_is_in_hand_is_charged_and_refused_beyond_the_account() {
        const STEP: u64 = bounds::ACCOUNT_STEP_BYTES;
        let (mailbox, account) = (Mailbox::<&str>::new(1_000), Account::new(STEP * 10));
        let page = || Message::Cast { from: None, message: Payload::from(vec![0; STEP as usize]), pass: None };
        let push = |message| mailbox.push(message, || account.clone());
        // Each takes its page and what a message costs besides.
        let fit = (0..20).take_while(|_| push(page()).is_ok()).count();
        assert_eq!((fit, account.used_by(Holding::Mailboxes)), (9, STEP * 10));
        assert!(!mailbox.push_fact(page(), || account.clone()));
        assert!(matches!(mailbox.try_next(Take::All), Some(Next::Message(_))));
        assert!(matches!(push(page()), Err(Refused::Full)), "what was taken is in hand still");
        assert!(matches!(mailbox.try_next(Take::All), Some(Next::Message(_))), "it is done with the first");
        push(page()).unwrap();
        mailbox.push_fired(page(), || account.clone()).unwrap();
        assert_eq!(account.used(), STEP * 11, "a timer that fired was charged before");
        while mailbox.try_next(Take::All).is_some() {}
        assert_eq!(account.used(), STEP, "one step is kept");
        assert!(mailbox.next_or_wait(Take::Look, Waker::noop()).is_none());
        assert!(mailbox.will_wake(Take::Look, Waker::noop()));
        assert_eq!(account.used(), 0, "and none while its taker sleeps");
    }

    #[test]
    fn a_mailbox_that_is_closed_when_it_is_empty_loses_nothing() {
        let mailbox = Mailbox::<&str>::new(5);
        let account = free();
        mailbox.push(cast("1"), || account.clone()).unwrap();
        assert!(!mailbox.close_if_empty() && account.used() > 0);
        mailbox.push_system("stop").unwrap();
        assert!(mailbox.try_next(Take::All).is_some() && mailbox.try_next(Take::All).is_some());
        assert!(mailbox.close_if_empty() && account.used() == 0);
        assert!(matches!(mailbox.push(cast("2"), free), Err(Refused::Closed(_))));
    }

    /// Whether the mailbox said that it is awaited, each time its taker was woken.
    struct Looks(Arc<Mailbox<&'static str>>, Mutex<Vec<bool>>);

    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0.is_awaited());
        }
    }

    /// One that is woken looks at the signs without the lock, which the sender may hold still.
    #[test]
    fn whoever_is_woken_sees_what_woke_it() {
        let mailbox = Arc::new(Mailbox::new(10));
        let looks = Arc::new(Looks(mailbox.clone(), Mutex::default()));
        let waits = || mailbox.next_or_wait(Take::All, &Waker::from(looks.clone())).is_none();
        let wakes: [fn(&Mailbox<&'static str>); 4] = [
            |mailbox| mailbox.push(cast("a"), free).unwrap(),
            |mailbox| mailbox.push_system("b").unwrap(),
            |mailbox| assert!(mailbox.push_supervision("c")),
            |mailbox| assert!(mailbox.push_fact(Message::Fact(Fact::Timer(TimerId(1), Payload::default())), free)),
        ];
        for wake in wakes {
            assert!(waits() && mailbox.is_awaited());
            assert!(waits(), "a second look changes nothing");
            wake(&mailbox);
            assert!(!mailbox.is_awaited());
            assert!(mailbox.next_or_wait(Take::All, &Waker::from(looks.clone())).is_some());
            assert!(!mailbox.is_awaited(), "it is busy with that");
        }
        assert_eq!(*looks.1.lock().unwrap(), [false; 4]);
    }

    #[test]
    fn nothing_is_handed_past_what_waits_or_into_a_closed_mailbox() {
        let mailbox = Mailbox::<&str>::new(10);
        let waits = |take| mailbox.next_or_wait(take, Waker::noop()).is_none();
        assert!(!mailbox.is_awaited(), "nobody waits yet");
        assert!(waits(Take::SystemOnly) && !mailbox.is_awaited());
        assert!(waits(Take::Look) && !mailbox.is_awaited());
        assert!(waits(Take::All) && mailbox.is_awaited());
        assert_eq!(mailbox.rest(), Rest::Idle);
        mailbox.note_handed();
        assert_eq!((mailbox.rest(), mailbox.rest()), (Rest::Used, Rest::Idle));
        mailbox.show_busy();
        assert_eq!((mailbox.is_awaited(), mailbox.rest()), (false, Rest::Busy));
        assert!(waits(Take::All) && mailbox.is_awaited());
        // It is done with what it was handed, and waits again: what comes must wake it.
        mailbox.note_handed();
        assert!(waits(Take::All));
        mailbox.show_busy();
        assert!(mailbox.is_awaited());
        mailbox.close();
        assert!(!mailbox.is_awaited());
    }

    #[tokio::test]
    async fn a_waiting_taker_is_woken() {
        let mailbox: std::sync::Arc<Mailbox<&str>> = std::sync::Arc::new(Mailbox::new(5));
        let taker = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { text(Some(mailbox.next(Take::All).await)) }
        });
        tokio::task::yield_now().await;
        mailbox.push(cast("1"), free).unwrap();
        assert_eq!(taker.await.unwrap(), "1");
    }
}
