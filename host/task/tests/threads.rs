//! What needs no interleaving: on one thread, with a runtime that is a list of tasks.
#![cfg(not(any(loom, shuttle)))]
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use paguro_task::{Cell, Job, NESTED_MAX, OfRuntime, Polled, depth, give, lend, run_due, run_later, wake};

#[derive(Default)]
struct Nests {
    cell: Cell<()>,
    polls: AtomicUsize,
    deepest: AtomicUsize,
    inner: Mutex<Option<Arc<Nests>>>,
    tasks: Mutex<Vec<OfRuntime<Nests>>>,
    is_away: AtomicBool,
}

impl Job for Nests {
    type Work = ();
    const TURNS: u32 = 1;
    const NESTS: bool = true;

    fn cell(&self) -> &Cell<()> {
        &self.cell
    }

    fn poll(self: &Arc<Self>, _: &mut Option<()>) -> Polled {
        self.polls.fetch_add(1, SeqCst);
        self.deepest.fetch_max(depth() as usize, SeqCst);
        let inner = self.inner.lock().unwrap().clone();
        if let Some(inner) = inner {
            lend(&inner);
        }
        Polled::Waits
    }

    fn spawn(self: &Arc<Self>, task: OfRuntime<Self>) {
        self.tasks.lock().unwrap().push(task);
    }

    fn is_home(&self) -> bool {
        !self.is_away.load(SeqCst)
    }
}

fn job() -> Arc<Nests> {
    let job = Arc::new(Nests::default());
    job.cell.put(());
    job
}

fn polls(job: &Nests) -> usize {
    job.polls.load(SeqCst)
}

/// Polls its task in the runtime, if it has one.
fn turn(job: &Nests) {
    let task = job.tasks.lock().unwrap().pop();
    if let Some(mut task) = task {
        let polled = Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Pending);
        job.tasks.lock().unwrap().push(task);
    }
}

#[test]
fn a_chain_has_a_bound_and_the_next_one_is_the_runtimes() {
    let jobs: Vec<Arc<Nests>> = (0..NESTED_MAX + 2).map(|_| job()).collect();
    for pair in jobs.windows(2) {
        *pair[0].inner.lock().unwrap() = Some(pair[1].clone());
    }
    lend(&jobs[0]);
    let run = jobs.iter().filter(|job| polls(job) == 1).count();
    assert_eq!((run, depth()), (NESTED_MAX as usize, 0));
    assert_eq!(jobs[NESTED_MAX as usize - 1].deepest.load(SeqCst), NESTED_MAX as usize);
    let next = &jobs[NESTED_MAX as usize];
    assert_eq!(next.tasks.lock().unwrap().len(), 1, "it is woken");
    turn(next);
    assert_eq!(polls(next), 1);
}

#[test]
fn one_that_belongs_to_another_runtime_is_woken_there_unless_it_is_within_one_of_its_own() {
    let away = job();
    away.is_away.store(true, SeqCst);
    lend(&away);
    assert_eq!((polls(&away), away.tasks.lock().unwrap().len()), (0, 1));
    turn(&away);
    assert_eq!(polls(&away), 1);
    let outer = job();
    *outer.inner.lock().unwrap() = Some(away.clone());
    lend(&outer);
    assert_eq!(polls(&away), 2);
}

/// Whoever panics while he has it at hand leaves it to others.
#[test]
fn a_panic_of_who_gives_leaves_the_job_as_it_was() {
    let job = job();
    let gives = || give(&job, || panic!("this is what the test is for"));
    assert!(catch_unwind(AssertUnwindSafe(gives)).is_err());
    assert_eq!(polls(&job), 0);
    lend(&job);
    assert_eq!((polls(&job), depth()), (1, 0));
}

#[test]
fn what_is_due_is_run_once_and_only_if_it_was_woken() {
    let due = job();
    run_later(&Arc::downgrade(&due));
    run_due();
    assert_eq!(polls(&due), 0, "nobody gave it anything");
    run_later(&Arc::downgrade(&due));
    wake(&due);
    run_due();
    run_due();
    assert_eq!(polls(&due), 1);
}

#[test]
fn the_task_of_the_runtime_ends_the_job_when_it_is_dropped() {
    let job = job();
    wake(&job);
    turn(&job);
    assert_eq!(polls(&job), 1);
    job.tasks.lock().unwrap().clear();
    assert!(job.cell.is_done());
    lend(&job);
    assert_eq!(polls(&job), 1);
}
