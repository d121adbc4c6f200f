//! `supervisor.toml`.

use std::path::Path;
use std::time::Duration;

use super::error::{SettingsError, one_line};
use super::section::{DURATION_MAX, Field, Key, Schema, Section, Source};
use crate::base::Name;
use crate::base::units::show_duration;
use crate::runtime::spec::{Backoff, Strategy, SupervisorSettings};

/// Reads the settings of a supervisor; `path` is for messages only. What is not written has its
/// default. That the children named in `order` exist is not checked here.
///
/// # Errors
/// The first mistake in the text, with its place.
pub fn parse_supervisor(path: &Path, text: &str) -> Result<SupervisorSettings, SettingsError> {
    let source = Source { path, text };
    let document = source.parse()?;
    let top = Section::open(source, &TOP, document.get_ref())?;
    let mut settings = SupervisorSettings::default();
    if let Some(field) = top.field("strategy") {
        settings.strategy = strategy(&field)?;
    }
    if let Some(field) = top.field("intensity") {
        settings.intensity = field.count_u32(0..=INTENSITY_MAX)?;
    }
    if let Some(field) = top.field("period") {
        settings.period = field.time()?;
    }
    if let Some(field) = top.field("order") {
        settings.order = order(&field)?;
    }
    if let Some(section) = top.section(&BACKOFF)? {
        settings.backoff = backoff(&section)?;
    }
    Ok(settings)
}

pub(super) const SCHEMAS: &[Schema] = &[TOP, BACKOFF];

const TOP: Schema = Schema {
    section: "",
    title: "a supervisor's settings",
    keys: &[
        Key { name: "strategy", default: "\"one-for-one\"", meaning: "which children are restarted when one fails" },
        Key { name: "intensity", default: "1", meaning: "it gives up after more restarts than this in `period`" },
        Key { name: "period", default: "\"5s\"", meaning: "the time in which `intensity` restarts are allowed" },
        Key {
            name: "order",
            default: "[]",
            meaning: "children that start first, in this order; others follow by name",
        },
    ],
    sections: &["backoff"],
    later: &["auto-shutdown", "on-demand", "circuit-breaker", "escalation", "budget"],
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

/// More restarts than a host does in any period: in effect no intensity at all.
const INTENSITY_MAX: u32 = 1_000_000;
/// Beyond this the second wait is the longest one anyway.
const FACTOR_MAX: u32 = 1_000;

fn strategy(field: &Field<'_>) -> Result<Strategy, SettingsError> {
    let text = field.text()?;
    if ["one-for-all", "rest-for-one", "simple-one-for-one"].contains(&text) {
        return Err(field.error(format!("\"{text}\" comes in a later version"), "write \"one-for-one\""));
    }
    field.word(&[("one-for-one", Strategy::OneForOne)])
}

fn order(field: &Field<'_>) -> Result<Vec<String>, SettingsError> {
    let mut order: Vec<String> = Vec::new();
    for item in field.items()? {
        let text = item.text()?;
        let shown = one_line(text);
        if text.contains('/') {
            return Err(
                item.error(format!("`{shown}` is not the name of a child"), "name direct children only, without `/`")
            );
        }
        Name::parse(text).map_err(|error| item.error(error.to_string(), ""))?;
        if order.iter().any(|earlier| earlier == text) {
            return Err(item.error(format!("`{shown}` is in `order` twice"), ""));
        }
        order.push(text.to_string());
    }
    Ok(order)
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
