//! Who may touch a job, in one byte.
//!
//! | bit       | set by                                   | cleared by                             |
//! |-----------|------------------------------------------|----------------------------------------|
//! | `WOKEN`   | whoever gives the job something to do    | who begins to run it, or goes on       |
//! | `RUNNING` | who begins to run it, if neither it nor `DONE` is set | the same, when it rests   |
//! | `DONE`    | who runs it, at its end; or its runtime's end | nobody                            |
//!
//! 1. *One runs it.* `RUNNING` is set by one atomic step that finds it unset, and cleared by who set it. Between the two
//!    nobody else polls the job.
//! 2. *What it is given is seen.* Who gives writes first and sets `WOKEN` then (release). Who begins, or goes on, clears
//!    `WOKEN` in one step (acquire), and polls after that. A gift that came before the step is seen; one that came after it
//!    finds `RUNNING` and leaves `WOKEN` set, which rule 3 sees.
//! 3. *No wake-up is lost.* Who rests clears `RUNNING` in one step that returns `WOKEN`. Was it set, he polls again or has
//!    the runtime told. Was it not, whoever sets it later finds the word empty, and has the runtime told himself.
//! 4. *The runtime is told once.* Only the step from an empty word to `WOKEN`, and a rest that leaves `WOKEN` set, tell it.
//!    `WOKEN` alone means that it was told, and has not come yet; or that somebody who lends his thread was faster.
//! 5. *What a poll wrote is seen by the next.* A rest releases, a begin acquires.
//! 6. *The end is final.* No step leaves `DONE`. Who runs the job when its runtime ends finds `DONE` when he rests, and lets
//!    go of its work; otherwise who set `DONE` does. So exactly one does.

use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const WOKEN: u8 = 0b001;
const RUNNING: u8 = 0b010;
const DONE: u8 = 0b100;

#[derive(Default)]
pub struct Word(AtomicU8);

/// What follows for who has run a job until it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It rests, and is no longer his.
    Rests,
    /// It was woken meanwhile and is still his: it is polled again.
    GoesOn,
    /// It was woken meanwhile, and is the runtime's now, which is to be told.
    IsWoken,
    /// Its runtime has ended: he lets go of its work.
    IsOver,
}

impl Word {
    /// It was given something to do. True: the runtime is to be told.
    #[inline]
    pub fn wake(&self) -> bool {
        self.0.fetch_or(WOKEN, Release) == 0
    }

    /// Whether it is this thread's to run from now on, and then whether it was woken.
    #[inline]
    pub fn begin(&self) -> Option<bool> {
        let begun = self.0.fetch_update(Acquire, Relaxed, |word| (word & (RUNNING | DONE) == 0).then_some(RUNNING));
        begun.ok().map(|before| before == WOKEN)
    }

    /// It waits. `may_go_on`: where it was woken meanwhile, this thread polls it again.
    #[inline]
    pub fn rest(&self, may_go_on: bool) -> Rest {
        let rested = self.0.fetch_update(AcqRel, Acquire, |word| match word {
            RUNNING => Some(0),
            _ if word & DONE != 0 => None,
            _ if may_go_on => Some(RUNNING),
            _ => Some(WOKEN),
        });
        match rested {
            Err(_) => Rest::IsOver,
            Ok(RUNNING) => Rest::Rests,
            Ok(_) if may_go_on => Rest::GoesOn,
            Ok(_) => Rest::IsWoken,
        }
    }

    /// It has ended. By who runs it. No mere store: a wake-up at the same time comes before it or after it.
    #[inline]
    pub fn finish(&self) {
        self.0.swap(DONE, Release);
    }

    /// Its runtime ends. True: nobody runs it, and who asks lets go of its work.
    #[inline]
    pub fn close(&self) -> bool {
        self.0.swap(DONE, AcqRel) & RUNNING == 0
    }

    #[inline]
    pub fn is_done(&self) -> bool {
        self.0.load(Acquire) & DONE != 0
    }

    /// It waits to be run.
    #[inline]
    pub fn is_woken(&self) -> bool {
        self.0.load(Relaxed) == WOKEN
    }
}
