//! The neighbour: a worker that does nothing wrong, called at a fixed rate whatever the others do.
//!
//! A call counts from the moment at which it was due, not from when it could be sent: a host that stands still for a
//! second has not kept one caller waiting but a hundred.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::http::{Client, Request};
use crate::latency::Latencies;
use crate::site::{NEIGHBOUR, Site};

/// Time between two calls.
const EVERY: Duration = Duration::from_millis(10);
/// Calls over one connection: a host must take new ones, too.
const CALLS_PER_CONNECTION: u32 = 5;
/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    pub calls: Latencies,
    /// Of them, those that were not answered with what they asked for; the time they took counts.
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// Calls it until `goes_on` says no.
pub fn call(site: &Site, goes_on: &dyn Fn() -> bool) -> Neighbour {
    let mut told = Neighbour::default();
    let mut client = None;
    let mut due = Instant::now();
    for number in 0_u32.. {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if !goes_on() {
            break;
        }
        if number % CALLS_PER_CONNECTION == 0 {
            client = None;
        }
        if let Err(why) = call_once(site, &mut client, number, goes_on) {
            client = None;
            // The last call of all is cut short when all is over.
            if goes_on() {
                told.failed += 1;
                told.first_failure.get_or_insert(why);
            }
        }
        told.calls.add(due.elapsed());
        due += EVERY;
    }
    // Those that were due and were not even sent.
    while due < Instant::now() {
        told.calls.add(due.elapsed());
        due += EVERY;
    }
    told
}

fn call_once(site: &Site, client: &mut Option<Client>, number: u32, goes_on: &dyn Fn() -> bool) -> Result<(), String> {
    let body = number.to_string();
    let target = format!("/v1/workers/{NEIGHBOUR}/call");
    let request = Request::post(&target, body.as_bytes()).within(CALL_TIME);
    // A host may close a connection that idles; a client then opens another, as all clients do.
    let kept = client.take().and_then(|mut kept| match kept.ask(&request, goes_on) {
        Err(error) if is_closed(&error) => None,
        told => Some((kept, told)),
    });
    let (connected, told) = match kept {
        Some(kept) => kept,
        None => {
            let mut new = site.connect().map_err(|error| format!("no connection: {error}"))?;
            let told = new.ask(&request, goes_on);
            (new, told)
        }
    };
    let answer = told.map_err(|error| format!("no answer: {error}"))?;
    *client = Some(connected);
    if answer.status == 200 && answer.text() == body {
        return Ok(());
    }
    Err(format!("answered {}: {}", answer.status, answer.text()))
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
}

/// How late the machine itself wakes a thread that sleeps: what no program on it can be quicker than.
pub fn lateness(goes_on: &dyn Fn() -> bool) -> Latencies {
    let mut late = Latencies::default();
    let mut due = Instant::now();
    while goes_on() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        late.add(due.elapsed());
        due = due.max(Instant::now() - EVERY) + EVERY;
    }
    late
}
