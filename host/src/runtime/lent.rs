//! A task that whoever gives it something to do runs at once on his own thread, if it waits.
//!
//! To wake a task of the runtime and to wait for what it answers is two changes of task; and where more than three
//! tasks in a row wake one another, the runtime wakes another thread to help. A supervisor hardly ever has more to do
//! than one thing, which somebody waits for: he does it himself. What wakes the task otherwise wakes it in the
//! runtime.
//!
//! Who runs it holds its state at [`RUNNING`]; there is one at a time. One that wakes itself meanwhile (a child
//! that it starts on its own thread reports to it) is polled again at once, a few times.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use tokio::runtime::Handle;

use super::worker;

/// It waits.
const WAITS: u8 = 0;
/// It is to run: the task of the runtime has been woken.
const WOKEN: u8 = 1;
/// A thread runs it.
const RUNNING: u8 = 2;
/// A thread runs it, and it was woken meanwhile.
const AGAIN: u8 = 3;
/// It has ended, or the runtime has.
const DONE: u8 = 4;

/// Polls in a row before the runtime has its turn: what a task may do at once is counted by the runtime, and is
/// given anew only there.
const POLLS_MAX: u32 = 8;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// This thread runs one.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    /// One that was given something to do where it could not be run: further up on this thread's stack it can.
    static LATER: RefCell<Weak<LentTask>> = const { RefCell::new(Weak::new()) };
}

pub struct LentTask {
    state: AtomicU8,
    /// Locked by who made the state [`RUNNING`], and at the end.
    work: Mutex<Option<Work>>,
    waker: Waker,
    /// The task of the runtime.
    runtime: AtomicWaker,
    home: Handle,
}

impl LentTask {
    /// Within a runtime, which runs the task whenever nobody else does.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Arc<LentTask> {
        let task = Arc::new_cyclic(|task: &Weak<LentTask>| LentTask {
            state: AtomicU8::new(WOKEN),
            work: Mutex::new(Some(Box::pin(work))),
            waker: Waker::from(Arc::new(Bell(task.clone()))),
            runtime: AtomicWaker::new(),
            home: Handle::current(),
        });
        tokio::spawn(OfRuntime(task.clone()));
        task
    }

    /// Does what gives it something to do, and runs it on this thread if it waits.
    pub fn give<T>(&self, something: impl FnOnce() -> T) -> T {
        let before = if self.can_run_here() { self.begin() } else { None };
        let given = something();
        if let Some(before) = before {
            self.run(before == WOKEN);
        }
        given
    }

    /// It was given something to do by what runs on this thread: whoever lent that the thread runs this next, by
    /// [`run_what_waits`].
    pub fn run_later(task: &Weak<LentTask>) {
        // Within a task of this kind nobody does: what that runs reports to it, and it is polled again.
        if RUNS.get() {
            return;
        }
        LATER.with_borrow_mut(|later| later.clone_from(task));
    }

    /// Not within another, which would be as deep as the tree, nor within a worker, where a guest's stack may be all
    /// there is; nor in another runtime, whose timers it would take.
    fn can_run_here(&self) -> bool {
        !RUNS.get() && !worker::runs_one() && Handle::try_current().is_ok_and(|here| here.id() == self.home.id())
    }

    fn wake(&self) {
        // Written also where it stays the same: whoever runs it next sees all that was done before this.
        let before = self.state.fetch_update(AcqRel, Acquire, |state| match state {
            WAITS | WOKEN => Some(WOKEN),
            RUNNING | AGAIN => Some(AGAIN),
            _ => None,
        });
        if before == Ok(WAITS) {
            self.runtime.wake();
        }
    }

    /// How it was before, if it is this thread's to run now.
    fn begin(&self) -> Option<u8> {
        let begun = self.state.fetch_update(AcqRel, Acquire, |state| matches!(state, WAITS | WOKEN).then_some(RUNNING));
        begun.ok()
    }

    /// Polls it for as long as it is woken. This thread has begun it; `is_due`: it was woken before.
    fn run(&self, mut is_due: bool) {
        let outer = RUNS.replace(true);
        let mut polls = 0;
        loop {
            if is_due && polls < POLLS_MAX {
                polls += 1;
                if self.poll() {
                    self.state.store(DONE, Release);
                    drop(self.take());
                    self.runtime.wake();
                    break;
                }
            }
            let is_out_of_turn = polls == POLLS_MAX;
            let after = self.state.fetch_update(AcqRel, Acquire, |state| match state {
                RUNNING => Some(WAITS),
                AGAIN if is_out_of_turn => Some(WOKEN),
                AGAIN => Some(RUNNING),
                _ => None,
            });
            match after {
                Ok(AGAIN) if is_out_of_turn => self.runtime.wake(),
                Ok(AGAIN) => {
                    is_due = true;
                    continue;
                }
                Ok(_) => {}
                // The runtime has ended.
                Err(_) => drop(self.take()),
            }
            break;
        }
        RUNS.set(outer);
    }

    /// Whether it has ended.
    fn poll(&self) -> bool {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = work.as_mut() else { return true };
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(&self.waker))));
        // A panic has been printed, and ends it as it would end any task of the runtime.
        polled.map_or(true, |polled| polled.is_ready())
    }

    fn take(&self) -> Option<Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The runtime ends, and this with it.
    fn ends_with_runtime(&self) {
        let before = self.state.swap(DONE, AcqRel);
        // Whoever runs it just now finds that, and lets go of it himself.
        if before != RUNNING && before != AGAIN {
            drop(self.take());
        }
    }
}

/// Runs what was given something to do by what this thread was lent to, and was not run there.
pub fn run_what_waits() {
    if RUNS.get() || worker::runs_one() {
        return;
    }
    let later = LATER.with_borrow_mut(std::mem::take);
    let Some(task) = later.upgrade() else { return };
    if task.state.load(Acquire) == WOKEN
        && task.can_run_here()
        && let Some(before) = task.begin()
    {
        task.run(before == WOKEN);
    }
}

/// Wakes the task, which it does not keep: those who will wake it keep this.
struct Bell(Weak<LentTask>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(task) = self.0.upgrade() {
            task.wake();
        }
    }
}

/// The task of the runtime.
struct OfRuntime(Arc<LentTask>);

impl Future for OfRuntime {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let task = &self.0;
        task.runtime.register(context.waker());
        if let Some(before) = task.begin() {
            task.run(before == WOKEN);
        }
        if task.state.load(Acquire) == DONE { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for OfRuntime {
    fn drop(&mut self) {
        self.0.ends_with_runtime();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::mpsc;
    use tokio::task::yield_now;

    use super::*;

    /// One that counts what it is sent. With `echo` it sends itself each once more.
    fn counting(echo: bool) -> (Arc<LentTask>, mpsc::Sender<bool>, Arc<AtomicUsize>) {
        let (send, mut receive) = mpsc::channel(8);
        let (counted, again) = (Arc::new(AtomicUsize::new(0)), send.downgrade());
        let count = counted.clone();
        let task = LentTask::spawn(async move {
            while let Some(is_first) = receive.recv().await {
                count.fetch_add(1, AcqRel);
                if let Some(again) = again.upgrade().filter(|_| echo && is_first) {
                    again.try_send(false).unwrap();
                }
            }
        });
        (task, send, counted)
    }

    #[tokio::test]
    async fn who_gives_it_something_to_do_runs_it() {
        let (task, send, counted) = counting(true);
        task.give(|| send.try_send(true)).unwrap();
        assert_eq!(counted.load(Acquire), 2, "and what it gives itself");
        // The runtime's turn, which has nothing left to do.
        yield_now().await;
        task.give(|| send.try_send(true)).unwrap();
        assert_eq!(counted.load(Acquire), 4);
        // What is sent otherwise is for the runtime.
        send.try_send(true).unwrap();
        assert_eq!(counted.load(Acquire), 4);
        yield_now().await;
        assert_eq!(counted.load(Acquire), 6);
    }

    #[tokio::test]
    async fn it_is_not_run_within_another_but_may_be_run_after_it() {
        let (inner, send, counted) = counting(false);
        let (later, sent) = (Arc::downgrade(&inner), Arc::new(AtomicUsize::new(0)));
        let (give, mut given) = mpsc::channel::<()>(8);
        let seen = (sent.clone(), counted.clone());
        let outer = LentTask::spawn(async move {
            while given.recv().await.is_some() {
                inner.give(|| send.try_send(true)).unwrap();
                seen.0.store(1 + seen.1.load(Acquire), Release);
            }
        });
        yield_now().await;
        outer.give(|| give.try_send(())).unwrap();
        assert_eq!((sent.load(Acquire), counted.load(Acquire)), (1, 0), "not within the other");
        LentTask::run_later(&later);
        run_what_waits();
        assert_eq!(counted.load(Acquire), 1);
        run_what_waits();
        assert_eq!(counted.load(Acquire), 1, "once");
    }

    #[tokio::test]
    async fn one_that_always_wakes_itself_gives_way_to_the_runtime() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        let task = LentTask::spawn(poll_fn(move |context| {
            counted.fetch_add(1, AcqRel);
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        task.give(|| ());
        assert_eq!(polls.load(Acquire), POLLS_MAX as usize);
        yield_now().await;
        let (polls, turn) = (polls.load(Acquire), POLLS_MAX as usize);
        assert!(polls >= 2 * turn && polls % turn == 0, "{polls}");
    }

    #[test]
    fn it_ends_with_its_runtime_and_is_not_run_in_another() {
        let kept = Arc::new(());
        let (seen, polls) = (Arc::downgrade(&kept), Arc::new(AtomicUsize::new(0)));
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (first, second) = (runtime(), runtime());
        let counted = polls.clone();
        let task = first.block_on(async {
            let work = poll_fn(move |_| {
                let _ = (&kept, counted.fetch_add(1, AcqRel));
                Poll::<()>::Pending
            });
            let task = LentTask::spawn(work);
            yield_now().await;
            task
        });
        second.block_on(async { task.give(|| task.wake()) });
        assert_eq!(polls.load(Acquire), 1);
        drop(first);
        assert!(seen.upgrade().is_none(), "what it holds is let go of");
        task.give(|| task.wake());
        assert_eq!(polls.load(Acquire), 1);
    }

    #[tokio::test]
    async fn a_panic_in_it_ends_it_and_not_who_runs_it() {
        let (send, mut receive) = mpsc::channel::<()>(8);
        let task = LentTask::spawn(async move {
            receive.recv().await;
            panic!("this is what the test is for");
        });
        yield_now().await;
        task.give(|| send.try_send(())).unwrap();
        assert!(send.is_closed());
        task.give(|| ());
    }
}
