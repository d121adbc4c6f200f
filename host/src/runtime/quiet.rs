//! A task that is woken by what it does itself.
//!
//! A supervisor that starts a child on its own thread is told of it while it still runs. The runtime would put
//! such a task at the end of its queue, and wake another thread to look there; here it is polled again at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// It waits for a wake-up, which goes on to the runtime.
const WAITS: u8 = 0;
/// It is being polled.
const POLLED: u8 = 1;
/// It is being polled, and was woken meanwhile.
const AGAIN: u8 = 2;

/// Polls in a row before the runtime has its turn: what a task may do at once is counted by the runtime, and is
/// given anew only there.
const POLLS_MAX: u32 = 8;

/// Polls a future again at once where it was woken while it ran.
pub struct Quiet<F> {
    work: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Default)]
struct Bell {
    state: AtomicU8,
    runtime: AtomicWaker,
}

impl<F> Quiet<F> {
    pub fn new(work: F) -> Quiet<F> {
        let bell = Arc::new(Bell::default());
        Quiet { work: Box::pin(work), waker: Waker::from(bell.clone()), bell }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.fetch_update(AcqRel, Acquire, |state| (state == POLLED).then_some(AGAIN));
        if noted == Err(WAITS) {
            self.runtime.wake();
        }
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Quiet { work, bell, waker } = &mut *self;
        bell.runtime.register(context.waker());
        for _ in 0..POLLS_MAX {
            bell.state.store(POLLED, Release);
            if let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if bell.state.compare_exchange(POLLED, WAITS, AcqRel, Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        bell.state.store(WAITS, Release);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;
    use futures::task::{ArcWake, waker};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU8);

    impl ArcWake for Count {
        fn wake_by_ref(count: &Arc<Count>) {
            count.0.fetch_add(1, AcqRel);
        }
    }

    fn poll<F: Future>(quiet: &mut Quiet<F>, count: &Arc<Count>) -> Poll<F::Output> {
        quiet.poll_unpin(&mut Context::from_waker(&waker(count.clone())))
    }

    #[test]
    fn a_task_that_wakes_itself_is_polled_again_without_the_runtime() {
        let count = Arc::new(Count::default());
        let mut polls = 0;
        let mut quiet = Quiet::new(poll_fn(|context| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(polls);
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        assert_eq!(poll(&mut quiet, &count), Poll::Ready(3));
        assert_eq!(count.0.load(Acquire), 0);
    }

    #[test]
    fn a_wake_up_from_elsewhere_goes_to_the_runtime_once_it_waits() {
        let count = Arc::new(Count::default());
        let mut kept = None;
        let mut quiet = Quiet::new(poll_fn(|context| {
            kept = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        assert!(poll(&mut quiet, &count).is_pending());
        let bell = quiet.bell.clone();
        assert_eq!(count.0.load(Acquire), 0);
        bell.wake_by_ref();
        assert_eq!(count.0.load(Acquire), 1);
    }

    #[test]
    fn one_that_always_wakes_itself_gives_way_to_the_runtime() {
        let count = Arc::new(Count::default());
        let mut polls = 0;
        let mut quiet = Quiet::new(poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert!(poll(&mut quiet, &count).is_pending());
        assert_eq!(count.0.load(Acquire), 1);
        drop(quiet);
        assert_eq!(polls, POLLS_MAX);
    }
}
