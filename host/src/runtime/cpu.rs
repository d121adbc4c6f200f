//! An account of fuel per second: a token bucket that can go into debt. Pure.
//!
//! Who runs pays afterwards, slice by slice, and must not run on while the account is in debt. So over
//! any time no more is run than a burst, what flows in meanwhile, and the last slice of each that
//! runs on the account; and what was run too much is made up for.

use std::time::Duration;

use crate::base::{Tick, bounds};

#[derive(Clone, Debug)]
pub struct CpuBucket {
    per_second: u64,
    /// Fuel times nanoseconds per second, so that nothing is ever rounded away; below zero: debt.
    level: i128,
    at: Tick,
}

const NANOS: i128 = 1_000_000_000;

impl CpuBucket {
    /// A full one: a worker that did nothing for a while may use a second's worth at once. A rate
    /// of zero counts as one.
    pub fn new(per_second: u64, now: Tick) -> CpuBucket {
        let bucket = CpuBucket { per_second: per_second.max(1), level: 0, at: now };
        CpuBucket { level: bucket.burst(), ..bucket }
    }

    /// Another rate from now on. Debt stays debt.
    pub fn set_rate(&mut self, now: Tick, per_second: u64) {
        self.level = self.level_at(now);
        self.at = now;
        self.per_second = per_second.max(1);
        self.level = self.level.min(self.burst());
    }

    /// Fuel that was used.
    pub fn charge(&mut self, now: Tick, fuel: u64) {
        self.level = self.level_at(now).saturating_sub(i128::from(fuel) * NANOS);
        self.at = now;
    }

    /// Fuel that was used in one go, without a chance to wait in between. What is more than a second's
    /// worth is let go: nobody is held up for long by what it could not spread.
    pub fn charge_unspread(&mut self, now: Tick, fuel: u64) {
        self.charge(now, fuel.min(self.per_second));
        // Of many who charge at one time, together no more either.
        self.level = self.level.max(-(i128::from(self.per_second) * NANOS));
    }

    /// Fuel that was charged and not used.
    pub fn give_back(&mut self, now: Tick, fuel: u64) {
        self.level = self.level_at(now).saturating_add(i128::from(fuel) * NANOS).min(self.burst());
        self.at = now;
    }

    /// When it is out of debt; `None`: it is not in debt.
    pub fn ready_at(&self, now: Tick) -> Option<Tick> {
        let debt = -self.level_at(now);
        if debt <= 0 {
            return None;
        }
        let nanos = (debt + i128::from(self.per_second) - 1) / i128::from(self.per_second);
        Some(now.after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))))
    }

    fn level_at(&self, now: Tick) -> i128 {
        let nanos = i128::try_from(now.since(self.at).as_nanos()).unwrap_or(i128::MAX);
        let flowed = nanos.saturating_mul(i128::from(self.per_second));
        self.level.saturating_add(flowed).min(self.burst())
    }

    /// What can be saved up: a second's worth, and at least one slice, or nobody could run one.
    fn burst(&self) -> i128 {
        i128::from(self.per_second.max(bounds::FUEL_SLICE)) * NANOS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: u64 = bounds::FUEL_SLICE;

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    /// A rate, what is charged when (ms, fuel), a moment, and when it is ready then.
    #[test]
    fn debt_is_waited_for() {
        type Case = (u64, &'static [(u64, u64)], u64, Option<u64>);
        let cases: [Case; 8] = [
            (1_000_000, &[], 0, None),
            (1_000_000, &[(0, 1_000_000)], 0, None),
            (1_000_000, &[(0, 1_100_000)], 0, Some(100)),
            (1_000_000, &[(0, 1_100_000)], 60, Some(100)),
            (1_000_000, &[(0, 1_100_000)], 100, None),
            // A long rest saves up no more than a second's worth.
            (1_000_000, &[(60_000, 1_500_000)], 60_000, Some(60_500)),
            // Not even a slice a second.
            (1_000, &[(0, SLICE + 1_000)], 0, Some(1_000)),
            (u64::MAX, &[(0, u64::MAX)], 0, None),
        ];
        for (rate, charges, now, ready) in cases {
            let mut bucket = CpuBucket::new(rate, Tick::ZERO);
            charges.iter().for_each(|(ms, fuel)| bucket.charge(at(*ms), *fuel));
            assert_eq!(bucket.ready_at(at(now)), ready.map(at), "{rate} {charges:?} {now}");
        }
    }

    #[test]
    fn what_was_charged_too_much_comes_back_but_fills_no_more_than_the_bucket() {
        let mut bucket = CpuBucket::new(1_000_000, Tick::ZERO);
        bucket.charge(at(0), 1_500_000);
        bucket.give_back(at(0), 400_000);
        assert_eq!(bucket.ready_at(at(0)), Some(at(100)));
        bucket.give_back(at(0), u64::MAX);
        bucket.charge(at(0), 1_000_001);
        assert!(bucket.ready_at(at(0)).is_some());
    }

    #[test]
    fn another_rate_holds_from_then_on() {
        let mut bucket = CpuBucket::new(1_000_000, Tick::ZERO);
        bucket.charge(at(0), 2_000_000);
        bucket.set_rate(at(500), 5_000_000);
        assert_eq!(bucket.ready_at(at(500)), Some(at(600)), "half of the debt is left");
        bucket.set_rate(at(10_000), 1_000_000);
        bucket.charge(at(10_000), 1_500_000);
        assert_eq!(bucket.ready_at(at(10_000)), Some(at(10_500)), "what was saved up is cut to the new rate");
    }

    #[test]
    fn what_could_not_be_spread_costs_a_second_at_most() {
        let mut bucket = CpuBucket::new(1_000_000, Tick::ZERO);
        bucket.charge(at(0), 1_000_000);
        bucket.charge_unspread(at(0), u64::MAX);
        assert_eq!(bucket.ready_at(at(0)), Some(at(1_000)));
    }

    proptest::proptest! {
        /// Who runs slice by slice, and waits when in debt, never gets more than its share.
        #[test]
        fn no_window_has_more_than_a_burst_the_inflow_and_one_slice(
            rate in 1_000_u64..10_000_000,
            steps in proptest::collection::vec((0_u64..200, 1_u64..=SLICE), 1..100),
        ) {
            let mut bucket = CpuBucket::new(rate, Tick::ZERO);
            let mut now = Tick::ZERO;
            let mut runs: Vec<(Tick, u64)> = Vec::new();
            for (pause, fuel) in steps {
                now = now.after(Duration::from_millis(pause));
                if let Some(ready) = bucket.ready_at(now) {
                    proptest::prop_assert!(ready > now);
                    now = ready;
                    proptest::prop_assert_eq!(bucket.ready_at(now), None);
                }
                bucket.charge(now, fuel);
                runs.push((now, fuel));
            }
            for (from, (begin, _)) in runs.iter().enumerate() {
                let mut used = 0_u128;
                for (end, fuel) in &runs[from..] {
                    used += u128::from(*fuel);
                    let inflow = end.since(*begin).as_nanos() * u128::from(rate) / 1_000_000_000 + 1;
                    let most = u128::from(rate.max(SLICE)) + inflow + u128::from(SLICE);
                    proptest::prop_assert!(used <= most, "{} > {} from {:?} to {:?}", used, most, begin, end);
                }
            }
        }
    }
}
