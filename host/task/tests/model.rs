//! All interleavings of a few threads (loom), or many random ones of more (shuttle): `cargo xtask model`.
#![cfg(any(loom, shuttle))]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

#[cfg(loom)]
use loom::{future::block_on, sync::Mutex, sync::atomic::AtomicUsize, thread};
#[cfg(shuttle)]
use shuttle::{future::block_on, sync::Mutex, sync::atomic::AtomicUsize, thread};

use paguro_task::{Cell, Due, Job, Lent, OfRuntime, Polled, close, give, lend, run_later, wake};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

#[cfg(loom)]
fn check(of: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    // What a thread is preempted in beyond this is left to shuttle.
    model.preemption_bound = Some(3);
    model.check(of);
}

#[cfg(shuttle)]
fn check(of: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(of, 20_000);
}

/// A job that counts what it is given, and ends when that is all. What it is given is no more ordered than by the job.
struct Counts<const TURNS: u32, const NESTS: bool, const PARKS: bool> {
    cell: Cell<Counted>,
    given: AtomicUsize,
    expected: usize,
    handled: AtomicUsize,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    let_go: Arc<AtomicUsize>,
}

/// What only who polls touches: relaxed, so that it is the job's to order it.
struct Counted {
    seen: AtomicUsize,
    let_go: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.let_go.fetch_add(1, SeqCst);
    }
}

impl<const T: u32, const N: bool, const P: bool> Job for Counts<T, N, P> {
    type Work = Counted;
    const TURNS: u32 = T;
    const NESTS: bool = N;

    fn cell(&self) -> &Cell<Counted> {
        &self.cell
    }

    fn poll(self: &Arc<Self>, work: &mut Option<Counted>) -> Polled {
        let Some(work) = work else { return Polled::Ends };
        let seen = self.given.load(Relaxed);
        let before = work.seen.load(Relaxed);
        assert!(seen >= before, "it sees less than before");
        work.seen.store(seen, Relaxed);
        self.handled.store(seen, Relaxed);
        match seen == self.expected {
            true => Polled::Ends,
            false if P => Polled::Parks,
            false => Polled::Waits,
        }
    }

    fn spawn(self: &Arc<Self>, task: OfRuntime<Self>) {
        let runs = thread::spawn(move || block_on(task));
        self.threads.lock().unwrap().push(runs);
    }

    fn is_home(&self) -> bool {
        true
    }
}

type Worker = Counts<1, true, false>;
type Sleeper = Counts<1, true, true>;
type Supervisor = Counts<2, false, false>;

impl<const T: u32, const N: bool, const P: bool> Counts<T, N, P> {
    fn new(expected: usize) -> Arc<Self> {
        let let_go = Arc::new(AtomicUsize::new(0));
        let job = Counts {
            cell: Cell::default(),
            given: AtomicUsize::new(0),
            expected,
            handled: AtomicUsize::new(0),
            threads: Mutex::new(Vec::new()),
            let_go: let_go.clone(),
        };
        job.cell.put(Counted { seen: AtomicUsize::new(0), let_go });
        Arc::new(job)
    }

    fn gift(&self) {
        self.given.fetch_add(1, Relaxed);
    }

    /// Its runtime comes to an end of itself, with all handled.
    fn has_handled_all(&self) {
        self.runtime_rests();
        assert_eq!(self.handled.load(Relaxed), self.expected, "a wake-up was lost");
        assert_eq!(self.let_go.load(SeqCst), 1, "its work is let go of once");
    }

    fn runtime_rests(&self) {
        loop {
            let next = self.threads.lock().unwrap().pop();
            match next {
                Some(next) => next.join().unwrap(),
                None => return,
            }
        }
    }
}

/// Each of these does its part on a thread of its own.
fn side_by_side<J: Job>(job: &Arc<J>, parts: [fn(&Arc<J>); 2]) {
    let [other, own] = parts;
    let of_other = job.clone();
    let other = thread::spawn(move || other(&of_other));
    own(job);
    other.join().unwrap();
}

#[test]
fn two_who_lend_their_threads_have_both_gifts_handled() {
    check(|| {
        let job = Worker::new(2);
        side_by_side(&job, [|job| (job.gift(), lend(job)).1, |job| (job.gift(), lend(job)).1]);
        job.has_handled_all();
    });
}

#[test]
fn one_who_lends_and_one_who_wakes() {
    check(|| {
        let job = Worker::new(2);
        side_by_side(&job, [|job| (job.gift(), lend(job)).1, |job| (job.gift(), wake(job)).1]);
        job.has_handled_all();
    });
}

#[test]
fn two_who_wake() {
    check(|| {
        let job = Worker::new(2);
        side_by_side(&job, [|job| (job.gift(), wake(job)).1, |job| (job.gift(), wake(job)).1]);
        job.has_handled_all();
    });
}

#[test]
fn one_that_parks_is_woken_by_another_task() {
    check(|| {
        let job = Sleeper::new(2);
        side_by_side(&job, [|job| (job.gift(), wake(job)).1, |job| (job.gift(), wake(job)).1]);
        job.has_handled_all();
    });
}

#[test]
fn one_that_parks_while_a_thread_is_lent() {
    check(|| {
        let job = Sleeper::new(2);
        side_by_side(&job, [|job| (job.gift(), lend(job)).1, |job| (job.gift(), wake(job)).1]);
        job.has_handled_all();
    });
}

#[test]
fn who_gives_runs_it_or_whoever_runs_it_goes_on() {
    check(|| {
        let job = Supervisor::new(2);
        let gives: fn(&Arc<Supervisor>) = |job| give(job, || (job.gift(), wake(job)).1);
        side_by_side(&job, [gives, gives]);
        job.has_handled_all();
    });
}

/// A thread that has it at hand and gives it nothing misses nothing of what others give.
#[test]
fn one_that_is_let_go_of_unpolled_is_told_what_came() {
    check(|| {
        let job = Worker::new(1);
        side_by_side(&job, [|job| drop(Lent::begin(job)), |job| (job.gift(), wake(job)).1]);
        job.has_handled_all();
    });
}

#[test]
fn its_work_is_let_go_of_once_where_its_runtime_ends() {
    check(|| {
        let job = Worker::new(9);
        side_by_side(&job, [|job| (job.gift(), lend(job)).1, |job| close(&**job)]);
        job.runtime_rests();
        assert_eq!(job.let_go.load(SeqCst), 1);
        // What comes later finds nobody, and makes no task.
        job.gift();
        wake(&job);
        lend(&job);
        assert!(job.threads.lock().unwrap().is_empty() && job.cell.is_done());
    });
}

/// What a job gave another to do on a thread that was lent is done by that thread, or by the runtime: once.
#[test]
fn what_is_due_is_run_when_the_outermost_has_ended() {
    struct Reports {
        cell: Cell<()>,
        to: Arc<Supervisor>,
    }
    impl Job for Reports {
        type Work = ();
        const TURNS: u32 = 1;
        const NESTS: bool = true;
        fn cell(&self) -> &Cell<()> {
            &self.cell
        }
        fn poll(self: &Arc<Self>, _: &mut Option<()>) -> Polled {
            self.to.gift();
            wake(&self.to);
            run_later(&Arc::downgrade(&self.to));
            Polled::Ends
        }
        fn spawn(self: &Arc<Self>, _: OfRuntime<Self>) {
            unreachable!("nobody but who lends runs it");
        }
        fn is_home(&self) -> bool {
            true
        }
    }
    check(|| {
        let to = Supervisor::new(2);
        let reports = Arc::new(Reports { cell: Cell::default(), to: to.clone() });
        reports.cell.put(());
        let other = to.clone();
        let other = thread::spawn(move || give(&other, || (other.gift(), wake(&other)).1));
        lend(&reports);
        other.join().unwrap();
        to.has_handled_all();
        to.run_if_woken();
    });
}
