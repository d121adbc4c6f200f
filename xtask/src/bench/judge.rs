//! What the figures say: each beside its reference and its goal.

use super::measurements::{Goal, Measurement, Reference};
use super::samples::{Figures, Program, Summary};
use super::unit::{Unit, exact};

/// Whether the goal was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    /// No goal, or a figure is missing.
    Open,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::Open => "",
        }
    }
}

/// One line of the table.
pub struct Row<'a> {
    pub measurement: &'a Measurement,
    /// In words: what the program says, or the bare name where it said nothing.
    pub what: String,
    pub ours: Option<Summary>,
    /// Whose it is, and what it is.
    pub reference: Option<(&'static str, Summary)>,
    pub verdict: Verdict,
}

/// A row for each that was chosen. A floor is not a row of its own where another row shows it.
pub fn rows<'a>(chosen: &[&'a Measurement], figures: &Figures) -> Vec<Row<'a>> {
    let is_shown = |floor: &Measurement| {
        let mut references = chosen.iter().filter_map(|measurement| measurement.reference);
        references.any(|reference| matches!(reference, Reference::Floor { name, .. } if name == floor.name))
    };
    let left = chosen.iter().filter(|measurement| !is_shown(measurement));
    left.map(|measurement| row(measurement, figures)).collect()
}

fn row<'a>(measurement: &'a Measurement, figures: &Figures) -> Row<'a> {
    let name = measurement.name;
    let ours = figures.summary(Program::Paguro, name);
    let reference = measurement.reference.and_then(|reference| {
        let summary = match reference {
            Reference::Erlang => figures.summary(Program::Erlang, name),
            Reference::Floor { name, .. } => figures.summary(Program::Paguro, name),
        };
        Some((reference.whose(), summary?))
    });
    let what = figures.what(Program::Paguro, name).unwrap_or(name).to_owned();
    let verdict = verdict(measurement, ours.map(|ours| ours.median), reference.map(|(_, theirs)| theirs.median));
    Row { measurement, what, ours, reference, verdict }
}

/// By medians.
fn verdict(measurement: &Measurement, ours: Option<f64>, theirs: Option<f64>) -> Verdict {
    let wanted = match measurement.goal {
        Some(Goal::Times(times)) => theirs.map(|theirs| theirs * times),
        Some(Goal::Limit(limit)) => Some(limit),
        None => None,
    };
    match (ours, wanted) {
        (Some(ours), Some(wanted)) if reaches(measurement.unit, ours, wanted) => Verdict::Met,
        (Some(_), Some(_)) => Verdict::Missed,
        _ => Verdict::Open,
    }
}

fn reaches(unit: Unit, ours: f64, wanted: f64) -> bool {
    if unit.more_is_better() { ours >= wanted } else { ours <= wanted }
}

impl Row<'_> {
    /// Our figure over the reference.
    pub fn ratio(&self) -> Option<f64> {
        quotient(self.ours?.median, self.reference?.1.median)
    }

    /// What is to be reached, in words.
    pub fn goal(&self) -> Option<String> {
        let bound = if self.measurement.unit.more_is_better() { "at least" } else { "at most" };
        Some(match self.measurement.goal? {
            Goal::Times(times) => format!("{bound} {} x", exact(times)),
            Goal::Limit(limit) => format!("{bound} {}", self.measurement.unit.show_limit(limit)),
        })
    }

    /// What one of it costs in terms of what the goal is about, the reference or the limit: less is better,
    /// also for rates, which are turned round.
    pub fn cost(&self) -> Option<f64> {
        let ours = self.ours?.median;
        let base = match self.measurement.goal? {
            Goal::Times(_) => self.reference?.1.median,
            Goal::Limit(limit) => limit,
        };
        if self.measurement.unit.more_is_better() { quotient(base, ours) } else { quotient(ours, base) }
    }

    /// The most that the cost may be.
    pub fn cost_max(&self) -> Option<f64> {
        match self.measurement.goal? {
            Goal::Times(times) if self.measurement.unit.more_is_better() => quotient(1.0, times),
            Goal::Times(times) => Some(times),
            Goal::Limit(_) => Some(1.0),
        }
    }
}

/// `None` where a figure of nothing says nothing.
fn quotient(over: f64, under: f64) -> Option<f64> {
    (under > 0.0).then(|| over / under)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::Length;
    use crate::bench::measurements::{ALL, choose};
    use crate::bench::samples::Line;

    /// Figures as a run might give them: most goals met, `call-4k` missed, nothing from Erlang for `start`.
    pub fn example() -> Vec<Row<'static>> {
        use Program::{Erlang, Paguro};
        let mut figures = Figures::default();
        for (program, name, samples) in [
            (Paguro, "call-64", &[650.0, 655.0, 701.0][..]),
            (Erlang, "call-64", &[1040.0, 1050.0, 1060.0]),
            (Paguro, "call-4k", &[1000.0]),
            (Erlang, "call-4k", &[1070.0]),
            (Paguro, "pairs-16", &[2.5e6]),
            (Erlang, "pairs-16", &[1.25e6]),
            (Paguro, "client-call-64", &[540.0]),
            (Paguro, "floor-call-64", &[360.0]),
            (Paguro, "start", &[9_000.0]),
            (Paguro, "restart", &[31_000.0]),
            (Erlang, "restart", &[12_000.0]),
            (Paguro, "million-answered", &[1e6]),
        ] {
            let unit = ALL.iter().find(|m| m.name == name).expect("it is known").unit;
            let what = format!("<{name}> & its \"what\"");
            figures.add(program, Line { name: name.into(), what, unit, samples: samples.to_vec() });
        }
        rows(&choose(&[], Length::Full).expect("all"), &figures)
    }

    pub fn row_of<'a>(rows: &'a [Row<'static>], name: &str) -> &'a Row<'static> {
        rows.iter().find(|row| row.measurement.name == name).expect("it is a row")
    }

    #[test]
    fn verdicts() {
        use Verdict::{Met, Missed, Open};
        for (name, ours, theirs, expected) in [
            ("call-64", Some(700.0), Some(1000.0), Met),
            ("call-64", Some(701.0), Some(1000.0), Missed),
            ("call-64", Some(700.0), None, Open),
            ("call-64", None, Some(1000.0), Open),
            ("pairs-16", Some(1.8e6), Some(1e6), Met),
            ("pairs-16", Some(1.7e6), Some(1e6), Missed),
            ("restart", Some(50_000.0), Some(1.0), Met),
            ("restart", Some(50_001.0), None, Missed),
            ("million-answered", Some(1e6), None, Met),
            ("million-answered", Some(999_999.0), None, Missed),
            ("floor-call-64", Some(360.0), None, Open),
        ] {
            let measurement = ALL.iter().find(|m| m.name == name).expect("it is known");
            assert_eq!(verdict(measurement, ours, theirs), expected, "{name} {ours:?} {theirs:?}");
        }
    }

    #[test]
    fn floors_are_shown_beside_what_they_are_floors_of() {
        let rows = example();
        assert!(rows.iter().all(|row| row.measurement.name != "floor-call-64"));
        assert_eq!(row_of(&rows, "client-call-64").reference.map(|(whose, _)| whose), Some("wasmtime"));
        let alone = choose(&["floor-call-64".to_owned()], Length::Full).expect("it is known");
        assert_eq!(super::rows(&alone, &Figures::default()).len(), 1);
    }

    #[test]
    fn costs_are_better_when_less() {
        let rows = example();
        assert_eq!(row_of(&rows, "pairs-16").ratio(), Some(2.0));
        assert_eq!(row_of(&rows, "pairs-16").cost(), Some(0.5));
        assert_eq!(row_of(&rows, "restart").cost(), Some(0.62));
        assert_eq!(row_of(&rows, "start").cost(), None);
        for row in &rows {
            if let (Some(cost), Some(cost_max)) = (row.cost(), row.cost_max()) {
                assert_eq!(cost <= cost_max, row.verdict == Verdict::Met, "{}", row.measurement.name);
            }
        }
    }

    #[test]
    fn goals_in_words() {
        let rows = example();
        for (name, words) in [
            ("call-64", "at most 0.7 x"),
            ("pairs-16", "at least 1.8 x"),
            ("lookup", "at most 1 x"),
            ("live-bytes", "at most 32 KB"),
            ("tree-scale", "at most 10 x"),
            ("million-answered", "at least 1,000,000"),
        ] {
            assert_eq!(row_of(&rows, name).goal().as_deref(), Some(words));
        }
    }
}
