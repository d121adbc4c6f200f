//! Runs a worker's task: on a thread of the runtime when it is woken, or at once on the thread of
//! whoever calls it.
//!
//! A call to an idle worker has nothing to wait for. The caller's thread, which would otherwise wake
//! another and rest, runs the worker's task itself until that waits again, and finds its answer there.
//!
//! A guest that calls another runs it in the same way, from within the host function that it called. Each
//! instance has a stack of its own, of which the guest has at most one half ([`bounds`]): on the other half
//! there is room for the host's part of one more worker, whose guest is on its own stack again. So
//! however long a chain of calls is, no stack holds more than one link of it.
//!
//! Who runs the task holds its state at [`RUNNING`]; there is one at a time. A wake-up meanwhile is
//! noted, and the task of the runtime takes over: a guest that gives way after its slice does not go on
//! at the cost of who called it. That task is made when it is needed for the first time, and ends when the
//! worker sleeps.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;

use super::desk::Desk;
use super::driver::Driver;
use super::rescue::{self, FAULTS_IN_A_ROW_MAX, Fault, Kept};
use super::shared::Shared;
#[cfg(doc)]
use crate::base::bounds;
use crate::base::{HostFault, panics};
use crate::runtime::faults::Fused;
use crate::runtime::handoff::{self, Calling};
use crate::runtime::mailbox::Take;
use crate::runtime::message::{Call, ReplyTo};
use crate::runtime::services::Services;

/// It waits.
const IDLE: u8 = 0;
/// It is to run: the task of the runtime has been woken, or made.
const WOKEN: u8 = 1;
/// A thread runs it.
const RUNNING: u8 = 2;
/// A thread runs it, and it was woken meanwhile.
const AGAIN: u8 = 3;
/// It has ended, or the runtime has.
const DONE: u8 = 4;

/// Workers that one thread has run, each for the one before, and that all wait for the last. Beyond this
/// the next one is woken like any other.
const CHAIN_MAX: u32 = 32;

thread_local! {
    /// Tasks that this thread is inside of.
    static CHAIN: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread runs a worker: on its stack there may be no room for more than another one.
pub(in crate::runtime) fn runs_one() -> bool {
    CHAIN.get() > 0
}

/// Runs a guest that has a task of its own: what it calls is run on its stack, as within a worker.
pub(super) async fn as_a_worker<T>(guest: impl Future<Output = T>) -> T {
    /// Counted for as long as this is held.
    struct Within;
    impl Drop for Within {
        fn drop(&mut self) {
            CHAIN.set(CHAIN.get() - 1);
        }
    }
    let mut guest = pin!(guest);
    poll_fn(|context| {
        CHAIN.set(CHAIN.get() + 1);
        let _within = Within;
        guest.as_mut().poll(context)
    })
    .await
}

/// The task of one worker.
#[derive(Default)]
pub(super) struct Runner {
    state: AtomicU8,
    /// Locked by who made the state [`RUNNING`], so nobody ever waits for it.
    task: Mutex<Option<Task>>,
    /// What wakes the task of the runtime, if there is one. Between its making and its first turn, what does nothing.
    runtime: Mutex<Option<Waker>>,
    /// How often it was run, wrapped around.
    runs: AtomicU16,
    /// Whether a thread was lent for this run.
    lent: AtomicBool,
    /// Panics since it was last brought up, or did what it was asked to.
    faults: AtomicU8,
    /// The runtime that it belongs to.
    home: OnceLock<Handle>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ran {
    /// Another thread runs it, or it has ended.
    Not,
    Waits,
    Parked,
    /// It takes no more messages.
    Ended,
    /// In a panic of the host's own, from which it could not recover.
    Panicked,
}

struct Task {
    work: Work,
    waker: Waker,
}

enum Work {
    /// It hibernates, or has not been started: what it knows. Its future is made when it is woken.
    Parked(Option<Box<Driver>>),
    Runs(Pin<Box<dyn Future<Output = Option<Box<Driver>>> + Send>>),
}

impl Work {
    /// How long it may go on without giving way is the worker's own affair, not the runtime's: what whoever
    /// lends it his thread has done before does not count.
    fn of(driver: Box<Driver>, fault: Option<Box<Fault>>) -> Work {
        if let Some(fuse) = driver.services.fuses.get().cloned() {
            let whom = driver.shared.name().clone();
            let task = Box::pin(Driver::run(Kept::new(driver, fault)));
            return Work::Runs(Box::pin(unconstrained(Fused { whom, fuse, task })));
        }
        Work::Runs(Box::pin(unconstrained(Driver::run(Kept::new(driver, fault)))))
    }
}

impl Shared {
    /// Gives the worker its task. Once, within a runtime.
    pub(super) fn give_task(self: &Arc<Shared>, driver: Box<Driver>) {
        let waker = Waker::from(Arc::new(Bell(Arc::downgrade(self))));
        let _ = self.runner.home.set(Handle::current());
        self.runner.put(Some(Task { work: Work::Parked(Some(driver)), waker: waker.clone() }));
        // It can be found by its name already: what came since then is not to be waited for.
        if !self.mailbox.will_wake(Take::SystemOnly, &waker) {
            self.wake();
        }
    }

    /// Runs the worker on this thread until it waits, if nobody runs it just now; it must have been
    /// given something to do.
    pub(in crate::runtime) fn lend(self: &Arc<Shared>) {
        let chain = CHAIN.get();
        if chain >= CHAIN_MAX || !self.is_home(chain) || matches!(self.run(true), Ran::Not) {
            self.wake();
        }
    }

    /// Hands a call to the worker, which is run on this thread for it, past the mailbox. The error is the call, if
    /// it does not wait for messages just now, or not for one like this: then the mailbox is the way.
    pub(in crate::runtime) fn hand(self: &Arc<Shared>, call: Call) -> Result<Calling, Call> {
        let chain = CHAIN.get();
        if chain >= CHAIN_MAX || !self.mailbox.is_awaited() || !self.is_home(chain) || !self.begin() {
            return Err(call);
        }
        let mut ran = Ran::Waits;
        // Where nobody is left who could answer, the caller finds that.
        let place = || self.desk().make_place().unwrap_or_else(|| ReplyTo::new(None).1);
        let handed = handoff::hand(self, call, || ran = self.runner.poll(self, true), place);
        if handed.is_ok() {
            // Where it is: one may answer and go on.
            self.mailbox.show_busy();
        }
        // All of this before anybody else can run it.
        self.end(ran, true);
        handed
    }

    /// What the worker waits for belongs to the runtime of the thread that runs it, which must be its own.
    fn is_home(&self, chain: u32) -> bool {
        let home = self.runner.home.get().map(Handle::id);
        chain > 0 || Handle::try_current().is_ok_and(|here| home == Some(here.id()))
    }

    /// Wakes the worker: it has been given something to do.
    pub(in crate::runtime) fn wake(self: &Arc<Shared>) {
        // Written also where it stays the same: whoever runs it next sees all that was done before this.
        let noted = self.runner.state.fetch_update(AcqRel, Acquire, |state| match state {
            IDLE | WOKEN => Some(WOKEN),
            RUNNING | AGAIN => Some(AGAIN),
            _ => None,
        });
        if noted == Ok(IDLE) {
            self.wake_runtime();
        }
    }

    fn wake_runtime(self: &Arc<Shared>) {
        let mut task_of_runtime = self.runner.runtime_task();
        match &*task_of_runtime {
            Some(waker) => waker.wake_by_ref(),
            None => {
                *task_of_runtime = Some(Waker::noop().clone());
                let task = OfRuntime { worker: self.clone(), is_known: false, has_ended: false };
                if let Some(home) = self.runner.home.get() {
                    home.spawn(task);
                }
            }
        }
    }

    /// Runs the task until it waits.
    fn run(self: &Arc<Shared>, lent: bool) -> Ran {
        if !self.begin() {
            return Ran::Not;
        }
        let ran = self.runner.poll(self, lent);
        self.end(ran, lent);
        ran
    }

    fn begin(&self) -> bool {
        let begun = self.runner.state.fetch_update(AcqRel, Acquire, |state| match state {
            IDLE | WOKEN => Some(RUNNING),
            _ => None,
        });
        begun.is_ok()
    }

    fn end(self: &Arc<Shared>, ran: Ran, lent: bool) {
        let runner = &self.runner;
        match ran {
            Ran::Ended | Ran::Panicked => {
                runner.state.store(DONE, Relaxed);
                if ran == Ran::Panicked {
                    // Not even what it knew is left. Who waits for an answer is told that there will be none.
                    tracing::error!(worker = %self.name(), "a worker's task panicked: it takes no more messages");
                    drop(self.mailbox.close());
                    *self.desk() = Desk::default();
                }
                if let Some(waker) = &*runner.runtime_task() {
                    waker.wake_by_ref();
                }
                return;
            }
            // Who runs it is the task of the runtime, which ends. What wakes the worker from now on makes another.
            Ran::Parked if !lent => *runner.runtime_task() = None,
            _ => {}
        }
        let after = runner.state.fetch_update(AcqRel, Acquire, |state| match state {
            RUNNING => Some(IDLE),
            AGAIN => Some(WOKEN),
            _ => None,
        });
        match after {
            Ok(AGAIN) => self.wake_runtime(),
            Ok(_) => {}
            // The runtime has ended.
            Err(_) => runner.put(None),
        }
    }

    /// The runtime ends, and the worker with it.
    pub(in crate::runtime) fn ends_with_runtime(&self) {
        let before = self.runner.state.swap(DONE, AcqRel);
        // Whoever runs it just now finds that, and lets go of it himself.
        if before != RUNNING && before != AGAIN {
            self.runner.put(None);
        }
    }
}

/// Wakes a worker's task. It does not keep the worker: the mailbox and whoever will answer the worker keep
/// this.
struct Bell(Weak<Shared>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(worker) = self.0.upgrade() {
            worker.wake();
        }
    }
}

impl Runner {
    /// How often it was run: another number is another run.
    pub(super) fn runs(&self) -> u16 {
        self.runs.load(Relaxed)
    }

    /// Whether whoever gave it something to do runs it: then that came just now.
    pub(super) fn is_lent(&self) -> bool {
        self.lent.load(Relaxed)
    }

    /// Its next fault is none in a row.
    pub(super) fn has_done_something(&self) {
        self.faults.store(0, Relaxed);
    }

    fn runtime_task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, worker: &Arc<Shared>, lent: bool) -> Ran {
        self.lent.store(lent, Relaxed);
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(Task { work, waker }) = task.as_mut() else { return Ran::Ended };
            if let Work::Parked(driver) = work
                && let Some(driver) = driver.take()
            {
                *work = Work::of(driver, None);
            }
            let Work::Runs(future) = work else { return Ran::Ended };
            self.runs.store(self.runs.load(Relaxed).wrapping_add(1), Relaxed);
            CHAIN.set(CHAIN.get() + 1);
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(waker))));
            CHAIN.set(CHAIN.get() - 1);
            let ended = match polled {
                Ok(Poll::Pending) => return Ran::Waits,
                Ok(Poll::Ready(Some(driver))) => {
                    *work = Work::Parked(Some(driver));
                    return Ran::Parked;
                }
                Ok(Poll::Ready(None)) => Ran::Ended,
                Err(payload) => match recovering(worker, work, panics::caught(payload)) {
                    // At once: who runs it for a call has the answer when this returns.
                    Some(recovering) => {
                        *work = recovering;
                        continue;
                    }
                    None => Ran::Panicked,
                },
            };
            *task = None;
            return ended;
        }
    }

    fn put(&self, task: Option<Task>) {
        let before = std::mem::replace(&mut *self.task.lock().unwrap_or_else(PoisonError::into_inner), task);
        // Without the lock: what it lets go of may wake it. A panic in it is nobody's to handle any more.
        let _ = panics::let_go(before);
    }
}

/// Panics of a worker's task, with nothing done between them, after which it ends for good: it would hold a thread. More
/// than a recovery has, which is told to the supervisor before.
const FAULTS_MAX: u8 = 2 * FAULTS_IN_A_ROW_MAX + 2;

/// What a worker does whose task panicked: it recovers. `None`: nothing is left of it.
#[cold]
fn recovering(worker: &Arc<Shared>, work: &mut Work, fault: HostFault) -> Option<Work> {
    let Work::Runs(future) = std::mem::replace(work, Work::Parked(None)) else { return None };
    let (driver, fault) = rescue::take(future, fault);
    let driver = driver.filter(|driver| Arc::ptr_eq(&driver.shared, worker))?;
    // Counted by who runs it, of whom there is one.
    let faults = worker.runner.faults.load(Relaxed).saturating_add(1);
    worker.runner.faults.store(faults, Relaxed);
    if faults > FAULTS_MAX {
        driver.ends_for_good(&fault.fault);
        return None;
    }
    if fault.row > FAULTS_IN_A_ROW_MAX {
        return driver.give_up(*fault).map(|driver| Work::Parked(Some(driver)));
    }
    Some(Work::of(driver, Some(fault)))
}

/// The task of the runtime: runs the worker's whenever it is woken.
struct OfRuntime {
    worker: Arc<Shared>,
    /// Its waker is where it will be looked for.
    is_known: bool,
    has_ended: bool,
}

impl Future for OfRuntime {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_known {
            self.is_known = true;
            *self.worker.runner.runtime_task() = Some(context.waker().clone());
        }
        self.has_ended = match self.worker.run(false) {
            Ran::Waits => false,
            Ran::Parked | Ran::Ended | Ran::Panicked => true,
            Ran::Not => self.worker.runner.state.load(Acquire) == DONE,
        };
        if self.has_ended { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for OfRuntime {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // One that the runtime does not take any more is dropped while it is made, under the lock of its place and
        // perhaps others: then nothing is let go of here.
        let is_being_made = !self.is_known && self.worker.runner.runtime.try_lock().is_err();
        if is_being_made {
            self.worker.runner.state.store(DONE, Relaxed);
        } else {
            self.worker.ends_with_runtime();
        }
    }
}

/// Lets go of the workers that have no task in the runtime when the runtime ends.
pub(in crate::runtime) struct Undertaker(pub Weak<Services>);

impl Drop for Undertaker {
    fn drop(&mut self) {
        if let Some(services) = self.0.upgrade() {
            services.registry.all().iter().for_each(|worker| worker.ends_with_runtime());
        }
    }
}
