//! How fast a guest may run. The runtime keeps the account of fuel per second; here a call into a guest
//! is held up while that account is in debt.
//!
//! A guest gives way after each [`bounds::FUEL_SLICE`]. It then wakes itself at once, where one that
//! waits for the host is woken by somebody else later: that tells a slice that was run from a wait,
//! which costs nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;

use crate::base::bounds;

/// The account of one worker, as the sandbox sees it. Nothing here may wait.
pub trait Pace: Send + Sync {
    /// Whether there is a bound just now. Asked once for each call.
    fn is_bounded(&self) -> bool;
    /// Fuel that was run just now.
    fn charge(&self, fuel: u64);
    /// How long it has to wait before it may run on; `None`: not at all.
    fn wait(&self) -> Option<Duration>;
    /// A call ended that used so much fuel in all.
    fn used(&self, fuel: u64, charged: Charged);
}

/// How the fuel of a call was charged while it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// So much of it, slice by slice. The rest is due, or what was too much is given back.
    BySlices(u64),
    /// Nothing of it, and it was not held up: a snapshot, a migration or the last call, which others
    /// wait for.
    NotYet,
    /// Nothing, and nothing will be: a start, whose time bounds it.
    Never,
}

/// Runs a guest's call slice by slice, and adds to `charged` what was charged for it.
pub(super) async fn paced<T>(pace: &dyn Pace, charged: &AtomicU64, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let signal = Arc::new(Signal { woken: AtomicBool::new(true), outer: AtomicWaker::new() });
    let waker = Waker::from(signal.clone());
    let mut sleep = None;
    poll_fn(|cx| {
        signal.outer.register(cx.waker());
        loop {
            if let Some(sleeping) = &mut sleep {
                std::task::ready!(Future::poll(std::pin::Pin::as_mut(sleeping), cx));
                // Others may have run on the same account meanwhile.
                sleep = pace.wait().map(|time| Box::pin(tokio::time::sleep(time)));
                continue;
            }
            if !signal.woken.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || !signal.woken.load(Ordering::Acquire) {
                return polled;
            }
            pace.charge(bounds::FUEL_SLICE);
            charged.fetch_add(bounds::FUEL_SLICE, Ordering::Relaxed);
            sleep = pace.wait().map(|time| Box::pin(tokio::time::sleep(time)));
            if sleep.is_none() {
                // It gives way: that it was woken has woken this task too.
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Whether the guest was woken since it last gave way, and whom to wake then.
struct Signal {
    woken: AtomicBool,
    outer: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.outer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what is charged, and makes every slice wait.
    #[derive(Default)]
    struct Account {
        charged: AtomicU64,
        waits: AtomicU64,
        paid: AtomicBool,
    }

    impl Pace for Account {
        fn is_bounded(&self) -> bool {
            true
        }
        fn charge(&self, fuel: u64) {
            self.charged.fetch_add(fuel, Ordering::Relaxed);
            self.paid.store(false, Ordering::Relaxed);
        }
        fn wait(&self) -> Option<Duration> {
            let owes = !self.paid.swap(true, Ordering::Relaxed);
            owes.then(|| self.waits.fetch_add(1, Ordering::Relaxed)).map(|_| Duration::from_millis(1))
        }
        fn used(&self, _: u64, _: Charged) {}
    }

    /// Gives way as a guest does after a slice.
    async fn give_way() {
        let mut gave = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut gave, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn each_slice_is_charged_and_waits_for_its_account() {
        let (account, charged) = (Account::default(), AtomicU64::new(0));
        let guest = async {
            for _ in 0..3 {
                give_way().await;
            }
            7
        };
        assert_eq!(paced(&account, &charged, guest).await, 7);
        assert_eq!(charged.into_inner(), 3 * bounds::FUEL_SLICE);
        assert_eq!(account.charged.into_inner(), 3 * bounds::FUEL_SLICE);
        assert_eq!(account.waits.into_inner(), 3);
    }

    #[tokio::test]
    async fn to_wait_for_the_host_costs_nothing_however_often_the_task_is_woken() {
        let (account, charged) = (Account::default(), AtomicU64::new(0));
        let (send, receive) = tokio::sync::oneshot::channel();
        let mut call = pin!(paced(&account, &charged, receive));
        for _ in 0..3 {
            assert!(futures::poll!(call.as_mut()).is_pending());
        }
        send.send(7).unwrap();
        assert_eq!(call.await, Ok(7));
        assert_eq!(charged.load(Ordering::Relaxed), 0);
    }
}
