//! `NAME.toml`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::error::{SettingsError, one_line};
use super::grants;
use super::json;
use super::section::{DURATION_MAX, Field, Key, Schema, Section, Source};
use super::tier::TIERS;
use crate::base::Name;
use crate::base::bounds::PROBATION_MAX;
use crate::base::units::show_size;
use crate::runtime::spec::{
    BreakerSettings, Durability, OnRollback, Rate, RateLimits, Restart, Shutdown, SnapshotEvery, UpgradeSettings,
    WorkerSettings,
};
use crate::sandbox::Limits;

/// Reads the settings of a worker. `path` is for messages and for host directories in `[grants]`,
/// which are relative to the file's own directory; nothing is read from disk. What is not written
/// has its default.
///
/// # Errors
/// The first mistake in the text, with its place.
pub fn parse_worker(path: &Path, text: &str) -> Result<WorkerSettings, SettingsError> {
    let source = Source { path, text };
    let document = source.parse()?;
    let top = Section::open(source, &TOP, document.get_ref())?;
    let mut settings = WorkerSettings::default();
    if let Some(field) = top.field("restart") {
        settings.restart = Some(field.word(&RESTARTS)?);
    }
    if let Some(field) = top.field("shutdown") {
        settings.shutdown = shutdown(&field)?;
    }
    if let Some(field) = top.field("significant") {
        settings.significant = field.truth()?;
    }
    if let Some(field) = top.field("after") {
        settings.after = names(&field)?;
    }
    if let Some(field) = top.field("tier") {
        settings.tier = Some(field.word(&TIERS)?);
    }
    if let Some(field) = top.field("durability") {
        settings.durability = Some(durability(&field)?);
    }
    if let Some(field) = top.field("health-interval") {
        settings.health_interval = field.interval()?;
    }
    if let Some(field) = top.field("hibernate-after") {
        settings.hibernate_after = Some(field.interval()?);
    }
    if let Some(field) = top.field("config") {
        settings.config = json::object(&field)?;
    }
    if let Some(section) = top.section(&SNAPSHOT)? {
        snapshot(&section, &mut settings.snapshot)?;
    }
    if let Some(section) = top.section(&LIMITS)? {
        limits(&section, &mut settings.limits)?;
    }
    if let Some(section) = top.section(&CIRCUIT_BREAKER)? {
        settings.circuit_breaker = Some(breaker(&section)?);
    }
    if let Some(section) = top.section(&RATE)? {
        settings.rate = rate(&section)?;
    }
    if let Some(section) = top.section(&grants::SCHEMA)? {
        settings.grants = grants::read(path, &section)?;
    }
    if let Some(section) = top.section(&UPGRADE)? {
        upgrade(&section, &mut settings.upgrade)?;
    }
    Ok(settings)
}

pub(super) const SCHEMAS: &[Schema] = &[TOP, SNAPSHOT, LIMITS, CIRCUIT_BREAKER, RATE, grants::SCHEMA, UPGRADE];

const TOP: Schema = Schema {
    section: "",
    title: "a worker's settings",
    keys: &[
        Key {
            name: "restart",
            default: "(\"permanent\"; \"transient\" for a command)",
            meaning: "when it is started again: \"permanent\" always, \"transient\" after a failure, \"temporary\" never",
        },
        Key {
            name: "shutdown",
            default: "\"5s\"",
            meaning: "time to stop in order before it is killed; \"kill\" at once, \"infinity\" for ever",
        },
        Key {
            name: "significant",
            default: "false",
            meaning: "whether its own end can end its supervisor (`auto-shutdown`); not for permanent workers",
        },
        Key { name: "after", default: "[]", meaning: "siblings that are started before it" },
        Key {
            name: "tier",
            default: "(its supervisor's)",
            meaning: "how much depends on it: \"error-kernel\", \"critical\", \"normal\" or \"peripheral\"; see the tiers",
        },
        Key {
            name: "durability",
            default: "(\"snapshot\" where it exports `state`, else \"none\")",
            meaning: "what survives a crash: \"none\" or the last \"snapshot\"",
        },
        Key { name: "health-interval", default: "\"30s\"", meaning: "how often health is asked outside of probation" },
        Key {
            name: "hibernate-after",
            default: "(never)",
            meaning: "idle time after which its instance makes room, where it exports `state`; the next message wakes it",
        },
        Key { name: "config", default: "{}", meaning: "any table; reaches the guest as a JSON object" },
    ],
    sections: &["snapshot", "limits", "circuit-breaker", "rate", "grants", "upgrade"],
    later: &[],
};

const SNAPSHOT: Schema = Schema {
    section: "snapshot",
    title: "[snapshot]",
    keys: &[
        Key { name: "messages", default: "1000", meaning: "messages after which a snapshot is saved" },
        Key { name: "interval", default: "\"1s\"", meaning: "time after which one is saved, if a message came" },
    ],
    sections: &[],
    later: &[],
};

const LIMITS: Schema = Schema {
    section: "limits",
    title: "[limits]",
    keys: &[
        Key { name: "memory", default: "\"128MiB\"", meaning: "linear memory; 64KiB to 4GiB" },
        Key { name: "table-elements", default: "100000", meaning: "elements of all tables" },
        Key { name: "fuel", default: "10000000000", meaning: "instructions, about, for one message; 1000 or more" },
        Key {
            name: "cpu",
            default: "(none)",
            meaning: "fuel for one second, over all messages; one that has used more waits; 1000000 or more",
        },
        Key { name: "deadline", default: "\"5s\"", meaning: "time for one message, calls to others included" },
        Key { name: "start", default: "\"10s\"", meaning: "time to start" },
        Key { name: "payload", default: "\"4MiB\"", meaning: "bytes of a request or a reply; at most `memory`" },
        Key { name: "state", default: "\"64MiB\"", meaning: "bytes of a snapshot" },
        Key { name: "mailbox", default: "1000", meaning: "messages that wait; 1 to 1000000" },
        Key { name: "log-lines", default: "200", meaning: "log lines in one second" },
    ],
    sections: &[],
    later: &[],
};

/// Of a worker, and of a supervisor for its workers.
pub(super) const CIRCUIT_BREAKER: Schema = Schema {
    section: "circuit-breaker",
    title: "[circuit-breaker]",
    keys: &[
        Key {
            name: "failures",
            default: "(5, once the section is written)",
            meaning: "messages within `window` that ended the worker or were not answered in time, after which \
                      callers are refused with `circuit-open`; an error as the answer is no failure",
        },
        Key { name: "window", default: "(\"10s\")", meaning: "the time in which failures are counted" },
        Key {
            name: "recovery",
            default: "(\"10s\")",
            meaning: "how long it refuses before it lets some through on trial",
        },
        Key {
            name: "trials",
            default: "(1)",
            meaning: "let through at one time; as many must go well before it closes",
        },
    ],
    sections: &[],
    later: &[],
};

const RATE: Schema = Schema {
    section: "rate",
    title: "[rate]",
    keys: &[
        Key { name: "per-second", default: "(no bound)", meaning: "messages taken in a second; beyond: `overloaded`" },
        Key { name: "burst", default: "(`per-second`)", meaning: "messages taken at once after a pause" },
        Key {
            name: "caller-per-second",
            default: "(no bound)",
            meaning: "the same for each caller; clients outside the tree count as one",
        },
        Key {
            name: "caller-burst",
            default: "(`caller-per-second`)",
            meaning: "from one caller at once after a pause",
        },
    ],
    sections: &[],
    later: &[],
};

const UPGRADE: Schema = Schema {
    section: "upgrade",
    title: "[upgrade]",
    keys: &[
        Key {
            name: "probation",
            default: "\"30s\"",
            meaning: "time in which the old revision can come back; at most 24h",
        },
        Key { name: "probation-messages", default: "(none)", meaning: "messages after which probation ends early" },
        Key { name: "health-interval", default: "\"1s\"", meaning: "how often health is asked in probation" },
        Key { name: "migrate", default: "\"5s\"", meaning: "time to take the state over" },
        Key { name: "keep-messages", default: "100000", meaning: "messages kept for a rollback" },
        Key { name: "keep-bytes", default: "\"64MiB\"", meaning: "bytes kept for a rollback" },
        Key {
            name: "on-rollback",
            default: "\"replay\"",
            meaning: "state and messages since the switch: \"replay\" them, \"downgrade\" the state, or \"drop\" them",
        },
    ],
    sections: &[],
    later: &[],
};

pub(super) const RESTARTS: [(&str, Restart); 3] =
    [("permanent", Restart::Permanent), ("transient", Restart::Transient), ("temporary", Restart::Temporary)];

const ON_ROLLBACK: [(&str, OnRollback); 3] =
    [("replay", OnRollback::Replay), ("downgrade", OnRollback::Downgrade), ("drop", OnRollback::Drop)];

/// One page of WebAssembly memory: no guest can have less.
pub(super) const MEMORY_MIN: u64 = 64 << 10;
/// What 32-bit memories can address.
const MEMORY_MAX: u64 = 4 << 30;
/// Less would not carry a guest into its handler.
const FUEL_MIN: u64 = 1_000;
/// A slice every tenth of a second, about a thousandth of a core: less would take a guest minutes for
/// the smallest message.
pub(super) const CPU_MIN: u64 = 1_000_000;
/// The engine counts fuel in signed 64 bits.
pub(super) const FUEL_MAX: u64 = i64::MAX as u64;
/// Ten times what the largest guests have; each costs the host a pointer or two.
const TABLE_ELEMENTS_MAX: u64 = 10_000_000;
const MAILBOX_MAX: u64 = 1_000_000;
const LOG_LINES_MAX: u32 = 100_000;
/// Each is remembered for the length of the window: 16 bytes.
const BREAKER_FAILURES_MAX: u32 = 10_000;
const BREAKER_TRIALS_MAX: u32 = 1_000;
/// More than any worker can take.
const RATE_MAX: u32 = 1_000_000_000;
const KEEP_MESSAGES_MAX: u64 = 10_000_000;

fn shutdown(field: &Field<'_>) -> Result<Shutdown, SettingsError> {
    match field.text() {
        Ok("kill") => Ok(Shutdown::Kill),
        Ok("infinity") => Ok(Shutdown::Infinity),
        _ => field.duration(Duration::ZERO..=DURATION_MAX).map(Shutdown::Time).map_err(|mut error| {
            error.help = "write \"kill\", \"infinity\" or a duration like \"5s\"".to_string();
            error
        }),
    }
}

/// Direct children of one supervisor, each named once.
pub(super) fn names(field: &Field<'_>) -> Result<Vec<String>, SettingsError> {
    let mut names: Vec<String> = Vec::new();
    let mut known = BTreeSet::new();
    for item in field.items()? {
        let text = item.text()?;
        let shown = one_line(text);
        if text.contains('/') {
            return Err(
                item.error(format!("`{shown}` is not the name of a child"), "name direct children only, without `/`")
            );
        }
        let name = Name::parse(text).map_err(|error| item.error(error.to_string(), ""))?;
        if !known.insert(name.clone()) {
            return Err(item.error(format!("`{shown}` is in `{}` twice", field.key), ""));
        }
        names.push(name.as_str().to_string());
    }
    Ok(names)
}

fn durability(field: &Field<'_>) -> Result<Durability, SettingsError> {
    if field.text()? == "journal" {
        return Err(field.error("\"journal\" comes in a later version", "write \"snapshot\" or \"none\""));
    }
    field.word(&[("none", Durability::None), ("snapshot", Durability::Snapshot)])
}

fn snapshot(section: &Section<'_>, every: &mut SnapshotEvery) -> Result<(), SettingsError> {
    if let Some(field) = section.field("messages") {
        every.messages = field.count(1..=i64::MAX as u64)?;
    }
    if let Some(field) = section.field("interval") {
        every.interval = field.interval()?;
    }
    Ok(())
}

fn limits(section: &Section<'_>, limits: &mut Limits) -> Result<(), SettingsError> {
    if let Some(field) = section.field("memory") {
        limits.memory = field.size(MEMORY_MIN..=MEMORY_MAX)?;
        // Who only lowers the memory should not have to know of the other limit.
        limits.payload = limits.payload.min(limits.memory);
    }
    if let Some(field) = section.field("table-elements") {
        limits.table_elements = field.count(1..=TABLE_ELEMENTS_MAX)?;
    }
    if let Some(field) = section.field("fuel") {
        limits.fuel = field.count(FUEL_MIN..=FUEL_MAX)?;
    }
    if let Some(field) = section.field("cpu") {
        limits.cpu = Some(field.count(CPU_MIN..=FUEL_MAX)?);
    }
    if let Some(field) = section.field("deadline") {
        limits.deadline = field.time()?;
    }
    if let Some(field) = section.field("start") {
        limits.start = field.time()?;
    }
    if let Some(field) = section.field("payload") {
        limits.payload = field.size(1..=MEMORY_MAX)?;
        if limits.payload > limits.memory {
            let message = format!("`limits.payload` is {}, more than the memory", show_size(limits.payload));
            return Err(field.error(message, format!("it can be at most {}", show_size(limits.memory))));
        }
    }
    if let Some(field) = section.field("state") {
        limits.state = field.size(1..=MEMORY_MAX)?;
    }
    if let Some(field) = section.field("mailbox") {
        let mailbox = field.count(1..=MAILBOX_MAX)?;
        limits.mailbox = usize::try_from(mailbox).expect("the range ends within 32 bits");
    }
    if let Some(field) = section.field("log-lines") {
        limits.log_lines = field.count_u32(0..=LOG_LINES_MAX)?;
    }
    Ok(())
}

pub(super) fn breaker(section: &Section<'_>) -> Result<BreakerSettings, SettingsError> {
    let mut breaker = BreakerSettings::default();
    if let Some(field) = section.field("failures") {
        breaker.failures = field.count_u32(1..=BREAKER_FAILURES_MAX)?;
    }
    if let Some(field) = section.field("window") {
        breaker.window = field.time()?;
    }
    if let Some(field) = section.field("recovery") {
        breaker.recovery = field.time()?;
    }
    if let Some(field) = section.field("trials") {
        breaker.trials = field.count_u32(1..=BREAKER_TRIALS_MAX)?;
    }
    Ok(breaker)
}

fn rate(section: &Section<'_>) -> Result<RateLimits, SettingsError> {
    Ok(RateLimits {
        messages: one_rate(section, "per-second", "burst")?,
        per_caller: one_rate(section, "caller-per-second", "caller-burst")?,
    })
}

fn one_rate(section: &Section<'_>, per_second: &str, burst: &str) -> Result<Option<Rate>, SettingsError> {
    let at_once = section.field(burst);
    let Some(field) = section.field(per_second) else {
        return match at_once {
            Some(field) => Err(field.error(format!("`{}` needs `{per_second}`", field.key), "")),
            None => Ok(None),
        };
    };
    let per_second = field.count_u32(1..=RATE_MAX)?;
    let burst = at_once.map_or(Ok(per_second), |field| field.count_u32(1..=RATE_MAX))?;
    Ok(Some(Rate { per_second, burst }))
}

fn upgrade(section: &Section<'_>, upgrade: &mut UpgradeSettings) -> Result<(), SettingsError> {
    if let Some(field) = section.field("probation") {
        upgrade.probation = field.duration(Duration::ZERO..=PROBATION_MAX)?;
    }
    if let Some(field) = section.field("probation-messages") {
        upgrade.probation_messages = Some(field.count(1..=i64::MAX as u64)?);
    }
    if let Some(field) = section.field("health-interval") {
        upgrade.health_interval = field.interval()?;
    }
    if let Some(field) = section.field("migrate") {
        upgrade.migrate = field.time()?;
    }
    if let Some(field) = section.field("keep-messages") {
        let messages = field.count(1..=KEEP_MESSAGES_MAX)?;
        upgrade.keep_messages = usize::try_from(messages).expect("the range ends within 32 bits");
    }
    if let Some(field) = section.field("keep-bytes") {
        upgrade.keep_bytes = field.size(1..=MEMORY_MAX)?;
    }
    if let Some(field) = section.field("on-rollback") {
        upgrade.on_rollback = field.word(&ON_ROLLBACK)?;
    }
    Ok(())
}
