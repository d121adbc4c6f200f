//! Where a simulation has the runtime's own code panic. Nobody else does: without a fuse, a place that could is one
//! load beside what is read anyway, and none is on the way of a message.

use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crate::base::Name;

/// A place at which a fuse is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// Before this line of a driver waits for something.
    Await { file: &'static str, line: u32 },
    /// A task goes on with what it waited for.
    Poll,
    /// Within a host function that a guest calls, on the guest's stack.
    Guest,
}

/// Panics where it is time to.
pub trait Fuse: Send + Sync {
    /// The task of `whom` has come to `spot`.
    fn reached(&self, whom: &Name, spot: Spot);
}

/// The fuse of one host, if it has one.
#[derive(Default)]
pub struct Fuses(OnceLock<Arc<dyn Fuse>>);

impl Fuses {
    /// Once, before anything runs.
    pub fn set(&self, fuse: Arc<dyn Fuse>) {
        // A second one would be a mistake of whoever simulates, and is let go of.
        let _ = self.0.set(fuse);
    }

    pub(super) fn get(&self) -> Option<&Arc<dyn Fuse>> {
        self.0.get()
    }

    /// The task of `whom` is about to wait for something, in the caller's line.
    #[inline]
    #[track_caller]
    pub(crate) fn at(&self, whom: &Name) {
        if let Some(fuse) = self.0.get() {
            let place = Location::caller();
            fuse.reached(whom, Spot::Await { file: place.file(), line: place.line() });
        }
    }
}

/// A task whose every poll looks at a fuse first.
pub(super) struct Fused<F> {
    pub whom: Name,
    pub fuse: Arc<dyn Fuse>,
    pub task: Pin<Box<F>>,
}

impl<F: Future> Future for Fused<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.fuse.reached(&self.whom, Spot::Poll);
        self.task.as_mut().poll(context)
    }
}
