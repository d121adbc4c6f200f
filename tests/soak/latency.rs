//! How long things took, and the time by which 99 of 100 were done.

use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time within which so many of a hundred were done; zero where there were none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(99), Duration::ZERO);
        (1..=200).rev().for_each(|ms| latencies.add(Duration::from_millis(ms)));
        let percentile = |percent| latencies.percentile(percent).as_millis();
        assert_eq!((percentile(50), percentile(99), percentile(100)), (100, 198, 200));
        assert_eq!((latencies.len(), latencies.longest().as_millis()), (200, 200));
    }
}
