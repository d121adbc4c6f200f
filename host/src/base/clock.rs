//! The one place that reads the clock.
//!
//! Pure policy takes a [`Tick`] and never asks for one. A test moves a manual clock by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment on the host's monotonic clock: time since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub Duration);

impl Tick {
    pub const ZERO: Tick = Tick(Duration::ZERO);

    /// Time from `earlier` to `self`, zero when it lies in the future.
    pub fn since(self, earlier: Tick) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` plus `delay`, at most the end of time.
    pub fn after(self, delay: Duration) -> Tick {
        Tick(self.0.saturating_add(delay))
    }
}

/// A moment in calendar time, in milliseconds since 1970 (UTC). For people and records, never for
/// measuring how long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = UNIX_EPOCH + Duration::from_millis(self.0);
        write!(f, "{}", humantime::format_rfc3339_millis(moment))
    }
}

/// Gives the time. Cheap to clone; clones agree.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        start: Instant,
    },
    /// Nanoseconds since the start; only [`Clock::advance`] moves it.
    Manual(Arc<AtomicU64>),
}

/// Calendar time at which a manual clock starts: 2026-01-01, so that test output is readable.
const MANUAL_EPOCH_MS: u64 = 1_767_225_600_000;

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn system() -> Clock {
        Clock(Source::System { start: Instant::now() })
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual() -> Clock {
        Clock(Source::Manual(Arc::new(AtomicU64::new(0))))
    }

    pub fn now(&self) -> Tick {
        match &self.0 {
            Source::System { start } => Tick(start.elapsed()),
            Source::Manual(nanos) => Tick(Duration::from_nanos(nanos.load(Ordering::Acquire))),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn timestamp(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Manual(_) => {
                let ms = u64::try_from(self.now().0.as_millis()).unwrap_or(u64::MAX);
                Timestamp(MANUAL_EPOCH_MS.saturating_add(ms))
            }
        }
    }

    /// Moves a manual clock; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            nanos.fetch_add(by, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual();
        let other = clock.clone();
        assert_eq!(clock.now(), Tick::ZERO);
        other.advance(Duration::from_millis(1500));
        assert_eq!(clock.now(), Tick(Duration::from_millis(1500)));
        assert_eq!(clock.timestamp().to_string(), "2026-01-01T00:00:01.500Z");
    }

    #[test]
    fn a_tick_before_another_is_zero_away() {
        assert_eq!(Tick::ZERO.since(Tick(Duration::from_secs(1))), Duration::ZERO);
    }
}
