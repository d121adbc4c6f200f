//! What a thread knows of the jobs that it is inside of.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use crate::sync::thread_local;

/// Jobs that one thread has run, each for the one before, and that all wait for the last. Beyond this the next one is
/// woken like any other.
pub const NESTED_MAX: u32 = 32;

/// One that is run when the outermost job on a thread has ended.
pub trait Due: Send + Sync {
    /// Runs it on this thread, if it was woken and nobody has come to run it.
    fn run_if_woken(self: Arc<Self>);
}

struct Thread {
    /// Jobs that nest, and that this thread is inside of.
    depth: Cell<u32>,
    /// It is inside of one that does not.
    is_flat: Cell<bool>,
    due: RefCell<Option<Weak<dyn Due>>>,
}

thread_local! {
    static THREAD: Thread = Thread { depth: Cell::new(0), is_flat: Cell::new(false), due: RefCell::new(None) };
}

/// Jobs that nest, and that this thread is inside of.
#[inline]
pub fn depth() -> u32 {
    THREAD.with(|thread| thread.depth.get())
}

/// Whether a job may be run on this thread, as far as what it runs now is concerned: `None`, not at all; else whether it
/// runs nothing that nests.
#[inline]
pub(crate) fn has_room(nests: bool) -> Option<bool> {
    THREAD.with(|thread| {
        let depth = thread.depth.get();
        match nests {
            true => (depth < NESTED_MAX).then_some(depth == 0),
            false => (depth == 0 && !thread.is_flat.get()).then_some(true),
        }
    })
}

/// Counted as inside of a job for as long as it is held.
pub struct Inside {
    /// What was before.
    flat: Option<bool>,
}

/// This thread is inside of a job that nests, and that is run by other means.
#[inline]
pub fn inside() -> Inside {
    enter(true)
}

#[inline]
pub(crate) fn enter(nests: bool) -> Inside {
    THREAD.with(|thread| match nests {
        true => {
            thread.depth.set(thread.depth.get() + 1);
            Inside { flat: None }
        }
        false => Inside { flat: Some(thread.is_flat.replace(true)) },
    })
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        THREAD.with(|thread| match self.flat {
            None => thread.depth.set(thread.depth.get() - 1),
            Some(before) => thread.is_flat.set(before),
        });
    }
}

/// A job on this thread has given it something to do: it is run when the outermost job has ended that somebody lent the
/// thread to. Within a job that does not nest nobody does: that hears of it itself.
pub fn run_later(due: &Weak<impl Due + 'static>) {
    THREAD.with(|thread| {
        if !thread.is_flat.get() {
            let due: Weak<dyn Due> = due.clone();
            *thread.due.borrow_mut() = Some(due);
        }
    });
}

/// Runs what is due, if this thread is inside of no job.
#[inline]
pub fn run_due() {
    let due = THREAD.with(|thread| {
        let is_outside = thread.depth.get() == 0 && !thread.is_flat.get();
        if is_outside { thread.due.borrow_mut().take() } else { None }
    });
    if let Some(due) = due.and_then(|due| due.upgrade()) {
        due.run_if_woken();
    }
}
