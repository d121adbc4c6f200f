//! What was done and what came of it, counted: a generator whose steps all fail for a silly reason tests nothing,
//! and its tally shows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>);

impl Tally {
    /// A step of this name had this outcome, which is a word or two.
    pub fn count(&self, step: &'static str, outcome: impl ToString) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(step).or_default().entry(outcome.to_string()).or_default() += 1;
    }

    pub fn steps(&self) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().flat_map(BTreeMap::values).sum()
    }

    /// A line for each step: `cast: 202 x 17, 404 x 2`.
    pub fn lines(&self) -> Vec<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |outcomes: &BTreeMap<String, u64>| {
            let mut sorted: Vec<_> = outcomes.iter().collect();
            sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let shown: Vec<String> = sorted.iter().take(OUTCOMES).map(|(what, n)| format!("{what} x {n}")).collect();
            let more = sorted.len().saturating_sub(OUTCOMES);
            shown.join(", ") + &if more > 0 { format!(", {more} others") } else { String::new() }
        };
        counts.iter().map(|(step, outcomes)| format!("{step}: {}", line(outcomes))).collect()
    }
}

/// Outcomes of one step that are shown.
const OUTCOMES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_the_frequent_ones_come_first() {
        let tally = Tally::default();
        ["404", "202", "202"].into_iter().for_each(|outcome| tally.count("cast", outcome));
        tally.count("stop", 204);
        assert_eq!(tally.lines(), ["cast: 202 x 2, 404 x 1", "stop: 204 x 1"]);
        assert_eq!(tally.steps(), 4);
    }
}
