//! What wakes a worker at a time, without a look at the clock for each message.
//!
//! The timer stays armed from message to message. It may ring early, for something that has been done
//! since: then there is nothing to do, and it is armed anew. It never rings late.

use std::pin::Pin;
use std::task::Poll;

use tokio::time::Sleep;

use crate::base::{Clock, Tick};

#[derive(Default)]
pub(super) struct Alarm(Option<(Tick, Pin<Box<Sleep>>)>);

impl Alarm {
    /// Whether it is time to look at the clock. Sees to it that it will be at `due`. The clock is read
    /// where that is earlier than all that was asked for before.
    pub async fn rings(&mut self, due: Option<Tick>, clock: &Clock) -> bool {
        if self.has_rung() {
            self.0 = None;
            return true;
        }
        let Some(due) = due else { return false };
        if self.0.as_ref().is_some_and(|(armed, _)| *armed <= due) {
            return false;
        }
        let now = clock.now();
        if due <= now {
            return true;
        }
        let (_, sleep) = self.0.insert((due, Box::pin(tokio::time::sleep(due.since(now)))));
        // Polled once it is known to the runtime's timers, and notices by itself that its time has come.
        std::future::poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context).is_ready())).await
    }

    /// Whether it will ring by then, or has.
    pub fn rings_by(&self, due: Tick) -> bool {
        self.0.as_ref().is_some_and(|(armed, _)| *armed <= due)
    }

    /// Whether it is time to look at the clock. The timer was told whom to wake when it was armed, and that is always
    /// the same: the worker's one waker. So it is only looked at.
    pub fn has_rung(&self) -> bool {
        self.0.as_ref().is_some_and(|(_, sleep)| sleep.is_elapsed())
    }

    /// There is nothing left that it was to ring for.
    pub fn disarm(&mut self) {
        self.0 = None;
    }

    /// Returns when it rings, which is never while it is not armed.
    pub async fn rung(&mut self) {
        std::future::poll_fn(|_| if self.has_rung() { Poll::Ready(()) } else { Poll::Pending }).await;
        self.0 = None;
    }
}
