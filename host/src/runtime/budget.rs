//! How many restarts there were within a period (OTP.md, *Intensity*). Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{Name, Tick};

/// A true sliding window: who was restarted when within the last period, bounds inclusive.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    /// `None`: there were none. Most children never fail.
    #[allow(clippy::box_collection, reason = "a quarter of the size, in each child of a template")]
    window: Option<Box<VecDeque<(Tick, Name)>>>,
}

impl Restarts {
    /// Counts one event at `now`, however many children it restarts. How many there are within
    /// `period`, at most one more than `limit`: beyond that nothing is decided anew.
    pub fn add(&mut self, now: Tick, name: &Name, limit: u32, period: Duration) -> u32 {
        let window = self.window.get_or_insert_default();
        window.push_back((now, name.clone()));
        while window.front().is_some_and(|(then, _)| now.since(*then) > period) || window.len() > limit as usize + 1 {
            window.pop_front();
        }
        u32::try_from(window.len()).unwrap_or(u32::MAX)
    }

    /// Restarts within the period. Looking forgets none: under a longer period, set later, the older
    /// ones may count again.
    pub fn count(&self, now: Tick, period: Duration) -> u32 {
        u32::try_from(self.since(now, period).count()).unwrap_or(u32::MAX)
    }

    /// The same, one by one, oldest first.
    pub fn within(&self, now: Tick, period: Duration) -> Vec<(Tick, Name)> {
        self.since(now, period).cloned().collect()
    }

    fn since(&self, now: Tick, period: Duration) -> impl Iterator<Item = &(Tick, Name)> {
        let all = self.window.iter().flat_map(|window| window.iter());
        all.filter(move |(then, _)| now.since(*then) <= period)
    }

    /// A child that is let go of does not use up the budget of the others.
    pub fn forget_child(&mut self, name: &Name) {
        if let Some(window) = &mut self.window {
            window.retain(|(_, other)| other != name);
        }
    }

    /// After an escalation, or when an operator starts anew.
    pub fn clear(&mut self) {
        self.window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    /// Moments of restarts, the limit, and whether each is within it.
    fn within(limit: u32, moments: &[u64]) -> Vec<bool> {
        let mut restarts = Restarts::default();
        let child = Name::parse("a").unwrap();
        moments.iter().map(|ms| restarts.add(at(*ms), &child, limit, PERIOD) <= limit).collect()
    }

    #[test]
    fn gives_up_when_more_than_intensity_restarts_happen_within_the_period() {
        assert_eq!(within(1, &[0, 10]), [true, false]);
        assert_eq!(within(3, &[0, 1, 2, 3]), [true, true, true, false]);
    }

    #[test]
    fn an_intensity_of_zero_gives_up_at_the_first() {
        assert_eq!(within(0, &[0]), [false]);
    }

    #[test]
    fn the_window_slides_and_its_bounds_are_inclusive() {
        assert_eq!(within(1, &[0, 5_000]), [true, false]);
        assert_eq!(within(1, &[0, 5_001]), [true, true]);
        assert_eq!(within(2, &[0, 4_000, 6_000, 8_000]), [true, true, true, false]);
    }

    #[test]
    fn a_child_that_is_let_go_of_is_not_counted() {
        let (a, b) = (Name::parse("a").unwrap(), Name::parse("b").unwrap());
        let mut restarts = Restarts::default();
        for (ms, name) in [(0, &a), (1, &b), (2, &a)] {
            restarts.add(at(ms), name, 10, PERIOD);
        }
        restarts.forget_child(&a);
        assert_eq!(restarts.within(at(3), PERIOD), [(at(1), b)]);
    }

    proptest::proptest! {
        /// Against the definition: count the moments within the period before each.
        #[test]
        fn agrees_with_counting(limit in 0_u32..5, gaps in proptest::collection::vec(0_u64..4_000, 1..40)) {
            let mut restarts = Restarts::default();
            let child = Name::parse("a").unwrap();
            let mut moments: Vec<u64> = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                moments.push(now);
                let counted = moments.iter().filter(|then| now - **then <= 5_000).count() as u32;
                let said = restarts.add(at(now), &child, limit, PERIOD);
                proptest::prop_assert_eq!(said, counted.min(limit + 1));
            }
        }
    }
}
