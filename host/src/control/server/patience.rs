//! How long the host waits for a client. Pure: a look at a connection says whether it is cut.
//!
//! ```text
//! greeting -> request -> idle -> header -> request ...
//! ```
//!
//! - *greeting*: nobody has shown the token on it. It is the cheapest to come by, and has the shortest time.
//! - *idle*: the last answer is written to its end, and nothing has come since.
//! - *header*: a request has begun and its header is not complete.
//! - *request*: the host works for the client, or follows the stream for it. This takes as long as it takes; only a
//!   client that does not read what is written for it has no more time than its reading earns.
//!
//! The time of a request's body belongs to the one who reads it (`bodies.rs`).

use std::time::Duration;

use crate::base::{Tick, bounds};

/// The times that hold for one server.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Before the first request with the token.
    pub greeting: Duration,
    /// For the header of a request.
    pub header: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// For a body, and a second more for each [`bounds::CLIENT_BYTES_PER_SECOND_MIN`].
    pub body: Duration,
    /// That writes may wait for the client, and a second more for each [`bounds::CLIENT_BYTES_PER_SECOND_MIN`] that it
    /// takes.
    pub write: Duration,
    /// Between two looks.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            greeting: bounds::CLIENT_GREETING_TIME,
            header: bounds::CLIENT_HEADER_TIME,
            idle: bounds::CLIENT_IDLE_TIME,
            body: bounds::CLIENT_BODY_TIME,
            write: bounds::CLIENT_WRITE_TIME,
            look: bounds::CLIENT_LOOK_TIME,
        }
    }
}

impl Patience {
    /// The time that a body may take of which so many bytes have come.
    pub fn for_body(&self, bytes: u64) -> Duration {
        (self.body + earned(bytes)).min(bounds::CLIENT_BODY_TIME_MAX)
    }
}

fn earned(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1_000) / bounds::CLIENT_BYTES_PER_SECOND_MIN)
}

/// What a look finds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glance {
    /// Its client has shown the token, or needs none.
    pub is_known: bool,
    /// Requests that began so far.
    pub requests: u64,
    /// The answer to the last of them is not written to its end.
    pub is_under_way: bool,
    /// Something came after the last answer.
    pub has_begun: bool,
    /// A write waits for the client.
    pub is_blocked: bool,
    /// Bytes that the client took so far.
    pub written: u64,
}

impl Glance {
    /// Nothing is lost if it is cut: nobody has shown the token on it.
    pub fn is_worthless(&self) -> bool {
        !self.is_known
    }

    /// Its client waits for nothing.
    pub fn is_idle(&self) -> bool {
        !self.is_under_way && !self.has_begun && !self.is_blocked
    }
}

/// What looks remember of a connection.
#[derive(Debug)]
pub struct Watched {
    phase: Phase,
    requests: u64,
    /// Since when it is in its phase.
    since: Tick,
    looked: Tick,
    /// Time for which writes have waited in this request, and bytes that were written before.
    blocked: Duration,
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Idle,
    Header,
    Request,
}

/// Why a connection is cut: the name of the bound, and its value in milliseconds.
pub type Cut = (&'static str, u64);

impl Watched {
    pub fn new(now: Tick) -> Watched {
        Watched { phase: Phase::Greeting, requests: 0, since: now, looked: now, blocked: Duration::ZERO, written: 0 }
    }

    /// Since when nothing has changed.
    pub fn since(&self) -> Tick {
        self.since
    }

    pub fn look(&mut self, glance: Glance, now: Tick, patience: &Patience) -> Option<Cut> {
        let phase = match glance {
            Glance { is_known: false, .. } => Phase::Greeting,
            Glance { is_under_way: true, .. } | Glance { is_blocked: true, .. } => Phase::Request,
            Glance { has_begun: true, .. } => Phase::Header,
            _ => Phase::Idle,
        };
        let passed = now.since(self.looked);
        self.looked = now;
        if phase != self.phase || glance.requests != self.requests {
            (self.phase, self.requests, self.since) = (phase, glance.requests, now);
            (self.blocked, self.written) = (Duration::ZERO, glance.written);
        } else if glance.is_blocked {
            self.blocked += passed;
        }
        let late = |name, time: Duration| Some((name, u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
        if glance.is_blocked && self.blocked > patience.write + earned(glance.written - self.written) {
            return late("client-write-time", patience.write);
        }
        let (name, time) = match phase {
            Phase::Greeting => ("client-greeting-time", patience.greeting),
            Phase::Header => ("client-header-time", patience.header),
            Phase::Idle => ("client-idle-time", patience.idle),
            Phase::Request => return None,
        };
        if now.since(self.since) > time { late(name, time) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second in which a connection is cut that looks like this at each second.
    fn cut_at(glance: impl Fn(u64) -> Glance) -> Option<(u64, &'static str)> {
        let at = |second| Tick::at(Duration::from_secs(second));
        let mut watched = Watched::new(at(0));
        (1..=10_000).find_map(|n| watched.look(glance(n), at(n), &Patience::default()).map(|(name, _)| (n, name)))
    }

    const KNOWN: Glance =
        Glance { is_known: true, requests: 1, is_under_way: false, has_begun: false, is_blocked: false, written: 0 };

    #[test]
    fn each_phase_has_its_time() {
        let second = |time: Duration, first: u64| time.as_secs() + first + 1;
        let unknown = Glance { has_begun: true, ..Glance::default() };
        assert_eq!(cut_at(|_| unknown), Some((second(bounds::CLIENT_GREETING_TIME, 0), "client-greeting-time")));
        assert_eq!(cut_at(|_| KNOWN), Some((second(bounds::CLIENT_IDLE_TIME, 1), "client-idle-time")));
        let begun = Glance { has_begun: true, ..KNOWN };
        assert_eq!(cut_at(|_| begun), Some((second(bounds::CLIENT_HEADER_TIME, 1), "client-header-time")));
        let blocked = Glance { is_under_way: true, is_blocked: true, ..KNOWN };
        assert_eq!(cut_at(|_| blocked), Some((second(bounds::CLIENT_WRITE_TIME, 1), "client-write-time")));
    }

    #[test]
    fn a_request_that_takes_long_and_a_stream_are_left_alone() {
        let works = Glance { is_under_way: true, ..KNOWN };
        assert_eq!(cut_at(|_| works), None);
        // A slow reader that takes more than the least, and is found waiting at each look.
        let reads = |n| Glance { is_blocked: true, written: n * 2 * bounds::CLIENT_BYTES_PER_SECOND_MIN, ..works };
        assert_eq!(cut_at(reads), None);
        // Whatever it is that waits for it: who is being written to does not idle.
        assert_eq!(cut_at(|n| Glance { is_under_way: false, ..reads(n) }), None);
        // One that takes a byte now and then has no more than its time.
        let drips = |n| Glance { is_blocked: true, written: n, ..works };
        assert_eq!(cut_at(drips).map(|(_, name)| name), Some("client-write-time"));
    }

    #[test]
    fn a_new_request_begins_a_new_time() {
        let busy = |n| Glance { requests: n / 20, ..KNOWN };
        assert_eq!(cut_at(busy), None);
        // A header of which one byte comes each second is one header.
        let begun = |n| Glance { has_begun: true, requests: 1 + u64::from(n > 5), ..KNOWN };
        assert_eq!(cut_at(begun), Some((6 + bounds::CLIENT_HEADER_TIME.as_secs() + 1, "client-header-time")));
    }

    #[test]
    fn a_body_earns_its_time_up_to_a_bound() {
        let patience = Patience::default();
        assert_eq!(patience.for_body(0), bounds::CLIENT_BODY_TIME);
        let more = Duration::from_secs(10);
        assert_eq!(patience.for_body(10 * bounds::CLIENT_BYTES_PER_SECOND_MIN), bounds::CLIENT_BODY_TIME + more);
        assert_eq!(patience.for_body(u64::MAX), bounds::CLIENT_BODY_TIME_MAX);
    }
}
