//! The state of one job.

use std::task::Waker;

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU16};
use crate::sync::{Mutex, locked};
use crate::word::Word;

/// `W` is what a job knows, and is polled.
pub struct Cell<W> {
    pub(crate) word: Word,
    /// Locked by who made the word `RUNNING`, and by who lets go of it at the end: nobody ever waits for it.
    pub(crate) work: Mutex<Option<W>>,
    /// What wakes the task of the runtime, if there is one. Between its making and its first turn, what does nothing.
    pub(crate) runtime: Mutex<Option<Waker>>,
    runs: AtomicU16,
    lent: AtomicBool,
    falls: AtomicU8,
}

impl<W> Default for Cell<W> {
    fn default() -> Cell<W> {
        Cell {
            word: Word::default(),
            work: Mutex::new(None),
            runtime: Mutex::new(None),
            runs: AtomicU16::new(0),
            lent: AtomicBool::new(false),
            falls: AtomicU8::new(0),
        }
    }
}

impl<W> Cell<W> {
    /// Its work, before anybody has given it something to do.
    pub fn put(&self, work: W) {
        *locked(&self.work) = Some(work);
    }

    /// How often it was polled, wrapped around: another number is another poll. Exact for who runs it.
    pub fn runs(&self) -> u16 {
        self.runs.load(Relaxed)
    }

    /// Whether a thread was lent for the poll that is under way. Exact for who runs it.
    pub fn is_lent(&self) -> bool {
        self.lent.load(Relaxed)
    }

    /// It fell over one poll more. How often that was in a row. By who runs it.
    pub fn falls(&self) -> u8 {
        let falls = self.falls.load(Relaxed).saturating_add(1);
        self.falls.store(falls, Relaxed);
        falls
    }

    /// Its next fall is none in a row. By who runs it.
    pub fn has_done_something(&self) {
        self.falls.store(0, Relaxed);
    }

    /// Whether it has ended, or its runtime has.
    pub fn is_done(&self) -> bool {
        self.word.is_done()
    }

    /// It goes on as if it were polled anew. By who runs it.
    pub fn begins_anew(&self) {
        self.runs.store(self.runs.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(crate) fn is_polled(&self, lent: bool) {
        self.lent.store(lent, Relaxed);
        self.begins_anew();
    }
}
