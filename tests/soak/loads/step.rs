//! What is asked of workers, drawn from a seed.

use fastrand::Rng;

use crate::plan::magnitude;

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $word:literal { $($field:ident : $type:ty),* })*) => {
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Step { $($(#[$doc])* $variant { $($field: $type),* },)* }

        impl Step {
            #[cfg(test)]
            pub const NAMES: &[&str] = &[$($word),*];

            pub fn name(&self) -> &'static str {
                match self { $(Step::$variant { .. } => $word,)* }
            }
        }
    };
}

steps! {
    /// Large messages to a worker that handles none of them.
    CastsToOneThatWaits = "casts" { key: u32, bytes: u32, count: u32 }
    /// Timers with large messages, and then perhaps sleep.
    Timers = "timers" { key: u32, bytes: u32, count: u32, hibernate: bool }
    /// A state that grows, and sleep.
    State = "state" { key: u32, bytes: u32 }
    /// Messages to keys that there were not.
    NewKeys = "new-keys" { template: &'static str, first: u32, count: u32 }
    /// A key with a large configuration.
    Configuration = "configuration" { key: u32, bytes: u32 }
    /// The same by a guest.
    ChildByGuest = "child-by-guest" { key: u32, bytes: u32 }
    /// A worker that ends again and again.
    Crash = "crash" { times: u32 }
    StopAndStart = "stop-and-start" { key: u32 }
    /// Messages of which a trial keeps copies.
    Probation = "probation" { bytes: u32, casts: u32 }
    /// A worker that computes.
    Busy = "busy" { key: u32, millions: u32 }
}

/// Keys that come up again and again.
const KEYS: u32 = 120;

pub struct Plan(Rng);

impl Plan {
    pub fn new(seed: u64) -> Plan {
        Plan(Rng::with_seed(seed))
    }

    fn about(&mut self, least: u32, most: u32) -> u32 {
        u32::try_from(magnitude(&mut self.0, u64::from(least), u64::from(most))).unwrap_or(most)
    }

    /// Near the most that a message may have, as often as not.
    fn large(&mut self) -> u32 {
        if self.0.bool() { (4 << 20) - self.0.u32(100..1_000) } else { self.about(1 << 10, (4 << 20) - 100) }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let key = self.0.u32(..KEYS);
        Some(match self.0.u32(0..16) {
            0..=2 => Step::CastsToOneThatWaits { key, bytes: self.large(), count: self.about(1, 16) },
            3..=5 => Step::Timers { key, bytes: self.large(), count: self.about(1, 16), hibernate: self.0.bool() },
            6 | 7 => Step::State { key, bytes: self.large() },
            8 | 9 => Step::NewKeys {
                template: if self.0.bool() { "plain" } else { "keys" },
                first: self.0.u32(..1_000_000),
                count: self.about(1, 500),
            },
            10 => Step::Configuration { key: self.0.u32(..), bytes: self.large() },
            11 => Step::ChildByGuest { key: self.0.u32(..), bytes: self.about(10, 2 << 20) },
            12 => Step::Crash { times: self.about(1, 20) },
            13 => Step::StopAndStart { key },
            14 => Step::Probation { bytes: self.large(), casts: self.about(1, 20) },
            _ => Step::Busy { key, millions: self.about(1, 50) },
        })
    }
}
