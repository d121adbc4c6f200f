//! Runs a future under a wall-clock deadline without arming a timer for one that is ready at once,
//! as most messages are: the timer starts when the guest first gives way, which is at most one fuel
//! slice late.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The deadline passed; the future was dropped.
pub(super) struct Passed;

thread_local! {
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Says that what gives way on this thread just now is going to be run again at once, though nobody wakes
/// it: no timer is needed for that.
pub fn runs_again_at_once() {
    AT_ONCE.set(true);
}

pub(super) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Result<T, Passed> {
    let mut future = pin!(future);
    let first = poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if AT_ONCE.take() => Poll::Pending,
        Poll::Pending => Poll::Ready(None),
    });
    if let Some(value) = first.await {
        return Ok(value);
    }
    let rest = poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        // The timer is armed by now, and nobody else is to take this for said of him.
        AT_ONCE.take();
        polled
    });
    tokio::time::timeout(time, rest).await.map_err(|_| Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_that_never_ends_is_dropped_in_time() {
        assert!(within(Duration::from_millis(5), std::future::pending::<()>()).await.is_err());
        assert!(within(Duration::ZERO, async { 7 }).await.is_ok_and(|n| n == 7));
    }
}
