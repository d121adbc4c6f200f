//! How many restarts there were within a period (OTP.md, *Intensity*). Pure.
//!
//! A restart leaves the window at `period` plus the backoff that its own child has waited since. Otherwise backoff would
//! hide a crash loop: a child that fails at once and waits longer each time would never have more than a few restarts
//! within any period. Waits of other children do not count, so that one that fails rarely never gives up for their sake.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::base::{Name, Tick};

/// A sliding window, bounds inclusive: who was restarted when.
#[derive(Clone, Debug, Default)]
pub struct Restarts(
    /// `None`: there were none. Most children never fail.
    Option<Box<Window>>,
);

#[derive(Clone, Debug, Default)]
struct Window {
    children: HashMap<Name, Failed>,
    /// Of each child the oldest restart: when it would leave if the period were zero. The one that leaves first, first.
    oldest: BTreeSet<(Tick, Name)>,
    /// Restarts of all children.
    count: usize,
}

/// The restarts of one child.
#[derive(Clone, Debug, Default)]
struct Failed {
    /// When each was, and how long the child had waited before; the one that leaves first, first. Never empty.
    restarts: VecDeque<(Tick, Duration)>,
    /// How long it has waited in all, the wait that runs included.
    waited: Duration,
}

impl Failed {
    /// When a restart leaves, but for the period.
    fn leaves(&self, (at, waited): (Tick, Duration)) -> Tick {
        at.after(self.waited.saturating_sub(waited))
    }

    fn oldest(&self) -> Option<Tick> {
        self.restarts.front().map(|first| self.leaves(*first))
    }
}

impl Restarts {
    /// Counts one event at `now`, however many children it restarts. How many there are within
    /// `period`, at most one more than `limit`: beyond that nothing is decided anew.
    pub fn add(&mut self, now: Tick, name: &Name, limit: u32, period: Duration) -> u32 {
        let window = self.0.get_or_insert_default();
        window.push(now, name);
        while window.oldest.first().is_some_and(|(leaves, _)| now.since(*leaves) > period)
            || window.count > limit as usize + 1
        {
            window.pop();
        }
        u32::try_from(window.count).unwrap_or(u32::MAX)
    }

    /// The child waits for so long before it is started again.
    pub fn wait(&mut self, name: &Name, delay: Duration) {
        if !delay.is_zero()
            && let Some(window) = &mut self.0
        {
            window.change(name, |failed| failed.waited = failed.waited.saturating_add(delay));
        }
    }

    /// Restarts within the period. Looking forgets none: under a longer period, set later, the older
    /// ones may count again.
    pub fn count(&self, now: Tick, period: Duration) -> u32 {
        u32::try_from(self.since(now, period).count()).unwrap_or(u32::MAX)
    }

    /// The same, one by one, oldest first.
    pub fn within(&self, now: Tick, period: Duration) -> Vec<(Tick, Name)> {
        let mut within: Vec<(Tick, Name)> = self.since(now, period).map(|(at, name)| (at, name.clone())).collect();
        within.sort();
        within
    }

    fn since(&self, now: Tick, period: Duration) -> impl Iterator<Item = (Tick, &Name)> {
        let children = self.0.iter().flat_map(|window| &window.children);
        children.flat_map(move |(name, failed)| {
            let counts = move |restart: &&(Tick, Duration)| now.since(failed.leaves(**restart)) <= period;
            failed.restarts.iter().filter(counts).map(move |(at, _)| (*at, name))
        })
    }

    /// A child that is let go of does not use up the budget of the others.
    pub fn forget_child(&mut self, name: &Name) {
        if let Some(window) = &mut self.0 {
            window.change(name, |failed| failed.restarts.clear());
        }
    }

    /// After an escalation, or when an operator starts anew.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

impl Window {
    fn push(&mut self, now: Tick, name: &Name) {
        self.children.entry(name.clone()).or_default();
        self.change(name, |failed| {
            // Behind all others, unless the child was started before it had waited for as long as it was to.
            let leaves = failed.leaves((now, failed.waited));
            let behind = failed.restarts.iter().rev().take_while(|other| failed.leaves(**other) > leaves).count();
            failed.restarts.insert(failed.restarts.len() - behind, (now, failed.waited));
        });
    }

    /// The one that leaves first.
    fn pop(&mut self) {
        if let Some((_, name)) = self.oldest.first().cloned() {
            self.change(&name, |failed| {
                failed.restarts.pop_front();
            });
        }
    }

    /// Changes what is known of a child. One of which nothing is left is forgotten.
    fn change(&mut self, name: &Name, change: impl FnOnce(&mut Failed)) {
        let Some(failed) = self.children.get_mut(name) else { return };
        let (oldest, count) = (failed.oldest(), failed.restarts.len());
        change(failed);
        self.count = self.count - count + failed.restarts.len();
        if oldest != failed.oldest() {
            if let Some(oldest) = oldest {
                self.oldest.remove(&(oldest, name.clone()));
            }
            if let Some(oldest) = failed.oldest() {
                self.oldest.insert((oldest, name.clone()));
            }
        }
        if failed.restarts.is_empty() {
            self.children.remove(name);
        }
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

    #[test]
    fn a_wait_keeps_the_childs_own_restarts_and_no_others() {
        let (a, b) = (Name::parse("a").unwrap(), Name::parse("b").unwrap());
        let mut restarts = Restarts::default();
        restarts.add(at(0), &b, 10, PERIOD);
        restarts.add(at(1), &a, 10, PERIOD);
        restarts.wait(&a, Duration::from_secs(3));
        restarts.wait(&b, Duration::ZERO);
        assert_eq!(restarts.within(at(5_000), PERIOD), [(at(0), b), (at(1), a.clone())]);
        assert_eq!(restarts.within(at(8_001), PERIOD), [(at(1), a.clone())]);
        assert_eq!(restarts.add(at(8_001), &a, 10, PERIOD), 2, "the wait is no time in which it ran");
        assert_eq!(restarts.add(at(8_002), &a, 10, PERIOD), 2, "and the first has left");
    }

    #[test]
    fn nothing_is_kept_of_a_child_whose_restarts_have_left() {
        let mut restarts = Restarts::default();
        for n in 0..1_000 {
            let child = Name::parse(&format!("a{n}")).unwrap();
            restarts.add(at(n * 1_000), &child, 1_000, PERIOD);
            restarts.wait(&child, Duration::from_millis(n % 7));
        }
        let window = restarts.0.unwrap();
        assert_eq!((window.children.len(), window.oldest.len(), window.count), (6, 6, 6));
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

        /// The same of several children that wait: each restart counts for the period and its own child's waits since.
        #[test]
        fn agrees_with_counting_waits(
            limit in 0_u32..8,
            steps in proptest::collection::vec((0_u64..3_000, 0_usize..3, 0_u64..2_000), 1..40),
        ) {
            let names = ["a", "b", "c"].map(|name| Name::parse(name).unwrap());
            let mut restarts = Restarts::default();
            // Which child, when, and how long it has waited since.
            let mut all: Vec<(usize, u64, u64)> = Vec::new();
            let mut now = 0;
            for (gap, child, wait) in steps {
                now += gap;
                all.push((child, now, 0));
                // One that has left does not come back.
                all.retain(|(_, at, waited)| now - at <= 5_000 + waited);
                let counted = all.len() as u32;
                let said = restarts.add(at(now), &names[child], limit, PERIOD);
                proptest::prop_assert_eq!(said, counted.min(limit + 1));
                if counted > limit {
                    // As a supervisor that gives up: what is beyond the limit is not kept.
                    restarts.clear();
                    all.clear();
                }
                restarts.wait(&names[child], Duration::from_millis(wait));
                all.iter_mut().filter(|(of, ..)| *of == child).for_each(|(.., waited)| *waited += wait);
                proptest::prop_assert_eq!(restarts.count(at(now), PERIOD) as usize, all.len());
            }
        }
    }
}
