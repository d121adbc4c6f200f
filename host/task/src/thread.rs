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

/// Where a thread is. Read and written by each call, so that nothing in it needs a destructor or a first time.
struct Place {
    /// Jobs that nest, and that this thread is inside of.
    depth: Cell<u32>,
    /// It is inside of one that does not.
    is_flat: Cell<bool>,
    /// There is one in [`DUE`].
    has_due: Cell<bool>,
}

impl Place {
    const fn new() -> Place {
        Place { depth: Cell::new(0), is_flat: Cell::new(false), has_due: Cell::new(false) }
    }
}

#[cfg(not(any(loom, shuttle)))]
thread_local! {
    static PLACE: Place = const { Place::new() };
    static DUE: RefCell<Option<Weak<dyn Due>>> = const { RefCell::new(None) };
}

#[cfg(any(loom, shuttle))]
thread_local! {
    static PLACE: Place = Place::new();
    static DUE: RefCell<Option<Weak<dyn Due>>> = RefCell::new(None);
}

/// Jobs that nest, and that this thread is inside of.
#[inline]
pub fn depth() -> u32 {
    PLACE.with(|place| place.depth.get())
}

/// Whether a job may be run on this thread, as far as what it runs now is concerned: `None`, not at all; else whether it
/// runs nothing that nests.
#[inline]
pub(crate) fn has_room(nests: bool) -> Option<bool> {
    PLACE.with(|place| {
        let depth = place.depth.get();
        match nests {
            true => (depth < NESTED_MAX).then_some(depth == 0),
            false => (depth == 0 && !place.is_flat.get()).then_some(true),
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
    PLACE.with(|place| match nests {
        true => {
            place.depth.set(place.depth.get() + 1);
            Inside { flat: None }
        }
        false => Inside { flat: Some(place.is_flat.replace(true)) },
    })
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        PLACE.with(|place| match self.flat {
            None => place.depth.set(place.depth.get() - 1),
            Some(before) => place.is_flat.set(before),
        });
    }
}

/// A job on this thread has given it something to do: it is run when the outermost job has ended that somebody lent the
/// thread to. Within a job that does not nest nobody does: that hears of it itself.
pub fn run_later(due: &Weak<impl Due + 'static>) {
    if PLACE.with(|place| place.is_flat.get()) {
        return;
    }
    let due: Weak<dyn Due> = due.clone();
    DUE.with(|there| *there.borrow_mut() = Some(due));
    PLACE.with(|place| place.has_due.set(true));
}

/// Runs what is due, if this thread is inside of no job.
#[inline]
pub fn run_due() {
    if PLACE.with(|place| place.has_due.get() && place.depth.get() == 0 && !place.is_flat.get()) {
        run_what_is_due();
    }
}

#[cold]
fn run_what_is_due() {
    PLACE.with(|place| place.has_due.set(false));
    let due = DUE.with(|due| due.borrow_mut().take());
    if let Some(due) = due.and_then(|due| due.upgrade()) {
        due.run_if_woken();
    }
}
