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
}

/// A metric that a guest made with `control.count` or `control.gauge`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GuestMetric {
    Counter(u64),
    Gauge(f64),
}

/// The worker has [`bounds::GUEST_METRICS_MAX`] metrics already.
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
        self.numbers().guests.remove(worker);
    }

    fn change(
        &self,
        worker: &Name,
        metric: &str,
        change: impl FnOnce(Option<GuestMetric>) -> GuestMetric,
    ) -> Result<(), TooMany> {
        let mut numbers = self.numbers();
        let metrics = match numbers.guests.get_mut(worker) {
            Some(metrics) => metrics,
            None => numbers.guests.entry(worker.clone()).or_default(),
        };
        if let Some(old) = metrics.get_mut(metric) {
            *old = change(Some(*old));
        } else if metrics.len() < bounds::GUEST_METRICS_MAX {
            metrics.insert(metric.to_string(), change(None));
        } else {
            return Err(TooMany);
        }
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
}
