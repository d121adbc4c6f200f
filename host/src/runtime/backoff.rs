//! How long to wait before a restart. Pure: the random number is handed in.

use std::time::Duration;

use super::spec::Backoff;

/// `restarts`: how many restarts there were since the child was last healthy, this one included.
/// The first never waits; then `initial`, growing by `factor` up to `max`. `random` is in 0..100
/// and takes off up to `jitter_percent` percent.
pub fn delay(policy: &Backoff, restarts: u32, random: u32) -> Duration {
    let Some(step) = restarts.checked_sub(2) else { return Duration::ZERO };
    let factor = policy.factor.saturating_pow(step);
    let full = policy.initial.saturating_mul(factor).min(policy.max);
    let off = policy.jitter_percent.min(100) * random.min(100) / 100;
    full.saturating_mul(100 - off) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_for_the_first_restart_then_exponential_to_a_maximum() {
        let policy = Backoff { max: Duration::from_secs(1), ..Backoff::default() };
        let waits: Vec<u128> = (0..=7).map(|n| delay(&policy, n, 0).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(delay(&policy, u32::MAX, 0), policy.max);
    }

    proptest::proptest! {
        #[test]
        fn jitter_takes_off_no_more_than_it_says(restarts in 0_u32..100, random in 0_u32..=100, jitter in 0_u32..=100) {
            let policy = Backoff { jitter_percent: jitter, ..Backoff::default() };
            let (full, less) = (delay(&policy, restarts, 0), delay(&policy, restarts, random));
            proptest::prop_assert!(less <= full);
            proptest::prop_assert!(less >= full.saturating_mul(100 - jitter) / 100);
        }
    }
}
