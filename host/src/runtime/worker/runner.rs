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
//! at the cost of who called it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::{Handle, Id};
use tokio::task::coop::unconstrained;

use super::desk::Desk;
use super::driver::Driver;
use super::shared::Shared;
#[cfg(doc)]
use crate::base::bounds;

/// It waits.
const IDLE: u8 = 0;
/// It is to run: the task of the runtime has been woken.
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

/// The task of one worker.
pub(super) struct Runner {
    state: AtomicU8,
    /// Locked by who made the state [`RUNNING`], so nobody ever waits for it.
    task: Mutex<Option<Task>>,
    /// Wakes the task of the runtime.
    runtime: OnceLock<Waker>,
    /// How often it was run.
    runs: AtomicU32,
    /// Whether a thread was lent for this run.
    lent: AtomicBool,
    /// Its task ended in a panic of the host's own.
    panicked: AtomicBool,
    /// The runtime that it belongs to.
    home: OnceLock<Id>,
}

struct Task {
    work: Work,
    waker: Waker,
}

enum Work {
    /// It hibernates: what it knows. Its task is made again when it is woken.
    Parked(Option<Box<Driver>>),
    Runs(Pin<Box<dyn Future<Output = Option<Box<Driver>>> + Send>>),
}

impl Work {
    /// How long it may go on without giving way is the worker's own affair, not the runtime's: what whoever
    /// lends it his thread has done before does not count.
    fn of(driver: Box<Driver>) -> Work {
        Work::Runs(Box::pin(unconstrained(driver.run())))
    }
}

impl Default for Runner {
    fn default() -> Runner {
        Runner {
            state: AtomicU8::new(WOKEN),
            task: Mutex::default(),
            runtime: OnceLock::new(),
            runs: AtomicU32::new(0),
            lent: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            home: OnceLock::new(),
        }
    }
}

impl Shared {
    /// Gives the worker its task. Once, within a runtime.
    pub(super) fn spawn(self: &Arc<Shared>, driver: Box<Driver>) {
        let waker = Waker::from(Arc::new(Bell(Arc::downgrade(self))));
        let _ = self.runner.home.set(Handle::current().id());
        self.runner.put(Some(Task { work: Work::of(driver), waker }));
        tokio::spawn(OfRuntime(self.clone()));
    }

    /// Runs the worker on this thread until it waits, if nobody runs it just now; it must have been
    /// given something to do.
    pub(in crate::runtime) fn lend(self: &Arc<Shared>) {
        // What the worker waits for then belongs to the runtime of this thread, which must be its own.
        let is_home =
            |chain| chain > 0 || Handle::try_current().is_ok_and(|here| self.runner.home.get() == Some(&here.id()));
        let chain = CHAIN.get();
        if chain >= CHAIN_MAX || !is_home(chain) || !self.runner.run(true) {
            self.runner.wake();
        }
    }

    /// Wakes the worker: it has been given something to do.
    pub(in crate::runtime) fn wake(&self) {
        self.runner.wake();
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
            worker.runner.wake();
        }
    }
}

impl Runner {
    /// How often it was run: another number is another run.
    pub(super) fn runs(&self) -> u32 {
        self.runs.load(Relaxed)
    }

    /// Whether whoever gave it something to do runs it: then that came just now.
    pub(super) fn is_lent(&self) -> bool {
        self.lent.load(Relaxed)
    }

    fn wake(&self) {
        let noted = self.state.fetch_update(AcqRel, Acquire, |state| match state {
            IDLE => Some(WOKEN),
            RUNNING => Some(AGAIN),
            _ => None,
        });
        if noted == Ok(IDLE) {
            self.wake_runtime();
        }
    }

    fn wake_runtime(&self) {
        // Before its first turn there is nobody to wake, and that turn is still to come.
        if let Some(waker) = self.runtime.get() {
            waker.wake_by_ref();
        }
    }

    /// Runs the task until it waits. False if another thread does, or it has ended.
    fn run(&self, lent: bool) -> bool {
        let begun = self.state.fetch_update(AcqRel, Acquire, |state| match state {
            IDLE | WOKEN => Some(RUNNING),
            _ => None,
        });
        if begun.is_err() {
            return false;
        }
        self.lent.store(lent, Relaxed);
        if self.poll().is_ready() {
            self.state.store(DONE, Relaxed);
            self.wake_runtime();
            return true;
        }
        let after = self.state.fetch_update(AcqRel, Acquire, |state| match state {
            RUNNING => Some(IDLE),
            AGAIN => Some(WOKEN),
            _ => None,
        });
        match after {
            Ok(AGAIN) => self.wake_runtime(),
            Ok(_) => {}
            // The runtime has ended.
            Err(_) => self.put(None),
        }
        true
    }

    fn poll(&self) -> Poll<()> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Task { work, waker }) = task.as_mut() else { return Poll::Ready(()) };
        if let Work::Parked(driver) = work
            && let Some(driver) = driver.take()
        {
            *work = Work::of(driver);
        }
        let Work::Runs(future) = work else { return Poll::Ready(()) };
        self.runs.store(self.runs.load(Relaxed).wrapping_add(1), Relaxed);
        CHAIN.set(CHAIN.get() + 1);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(waker))));
        CHAIN.set(CHAIN.get() - 1);
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Some(driver))) => {
                *work = Work::Parked(Some(driver));
                return Poll::Pending;
            }
            Ok(Poll::Ready(None)) => {}
            Err(_) => self.panicked.store(true, Relaxed),
        }
        *task = None;
        Poll::Ready(())
    }

    fn put(&self, task: Option<Task>) {
        let before = std::mem::replace(&mut *self.task.lock().unwrap_or_else(PoisonError::into_inner), task);
        // Without the lock: what it lets go of may wake it.
        drop(before);
    }
}

/// The task of the runtime: runs the worker's whenever it is woken.
struct OfRuntime(Arc<Shared>);

impl Future for OfRuntime {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let runner = &self.0.runner;
        if runner.runtime.get().is_none() {
            let _ = runner.runtime.set(context.waker().clone());
        }
        runner.run(false);
        if runner.state.load(Acquire) != DONE {
            return Poll::Pending;
        }
        if runner.panicked.swap(false, Relaxed) {
            // The panic has been printed. Who waits for an answer is told that there will be none.
            tracing::error!(worker = %self.0.name(), "a worker's task panicked: it takes no more messages");
            drop(self.0.mailbox.close());
            *self.0.desk() = Desk::default();
        }
        Poll::Ready(())
    }
}

impl Drop for OfRuntime {
    fn drop(&mut self) {
        if self.0.runner.state.swap(DONE, AcqRel) < RUNNING {
            self.0.runner.put(None);
        }
    }
}
