//! Hibernation: a worker whose state is kept while its instance makes room, and how it gets a place
//! for an instance again.
//!
//! ```text
//!                 sleep                      a message, a timer that is due
//!    Running ---------------> Hibernated ------------------------------------> in line for a place
//!       ^                       |     ^                                             |   |
//!       |                  Stop |     +------------- Revert (swap.rs) ----          | Stop
//!       |                       v                                                   |   v
//!       |                      Down                                       place     | Down
//!       +---------------------------- wake: restore-state, resume <-----------------+
//! ```
//!
//! - *Sleep* is at a message boundary with nothing that waits and nothing that is under way, because
//!   the guest asked for it, it idled for as long as its settings say, or others need the room. A
//!   durable worker's state is on disk then, or as late as by time while it sleeps: the end of the host
//!   loses no more than it would of one that is awake. One that is not durable keeps its state in
//!   memory alone, as it does awake.
//! - *Wake* is not a restart: incarnation, timers, open calls, groups, monitors stay, nobody is told. A
//!   wake that fails is a fault like a trap, and the supervisor decides.
//! - A stop needs no wake: the state is saved. `terminate` is not called then. What asks for the state
//!   or for health is answered with what is known; an upgrade takes the state as it is kept, and its
//!   rollback puts the worker to sleep again.
//! - Where the account of memory has no room for a state, one that is durable sleeps with it on disk alone, and any
//!   other stays awake. Where it has none for an instance, a wake tries again until it has.
//! - In line, the worker obeys all system messages. How long it waits is its callers' affair: their
//!   calls end at their deadlines. A first start waits as long as the line moves.

use std::time::Duration;

use super::desk::HIBERNATES;
use super::door::carry_out;
use super::driver::{Driver, Live};
use super::rescue::InHand;
use super::saving::Due;
use super::shared::{Shared, Standing};
use super::start::NotUp;
use super::system::{NoState, System};
use crate::base::{ExitReason, Failure, Held, Holding, Incarnation, Name, Snapshot, Tick, bounds};
use crate::record::Event;
use crate::runtime::residents::{Ask, AsleepBytes, Place, Queued, Rest, Sleeper};
use crate::runtime::spec::Shutdown;
use crate::runtime::supervisor::Report;

/// Why a worker goes to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// `control.hibernate`.
    Asked,
    Idle,
    /// Others need the room.
    Room,
}

/// Why it should sleep now that it has nothing to do.
pub(super) enum Drowsy {
    /// `control.hibernate`.
    Asked,
    Room(Ask),
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::Asked => "it asked to",
            Why::Idle => "it was idle",
            Why::Room => "others need the room",
        }
    }
}

/// A place in the line, and what for.
pub(super) struct InLine {
    /// `None`: there was one, but no memory in the account.
    place: Option<Queued>,
    /// Then it tries again.
    again: Option<Tick>,
    /// `None`: it wakes.
    start: Option<FirstStart>,
    /// What it costs while it waits. It is never refused that: what is refused is the next message to one that sleeps.
    _held: Held,
}

/// A start that waits for a place.
struct FirstStart {
    begun: Tick,
    /// Then it fails, unless the line has moved.
    until: Tick,
    handed: u64,
}

impl InLine {
    /// When something is to be done if no place comes.
    pub fn due(&self) -> Option<Tick> {
        self.again.or(self.start.as_ref().map(|start| start.until))
    }
}

impl Driver {
    /// Starts when there is a place.
    pub async fn begin(&mut self, incarnation: Incarnation) {
        if self.live.is_some() || self.asleep.is_some() {
            let standing = if self.live.is_some() { Standing::Running } else { Standing::Hibernated };
            self.shared.stand(standing, self.services.clock.now());
            return self.report(Report::Started { child: self.shared.name().clone() }).await;
        }
        let begun = self.services.clock.now();
        (self.refusals, self.memory_tries) = (0, 0);
        self.starting(incarnation, begun);
        let residents = &self.services.residents;
        let Some(place) = residents.try_place(self.shared.lodger()) else { return self.line_up_to_start(begun) };
        self.start(begun, place).await;
    }

    /// Waits for a place, to start.
    pub fn line_up_to_start(&mut self, begun: Tick) {
        let start = Some(self.first_start(begun));
        self.line_up(start);
    }

    fn first_start(&self, begun: Tick) -> FirstStart {
        let until = self.services.clock.now().after(self.settings.limits.start);
        FirstStart { begun, until, handed: self.services.residents.handed(&self.shared.lodger()) }
    }

    /// `None`: to wake.
    fn line_up(&mut self, start: Option<FirstStart>) {
        let place = self.services.residents.queue(self.shared.lodger());
        self.in_line =
            Some(Box::new(InLine { place: Some(place), again: None, start, _held: self.held_while_it_waits() }));
    }

    /// There was a place, and no memory for an instance in the account. It tries again; a first start as long as it
    /// may take, a wake for ever: its callers have deadlines.
    pub fn wait_for_memory(&mut self, start: Option<Tick>) {
        let pause = self.pause_for_memory();
        let mut again = self.services.clock.now().after(pause);
        let start = start.map(|begun| {
            let until = begun.after(self.settings.limits.start);
            again = again.min(until);
            FirstStart { until, ..self.first_start(begun) }
        });
        self.in_line =
            Some(Box::new(InLine { place: None, again: Some(again), start, _held: self.held_while_it_waits() }));
    }

    fn held_while_it_waits(&self) -> Held {
        let account = self.services.accounts.of(self.shared.name());
        account.take_anyway(Holding::Workers, bounds::WAITING_WORKER_BYTES)
    }

    /// How long it waits for memory, after one more try in vain.
    pub fn pause_for_memory(&mut self) -> Duration {
        // Who idles gives its own.
        let parent = self.shared.name().parent().unwrap_or_else(Name::root);
        self.services.residents.make_room_below(&parent);
        let pause = memory_pause(self.memory_tries, self.shared.name());
        self.memory_tries = self.memory_tries.saturating_add(1);
        pause
    }

    /// Whether the account has room for the least that its instance takes. After a try in vain this is asked first: a
    /// try makes part of an instance, and may read a state from the disk.
    fn may_have_memory(&self) -> bool {
        let state = self.asleep.as_ref().map_or(0, |state| state.len() as u64);
        let least = self.component.instance_overhead_bytes().max(bounds::INSTANCE_OVERHEAD_BYTES) + state;
        self.services.accounts.of(self.shared.name()).has_room(Holding::Instances, least)
    }

    /// Whether a start that was begun then may wait for memory.
    pub fn may_wait(&self, begun: Tick) -> bool {
        let next = self.services.clock.now().after(bounds::MEMORY_AGAIN);
        next < begun.after(self.settings.limits.start)
    }

    /// It sleeps, and something waits for it.
    pub async fn rouse(&mut self) {
        self.memory_tries = 0;
        match self.services.residents.try_place(self.shared.lodger()) {
            Some(place) => self.goes_on(None, place).await,
            None => self.line_up(None),
        }
    }

    /// It is its turn.
    pub async fn placed(&mut self, place: Place) {
        let start = self.in_line.take().and_then(|line| line.start);
        self.goes_on(start, place).await;
    }

    async fn goes_on(&mut self, start: Option<FirstStart>, place: Place) {
        let begun = start.as_ref().map(|start| start.begun);
        let may_wait = begun.is_none_or(|begun| self.may_wait(begun));
        if self.memory_tries > 0 && may_wait && !self.may_have_memory() {
            drop(place);
            return self.wait_for_memory(begun);
        }
        if let Err(reason) = self.recall().await
            && self.asleep.take().is_some()
        {
            return self.ended(reason).await;
        }
        match start {
            Some(start) => self.start(start.begun, place).await,
            None => self.wake(place).await,
        }
    }

    /// No place came in time. Where others got one the line moves, and it goes on waiting: a thousand
    /// starts at once are no failure.
    pub async fn no_place(&mut self, now: Tick) {
        if self.in_line.as_ref().is_some_and(|line| line.again.is_some_and(|again| again <= now)) {
            let start = self.in_line.take().and_then(|line| line.start);
            return match self.services.residents.try_place(self.shared.lodger()) {
                Some(place) => self.goes_on(start, place).await,
                None => self.line_up(start),
            };
        }
        let lodger = self.shared.lodger();
        let handed = self.services.residents.handed(&lodger);
        let Some(start) = self.in_line.as_mut().and_then(|line| line.start.as_mut()) else { return };
        if start.until > now {
            return;
        }
        if start.handed != handed {
            start.handed = handed;
            start.until = now.after(self.settings.limits.start);
            return;
        }
        // A bound that the system made lower may be too low by now.
        if self.services.residents.try_one_more() {
            start.until = now.after(self.settings.limits.start);
            return;
        }
        self.in_line = None;
        let (live, max) = (self.services.residents.live(), self.services.residents.max());
        let share = match self.services.residents.share_of(&lodger) {
            share if share < max => format!(", of which children of a template like this one may have {share}"),
            _ => String::new(),
        };
        let why = format!("no room for one more live instance: {live} of {max}{share} are live and none can hibernate");
        self.start_failed(ExitReason::Failed(Failure::NotStartable(why))).await;
    }

    /// A new instance continues from the kept state. Messages wait in the mailbox meanwhile.
    pub async fn wake(&mut self, place: Place) {
        let Some(snapshot) = self.asleep.clone() else { return };
        let begun = self.services.clock.now();
        let mark = InHand::new(self.shared.desk().mark());
        let shared = self.shared.clone();
        self.at();
        let woken = tokio::select! {
            biased;
            woken = self.bring_up(Some(snapshot), place) => woken,
            () = shared.kill.notified() => Err(NotUp::Ended(ExitReason::Killed)),
        };
        if let Err(NotUp::NoRoom(_) | NotUp::NoMemory(_)) = &woken {
            let change = self.shared.desk().put_back(mark.take(), &[]);
            carry_out(change, self.shared.name(), &self.services);
            return match woken {
                Err(NotUp::NoMemory(_)) => self.wait_for_memory(None),
                _ => self.line_up(None),
            };
        }
        self.asleep = None;
        let mark = mark.take();
        match woken {
            Ok(live) => {
                self.live = Some(live);
                self.awake(begun);
                // `control.stop` on the way.
                let stop = self.shared.desk().stop.take();
                if let Some(reason) = stop {
                    self.stopped_itself(reason).await;
                }
            }
            Err(not_up) => {
                // Timers and groups of an instance that never was are nobody's.
                let change = self.shared.desk().put_back(mark, &[]);
                carry_out(change, self.shared.name(), &self.services);
                self.ended(not_up.reason()).await;
            }
        }
    }

    /// It has an instance again.
    pub fn awake(&mut self, begun: Tick) {
        let now = self.services.clock.now();
        self.shared.stand(Standing::Running, now);
        self.count_instances();
        self.offer();
        let took = now.since(begun);
        self.services.recorder.emit(Event::WorkerWoke { worker: self.shared.name().clone(), took });
    }

    /// Others need the room. The ask ends when it sleeps, or does not.
    pub async fn make_room(&mut self, ask: Ask) {
        self.sleep(Why::Room).await;
        drop(ask);
    }

    /// Lets the live instance go if it can be woken again. Else, or if it says no, nothing changes.
    pub async fn sleep(&mut self, why: Why) {
        self.shared.desk().hibernate = false;
        if self.can_sleep() {
            let shared = self.shared.clone();
            self.at();
            let saved = tokio::select! {
                biased;
                saved = self.save_state() => saved,
                () = shared.kill.notified() => Err(NoState::Died(ExitReason::Killed)),
            };
            match saved {
                Ok(snapshot) if self.shared.waiting() == 0 && self.has_room_asleep(&snapshot) => {
                    return self.fall_asleep(snapshot, why).await;
                }
                // A message came meanwhile. The snapshot counts as the last one that was taken.
                Ok(snapshot) if self.durable() => self.keep(snapshot, Due::ByTime).await,
                Ok(_) => {}
                Err(NoState::Died(reason)) => return self.ended(reason).await,
                Err(error) => {
                    self.sleepless_until = Some(self.services.clock.now().after(bounds::SLEEPLESS_TIME));
                    self.snapshot_failed(error.to_string());
                }
            }
        }
        self.offer();
    }

    /// Room in memory for its state; one that is durable has room on disk.
    fn has_room_asleep(&mut self, snapshot: &Snapshot) -> bool {
        // Of the state that was saved last.
        self.room = None;
        let account = self.services.accounts.of(self.shared.name());
        self.room = self.services.residents.keep(snapshot.len() as u64, &account);
        if self.room.is_some() || self.durable() {
            return true;
        }
        self.sleepless_until = Some(self.services.clock.now().after(bounds::SLEEPLESS_TIME));
        false
    }

    async fn fall_asleep(&mut self, snapshot: Snapshot, why: Why) {
        let state = snapshot.len() as u64;
        // Until it is on disk it is in memory, whether there is room or not.
        let account = self.services.accounts.of(self.shared.name());
        let _on_its_way = self.room.is_none().then(|| AsleepBytes::anyway(&account, state));
        self.asleep = Some(snapshot.clone());
        self.idle_since = None;
        self.at();
        self.drop_live();
        self.shared.stand(Standing::Hibernated, self.services.clock.now());
        if self.durable() {
            if self.is_dirty() || self.saved.as_deref() != Some(&snapshot) {
                self.keep_durably(snapshot).await;
            } else {
                // The same bytes once, not twice.
                self.saved = Some(Box::new(snapshot));
                self.shared.desk().saved();
            }
        }
        let worker = self.shared.name().clone();
        self.services.recorder.emit(Event::WorkerHibernated { worker, state, why: why.text() });
    }

    /// A stop of one that sleeps: nothing is left to be called, and the state is kept.
    pub async fn stop_asleep(&mut self, reason: ExitReason, shutdown: Shutdown) -> ExitReason {
        self.at();
        if let Some(snapshot) = self.asleep.take()
            && self.durable()
            && self.is_dirty()
        {
            // It did not get to the disk before.
            self.keep_durably(snapshot).await;
        }
        if shutdown == Shutdown::Kill { ExitReason::Killed } else { reason }
    }

    /// Why it should sleep now that it has nothing to do, if so.
    pub fn drowsy(&mut self) -> Option<Drowsy> {
        // One that must not take its messages now is not idle.
        if !self.is_sleeper() || !self.replay.is_empty() {
            return None;
        }
        // Locks and the clock only where there may be a reason.
        let begins = self.idle_since.is_none() && self.settings.hibernate_after.is_some();
        let asked = self.shared.desk_has(HIBERNATES);
        if !(begins || asked || self.services.residents.is_wanted(self.shared.is_key())) || self.shared.waiting() > 0 {
            return None;
        }
        if begins {
            self.idle_since = Some(self.services.clock.now());
        }
        if !self.can_sleep() {
            return None;
        }
        if asked {
            return Some(Drowsy::Asked);
        }
        let is_key = self.shared.is_key();
        if self.services.residents.is_wanted(is_key) {
            return self.services.residents.volunteer(is_key).map(Drowsy::Room);
        }
        None
    }

    /// When it has idled for long enough, or may be asked to sleep again. Never while something waits that
    /// it may not take now (it used more than its share of CPU): a time that has passed, and about which
    /// nothing can be done, would wake it without pause.
    pub fn sleep_due(&self) -> Option<Tick> {
        let may_sleep = self.settings.hibernate_after.is_some() || self.sleepless_until.is_some();
        if !may_sleep || !self.is_sleeper() || self.shared.waiting() > 0 || !self.replay.is_empty() {
            return None;
        }
        let idle = self.idle_since.zip(self.settings.hibernate_after).map(|(since, after)| since.after(after));
        match self.sleepless_until {
            Some(until) => Some(idle.map_or(until, |idle| idle.max(until))),
            None if self.trial.is_some() => None,
            None => idle,
        }
    }

    /// The clock came to [`Driver::sleep_due`].
    pub async fn sleep_if_due(&mut self, now: Tick) {
        if self.sleepless_until.is_some_and(|until| until <= now) {
            self.sleepless_until = None;
            self.offer();
        }
        if self.sleep_due().is_some_and(|due| due <= now) {
            self.sleep(Why::Idle).await;
        }
    }

    /// Others may ask it to sleep from now on.
    pub fn offer(&self) {
        if self.is_sleeper() && self.trial.is_none() && self.sleepless_until.is_none() {
            self.services.residents.offer(self.shared.clone());
        }
    }

    /// Whether it has an instance that could go and come back.
    fn is_sleeper(&self) -> bool {
        matches!(self.live, Some(Live::Worker(_))) && self.component.exports().state
    }

    fn can_sleep(&self) -> bool {
        self.is_sleeper()
            && self.trial.is_none()
            && self.pending_stop.is_none()
            && self.replay.is_empty()
            && self.shared.waiting() == 0
            && self.sleepless_until.is_none_or(|until| until <= self.services.clock.now())
    }
}

impl Sleeper for Shared {
    fn rest(&self) -> Rest {
        match self.instances.load(std::sync::atomic::Ordering::Relaxed) {
            0 => Rest::Gone,
            _ => self.mailbox.rest(),
        }
    }

    fn is_key(&self) -> bool {
        Shared::is_key(self)
    }

    fn is_below(&self, supervisor: &Name) -> bool {
        self.name().is_below(supervisor)
    }

    fn please_sleep(&self, ask: Ask) {
        // Refused or not, the ask ends with the message.
        let _ = self.mailbox.push_system(System::Hibernate { ask });
    }

    fn offered(&self) -> &std::sync::atomic::AtomicBool {
        &self.offered
    }
}

/// How long it waits for memory after so many tries in vain. Those that were refused together come back one by one.
fn memory_pause(tries: u8, name: &Name) -> Duration {
    let doubled = bounds::MEMORY_AGAIN * (1 << tries.min(6));
    let longest = doubled.min(bounds::MEMORY_AGAIN_MAX);
    let spread = name.as_str().bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 256;
    longest - longest / 4 * spread / 256
}

/// The turn of one in line; never, for one that is not.
pub(super) async fn turn(line: Option<&mut InLine>) -> Place {
    match line.and_then(|line| line.place.as_mut()) {
        Some(place) => place.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_for_memory_become_rare_and_do_not_come_together() {
        let name = |n: u32| Name::parse(&format!("t/{n}")).unwrap();
        let pauses: Vec<Duration> = (0..=u8::MAX).map(|tries| memory_pause(tries, &name(1))).collect();
        assert!(pauses.is_sorted() && pauses[0] <= bounds::MEMORY_AGAIN && pauses[0] * 4 >= bounds::MEMORY_AGAIN * 3);
        assert!(pauses[255] <= bounds::MEMORY_AGAIN_MAX && pauses[6] == pauses[255], "{:?}", &pauses[..8]);
        let mut of_all: Vec<Duration> = (0..100).map(|n| memory_pause(9, &name(n))).collect();
        of_all.sort();
        of_all.dedup();
        assert!(of_all.len() > 50, "{of_all:?}");
    }
}
