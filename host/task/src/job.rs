//! How a job is run: by who lends his thread, or by its runtime.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::cell::Cell;
use crate::sync::{locked, owned};
use crate::thread::{self, Due, run_due};
use crate::word::Rest;

/// What came of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Waits,
    /// It waits, and for so long that its task in the runtime ends. Whoever wakes it makes another.
    Parks,
    /// It has nothing to do any more.
    Ends,
}

pub trait Job: Send + Sync + Sized + 'static {
    /// What it knows.
    type Work: Send;

    /// Polls in a row by one who runs it, for as long as it is woken meanwhile.
    const TURNS: u32;

    /// Whether it is run within another, up to [`thread::NESTED_MAX`]. One that does not nest runs where nothing else does.
    const NESTS: bool;

    fn cell(&self) -> &Cell<Self::Work>;

    /// Polls it until it waits. Whoever calls this has it to himself, and holds a lock: it must not panic.
    fn poll(self: &Arc<Self>, work: &mut Option<Self::Work>) -> Polled;

    /// Hands its task to the runtime that it belongs to. May drop it, where that takes no more.
    fn spawn(self: &Arc<Self>, task: OfRuntime<Self>);

    /// Whether this thread is one of that runtime's.
    fn is_home(&self) -> bool;

    /// Its work is let go of, outside of all locks of this crate.
    fn let_go(work: Option<Self::Work>) {
        drop(work);
    }
}

/// It was given something to do: its runtime runs it.
pub fn wake<J: Job>(job: &Arc<J>) {
    if job.cell().word.wake() {
        tell_runtime(job);
    }
}

/// Runs it on this thread until it waits, if nobody else does; it was given something to do. Else it is woken.
pub fn lend<J: Job>(job: &Arc<J>) {
    match Lent::begin(job) {
        Some(lent) => lent.run(),
        None => wake(job),
    }
}

/// Does what gives it something to do, and runs it on this thread then, if it rests and was woken by that.
pub fn give<J: Job, T>(job: &Arc<J>, something: impl FnOnce() -> T) -> T {
    let lent = Lent::begin(job);
    let given = something();
    if let Some(lent) = lent {
        lent.run_if_woken();
    }
    given
}

/// The runtime ends, and the job with it. Also for one that has no task there.
pub fn close<J: Job>(job: &J) {
    if job.cell().word.close() {
        let_go(job);
    }
}

/// This thread runs a job that was not running. Let go of, the job rests.
pub struct Lent<'a, J: Job> {
    running: Running<'a, J>,
    was_woken: bool,
    /// Nothing else is run on this thread.
    is_outermost: bool,
}

impl<'a, J: Job> Lent<'a, J> {
    /// If this thread may run it, and nobody does.
    pub fn begin(job: &'a Arc<J>) -> Option<Lent<'a, J>> {
        let is_outermost = thread::has_room(J::NESTS)?;
        // What it waits for belongs to its runtime, where the outermost is.
        if is_outermost && !job.is_home() {
            return None;
        }
        let was_woken = job.cell().word.begin()?;
        Some(Lent { running: Running::new(job, true), was_woken, is_outermost })
    }

    /// Polls it once.
    pub fn poll(&mut self) {
        self.running.poll();
    }

    /// Polls it at least once.
    pub fn run(mut self) {
        self.running.run(true);
    }

    /// Polls it for as long as it is woken.
    pub fn run_if_woken(mut self) {
        let is_due = self.was_woken;
        self.running.run(is_due);
    }
}

impl<J: Job> Drop for Lent<'_, J> {
    fn drop(&mut self) {
        // It had been woken, and was not polled since: whoever was told may have come meanwhile, and left.
        let owes_a_poll = self.was_woken && !self.running.was_polled;
        self.running.rest();
        if owes_a_poll {
            wake(self.running.job);
        }
        if self.is_outermost {
            run_due();
        }
    }
}

impl<J: Job> Due for J {
    fn run_if_woken(self: Arc<Self>) {
        if self.cell().word.is_woken()
            && let Some(lent) = Lent::begin(&self)
        {
            lent.run_if_woken();
        }
    }
}

/// This thread has the job to itself, until it has rested.
struct Running<'a, J: Job> {
    job: &'a Arc<J>,
    lent: bool,
    /// What the last poll led to.
    polled: Polled,
    was_polled: bool,
    has_rested: bool,
}

impl<'a, J: Job> Running<'a, J> {
    fn new(job: &'a Arc<J>, lent: bool) -> Running<'a, J> {
        Running { job, lent, polled: Polled::Waits, was_polled: false, has_rested: false }
    }

    fn poll(&mut self) {
        let cell = self.job.cell();
        self.was_polled = true;
        cell.is_polled(self.lent);
        let mut work = owned(&cell.work);
        let within = thread::enter(J::NESTS);
        self.polled = self.job.poll(&mut work);
        drop(within);
    }

    /// Polls it as long as it is woken, [`Job::TURNS`] times at the most. `is_due`: at once.
    fn run(&mut self, mut is_due: bool) {
        let mut turns = 0;
        loop {
            if is_due {
                turns += 1;
                self.poll();
            }
            if self.polled == Polled::Ends || !self.rests(turns < J::TURNS) {
                return;
            }
            is_due = true;
        }
    }

    /// It waits. False: it is this thread's no more.
    fn rests(&mut self, may_go_on: bool) -> bool {
        let parks = self.polled == Polled::Parks;
        if parks && !self.lent {
            // Who runs it is the task of the runtime, which ends. Before the word says so: who wakes it then makes another.
            *locked(&self.job.cell().runtime) = None;
        }
        match self.job.cell().word.rest(may_go_on && !parks) {
            Rest::GoesOn => return true,
            Rest::Rests => {}
            Rest::IsWoken => tell_runtime(self.job),
            Rest::IsOver => let_go(&**self.job),
        }
        self.has_rested = true;
        false
    }

    fn rest(&mut self) {
        if self.has_rested {
            return;
        }
        if self.polled != Polled::Ends {
            self.rests(false);
            return;
        }
        self.has_rested = true;
        self.job.cell().word.finish();
        let_go(&**self.job);
        if let Some(waker) = &*locked(&self.job.cell().runtime) {
            waker.wake_by_ref();
        }
    }
}

fn let_go<J: Job>(job: &J) {
    let work = locked(&job.cell().work).take();
    J::let_go(work);
}

/// Has the runtime run it: wakes its task there, or makes one.
fn tell_runtime<J: Job>(job: &Arc<J>) {
    let mut runtime = locked(&job.cell().runtime);
    match &*runtime {
        Some(waker) => waker.wake_by_ref(),
        None => {
            *runtime = Some(Waker::noop().clone());
            job.spawn(OfRuntime { job: job.clone(), is_known: false, has_ended: false });
        }
    }
}

/// The task of the runtime: runs the job whenever it is woken.
pub struct OfRuntime<J: Job> {
    job: Arc<J>,
    /// Its waker is where it will be looked for.
    is_known: bool,
    has_ended: bool,
}

impl<J: Job> Future for OfRuntime<J> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let cell = self.job.cell();
        if !self.is_known {
            *locked(&cell.runtime) = Some(context.waker().clone());
        }
        let ended = match cell.word.begin() {
            Some(_) => {
                let mut running = Running::new(&self.job, false);
                running.run(true);
                running.rest();
                running.polled != Polled::Waits
            }
            None => cell.is_done(),
        };
        self.is_known = true;
        self.has_ended = ended;
        if ended { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<J: Job> Drop for OfRuntime<J> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // One that the runtime does not take any more is dropped while it is made, under the lock of its place and perhaps
        // others of who gave the job something to do: then nothing is let go of here.
        let is_being_made = !self.is_known && self.job.cell().runtime.try_lock().is_err();
        if is_being_made {
            self.job.cell().word.close();
        } else {
            close(&*self.job);
        }
    }
}
