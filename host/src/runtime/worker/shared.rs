//! What others can see of a worker and send to it. Only its own task changes what it is.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::desk::Desk;
use super::guard::{BreakerView, Guard, Pass};
use super::runner::Runner;
use super::system::{Done, System};
use crate::base::{ComponentHash, ExitReason, Incarnation, Name, RevisionNumber, Tick, Timestamp};
use crate::record::BreakerRecord;
use crate::runtime::mailbox::{Mailbox, SystemRefused};
use crate::runtime::residents::Lodger;
use crate::runtime::services::{NO_CALL, Services};
use crate::runtime::share::CpuShare;
use crate::runtime::spec::{Durability, WorkerSettings};
use crate::runtime::supervision::BY_OPERATOR;
use crate::runtime::waits::WaitsFor;
use crate::sandbox::{CallError, Component, Exports, Health, Kind};

/// The shared side of one worker.
pub struct Shared {
    name: Name,
    pub(in crate::runtime) mailbox: Mailbox<System>,
    /// `None` while there is nothing on it, and nobody looks.
    desk: Mutex<Option<Box<Desk>>>,
    /// Where the ids of timers and monitors go on on the next one.
    last_id: AtomicU64,
    /// [`Desk::marks`], as it was let go of last.
    desk_marks: AtomicU8,
    pub counters: Counters,
    /// Instances in memory: 0, 1, or 2 during probation; 0 while it hibernates.
    pub instances: AtomicU8,
    /// Made when there is a rule for it to keep.
    guard: OnceLock<Arc<Guard>>,
    pub(in crate::runtime) cpu: CpuShare,
    pub(in crate::runtime) waits_for: WaitsFor,
    /// Ends a guest's run at once. One permit is kept, so that a kill which comes early is not lost.
    pub(super) kill: Notify,
    status: Mutex<Kept>,
    settings: Mutex<Arc<WorkerSettings>>,
    /// The id of the last call to it.
    pub(in crate::runtime) last_call: AtomicU64,
    payload_max: AtomicU64,
    /// It stands [`Standing::Down`] or isolated, nothing will start it by itself: messages are refused at once, instead
    /// of waiting for nobody.
    refuses: AtomicBool,
    /// The last snapshot did not get to the disk: the next due time tries again.
    pub(super) unwritten: AtomicBool,
    /// It is in the ring of those that can hibernate.
    pub(super) offered: AtomicBool,
    pub(super) runner: Runner,
    /// Its name is not its own any more.
    left: AtomicBool,
    is_key: bool,
}

/// The desk, for as long as this is held.
pub(in crate::runtime) struct DeskGuard<'a> {
    /// There is one for as long as this is held.
    desk: MutexGuard<'a, Option<Box<Desk>>>,
    marks: &'a AtomicU8,
}

const IS_THERE: &str = "the desk was made when it was locked";

impl Deref for DeskGuard<'_> {
    type Target = Desk;
    fn deref(&self) -> &Desk {
        self.desk.as_deref().expect(IS_THERE)
    }
}

impl DerefMut for DeskGuard<'_> {
    fn deref_mut(&mut self) -> &mut Desk {
        self.desk.as_deref_mut().expect(IS_THERE)
    }
}

impl Drop for DeskGuard<'_> {
    fn drop(&mut self) {
        self.marks.store(self.marks(), Ordering::Relaxed);
    }
}

/// What a worker comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A file of its own.
    File,
    /// A template, by its key.
    Template,
}

/// A system message was not taken, or its answer will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// [`crate::base::bounds::SYSTEM_QUEUE_MAX`] system messages wait already.
    #[error("too many requests wait for it")]
    Busy,
    #[error("it has left the tree")]
    Gone,
    /// The host's own code panicked over it.
    #[error("it ended over this request in a fault of the host's: `paguro events` says which")]
    Ended,
}

/// Counted for each message; relaxed, for people and metrics only.
#[derive(Debug, Default)]
pub struct Counters {
    pub handled: AtomicU64,
    /// Fuel that all calls into its instances used, starts included; added when a call ends.
    pub fuel: AtomicU64,
    /// Bytes of linear memory of the live instance.
    pub memory: AtomicU64,
    /// Made when there is something to count for the first time.
    failures: OnceLock<Box<Failures>>,
}

/// What most workers never have anything to count of.
#[derive(Debug, Default)]
pub struct Failures {
    /// Ended in an error that the worker gave as its answer.
    pub rejected: AtomicU64,
    /// Not begun, because nobody waited any more.
    pub expired: AtomicU64,
    /// Calls of its own to others that were cut short, because its own caller had gone.
    pub cancelled: AtomicU64,
    /// Not accepted: the mailbox was full, or a rate limit reached.
    pub refused: AtomicU64,
    pub restarts: AtomicU64,
    /// Instances that ended, for whatever reason.
    pub exits: AtomicU64,
    pub log_lines_dropped: AtomicU64,
}

impl Counters {
    /// To count one of them.
    pub(in crate::runtime) fn failures(&self) -> &Failures {
        self.failures.get_or_init(Box::default)
    }

    /// How many of them there were.
    pub fn seen(&self, of: impl Fn(&Failures) -> &AtomicU64) -> u64 {
        self.failures.get().map_or(0, |failures| of(failures).load(Ordering::SeqCst))
    }

    /// Only the worker's task counts this, and what it used: a load and a store need no more than that.
    pub(super) fn handled(&self, messages: u64) {
        add(&self.handled, messages);
    }

    pub(super) fn used(&self, fuel: u64) {
        add(&self.fuel, fuel);
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Where a worker is. The words of `paguro ps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Known, not running, and nothing will start it by itself.
    Down,
    Starting,
    Running,
    /// Its state is kept and its instance has made room; what comes for it wakes it.
    Hibernated,
    /// On a new revision, with the old one at hand.
    Probation,
    /// It goes back to the old revision.
    RollingBack,
    Stopping,
    /// Waits for its restart.
    Restarting,
    /// Failed too often, or for good: only an operator or a new file starts it again.
    Isolated(Box<str>),
}

impl Standing {
    /// Whether it serves: what comes for it is handled by an instance that is live, or that is made for it.
    pub fn is_up(&self) -> bool {
        matches!(self, Standing::Running | Standing::Hibernated | Standing::Probation)
    }

    pub fn is_isolated_by_operator(&self) -> bool {
        matches!(self, Standing::Isolated(why) if **why == *BY_OPERATOR)
    }

    pub fn word(&self) -> &'static str {
        match self {
            Standing::Down => "down",
            Standing::Starting => "starting",
            Standing::Running => "running",
            Standing::Hibernated => "hibernated",
            Standing::Probation => "probation",
            Standing::RollingBack => "rolling-back",
            Standing::Stopping => "stopping",
            Standing::Restarting => "restarting",
            Standing::Isolated(_) => "isolated",
        }
    }
}

/// What a [`Status`] is made of, with what is rare or shared elsewhere.
pub(super) struct Kept {
    pub standing: Standing,
    pub since: Tick,
    pub up_since: Tick,
    pub incarnation: Incarnation,
    pub component: Component,
    pub revision: RevisionNumber,
    pub last_exit: Option<Box<LastExit>>,
    pub health: Option<Box<(Health, Timestamp)>>,
}

/// How a worker ended, and whether it had been asked to.
pub(super) struct LastExit {
    pub reason: ExitReason,
    pub was_asked: bool,
}

impl Kept {
    /// Of a worker that enters the tree.
    pub fn new(component: Component, revision: RevisionNumber, now: Tick) -> Kept {
        Kept {
            standing: Standing::Down,
            since: now,
            up_since: Tick::ZERO,
            incarnation: Incarnation::default(),
            component,
            revision,
            last_exit: None,
            health: None,
        }
    }

    fn status(&self) -> Status {
        Status {
            standing: self.standing.clone(),
            since: self.since,
            up_since: self.up_since,
            incarnation: self.incarnation,
            component: self.component.hash(),
            revision: self.revision,
            kind: self.component.kind(),
            exports: self.component.exports(),
            version: self.component.metadata().version.clone(),
            last_exit: self.last_exit.as_ref().map(|last| last.reason.clone()),
            was_asked: self.last_exit.as_ref().is_some_and(|last| last.was_asked),
            health: self.health.as_deref().cloned(),
        }
    }

    fn last_exit(&self) -> ExitReason {
        self.last_exit.as_ref().map_or(ExitReason::Shutdown, |last| last.reason.clone())
    }
}

/// What is known of a worker at this moment.
#[derive(Clone, Debug)]
pub struct Status {
    pub standing: Standing,
    /// When it came to stand so.
    pub since: Tick,
    /// When the incarnation that runs started.
    pub up_since: Tick,
    pub incarnation: Incarnation,
    pub component: ComponentHash,
    pub revision: RevisionNumber,
    pub kind: Kind,
    pub exports: Exports,
    /// Name and version from the component's metadata.
    pub version: Option<String>,
    pub last_exit: Option<ExitReason>,
    /// It had been asked to end so.
    pub was_asked: bool,
    /// What it last said of its health, and when; an end of the instance does not clear it.
    pub health: Option<(Health, Timestamp)>,
}

impl Shared {
    pub(super) fn new(name: Name, settings: Arc<WorkerSettings>, status: Kept, of: Of) -> Shared {
        let payload_max = settings.limits.payload;
        Shared {
            name,
            mailbox: Mailbox::new(settings.limits.mailbox),
            settings: Mutex::new(settings),
            desk: Mutex::default(),
            last_id: AtomicU64::new(0),
            desk_marks: AtomicU8::new(0),
            counters: Counters::default(),
            instances: AtomicU8::new(0),
            guard: OnceLock::new(),
            cpu: CpuShare::default(),
            waits_for: WaitsFor::default(),
            kill: Notify::new(),
            status: Mutex::new(status),
            last_call: AtomicU64::new(NO_CALL),
            payload_max: AtomicU64::new(payload_max),
            refuses: AtomicBool::new(false),
            unwritten: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            runner: Runner::default(),
            left: AtomicBool::new(false),
            is_key: of == Of::Template,
        }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it is a child of a template, and has no file.
    pub fn is_key(&self) -> bool {
        self.is_key
    }

    /// With whom it shares places for live instances.
    pub fn lodger(&self) -> Lodger {
        let sleeps = self.lock_status().component.exports().state;
        match self.name.parent().filter(|_| self.is_key) {
            Some(of) => Lodger::Key { of, sleeps },
            None => Lodger::File,
        }
    }

    pub fn status(&self) -> Status {
        self.lock_status().status()
    }

    /// The settings that hold, or will from the next message boundary on.
    pub fn settings(&self) -> Arc<WorkerSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its state outlives an instance: it has one, and the settings do not say otherwise.
    pub fn is_durable(&self) -> bool {
        let exported = self.lock_status().component.exports().state;
        exported && self.settings().durability.unwrap_or(Durability::Snapshot) == Durability::Snapshot
    }

    /// Sends a system message and waits for its answer, which comes at a message boundary.
    pub async fn ask<T>(&self, message: impl FnOnce(Done<T>) -> System) -> Result<T, AskError> {
        let (done, answer) = oneshot::channel();
        self.mailbox.push_system(message(done)).map_err(|refused| match refused {
            SystemRefused::Full => AskError::Busy,
            SystemRefused::Closed => AskError::Gone,
        })?;
        answer.await.map_err(|_| self.unanswered())
    }

    /// Asks as the one owner of a change under way, which must not be refused by what operators sent:
    /// it has one message under way at a time.
    pub async fn ask_as_owner<T>(&self, message: impl FnOnce(Done<T>) -> System) -> Result<T, AskError> {
        let (done, answer) = oneshot::channel();
        self.mailbox.push_supervision(message(done));
        answer.await.map_err(|_| self.unanswered())
    }

    /// Why a system message has no answer.
    fn unanswered(&self) -> AskError {
        if self.has_left() { AskError::Gone } else { AskError::Ended }
    }

    /// Whether it runs, or is about to.
    pub fn lives(&self) -> bool {
        !matches!(self.lock_status().standing, Standing::Down | Standing::Isolated(_))
    }

    /// Whether it takes no messages, because it does not run. One that has not started yet takes them.
    pub fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    /// Ends the guest's run at once; what it was handling fails with `killed`.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// It leaves the registry.
    pub(in crate::runtime) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// It comes back to the registry: something came for it in that moment.
    pub(super) fn stay(&self) {
        self.left.store(false, Ordering::Release);
    }

    /// Whether its name may be another's by now.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.mailbox.len()
    }

    /// Its circuit breaker, if it has one.
    pub fn breaker(&self) -> Option<BreakerView> {
        self.guard.get()?.view()
    }

    /// Opens its circuit breaker whatever was counted: an escalation step. A worker that has none gets
    /// one with the default settings, until it closes.
    pub(in crate::runtime) fn open_breaker(&self, services: &Services, now: Tick) {
        self.guarded(services, &self.settings(), None).open(now);
    }

    /// Another revision serves.
    pub(super) fn new_revision(&self) {
        if let Some(guard) = self.guard.get() {
            guard.new_revision();
        }
    }

    /// `kept`: how an earlier run of the host left its breaker.
    pub(super) fn guarded(
        &self,
        services: &Services,
        settings: &WorkerSettings,
        kept: Option<BreakerRecord>,
    ) -> &Arc<Guard> {
        self.guard.get_or_init(|| Arc::new(Guard::new(self.name.clone(), settings, services, kept)))
    }

    /// Only the worker's task and its supervisor's say how it stands.
    pub(in crate::runtime) fn stand(&self, standing: Standing, now: Tick) {
        let refuses = matches!(standing, Standing::Down | Standing::Isolated(_));
        let mut status = self.lock_status();
        self.refuses.store(refuses, Ordering::Relaxed);
        if status.standing != standing {
            status.standing = standing;
            status.since = now;
        }
        if !refuses {
            return;
        }
        // Who calls from now on is told at once, and so is who called before. Casts wait: nobody can be
        // told of them.
        let reason = status.last_exit();
        drop(status);
        for call in self.mailbox.take_calls() {
            call.reply.answer(Err(CallError::Down(reason.clone())));
        }
    }

    /// How it ended last; where it never ran, as if it had been stopped.
    pub fn last_exit(&self) -> ExitReason {
        self.lock_status().last_exit()
    }

    /// It rested, and will be started: what comes for it waits.
    pub(in crate::runtime) fn rise(&self, now: Tick) {
        let mut status = self.lock_status();
        if self.refuses() {
            (status.standing, status.since) = (Standing::Restarting, now);
            self.refuses.store(false, Ordering::Relaxed);
        }
    }

    /// Answers calls that came while it went down, after those that waited had been answered. Whoever has put one into the
    /// mailbox and then sees [`Shared::refuses`] calls this: the mailbox's lock puts either the call before the answers, or
    /// what refuses before this.
    pub(in crate::runtime) fn turn_calls_away(&self) {
        let status = self.lock_status();
        if !matches!(status.standing, Standing::Down | Standing::Isolated(_)) {
            return;
        }
        let reason = status.last_exit();
        // Under the lock: no start comes in between.
        for call in self.mailbox.take_calls() {
            call.reply.answer(Err(CallError::Down(reason.clone())));
        }
    }

    /// It ended so. `was_asked`: by its supervisor.
    pub(super) fn ended(&self, reason: &ExitReason, was_asked: bool) {
        self.update(|status| status.last_exit = Some(Box::new(LastExit { reason: reason.clone(), was_asked })));
    }

    /// It does not run, and was asked not to.
    pub(super) fn is_left_down(&self) {
        self.update(|status| {
            if let Some(last) = &mut status.last_exit {
                last.was_asked = true;
            }
        });
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.lock_status());
    }

    pub(in crate::runtime) fn configure(&self, services: &Services, settings: Arc<WorkerSettings>) {
        self.mailbox.set_max(settings.limits.mailbox);
        self.payload_max.store(settings.limits.payload, Ordering::Relaxed);
        match self.guard.get() {
            Some(guard) => guard.configure(&settings),
            // Another may make it in the same moment, by the settings before.
            None if Guard::is_wanted(&settings) => self.guarded(services, &settings, None).configure(&settings),
            None => {}
        }
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Whether a payload of this many bytes is accepted.
    pub(in crate::runtime) fn admits(&self, bytes: usize) -> Result<(), CallError> {
        // The mailbox of one that has left hands the message back, and another may take it.
        if self.refuses() && !self.has_left() {
            return Err(CallError::Down(self.lock_status().last_exit()));
        }
        let (size, limit) = (bytes as u64, self.payload_max.load(Ordering::Relaxed));
        if size > limit { Err(CallError::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Whether a message of so many bytes from this caller is accepted, as far as that can be told before
    /// the mailbox. What is returned goes with it.
    pub(in crate::runtime) fn admits_from(
        &self,
        bytes: usize,
        from: Option<&Name>,
    ) -> Result<Option<Arc<Pass>>, CallError> {
        self.admits(bytes)?;
        let Some(guard) = self.guard.get() else { return Ok(None) };
        guard.admit(from).inspect_err(|error| {
            if *error == CallError::Overloaded {
                self.counters.failures().refused.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    pub(in crate::runtime) fn desk(&self) -> DeskGuard<'_> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.get_or_insert_with(|| Box::new(Desk::beginning_at(self.last_id.load(Ordering::Relaxed))));
        DeskGuard { desk, marks: &self.desk_marks }
    }

    /// Where the ids of its timers and monitors begin.
    pub(super) fn ids_begin_at(&self, first: u64) {
        self.last_id.store(first, Ordering::Relaxed);
    }

    /// Lets go of the desk while there is nothing on it: it may be long before anything is put there.
    pub(super) fn clear_blank_desk(&self) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blank) = desk.take_if(|desk| desk.is_blank()) {
            self.last_id.store(blank.last_id(), Ordering::Relaxed);
        }
    }

    /// Whether its desk has one of these marks. Exact for who runs its task, which alone changes them while
    /// it lives.
    pub(super) fn desk_has(&self, mark: u8) -> bool {
        self.desk_marks.load(Ordering::Relaxed) & mark != 0
    }

    fn lock_status(&self) -> MutexGuard<'_, Kept> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::runtime::worker::driver::Driver;

    /// A million that sleep have these two each. The allocator gives out 512 bytes, or 640: one word more here is
    /// 128 bytes more for each.
    #[test]
    fn what_each_worker_has_fits_where_it_lies() {
        const COUNTS_OF_ARC: usize = 2 * size_of::<usize>();
        assert_eq!(size_of::<Shared>() + COUNTS_OF_ARC, 512);
        assert_eq!(size_of::<Driver>(), 248);
    }
}
