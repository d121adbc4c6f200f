//! The one place that reads the clock.
//!
//! Pure policy takes a [`Tick`] and never asks for one. A test moves a manual clock by hand.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment on the host's monotonic clock: time since the host started. Of eight bytes, and no more where there
/// may be none: every worker keeps several. The end of time is 584 years away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(
    /// Nanoseconds, and one.
    NonZeroU64,
);

impl Tick {
    pub const ZERO: Tick = Tick(NonZeroU64::MIN);

    /// So long after the start of the host, at most the end of time.
    pub fn at(time: Duration) -> Tick {
        Tick(NonZeroU64::MIN.saturating_add(nanos(time)))
    }

    /// Time since the host started.
    pub fn time(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }

    /// Time from `earlier` to `self`, zero when it lies in the future.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// `self` plus `delay`, at most the end of time.
    pub fn after(self, delay: Duration) -> Tick {
        Tick(self.0.saturating_add(nanos(delay)))
    }
}

impl Default for Tick {
    fn default() -> Tick {
        Tick::ZERO
    }
}

impl std::fmt::Debug for Tick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tick").field(&self.time()).finish()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
            Source::System { start } => Tick::at(start.elapsed()),
            Source::Manual(nanos) => Tick(NonZeroU64::MIN.saturating_add(nanos.load(Ordering::Acquire))),
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
                let ms = u64::try_from(self.now().time().as_millis()).unwrap_or(u64::MAX);
                Timestamp(MANUAL_EPOCH_MS.saturating_add(ms))
            }
        }
    }

    /// Moves a manual clock; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            nanos.fetch_add(self::nanos(by), Ordering::AcqRel);
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
        assert_eq!(clock.now(), Tick::at(Duration::from_millis(1500)));
        assert_eq!(clock.timestamp().to_string(), "2026-01-01T00:00:01.500Z");
    }

    #[test]
    fn a_tick_before_another_is_zero_away() {
        assert_eq!(size_of::<Option<Tick>>(), 8);
        assert_eq!(Tick::at(Duration::MAX).after(Duration::MAX), Tick::at(Duration::MAX));
        assert_eq!(Tick::at(Duration::from_secs(7)).time(), Duration::from_secs(7));
        assert_eq!(Tick::ZERO.since(Tick::at(Duration::from_secs(1))), Duration::ZERO);
    }
}
