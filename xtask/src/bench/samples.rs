//! What the measuring programs print, and the statistics of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::unit::Unit;

/// Who printed it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Paguro,
    Erlang,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Program::Paguro => "Paguro",
            Program::Erlang => "Erlang",
        }
    }
}

/// One line of JSON: the samples of one measurement in one round.
#[derive(Debug)]
pub struct Line {
    pub name: String,
    pub what: String,
    pub unit: Unit,
    pub samples: Vec<f64>,
}

/// Reads `{"name":"call-64","what":"...","unit":"ns","samples":[...]}`.
pub fn parse(line: &str) -> Result<Line> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("this is no figure: {line}"))?;
    let text = |key: &str| value[key].as_str().with_context(|| format!("`{key}` is missing: {line}"));
    let unit = text("unit")?;
    let samples = value["samples"].as_array().with_context(|| format!("`samples` is missing: {line}"))?;
    let samples: Option<Vec<f64>> = samples.iter().map(Value::as_f64).collect();
    match samples.filter(|samples| !samples.is_empty() && samples.iter().all(|sample| *sample >= 0.0)) {
        Some(samples) => Ok(Line {
            name: text("name")?.to_owned(),
            what: text("what")?.to_owned(),
            unit: Unit::named(unit).with_context(|| format!("there is no unit `{unit}`: {line}"))?,
            samples,
        }),
        None => bail!("samples are numbers, at least one, and none below 0: {line}"),
    }
}

/// The middle and the edges of what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub p10: f64,
    pub p90: f64,
    pub n: usize,
}

impl Summary {
    /// `None` of nothing.
    pub fn of(samples: &[f64]) -> Option<Summary> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| percentile(&sorted, share);
        Some(Summary { median: at(0.5)?, p10: at(0.1)?, p90: at(0.9)?, n: sorted.len() })
    }
}

/// Between the two nearest samples, in proportion: the median of two is their mean.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The samples of all rounds.
#[derive(Default)]
pub struct Figures(BTreeMap<(Program, String), Figure>);

#[derive(Default)]
struct Figure {
    what: String,
    samples: Vec<f64>,
}

impl Figures {
    pub fn add(&mut self, program: Program, line: Line) {
        let figure = self.0.entry((program, line.name)).or_default();
        figure.what = line.what;
        figure.samples.extend(line.samples);
    }

    pub fn summary(&self, program: Program, name: &str) -> Option<Summary> {
        Summary::of(&self.0.get(&(program, name.to_owned()))?.samples)
    }

    /// What the program says that it measured.
    pub fn what(&self, program: Program, name: &str) -> Option<&str> {
        Some(&self.0.get(&(program, name.to_owned()))?.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"name":"call-64","what":"a call","unit":"ns","samples":[3, 1.5]}"#;

    #[test]
    fn reads_a_line() {
        let line = parse(LINE).expect("it is well formed");
        assert_eq!((line.name.as_str(), line.what.as_str(), line.unit), ("call-64", "a call", Unit::Nanoseconds));
        assert_eq!(line.samples, [3.0, 1.5]);
    }

    #[test]
    fn refuses_what_is_no_figure() {
        for (from, to) in
            [("[3, 1.5]", "[]"), ("1.5", "-1"), ("1.5", "null"), ("ns", "hours"), ("name", "nam"), ("}", "")]
        {
            assert!(parse(&LINE.replacen(from, to, 1)).is_err(), "{to}");
        }
        // So a VM of Erlang that does not start begins its last words.
        assert!(parse(r#"{"init terminating in do_boot",{undef,[]}}"#).is_err());
    }

    #[test]
    fn a_summary_is_the_middle_and_the_edges() {
        let tens: Vec<f64> = (0..=10).rev().map(|n| f64::from(n) * 10.0).collect();
        assert_eq!(Summary::of(&tens), Some(Summary { median: 50.0, p10: 10.0, p90: 90.0, n: 11 }));
        assert_eq!(Summary::of(&[7.0]), Some(Summary { median: 7.0, p10: 7.0, p90: 7.0, n: 1 }));
        assert_eq!(Summary::of(&[1.0, 2.0]).map(|summary| summary.median), Some(1.5));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn rounds_are_pooled() {
        let mut figures = Figures::default();
        figures.add(Program::Paguro, parse(LINE).expect("it is well formed"));
        figures.add(Program::Paguro, parse(LINE).expect("it is well formed"));
        assert_eq!(figures.summary(Program::Paguro, "call-64").map(|summary| summary.n), Some(4));
        assert_eq!(figures.summary(Program::Erlang, "call-64"), None);
    }
}
