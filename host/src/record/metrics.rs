//! Numbers: how often each kind of event happened, and what guests count for themselves.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Name, bounds};

#[derive(Default)]
pub struct Metrics(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    events: BTreeMap<&'static str, u64>,
    guests: BTreeMap<Name, BTreeMap<String, GuestMetric>>,
    /// Bytes that all of them take.
    guest_bytes: usize,
}

fn bytes(metric: &str) -> usize {
    metric.len() + bounds::GUEST_METRIC_BYTES
}

/// A metric that a guest made with `control.count` or `control.gauge`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GuestMetric {
    Counter(u64),
    Gauge(f64),
}

/// The worker has [`bounds::GUEST_METRICS_MAX`] metrics already, or all of them take
/// [`bounds::GUEST_METRICS_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Metrics {
    pub(super) fn saw(&self, kind: &'static str) {
        *self.numbers().events.entry(kind).or_default() += 1;
    }

    /// How often events of this kind were emitted.
    pub fn events(&self) -> Vec<(&'static str, u64)> {
        self.numbers().events.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// Adds to a guest's counter. A name that was a gauge becomes a counter.
    pub fn count(&self, worker: &Name, metric: &str, by: u64) -> Result<(), TooMany> {
        self.change(worker, metric, |old| match old {
            Some(GuestMetric::Counter(n)) => GuestMetric::Counter(n.saturating_add(by)),
            _ => GuestMetric::Counter(by),
        })
    }

    pub fn gauge(&self, worker: &Name, metric: &str, value: f64) -> Result<(), TooMany> {
        self.change(worker, metric, |_| GuestMetric::Gauge(value))
    }

    /// The metrics of the first worker after this name that has any.
    pub fn guest_after(&self, after: Option<&Name>) -> Option<(Name, Vec<(String, GuestMetric)>)> {
        let numbers = self.numbers();
        let after = after.map_or(Unbounded, Excluded);
        let (worker, metrics) = numbers.guests.range::<Name, _>((after, Unbounded)).next()?;
        Some((worker.clone(), metrics.iter().map(|(name, metric)| (name.clone(), *metric)).collect()))
    }

    /// Forgets a worker that was removed.
    pub fn forget(&self, worker: &Name) {
        let mut numbers = self.numbers();
        let metrics = numbers.guests.remove(worker).unwrap_or_default();
        numbers.guest_bytes -= metrics.keys().map(|metric| bytes(metric)).sum::<usize>();
    }

    fn change(
        &self,
        worker: &Name,
        metric: &str,
        change: impl FnOnce(Option<GuestMetric>) -> GuestMetric,
    ) -> Result<(), TooMany> {
        let mut numbers = self.numbers();
        let Numbers { guests, guest_bytes, .. } = &mut *numbers;
        let known = guests.get_mut(worker);
        let count = known.as_ref().map_or(0, |metrics| metrics.len());
        if let Some(old) = known.and_then(|metrics| metrics.get_mut(metric)) {
            *old = change(Some(*old));
            return Ok(());
        }
        let sum = *guest_bytes + bytes(metric);
        if count >= bounds::GUEST_METRICS_MAX || sum > bounds::GUEST_METRICS_BYTES_MAX {
            return Err(TooMany);
        }
        *guest_bytes = sum;
        guests.entry(worker.clone()).or_default().insert(metric.to_string(), change(None));
        Ok(())
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_make_metrics_without_end() {
        let metrics = Metrics::default();
        let worker = Name::parse("w").unwrap();
        for n in 0..bounds::GUEST_METRICS_MAX {
            assert_eq!(metrics.count(&worker, &n.to_string(), 1), Ok(()));
        }
        assert_eq!(metrics.count(&worker, "one more", 1), Err(TooMany));
        assert_eq!(metrics.count(&worker, "0", 2), Ok(()));
        let (of, counted) = metrics.guest_after(None).unwrap();
        assert_eq!((of, counted.len()), (worker.clone(), bounds::GUEST_METRICS_MAX));
        assert!(counted.contains(&("0".to_string(), GuestMetric::Counter(3))));
        assert!(metrics.guest_after(Some(&worker)).is_none());
    }

    #[test]
    fn all_guests_together_have_a_bound_and_who_leaves_makes_room() {
        let metrics = Metrics::default();
        let worker = |n: usize| Name::parse(&format!("w{n}")).unwrap();
        let long = |n: usize| format!("{n:0width$}", width = bounds::GUEST_TEXT_BYTES_MAX);
        let mut taken = 0;
        'all: for w in 0.. {
            for n in 0..bounds::GUEST_METRICS_MAX {
                if metrics.gauge(&worker(w), &long(n), 1.0).is_err() {
                    break 'all;
                }
                taken += 1;
            }
        }
        assert_eq!(taken, bounds::GUEST_METRICS_BYTES_MAX / bytes(&long(0)));
        metrics.forget(&worker(0));
        assert_eq!(metrics.gauge(&worker(999_999), &long(1), 1.0), Ok(()));
    }
}
