//! When many workers fail at once, their restarts are spread over time, so that those which still run
//! are not starved by starts. Over the whole tree, beside each supervisor's own budget and backoff. Pure.
//!
//! In any second at most [`bounds::RESTARTS_PER_SECOND_MAX`] restarts of the normal tier begin; the
//! peripheral tier waits at half of that already, the critical one at double, the error kernel never.
//! Each restart is given a place when it is asked for: at once, or the next one that is free for its
//! tier, first come first served within a tier, at most [`bounds::RESTART_PLACE_TIME`] away. Those that
//! wait are spaced evenly.
//!
//! A storm begins with the first restart that has to wait, and is over a second after the last one's
//! place.

use std::collections::VecDeque;
use std::time::Duration;

use super::spec::Tier;
use crate::base::{Tick, bounds};

/// The time in which restarts are counted.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Places are counted in slots of this length: what is remembered is bounded however many restarts there
/// are.
const SLOT_MS: u64 = 10;

/// A second touches this many slots: one more than fit, since it may begin within one.
const SLOTS_IN_PERIOD: u64 = PERIOD.as_secs() * 1_000 / SLOT_MS + 1;

#[derive(Clone, Debug, Default)]
pub struct Storm {
    /// How many restarts were given a place in each slot, from `first` on: those of the last second, and
    /// those to come.
    slots: VecDeque<u32>,
    first: u64,
    /// For each tier: before this, those who wait already have their places.
    next: [Tick; 4],
    /// While there is one: when it will be over, if nobody has to wait any more.
    over_at: Option<Tick>,
}

/// The place of one restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How long it waits.
    pub delay: Duration,
    /// A storm begins with it: so many restarts began within [`PERIOD`], this one not counted.
    pub begins: Option<u32>,
}

/// Whether a storm is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// There was none.
    Calm,
    /// It is, and that was not said before.
    Over,
    /// Not before then: look again.
    Storm(Tick),
}

impl Storm {
    /// Gives one restart its place.
    pub fn restart(&mut self, now: Tick, tier: Tier) -> Place {
        self.forget(slot_of(now));
        let at = match per_second(tier) {
            None => now,
            Some(max) => self.place(now, tier, max),
        };
        let within = self.within(slot_of(now));
        self.put(slot_of(at));
        let delay = at.since(now);
        if delay.is_zero() {
            return Place { delay, begins: None };
        }
        let begins = self.over_at.is_none().then_some(within);
        self.over_at = self.over_at.max(Some(at.after(PERIOD)));
        Place { delay, begins }
    }

    /// Whether the storm has ended by now. Says so once.
    pub fn look(&mut self, now: Tick) -> Weather {
        match self.over_at {
            None => Weather::Calm,
            Some(at) if at <= now => {
                self.over_at = None;
                Weather::Over
            }
            Some(at) => Weather::Storm(at),
        }
    }

    fn place(&mut self, now: Tick, tier: Tier, max: u32) -> Tick {
        let latest = now.after(bounds::RESTART_PLACE_TIME);
        let earliest = now.max(self.next[tier as usize]).min(latest);
        let at = self.free_from(earliest, max).min(latest);
        if at > now {
            self.next[tier as usize] = at.after(PERIOD / max);
        }
        at
    }

    /// The first moment from `earliest` on that is in no second with `max` restarts.
    fn free_from(&self, earliest: Tick, max: u32) -> Tick {
        let mut at = earliest;
        if self.slots.iter().sum::<u32>() < max {
            return at;
        }
        loop {
            let slot = slot_of(at);
            // The last second with no room that this slot is in, by the slot it ends with.
            let full = (slot..slot + SLOTS_IN_PERIOD).rev().find(|end| self.within(*end) >= max);
            match full {
                None => return at,
                // The slot after it is in no such second; all slots up to it are.
                Some(end) => at = Tick::at(Duration::from_millis((end + 1) * SLOT_MS)),
            }
        }
    }

    /// Restarts in the second that ends with this slot.
    fn within(&self, end: u64) -> u32 {
        let from = (end + 1).saturating_sub(SLOTS_IN_PERIOD).saturating_sub(self.first) as usize;
        let to = ((end + 1).saturating_sub(self.first) as usize).min(self.slots.len());
        self.slots.range(from.min(to)..to).sum()
    }

    fn put(&mut self, slot: u64) {
        let at = slot.saturating_sub(self.first) as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, 0);
        }
        self.slots[at] = self.slots[at].saturating_add(1);
    }

    /// Lets go of what is in no second any more that now is in.
    fn forget(&mut self, now: u64) {
        let first = (now + 1).saturating_sub(SLOTS_IN_PERIOD).max(self.first);
        let gone = usize::try_from(first - self.first).unwrap_or(usize::MAX).min(self.slots.len());
        self.slots.drain(..gone);
        self.first = first;
    }
}

/// Restarts in any second at which this tier waits; `None`: it never does.
fn per_second(tier: Tier) -> Option<u32> {
    let normal = bounds::RESTARTS_PER_SECOND_MAX;
    match tier {
        Tier::ErrorKernel => None,
        Tier::Critical => Some(normal * 2),
        Tier::Normal => Some(normal),
        Tier::Peripheral => Some(normal / 2),
    }
}

fn slot_of(at: Tick) -> u64 {
    at.time().as_secs() * (1_000 / SLOT_MS) + u64::from(at.time().subsec_millis()) / SLOT_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NORMAL: usize = bounds::RESTARTS_PER_SECOND_MAX as usize;

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    /// The delays, in milliseconds, of so many restarts at one moment.
    fn delays(storm: &mut Storm, now: Tick, tier: Tier, count: usize) -> Vec<u128> {
        (0..count).map(|_| storm.restart(now, tier).delay.as_millis()).collect()
    }

    fn at_once(storm: &mut Storm, now: Tick, tier: Tier) -> usize {
        delays(&mut storm.clone(), now, tier, 1_000).iter().filter(|delay| **delay == 0).count()
    }

    #[test]
    fn each_tier_waits_at_a_bound_of_its_own() {
        let mut storm = Storm::default();
        for (tier, expected) in [
            (Tier::Peripheral, NORMAL / 2),
            (Tier::Normal, NORMAL),
            (Tier::Critical, NORMAL * 2),
            (Tier::ErrorKernel, 1_000),
        ] {
            assert_eq!(at_once(&mut storm, at(5), tier), expected, "{tier:?}");
        }
        // The bounds are of all together: what others use is used.
        delays(&mut storm, at(5), Tier::ErrorKernel, NORMAL);
        assert_eq!(at_once(&mut storm, at(6), Tier::Peripheral), 0);
        assert_eq!(at_once(&mut storm, at(6), Tier::Normal), 0);
        assert_eq!(at_once(&mut storm, at(6), Tier::Critical), NORMAL);
        assert_eq!(at_once(&mut storm, at(1_020), Tier::Normal), NORMAL, "a second later");
    }

    #[test]
    fn those_that_wait_are_spread_in_order_and_none_waits_longer_than_the_bound() {
        let mut storm = Storm::default();
        let all = delays(&mut storm, at(0), Tier::Normal, 1_500);
        assert_eq!(all[..NORMAL], [0; NORMAL]);
        assert_eq!(all[NORMAL..NORMAL + 4], [1_010, 1_020, 1_030, 1_040]);
        assert!(all.is_sorted(), "first come, first served");
        assert_eq!(all.last(), Some(&bounds::RESTART_PLACE_TIME.as_millis()));
        // One that comes later waits for its place behind them; a critical one does not.
        let last = storm.restart(at(20), Tier::Normal).delay;
        assert_eq!(last, bounds::RESTART_PLACE_TIME);
        assert_eq!(storm.restart(at(2_000), Tier::Critical).delay, Duration::ZERO);
    }

    #[test]
    fn a_storm_begins_with_the_first_that_waits_and_ends_a_second_after_the_last_place() {
        let mut storm = Storm::default();
        for _ in 0..NORMAL {
            assert_eq!(storm.restart(at(0), Tier::Normal).begins, None);
        }
        assert_eq!(storm.look(at(0)), Weather::Calm);
        assert_eq!(storm.restart(at(0), Tier::Normal).begins, Some(NORMAL as u32));
        assert_eq!(storm.restart(at(0), Tier::Normal).begins, None, "it has begun");
        assert_eq!(storm.look(at(1_000)), Weather::Storm(at(2_020)));
        assert_eq!(storm.look(at(2_020)), Weather::Over);
        assert_eq!(storm.look(at(2_020)), Weather::Calm);
        assert_eq!(delays(&mut storm, at(2_100), Tier::Normal, 1), [0]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut storm = Storm::default();
        for now in [0, 1, 10_000, 3_600_000, u64::MAX / 2_000_000] {
            delays(&mut storm, at(now), Tier::Peripheral, 2_000);
            let most = SLOTS_IN_PERIOD + bounds::RESTART_PLACE_TIME.as_secs() * 1_000 / SLOT_MS;
            assert!(storm.slots.len() as u64 <= most, "{} slots at {now}", storm.slots.len());
        }
    }

    fn tier() -> impl Strategy<Value = Tier> {
        prop_oneof![Just(Tier::Critical), Just(Tier::Normal), Just(Tier::Peripheral)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// No second has more restarts than the highest tier among them may have, but for those that
        /// waited as long as any may; and within a tier nobody overtakes.
        #[test]
        fn no_second_has_too_many(
            waves in proptest::collection::vec((0_u64..1_500, tier(), 1_usize..120), 1..12),
            critical in any::<bool>(),
        ) {
            let (mut storm, mut now) = (Storm::default(), 0);
            let mut places: Vec<Tick> = Vec::new();
            let mut last = [Tick::ZERO; 4];
            for (gap, tier, count) in waves {
                now += gap;
                let tier = if critical { tier } else { tier.max(Tier::Normal) };
                for _ in 0..count {
                    let delay = storm.restart(at(now), tier).delay;
                    prop_assert!(delay <= bounds::RESTART_PLACE_TIME);
                    let place = at(now).after(delay);
                    prop_assert!(place >= last[tier as usize]);
                    last[tier as usize] = place;
                    if delay < bounds::RESTART_PLACE_TIME {
                        places.push(place);
                    }
                }
            }
            places.sort();
            let most = if critical { NORMAL * 2 } else { NORMAL };
            for from in &places {
                let within = places.iter().filter(|at| **at >= *from && **at < from.after(PERIOD)).count();
                prop_assert!(within <= most, "{within} in the second from {from:?}");
            }
        }
    }
}
