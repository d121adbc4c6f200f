//! Takes events and log lines in, keeps the last ones (the flight recorder), counts them, and hands
//! them to whoever listens. Emitting never waits and never fails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use super::event::{Event, Level};
use super::metrics::Metrics;
use crate::base::{Clock, Name, Timestamp, bounds, panics};

/// An item with its place in the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<T> {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub item: T,
}

/// One line that a worker logged or printed.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    pub worker: Name,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    pub text: String,
}

/// A bounded tape of items that can be read from any place that is still on it, and followed.
pub struct Tape<T> {
    kept: Mutex<Kept<T>>,
    live: broadcast::Sender<Recorded<T>>,
}

struct Kept<T> {
    items: VecDeque<Recorded<T>>,
    next: u64,
    max: usize,
}

impl<T: Clone> Tape<T> {
    fn new(max: usize) -> Tape<T> {
        let kept = Kept { items: VecDeque::new(), next: 1, max };
        Tape { kept: Mutex::new(kept), live: broadcast::Sender::new(bounds::SUBSCRIBER_EVENTS_MAX) }
    }

    fn push(&self, at: Timestamp, item: T) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = Recorded { seq: kept.next, at, item };
        kept.next += 1;
        if kept.items.len() == kept.max {
            kept.items.pop_front();
        }
        kept.items.push_back(recorded.clone());
        // Sent under the lock, so that a reader sees each item once: in the backlog or live. An
        // error means that nobody listens.
        let _ = self.live.send(recorded);
    }

    /// Items after `seq` that are still kept, oldest first.
    pub fn after(&self, seq: u64) -> Vec<Recorded<T>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.items.iter().filter(|recorded| recorded.seq > seq).cloned().collect()
    }

    /// The backlog after `seq`, and a receiver for what comes after it: nothing twice, nothing
    /// left out between the two. A receiver that lags by more than
    /// [`bounds::SUBSCRIBER_EVENTS_MAX`] is told how many it missed and can ask again.
    pub fn follow(&self, seq: u64) -> (Vec<Recorded<T>>, broadcast::Receiver<Recorded<T>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A number from an earlier life of the host: everything of this one is new to its owner.
        let seq = if seq >= kept.next { 0 } else { seq };
        let backlog = kept.items.iter().filter(|recorded| recorded.seq > seq).cloned().collect();
        (backlog, self.live.subscribe())
    }
}

/// The recorder of one host. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    clock: Clock,
    events: Tape<Event>,
    logs: Tape<LogLine>,
    metrics: Metrics,
}

impl Recorder {
    pub fn new(clock: Clock) -> Recorder {
        Recorder(Arc::new(Inner {
            clock,
            events: Tape::new(bounds::FLIGHT_EVENTS_MAX),
            logs: Tape::new(bounds::LOG_LINES_MAX),
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

    pub fn events(&self) -> &Tape<Event> {
        &self.0.events
    }

    pub fn logs(&self) -> &Tape<LogLine> {
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
    fn the_tape_is_bounded_and_keeps_the_newest() {
        let tape = Tape::new(3);
        for n in 1..=5 {
            tape.push(Timestamp(n), n);
        }
        let seqs: Vec<u64> = tape.after(0).iter().map(|recorded| recorded.seq).collect();
        assert_eq!(seqs, [3, 4, 5]);
        assert_eq!(tape.after(4).len(), 1);
    }

    #[test]
    fn a_follower_sees_everything_once() {
        let recorder = Recorder::new(Clock::manual());
        recorder.emit(Event::HostStopping);
        let (backlog, mut live) = recorder.events().follow(0);
        recorder.emit(Event::HostStopping);
        assert_eq!(backlog.len(), 1);
        assert_eq!(live.try_recv().map(|recorded| recorded.seq), Ok(2));
        assert!(live.try_recv().is_err());
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
