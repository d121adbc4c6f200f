//! The one place that reads the clock.
//!
//! Pure policy takes a [`Tick`] and never asks for one. A test moves a manual clock by hand.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
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
        // Beyond, no text can be made of it: of what a damaged record says, or a clock that was set wrong.
        let moment = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_SHOWN_MS));
        write!(f, "{}", humantime::format_rfc3339_millis(moment))
    }
}

/// The last moment that a text can show: the end of the year 9999.
const LAST_SHOWN_MS: u64 = 253_402_300_799_999;

/// Gives the time. Cheap to clone; clones agree.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        start: Instant,
    },
    /// Only [`Clock::advance`] and [`Clock::set_calendar`] move it.
    Manual(Arc<Manual>),
    /// The system's, but for its calendar.
    Shifted {
        start: Instant,
        calendar: Arc<AtomicI64>,
    },
}

#[derive(Debug)]
struct Manual {
    /// Nanoseconds since the start.
    nanos: AtomicU64,
    /// Calendar time at the start, in milliseconds since 1970. Before it where the calendar was set wrong.
    epoch: AtomicI64,
}

/// Calendar time at which a manual clock starts: 2026-01-01, so that test output is readable.
const MANUAL_EPOCH_MS: i64 = 1_767_225_600_000;

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn system() -> Clock {
        Clock(Source::System { start: Instant::now() })
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual() -> Clock {
        let (nanos, epoch) = (AtomicU64::new(0), AtomicI64::new(MANUAL_EPOCH_MS));
        Clock(Source::Manual(Arc::new(Manual { nanos, epoch })))
    }

    /// The system's clock with another calendar: it shows `ms` milliseconds since 1970, before that where they are
    /// negative, and goes on from there. For tests.
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn with_calendar(ms: i64) -> Clock {
        Clock(Source::Shifted { start: Instant::now(), calendar: Arc::new(AtomicI64::new(ms)) })
    }

    /// Sets the calendar, as of now. Does nothing to the system's.
    pub fn set_calendar(&self, ms: i64) {
        let passed = i64::try_from(self.now().time().as_millis()).unwrap_or(i64::MAX);
        let at_start = ms.saturating_sub(passed);
        match &self.0 {
            Source::System { .. } => {}
            Source::Manual(manual) => manual.epoch.store(at_start, Ordering::Release),
            Source::Shifted { calendar, .. } => calendar.store(at_start, Ordering::Release),
        }
    }

    pub fn now(&self) -> Tick {
        match &self.0 {
            Source::System { start } | Source::Shifted { start, .. } => Tick::at(start.elapsed()),
            Source::Manual(manual) => Tick(NonZeroU64::MIN.saturating_add(manual.nanos.load(Ordering::Acquire))),
        }
    }

    pub fn timestamp(&self) -> Timestamp {
        Timestamp(u64::try_from(self.calendar().as_millis()).unwrap_or(u64::MAX))
    }

    /// Calendar time: time since 1970 (UTC), none while the system's clock is before that.
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn calendar(&self) -> Duration {
        let shifted = |at_start: &AtomicI64| {
            let at_start = at_start.load(Ordering::Acquire);
            let (passed, away) = (self.now().time(), Duration::from_millis(at_start.unsigned_abs()));
            if at_start < 0 { passed.saturating_sub(away) } else { passed.saturating_add(away) }
        };
        match &self.0 {
            Source::System { .. } => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Source::Manual(manual) => shifted(&manual.epoch),
            Source::Shifted { calendar, .. } => shifted(calendar),
        }
    }

    /// Moves a manual clock; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.nanos.fetch_add(self::nanos(by), Ordering::AcqRel);
        }
    }
}

/// Minutes since this was asked for the first time in this process: for bounds of what no host owns.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub(super) fn minutes_of_process() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs() / 60
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
    fn a_calendar_before_1970_is_1970_and_one_past_all_years_is_shown_as_the_last() {
        let clock = Clock::manual();
        clock.set_calendar(-1_000_000);
        assert_eq!((clock.timestamp(), clock.calendar()), (Timestamp(0), Duration::ZERO));
        assert_eq!(clock.timestamp().to_string(), "1970-01-01T00:00:00.000Z");
        clock.advance(Duration::from_secs(1_001));
        assert_eq!(clock.timestamp(), Timestamp(1_000), "it goes on meanwhile");
        clock.set_calendar(i64::MAX);
        assert_eq!(clock.timestamp().to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        let shifted = Clock::with_calendar(i64::MIN);
        assert_eq!(shifted.timestamp(), Timestamp(0));
        assert!(shifted.now() <= shifted.now());
    }

    #[test]
    fn a_tick_before_another_is_zero_away() {
        assert_eq!(size_of::<Option<Tick>>(), 8);
        assert_eq!(Tick::at(Duration::MAX).after(Duration::MAX), Tick::at(Duration::MAX));
        assert_eq!(Tick::at(Duration::from_secs(7)).time(), Duration::from_secs(7));
        assert_eq!(Tick::ZERO.since(Tick::at(Duration::from_secs(1))), Duration::ZERO);
    }
}
