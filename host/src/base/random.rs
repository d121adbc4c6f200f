//! The one source of randomness in the host's decisions: what spreads restarts, and nothing that has
//! to be secret.
//!
//! A host seeds it from the system; a simulation seeds it by hand, and the same seed then decides
//! the same.

use std::sync::{Arc, Mutex, PoisonError};

/// Gives random numbers. Cheap to clone; clones draw from one sequence.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    /// Another sequence in each process.
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn system() -> Random {
        Random(Arc::new(Mutex::new(fastrand::Rng::new())))
    }

    /// The same sequence for the same seed.
    pub fn seeded(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// A number in `0..end`, each as likely as the others; 0 where `end` is.
    pub fn below(&self, end: u32) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).u32(0..end.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let random = Random::seeded(seed);
            (0..20).map(|_| random.below(100)).collect::<Vec<u32>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert!(numbers(7).iter().all(|number| *number < 100));
        assert_eq!(Random::system().below(0), 0);
    }
}
