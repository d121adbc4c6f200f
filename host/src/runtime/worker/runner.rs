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
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::coop::unconstrained;

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
        }
    }
}

impl Shared {
    /// Gives the worker its task. Once, within a runtime.
    pub(super) fn spawn(self: &Arc<Shared>, driver: Box<Driver>) {
        let waker = Waker::from(self.clone());
        self.runner.put(Some(Task { work: Work::of(driver), waker }));
        tokio::spawn(OfRuntime(self.clone()));
    }

    /// Runs the worker on this thread until it waits, if nobody runs it just now; it must have been
    /// given something to do.
    pub(in crate::runtime) fn lend(self: &Arc<Shared>) {
        if CHAIN.get() >= CHAIN_MAX || !self.runner.run() {
            self.runner.wake();
        }
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.runner.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.runner.wake();
    }
}

impl Runner {
    /// How often it was run: another number is another run.
    pub(super) fn runs(&self) -> u32 {
        self.runs.load(Relaxed)
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
    fn run(&self) -> bool {
        let begun = self.state.fetch_update(AcqRel, Acquire, |state| match state {
            IDLE | WOKEN => Some(RUNNING),
            _ => None,
        });
        if begun.is_err() {
            return false;
        }
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
            // The panic has been printed. The worker is gone; who called it is not.
            Err(_) => tracing::error!("a worker's task panicked"),
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
        runner.run();
        if runner.state.load(Acquire) == DONE { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for OfRuntime {
    fn drop(&mut self) {
        if self.0.runner.state.swap(DONE, AcqRel) < RUNNING {
            self.0.runner.put(None);
        }
    }
}
