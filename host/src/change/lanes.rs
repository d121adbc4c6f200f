//! Turns at compiling components, which keeps cores and memory busy.
//!
//! ```text
//!   small, or compiled already ---> quick ---+
//!                                            | used up its time or memory there
//!   large -------------------------> slow <--+
//!                                     |
//!                                     +----> last ----> banned
//! ```
//!
//! A small component may be as slow as a large one: what a file costs is known when it is compiled. So each begins where
//! its size says, and one that uses up the time or the memory of its lane is ended and begins anew in the next. No number
//! of slow components holds up a quick one, and one that was slow in the slow lane waits behind those that were not tried
//! there yet.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::bounds;
use crate::sandbox::{Terms, compiler_threads};

/// The lanes of one host. Each is first come, first served. Clones share them.
#[derive(Clone)]
pub struct Lanes {
    quick: Arc<Semaphore>,
    /// One at a time: a compiler uses every core there is and much memory.
    slow: Arc<Semaphore>,
    /// One of those that were slow in the slow lane waits there at a time.
    last: Arc<Semaphore>,
    compilers_bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Quick,
    Slow,
    Last,
}

impl Lane {
    /// Where a component begins. One that was compiled before only has to be loaded.
    pub fn first(bytes: u64, is_compiled: bool) -> Lane {
        if is_compiled || bytes < bounds::LARGE_COMPONENT_BYTES { Lane::Quick } else { Lane::Slow }
    }

    /// Where one goes on that used up what this lane gives; `None`: nowhere.
    pub fn next(self) -> Option<Lane> {
        match self {
            Lane::Quick => Some(Lane::Slow),
            Lane::Slow => Some(Lane::Last),
            Lane::Last => None,
        }
    }
}

/// The right to compile one component; given back when it is dropped.
pub struct Turn {
    _permits: [Option<OwnedSemaphorePermit>; 2],
    pub terms: Terms,
}

impl Lanes {
    /// `compilers_bytes_max`: bytes of memory that all compilers together may use.
    pub fn new(compilers_bytes_max: u64) -> Lanes {
        Lanes {
            quick: Arc::new(Semaphore::new(bounds::small_loads())),
            slow: Arc::new(Semaphore::new(1)),
            last: Arc::new(Semaphore::new(1)),
            compilers_bytes_max: compilers_bytes_max.max(bounds::COMPILERS_BYTES_MIN),
        }
    }

    /// Waits for a turn. `insist`: an operator asks for it.
    pub async fn turn(&self, lane: Lane, insist: bool) -> Turn {
        let permits = match lane {
            Lane::Quick => [permit(&self.quick).await, None],
            Lane::Slow => [permit(&self.slow).await, None],
            Lane::Last => [permit(&self.last).await, permit(&self.slow).await],
        };
        Turn { _permits: permits, terms: self.terms(lane, insist) }
    }

    fn terms(&self, lane: Lane, insist: bool) -> Terms {
        let (memory, threads) = match lane {
            Lane::Quick => (quick_bytes(self.compilers_bytes_max), 1),
            Lane::Slow | Lane::Last => (slow_bytes(self.compilers_bytes_max), compiler_threads()),
        };
        let time = match lane {
            Lane::Quick => bounds::QUICK_COMPILE_TIME,
            Lane::Slow => bounds::SLOW_COMPILE_TIME,
            Lane::Last => bounds::COMPILE_TIME,
        };
        Terms { memory, time, threads, insist, abandoned: Arc::default() }
    }
}

/// A quarter of the memory is for the quick lane, shared by those that are compiled there.
fn quick_bytes(all: u64) -> u64 {
    all / 4 / bounds::small_loads() as u64
}

fn slow_bytes(all: u64) -> u64 {
    all / 4 * 3
}

async fn permit(lane: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // An error would mean that the semaphore was closed, which nobody does.
    lane.clone().acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn quick_ones_pass_slow_ones_and_one_that_was_slow_waits_behind_the_rest() {
        let lanes = Lanes::new(1 << 30);
        let slow = lanes.turn(Lane::Slow, false).await;
        assert!(lanes.turn(Lane::Slow, false).now_or_never().is_none(), "one at a time");
        let quick = || lanes.turn(Lane::Quick, false).now_or_never();
        let taken: Vec<Turn> = (0..bounds::small_loads()).map(|_| quick().expect("there is room")).collect();
        assert!(quick().is_none(), "no more than the bound says");
        let mut last = Box::pin(lanes.turn(Lane::Last, false));
        assert!(last.as_mut().now_or_never().is_none());
        // Those that were slow before do not line up: one of them alone waits among the others.
        let mut other = Box::pin(lanes.turn(Lane::Last, false));
        assert!(other.as_mut().now_or_never().is_none());
        let mut new = Box::pin(lanes.turn(Lane::Slow, false));
        assert!(new.as_mut().now_or_never().is_none());
        drop((slow, taken));
        drop(last.await);
        let new = new.await;
        assert!(other.as_mut().now_or_never().is_none(), "the new one came before the second slow one");
        drop(new);
        other.await;
    }

    #[test]
    fn all_compilers_together_stay_within_their_memory() {
        for all in [bounds::COMPILERS_BYTES_MIN, 1 << 30, 5_000_000_001] {
            let lanes = Lanes::new(all);
            let quick = lanes.terms(Lane::Quick, false).memory * bounds::small_loads() as u64;
            assert!(quick + lanes.terms(Lane::Slow, false).memory <= all);
            assert_eq!(lanes.terms(Lane::Last, false).memory, lanes.terms(Lane::Slow, false).memory);
        }
    }

    #[test]
    fn each_lane_leads_to_the_next_and_the_last_nowhere() {
        assert_eq!(Lane::first(1, false), Lane::Quick);
        assert_eq!(Lane::first(bounds::LARGE_COMPONENT_BYTES, false), Lane::Slow);
        assert_eq!(Lane::first(bounds::LARGE_COMPONENT_BYTES, true), Lane::Quick);
        assert_eq!(Lane::Quick.next().and_then(Lane::next).and_then(Lane::next), None);
    }
}
