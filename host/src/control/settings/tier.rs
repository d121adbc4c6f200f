//! Tiers: named presets for what is not written.

use std::time::Duration;

use crate::runtime::spec::{BreakerSettings, Escalation, Strategy, Tier};

pub(super) const TIERS: [(&str, Tier); 4] = [
    ("error-kernel", Tier::ErrorKernel),
    ("critical", Tier::Critical),
    ("normal", Tier::Normal),
    ("peripheral", Tier::Peripheral),
];

/// What a tier sets. A key that is written wins over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presets {
    pub strategy: Strategy,
    pub intensity: u32,
    pub period: Duration,
    pub escalation: Escalation,
    /// Of the workers.
    pub circuit_breaker: Option<BreakerSettings>,
}

impl Tier {
    /// Of the supervisor, and of the workers for the last column:
    ///
    /// | tier         | strategy    | restarts  | escalation      | circuit breaker                      |
    /// |--------------|-------------|-----------|-----------------|--------------------------------------|
    /// | error-kernel | one-for-all | 1 in 60s  | none            | none                                 |
    /// | critical     | one-for-one | 3 in 30s  | none            | 10 failures in 10s, 5s open, 1 trial |
    /// | normal       | one-for-one | 1 in 5s   | none            | none                                 |
    /// | peripheral   | one-for-one | 10 in 60s | isolate above 3 | 3 failures in 30s, 30s open, 1 trial |
    ///
    /// `normal` has OTP's defaults. What all else stands on (`error-kernel`) is started anew together
    /// and soon given up, for one above to decide; what is peripheral is let go of, one by one.
    pub fn presets(self) -> Presets {
        let seconds = Duration::from_secs;
        let (strategy, intensity, period) = match self {
            Tier::ErrorKernel => (Strategy::OneForAll, 1, seconds(60)),
            Tier::Critical => (Strategy::OneForOne, 3, seconds(30)),
            Tier::Normal => (Strategy::OneForOne, 1, seconds(5)),
            Tier::Peripheral => (Strategy::OneForOne, 10, seconds(60)),
        };
        let isolate = (self == Tier::Peripheral).then_some(3);
        let breaker = |failures, window, recovery| {
            Some(BreakerSettings { failures, window: seconds(window), recovery: seconds(recovery), trials: 1 })
        };
        let circuit_breaker = match self {
            Tier::ErrorKernel | Tier::Normal => None,
            Tier::Critical => breaker(10, 10, 5),
            Tier::Peripheral => breaker(3, 30, 30),
        };
        Presets {
            strategy,
            intensity,
            period,
            escalation: Escalation { isolate, ..Escalation::default() },
            circuit_breaker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::spec::SupervisorSettings;

    #[test]
    fn normal_is_what_nobody_writes() {
        let (presets, defaults) = (Tier::default().presets(), SupervisorSettings::default());
        assert_eq!(
            (presets.strategy, presets.intensity, presets.period, presets.escalation, presets.circuit_breaker),
            (defaults.strategy, defaults.intensity, defaults.period, defaults.escalation, defaults.circuit_breaker)
        );
    }

    #[test]
    fn presets_are_as_the_table_says() {
        let shown = TIERS.map(|(word, tier)| {
            let Presets { strategy, intensity, period, escalation, circuit_breaker } = tier.presets();
            let breaker = circuit_breaker.map(|breaker| {
                (breaker.failures, breaker.window.as_secs(), breaker.recovery.as_secs(), breaker.trials)
            });
            format!("{word}: {strategy:?}, {intensity} in {period:?}, {:?}, {breaker:?}", escalation.isolate)
        });
        assert_eq!(
            shown,
            [
                "error-kernel: OneForAll, 1 in 60s, None, None",
                "critical: OneForOne, 3 in 30s, None, Some((10, 10, 5, 1))",
                "normal: OneForOne, 1 in 5s, None, None",
                "peripheral: OneForOne, 10 in 60s, Some(3), Some((3, 30, 30, 1))",
            ]
        );
    }
}
