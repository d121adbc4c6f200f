//! Runs a future under a wall-clock deadline without arming a timer for one that is ready at once,
//! as most messages are: the timer starts when the guest first gives way, which is at most one fuel
//! slice late.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// The deadline passed; the future was dropped.
pub(super) struct Passed;

/// The future is pinned by who calls: it is large, and to move it costs more than to run it.
pub(super) async fn within<T>(time: Duration, mut future: Pin<&mut impl Future<Output = T>>) -> Result<T, Passed> {
    let first = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    if let Poll::Ready(value) = first {
        return Ok(value);
    }
    tokio::time::timeout(time, future).await.map_err(|_| Passed)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_future_that_never_ends_is_dropped_in_time() {
        assert!(within(Duration::from_millis(5), pin!(std::future::pending::<()>())).await.is_err());
        assert!(within(Duration::ZERO, pin!(async { 7 })).await.is_ok_and(|n| n == 7));
    }
}
