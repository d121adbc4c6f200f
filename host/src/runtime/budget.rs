//! How many restarts a supervisor allows (OTP.md, *Intensity*). Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Tick;

/// A true sliding window: the moments of the restarts within the last `period`, bounds inclusive.
#[derive(Clone, Debug, Default)]
pub struct RestartBudget {
    restarts: VecDeque<Tick>,
}

/// Whether one more restart is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Restart,
    /// More than `intensity` restarts within `period`.
    GiveUp,
}

impl RestartBudget {
    /// Counts one event at `now`, however many children it restarts.
    pub fn restart(&mut self, now: Tick, intensity: u32, period: Duration) -> Verdict {
        self.restarts.push_back(now);
        self.forget(now, period);
        // The window holds at most one more than `intensity`: beyond that nothing is decided anew.
        while self.restarts.len() > intensity as usize + 1 {
            self.restarts.pop_front();
        }
        if self.restarts.len() > intensity as usize { Verdict::GiveUp } else { Verdict::Restart }
    }

    /// Restarts within the period.
    pub fn used(&mut self, now: Tick, period: Duration) -> u32 {
        self.forget(now, period);
        u32::try_from(self.restarts.len()).unwrap_or(u32::MAX)
    }

    /// After an escalation, or when an operator starts anew.
    pub fn clear(&mut self) {
        self.restarts.clear();
    }

    fn forget(&mut self, now: Tick, period: Duration) {
        while self.restarts.front().is_some_and(|&then| now.since(then) > period) {
            self.restarts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> Tick {
        Tick(Duration::from_millis(ms))
    }

    /// Moments of restarts, the intensity, and what is said to each.
    fn verdicts(intensity: u32, moments: &[u64]) -> Vec<bool> {
        let mut budget = RestartBudget::default();
        moments.iter().map(|ms| budget.restart(at(*ms), intensity, PERIOD) == Verdict::Restart).collect()
    }

    #[test]
    fn gives_up_when_more_than_intensity_restarts_happen_within_the_period() {
        assert_eq!(verdicts(1, &[0, 10]), [true, false]);
        assert_eq!(verdicts(3, &[0, 1, 2, 3]), [true, true, true, false]);
    }

    #[test]
    fn an_intensity_of_zero_gives_up_at_the_first() {
        assert_eq!(verdicts(0, &[0]), [false]);
    }

    #[test]
    fn the_window_slides_and_its_bounds_are_inclusive() {
        assert_eq!(verdicts(1, &[0, 5_000]), [true, false]);
        assert_eq!(verdicts(1, &[0, 5_001]), [true, true]);
        assert_eq!(verdicts(2, &[0, 4_000, 6_000, 8_000]), [true, true, true, false]);
    }

    proptest::proptest! {
        /// Against the definition: count the moments within the period before each.
        #[test]
        fn agrees_with_counting(intensity in 0_u32..5, gaps in proptest::collection::vec(0_u64..4_000, 1..40)) {
            let mut budget = RestartBudget::default();
            let mut moments: Vec<u64> = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                moments.push(now);
                let within = moments.iter().filter(|then| now - **then <= 5_000).count();
                let expected = if within > intensity as usize { Verdict::GiveUp } else { Verdict::Restart };
                let said = budget.restart(at(now), intensity, PERIOD);
                proptest::prop_assert_eq!(said, expected);
            }
        }
    }
}
