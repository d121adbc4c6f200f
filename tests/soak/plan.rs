//! What all plans have in common: endless, drawn from a seed, and the same for the same seed.

/// Seeds of the hands of one run: neighbouring seeds must not give hands that do the same.
pub fn seed_of_hand(seed: u64, hand: usize) -> u64 {
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(hand as u64)
}

/// A whole number of about this magnitude: each power of two between the two is as likely as any other, so that
/// small ones come often and large ones come at all.
pub fn magnitude(random: &mut fastrand::Rng, least: u64, most: u64) -> u64 {
    let (low, high) = (least.max(1).ilog2(), most.max(1).ilog2());
    let power = 1_u64 << random.u32(low..=high);
    random.u64(power..=power.saturating_mul(2) - 1).clamp(least, most)
}

/// Checks a plan: repeatable, different for another seed, and with every word among its steps' names.
#[cfg(test)]
pub fn check<P, S>(plan: impl Fn(u64) -> P, name: impl Fn(&S) -> &'static str, words: &[&str])
where
    P: Iterator<Item = S>,
    S: std::fmt::Debug + PartialEq,
{
    const STEPS: usize = 2_000;
    let steps = |seed| plan(seed).take(STEPS).collect::<Vec<S>>();
    assert!(steps(7) == steps(7), "the same seed gives the same steps");
    assert!(steps(7) != steps(8), "another seed gives others");
    let names: std::collections::BTreeSet<&str> = steps(7).iter().map(name).collect();
    let words = words.iter().copied().collect();
    assert_eq!(names, words, "every kind of step comes up");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_reach_both_ends_and_stay_between_them() {
        let mut random = fastrand::Rng::with_seed(1);
        let drawn: Vec<u64> = (0..5_000).map(|_| magnitude(&mut random, 3, 1_000)).collect();
        assert!(drawn.iter().all(|n| (3..=1_000).contains(n)));
        assert!(drawn.contains(&3) && drawn.contains(&1_000));
        let small = drawn.iter().filter(|n| **n < 32).count();
        assert!((1_000..4_000).contains(&small), "{small} small ones");
    }

    #[test]
    fn hands_of_one_run_and_of_the_next_differ() {
        let seeds = [(1, 0), (1, 1), (2, 0), (2, 1)].map(|(seed, hand)| seed_of_hand(seed, hand));
        let distinct: std::collections::BTreeSet<u64> = seeds.into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
