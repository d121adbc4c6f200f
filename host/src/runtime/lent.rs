//! A supervisor's task, which whoever gives it something to do runs at once on his own thread, if it waits.
//!
//! To wake a task of the runtime and to wait for what it answers is two changes of task; and where more than three
//! tasks in a row wake one another, the runtime wakes another thread to help. A supervisor hardly ever has more to do
//! than one thing, which somebody waits for: he does it himself. What wakes the task otherwise wakes it in the
//! runtime. How it is run is [`paguro_task`]'s.
//!
//! It is run where nothing else is: not within another, which would be as deep as the tree, nor within a worker, where a
//! guest's stack may be all there is; nor in another runtime, whose timers it would take. One that wakes itself meanwhile (a
//! child that it starts on its own thread reports to it) is polled again at once, a few times.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};

use paguro_task::{Cell, Job, OfRuntime, Polled};
use tokio::runtime::Handle;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct LentTask {
    cell: Cell<Work>,
    waker: Waker,
    home: Handle,
}

impl LentTask {
    /// Within a runtime, which runs the task whenever nobody else does.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Arc<LentTask> {
        let task = Arc::new_cyclic(|task: &Weak<LentTask>| LentTask {
            cell: Cell::default(),
            waker: Waker::from(Arc::new(Bell(task.clone()))),
            home: Handle::current(),
        });
        task.cell.put(Box::pin(work));
        // The task of the runtime keeps it from now on.
        paguro_task::wake(&task);
        task
    }

    /// Does what gives it something to do, and runs it on this thread if it waits.
    pub fn give<T>(self: &Arc<Self>, something: impl FnOnce() -> T) -> T {
        paguro_task::give(self, something)
    }

    /// It was given something to do by what runs on this thread: whoever lent that the thread runs this next.
    pub fn run_later(task: &Weak<LentTask>) {
        paguro_task::run_later(task);
    }
}

impl Job for LentTask {
    type Work = Work;
    /// What a task may do at once is counted by the runtime, and is given anew only there.
    const TURNS: u32 = 8;
    const NESTS: bool = false;

    fn cell(&self) -> &Cell<Work> {
        &self.cell
    }

    fn poll(self: &Arc<Self>, work: &mut Option<Work>) -> Polled {
        let Some(work) = work.as_mut() else { return Polled::Ends };
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(&self.waker))));
        // A panic has been printed, and ends it as it would end any task of the runtime.
        match polled.map_or(true, |polled| polled.is_ready()) {
            true => Polled::Ends,
            false => Polled::Waits,
        }
    }

    fn spawn(self: &Arc<Self>, task: OfRuntime<Self>) {
        self.home.spawn(task);
    }

    fn is_home(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.home.id())
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
            paguro_task::wake(&task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
    use std::task::Poll;

    use paguro_task::run_due;

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
        run_due();
        assert_eq!(counted.load(Acquire), 1);
        run_due();
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
        assert_eq!(polls.load(Acquire), LentTask::TURNS as usize);
        yield_now().await;
        let (polls, turn) = (polls.load(Acquire), LentTask::TURNS as usize);
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
        second.block_on(async { task.give(|| paguro_task::wake(&task)) });
        assert_eq!(polls.load(Acquire), 1);
        drop(first);
        assert!(seen.upgrade().is_none(), "what it holds is let go of");
        task.give(|| paguro_task::wake(&task));
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
