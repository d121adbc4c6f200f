//! `/metrics`, in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::host::Host;
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
];

pub fn text(host: &Host) -> String {
    let mut out = String::new();
    let workers = host.workers();
    // Writing into a `String` cannot fail.
    let _ = writeln!(out, "# HELP paguro_events_total Events by kind\n# TYPE paguro_events_total counter");
    for (kind, count) in host.recorder().metrics().events() {
        let _ = writeln!(out, "paguro_events_total{{kind=\"{kind}\"}} {count}");
    }
    for (name, sort, meaning, read) in WORKER_FAMILIES {
        let _ = writeln!(out, "# HELP {name} {meaning}\n# TYPE {name} {sort}");
        for worker in &workers {
            let _ = writeln!(out, "{name}{{worker=\"{}\"}} {}", worker.name(), read(worker));
        }
    }
    let _ = writeln!(out, "# HELP paguro_worker_mailbox Messages that wait\n# TYPE paguro_worker_mailbox gauge");
    for worker in &workers {
        let _ = writeln!(out, "paguro_worker_mailbox{{worker=\"{}\"}} {}", worker.name(), worker.waiting());
    }
    let residents = &host.services.residents;
    for (name, meaning, value) in [
        ("paguro_live_instances", "Instances in memory, of all workers", residents.live()),
        ("paguro_live_instances_max", "Instances that may be in memory", residents.max()),
        ("paguro_live_instances_waiting", "Starts and wakes that wait for a place", residents.waiting()),
    ] {
        let _ = writeln!(out, "# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {value}");
    }
    for (name, meaning, value) in [
        ("paguro_asleep_bytes", "States of hibernated workers in memory", residents.asleep_bytes()),
        ("paguro_asleep_bytes_max", "Such states that may be in memory", residents.asleep_bytes_max()),
    ] {
        let _ = writeln!(out, "# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {value}");
    }
    for (family, sort) in [("paguro_guest_total", "counter"), ("paguro_guest", "gauge")] {
        let _ = writeln!(out, "# HELP {family} What workers count for themselves\n# TYPE {family} {sort}");
        for (worker, metric, value) in host.recorder().metrics().guests() {
            let value = match (value, sort) {
                (GuestMetric::Counter(n), "counter") => n.to_string(),
                (GuestMetric::Gauge(x), "gauge") => x.to_string(),
                _ => continue,
            };
            let _ = writeln!(out, "{family}{{worker=\"{worker}\",metric=\"{}\"}} {value}", escaped(&metric));
        }
    }
    out
}

/// A label's value: the guest's text, so anything may be in it.
fn escaped(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    plain.replace('\\', "\\\\").replace('"', "\\\"")
}
