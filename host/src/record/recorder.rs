//! Takes events and log lines in, keeps the last ones (the flight recorder), counts them, and lets
//! whoever listens read them. Emitting never waits and never fails.

use std::sync::Arc;

use super::event::{Event, Level};
use super::metrics::Metrics;
use super::tape::{OnTape, Tape};
use crate::base::{Clock, Name, bounds, panics};

/// One line that a worker logged or printed.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    pub worker: Name,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    pub text: String,
}

impl OnTape for LogLine {
    fn heap_bytes(&self) -> usize {
        self.text.capacity()
    }
}

/// The recorder of one host. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    clock: Clock,
    events: Arc<Tape<Event>>,
    logs: Arc<Tape<LogLine>>,
    metrics: Metrics,
}

impl Recorder {
    pub fn new(clock: Clock) -> Recorder {
        Recorder(Arc::new(Inner {
            clock,
            events: Arc::new(Tape::new(bounds::FLIGHT_EVENTS_MAX, bounds::FLIGHT_EVENTS_BYTES_MAX)),
            logs: Arc::new(Tape::new(bounds::LOG_LINES_MAX, bounds::LOG_LINES_BYTES_MAX)),
            metrics: Metrics::default(),
        }))
    }

    pub fn emit(&self, event: Event) {
        self.0.metrics.saw(event.kind());
        let subject = event.subject().map(ToString::to_string).unwrap_or_default();
        match event.level() {
            Level::Info => tracing::info!(target: "paguro", kind = event.kind(), subject, "{event}"),
            Level::Warn => tracing::warn!(target: "paguro", kind = event.kind(), subject, "{event}"),
            Level::Error => tracing::error!(target: "paguro", kind = event.kind(), subject, "{event}"),
        }
        self.0.events.push(self.0.clock.timestamp(), event);
    }

    /// Runs a task of the host's to its end, and says so if it panics: then there is nothing of it.
    pub async fn watched<T>(&self, part: &str, work: impl Future<Output = T>) -> Option<T> {
        match panics::guarded(work).await {
            Ok(done) => Some(done),
            Err(fault) => {
                self.emit(Event::HostFault { part: part.to_string(), fault });
                None
            }
        }
    }

    /// Keeps one line of a worker's log, cut to [`bounds::LOG_LINE_BYTES_MAX`] bytes.
    pub fn log(&self, worker: &Name, level: &'static str, text: &str) {
        let kept = &text[..text.floor_char_boundary(bounds::LOG_LINE_BYTES_MAX)];
        let mut kept = kept.to_string();
        if kept.len() < text.len() {
            kept.push_str(" [cut]");
        }
        self.0.logs.push(self.0.clock.timestamp(), LogLine { worker: worker.clone(), level, text: kept });
    }

    pub fn events(&self) -> &Arc<Tape<Event>> {
        &self.0.events
    }

    pub fn logs(&self) -> &Arc<Tape<LogLine>> {
        &self.0.logs
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sees_everything_once() {
        let recorder = Recorder::new(Clock::manual());
        recorder.emit(Event::HostStopping);
        let mut follower = recorder.events().follow(0);
        recorder.emit(Event::HostStopping);
        for seq in [1, 2] {
            assert_eq!(follower.try_next().map(|next| next.map(|recorded| recorded.seq)), Some(Ok(seq)));
        }
        assert_eq!(follower.try_next(), None);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let recorder = Recorder::new(Clock::manual());
        let name = Name::parse("w").unwrap();
        recorder.log(&name, "info", &"ü".repeat(bounds::LOG_LINE_BYTES_MAX));
        let line = recorder.logs().after(0).remove(0).item.text;
        assert!(line.ends_with("[cut]") && line.len() < bounds::LOG_LINE_BYTES_MAX + 10);
    }
}
