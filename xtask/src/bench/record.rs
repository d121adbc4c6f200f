//! The figures as JSON, for programs and for later.

use serde_json::{Value, json};

use super::Length;
use super::judge::{Row, Verdict};
use super::machine::Machine;
use super::measurements::{Goal, Measurement};
use super::samples::{Figures, Program, Summary};

/// Of the form below; it rises with every change that a reader would notice.
const VERSION: u32 = 1;

/// Every measurement, the floors among them.
pub fn json(chosen: &[&Measurement], figures: &Figures, rows: &[Row], machine: &Machine, length: Length) -> Value {
    let measurements: Vec<Value> = chosen
        .iter()
        .map(|measurement| {
            let row = rows.iter().find(|row| row.measurement.name == measurement.name);
            one(measurement, figures, row)
        })
        .collect();
    json!({
        "version": VERSION,
        "date": machine.date,
        "commit": machine.commit,
        "quick": length == Length::Quick,
        "rounds": length.rounds(),
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores,
            "memory_bytes": machine.memory_bytes,
            "kernel": machine.kernel,
            "wasmtime": machine.wasmtime,
            "erlang": machine.erlang,
        },
        "measurements": measurements,
    })
}

fn one(measurement: &Measurement, figures: &Figures, row: Option<&Row>) -> Value {
    let name = measurement.name;
    let goal = match measurement.goal {
        Some(Goal::Times(times)) => json!({"times": times}),
        Some(Goal::Limit(limit)) => json!({"limit": limit}),
        None => Value::Null,
    };
    let met = row.and_then(|row| match row.verdict {
        Verdict::Met => Some(true),
        Verdict::Missed => Some(false),
        Verdict::Open => None,
    });
    json!({
        "name": name,
        "what": figures.what(Program::Paguro, name),
        "unit": measurement.unit.name(),
        "paguro": figures.summary(Program::Paguro, name).map(summary),
        "erlang": figures.summary(Program::Erlang, name).map(summary),
        "reference": row.and_then(|row| row.reference).map(|(whose, _)| whose),
        "ratio": row.and_then(Row::ratio),
        "goal": goal,
        "met": met,
    })
}

fn summary(summary: Summary) -> Value {
    json!({"median": summary.median, "p10": summary.p10, "p90": summary.p90, "n": summary.n})
}
