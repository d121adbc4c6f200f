//! What a worker holds besides its state: timers, open calls, groups, monitors. It lies on the desk
//! and not in the instance, so that it moves with the worker through upgrade and rollback.
//!
//! The worker's task and, during a guest's run, the imports of that same task use it: the lock is
//! never contended.
//!
//! What lies on it is charged to an account of memory ([`Account`]), in steps. What a rollback puts back is charged
//! whether it fits or not.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::base::{
    Account, CallId, Charge, ExitReason, Full, Holding, Limit, MonitorId, Name, Payload, Tick, TimerId, bounds,
};
use crate::runtime::message::{Awaited, Call, CallHead, Message, Outcome, ReplyTo};
use crate::sandbox::{CallError, Fact};

#[derive(Default)]
pub struct Desk {
    holdings: Holdings,
    last_timer: TimerId,
    last_monitor: MonitorId,
    /// The call that is being handled: most are answered before the guest returns.
    current: Option<Current>,
    /// Set by `control.stop`; taken when the message has been handled.
    pub stop: Option<ExitReason>,
    /// Set by `control.hibernate`; holds until the worker sleeps or cannot.
    pub hibernate: bool,
    /// Bounds that were reached and said to be, each once for an instance.
    pub said: BTreeSet<&'static str>,
    pub tape: SendTape,
    charges: Charges,
    /// Open calls beyond which there is no room in the account.
    open_max: Option<usize>,
}

/// What the holdings are charged to.
struct Charges {
    timers: Charge,
    entries: Charge,
}

impl Default for Charges {
    fn default() -> Charges {
        Charges { timers: Charge::new(Holding::Timers), entries: Charge::new(Holding::Desks) }
    }
}

/// The call that is being handled.
pub struct Current {
    id: CallId,
    pub from: Option<Name>,
    deadline: Tick,
    /// `None`: the guest has answered it.
    pub reply: Option<ReplyTo>,
    /// What the guest asks of others meanwhile is asked for this caller: it takes no longer than the caller
    /// waits, and ends when the caller goes.
    is_for_caller: bool,
}

/// What a message left on the desk that says what follows. Most leave nothing.
#[derive(Default)]
pub struct After {
    /// If something was recorded.
    pub sent: Option<Box<Recording>>,
    /// `control.stop`.
    pub stop: Option<Box<ExitReason>>,
}

/// What is to be looked at while nothing is handled; kept beside the desk, so that a look at it needs no
/// lock.
pub const HAS_TIMERS: u8 = 1;
pub const HIBERNATES: u8 = 2;

/// What a rollback puts back.
#[derive(Clone, Default)]
pub struct Holdings {
    /// Shared with what a rollback puts back.
    timers: BTreeMap<(Tick, TimerId), Arc<Payload>>,
    due: HashMap<TimerId, Tick>,
    timer_bytes: u64,
    /// By age: callers are told in the order in which they called.
    open: BTreeMap<CallId, Open>,
    groups: BTreeSet<String>,
    group_bytes: u64,
    monitors: BTreeMap<MonitorId, Name>,
    /// The newest ids at the mark: later ones belong to what is rolled back.
    last_timer: TimerId,
    last_monitor: MonitorId,
}

/// A call that the guest was handed and has not answered.
#[derive(Clone)]
struct Open {
    id: CallId,
    from: Option<Name>,
    deadline: Tick,
    reply: ReplyTo,
    /// Whether the last snapshot was taken since: the state knows of it.
    saved: bool,
}

impl Holdings {
    /// A snapshot was taken: the state knows of the calls that are open.
    pub fn saved(&mut self) {
        self.open.values_mut().for_each(|open| open.saved = true);
    }

    /// Whether a fact is about something that was held at the mark. One of a later timer or monitor
    /// belongs to what is rolled back: the old revision sets its own when it handles the cause again.
    pub fn knows(&self, message: &Message) -> bool {
        match message {
            Message::Fact(Fact::Timer(timer, _)) => *timer <= self.last_timer,
            Message::Fact(Fact::Down(monitor, ..)) => *monitor <= self.last_monitor,
            Message::Call(_) | Message::Cast { .. } => true,
        }
    }

    /// Bytes that all of it is taken to cost.
    pub fn cost(&self) -> u64 {
        self.timers_cost() + self.entries_cost()
    }

    fn timers_cost(&self) -> u64 {
        self.timer_bytes + self.timers.len() as u64 * bounds::TIMER_OVERHEAD_BYTES
    }

    fn entries_cost(&self) -> u64 {
        let entries = self.open.len() + self.groups.len() + self.monitors.len();
        // A group's name is here and in the table of all groups.
        entries as u64 * bounds::DESK_ENTRY_BYTES + 2 * self.group_bytes
    }

    fn drop_timer(&mut self, due: Tick, timer: TimerId) -> bool {
        let dropped = self.timers.remove(&(due, timer));
        self.timer_bytes -= dropped.as_ref().map_or(0, |message| message.len() as u64);
        dropped.is_some()
    }
}

/// A call or a cast that a guest made while it handled one message.
#[derive(Clone, Debug)]
pub struct Sent {
    pub to: String,
    pub body: Payload,
    pub result: SentResult,
}

#[derive(Clone, Debug)]
pub enum SentResult {
    Cast,
    Call(Outcome),
}

/// Remembers what was sent during probation, so that a replay does not send it twice.
#[derive(Default)]
pub enum SendTape {
    #[default]
    Off,
    Record(Recording),
    /// What the new revision sent for the message that the old one handles again.
    Replay(VecDeque<Sent>),
}

/// What one message sent so far.
#[derive(Debug, Default)]
pub struct Recording {
    pub sent: Vec<Sent>,
    pub bytes: u64,
    /// More was sent than is kept: a rollback could send it twice.
    pub overflowed: bool,
}

impl Sent {
    fn bytes(&self) -> u64 {
        let reply = match &self.result {
            SentResult::Call(Ok(reply)) => reply.len(),
            _ => 0,
        };
        (self.to.len() + self.body.len() + reply + SENT_OVERHEAD) as u64
    }
}

/// What an entry costs besides its bytes.
const SENT_OVERHEAD: usize = 128;

/// Whether a call failed before it was in a mailbox.
fn was_not_sent(error: &CallError) -> bool {
    matches!(
        error,
        CallError::NotFound
            | CallError::Overloaded
            | CallError::CircuitOpen
            | CallError::Cycle(_)
            | CallError::TooLarge { .. }
    )
}

impl SendTape {
    /// Whether it neither records nor knows what was sent before.
    pub fn is_off(&self) -> bool {
        matches!(self, SendTape::Off)
    }

    /// A cast that is in its mailbox.
    pub fn cast(&mut self, to: &str, body: &Payload) {
        self.record(|| Sent { to: to.to_string(), body: body.clone(), result: SentResult::Cast });
    }

    /// A call that is about to be sent: recorded before, because the guest may end while it waits,
    /// and the callee may have handled it all the same. [`SendTape::called`] follows where it can.
    pub fn calling(&mut self, to: &str, body: &Payload) {
        let result = SentResult::Call(Err(CallError::Timeout));
        self.record(|| Sent { to: to.to_string(), body: body.clone(), result });
    }

    /// How the last call ended. One that never was in a mailbox was not sent.
    pub fn called(&mut self, outcome: &Outcome) {
        let SendTape::Record(recording) = self else { return };
        if recording.overflowed {
            return;
        }
        let Some(last) = recording.sent.pop() else { return };
        recording.bytes -= last.bytes();
        if !matches!(outcome, Err(error) if was_not_sent(error)) {
            let result = SentResult::Call(outcome.clone());
            let before = last.clone();
            self.record(|| Sent { result, ..last });
            // Too large to keep with its reply: that it was sent is kept all the same.
            if let SendTape::Record(recording) = self
                && recording.overflowed
            {
                recording.bytes += before.bytes();
                recording.sent.push(before);
            }
        }
    }

    fn record(&mut self, sent: impl FnOnce() -> Sent) {
        if let SendTape::Record(recording) = self {
            let sent = sent();
            let bytes = recording.bytes + sent.bytes();
            if bytes > bounds::SENT_BYTES_MAX {
                recording.overflowed = true;
                return;
            }
            recording.bytes = bytes;
            recording.sent.push(sent);
        }
    }

    /// The result of the same call or cast, if it was sent before. Each is found once.
    pub fn replay(&mut self, to: &str, body: &[u8], is_call: bool) -> Option<SentResult> {
        let SendTape::Replay(sent) = self else { return None };
        let same =
            |sent: &Sent| sent.to == to && *sent.body == *body && matches!(sent.result, SentResult::Call(_)) == is_call;
        let at = sent.iter().position(same)?;
        sent.remove(at).map(|sent| sent.result)
    }
}

impl Desk {
    /// `account`: what it is charged to, asked for where a step of it is needed; here and below.
    pub fn set_timer(
        &mut self,
        due: Tick,
        message: Payload,
        account: impl FnOnce() -> Arc<Account>,
    ) -> Result<TimerId, Limit> {
        let bytes = self.holdings.timer_bytes + message.len() as u64;
        if self.holdings.timers.len() >= bounds::TIMERS_MAX || bytes > bounds::TIMER_BYTES_MAX {
            return Err(Limit::Timers(bounds::TIMERS_MAX as u64));
        }
        let cost = self.holdings.timers_cost() + message.len() as u64 + bounds::TIMER_OVERHEAD_BYTES;
        self.charges.timers.cover(cost, account).map_err(|full| full.limit())?;
        self.holdings.timer_bytes = bytes;
        self.last_timer = self.last_timer.next();
        self.holdings.timers.insert((due, self.last_timer), Arc::new(message));
        self.holdings.due.insert(self.last_timer, due);
        Ok(self.last_timer)
    }

    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        let Some(due) = self.holdings.due.remove(&timer) else { return false };
        let dropped = self.holdings.drop_timer(due, timer);
        self.ease();
        dropped
    }

    /// Something is gone from it.
    fn ease(&mut self) {
        self.charges.timers.ease(self.holdings.timers_cost());
        self.charges.entries.ease(self.holdings.entries_cost());
    }

    /// When the next timer fires.
    pub fn next_due(&self) -> Option<Tick> {
        self.holdings.timers.keys().next().map(|(due, _)| *due)
    }

    /// Takes the next timer that is due.
    pub fn fire(&mut self, now: Tick) -> Option<(TimerId, Payload)> {
        let entry = self.holdings.timers.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let ((_, timer), message) = entry.remove_entry();
        self.holdings.due.remove(&timer);
        self.holdings.timer_bytes -= message.len() as u64;
        self.ease();
        Some((timer, Arc::unwrap_or_clone(message)))
    }

    /// Whether there is room for one more open call. Calls that nobody waits for make room.
    #[inline]
    pub fn room_for_call(&mut self) -> bool {
        // So few have room whatever the account says; each call asks this.
        self.holdings.open.len() < bounds::OPEN_CALLS_WHEN_FULL || self.room_for_more_calls()
    }

    #[cold]
    fn room_for_more_calls(&mut self) -> bool {
        let max = self.open_max.unwrap_or(bounds::OPEN_CALLS_MAX);
        if self.holdings.open.len() >= max {
            self.holdings.open.retain(|_, open| open.reply.is_waiting());
            self.ease();
        }
        self.holdings.open.len() < max
    }

    /// The guest is about to be handed this call. `is_for_caller`: whether somebody waits for what it does.
    pub fn open_call(&mut self, call: CallHead, is_for_caller: bool) {
        let CallHead { id, from, deadline, reply } = call;
        self.current = Some(Current { id, from, deadline, reply: Some(reply), is_for_caller });
    }

    /// The guest has returned.
    pub fn close_current(&mut self) -> Option<Current> {
        self.current.take()
    }

    /// The guest has returned and will answer later, if it has not done so. Where that finds no room in the account,
    /// no more than a few are handed to it until there is some.
    pub fn stays_open(&mut self, account: impl Fn() -> Arc<Account>) {
        if let Some(Current { id, from, deadline, reply: Some(reply), .. }) = self.current.take() {
            debug_assert!(!reply.is_at_hand(), "its caller's thread goes on, and a mark may be taken of it");
            self.holdings.open.insert(id, Open { id, from, deadline, reply, saved: false });
            let cost = self.holdings.entries_cost();
            let fits = self.charges.entries.cover(cost, &account).is_ok();
            if !fits {
                // Those that nobody waits for make room.
                self.holdings.open.retain(|_, open| open.reply.is_waiting());
                self.charges.entries.cover_anyway(self.holdings.entries_cost(), &account);
            }
            self.open_max = (!fits).then(|| self.holdings.open.len().max(bounds::OPEN_CALLS_WHEN_FULL));
        }
    }

    /// When the caller stops to wait for whom the guest works just now.
    pub fn caller_deadline(&self) -> Option<Tick> {
        self.current.as_ref().filter(|current| current.is_for_caller).map(|current| current.deadline)
    }

    /// Where that caller waits, if it has no answer yet.
    pub fn caller_waits_at(&self) -> Option<&ReplyTo> {
        self.current.as_ref().filter(|current| current.is_for_caller)?.reply.as_ref()
    }

    /// Gives the call that is being handled a place for its answer, if it was handed over on this thread and is
    /// not answered. No other call is without one.
    pub fn make_place(&mut self) -> Option<Awaited> {
        let reply = self.current.as_mut()?.reply.as_mut().filter(|reply| reply.is_at_hand())?;
        let (place, awaited) = ReplyTo::new(None);
        *reply = place;
        Some(awaited)
    }

    pub fn close_call(&mut self, id: CallId) -> Option<ReplyTo> {
        let current = self.current.as_mut().filter(|current| current.id == id);
        let reply = current.and_then(|current| current.reply.take());
        reply.or_else(|| {
            let open = self.holdings.open.remove(&id)?;
            self.ease();
            Some(open.reply)
        })
    }

    /// Whether the guest was handed this call and has not answered it.
    pub fn is_open(&self, id: CallId) -> bool {
        self.current_open(id).is_some() || self.holdings.open.contains_key(&id)
    }

    pub fn has_open_calls(&self) -> bool {
        !self.holdings.open.is_empty()
    }

    pub fn caller(&self, id: CallId) -> Option<String> {
        let from = match self.current_open(id) {
            Some(current) => &current.from,
            None => &self.holdings.open.get(&id)?.from,
        };
        from.as_ref().map(ToString::to_string)
    }

    fn current_open(&self, id: CallId) -> Option<&Current> {
        self.current.as_ref().filter(|current| current.id == id && current.reply.is_some())
    }

    /// Takes what says what follows a message.
    pub fn after(&mut self) -> After {
        if self.tape.is_off() && self.stop.is_none() {
            return After::default();
        }
        let sent = match std::mem::take(&mut self.tape) {
            SendTape::Record(recording) => Some(Box::new(recording)),
            SendTape::Replay(_) | SendTape::Off => None,
        };
        After { sent, stop: self.stop.take().map(Box::new) }
    }

    /// What is to be looked at while nothing is handled.
    pub fn marks(&self) -> u8 {
        let timers = if self.holdings.timers.is_empty() { 0 } else { HAS_TIMERS };
        timers | if self.hibernate { HIBERNATES } else { 0 }
    }

    /// Takes the open calls that nobody will answer: all, or those that the last snapshot does not
    /// know of, if the next instance continues from it.
    pub fn take_open(&mut self, continues: bool) -> Vec<Call> {
        let lost = self.holdings.open.extract_if(.., |_, open| !(continues && open.saved));
        let call = |open: Open| Call {
            id: open.id,
            from: open.from,
            request: Payload::default(),
            deadline: open.deadline,
            reply: open.reply,
        };
        let lost = lost.map(|(_, open)| call(open)).collect();
        self.ease();
        lost
    }

    /// A snapshot was taken: the state knows of the calls that are open now.
    pub fn saved(&mut self) {
        self.holdings.saved();
    }

    /// Ids begin where no earlier desk of the worker can have been, nor one in an earlier run of the host: a worker
    /// may keep them in its state.
    pub fn beginning_at(first: u64) -> Desk {
        Desk { last_timer: TimerId(first), last_monitor: MonitorId(first), ..Desk::default() }
    }

    /// The newest id of all.
    pub fn last_id(&self) -> u64 {
        self.last_timer.0.max(self.last_monitor.0)
    }

    /// Whether there is nothing on it.
    pub fn is_blank(&self) -> bool {
        let Holdings { timers, due, open, groups, monitors, .. } = &self.holdings;
        let holds_nothing =
            timers.is_empty() && due.is_empty() && open.is_empty() && groups.is_empty() && monitors.is_empty();
        let asks_nothing = self.current.is_none() && self.stop.is_none() && !self.hibernate;
        holds_nothing && asks_nothing && self.said.is_empty() && self.tape.is_off()
    }

    pub fn join(&mut self, group: &str, account: impl FnOnce() -> Arc<Account>) -> Joined {
        if self.holdings.groups.contains(group) {
            return Joined::Already;
        }
        if self.holdings.groups.len() >= bounds::GROUPS_MAX {
            return Joined::TooMany;
        }
        if self.room_for_entry(2 * group.len(), account).is_err() {
            return Joined::NoRoom;
        }
        self.holdings.group_bytes += group.len() as u64;
        self.holdings.groups.insert(group.to_string());
        Joined::New
    }

    pub fn leave(&mut self, group: &str) -> bool {
        let left = self.holdings.groups.remove(group);
        if left {
            self.holdings.group_bytes -= group.len() as u64;
            self.ease();
        }
        left
    }

    pub fn monitor(&mut self, target: &Name, account: impl FnOnce() -> Arc<Account>) -> Result<MonitorId, NoMonitor> {
        if self.holdings.monitors.len() >= bounds::MONITORS_MAX {
            return Err(NoMonitor::TooMany);
        }
        self.room_for_entry(0, account).map_err(|_| NoMonitor::NoRoom)?;
        self.last_monitor = self.last_monitor.next();
        self.holdings.monitors.insert(self.last_monitor, target.clone());
        Ok(self.last_monitor)
    }

    fn room_for_entry(&mut self, bytes: usize, account: impl FnOnce() -> Arc<Account>) -> Result<(), Full> {
        let cost = self.holdings.entries_cost() + bounds::DESK_ENTRY_BYTES + bytes as u64;
        self.charges.entries.cover(cost, account)
    }

    pub fn demonitor(&mut self, monitor: MonitorId) -> Option<Name> {
        let target = self.holdings.monitors.remove(&monitor)?;
        self.ease();
        Some(target)
    }

    /// What would be put back by a rollback from now on.
    pub fn mark(&self) -> Holdings {
        Holdings { last_timer: self.last_timer, last_monitor: self.last_monitor, ..self.holdings.clone() }
    }

    /// Puts back what was held at the mark, and says what changes for others: groups to leave and
    /// to join, monitors to end and to set again. `spent`: timers and monitors that fired since,
    /// whose facts are handed over as messages.
    pub fn put_back(&mut self, mut mark: Holdings, spent: &[Spent]) -> PutBack {
        for spent in spent {
            match spent {
                Spent::Timer(timer) => {
                    if let Some(due) = mark.due.remove(timer) {
                        mark.drop_timer(due, *timer);
                    }
                }
                Spent::Monitor(monitor) => {
                    mark.monitors.remove(monitor);
                }
            }
        }
        mark.open.retain(|_, open| open.reply.is_waiting());
        // What the instance asked for while it was taken over goes with it.
        self.stop = None;
        self.hibernate = false;
        let now = &self.holdings;
        let change = PutBack {
            leave: now.groups.difference(&mark.groups).cloned().collect(),
            join: mark.groups.difference(&now.groups).cloned().collect(),
            unwatch: missing(&now.monitors, &mark.monitors),
            watch: missing(&mark.monitors, &now.monitors),
        };
        self.holdings = mark;
        self.charges.timers.cover_as_before(self.holdings.timers_cost());
        self.charges.entries.cover_as_before(self.holdings.entries_cost());
        self.ease();
        change
    }

    /// An instance ended and the next one does not continue from its state.
    pub fn clear(&mut self) -> PutBack {
        self.put_back(Holdings::default(), &[])
    }

    /// It leaves the tree with nothing on it: not even a step of the account is kept.
    pub fn release_charges(&mut self) {
        self.charges = Charges::default();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    New,
    Already,
    TooMany,
    /// The account is full, which was said there.
    NoRoom,
}

/// Why there is no monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMonitor {
    TooMany,
    /// The account is full, which was said there.
    NoRoom,
}

fn missing(these: &BTreeMap<MonitorId, Name>, in_those: &BTreeMap<MonitorId, Name>) -> Vec<(MonitorId, Name)> {
    let these = these.iter().filter(|(id, _)| !in_those.contains_key(id));
    these.map(|(id, name)| (*id, name.clone())).collect()
}

/// A fact that was delivered and will not be again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    Timer(TimerId),
    Monitor(MonitorId),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct PutBack {
    pub leave: Vec<String>,
    pub join: Vec<String>,
    pub unwatch: Vec<(MonitorId, Name)>,
    pub watch: Vec<(MonitorId, Name)>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Where nothing is refused.
    fn free() -> Arc<Account> {
        Account::new(u64::MAX)
    }

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    #[test]
    fn timers_fire_in_order_of_time_and_only_when_due() {
        let mut desk = Desk::default();
        let late = desk.set_timer(at(20), Payload::from("late"), free).unwrap();
        let soon = desk.set_timer(at(10), Payload::from("soon"), free).unwrap();
        assert_eq!(desk.next_due(), Some(at(10)));
        assert_eq!(desk.fire(at(9)), None);
        assert_eq!(desk.fire(at(30)).map(|(id, _)| id), Some(soon));
        assert!(desk.cancel_timer(late));
        assert!(!desk.cancel_timer(late));
        assert_eq!(desk.fire(at(30)), None);
    }

    #[test]
    fn timers_are_bounded() {
        let mut desk = Desk::default();
        for _ in 0..bounds::TIMERS_MAX {
            desk.set_timer(at(1), Payload::default(), free).unwrap();
        }
        assert!(desk.set_timer(at(1), Payload::default(), free).is_err());

        let mut desk = Desk::default();
        let half = || Payload::from(vec![0; bounds::TIMER_BYTES_MAX as usize / 2]);
        let first = desk.set_timer(at(1), half(), free).unwrap();
        desk.set_timer(at(2), half(), free).unwrap();
        assert!(desk.set_timer(at(3), half(), free).is_err());
        assert!(desk.cancel_timer(first));
        assert!(desk.set_timer(at(3), half(), free).is_ok());
    }

    #[test]
    fn what_lies_on_it_is_charged_and_given_back_and_a_rollback_never_fails() {
        const STEP: u64 = bounds::ACCOUNT_STEP_BYTES;
        let account = Account::new(STEP * 8);
        let here = || account.clone();
        let page = || Payload::from(vec![0; STEP as usize]);
        let used = |holding| account.used_by(holding);
        let mut desk = Desk::default();
        let timers: Vec<TimerId> = (0..5).map(|_| desk.set_timer(at(9), page(), here).unwrap()).collect();
        assert_eq!(used(Holding::Timers), STEP * 6);
        assert_eq!(desk.set_timer(at(9), Payload::from(vec![0; 13_000]), here), Err(Limit::HostMemory(STEP * 8)));
        let a = Name::parse("a").unwrap();
        assert!(desk.monitor(&a, here).is_ok() && desk.join("g", here) == Joined::New);
        let more = (0..100).take_while(|_| desk.monitor(&a, here).is_ok()).count();
        assert_eq!(desk.join("h", here), Joined::NoRoom);
        assert_eq!((account.used(), more), (STEP * 8, 19));
        let mark = desk.mark();
        assert!(timers.into_iter().all(|timer| desk.cancel_timer(timer)) && desk.leave("g"));
        assert_eq!(used(Holding::Timers), STEP);
        let others = account.take(Holding::Mailboxes, account.bytes_max() - account.used()).unwrap();
        desk.put_back(mark, &[]);
        assert_eq!(used(Holding::Timers), STEP * 6, "beyond the account, which holds for what comes next");
        assert!(account.used() > account.bytes_max());
        desk.clear();
        assert_eq!(account.used(), others.bytes() + 2 * STEP, "a step of each is kept");
        drop(desk);
        assert_eq!(account.used(), others.bytes());
    }

    #[test]
    fn a_rollback_puts_back_what_was_held_but_not_what_fired() {
        let mut desk = Desk::default();
        let kept = desk.set_timer(at(100), Payload::from("kept"), free).unwrap();
        let fired = desk.set_timer(at(5), Payload::from("fired"), free).unwrap();
        desk.join("old", free);
        let mark = desk.mark();

        desk.fire(at(6)).unwrap();
        desk.cancel_timer(kept);
        desk.set_timer(at(50), Payload::from("new"), free).unwrap();
        desk.leave("old");
        desk.join("new", free);
        let change = desk.put_back(mark, &[Spent::Timer(fired)]);

        assert_eq!(change.leave, ["new"]);
        assert_eq!(change.join, ["old"]);
        assert_eq!(desk.fire(at(1_000)).map(|(id, _)| id), Some(kept));
        assert_eq!(desk.fire(at(1_000)), None);
    }

    #[test]
    fn what_was_sent_once_is_found_once() {
        let sent = Sent { to: "b".into(), body: Payload::from("x"), result: SentResult::Cast };
        let mut tape = SendTape::Replay([sent].into());
        assert!(tape.replay("b", b"y", false).is_none());
        assert!(tape.replay("b", b"x", true).is_none());
        assert!(tape.replay("b", b"x", false).is_some());
        assert!(tape.replay("b", b"x", false).is_none());
    }
}
