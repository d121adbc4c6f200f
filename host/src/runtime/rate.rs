//! How many messages a worker takes in a time: token buckets, one for all callers and one for each.
//! Pure.

use std::collections::HashMap;
use std::hash::Hash;

use super::spec::{Rate, RateLimits};
use crate::base::{Name, Tick, bounds};

/// Parts of a token. In one nanosecond a rate of one token per second brings exactly one part, so that
/// nothing is ever rounded.
const TOKEN: u64 = 1_000_000_000;

/// Holds up to `burst` tokens and gets `per_second` of them, evenly. Over any time `t` it gives no more
/// than `burst + per_second * t`.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// In parts of a token, at `since`.
    level: u64,
    since: Tick,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Tick) -> Bucket {
        Bucket { rate, level: full(rate), since: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Tick) -> bool {
        let ready = self.is_ready(now);
        if ready {
            self.level -= TOKEN;
        }
        ready
    }

    /// Whether there is a token to take.
    pub fn is_ready(&mut self, now: Tick) -> bool {
        self.level = self.level_at(now);
        // A clock that two threads have read may come here out of order: then no time has passed.
        self.since = self.since.max(now);
        self.level >= TOKEN
    }

    fn level_at(&self, now: Tick) -> u64 {
        let brought = now.since(self.since).as_nanos().saturating_mul(u128::from(self.rate.per_second));
        let level = u128::from(self.level).saturating_add(brought).min(u128::from(full(self.rate)));
        u64::try_from(level).unwrap_or(u64::MAX)
    }

    /// Parts of a token that are missing.
    fn used(&self, now: Tick) -> u64 {
        full(self.rate) - self.level_at(now)
    }
}

/// At most 2^32 times 10^9: it fits.
fn full(rate: Rate) -> u64 {
    u64::from(rate.burst).saturating_mul(TOKEN)
}

/// One bucket for each caller that was seen lately, at most `max`. Beyond that the one that has used up
/// least is forgotten: one that is full loses nothing, any other gets back what it had used, so that with
/// more callers than that at one time the bound of each is looser, and only that of all together is firm.
#[derive(Clone, Debug)]
pub struct Callers<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
    max: usize,
}

impl<K: Clone + Eq + Hash> Callers<K> {
    pub fn new(rate: Rate, max: usize) -> Callers<K> {
        Callers { rate, buckets: HashMap::new(), max: max.max(1) }
    }

    /// The bucket of this caller, which is a full one where it is new.
    pub fn of(&mut self, caller: &K, now: Tick) -> &mut Bucket {
        if !self.buckets.contains_key(caller) {
            self.make_room(now);
        }
        let rate = self.rate;
        self.buckets.entry(caller.clone()).or_insert_with(|| Bucket::new(rate, now))
    }

    fn make_room(&mut self, now: Tick) {
        if self.buckets.len() < self.max {
            return;
        }
        self.buckets.retain(|_, bucket| bucket.used(now) > 0);
        if self.buckets.len() < self.max {
            return;
        }
        let least = self.buckets.iter().min_by_key(|(_, bucket)| (bucket.used(now), bucket.since));
        if let Some(caller) = least.map(|(caller, _)| caller.clone()) {
            self.buckets.remove(&caller);
        }
    }
}

/// The limits of one worker. Most have none, and there may be a million of them.
#[derive(Clone, Debug, Default)]
pub struct Limiter(Option<Box<Buckets>>);

#[derive(Clone, Debug)]
struct Buckets {
    limits: RateLimits,
    messages: Option<Bucket>,
    callers: Option<Callers<Name>>,
    /// The clients outside the tree count as one caller.
    clients: Option<Bucket>,
}

impl Limiter {
    pub fn new(limits: RateLimits, now: Tick) -> Limiter {
        if limits == RateLimits::default() {
            return Limiter(None);
        }
        Limiter(Some(Box::new(Buckets {
            limits,
            messages: limits.messages.map(|rate| Bucket::new(rate, now)),
            callers: limits.per_caller.map(|rate| Callers::new(rate, bounds::RATE_CALLERS_MAX)),
            clients: limits.per_caller.map(|rate| Bucket::new(rate, now)),
        })))
    }

    pub fn limits(&self) -> RateLimits {
        self.0.as_ref().map(|buckets| buckets.limits).unwrap_or_default()
    }

    pub fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// Whether one more message is taken. One that is not costs neither its caller nor the others.
    /// `None` is a client outside the tree.
    pub fn take(&mut self, caller: Option<&Name>, now: Tick) -> bool {
        let Some(buckets) = self.0.as_deref_mut() else { return true };
        if buckets.messages.as_mut().is_some_and(|all| !all.is_ready(now)) {
            return false;
        }
        let own = match caller {
            Some(caller) => buckets.callers.as_mut().map(|callers| callers.of(caller, now)),
            None => buckets.clients.as_mut(),
        };
        if own.is_some_and(|bucket| !bucket.take(now)) {
            return false;
        }
        buckets.messages.as_mut().is_none_or(|all| all.take(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second, burst }
    }

    fn taken(bucket: &mut Bucket, now: Tick, tries: u32) -> usize {
        (0..tries).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_burst_at_once_and_then_as_many_as_the_time_brings() {
        let mut bucket = Bucket::new(rate(10, 3), Tick::ZERO);
        for (ms, expected) in [(0, 3), (99, 0), (100, 1), (100, 0), (250, 1), (299, 0), (300, 1), (10_000, 3)] {
            assert_eq!(taken(&mut bucket, at(ms), 5), expected, "at {ms} ms");
        }
    }

    #[test]
    fn nothing_is_rounded_however_often_one_asks() {
        // A third of a second has no end in any unit of time.
        let mut bucket = Bucket::new(rate(3, 1), Tick::ZERO);
        let nanos = (0..3_000_000_000_u64).step_by(7_919);
        let got = nanos.filter(|nanos| bucket.take(Tick::at(Duration::from_nanos(*nanos)))).count();
        assert_eq!(got, 1 + 8, "one at first, and one each third of a second that begins before the end");
    }

    #[test]
    fn a_clock_that_is_read_out_of_order_brings_nothing() {
        let mut bucket = Bucket::new(rate(1_000, 1), at(10));
        assert!(bucket.take(at(10)));
        assert!(!bucket.take(at(5)));
        assert!(!bucket.take(at(10)), "or the time from 5 to 10 would count twice");
    }

    #[test]
    fn the_largest_rate_does_not_overflow() {
        let mut bucket = Bucket::new(rate(u32::MAX, u32::MAX), Tick::ZERO);
        assert!(bucket.take(Tick::at(Duration::MAX)));
    }

    #[test]
    fn callers_are_bounded_and_the_least_harmful_is_forgotten() {
        let mut callers: Callers<u32> = Callers::new(rate(1, 4), 3);
        for (caller, uses) in [(1, 3), (2, 1), (3, 2)] {
            let bucket = callers.of(&caller, at(0));
            assert_eq!(taken(bucket, at(0), uses), uses as usize);
        }
        assert!(callers.of(&4, at(0)).take(at(0)));
        assert_eq!(callers.buckets.len(), 3);
        assert_eq!(taken(callers.of(&1, at(0)), at(0), 9), 1, "the one that had used most is still known");
        assert_eq!(taken(callers.of(&3, at(0)), at(0), 9), 2);
        // Those that are full again are forgotten all at once, with no loss.
        callers.of(&5, at(4_000));
        assert_eq!(callers.buckets.len(), 1);
    }

    #[test]
    fn a_message_over_one_limit_does_not_use_up_the_other() {
        let name = Name::parse("a").unwrap();
        let (a, b) = (Some(&name), None);
        let mut limiter = Limiter::new(RateLimits { messages: Some(rate(1, 3)), per_caller: Some(rate(1, 2)) }, at(0));
        let got: Vec<bool> = [a, a, a, a, b, b].map(|caller| limiter.take(caller, at(0))).to_vec();
        assert_eq!(got, [true, true, false, false, true, false]);
        assert!(limiter.take(b, at(1_000)), "refused by the limit of all, and its own token is there still");
        assert!(!limiter.take(b, at(1_000)));
    }

    proptest::proptest! {
        /// Between any two moments no more than the burst and what the time brings; and never less
        /// than that since it was last empty.
        #[test]
        fn no_window_has_more_than_burst_and_rate(
            per_second in 1_u32..2_000, burst in 1_u32..20,
            gaps in proptest::collection::vec(0_u64..50_000_000, 1..120),
        ) {
            let mut bucket = Bucket::new(rate(per_second, burst), Tick::ZERO);
            let (mut now, mut passed) = (0_u64, Vec::new());
            for gap in gaps {
                now += gap;
                if bucket.take(Tick::at(Duration::from_nanos(now))) {
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u128 * u128::from(TOKEN);
                    let allowed = u128::from(burst) * u128::from(TOKEN) + u128::from(to - from) * u128::from(per_second);
                    proptest::prop_assert!(count <= allowed);
                }
            }
        }

        /// Whoever keeps to the rate is never refused, with no drift. A burst of one has no room for the
        /// part of a nanosecond by which a message comes late.
        #[test]
        fn who_keeps_to_the_rate_always_passes(per_second in 1_u32..5_000, burst in 2_u32..5, count in 1_u64..500) {
            let mut bucket = Bucket::new(rate(per_second, burst), Tick::ZERO);
            for number in 0..count {
                let nanos = (number * TOKEN).div_ceil(u64::from(per_second));
                proptest::prop_assert!(bucket.take(Tick::at(Duration::from_nanos(nanos))));
            }
        }
    }
}
