//! `supervisor.toml`.

use std::path::Path;
use std::time::Duration;

use super::error::SettingsError;
use super::section::{DURATION_MAX, Field, Key, Schema, Section, Source};
use super::tier::TIERS;
use super::worker::{CIRCUIT_BREAKER, CPU_MIN, FUEL_MAX, MEMORY_MIN, RESTARTS, breaker, names};
use crate::base::units::show_duration;
use crate::runtime::spec::{
    AutoShutdown, Backoff, Escalation, Shutdown, Strategy, SubtreeBudget, SupervisorAsChild, SupervisorSettings, Tier,
};

/// Reads the settings of a supervisor; `path` is for messages only. What is not written has the
/// preset of its tier. Whether the policy can be carried out with the children that there are is not
/// checked here.
///
/// # Errors
/// The first mistake in the text, with its place.
pub fn parse_supervisor(path: &Path, text: &str) -> Result<SupervisorSettings, SettingsError> {
    parse(path, text, Above::Supervisor)
}

/// As [`parse_supervisor`], for the root: nobody is above it, so it is nobody's child.
///
/// # Errors
/// The first mistake in the text, with its place; keys that speak to a supervisor above are mistakes.
pub fn parse_root(path: &Path, text: &str) -> Result<SupervisorSettings, SettingsError> {
    parse(path, text, Above::Nobody)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Above {
    Supervisor,
    Nobody,
}

fn parse(path: &Path, text: &str, above: Above) -> Result<SupervisorSettings, SettingsError> {
    let source = Source { path, text };
    let document = source.parse()?;
    let top = Section::open(source, &TOP, document.get_ref())?;
    let tier = top.field("tier").map(|field| field.word(&TIERS)).transpose()?;
    let mut settings = of_tier(tier.unwrap_or_default());
    if let Some(field) = top.field("strategy") {
        settings.strategy = field.word(&STRATEGIES)?;
    }
    if let Some(field) = top.field("intensity") {
        settings.intensity = field.count_u32(0..=INTENSITY_MAX)?;
        settings.each_key = false;
    }
    if let Some(field) = top.field("period") {
        settings.period = field.time()?;
    }
    if let Some(field) = top.field("order") {
        settings.order = names(&field)?;
    }
    if let Some(field) = top.field("auto-shutdown") {
        settings.auto_shutdown = field.word(&AUTO_SHUTDOWNS)?;
    }
    if let Some(field) = top.field("on-demand") {
        settings.on_demand = field.truth()?;
    }
    if let Some(field) = top.field("new-keys") {
        settings.new_keys = field.count_u32(1..=NEW_KEYS_MAX)?;
    }
    if let Some(field) = top.field("idle-stop") {
        settings.idle_stop = idle_stop(&field)?;
    }
    settings.child = child(&top, above)?;
    if let Some(section) = top.section(&BACKOFF)? {
        settings.backoff = backoff(&section)?;
    }
    match top.section(&ESCALATION)? {
        Some(section) => settings.escalation = escalation(&section)?,
        // A preset's step that could never be reached gives way to the intensity that is written.
        None => settings.escalation = reachable(settings.escalation, settings.intensity),
    }
    if let Some(section) = top.section(&CIRCUIT_BREAKER)? {
        settings.circuit_breaker = Some(breaker(&section)?);
    }
    if let Some(section) = top.section(&BUDGET)? {
        settings.budget = budget(&section)?;
    }
    Ok(settings)
}

pub(super) const SCHEMAS: &[Schema] = &[TOP, BACKOFF, ESCALATION, CIRCUIT_BREAKER, BUDGET];

const TOP: Schema = Schema {
    section: "",
    title: "a supervisor's settings",
    keys: &[
        Key {
            name: "tier",
            default: "\"normal\"",
            meaning: "preset for what is not written: \"error-kernel\", \"critical\", \"normal\" or \"peripheral\"; see the tiers",
        },
        Key {
            name: "strategy",
            default: "\"one-for-one\"",
            meaning: "which children are restarted when one fails: \"one-for-one\" that one, \"one-for-all\" all, \"rest-for-one\" those after it too; \"simple-one-for-one\": children by key of one template",
        },
        Key {
            name: "intensity",
            default: "(1; in a template, for each key by itself)",
            meaning: "it gives up after more restarts than this in `period`; where it is not written, a key of a template is isolated alone",
        },
        Key { name: "period", default: "\"5s\"", meaning: "the time in which `intensity` restarts are allowed" },
        Key {
            name: "order",
            default: "[]",
            meaning: "children that start first, in this order; others follow by name, those that come while the \
                      host runs after them; an order that changes moves those that it names, the others when the host \
                      starts again",
        },
        Key {
            name: "auto-shutdown",
            default: "\"never\"",
            meaning: "whether it ends when significant children end by themselves: \"any-significant\" with the first, \"all-significant\" with the last",
        },
        Key {
            name: "on-demand",
            default: "false",
            meaning: "with a template: the first message to a key starts its child",
        },
        Key {
            name: "new-keys",
            default: "1000",
            meaning: "with `on-demand`: new keys in a second that one caller may have taken up, ten times as many at once; beyond: `overloaded`",
        },
        Key {
            name: "idle-stop",
            default: "\"10m\"",
            meaning: "with `on-demand`: a child that exports no `state` ends when it had nothing to do for this long; \"infinity\": never",
        },
        Key { name: "restart", default: "\"permanent\"", meaning: "when its own supervisor starts it again" },
        Key {
            name: "shutdown",
            default: "\"infinity\"",
            meaning: "time to stop all below it before it is killed; \"infinity\" for ever",
        },
        Key {
            name: "significant",
            default: "false",
            meaning: "whether its own end can end its own supervisor; not for a permanent one",
        },
        Key { name: "after", default: "[]", meaning: "siblings that are started before it" },
    ],
    sections: &["backoff", "escalation", "circuit-breaker", "budget"],
    later: &[],
};

const BACKOFF: Schema = Schema {
    section: "backoff",
    title: "[backoff]",
    keys: &[
        Key { name: "initial", default: "\"100ms\"", meaning: "wait before the second restart; the first never waits" },
        Key { name: "max", default: "\"30s\"", meaning: "longest wait" },
        Key { name: "factor", default: "2", meaning: "each wait is this many times the one before" },
        Key { name: "jitter-percent", default: "20", meaning: "up to this much of a wait is taken off at random" },
        Key { name: "healthy-after", default: "\"30s\"", meaning: "a child that ran this long starts the count anew" },
    ],
    sections: &[],
    later: &[],
};

const ESCALATION: Schema = Schema {
    section: "escalation",
    title: "[escalation]",
    keys: &[
        Key {
            name: "circuit-break",
            default: "(none)",
            meaning: "a child that restarts more often than this in `period` has its circuit breaker opened",
        },
        Key { name: "isolate", default: "(none)", meaning: "more often than this: it is let go of, the others go on" },
        Key { name: "escalate", default: "(none)", meaning: "more often than this: the supervisor gives up" },
    ],
    sections: &[],
    later: &[],
};

const BUDGET: Schema = Schema {
    section: "budget",
    title: "[budget]",
    keys: &[
        Key {
            name: "memory",
            default: "(none)",
            meaning: "what the `limits.memory` of all workers below it may come to, and what all below it may use, messages and timers that wait included, such as \"1GiB\"",
        },
        Key {
            name: "cpu",
            default: "(none)",
            meaning: "fuel for one second, for all workers below it together; 1000000 or more",
        },
    ],
    sections: &[],
    later: &[],
};

const STRATEGIES: [(&str, Strategy); 4] = [
    ("one-for-one", Strategy::OneForOne),
    ("one-for-all", Strategy::OneForAll),
    ("rest-for-one", Strategy::RestForOne),
    ("simple-one-for-one", Strategy::SimpleOneForOne),
];

const AUTO_SHUTDOWNS: [(&str, AutoShutdown); 3] = [
    ("never", AutoShutdown::Never),
    ("any-significant", AutoShutdown::AnySignificant),
    ("all-significant", AutoShutdown::AllSignificant),
];

/// More restarts than a host does in any period: in effect no intensity at all.
const INTENSITY_MAX: u32 = 1_000_000;
/// Beyond this the second wait is the longest one anyway.
const FACTOR_MAX: u32 = 1_000;
/// More than a host takes up in a second: in effect no bound.
const NEW_KEYS_MAX: u32 = 1_000_000;
/// Shorter, and its children would end between two messages of one conversation.
const IDLE_STOP_MIN: Duration = Duration::from_millis(100);
/// More than any machine has; sums of it still fit.
const BUDGET_MEMORY_MAX: u64 = 1 << 50;

fn of_tier(tier: Tier) -> SupervisorSettings {
    let presets = tier.presets();
    SupervisorSettings {
        tier,
        strategy: presets.strategy,
        intensity: presets.intensity,
        period: presets.period,
        escalation: presets.escalation,
        ..SupervisorSettings::default()
    }
}

fn child(top: &Section<'_>, above: Above) -> Result<SupervisorAsChild, SettingsError> {
    if above == Above::Nobody {
        let written = ["restart", "shutdown", "significant", "after"].into_iter().find_map(|key| top.field(key));
        if let Some(field) = written {
            let message = format!("`{}` has no meaning at the root: no supervisor is above it", field.key);
            return Err(field.error(message, "leave it out"));
        }
    }
    let mut child = SupervisorAsChild::default();
    if let Some(field) = top.field("restart") {
        child.restart = field.word(&RESTARTS)?;
    }
    if let Some(field) = top.field("shutdown") {
        child.shutdown = shutdown(&field)?;
    }
    if let Some(field) = top.field("significant") {
        child.significant = field.truth()?;
    }
    if let Some(field) = top.field("after") {
        child.after = names(&field)?;
    }
    Ok(child)
}

fn shutdown(field: &Field<'_>) -> Result<Shutdown, SettingsError> {
    const HELP: &str = "write \"infinity\" or a duration like \"30s\"";
    let text = field.text();
    if text == Ok("infinity") {
        return Ok(Shutdown::Infinity);
    }
    let time = if text == Ok("kill") {
        Duration::ZERO
    } else {
        field.duration(Duration::ZERO..=DURATION_MAX).map_err(|mut error| {
            error.help = HELP.to_string();
            error
        })?
    };
    if time.is_zero() {
        let shown = text.unwrap_or_default();
        let message = format!("`shutdown` cannot be \"{shown}\": a supervisor needs time to stop what is below it");
        return Err(field.error(message, HELP));
    }
    Ok(Shutdown::Time(time))
}

fn idle_stop(field: &Field<'_>) -> Result<Option<Duration>, SettingsError> {
    if field.text() == Ok("infinity") {
        return Ok(None);
    }
    let time = field.duration(IDLE_STOP_MIN..=DURATION_MAX).map_err(|mut error| {
        error.help = "write \"infinity\" or a duration like \"10m\"".to_string();
        error
    })?;
    Ok(Some(time))
}

fn backoff(section: &Section<'_>) -> Result<Backoff, SettingsError> {
    let mut backoff = Backoff::default();
    let waits = Duration::ZERO..=DURATION_MAX;
    let initial = section.field("initial");
    if let Some(field) = &initial {
        backoff.initial = field.duration(waits.clone())?;
    }
    let max = section.field("max");
    if let Some(field) = &max {
        backoff.max = field.duration(waits)?;
    }
    if let Some(field) = max.or(initial).filter(|_| backoff.max < backoff.initial) {
        let (initial, max) = (show_duration(backoff.initial), show_duration(backoff.max));
        let message = format!("`backoff.max` ({max}) is less than `backoff.initial` ({initial})");
        return Err(field.error(message, format!("raise `max` to {initial} or more")));
    }
    if let Some(field) = section.field("factor") {
        backoff.factor = field.count_u32(1..=FACTOR_MAX)?;
    }
    if let Some(field) = section.field("jitter-percent") {
        backoff.jitter_percent = field.count_u32(0..=100)?;
    }
    if let Some(field) = section.field("healthy-after") {
        backoff.healthy_after = field.time()?;
    }
    Ok(backoff)
}

/// What is written takes the place of a preset as a whole.
fn escalation(section: &Section<'_>) -> Result<Escalation, SettingsError> {
    let step = |key| section.field(key).map(|field| field.count_u32(0..=INTENSITY_MAX)).transpose();
    Ok(Escalation { circuit_break: step("circuit-break")?, isolate: step("isolate")?, escalate: step("escalate")? })
}

fn reachable(steps: Escalation, intensity: u32) -> Escalation {
    let within = |step: Option<u32>| step.filter(|count| *count <= intensity);
    Escalation {
        circuit_break: steps.circuit_break.filter(|count| *count < intensity),
        isolate: within(steps.isolate),
        escalate: within(steps.escalate),
    }
}

fn budget(section: &Section<'_>) -> Result<SubtreeBudget, SettingsError> {
    let memory = section.field("memory").map(|field| field.size(MEMORY_MIN..=BUDGET_MEMORY_MAX)).transpose()?;
    let cpu = section.field("cpu").map(|field| field.count(CPU_MIN..=FUEL_MAX)).transpose()?;
    Ok(SubtreeBudget { memory, cpu })
}
