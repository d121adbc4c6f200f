//! `/metrics`, in Prometheus' text format: written part by part, as the reader takes them. A host of a hundred thousand
//! workers has sixty megabytes of it, which are never there at once, and others have their turn between the parts.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;

use super::host::Host;
use super::server::Api;
use crate::base::{Name, bounds};
use crate::record::GuestMetric;
use crate::runtime::worker::Shared;

/// Name, type, meaning, and where the number is.
type Family = (&'static str, &'static str, &'static str, fn(&Shared) -> u64);

const WORKER_FAMILIES: &[Family] = &[
    ("paguro_worker_handled_total", "counter", "Messages handled", |w| w.counters.handled.load(Relaxed)),
    ("paguro_worker_rejected_total", "counter", "Messages answered with an error", |w| {
        w.counters.seen(|of| &of.rejected)
    }),
    ("paguro_worker_expired_total", "counter", "Calls not begun, because nobody waited", |w| {
        w.counters.seen(|of| &of.expired)
    }),
    ("paguro_worker_cancelled_total", "counter", "Calls to others cut short, because the caller had gone", |w| {
        w.counters.seen(|of| &of.cancelled)
    }),
    ("paguro_worker_refused_total", "counter", "Messages refused by a full mailbox or a rate limit", |w| {
        w.counters.seen(|of| &of.refused)
    }),
    ("paguro_worker_restarts_total", "counter", "Restarts", |w| w.counters.seen(|of| &of.restarts)),
    ("paguro_worker_log_lines_dropped_total", "counter", "Log lines over the rate limit", |w| {
        w.counters.seen(|of| &of.log_lines_dropped)
    }),
    ("paguro_worker_fuel_total", "counter", "Fuel used, starts included", |w| w.counters.fuel.load(Relaxed)),
    ("paguro_worker_memory_bytes", "gauge", "Linear memory of the live instance", |w| w.counters.memory.load(Relaxed)),
    ("paguro_worker_instances", "gauge", "Instances in memory", |w| w.instances.load(Relaxed).into()),
    ("paguro_worker_mailbox", "gauge", "Messages that wait", |w| w.waiting() as u64),
];

/// The answer to a reader.
pub fn answer(api: Arc<Api>) -> Response {
    let mut parts = VecDeque::from([Part::Host, Part::Clients]);
    parts.extend((0..WORKER_FAMILIES.len()).map(|family| Part::Workers { family, after: None }));
    parts.extend(GUEST_FAMILIES.map(|family| Part::Guests { family, after: None }));
    let written = stream::unfold((api, parts), |(api, mut parts)| async move {
        // One part is some 20 KB; what is written on the way waits for nothing.
        tokio::task::yield_now().await;
        let (text, rest) = parts.pop_front()?.write(&api);
        rest.into_iter().for_each(|rest| parts.push_front(rest));
        Some((Ok::<_, Infallible>(text), (api, parts)))
    });
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(written)).into_response()
}

/// What is still to be written.
enum Part {
    Host,
    Clients,
    /// A family, of the workers after a name.
    Workers {
        family: usize,
        after: Option<Name>,
    },
    Guests {
        family: (&'static str, &'static str),
        after: Option<Name>,
    },
}

impl Part {
    /// Its text, and what of it is left.
    fn write(self, api: &Api) -> (String, Option<Part>) {
        match self {
            Part::Host => (host(&api.host), None),
            Part::Clients => (clients(api), None),
            Part::Workers { family, after } => {
                let (text, after) = workers(&api.host, family, after);
                (text, after.map(|after| Part::Workers { family, after: Some(after) }))
            }
            Part::Guests { family, after } => {
                let (text, after) = guests(&api.host, family, after);
                (text, after.map(|after| Part::Guests { family, after: Some(after) }))
            }
        }
    }
}

// Writing into a `String` cannot fail.

fn begin(out: &mut String, name: &str, sort: &str, meaning: &str) {
    let _ = writeln!(out, "# HELP {name} {meaning}\n# TYPE {name} {sort}");
}

fn number(out: &mut String, name: &str, sort: &str, meaning: &str, value: u64) {
    begin(out, name, sort, meaning);
    let _ = writeln!(out, "{name} {value}");
}

fn host(host: &Host) -> String {
    let mut out = String::new();
    begin(&mut out, "paguro_events_total", "counter", "Events by kind");
    for (kind, count) in host.recorder().metrics().events() {
        let _ = writeln!(out, "paguro_events_total{{kind=\"{kind}\"}} {count}");
    }
    let residents = &host.services.residents;
    for (name, meaning, value) in [
        ("paguro_live_instances", "Instances in memory, of all workers", residents.live() as u64),
        ("paguro_live_instances_max", "Instances that may be in memory", residents.max() as u64),
        ("paguro_live_instances_waiting", "Starts and wakes that wait for a place", residents.waiting() as u64),
        ("paguro_asleep_bytes", "States of hibernated workers in memory", residents.asleep_bytes()),
        ("paguro_asleep_bytes_max", "Such states that may be in memory", residents.asleep_bytes_max()),
    ] {
        number(&mut out, name, "gauge", meaning, value);
    }
    account(&mut out, host);
    out
}

fn clients(api: &Api) -> String {
    let mut out = String::new();
    let ((tcp, socket), room) = (api.connections.count(), api.connections.room());
    for (name, meaning, of_tcp, of_socket) in [
        ("paguro_connections", "Connections of clients", tcp, socket),
        ("paguro_connections_max", "Connections that there may be", room.tcp, room.socket),
    ] {
        begin(&mut out, name, "gauge", meaning);
        let _ = writeln!(out, "{name}{{listener=\"tcp\"}} {of_tcp}\n{name}{{listener=\"socket\"}} {of_socket}");
    }
    let following = bounds::FOLLOWERS_MAX - api.followers.available_permits();
    let recorder = api.host.recorder();
    let kept = recorder.events().bytes() + recorder.logs().bytes();
    for (name, meaning, value) in [
        ("paguro_followers", "Clients that follow events or logs", following as u64),
        ("paguro_bodies_bytes", "Bodies of requests and answers in memory", api.bodies.bytes()),
        ("paguro_bodies_bytes_max", "Such bodies that may be in memory", api.bodies.bytes_max()),
        ("paguro_tape_bytes", "Events and log lines that are kept", kept as u64),
    ] {
        number(&mut out, name, "gauge", meaning, value);
    }
    let name = "paguro_clients_refused_total";
    begin(&mut out, name, "counter", "Clients refused or cut off, by the bound that was reached");
    for (bound, count) in api.refusals.counts() {
        let _ = writeln!(out, "{name}{{bound=\"{bound}\"}} {count}");
    }
    out
}

fn workers(host: &Host, family: usize, after: Option<Name>) -> (String, Option<Name>) {
    let mut out = String::new();
    let (name, sort, meaning, read) = WORKER_FAMILIES[family];
    if after.is_none() {
        begin(&mut out, name, sort, meaning);
    }
    let page = host.services.registry.page(after.as_ref(), bounds::WORKERS_AT_A_LOOK);
    for worker in &page {
        let _ = writeln!(out, "{name}{{worker=\"{}\"}} {}", worker.name(), read(worker));
    }
    (out, page.last().map(|last| last.name().clone()))
}

const GUEST_FAMILIES: [(&str, &str); 2] = [("paguro_guest_total", "counter"), ("paguro_guest", "gauge")];

fn guests(host: &Host, family: (&'static str, &'static str), after: Option<Name>) -> (String, Option<Name>) {
    let mut out = String::new();
    let (name, sort) = family;
    let mut after = after;
    if after.is_none() {
        begin(&mut out, name, sort, "What workers count for themselves");
    }
    for _ in 0..bounds::WORKERS_AT_A_LOOK {
        let Some((worker, metrics)) = host.recorder().metrics().guest_after(after.as_ref()) else { return (out, None) };
        for (metric, value) in metrics {
            let value = match (value, sort) {
                (GuestMetric::Counter(n), "counter") => n.to_string(),
                (GuestMetric::Gauge(x), "gauge") => x.to_string(),
                _ => continue,
            };
            let _ = writeln!(out, "{name}{{worker=\"{worker}\",metric=\"{}\"}} {value}", escaped(&metric));
        }
        after = Some(worker);
        if out.len() > PART_BYTES {
            break;
        }
    }
    (out, after)
}

/// Bytes after which a part ends: a worker may have a hundred metrics with names of 1 KB.
const PART_BYTES: usize = 64 << 10;

/// What guests, clients and files make the host keep.
fn account(out: &mut String, host: &Host) {
    let (memory, name) = (host.memory(), "paguro_memory_bytes");
    begin(out, name, "gauge", "Bytes kept for guests, clients and files");
    for (holding, bytes) in &memory.by {
        let _ = writeln!(out, "{name}{{for=\"{holding}\"}} {bytes}");
    }
    number(out, "paguro_memory_bytes_max", "gauge", "Such bytes that may be kept", memory.max);
    number(out, "paguro_memory_refused_total", "counter", "Requests that did not fit", memory.refused);
}

/// A label's value: the guest's text, so anything may be in it.
fn escaped(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    plain.replace('\\', "\\\\").replace('"', "\\\"")
}
