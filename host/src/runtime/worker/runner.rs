//! Runs a worker's task: on a thread of the runtime when it is woken, or at once on the thread of
//! whoever calls it. How that is done, and why no wake-up is lost, is [`paguro_task`]'s.
//!
//! A call to an idle worker has nothing to wait for. The caller's thread, which would otherwise wake
//! another and rest, runs the worker's task itself until that waits again, and finds its answer there.
//!
//! A guest that calls another runs it in the same way, from within the host function that it called. Each
//! instance has a stack of its own, of which the guest has at most one half ([`bounds`]): on the other half
//! there is room for the host's part of one more worker, whose guest is on its own stack again. So
//! however long a chain of calls is, no stack holds more than one link of it.
//!
//! A guest that gives way after its slice does not go on at the cost of who called it: the task of the runtime takes over.
//! That is made when it is needed for the first time, and ends when the worker sleeps.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};

use paguro_task::{Cell, Job, Lent, OfRuntime, Polled};
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

/// Runs a guest that has a task of its own: what it calls is run on its stack, as within a worker.
pub(super) async fn as_a_worker<T>(guest: impl Future<Output = T>) -> T {
    let mut guest = pin!(guest);
    poll_fn(|context| {
        let _within = paguro_task::inside();
        guest.as_mut().poll(context)
    })
    .await
}

/// The task of one worker.
#[derive(Default)]
pub(super) struct Runner {
    cell: Cell<Task>,
    /// The runtime that it belongs to.
    home: OnceLock<Handle>,
}

/// What a worker's task is made of.
pub struct Task {
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
        self.runner.cell.put(Task { work: Work::Parked(Some(driver)), waker: waker.clone() });
        // It can be found by its name already: what came since then is not to be waited for.
        if !self.mailbox.will_wake(Take::SystemOnly, &waker) {
            self.wake();
        }
    }

    /// Runs the worker on this thread until it waits, if nobody runs it just now; it must have been
    /// given something to do.
    pub(in crate::runtime) fn lend(self: &Arc<Shared>) {
        paguro_task::lend(self);
    }

    /// Hands a call to the worker, which is run on this thread for it, past the mailbox. The error is the call, if
    /// it does not wait for messages just now, or not for one like this: then the mailbox is the way.
    pub(in crate::runtime) fn hand(self: &Arc<Shared>, call: Call) -> Result<Calling, Call> {
        if !self.mailbox.is_awaited() {
            return Err(call);
        }
        let Some(mut lent) = Lent::begin(self) else { return Err(call) };
        // Where nobody is left who could answer, the caller finds that.
        let place = || self.desk().make_place().unwrap_or_else(|| ReplyTo::new(None).1);
        let handed = handoff::hand(self, call, || lent.poll(), place);
        if handed.is_ok() {
            // Where it is: one may answer and go on.
            self.mailbox.show_busy();
        }
        // All of this before anybody else can run it.
        drop(lent);
        handed
    }

    /// Wakes the worker: it has been given something to do.
    pub(in crate::runtime) fn wake(self: &Arc<Shared>) {
        paguro_task::wake(self);
    }
}

impl Job for Shared {
    type Work = Task;
    /// A guest that gives way does not go on at the cost of who called it.
    const TURNS: u32 = 1;
    const NESTS: bool = true;

    fn cell(&self) -> &Cell<Task> {
        &self.runner.cell
    }

    fn poll(self: &Arc<Shared>, task: &mut Option<Task>) -> Polled {
        loop {
            let Some(Task { work, waker }) = task.as_mut() else { return Polled::Ends };
            if let Work::Parked(driver) = work
                && let Some(driver) = driver.take()
            {
                *work = Work::of(driver, None);
            }
            let Work::Runs(future) = work else { return Polled::Ends };
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(waker))));
            let panicked = match polled {
                Ok(Poll::Pending) => return Polled::Waits,
                Ok(Poll::Ready(Some(driver))) => {
                    *work = Work::Parked(Some(driver));
                    return Polled::Parks;
                }
                Ok(Poll::Ready(None)) => false,
                Err(payload) => match recovering(self, work, panics::caught(payload)) {
                    // At once: who runs it for a call has the answer when this returns.
                    Some(recovering) => {
                        *work = recovering;
                        self.runner.cell.begins_anew();
                        continue;
                    }
                    None => true,
                },
            };
            *task = None;
            if panicked {
                // Not even what it knew is left. Who waits for an answer is told that there will be none.
                tracing::error!(worker = %self.name(), "a worker's task panicked: it takes no more messages");
                drop(self.mailbox.close());
                *self.desk() = Desk::default();
            }
            return Polled::Ends;
        }
    }

    fn spawn(self: &Arc<Shared>, task: OfRuntime<Shared>) {
        if let Some(home) = self.runner.home.get() {
            home.spawn(task);
        }
    }

    /// What the worker waits for belongs to the runtime of the thread that runs it.
    fn is_home(&self) -> bool {
        let home = self.runner.home.get().map(Handle::id);
        Handle::try_current().is_ok_and(|here| home == Some(here.id()))
    }

    fn let_go(task: Option<Task>) {
        // A panic in it is nobody's to handle any more.
        let _ = panics::let_go(task);
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
        self.cell.runs()
    }

    /// Whether whoever gave it something to do runs it: then that came just now.
    pub(super) fn is_lent(&self) -> bool {
        self.cell.is_lent()
    }

    /// Its next fault is none in a row.
    pub(super) fn has_done_something(&self) {
        self.cell.has_done_something();
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
    if worker.runner.cell.falls() > FAULTS_MAX {
        driver.ends_for_good(&fault.fault);
        return None;
    }
    if fault.row > FAULTS_IN_A_ROW_MAX {
        return driver.give_up(*fault).map(|driver| Work::Parked(Some(driver)));
    }
    Some(Work::of(driver, Some(fault)))
}

/// Lets go of the workers that have no task in the runtime when the runtime ends.
pub(in crate::runtime) struct Undertaker(pub Weak<Services>);

impl Drop for Undertaker {
    fn drop(&mut self) {
        if let Some(services) = self.0.upgrade() {
            services.registry.all().iter().for_each(|worker| paguro_task::close(&**worker));
        }
    }
}
